/* HTTP requests to other servers: the one place that knows libcurl.
 *
 * A client is one thread's at a time and keeps its connections between requests. Every answer has a
 * ceiling. Addresses are http or https only. Failures are sentences for a person: ERR_UNAVAILABLE
 * when nothing listens or the name is unknown, ERR_TIMEOUT, ERR_CLOSED when the answer stopped
 * short, ERR_TOO_LARGE, ERR_CANCELLED; an answer with any status is a success here, see
 * http_response_check.
 */
#ifndef BASE_HTTP_CLIENT_H
#define BASE_HTTP_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum {
    HTTP_HEADERS_MAX = 32,
    HTTP_HEADER_BYTES_MAX = 64 << 10, /* all headers of an answer */
    HTTP_LINE_BYTES_MAX = 16 << 20,   /* one line given to on_line */
    HTTP_ERROR_BYTES_MAX = 64 << 10,  /* body kept of a stream whose status is not 2xx */
    HTTP_CONNECT_TIMEOUT_MS = 5000,   /* unless told */
    HTTP_BODY_BYTES_MAX = 64 << 20,   /* unless told */
    HTTP_REDIRECTS_MAX = 8,
};

struct http_client;

int http_client_new(struct http_client **client, struct err *err) MUST_CHECK;
void http_client_free(struct http_client *client); /* NULL is fine */

struct http_request {
    const char *method; /* NULL: POST with a body, else GET */
    const char *url;
    const char *const *headers; /* "Name: value", NULL at its end; or NULL */
    const char *json;           /* body as application/json, or NULL */
    const void *body;           /* or any bytes, with their type among the headers */
    size_t body_bytes;
    const char *bearer;        /* sent as Authorization, never across hosts; NULL or "" = none */
    size_t response_bytes_max; /* 0 = HTTP_BODY_BYTES_MAX */
    int connect_timeout_ms;    /* 0 = HTTP_CONNECT_TIMEOUT_MS */
    int timeout_ms;            /* for all of it; 0 = none */
    int idle_timeout_s;        /* without a byte; 0 = none */
    bool follow;               /* redirects */
    const atomic_bool *cancel; /* looked at several times a second; or NULL */
    /* Asked as often, also while no byte comes: a negative code ends the request with it. */
    int (*on_wait)(void *ctx, struct err *err);
    /* Streams: with one of these a 2xx body goes here as it comes and not into the response. A
     * negative code returned ends the request with that code. on_line gets lines without their end
     * ("\n" or "\r\n"), the NUL placed: for SSE and NDJSON. */
    int (*on_data)(void *ctx, const char *bytes, size_t n, struct err *err);
    int (*on_line)(void *ctx, const char *line, size_t n, struct err *err);
    void *ctx; /* of the three */
};

struct http_response {
    int status;
    struct buf body;
    struct buf headers; /* as received, of the last answer */
};

void http_response_init(struct http_response *response);
void http_response_release(struct http_response *response);

/* Makes the request; the response is cleared first. */
int http_request(struct http_client *client, const struct http_request *request,
                 struct http_response *response, struct err *err) MUST_CHECK;

/* Value of a header (name in any case) copied into out; false when it is missing or too long. */
bool http_response_find_header(const struct http_response *response, const char *name, char *out,
                               size_t out_bytes);

/* 0 for a 2xx; else the error that the status stands for, with the message of a JSON error body
 * ({"error":{"message"}}, {"error":"…"}, {"message"} or {"detail"}) or its first bytes. */
int http_response_check(const struct http_response *response, const char *url,
                        struct err *err) MUST_CHECK;

/* Percent-encodes one path segment or query value into out. ERR_TOO_LARGE when it does not fit. */
int http_escape(const char *text, char *out, size_t out_bytes, struct err *err) MUST_CHECK;

#endif
