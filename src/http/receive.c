/* The event thread's side: what libmicrohttpd calls. Nothing here waits; exchange.c has the states.
 *
 * libmicrohttpd calls once when the headers are complete, once per piece of the body, and once when
 * all is there. A suspended connection gets the call that suspended it again when it is resumed.
 * An answer queued in the first call makes it close the connection afterwards, so a request without
 * a body is dispatched from its last call, and only refusals of large bodies answer in the first.
 */
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "http/exchange.h"
#include "http/server_private.h"

static int64_t after_ms(int ms)
{
    return clock_monotonic_ns() + (int64_t)ms * 1000000;
}

/* Whoever waits for others waits apart. What is refused needs no handler. */
static struct http_pool *pool_of(struct http_exchange *exchange)
{
    const struct http_route *route = exchange->match.route;
    const bool waits = route && (route->flags & (HTTP_SLOW | HTTP_UPLOAD)) != 0 &&
                       exchange->refusal.code == ERR_NONE;
    return waits ? &exchange->server->slow_pool : &exchange->server->pool;
}

/* Suspends the connection and gives the exchange to a worker. */
static enum MHD_Result dispatch(struct http_exchange *exchange, enum exchange_phase phase)
{
    enum MHD_Result result = MHD_NO;

    conn_set_deadline(exchange->conn, 0);
    pthread_mutex_lock(&exchange->lock);
    if (exchange_suspend(exchange)) {
        exchange->phase = phase;
        exchange->job.run = exchange_run;
        exchange_hold(exchange);
        http_pool_submit(pool_of(exchange), &exchange->job);
        result = MHD_YES;
    }
    pthread_mutex_unlock(&exchange->lock);
    return result;
}

static bool expects_continue(const struct http_exchange *exchange)
{
    const char *expect = http_header(&exchange->request, "Expect");
    return expect && strcasecmp(expect, "100-continue") == 0;
}

/* The first call: the headers are complete. */
static enum MHD_Result on_headers(struct http_server *server, struct MHD_Connection *connection,
                                  const char *url, const char *method, const char *version,
                                  void **slot)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_exchange *exchange = exchange_new(server);
    const struct http_route *route;
    int64_t length;
    bool has_body, refused;

    if (!exchange)
        return MHD_queue_response(connection, 503, server->unavailable);
    *slot = exchange;
    exchange->connection = connection;
    exchange->conn = info ? info->socket_context : NULL;
    exchange->chunkless = strcmp(version, MHD_HTTP_VERSION_1_0) == 0;
    server_enter(server, exchange);
    exchange_check(exchange, url, method);
    route = exchange->match.route;
    refused = exchange->refusal.code != ERR_NONE;
    has_body = exchange_has_body(exchange, &length);
    exchange->body_ended = !has_body;
    if (exchange->misframed ||
        (has_body && refused && (length > HTTP_DISCARD_BYTES_MAX || expects_continue(exchange))))
        return dispatch(exchange, EXCHANGE_WORK);
    if (has_body && !refused && route && route->flags & HTTP_UPLOAD)
        return dispatch(exchange, EXCHANGE_OFFERED);
    conn_set_deadline(exchange->conn, has_body ? after_ms(server->options.body_timeout_ms) : 0);
    return MHD_YES;
}

/* The body will not be used: what came of it is let go. */
static void forget_body(struct http_exchange *exchange)
{
    buf_release(&exchange->body);
    buf_init(&exchange->body, 1);
}

/* A piece of a body that is kept in memory. */
static void keep(struct http_exchange *exchange, const char *data, size_t n)
{
    struct http_server *server = exchange->server;
    size_t most = exchange_body_max(exchange);

    if (exchange->body_received > most) {
        err_set(&exchange->refusal, ERR_TOO_LARGE, "The body has more than the %zu bytes allowed",
                most);
        forget_body(exchange);
        return;
    }
    exchange->body_held += n;
    if (atomic_fetch_add(&server->bodies_held, n) + n > server->bodies_bytes_max) {
        err_set(&exchange->refusal, ERR_UNAVAILABLE, "Too many large requests at once");
        forget_body(exchange);
        return;
    }
    exchange->body.bytes_max = most;
    buf_append(&exchange->body, data, n);
    if (buf_check(&exchange->body, "the body", &exchange->refusal) != 0)
        forget_body(exchange);
}

/* A piece of an upload: what fits into the pipe, and a suspended connection when not all did. */
static enum MHD_Result pass_on(struct http_exchange *exchange, const char *data, size_t *n)
{
    size_t taken = http_pipe_put(&exchange->pipe, data, *n);

    exchange->body_received += taken;
    *n -= taken;
    pthread_cond_broadcast(&exchange->changed);
    if (*n == 0)
        return MHD_YES;
    if (http_pipe_room(&exchange->pipe) > 0)
        return MHD_NO; /* no memory */
    return exchange_suspend(exchange) ? MHD_YES : MHD_NO;
}

/* A refused or unread rest is thrown away up to a bound, so that the client, which may only read
 * once it has written all, sees its answer. */
static enum MHD_Result discard(struct http_exchange *exchange, size_t *n)
{
    exchange->body_discarded += *n;
    *n = 0;
    return exchange->body_discarded > HTTP_DISCARD_BYTES_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_data(struct http_exchange *exchange, const char *data, size_t *n)
{
    bool upload = exchange->phase == EXCHANGE_BODY;

    if (atomic_load(&exchange->server->aborting))
        return MHD_NO;
    if (exchange->suspended)
        return MHD_YES;
    if (exchange->answered || exchange->refusal.code != ERR_NONE || exchange->body_too_large)
        return discard(exchange, n);
    if (upload && exchange->body_received + *n > exchange_body_max(exchange)) {
        exchange->body_too_large = true;
        pthread_cond_broadcast(&exchange->changed);
        return discard(exchange, n);
    }
    if (upload)
        return pass_on(exchange, data, n);
    exchange->body_received += *n;
    keep(exchange, data, *n);
    *n = 0;
    return MHD_YES;
}

static enum MHD_Result queue_answer(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    struct MHD_Response *reply;
    enum MHD_Result result;

    pthread_mutex_lock(&exchange->lock);
    reply = exchange->reply;
    exchange->reply = NULL;
    exchange->phase = EXCHANGE_REPLY;
    pthread_mutex_unlock(&exchange->lock);
    if (!reply)
        return MHD_queue_response(exchange->connection, 503, server->unavailable);
    if (atomic_load(&server->draining))
        (void)MHD_add_response_header(reply, "Connection", "close");
    result = MHD_queue_response(exchange->connection, exchange->status, reply);
    MHD_destroy_response(reply);
    return result;
}

/* A call without data after the first: the body is complete, or the connection was resumed. */
static enum MHD_Result on_quiet(struct http_exchange *exchange)
{
    enum MHD_Result result = MHD_YES;

    pthread_mutex_lock(&exchange->lock);
    if (atomic_load(&exchange->server->aborting)) {
        result = MHD_NO;
    } else if (exchange->answered) {
        pthread_mutex_unlock(&exchange->lock);
        return queue_answer(exchange);
    } else if (exchange->phase == EXCHANGE_HEAD) {
        pthread_mutex_unlock(&exchange->lock);
        if (exchange->body.len > 0) {
            exchange->request.body = exchange->body.data;
            exchange->request.body_bytes = exchange->body.len;
        }
        return dispatch(exchange, EXCHANGE_WORK);
    } else if (exchange->phase == EXCHANGE_OFFERED) {
        exchange->phase = EXCHANGE_BODY;
    } else if (exchange->phase == EXCHANGE_BODY) {
        exchange->phase = EXCHANGE_WORK;
        exchange->body_ended = true;
        pthread_cond_broadcast(&exchange->changed);
        result = exchange_suspend(exchange) ? MHD_YES : MHD_NO;
    } else {
        result = MHD_NO;
    }
    pthread_mutex_unlock(&exchange->lock);
    return result;
}

enum MHD_Result exchange_on_request(void *server, struct MHD_Connection *connection,
                                    const char *url, const char *method, const char *version,
                                    const char *data, size_t *data_bytes, void **slot)
{
    struct http_exchange *exchange = *slot;
    enum MHD_Result result;

    if (!exchange)
        return on_headers(server, connection, url, method, version, slot);
    if (*data_bytes == 0)
        return on_quiet(exchange);
    pthread_mutex_lock(&exchange->lock);
    result = on_data(exchange, data, data_bytes);
    pthread_mutex_unlock(&exchange->lock);
    return result;
}

void exchange_on_completed(void *cls, struct MHD_Connection *connection, void **slot,
                           enum MHD_RequestTerminationCode how)
{
    struct http_server *server = cls;
    struct http_exchange *exchange = *slot;
    struct MHD_Response *reply;
    watch_key watched;
    bool whole;

    (void)connection;
    if (!exchange)
        return;
    *slot = NULL;
    pthread_mutex_lock(&exchange->lock);
    whole = how == MHD_REQUEST_TERMINATED_COMPLETED_OK && exchange->phase == EXCHANGE_REPLY &&
            (exchange->stream == STREAM_NONE || exchange->stream == STREAM_ENDED);
    exchange->phase = EXCHANGE_DONE;
    if (!whole)
        atomic_store(&exchange->closed, true);
    reply = exchange->reply;
    exchange->reply = NULL;
    watched = exchange->watched;
    exchange->watched = 0;
    pthread_cond_broadcast(&exchange->changed);
    pthread_mutex_unlock(&exchange->lock);
    if (watched)
        watch_remove(&server->watch, exchange->conn->fd, watched);
    if (reply)
        MHD_destroy_response(reply);
    conn_set_deadline(exchange->conn, after_ms(server->options.idle_timeout_ms));
    if (!whole)
        exchange_tell_closed(exchange);
    server_leave(server, exchange);
    exchange_drop(exchange);
}
