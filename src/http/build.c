/* From our response to libmicrohttpd's, with the headers that every answer carries. */
#include <string.h>
#include <strings.h>

#include "http/exchange.h"

enum { CONTENT_BLOCK_BYTES = 4096 };

static const struct http_pair always[] = {
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
};

/* Sent unless the handler said otherwise. */
static const struct http_pair unless_set[] = {
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static bool add(struct MHD_Response *reply, const char *name, const char *value)
{
    return MHD_add_response_header(reply, name, value) == MHD_YES;
}

static bool is_set(const struct http_response *response, const char *name)
{
    for (size_t i = 0; i < response->n_headers; i++)
        if (strcasecmp(response->headers[i].name, name) == 0)
            return true;
    return false;
}

static bool add_headers(struct MHD_Response *reply, const struct http_exchange *exchange)
{
    const struct http_response *response = &exchange->response;
    bool fine = add(reply, "X-Request-ID", exchange->request_id[0] ? exchange->request_id : "none");

    for (size_t i = 0; i < COUNT_OF(always); i++)
        fine = fine && add(reply, always[i].name, always[i].value);
    for (size_t i = 0; i < COUNT_OF(unless_set); i++)
        if (!is_set(response, unless_set[i].name))
            fine = fine && add(reply, unless_set[i].name, unless_set[i].value);
    if (response->content_type)
        fine = fine && add(reply, "Content-Type", response->content_type);
    for (size_t i = 0; i < response->n_headers; i++)
        fine = fine && add(reply, response->headers[i].name, response->headers[i].value);
    if (exchange->cors_origin)
        fine = fine && add(reply, "Access-Control-Allow-Origin", exchange->cors_origin) &&
               add(reply, "Vary", "Origin");
    return fine;
}

static void drop_held(void *exchange)
{
    exchange_drop(exchange);
}

static struct MHD_Response *build_callback(struct http_exchange *exchange, int64_t size)
{
    struct MHD_Response *reply;

    exchange_hold(exchange);
    reply = MHD_create_response_from_callback(size < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)size,
                                              CONTENT_BLOCK_BYTES, exchange_on_content, exchange,
                                              drop_held);
    if (!reply)
        exchange_drop(exchange);
    return reply;
}

static struct MHD_Response *build_buffer(struct http_response *response)
{
    size_t n = response->body.len;
    char *data = buf_take(&response->body);
    struct MHD_Response *reply;

    if (!data)
        return NULL;
    reply = MHD_create_response_from_buffer_with_free_callback_cls(n, data, mem_free, data);
    if (!reply)
        mem_free(data);
    return reply;
}

struct MHD_Response *exchange_build(struct http_exchange *exchange, bool streaming)
{
    struct MHD_Response *reply;

    if (streaming)
        reply = build_callback(exchange, -1);
    else if (exchange->source.read && exchange->response.body.len == 0)
        reply = build_callback(exchange, exchange->source.size);
    else
        reply = build_buffer(&exchange->response);
    if (reply && !add_headers(reply, exchange)) {
        MHD_destroy_response(reply);
        reply = NULL;
    }
    return reply;
}

struct MHD_Response *exchange_build_unavailable(void)
{
    static char body[] = "{\"detail\":\"Out of memory\"}";
    struct MHD_Response *reply =
        MHD_create_response_from_buffer(sizeof(body) - 1, body, MHD_RESPMEM_PERSISTENT);

    if (reply &&
        !(add(reply, "Content-Type", "application/json") && add(reply, "Retry-After", "1"))) {
        MHD_destroy_response(reply);
        reply = NULL;
    }
    return reply;
}
