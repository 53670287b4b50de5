/* The worker's side: the key, the handler, and the answer. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/exchange.h"
#include "http/server_private.h"

static void reply_options(struct http_exchange *exchange)
{
    struct http_response *response = &exchange->response;
    const char *asked = http_header(&exchange->request, "Access-Control-Request-Headers");

    response->status = 204;
    response->headers[response->n_headers++] = (struct http_pair){"Allow", exchange->match.allow};
    if (!exchange->cors_origin)
        return;
    response->headers[response->n_headers++] =
        (struct http_pair){"Access-Control-Allow-Methods", exchange->match.allow};
    if (asked)
        response->headers[response->n_headers++] =
            (struct http_pair){"Access-Control-Allow-Headers", asked};
    response->headers[response->n_headers++] = (struct http_pair){"Access-Control-Max-Age", "600"};
}

static int refuse(const struct http_exchange *exchange, struct err *err)
{
    *err = exchange->refusal;
    return -(int)err->code;
}

/* 0 when the handler may go on; *answered: the answer was given. */
static int admit(struct http_exchange *exchange, bool *answered, struct err *err)
{
    const http_admit asks = exchange->server->options.admit;
    struct http_issues issues;
    *answered = false;
    if (!asks)
        return 0;
    http_issues_init(&issues);
    asks(exchange->match.route, &exchange->request, &issues);
    if (issues.count > 0) {
        *answered = true;
        return http_issues_reply(&issues, &exchange->request, &exchange->response, err);
    }
    http_issues_release(&issues);
    return 0;
}

static int respond(struct http_exchange *exchange, struct err *err)
{
    const struct http_server_options *options = &exchange->server->options;
    struct http_request *request = &exchange->request;

    if (exchange->refused_first)
        return refuse(exchange, err);
    if (!exchange->key_checked) {
        int rc = options->check_key(options->check_ctx, policy_key(request), request, err);
        if (rc != 0)
            return rc;
    }
    if (exchange->refusal.code != ERR_NONE)
        return refuse(exchange, err);
    if (!exchange->match.route) {
        reply_options(exchange);
        return 0;
    }
    bool answered;
    int rc = admit(exchange, &answered, err);
    if (rc != 0 || answered)
        return rc;
    return exchange->match.route->handler(exchange->match.ctx, request, &exchange->response, err);
}

static http_error_style style_of(const struct http_exchange *exchange)
{
    if (exchange->match.route)
        return exchange->match.route->error_style;
    if (exchange->server->options.style_of && exchange->request.path)
        return exchange->server->options.style_of(exchange->request.path);
    return NULL;
}

void exchange_fail(struct http_exchange *exchange, const struct err *err)
{
    static const struct err unknown = {.code = ERR_INTERNAL, .message = "Internal Server Error"};
    struct http_response *response = &exchange->response;

    if (!err || err->code == ERR_NONE)
        err = &unknown;
    http_reply_error(response, style_of(exchange), err);
    if ((err->code == ERR_CANCELLED || err->code == ERR_CLOSED) && atomic_load(&exchange->closed))
        response->status = HTTP_CLIENT_GONE;
    if (err->code == ERR_METHOD)
        response->headers[response->n_headers++] =
            (struct http_pair){"Allow", exchange->match.allow};
    if (response->status == 500)
        log_event(LOG_ERROR, "http", "failed", "code=%s at=%s:%d message=\"%s\"",
                  err_code_name(err->code), err->file ? err->file : "?", err->line, err->message);
}

void exchange_log(const struct http_exchange *exchange, int status)
{
    const struct http_request *request = &exchange->request;
    bool reads = strcmp(request->method, "GET") == 0 || exchange->head_only;
    enum log_level level = status >= 500           ? LOG_WARNING
                           : reads && status < 400 ? LOG_DEBUG
                                                   : LOG_INFO;

    if (!log_enabled("http", level))
        return;
    if (exchange->deferred) /* whoever answers works for many */
        log_set_trace(exchange->request_id);
    log_event(level, "http", "request", "method=%s route=\"%s\" status=%d us=%" PRId64,
              request->method, request->route ? request->route->pattern : "unmatched", status,
              (clock_monotonic_ns() - request->started_ns) / 1000);
    if (exchange->deferred)
        log_set_trace(NULL);
}

void exchange_send(struct http_exchange *exchange)
{
    struct err err = {0};
    struct MHD_Response *reply;

    if (buf_check(&exchange->response.body, "the answer", &err) != 0)
        exchange_fail(exchange, &err);
    exchange_log(exchange, exchange->response.status);
    reply = exchange_build(exchange, false);
    exchange_answer(exchange, reply, (unsigned)exchange->response.status);
}

/* After a handler that opened a stream or deferred, others may be at work on the exchange: nothing
 * of it but what they do not touch is read. */
void exchange_run(struct http_job *job)
{
    struct http_exchange *exchange =
        (struct http_exchange *)((char *)job - offsetof(struct http_exchange, job));
    struct err err = {0};
    enum exchange_stream stream;
    int rc;

    log_set_trace(exchange->request_id);
    rc = respond(exchange, &err);
    pthread_mutex_lock(&exchange->lock);
    stream = exchange->stream;
    if (stream == STREAM_OPEN && rc != 0 && !exchange->deferred)
        exchange->stream = STREAM_ABORTED;
    pthread_mutex_unlock(&exchange->lock);
    if (stream == STREAM_NONE && !exchange->deferred) {
        exchange_forget_closed(exchange);
        if (rc != 0)
            exchange_fail(exchange, &err);
        exchange_send(exchange);
    } else if (stream == STREAM_OPEN && rc != 0 && !exchange->deferred) {
        exchange_client_gone(exchange);
        exchange_forget_closed(exchange);
        exchange_drop(exchange);
    }
    log_set_trace(NULL);
    exchange_drop(exchange);
}
