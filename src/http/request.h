/* A request and its answer, as handlers see them.
 *
 * A handler runs on a worker thread, may block, and fills `response`; returning 0 sends it, a
 * negative code with `err` set sends an error in the route's style instead. Everything a request
 * points to lives in its arena until the answer is sent; nothing of it may be kept longer.
 *
 * Three ways to answer later than the handler's return: a stream (stream.h), a deferred answer
 * (http_request_defer), or a source that is pulled as the client takes it (http_reply_source). Each
 * frees the worker thread.
 *
 * Not thread safe: one thread at a time works on a request, except for http_request_closed.
 */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"

enum {
    HTTP_HEADERS_MAX = 100,
    HTTP_QUERY_PARAMS_MAX = 64,
    HTTP_PATH_PARAMS_MAX = 8,
    HTTP_RESPONSE_HEADERS_MAX = 16,
    HTTP_URL_BYTES_MAX = 8192,
    HTTP_REQUEST_ID_BYTES_MAX = 128,
    HTTP_ARENA_BYTES_MAX = 16 << 20,
    HTTP_RESPONSE_BYTES_MAX = 64 << 20
};

struct http_pair {
    const char *name;
    const char *value;
};

struct http_request {
    const char *method;
    const char *path; /* as sent: percent-encoded, without the query */
    const struct http_route *route;
    struct http_pair path_params[HTTP_PATH_PARAMS_MAX]; /* decoded, UTF-8 */
    size_t n_path_params;
    struct http_pair *query; /* decoded, UTF-8, in the order sent */
    size_t n_query;
    struct http_pair *headers; /* as sent */
    size_t n_headers;
    const char *body; /* complete and NUL-terminated; "" without one and on streamed uploads */
    size_t body_bytes;
    bool peer_loopback;
    const char *request_id; /* as in X-Request-ID */
    void *principal;        /* whatever the key check put there */
    int64_t started_ns;     /* clock_monotonic_ns when the headers were complete */
    struct arena *arena;
};

struct http_response {
    int status;               /* 200 unless set */
    const char *content_type; /* static or in the arena; NULL: none is sent */
    struct buf body;
    struct http_pair headers[HTTP_RESPONSE_HEADERS_MAX];
    size_t n_headers;
    struct arena *arena; /* the request's */
};

/* --- reading the request ------------------------------------------------------------------ */

/* The value of a header (any case), a path parameter, a query parameter (its first); or NULL. */
const char *http_header(const struct http_request *request, const char *name);
const char *http_path_param(const struct http_request *request, const char *name);
const char *http_query(const struct http_request *request, const char *name);

/* The body as JSON; the tree belongs to the request. ERR_MEDIA unless the content type is JSON (any
 * is taken on a route with HTTP_ANY_MEDIA), ERR_UNPROCESSABLE for what is not JSON. */
int http_request_json(struct http_request *request, const json_t **out, struct err *err) MUST_CHECK;

/* On a route with HTTP_UPLOAD: the next bytes of the body, waiting for them; *got is 0 at its end.
 * ERR_CLOSED when the client left or the server stops, ERR_TOO_LARGE past the route's limit. The
 * first call tells the client to go on (100-continue), so check what can be checked before it. */
int http_request_read(struct http_request *request, void *bytes, size_t n, size_t *got,
                      struct err *err) MUST_CHECK;

/* True once the client has left or the server gives up on draining; from any thread. For a request
 * that is neither streaming nor uploading this is only watched after http_request_on_close. */
bool http_request_closed(const struct http_request *request);

/* Calls `closed` once when the client leaves before its answer, or the server stops. It runs on a
 * thread of the server with a lock held: it may set a flag and wake a thread, no more; it must not
 * call into http/ or take a lock that is held around calls into http/. It does not run, and is not
 * running, after the answer was given (handler returned, http_request_finish, http_stream_end). */
void http_request_on_close(struct http_request *request, void (*closed)(void *ctx), void *ctx);

/* --- answering ---------------------------------------------------------------------------- */

/* Starts a JSON answer in response->body, which must be empty. */
void http_json(struct http_response *response, struct json_out *out);
/* Completes it. The error is that of the builder. */
int http_reply_json(struct http_response *response, int status, struct err *err) MUST_CHECK;
/* A text answer, copied. */
int http_reply_text(struct http_response *response, int status, const char *content_type,
                    const char *text, struct err *err) MUST_CHECK;
/* An answer without a body, such as 204. */
int http_reply_empty(struct http_response *response, int status, struct err *err) MUST_CHECK;

/* Adds a header; name is static, value is copied into the arena. ERR_INVALID for control characters
 * in the value or more than HTTP_RESPONSE_HEADERS_MAX headers. */
int http_response_header(struct http_response *response, const char *name, const char *value,
                         struct err *err) MUST_CHECK;

/* Sends a file, or the part that a Range header asks for (206, 416). Read in blocks by worker
 * threads as the client takes it. ERR_NOT_FOUND when it is missing or no regular file. `name` makes
 * the browser save it under that name; NULL for none. */
int http_reply_file(struct http_request *request, struct http_response *response, const char *path,
                    const char *content_type, const char *name, struct err *err) MUST_CHECK;

/* The answer's body is taken from `read`, called on a worker thread whenever the client has taken
 * what came before: it puts up to n bytes and returns how many, 0 at the end, negative to cut the
 * connection. `size` is the body's length, or -1 when unknown. `release` runs once, whatever
 * happens, also when this fails. */
int http_reply_source(struct http_request *request, struct http_response *response, int64_t size,
                      int64_t (*read)(void *ctx, char *bytes, size_t n), void (*release)(void *ctx),
                      void *ctx, struct err *err) MUST_CHECK;

/* The answer will come from another thread: the handler calls this, hands request and response over
 * and returns 0. */
void http_request_defer(struct http_request *request);
/* Gives the deferred answer: rc 0 sends `response`, a negative rc sends err. Neither may be touched
 * afterwards. Exactly once for each http_request_defer, also when the client has left. */
void http_request_finish(struct http_request *request, int rc, struct err *err);
struct http_response *http_request_response(struct http_request *request);

#endif
