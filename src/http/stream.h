/* Answers that are written while they are made: SSE, NDJSON.
 *
 * http_stream_open sends status and headers; from then on any one thread at a time writes, and ends
 * the stream. Bytes pass through a buffer of at most HTTP_STREAM_BYTES_MAX; the event thread sends
 * them and costs nothing while there are none. A stream is owned by whoever opened it until
 * http_stream_end or http_stream_abort, exactly one of which must be called; that may be long after
 * the server was stopped. The request (headers, arena) is gone once the handler has returned.
 */
#ifndef HTTP_STREAM_H
#define HTTP_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "http/request.h"

/* A prompt's tokens with their scores are megabytes at once. The buffer grows as it is used. */
enum { HTTP_STREAM_BYTES_MAX = 8 << 20, HTTP_SOURCE_BYTES_MAX = 256 << 10 };

#define HTTP_SSE    "text/event-stream"
#define HTTP_NDJSON "application/x-ndjson"

struct http_stream;

/* Sends response's status, content type and headers now; its body must be empty. After this the
 * handler must return 0; a negative code aborts the stream if it has not been ended. */
int http_stream_open(struct http_request *request, struct http_response *response,
                     struct http_stream **stream, struct err *err) MUST_CHECK;

/* Puts all n bytes or none, waiting up to wait_ms for room. ERR_TIMEOUT when there was none (0 asks
 * without waiting), ERR_CLOSED when the client left or the server stops, ERR_TOO_LARGE for more
 * than HTTP_STREAM_BYTES_MAX at once. */
int http_stream_write(struct http_stream *stream, const void *bytes, size_t n, int wait_ms,
                      struct err *err) MUST_CHECK;
/* One server-sent event; `event` NULL leaves its line out; data may have lines. */
int http_stream_event(struct http_stream *stream, const char *event, const char *data, int wait_ms,
                      struct err *err) MUST_CHECK;

bool http_stream_closed(const struct http_stream *stream); /* from any thread */
/* As http_request_on_close; called at once when the client has left already. */
void http_stream_on_close(struct http_stream *stream, void (*closed)(void *ctx), void *ctx);

void http_stream_end(struct http_stream *stream);   /* what was written is sent, then the end */
void http_stream_abort(struct http_stream *stream); /* the connection is cut: the client sees it */

#endif
