/* One request and its answer on their way through the server. Private to http/; exchange.c says how
 * it works.
 */
#ifndef HTTP_EXCHANGE_H
#define HTTP_EXCHANGE_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/conns.h"
#include "http/pipe.h"
#include "http/pool.h"
#include "http/request.h"
#include "http/router.h"
#include "http/watch.h"

enum {
    HTTP_UPLOAD_PIPE_BYTES_MAX = 1 << 20,
    HTTP_CLIENT_GONE = 499 /* in log and metrics, as nginx says: nobody was there to be answered */
};

/* Where the request is. What the event thread does when it is called depends on it. */
enum exchange_phase {
    EXCHANGE_HEAD,    /* headers checked; a body may be arriving into memory or thin air */
    EXCHANGE_OFFERED, /* upload: a worker has it, the client waits to be told to go on */
    EXCHANGE_BODY,    /* upload: a worker has it, the body is arriving into the pipe */
    EXCHANGE_WORK,    /* complete: a worker or whoever deferred it has it */
    EXCHANGE_REPLY,   /* the answer is with libmicrohttpd */
    EXCHANGE_DONE     /* the answer is sent, or nobody is there to take it */
};

enum exchange_stream { STREAM_NONE, STREAM_OPEN, STREAM_ENDED, STREAM_ABORTED };

struct http_source {
    int64_t (*read)(void *ctx, char *bytes, size_t n);
    void (*release)(void *ctx);
    void *ctx;
    int64_t size;
};

struct http_exchange {
    struct http_request request; /* first: a request is its exchange */
    struct http_response response;
    struct arena arena;
    struct http_server *server; /* valid until phase DONE */
    atomic_int refs;

    /* --- set by the event thread before anybody else sees the exchange --- */
    struct MHD_Connection *connection;
    struct http_conn *conn;
    struct http_match match;
    struct err refusal; /* why the request is refused; code 0: it is not */
    bool refused_first; /* before the key is asked for */
    bool misframed;     /* where the body ends is unknown: the connection cannot go on */
    bool key_checked;
    bool head_only; /* HEAD */
    bool chunkless; /* HTTP/1.0: a stream ends with its connection */
    char request_id[HTTP_REQUEST_ID_BYTES_MAX + 1];
    const char *cors_origin; /* to be allowed in the answer, in the arena; or NULL */

    /* --- the worker's, or whoever it handed the request to --- */
    struct http_job job;
    json_t *json;
    bool deferred;

    /* --- under lock --- */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* upload: bytes, end; stream: room; both: closed */
    enum exchange_phase phase;
    bool suspended;         /* whoever clears it resumes the connection */
    bool body_wanted;       /* upload: http_request_read was called */
    bool body_ended;        /* upload */
    bool body_too_large;    /* upload */
    uint64_t body_received; /* every byte of the body so far */
    uint64_t body_discarded;
    size_t body_held;           /* counted in the server's bodies_held */
    struct buf body;            /* not uploads */
    struct http_pipe pipe;      /* upload: in; stream and source: out */
    bool answered;              /* the answer is ready to be queued */
    struct MHD_Response *reply; /* the answer, owned until queued; NULL: no memory for it */
    unsigned status;
    enum exchange_stream stream;
    bool pulling; /* a worker is reading the source */
    bool source_ended;
    bool source_failed;
    struct http_source source;
    unsigned waiters; /* threads waiting for room or bytes */
    watch_key watched;
    atomic_bool closed; /* the client left, or the server gives up */

    /* --- under close_lock, which is also held while the callback runs --- */
    pthread_mutex_t close_lock;
    void (*on_close)(void *ctx);
    void *on_close_ctx;
    bool close_told;

    /* --- under the server's lock --- */
    struct http_exchange *next, **link;
};

/* --- lifetime --- */
/* Fresh, with one reference, the caller's. NULL when out of memory. */
struct http_exchange *exchange_new(struct http_server *server);
void exchange_hold(struct http_exchange *exchange);
void exchange_drop(struct http_exchange *exchange);

/* --- event thread (receive.c) --- */
enum MHD_Result exchange_on_request(void *server, struct MHD_Connection *connection,
                                    const char *url, const char *method, const char *version,
                                    const char *data, size_t *data_bytes, void **slot);
void exchange_on_completed(void *server, struct MHD_Connection *connection, void **slot,
                           enum MHD_RequestTerminationCode how);
/* Fills exchange->request from the connection and decides whether it is refused (check.c). */
void exchange_check(struct http_exchange *exchange, const char *url, const char *method);
/* True when the request brings a body; *known is its length, or -1 (chunked). */
bool exchange_has_body(const struct http_exchange *exchange, int64_t *known);
size_t exchange_body_max(const struct http_exchange *exchange);

/* --- worker threads (work.c) --- */
void exchange_run(struct http_job *job);
/* Makes response the answer and lets the event thread send it. */
void exchange_send(struct http_exchange *exchange);
/* Replaces the answer by an error in the route's style. */
void exchange_fail(struct http_exchange *exchange, const struct err *err);
/* libmicrohttpd's response of exchange->response: its body, its source, or (streaming) what will be
 * written. Takes the body. NULL when out of memory. */
struct MHD_Response *exchange_build(struct http_exchange *exchange, bool streaming);
/* Hands the answer to the event thread; reply NULL stands for "no memory". */
void exchange_answer(struct http_exchange *exchange, struct MHD_Response *reply, unsigned status);
/* The line in the log. */
void exchange_log(const struct http_exchange *exchange, int status);
/* What is sent when there is no memory for an answer. */
struct MHD_Response *exchange_build_unavailable(void);
/* The content callback of streams and sources (stream.c). */
ssize_t exchange_on_content(void *exchange, uint64_t at, char *bytes, size_t n);

/* --- any thread --- */
/* The client has left, or the server stops waiting for it. */
void exchange_client_gone(struct http_exchange *exchange);
/* Runs the close callback once; drops it. */
void exchange_tell_closed(struct http_exchange *exchange);
void exchange_forget_closed(struct http_exchange *exchange);
void exchange_set_on_close(struct http_exchange *exchange, void (*closed)(void *ctx), void *ctx);
/* Starts watching for the client's leaving; the connection must be suspended or the event thread's.
 */
void exchange_watch(struct http_exchange *exchange);
/* Resumes the connection if it is suspended. Lock held. */
void exchange_resume(struct http_exchange *exchange);
/* Suspends it; false when the server is giving up. Event thread, lock held. */
bool exchange_suspend(struct http_exchange *exchange);

static inline struct http_exchange *exchange_of(const struct http_request *request)
{
    return (struct http_exchange *)(uintptr_t)request;
}

#endif
