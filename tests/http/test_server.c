/* The server against a raw client: requests good and bad, checks, keep-alive, limits, deadlines. */
#include <assert.h>

#include "http/client.h"
#include "telemetry/metrics.h"

enum { THREADS = 8, REQUESTS = 200, SEQUENTIAL = 1000, BODY_MAX = 1000 };

static int hello(void *ctx, struct http_request *request, struct http_response *response,
                 struct err *err)
{
    struct json_out out;

    (void)ctx;
    http_json(response, &out);
    json_out_object(&out);
    json_out_kv_string(&out, "id", http_path_param(request, "id"));
    json_out_kv_string(&out, "q", http_query(request, "q"));
    json_out_kv_string(&out, "body", request->body);
    json_out_kv_bool(&out, "loopback", request->peer_loopback);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

static const struct http_field fields[] = {
    {.name = "name", .kind = HTTP_STRING, .flags = HTTP_REQUIRED},
};

static int create(void *ctx, struct http_request *request, struct http_response *response,
                  struct err *err)
{
    struct http_issues issues;
    const json_t *body;
    int rc = http_request_json(request, &body, err);

    (void)ctx;
    if (rc != 0)
        return rc;
    http_issues_init(&issues);
    http_validate(body, fields, 1, false, &issues);
    if (issues.count > 0)
        return http_issues_reply(&issues, request, response, err);
    http_issues_release(&issues);
    return http_reply_text(response, 201, "text/plain", "made", err);
}

static int broken(void *ctx, struct http_request *request, struct http_response *response,
                  struct err *err)
{
    (void)ctx;
    (void)request;
    buf_puts(&response->body, "half an answer");
    return err_set(err, ERR_UNAVAILABLE, "The database is down");
}

static int headers(void *ctx, struct http_request *request, struct http_response *response,
                   struct err *err)
{
    int rc = http_response_header(response, "Cache-Control", "max-age=60", err);

    (void)ctx;
    (void)request;
    assert(http_response_header(response, "X-Bad", "a\r\nb", NULL) == -ERR_INVALID);
    return rc != 0 ? rc : http_reply_empty(response, 204, err);
}

static const struct http_route routes[] = {
    {.method = "GET", .pattern = "/hello", .handler = hello},
    {.method = "POST", .pattern = "/hello", .handler = hello},
    {.method = "GET", .pattern = "/items/{id}", .handler = hello},
    {.method = "GET", .pattern = "/counted/{id}", .handler = hello}, /* by one test alone */
    {.method = "POST", .pattern = "/things", .handler = create},
    {.method = "POST",
     .pattern = "/v1/things",
     .handler = create,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_openai},
    {.method = "GET", .pattern = "/broken", .handler = broken},
    {.method = "GET", .pattern = "/headers", .handler = headers},
    {.method = "GET", .pattern = "/health", .handler = hello, .flags = HTTP_PUBLIC},
    {.method = "POST", .pattern = "/tiny", .handler = hello, .body_bytes_max = 4},
};

enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

static int setup(void **state)
{
    static struct fixture fixture;

    fixture_init(&fixture);
    fixture.options.max_body_bytes = BODY_MAX;
    fixture.options.allowed_hosts = "hub.example, other.example:8000";
    fixture.options.allowed_origins = "http://ui.example:3000";
    fixture_start(&fixture, routes, ROUTES, NULL);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    fixture_end(*state);
    return 0;
}

#define POST_JSON(path, length)                                                                    \
    "POST " path " HTTP/1.1\r\n" HOST "Content-Type: application/json\r\nContent-Length: " length  \
    "\r\n\r\n"

static void requests_get_their_status(void **state)
{
    static const struct {
        const char *name, *request;
        int status;
        const char *part; /* of the body */
    } rows[] = {
        {"plain", "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200,
         "{\"id\":null,\"q\":null,\"body\":\"\",\"loopback\":true}"},
        {"query", "GET /hello?a=1&q=x+y%26%C3%A9&q=z HTTP/1.1\r\n" HOST "\r\n", 200,
         "\"q\":\"x y&\xc3\xa9\""},
        {"query without value", "GET /hello?q HTTP/1.1\r\n" HOST "\r\n", 200, "\"q\":\"\""},
        {"path parameter", "GET /items/a%20b HTTP/1.1\r\n" HOST "\r\n", 200, "\"id\":\"a b\""},
        {"slash at the end", "GET /hello/ HTTP/1.1\r\n" HOST "\r\n", 200, "loopback"},
        {"HTTP/1.0", "GET /hello HTTP/1.0\r\n" HOST "\r\n", 200, "loopback"},
        {"body", "POST /hello HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 200,
         "\"body\":\"abc\""},
        {"chunked body",
         "POST /hello HTTP/1.1\r\n" HOST
         "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
         200, "\"body\":\"abc\""},
        {"unknown path", "GET /nothing HTTP/1.1\r\n" HOST "\r\n", 404,
         "{\"detail\":\"Not Found\"}"},
        {"wrong method", "DELETE /hello HTTP/1.1\r\n" HOST "\r\n", 405,
         "{\"detail\":\"Method Not Allowed\"}"},
        {"invented method", "FLY /hello HTTP/1.1\r\n" HOST "\r\n", 405, "detail"},
        {"options of nothing", "OPTIONS /nothing HTTP/1.1\r\n" HOST "\r\n", 404, "detail"},
        {"handler's error", "GET /broken HTTP/1.1\r\n" HOST "\r\n", 503,
         "{\"detail\":\"The database is down\"}"},
        {"no host", "GET /hello HTTP/1.1\r\n\r\n", 400, "one Host header"},
        {"two hosts", "GET /hello HTTP/1.1\r\n" HOST HOST "\r\n", 400, "one Host header"},
        {"foreign host", "GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "evil.example"},
        {"host that begins right", "GET /hello HTTP/1.1\r\nHost: localhost.evil\r\n\r\n", 403, ""},
        {"address of a network", "GET /hello HTTP/1.1\r\nHost: 192.168.0.9\r\n\r\n", 403, ""},
        {"malformed host", "GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "Malformed"},
        {"malformed port", "GET /hello HTTP/1.1\r\nHost: localhost:80x\r\n\r\n", 400, "Malformed"},
        {"unclosed bracket", "GET /hello HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, "Malformed"},
        {"host with port", "GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n", 200, ""},
        {"host in capitals", "GET /hello HTTP/1.1\r\nHost: LOCALHOST.\r\n\r\n", 200, ""},
        {"ipv6 host", "GET /hello HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", 200, ""},
        {"subdomain of localhost", "GET /hello HTTP/1.1\r\nHost: a.localhost\r\n\r\n", 200, ""},
        {"listed host", "GET /hello HTTP/1.1\r\nHost: Hub.Example:1\r\n\r\n", 200, ""},
        {"listed host with port", "GET /hello HTTP/1.1\r\nHost: other.example\r\n\r\n", 200, ""},
        {"foreign origin posts",
         "POST /hello HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\nContent-Length: "
         "0\r\n\r\n",
         403, "Origin"},
        {"null origin posts",
         "POST /hello HTTP/1.1\r\n" HOST "Origin: null\r\nContent-Length: 0\r\n\r\n", 403,
         "Origin"},
        {"foreign origin gets",
         "GET /hello HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\n\r\n", 403, "Origin"},
        {"own origin posts",
         "POST /hello HTTP/1.1\r\nHost: localhost:8000\r\nOrigin: "
         "http://localhost:8000\r\nContent-Length: 0\r\n\r\n",
         200, ""},
        {"own host, other port",
         "POST /hello HTTP/1.1\r\nHost: localhost:8000\r\nOrigin: "
         "http://localhost:9000\r\nContent-Length: 0\r\n\r\n",
         403, ""},
        {"listed origin posts",
         "POST /hello HTTP/1.1\r\n" HOST
         "Origin: http://ui.example:3000\r\nContent-Length: 0\r\n\r\n",
         200, ""},
        {"broken escape", "GET /items/%zz HTTP/1.1\r\n" HOST "\r\n", 400, "percent"},
        {"escaped NUL", "GET /items/%00 HTTP/1.1\r\n" HOST "\r\n", 400, "NUL"},
        {"path not UTF-8", "GET /items/%ff HTTP/1.1\r\n" HOST "\r\n", 422, "UTF-8"},
        {"query not UTF-8", "GET /hello?q=%ff HTTP/1.1\r\n" HOST "\r\n", 422, "UTF-8"},
        {"dot segment", "GET /items/.. HTTP/1.1\r\n" HOST "\r\n", 404, ""},
        {"two lengths",
         "POST /hello HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400,
         "twice"},
        {"length and chunks",
         "POST /hello HTTP/1.1\r\n" HOST
         "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400, "twice"},
        {"unknown coding", "POST /hello HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", 400,
         "gzip"},
        {"length not a number", "POST /hello HTTP/1.1\r\n" HOST "Content-Length: x\r\n\r\n", 400,
         ""},
        {"negative length", "POST /hello HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", 400, ""},
        {"chunk not a number",
         "POST /hello HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, ""},
        {"body too large", POST_JSON("/tiny", "5") "12345", 413, "5 bytes, 4 are allowed"},
        {"chunks too large",
         "POST /tiny HTTP/1.1\r\n" HOST
         "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
         413, "4 bytes"},
        {"huge length", POST_JSON("/hello", "99999999999"), 413, "99999999999"},
        {"not a request", "hello\r\n\r\n", 0, NULL},
        {"JSON", POST_JSON("/things", "12") "{\"name\":\"x\"}", 201, "made"},
        {"JSON with charset",
         "POST /things HTTP/1.1\r\n" HOST "Content-Type: application/json; charset=utf-8\r\n"
         "Content-Length: 12\r\n\r\n{\"name\":\"x\"}",
         201, ""},
        {"JSON by another name",
         "POST /things HTTP/1.1\r\n" HOST "Content-Type: application/merge-patch+json\r\n"
         "Content-Length: 12\r\n\r\n{\"name\":\"x\"}",
         201, ""},
        {"no type", "POST /things HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", 415, ""},
        {"a form",
         "POST /things HTTP/1.1\r\n" HOST "Content-Type: application/x-www-form-urlencoded\r\n"
         "Content-Length: 3\r\n\r\na=b",
         415, "form-urlencoded"},
        {"any type where allowed",
         "POST /v1/things HTTP/1.1\r\n" HOST "Content-Length: 12\r\n\r\n{\"name\":\"x\"}", 201, ""},
        {"bad JSON", POST_JSON("/things", "2") "{x", 422, "{\"detail\":[{\"loc\":[\"body\"]"},
        {"empty body", POST_JSON("/things", "0"), 422, "detail"},
        {"JSON not UTF-8", POST_JSON("/things", "12") "{\"name\":\"\xff\"}", 422, "detail"},
        {"key twice", POST_JSON("/things", "23") "{\"name\":\"x\",\"name\":\"y\"}", 422, "detail"},
        {"unknown and missing field", POST_JSON("/things", "7") "{\"a\":1}", 422,
         "{\"detail\":[{\"loc\":[\"body\",\"name\"],\"msg\":\"Field "
         "required\",\"type\":\"missing\"}"
         ",{\"loc\":[\"body\",\"a\"]"},
        {"the same for OpenAI", POST_JSON("/v1/things", "2") "{}", 400,
         "{\"error\":{\"code\":400,\"message\":\"name: Field required\""},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct answer answer;
        int status = ask(fixture->port, rows[i].request, &answer);
        if (status != rows[i].status && !(rows[i].status == 0 && status == 400))
            fail_msg("%s: %d instead of %d: %s", rows[i].name, status, rows[i].status,
                     answer.body ? answer.body : "");
        if (rows[i].part && !strstr(answer.body, rows[i].part))
            fail_msg("%s: %s", rows[i].name, answer.body);
        answer_free(&answer);
    }
}

static char *repeat(const char *before, const char *part, size_t n, const char *after)
{
    size_t length = strlen(part);
    char *text = malloc(strlen(before) + n * length + strlen(after) + 1);
    char *at = text;

    at += snprintf(at, strlen(before) + 1, "%s", before);
    for (size_t i = 0; i < n; i++, at += length)
        memcpy(at, part, length);
    memcpy(at, after, strlen(after) + 1);
    return text;
}

static void sizes_are_limited(void **state)
{
    static const struct {
        const char *before, *part;
        size_t n;
        const char *after;
        int status;
    } rows[] = {
        {"GET /items/", "a", 9000, " HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /items/", "a", 40000, " HTTP/1.1\r\n" HOST "\r\n", 414},
        {"GET /hello?", "a=1&", 64, " HTTP/1.1\r\n" HOST "\r\n", 200},
        {"GET /hello?", "a=1&", 65, " HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /hello HTTP/1.1\r\n" HOST, "A: b\r\n", 99, "\r\n", 200},
        {"GET /hello HTTP/1.1\r\n" HOST, "A: b\r\n", 100, "\r\n", 400},
        {"GET /hello HTTP/1.1\r\n" HOST "A: ", "b", 40000, "\r\n\r\n", 431},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *text = repeat(rows[i].before, rows[i].part, rows[i].n, rows[i].after);
        print_message("%s%s × %zu\n", rows[i].before, rows[i].part, rows[i].n);
        assert_int_equal(ask(fixture->port, text, NULL), rows[i].status);
        free(text);
    }
}

/* A refused body of moderate size is read to its end, so a client that writes before it reads gets
 * its answer and keeps its connection. */
static void refused_bodies_are_read(void **state)
{
    struct fixture *fixture = *state;
    char *body = repeat("", "x", 1 << 20, "");
    struct client client;
    struct answer answer;

    client_open(&client, fixture->port);
    for (int i = 0; i < 2; i++) {
        client_send(&client, POST_JSON("/hello", "1048576"));
        client_send(&client, body);
        client_read(&client, &answer, false);
        assert_int_equal(answer.status, 413);
        answer_free(&answer);
    }
    client_send(&client, "POST /hello HTTP/1.1\r\n" HOST
                         "Content-Length: 1048576\r\nExpect: 100-continue\r\n\r\n");
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 413);
    assert_true(client_ended(&client));
    answer_free(&answer);
    client_close(&client);
    free(body);
}

static void head_and_options(void **state)
{
    struct fixture *fixture = *state;
    struct answer answer;
    char value[256];

    assert_int_equal(ask(fixture->port, "HEAD /hello HTTP/1.1\r\n" HOST "\r\n", &answer), 200);
    assert_true(head_value(answer.head, "Content-Length", value));
    assert_string_equal(value, "46");
    answer_free(&answer);
    assert_int_equal(ask(fixture->port, "OPTIONS /hello HTTP/1.1\r\n" HOST "\r\n", &answer), 204);
    assert_true(head_value(answer.head, "Allow", value));
    assert_string_equal(value, "GET, HEAD, POST, OPTIONS");
    assert_false(head_value(answer.head, "Access-Control-Allow-Methods", value));
    answer_free(&answer);
    assert_int_equal(ask(fixture->port, "PATCH /things HTTP/1.1\r\n" HOST "\r\n", &answer), 405);
    assert_true(head_value(answer.head, "Allow", value));
    assert_string_equal(value, "POST, OPTIONS");
    answer_free(&answer);
    assert_int_equal(ask(fixture->port,
                         "OPTIONS /hello HTTP/1.1\r\n" HOST "Origin: http://ui.example:3000\r\n"
                         "Access-Control-Request-Headers: content-type\r\n\r\n",
                         &answer),
                     204);
    assert_true(head_value(answer.head, "Access-Control-Allow-Origin", value));
    assert_string_equal(value, "http://ui.example:3000");
    assert_true(head_value(answer.head, "Access-Control-Allow-Headers", value));
    assert_string_equal(value, "content-type");
    answer_free(&answer);
}

static void answers_carry_their_headers(void **state)
{
    struct fixture *fixture = *state;
    struct answer answer;
    char value[256];

    ask(fixture->port, "GET /hello HTTP/1.1\r\n" HOST "X-Request-ID: abc-1.2_3\r\n\r\n", &answer);
    assert_true(head_value(answer.head, "X-Request-ID", value));
    assert_string_equal(value, "abc-1.2_3");
    assert_true(head_value(answer.head, "X-Content-Type-Options", value));
    assert_true(head_value(answer.head, "Content-Security-Policy", value));
    assert_true(head_value(answer.head, "Cache-Control", value));
    assert_string_equal(value, "no-store");
    assert_false(head_value(answer.head, "Access-Control-Allow-Origin", value));
    answer_free(&answer);
    ask(fixture->port, "GET /nothing HTTP/1.1\r\n" HOST "X-Request-ID: <script>\r\n\r\n", &answer);
    assert_true(head_value(answer.head, "X-Request-ID", value));
    assert_int_equal(strlen(value), 36);
    answer_free(&answer);
    assert_int_equal(ask(fixture->port, "GET /headers HTTP/1.1\r\n" HOST "\r\n", &answer), 204);
    assert_true(head_value(answer.head, "Cache-Control", value));
    assert_string_equal(value, "max-age=60");
    assert_false(head_value(answer.head, "X-Bad", value));
    assert_false(head_value(answer.head, "Content-Type", value));
    answer_free(&answer);
    assert_int_equal(ask(fixture->port, "GET /broken HTTP/1.1\r\n" HOST "\r\n", &answer), 503);
    assert_true(head_value(answer.head, "Retry-After", value));
    answer_free(&answer);
}

static void connections_are_kept(void **state)
{
    struct fixture *fixture = *state;
    struct client client;
    struct answer answer;

    client_open(&client, fixture->port);
    for (int i = 0; i < SEQUENTIAL; i++) {
        client_send(&client, i % 2 ? "GET /hello HTTP/1.1\r\n" HOST "\r\n"
                                   : POST_JSON("/hello", "4") "\"ab\"");
        client_read(&client, &answer, false);
        assert_int_equal(answer.status, 200);
        answer_free(&answer);
    }
    client_send(&client, "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    assert_true(client_ended(&client));
    answer_free(&answer);
    client_close(&client);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct fixture *fixture = *state;
    struct client client;
    struct answer answer;

    client_open(&client, fixture->port);
    client_send(&client,
                "GET /items/1 HTTP/1.1\r\n" HOST
                "\r\n" POST_JSON("/hello", "3") "two"
                                                "GET /nothing HTTP/1.1\r\n" HOST
                                                "\r\nGET /items/4 HTTP/1.1\r\n" HOST "\r\n");
    for (int i = 0; i < 4; i++) {
        static const char *const parts[] = {"\"id\":\"1\"", "\"two\"", "Not Found", "\"id\":\"4\""};
        client_read(&client, &answer, false);
        assert_non_null(answer.body);
        assert_non_null(strstr(answer.body, parts[i]));
        answer_free(&answer);
    }
    client_close(&client);
}

static void bytes_may_come_one_by_one(void **state)
{
    static const char text[] = POST_JSON("/hello", "3") "abc";
    struct fixture *fixture = *state;
    struct client client;
    struct answer answer;

    client_open(&client, fixture->port);
    for (size_t i = 0; i + 1 < sizeof(text); i++)
        assert_true(client_write(&client, text + i, 1));
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    answer_free(&answer);
    client_close(&client);
}

static void *ask_many(void *arg)
{
    int port = *(int *)arg;
    int good = 0;

    for (int i = 0; i < REQUESTS; i++) {
        struct answer answer;
        char text[256], want[64];
        snprintf(text, sizeof(text), "GET /items/%d HTTP/1.1\r\n" HOST "\r\n", i);
        snprintf(want, sizeof(want), "\"id\":\"%d\"", i);
        good += ask(port, text, &answer) == 200 && strstr(answer.body, want);
        answer_free(&answer);
    }
    return (void *)(intptr_t)good;
}

static void threads_get_their_own_answers(void **state)
{
    struct fixture *fixture = *state;
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_many, &fixture->port), 0);
    for (int i = 0; i < THREADS; i++) {
        void *good;
        pthread_join(threads[i], &good);
        assert_int_equal((intptr_t)good, REQUESTS);
    }
}

static void requests_are_counted(void **state)
{
    static const char *const labels[] = {"GET", "/counted/{id}", "200"};
    static const char *const unmatched[] = {"other", "unmatched", "404"};
    struct fixture *fixture = *state;
    struct metric *metric = metric_with(METRIC_HTTP_REQUESTS, labels);
    struct client client;
    struct answer answer;

    /* The second answer on a connection means that the first exchange is over. */
    client_open(&client, fixture->port);
    client_send(&client, "GET /counted/1 HTTP/1.1\r\n" HOST "\r\nFLY /away HTTP/1.1\r\n" HOST
                         "\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n");
    for (int i = 0; i < 3; i++) {
        client_read(&client, &answer, false);
        answer_free(&answer);
    }
    client_close(&client);
    assert_true(metric_value(metric) == 1);
    assert_true(metric_value(metric_with(METRIC_HTTP_REQUESTS, unmatched)) >= 1);
    assert_true(metric_value(metric_with(METRIC_HTTP_REQUEST_DURATION, labels)) == 1);
}

/* --- servers of other kinds --- */

static void keys_are_asked_for(void **state)
{
    static const struct {
        const char *path, *header;
        int status;
    } rows[] = {
        {"GET /hello", "", 401},
        {"GET /hello", "Authorization: Bearer wrong\r\n", 401},
        {"GET /hello", "Authorization: Basic c2VjcmV0\r\n", 401},
        {"GET /hello", "Authorization: Bearer secre\r\n", 401},
        {"GET /hello", "Authorization: Bearer secret\r\n", 200},
        {"GET /hello", "authorization: bearer secret\r\n", 200},
        {"GET /hello", "X-Api-Key: secret\r\n", 200},
        {"GET /nothing", "", 401},
        {"GET /nothing", "X-Api-Key: secret\r\n", 404},
        {"GET /health", "", 200},
        {"OPTIONS /hello", "", 204},
        {"POST /hello", "Content-Length: 99999999\r\n", 401},
        {"POST /hello", "X-Api-Key: secret\r\nContent-Length: 99999999\r\n", 413},
    };
    struct fixture fixture;

    (void)state;
    fixture_init(&fixture);
    fixture.options.api_key = "secret";
    fixture.options.max_body_bytes = BODY_MAX;
    fixture_start(&fixture, routes, ROUTES, NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text), "%s HTTP/1.1\r\n" HOST "%s\r\n", rows[i].path, rows[i].header);
        print_message("%s %s\n", rows[i].path, rows[i].header);
        assert_int_equal(ask(fixture.port, text, NULL), rows[i].status);
    }
    fixture_end(&fixture);
}

static int check_key(void *ctx, const char *key, struct http_request *request, struct err *err)
{
    request->principal = ctx;
    if (!key)
        return err_set(err, ERR_UNAUTHORIZED, "A key is needed");
    if (strcmp(key, "admin") != 0)
        return err_set(err, ERR_FORBIDDEN, "Not yours");
    return 0;
}

static void a_hook_may_check_keys(void **state)
{
    struct fixture fixture;
    struct answer answer;
    char value[256];

    (void)state;
    fixture_init(&fixture);
    fixture.options.check_key = check_key;
    fixture.options.host = "0.0.0.0";
    fixture_start(&fixture, routes, ROUTES, NULL);
    assert_int_equal(ask(fixture.port, "GET /hello HTTP/1.1\r\n" HOST "\r\n", &answer), 401);
    assert_true(head_value(answer.head, "WWW-Authenticate", value));
    answer_free(&answer);
    assert_int_equal(ask(fixture.port, "GET /x HTTP/1.1\r\n" HOST "X-Api-Key: a\r\n\r\n", NULL),
                     403);
    assert_int_equal(
        ask(fixture.port, "GET /hello HTTP/1.1\r\n" HOST "X-Api-Key: admin\r\n\r\n", NULL), 200);
    assert_int_equal(ask(fixture.port, "GET /health HTTP/1.1\r\nHost: 10.0.0.7:80\r\n\r\n", NULL),
                     200);
    assert_int_equal(ask(fixture.port, "GET /health HTTP/1.1\r\nHost: name\r\n\r\n", NULL), 403);
    fixture_end(&fixture);
}

static void late_clients_are_dropped(void **state)
{
    static const char *const beginnings[] = {
        "",
        "GET /hel",
        "GET /hello HTTP/1.1\r\n" HOST,
        "POST /hello HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\na",
        "POST /hello HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\n",
    };
    struct fixture fixture;
    struct client client;
    struct answer answer;

    (void)state;
    fixture_init(&fixture);
    fixture.options.header_timeout_ms = 40;
    fixture.options.body_timeout_ms = 40;
    fixture_start(&fixture, routes, ROUTES, NULL);
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        client_open(&client, fixture.port);
        client_send(&client, beginnings[i]);
        assert_true(client_ended(&client));
        client_close(&client);
    }
    fixture_end(&fixture);

    fixture_init(&fixture);
    fixture.options.idle_timeout_ms = 40;
    fixture_start(&fixture, routes, ROUTES, NULL);
    client_open(&client, fixture.port);
    client_send(&client, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    assert_true(client_ended(&client));
    answer_free(&answer);
    client_close(&client);
    fixture_end(&fixture);
}

static void connections_are_limited(void **state)
{
    struct fixture fixture;
    struct client first, second;
    struct answer answer;

    (void)state;
    fixture_init(&fixture);
    fixture.options.max_connections = 1;
    fixture_start(&fixture, routes, ROUTES, NULL);
    client_open(&first, fixture.port);
    client_send(&first, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    client_read(&first, &answer, false);
    assert_int_equal(answer.status, 200);
    answer_free(&answer);
    client_open(&second, fixture.port); /* waits in the backlog */
    client_send(&second, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(recv(second.fd, second.data, 1, MSG_DONTWAIT), -1);
    client_close(&first);
    client_read(&second, &answer, false);
    assert_int_equal(answer.status, 200);
    answer_free(&answer);
    client_close(&second);
    fixture_end(&fixture);
}

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n; /* that sit */
    bool up;
} sitting = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false};

static int sit(void *ctx, struct http_request *request, struct http_response *response,
               struct err *err)
{
    (void)ctx;
    (void)request;
    pthread_mutex_lock(&sitting.lock);
    sitting.n++;
    pthread_cond_broadcast(&sitting.changed);
    while (!sitting.up)
        pthread_cond_wait(&sitting.changed, &sitting.lock);
    pthread_mutex_unlock(&sitting.lock);
    return http_reply_text(response, 200, "text/plain", "up", err);
}

/* More requests wait than there are threads for them, and one thread for all others. */
static void who_waits_holds_nobody_up(void **state)
{
    static const struct http_route both[] = {
        {.method = "GET", .pattern = "/sit", .handler = sit, .flags = HTTP_SLOW},
        {.method = "GET", .pattern = "/hello", .handler = hello},
    };
    enum { SITTERS = 5, SEATS = 2 };
    struct fixture fixture;
    struct client sitters[SITTERS], client;
    struct answer answer;

    (void)state;
    fixture_init(&fixture);
    fixture.options.n_workers = 1;
    fixture.options.n_slow_workers = SEATS;
    fixture_start(&fixture, both, 2, NULL);
    for (int i = 0; i < SITTERS; i++) {
        client_open(&sitters[i], fixture.port);
        client_send(&sitters[i], "GET /sit HTTP/1.1\r\n" HOST "\r\n");
    }
    pthread_mutex_lock(&sitting.lock);
    while (sitting.n < SEATS)
        pthread_cond_wait(&sitting.changed, &sitting.lock);
    pthread_mutex_unlock(&sitting.lock);
    client_open(&client, fixture.port);
    client_send(&client, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    answer_free(&answer);
    client_close(&client);
    pthread_mutex_lock(&sitting.lock);
    sitting.up = true;
    pthread_cond_broadcast(&sitting.changed);
    pthread_mutex_unlock(&sitting.lock);
    for (int i = 0; i < SITTERS; i++) {
        client_read(&sitters[i], &answer, false);
        assert_int_equal(answer.status, 200);
        answer_free(&answer);
        client_close(&sitters[i]);
    }
    fixture_end(&fixture);
}

static void several_event_threads_serve(void **state)
{
    struct fixture fixture;

    fixture_init(&fixture);
    fixture.options.n_event_threads = 2;
    fixture_start(&fixture, routes, ROUTES, NULL);
    *state = &fixture;
    threads_get_their_own_answers(state);
    fixture_end(&fixture);
}

static void bad_options_are_refused(void **state)
{
    struct fixture fixture;
    struct http_server *server;
    struct err err = {0};
    struct {
        struct http_server_options options;
        enum err_code code;
    } rows[16];
    size_t n = 0;

    (void)state;
#define ROW(change, want)                                                                          \
    do {                                                                                           \
        http_server_options_default(&rows[n].options);                                             \
        rows[n].options.change;                                                                    \
        rows[n++].code = want;                                                                     \
    } while (0)
    ROW(port = 65536, ERR_INVALID);
    ROW(port = -1, ERR_INVALID);
    ROW(max_connections = 0, ERR_INVALID);
    ROW(max_body_bytes = 0, ERR_INVALID);
    ROW(n_workers = 0, ERR_INVALID);
    ROW(n_slow_workers = 0, ERR_INVALID);
    ROW(n_event_threads = 1000, ERR_INVALID);
    ROW(header_timeout_ms = 0, ERR_INVALID);
    ROW(host = "", ERR_INVALID);
    ROW(host = "0.0.0.0", ERR_FORBIDDEN);
    ROW(host = "::", ERR_FORBIDDEN);
    ROW(allowed_hosts = "a b", ERR_INVALID);
    ROW(allowed_origins = "http://a, <b>", ERR_INVALID);
    fixture_init(&fixture);
    assert_ok(http_router_new(&fixture.router, &err), &err);
    for (size_t i = 0; i < n; i++)
        assert_err(http_server_new(&server, &rows[i].options, fixture.router, &err), &err,
                   rows[i].code);
    http_router_free(fixture.router);
}

static void a_taken_port_is_a_conflict(void **state)
{
    struct fixture *fixture = *state;
    struct http_server_options options;
    struct http_server *server;
    struct err err = {0};

    http_server_options_default(&options);
    options.port = fixture->port;
    assert_ok(http_server_new(&server, &options, fixture->router, &err), &err);
    assert_err(http_server_start(server, &err), &err, ERR_CONFLICT);
    http_server_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_get_their_status),
        cmocka_unit_test(sizes_are_limited),
        cmocka_unit_test(refused_bodies_are_read),
        cmocka_unit_test(head_and_options),
        cmocka_unit_test(answers_carry_their_headers),
        cmocka_unit_test(connections_are_kept),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(bytes_may_come_one_by_one),
        cmocka_unit_test(threads_get_their_own_answers),
        cmocka_unit_test(requests_are_counted),
        cmocka_unit_test(a_taken_port_is_a_conflict),
    };
    const struct CMUnitTest own_servers[] = {
        cmocka_unit_test(keys_are_asked_for),       cmocka_unit_test(a_hook_may_check_keys),
        cmocka_unit_test(late_clients_are_dropped), cmocka_unit_test(who_waits_holds_nobody_up),
        cmocka_unit_test(connections_are_limited),  cmocka_unit_test(several_event_threads_serve),
        cmocka_unit_test(bad_options_are_refused),
    };
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    return failed + cmocka_run_group_tests(own_servers, NULL, NULL);
}
