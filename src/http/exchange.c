/* How it works.
 *
 *                     upload: begin            http_request_read        end of body
 *                   ┌────────────► OFFERED ───────────────► BODY ─────────────┐
 *   begin ──► HEAD ─┤                 │                       │               ▼
 *                   └─ end of body ───┴───────────────────────┼────────────► WORK
 *                      (or refused early)                     │               │ exchange_answer,
 *                                                             └──────┬────────┘ then on_quiet_call
 *                                                                    ▼
 *                                          on_completed ◄───────── REPLY
 *                                               │
 *                                               ▼
 *                                             DONE          (on_completed leads here from anywhere)
 *
 * Invariants:
 *  1. A connection is suspended exactly while `suspended` is true. Only the event thread sets it,
 *     whoever clears it resumes the connection, both under the exchange's lock: so it is resumed
 *     once, and by nobody after phase DONE.
 *  2. While a worker has the exchange in phase WORK the connection is suspended, so libmicrohttpd
 *     leaves it alone; unless the server is aborting, when every call from libmicrohttpd is
 * refused.
 *  3. Once the server's `aborting` is set nothing is suspended any more. The check and the
 *     suspension are one critical section, and the abort pass visits every exchange after setting
 *     the flag, so none is left behind.
 *  4. References: one of libmicrohttpd's connection (until on_completed), one per queued or running
 *     job, one per deferral or open stream, one per content callback, one of the watcher while it
 *     acts. The server is touched only before phase DONE, so exchanges may outlive it.
 *  5. Locks are taken in this order: server, exchange, then libmicrohttpd's, the pool's or the
 *     watcher's. The close callback runs under close_lock alone.
 */
#include "http/exchange.h"

#include "base/clock.h"
#include "http/server_private.h"
#include "http/sync.h"

struct http_exchange *exchange_new(struct http_server *server)
{
    struct http_exchange *exchange = mem_calloc(1, sizeof(*exchange));

    if (!exchange)
        return NULL;
    exchange->server = server;
    atomic_init(&exchange->refs, 1);
    pthread_mutex_init(&exchange->lock, NULL);
    pthread_mutex_init(&exchange->close_lock, NULL);
    if (http_cond_init(&exchange->changed) != 0) {
        mem_free(exchange);
        return NULL;
    }
    arena_init(&exchange->arena, HTTP_ARENA_BYTES_MAX);
    buf_init(&exchange->body, server->options.max_body_bytes);
    buf_init(&exchange->response.body, HTTP_RESPONSE_BYTES_MAX);
    http_pipe_init(&exchange->pipe, HTTP_UPLOAD_PIPE_BYTES_MAX);
    exchange->request.arena = &exchange->arena;
    exchange->request.body = "";
    exchange->request.request_id = exchange->request_id;
    exchange->request.started_ns = clock_monotonic_ns();
    exchange->response.arena = &exchange->arena;
    exchange->response.status = 200;
    exchange->match.index = SIZE_MAX;
    return exchange;
}

void exchange_hold(struct http_exchange *exchange)
{
    atomic_fetch_add_explicit(&exchange->refs, 1, memory_order_relaxed);
}

void exchange_drop(struct http_exchange *exchange)
{
    if (atomic_fetch_sub_explicit(&exchange->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (exchange->source.release)
        exchange->source.release(exchange->source.ctx);
    json_decref(exchange->json);
    buf_release(&exchange->body);
    buf_release(&exchange->response.body);
    http_pipe_release(&exchange->pipe);
    arena_release(&exchange->arena);
    pthread_cond_destroy(&exchange->changed);
    pthread_mutex_destroy(&exchange->close_lock);
    pthread_mutex_destroy(&exchange->lock);
    mem_free(exchange);
}

bool exchange_suspend(struct http_exchange *exchange)
{
    if (atomic_load(&exchange->server->aborting))
        return false;
    MHD_suspend_connection(exchange->connection);
    exchange->suspended = true;
    return true;
}

void exchange_resume(struct http_exchange *exchange)
{
    if (!exchange->suspended)
        return;
    exchange->suspended = false;
    MHD_resume_connection(exchange->connection);
}

void exchange_answer(struct http_exchange *exchange, struct MHD_Response *reply, unsigned status)
{
    bool nobody;

    pthread_mutex_lock(&exchange->lock);
    nobody = exchange->phase == EXCHANGE_DONE;
    if (!nobody) {
        exchange->answered = true;
        exchange->reply = reply;
        exchange->status = reply ? status : 503;
        exchange_resume(exchange);
    }
    pthread_mutex_unlock(&exchange->lock);
    if (nobody && reply)
        MHD_destroy_response(reply);
}

void exchange_watch(struct http_exchange *exchange)
{
    pthread_mutex_lock(&exchange->lock);
    if (exchange->phase != EXCHANGE_DONE && !exchange->watched && exchange->conn)
        exchange->watched = watch_add(&exchange->server->watch, exchange->conn->fd, exchange);
    pthread_mutex_unlock(&exchange->lock);
}

/* A worker in phase WORK keeps the connection suspended until it has its answer: it learns through
 * `closed`. A stream that waits for bytes is resumed, to be cut by its content callback. */
void exchange_client_gone(struct http_exchange *exchange)
{
    pthread_mutex_lock(&exchange->lock);
    atomic_store(&exchange->closed, true);
    pthread_cond_broadcast(&exchange->changed);
    if (exchange->phase == EXCHANGE_REPLY)
        exchange_resume(exchange);
    pthread_mutex_unlock(&exchange->lock);
    exchange_tell_closed(exchange);
}

void exchange_set_on_close(struct http_exchange *exchange, void (*closed)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&exchange->close_lock);
    exchange->on_close = closed;
    exchange->on_close_ctx = ctx;
    exchange->close_told = false;
    pthread_mutex_unlock(&exchange->close_lock);
}

void exchange_tell_closed(struct http_exchange *exchange)
{
    pthread_mutex_lock(&exchange->close_lock);
    if (exchange->on_close && !exchange->close_told) {
        exchange->close_told = true;
        exchange->on_close(exchange->on_close_ctx);
    }
    pthread_mutex_unlock(&exchange->close_lock);
}

void exchange_forget_closed(struct http_exchange *exchange)
{
    exchange_set_on_close(exchange, NULL, NULL);
}
