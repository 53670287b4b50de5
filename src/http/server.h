/* The HTTP server: libmicrohttpd's event threads in front of a pool of worker threads.
 *
 * Event threads read, write and check; they never wait for a handler, a disk or a database.
 * Handlers run on n_workers threads while their connection is suspended; those that wait for others
 * (HTTP_SLOW, HTTP_UPLOAD) on n_slow_workers of their own, so that they hold up nobody else.
 * Threads are started when they are wanted. A connection has one request in flight, so
 * max_connections bounds the queue of requests.
 *
 * Every request passes, in this order: framing (400), Host (403), Origin of anything but GET and
 * HEAD (403), key (401), path and method (404, 405), size (413), then its handler. A client that
 * closes its sending side counts as gone.
 *
 * The server belongs to the thread that makes it. Streams and deferred requests may outlive it.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "http/request.h"
#include "http/router.h"
#include "http/validate.h"

enum {
    HTTP_CONNECTIONS_MAX = 4096,
    HTTP_WORKERS_MAX = 256,
    HTTP_EVENT_THREADS_MAX = 16,
    HTTP_HEADER_BYTES_MAX = 32 << 10, /* request line and headers together */
    HTTP_DISCARD_BYTES_MAX = 8 << 20, /* of a refused body, read so the client sees the answer */
    HTTP_BODIES_HELD_MAX = 8          /* bodies of full size held at once; past that 503 */
};

/* Decides whether `key` (NULL: none was sent) may make this request; on a worker thread. 0, or
 * ERR_UNAUTHORIZED, ERR_FORBIDDEN, ERR_BUSY …; may set request->principal. */
typedef int (*http_key_check)(void *ctx, const char *key, struct http_request *request,
                              struct err *err);

/* Adds what a request may not ask of this route to issues; before its handler, on its thread. */
typedef void (*http_admit)(const struct http_route *route, const struct http_request *request,
                           struct http_issues *issues);

struct http_server_options {
    const char *host; /* a name or address; not loopback needs api_key or check_key */
    int port;         /* 0: any that is free */
    unsigned max_connections;
    size_t max_body_bytes;
    int n_workers;
    int n_slow_workers;
    int n_event_threads;
    int header_timeout_ms;       /* from connecting to the end of the headers */
    int body_timeout_ms;         /* from there to the end of a body that is not streamed */
    int idle_timeout_ms;         /* between requests, and without progress while sending */
    const char *allowed_hosts;   /* comma-separated, beside loopback and `host`; "*" is any */
    const char *allowed_origins; /* comma-separated, beside the server's own; they get CORS */
    const char *api_key;         /* NULL or "": none */
    http_key_check check_key;    /* instead of api_key, when set */
    void *check_ctx;
    http_admit admit;                               /* NULL: nothing is looked at */
    http_error_style (*style_of)(const char *path); /* where no route is; NULL: the hub's */
};

void http_server_options_default(struct http_server_options *options);

struct http_server;

/* Options are copied; the router is borrowed until free. ERR_INVALID for an option out of range,
 * ERR_FORBIDDEN for an open address without a key. */
int http_server_new(struct http_server **server, const struct http_server_options *options,
                    const struct http_router *router, struct err *err) MUST_CHECK;
/* Listens. ERR_CONFLICT when the port is taken. */
int http_server_start(struct http_server *server, struct err *err) MUST_CHECK;
int http_server_port(const struct http_server *server);
/* Requests between their headers and the last byte of their answer. */
size_t http_server_in_flight(struct http_server *server);

/* Refuses new work (503) and waits up to deadline_ms for what is in flight; then cuts what is left
 * and waits for handlers, which see http_request_closed. */
void http_server_stop(struct http_server *server, int deadline_ms);
void http_server_free(struct http_server *server); /* stops at once if running; NULL is fine */

#endif
