/* Bytes that leave after the handler: streams that are written, sources that are read, and uploads
 * that are read while they come. All three move through the exchange's pipe under its lock.
 *
 * The event thread asks for bytes in exchange_on_content. With none there it suspends the
 * connection, so that it is not asked again and again; whoever brings bytes, or the end, resumes
 * it.
 */
#include "http/stream.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "http/exchange.h"
#include "http/server_private.h"
#include "http/sync.h"

enum { NS_PER_MS = 1000000 };

/* --- event thread --- */

static void source_run(struct http_job *job);

/* Ends the connection, with or before the end of its answer; what was sent still arrives. Not by an
 * error, nor by an end where there are no chunks: with epoll libmicrohttpd (0.9.75) then calls the
 * connection closed and forgets to clean it up, and it keeps its socket and its place among the
 * connections until it has been idle for too long. A write that fails is cleaned up at once: so
 * here is a byte, for a socket that takes none any more. */
static ssize_t cut(const struct http_exchange *exchange, char *bytes)
{
    if (!exchange->conn)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    shutdown(exchange->conn->fd, SHUT_RDWR);
    bytes[0] = '\0';
    return 1;
}

/* Nothing to send now: suspends, and has a worker read on where there is a source. */
static ssize_t wait_for_bytes(struct http_exchange *exchange, char *bytes)
{
    if (!exchange_suspend(exchange))
        return cut(exchange, bytes);
    if (exchange->source.read && !exchange->pulling) {
        exchange->pulling = true;
        exchange->job.run = source_run;
        exchange_hold(exchange);
        http_pool_submit(&exchange->server->pool, &exchange->job);
    }
    return 0;
}

ssize_t exchange_on_content(void *cls, uint64_t at, char *bytes, size_t n)
{
    struct http_exchange *exchange = cls;
    ssize_t result;

    (void)at;
    pthread_mutex_lock(&exchange->lock);
    if (exchange->stream == STREAM_ABORTED || exchange->source_failed ||
        atomic_load(&exchange->closed)) {
        result = cut(exchange, bytes);
    } else if (exchange->pipe.len > 0) {
        result = (ssize_t)http_pipe_get(&exchange->pipe, bytes, n);
        if (exchange->waiters > 0)
            pthread_cond_broadcast(&exchange->changed);
    } else if (exchange->stream == STREAM_ENDED || exchange->source_ended) {
        result = exchange->chunkless ? cut(exchange, bytes) : MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        result = wait_for_bytes(exchange, bytes);
    }
    pthread_mutex_unlock(&exchange->lock);
    return result;
}

/* --- sources --- */

static void source_run(struct http_job *job)
{
    struct http_exchange *exchange =
        (struct http_exchange *)((char *)job - offsetof(struct http_exchange, job));
    char *block = mem_alloc(HTTP_SOURCE_BYTES_MAX);
    int64_t n =
        block ? exchange->source.read(exchange->source.ctx, block, HTTP_SOURCE_BYTES_MAX) : -1;

    pthread_mutex_lock(&exchange->lock);
    exchange->pulling = false;
    if (n < 0 || (n > 0 && http_pipe_put(&exchange->pipe, block, (size_t)n) != (size_t)n))
        exchange->source_failed = true;
    if (n == 0)
        exchange->source_ended = true;
    exchange_resume(exchange);
    pthread_mutex_unlock(&exchange->lock);
    mem_free(block);
    exchange_drop(exchange);
}

int http_reply_source(struct http_request *request, struct http_response *response, int64_t size,
                      int64_t (*read)(void *ctx, char *bytes, size_t n), void (*release)(void *ctx),
                      void *ctx, struct err *err)
{
    struct http_exchange *exchange = exchange_of(request);

    (void)response;
    if (exchange->source.read) {
        release(ctx);
        return err_set(err, ERR_INTERNAL, "an answer with two sources");
    }
    exchange->source = (struct http_source){read, release, ctx, size};
    http_pipe_init(&exchange->pipe, HTTP_SOURCE_BYTES_MAX);
    return 0;
}

/* --- streams: a stream is its exchange --- */

static struct http_exchange *exchange_of_stream(const struct http_stream *stream)
{
    return (struct http_exchange *)(uintptr_t)stream;
}

int http_stream_open(struct http_request *request, struct http_response *response,
                     struct http_stream **stream, struct err *err)
{
    struct http_exchange *exchange = exchange_of(request);
    struct MHD_Response *reply;

    assert(response == &exchange->response && response->body.len == 0);
    reply = exchange_build(exchange, true);
    if (!reply)
        return err_set(err, ERR_NOMEM, "Out of memory for a stream");
    exchange_log(exchange, response->status);
    if (!exchange->deferred)
        exchange_hold(exchange); /* a deferred request brings the reference it was given */
    pthread_mutex_lock(&exchange->lock);
    exchange->stream = STREAM_OPEN;
    http_pipe_release(&exchange->pipe);
    http_pipe_init(&exchange->pipe, HTTP_STREAM_BYTES_MAX);
    pthread_mutex_unlock(&exchange->lock);
    exchange_watch(exchange);
    exchange_answer(exchange, reply, (unsigned)response->status);
    *stream = (struct http_stream *)exchange;
    return 0;
}

bool http_stream_closed(const struct http_stream *stream)
{
    return atomic_load(&exchange_of_stream(stream)->closed);
}

void http_stream_on_close(struct http_stream *stream, void (*closed)(void *ctx), void *ctx)
{
    struct http_exchange *exchange = exchange_of_stream(stream);

    exchange_set_on_close(exchange, closed, ctx);
    if (atomic_load(&exchange->closed))
        exchange_tell_closed(exchange);
}

/* Waits for room for n bytes; the lock is held. */
static int wait_for_room(struct http_exchange *exchange, size_t n, int wait_ms, struct err *err)
{
    int64_t until = wait_ms > 0 ? clock_monotonic_ns() + (int64_t)wait_ms * NS_PER_MS : 0;

    while (!atomic_load(&exchange->closed) && http_pipe_room(&exchange->pipe) < n) {
        bool in_time;
        exchange->waiters++;
        in_time = wait_ms > 0 && http_cond_wait_until(&exchange->changed, &exchange->lock, until);
        exchange->waiters--;
        if (!in_time && !atomic_load(&exchange->closed) && http_pipe_room(&exchange->pipe) < n)
            return err_set(err, ERR_TIMEOUT, "The client does not take what it is sent");
    }
    return atomic_load(&exchange->closed) ? err_set(err, ERR_CLOSED, "The client has left") : 0;
}

int http_stream_write(struct http_stream *stream, const void *bytes, size_t n, int wait_ms,
                      struct err *err)
{
    struct http_exchange *exchange = exchange_of_stream(stream);
    int rc;

    if (n > HTTP_STREAM_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d bytes written to a stream at once",
                       HTTP_STREAM_BYTES_MAX);
    pthread_mutex_lock(&exchange->lock);
    assert(exchange->stream == STREAM_OPEN || exchange->stream == STREAM_ABORTED);
    rc = wait_for_room(exchange, n, wait_ms, err);
    if (rc == 0 && http_pipe_put(&exchange->pipe, bytes, n) != n)
        rc = mem_err(err, n);
    if (rc == 0 && n > 0 && exchange->phase == EXCHANGE_REPLY)
        exchange_resume(exchange);
    pthread_mutex_unlock(&exchange->lock);
    return rc;
}

int http_stream_event(struct http_stream *stream, const char *event, const char *data, int wait_ms,
                      struct err *err)
{
    struct buf text;
    int rc;

    buf_init(&text, HTTP_STREAM_BYTES_MAX);
    if (event)
        buf_printf(&text, "event: %s\n", event);
    for (const char *at = data;;) {
        size_t n = strcspn(at, "\r\n");
        buf_puts(&text, "data: ");
        buf_append(&text, at, n);
        buf_putc(&text, '\n');
        at += n;
        if (!*at)
            break;
        at += at[0] == '\r' && at[1] == '\n' ? 2 : 1;
    }
    buf_putc(&text, '\n');
    rc = buf_check(&text, "an event", err);
    if (rc == 0)
        rc = http_stream_write(stream, text.data, text.len, wait_ms, err);
    buf_release(&text);
    return rc;
}

static void finish(struct http_stream *stream, enum exchange_stream how)
{
    struct http_exchange *exchange = exchange_of_stream(stream);

    exchange_forget_closed(exchange);
    pthread_mutex_lock(&exchange->lock);
    exchange->stream = how;
    if (exchange->phase == EXCHANGE_REPLY)
        exchange_resume(exchange);
    pthread_mutex_unlock(&exchange->lock);
    exchange_drop(exchange);
}

void http_stream_end(struct http_stream *stream)
{
    finish(stream, STREAM_ENDED);
}

void http_stream_abort(struct http_stream *stream)
{
    finish(stream, STREAM_ABORTED);
}

/* --- uploads --- */

int http_request_read(struct http_request *request, void *bytes, size_t n, size_t *got,
                      struct err *err)
{
    struct http_exchange *exchange = exchange_of(request);
    int rc = 0;

    *got = 0;
    pthread_mutex_lock(&exchange->lock);
    exchange->body_wanted = true;
    if (exchange->phase == EXCHANGE_OFFERED)
        exchange_resume(exchange);
    while (exchange->pipe.len == 0 && !exchange->body_ended && !exchange->body_too_large &&
           !atomic_load(&exchange->closed))
        pthread_cond_wait(&exchange->changed, &exchange->lock);
    if (exchange->body_too_large)
        rc = err_set(err, ERR_TOO_LARGE, "The body has more than the %zu bytes allowed",
                     exchange_body_max(exchange));
    else if (atomic_load(&exchange->closed))
        rc = err_set(err, ERR_CLOSED, "The client left before the end of its upload");
    else
        *got = http_pipe_get(&exchange->pipe, bytes, n);
    if (exchange->phase == EXCHANGE_BODY && exchange->pipe.len <= HTTP_UPLOAD_PIPE_BYTES_MAX / 2)
        exchange_resume(exchange);
    pthread_mutex_unlock(&exchange->lock);
    return rc;
}
