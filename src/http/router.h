/* Routes: which handler answers which method and path.
 *
 * A pattern is made of segments: text, `{name}` (one segment), `{name...}` (one or two, so that it
 * may hold one slash: `org/name`) and, last only, `{name*}` (one or more, the rest of the path).
 * The most specific route wins: text before {name} before {name...} before {name*}, and the longer
 * pattern where one is the beginning of the other. One slash at the end of a path is ignored. HEAD
 * is answered by GET's route, OPTIONS by the server. `.`, `..` and empty segments match nothing.
 *
 * A router is filled, then shared read-only by every thread.
 */
#ifndef HTTP_ROUTER_H
#define HTTP_ROUTER_H

#include "base/err.h"
#include "http/error_style.h"
#include "http/request.h"

enum { HTTP_ROUTES_MAX = 512, HTTP_SEGMENTS_MAX = 24, HTTP_ALLOW_BYTES_MAX = 64 };

enum http_route_flags {
    HTTP_PUBLIC = 1 << 0,    /* answered without a key */
    HTTP_UPLOAD = 1 << 1,    /* the body is read with http_request_read */
    HTTP_ANY_MEDIA = 1 << 2, /* http_request_json takes any content type */
    HTTP_SLOW = 1 << 3,      /* the handler waits for a model, a child or another server */
};

/* Returns 0 when `response` is the answer (or will come: stream, defer), else a negative code. */
typedef int (*http_handler)(void *ctx, struct http_request *request, struct http_response *response,
                            struct err *err);

struct http_route {
    const char *method;
    const char *pattern;
    http_handler handler;
    unsigned flags;
    size_t body_bytes_max;        /* 0: the server's; bounds uploads too */
    http_error_style error_style; /* NULL: the hub's */
    const void *doc;              /* for whoever writes the OpenAPI document */
};

struct http_router;

int http_router_new(struct http_router **router, struct err *err) MUST_CHECK;
void http_router_free(struct http_router *router); /* NULL is fine */
/* Adds n routes, borrowed for the router's life, whose handlers get `ctx`. ERR_INVALID for a
 * malformed pattern, ERR_CONFLICT for a method and pattern that are there already. */
int http_router_add(struct http_router *router, const struct http_route *routes, size_t n,
                    void *ctx, struct err *err) MUST_CHECK;

size_t http_router_count(const struct http_router *router);
const struct http_route *http_router_route(const struct http_router *router, size_t i);

/* What a method and path lead to. */
struct http_match {
    const struct http_route *route; /* NULL: unknown path, or known with other methods */
    void *ctx;
    size_t index;                     /* of route, for http_router_route */
    char allow[HTTP_ALLOW_BYTES_MAX]; /* methods of this path, "GET, HEAD, OPTIONS"; "" unknown */
};

/* Finds the route of request->method and request->path and sets the request's path parameters
 * (in its arena). 0 also when nothing matches; ERR_INVALID for broken percent-encoding,
 * ERR_UNPROCESSABLE for text that is not UTF-8, ERR_NOMEM. */
int http_router_find(const struct http_router *router, struct http_request *request,
                     struct http_match *match, struct err *err) MUST_CHECK;

#endif
