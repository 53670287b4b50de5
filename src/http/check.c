/* From libmicrohttpd's connection to a request that stands on its own, and the checks that need no
 * waiting. Everything is copied: when the server is stopped under a running handler, libmicrohttpd
 * frees the connection's memory first.
 *
 * Two headers that disagree about where a body ends let one client's bytes pass for another's
 * request behind a proxy, so such framing is refused instead of resolved.
 */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "http/exchange.h"
#include "http/server_private.h"
#include "http/url.h"

struct copying {
    struct http_exchange *exchange;
    struct err *err;
    int rc;
};

static enum MHD_Result copy_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   size_t name_bytes, const char *value, size_t value_bytes)
{
    struct copying *copying = cls;
    struct http_request *request = &copying->exchange->request;
    struct http_pair *pair = &request->headers[request->n_headers];

    (void)kind;
    if (request->n_headers == HTTP_HEADERS_MAX) {
        copying->rc = err_set(copying->err, ERR_INVALID, "More than %d headers", HTTP_HEADERS_MAX);
        return MHD_NO;
    }
    pair->name = arena_strndup(request->arena, name, name_bytes);
    pair->value = arena_strndup(request->arena, value ? value : "", value ? value_bytes : 0);
    if (!pair->name || !pair->value) {
        copying->rc = mem_err(copying->err, name_bytes + value_bytes);
        return MHD_NO;
    }
    request->n_headers++;
    return MHD_YES;
}

static enum MHD_Result copy_query(void *cls, enum MHD_ValueKind kind, const char *name,
                                  size_t name_bytes, const char *value, size_t value_bytes)
{
    struct copying *copying = cls;
    struct http_request *request = &copying->exchange->request;
    char *decoded_name = NULL, *decoded_value = NULL;

    (void)kind;
    if (request->n_query == HTTP_QUERY_PARAMS_MAX)
        copying->rc = err_set(copying->err, ERR_INVALID, "More than %d query parameters",
                              HTTP_QUERY_PARAMS_MAX);
    if (copying->rc == 0)
        copying->rc =
            http_url_decode(name, name_bytes, request->arena, &decoded_name, copying->err);
    if (copying->rc == 0)
        copying->rc = http_url_decode(value ? value : "", value ? value_bytes : 0, request->arena,
                                      &decoded_value, copying->err);
    if (copying->rc != 0)
        return MHD_NO;
    request->query[request->n_query++] = (struct http_pair){decoded_name, decoded_value};
    return MHD_YES;
}

static int copy_request(struct http_exchange *exchange, const char *url, const char *method,
                        struct err *err)
{
    struct http_request *request = &exchange->request;
    struct copying copying = {.exchange = exchange, .err = err};
    int n_query =
        MHD_get_connection_values_n(exchange->connection, MHD_GET_ARGUMENT_KIND, NULL, NULL);

    request->method = arena_strdup(request->arena, method);
    request->path = arena_strdup(request->arena, url);
    request->headers = arena_alloc(request->arena, HTTP_HEADERS_MAX, sizeof(struct http_pair));
    if (n_query > 0)
        request->query =
            arena_alloc(request->arena, HTTP_QUERY_PARAMS_MAX, sizeof(struct http_pair));
    if (!request->method || !request->path || !request->headers ||
        (n_query > 0 && !request->query)) {
        request->method = request->path = "";
        return mem_err(err, strlen(url));
    }
    MHD_get_connection_values_n(exchange->connection, MHD_HEADER_KIND, copy_header, &copying);
    if (copying.rc == 0 && strlen(url) > HTTP_URL_BYTES_MAX)
        return err_set(err, ERR_INVALID, "The path is longer than %d bytes", HTTP_URL_BYTES_MAX);
    return copying.rc;
}

static bool is_id(const char *text)
{
    size_t n = strlen(text);
    return n > 0 && n <= HTTP_REQUEST_ID_BYTES_MAX &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+=@") ==
               n;
}

/* The client's id when it is harmless in a log and a header, else a fresh one. */
static void set_request_id(struct http_exchange *exchange)
{
    const char *sent = http_header(&exchange->request, "X-Request-ID");

    if (sent && is_id(sent))
        memcpy(exchange->request_id, sent, strlen(sent) + 1);
    else if (uuid_make(exchange->request_id, NULL) != 0)
        memcpy(exchange->request_id, "none", sizeof("none"));
}

static size_t count_headers(const struct http_request *request, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < request->n_headers; i++)
        n += strcasecmp(request->headers[i].name, name) == 0;
    return n;
}

static int check_framing(const struct http_request *request, struct err *err)
{
    const char *coding = http_header(request, "Transfer-Encoding");
    size_t lengths = count_headers(request, "Content-Length");
    size_t codings = count_headers(request, "Transfer-Encoding");

    if (lengths > 1 || codings > 1 || (lengths && codings))
        return err_set(err, ERR_INVALID, "The request says twice how long its body is");
    if (coding && strcasecmp(coding, "chunked") != 0)
        return err_set(err, ERR_INVALID, "Transfer-Encoding '%s' is not supported", coding);
    return 0;
}

bool exchange_has_body(const struct http_exchange *exchange, int64_t *known)
{
    const char *length = http_header(&exchange->request, "Content-Length");

    *known = -1;
    if (http_header(&exchange->request, "Transfer-Encoding"))
        return true;
    if (!length)
        return false;
    *known = 0;
    for (; *length >= '0' && *length <= '9'; length++)
        *known = *known > (INT64_MAX - 9) / 10 ? INT64_MAX : *known * 10 + (*length - '0');
    return *known > 0;
}

size_t exchange_body_max(const struct http_exchange *exchange)
{
    const struct http_route *route = exchange->match.route;
    return route && route->body_bytes_max ? route->body_bytes_max
                                          : exchange->server->options.max_body_bytes;
}

/* What comes before the key: what is said here is not worth hiding. */
static int check_before_key(struct http_exchange *exchange, const char *url, const char *method,
                            struct err *err)
{
    struct http_server *server = exchange->server;
    struct http_request *request = &exchange->request;
    int rc = copy_request(exchange, url, method, err);

    set_request_id(exchange);
    if (rc == 0 && atomic_load(&server->draining))
        rc = err_set(err, ERR_UNAVAILABLE, "The server is shutting down");
    exchange->misframed = check_framing(request, rc == 0 ? err : NULL) != 0;
    if (rc == 0 && exchange->misframed)
        rc = -ERR_INVALID;
    if (rc == 0)
        rc = policy_check_host(&server->policy, request, err);
    if (rc == 0)
        rc = policy_check_origin(&server->policy, request, err);
    return rc;
}

static int check_after_key(struct http_exchange *exchange, struct err *err)
{
    struct copying copying = {.exchange = exchange, .err = err};
    const struct http_match *match = &exchange->match;
    int64_t length;

    if (!match->route && !match->allow[0])
        return err_set(err, ERR_NOT_FOUND, "Not Found");
    if (!match->route && strcmp(exchange->request.method, "OPTIONS") != 0)
        return err_set(err, ERR_METHOD, "Method Not Allowed");
    MHD_get_connection_values_n(exchange->connection, MHD_GET_ARGUMENT_KIND, copy_query, &copying);
    if (copying.rc != 0)
        return copying.rc;
    if (exchange_has_body(exchange, &length) && length > 0 &&
        (uint64_t)length > exchange_body_max(exchange))
        return err_set(err, ERR_TOO_LARGE, "The body has %" PRId64 " bytes, %zu are allowed here",
                       length, exchange_body_max(exchange));
    return 0;
}

void exchange_check(struct http_exchange *exchange, const char *url, const char *method)
{
    struct http_server *server = exchange->server;
    struct http_request *request = &exchange->request;
    struct err *err = &exchange->refusal;
    struct err route_err = {0};
    bool open;

    request->peer_loopback = exchange->conn && exchange->conn->loopback;
    exchange->head_only = strcmp(method, "HEAD") == 0;
    exchange->refused_first = check_before_key(exchange, url, method, err) != 0;
    if (exchange->refused_first)
        return;
    exchange->cors_origin = policy_cors_origin(&server->policy, request);
    if (http_router_find(server->router, request, &exchange->match, &route_err) != 0)
        exchange->match.allow[0] = 0;
    request->route = exchange->match.route;
    open =
        strcmp(method, "OPTIONS") == 0 || (request->route && request->route->flags & HTTP_PUBLIC);
    exchange->key_checked = open || !server->options.check_key;
    if (!open && exchange->key_checked) {
        exchange->refused_first = policy_check_key(&server->policy, request, err) != 0;
        if (exchange->refused_first)
            return;
    }
    if (route_err.code != ERR_NONE)
        *err = route_err;
    else if (check_after_key(exchange, err) != 0)
        return;
}
