/* The Nth allocation fails, for every N, while a request is served: each time the client gets an
 * answer or a closed connection, and the server goes on.
 */
#include "http/client.h"

enum { WAIT_MS = 60000, FAULTS_MAX = 1000 };

static const struct http_field fields[] = {
    {.name = "name", .kind = HTTP_STRING, .flags = HTTP_REQUIRED},
};

static int create(void *ctx, struct http_request *request, struct http_response *response,
                  struct err *err)
{
    struct http_issues issues;
    const json_t *body;
    struct json_out out;
    int rc = http_request_json(request, &body, err);

    (void)ctx;
    if (rc != 0)
        return rc;
    http_issues_init(&issues);
    http_validate(body, fields, 1, false, &issues);
    if (issues.count > 0)
        return http_issues_reply(&issues, request, response, err);
    http_issues_release(&issues);
    rc = http_response_header(response, "Location", "/things/1", err);
    if (rc != 0)
        return rc;
    http_json(response, &out);
    json_out_tree(&out, body);
    return http_reply_json(response, 201, err);
}

static int stream(void *ctx, struct http_request *request, struct http_response *response,
                  struct err *err)
{
    struct http_stream *to;
    int rc = http_stream_open(request, response, &to, err);

    (void)ctx;
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = http_stream_event(to, "token", "{}", WAIT_MS, err);
    if (rc == 0)
        http_stream_end(to);
    return rc;
}

static int upload(void *ctx, struct http_request *request, struct http_response *response,
                  struct err *err)
{
    char bytes[64];
    size_t got;
    int rc;

    (void)ctx;
    do
        rc = http_request_read(request, bytes, sizeof(bytes), &got, err);
    while (rc == 0 && got > 0);
    return rc != 0 ? rc : http_reply_empty(response, 204, err);
}

static int file(void *ctx, struct http_request *request, struct http_response *response,
                struct err *err)
{
    (void)ctx;
    return http_reply_file(request, response, "tests/http/test_fault.c", "text/plain", "a b", err);
}

static const struct http_route routes[] = {
    {.method = "POST", .pattern = "/things/{id...}", .handler = create},
    {.method = "GET", .pattern = "/stream", .handler = stream},
    {.method = "POST", .pattern = "/upload", .handler = upload, .flags = HTTP_UPLOAD},
    {.method = "GET", .pattern = "/file", .handler = file},
};

enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

/* Serves one request with the nth allocation failing; false when no allocation failed. */
static bool try_fault(struct fixture *fixture, const char *request, int good, uint64_t n)
{
    struct answer answer;
    bool fired;
    int status;

    fault_arm(FAULT_MALLOC, n, false);
    status = ask(fixture->port, request, &answer);
    fired = fault_fired();
    fault_disarm();
    /* 200 with a fault: a stream that was cut after its head, or memory that could be done without
     */
    if (status != good && status != 503 && status != 500 && status != 0)
        fail_msg("allocation %d: %d %s", (int)n, status, answer.body ? answer.body : "");
    if (!fired)
        assert_int_equal(status, good);
    answer_free(&answer);
    assert_int_equal(ask(fixture->port, request, NULL), good);
    return fired;
}

static void requests_survive_lack_of_memory(void **state)
{
    static const struct {
        const char *request;
        int status;
    } rows[] = {
        {"POST /things/a%20b/c?x=1&y=2 HTTP/1.1\r\n" HOST
         "Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"name\":\"x\"}",
         201},
        {"POST /things/a HTTP/1.1\r\n" HOST
         "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
         422},
        {"GET /nothing HTTP/1.1\r\n" HOST "\r\n", 404},
        {"GET /stream HTTP/1.1\r\n" HOST "\r\n", 200},
        {"POST /upload HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 204},
        {"GET /file HTTP/1.1\r\n" HOST "Range: bytes=0-99\r\n\r\n", 206},
    };
    struct fixture fixture;

    (void)state;
    fixture_init(&fixture);
    fixture_start(&fixture, routes, ROUTES, NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t n = 1;
        assert_int_equal(ask(fixture.port, rows[i].request, NULL), rows[i].status);
        while (n < FAULTS_MAX && try_fault(&fixture, rows[i].request, rows[i].status, n))
            n++;
        print_message("%s: %d allocations\n", routes[i % ROUTES].pattern, (int)n - 1);
        assert_true(n > 1 && n < FAULTS_MAX);
    }
    fixture_end(&fixture);
}

static void starting_survives_lack_of_memory(void **state)
{
    bool fired = true;

    (void)state;
    for (uint64_t n = 1; fired; n++) {
        struct http_router *router = NULL;
        struct http_server *server = NULL;
        struct http_server_options options;
        struct err err = {0};
        int rc;

        http_server_options_default(&options);
        options.port = 0;
        fault_arm(FAULT_MALLOC, n, false);
        rc = http_router_new(&router, &err);
        if (rc == 0)
            rc = http_router_add(router, routes, ROUTES, NULL, &err);
        if (rc == 0)
            rc = http_server_new(&server, &options, router, &err);
        if (rc == 0)
            rc = http_server_start(server, &err);
        fired = fault_fired();
        fault_disarm();
        assert_int_equal(rc, fired ? -ERR_NOMEM : 0);
        http_server_free(server);
        http_router_free(router);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_survive_lack_of_memory),
        cmocka_unit_test(starting_survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
