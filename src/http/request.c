/* Reading a request and filling a response: what handlers call that needs no thread. */
#include "http/request.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "http/exchange.h"
#include "http/router.h"

const char *http_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->n_headers; i++)
        if (strcasecmp(request->headers[i].name, name) == 0)
            return request->headers[i].value;
    return NULL;
}

static const char *find(const struct http_pair *pairs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(pairs[i].name, name) == 0)
            return pairs[i].value;
    return NULL;
}

const char *http_path_param(const struct http_request *request, const char *name)
{
    return find(request->path_params, request->n_path_params, name);
}

const char *http_query(const struct http_request *request, const char *name)
{
    return find(request->query, request->n_query, name);
}

/* application/json, text/json or application/…+json, with or without parameters. */
static bool is_json_type(const char *type)
{
    size_t n = type ? strcspn(type, "; \t") : 0;

    return (n == 16 && strncasecmp(type, "application/json", n) == 0) ||
           (n == 9 && strncasecmp(type, "text/json", n) == 0) ||
           (n > 17 && strncasecmp(type, "application/", 12) == 0 &&
            strncasecmp(type + n - 5, "+json", 5) == 0);
}

int http_request_json(struct http_request *request, const json_t **out, struct err *err)
{
    struct http_exchange *exchange = exchange_of(request);
    const char *type = http_header(request, "Content-Type");

    *out = exchange->json;
    if (*out)
        return 0;
    if (!(request->route->flags & HTTP_ANY_MEDIA) && !is_json_type(type))
        return err_set(err, ERR_MEDIA, "The body must be application/json, not %s",
                       type ? type : "without a type");
    *out = exchange->json = json_parse(request->body, request->body_bytes, err);
    if (!*out && (!err || err->code == ERR_NONE))
        return err_set(err, ERR_UNPROCESSABLE, "The body is not JSON");
    return *out ? 0 : -(int)err->code;
}

void http_json(struct http_response *response, struct json_out *out)
{
    assert(response->body.len == 0);
    json_out_init(out, &response->body);
}

int http_reply_json(struct http_response *response, int status, struct err *err)
{
    response->status = status;
    response->content_type = "application/json";
    return buf_check(&response->body, "the answer", err);
}

int http_reply_text(struct http_response *response, int status, const char *content_type,
                    const char *text, struct err *err)
{
    buf_clear(&response->body);
    buf_puts(&response->body, text);
    response->status = status;
    response->content_type = content_type;
    return buf_check(&response->body, "the answer", err);
}

int http_reply_empty(struct http_response *response, int status, struct err *err)
{
    (void)err;
    buf_clear(&response->body);
    response->status = status;
    response->content_type = NULL;
    return 0;
}

int http_response_header(struct http_response *response, const char *name, const char *value,
                         struct err *err)
{
    struct http_pair *pair = &response->headers[response->n_headers];

    if (response->n_headers == HTTP_RESPONSE_HEADERS_MAX)
        return err_set(err, ERR_INTERNAL, "more than %d headers in an answer",
                       HTTP_RESPONSE_HEADERS_MAX);
    for (const char *at = value; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 127)
            return err_set(err, ERR_INVALID, "control character in header %s", name);
    pair->name = name;
    pair->value = arena_strdup(response->arena, value);
    if (!pair->value)
        return mem_err(err, strlen(value));
    response->n_headers++;
    return 0;
}

void http_request_on_close(struct http_request *request, void (*closed)(void *ctx), void *ctx)
{
    struct http_exchange *exchange = exchange_of(request);

    exchange_set_on_close(exchange, closed, ctx);
    exchange_watch(exchange);
    if (atomic_load(&exchange->closed))
        exchange_tell_closed(exchange);
}

bool http_request_closed(const struct http_request *request)
{
    return atomic_load(&exchange_of(request)->closed);
}

void http_request_defer(struct http_request *request)
{
    struct http_exchange *exchange = exchange_of(request);

    exchange->deferred = true;
    exchange_hold(exchange);
}

struct http_response *http_request_response(struct http_request *request)
{
    return &exchange_of(request)->response;
}

void http_request_finish(struct http_request *request, int rc, struct err *err)
{
    struct http_exchange *exchange = exchange_of(request);

    exchange_forget_closed(exchange);
    if (rc != 0)
        exchange_fail(exchange, err);
    exchange_send(exchange);
    exchange_drop(exchange);
}
