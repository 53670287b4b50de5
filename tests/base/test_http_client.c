/* The HTTP client against a server of a few lines on a loopback socket, one scripted answer each.
 */
#include "test.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/http_client.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* the client here never leaves before its answer is whole */
#endif

enum { SEEN_BYTES_MAX = 65536 };

/* Answers `answers` connections or requests in turn, then closes. */
struct server {
    int listener;
    int port;
    const char *answer; /* sent once a whole request has come */
    bool keep_open;     /* does not close after the answer until the client does */
    char seen[SEEN_BYTES_MAX];
    pthread_t thread;
};

static size_t body_length(const char *head)
{
    const char *at = strcasestr(head, "content-length:");
    return at ? strtoul(at + 15, NULL, 10) : 0;
}

static void read_request(struct server *server, int fd)
{
    size_t n = 0;
    for (;;) {
        ssize_t got = recv(fd, server->seen + n, sizeof server->seen - 1 - n, 0);
        if (got <= 0)
            return;
        n += (size_t)got;
        server->seen[n] = '\0';
        const char *end = strstr(server->seen, "\r\n\r\n");
        if (end && n >= (size_t)(end + 4 - server->seen) + body_length(server->seen))
            return;
    }
}

static void *serve_one(void *arg)
{
    struct server *server = arg;
    char drop[256];
    int fd = accept(server->listener, NULL, NULL);
    if (fd < 0)
        return NULL;
    read_request(server, fd);
    size_t length = strlen(server->answer);
    for (size_t at = 0; at < length;) {
        ssize_t put = send(fd, server->answer + at, length - at, MSG_NOSIGNAL);
        if (put <= 0)
            break;
        at += (size_t)put;
    }
    while (server->keep_open && recv(fd, drop, sizeof drop, 0) > 0) {
    }
    close(fd);
    return NULL;
}

static void server_start(struct server *server, const char *answer)
{
    memset(server, 0, sizeof *server);
    server->answer = answer;
    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server->listener, 4), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &length), 0);
    server->port = ntohs(address.sin_port);
}

static void server_run(struct server *server)
{
    assert_int_equal(pthread_create(&server->thread, NULL, serve_one, server), 0);
}

static void server_stop(struct server *server)
{
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
}

/* One request against one answer; the caller releases the response. */
static int exchange(struct server *server, const char *answer, struct http_request *request,
                    struct http_response *response, struct err *err)
{
    struct http_client *client = NULL;
    char url[128];
    bool keep_open = server->keep_open;
    server_start(server, answer);
    server->keep_open = keep_open;
    server_run(server);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/path?q=1", server->port);
    request->url = url;
    http_response_init(response);
    int rc = http_client_new(&client, err);
    if (rc == 0)
        rc = http_request(client, request, response, err);
    http_client_free(client);
    server_stop(server);
    request->url = "http://server";
    return rc;
}

static const char OK_ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Thing:  value \r\n"
                                "Content-Type: application/json\r\n\r\n{\"ok\":true}";

static void test_methods_bodies_and_headers(void **state)
{
    (void)state;
    static const char *const METHODS[] = {"GET", "POST", "PATCH", "DELETE", "PUT"};
    static const char *const HEADERS[] = {"X-One: 1", NULL};
    static struct server server;
    for (size_t i = 0; i < sizeof METHODS / sizeof *METHODS; i++) {
        struct err err = {0};
        struct http_response response;
        bool has_body = i > 0;
        struct http_request request = {.method = METHODS[i],
                                       .headers = HEADERS,
                                       .bearer = "secret",
                                       .json = has_body ? "{\"a\":1}" : NULL};
        assert_ok(exchange(&server, OK_ANSWER, &request, &response, &err), &err);
        assert_int_equal(response.status, 200);
        assert_string_equal(response.body.data, "{\"ok\":true}");
        char value[32];
        assert_true(http_response_find_header(&response, "x-thing", value, sizeof value));
        assert_string_equal(value, "value");
        assert_false(http_response_find_header(&response, "x-thin", value, sizeof value));
        assert_false(http_response_find_header(&response, "content-type", value, 5));
        assert_ok(http_response_check(&response, "u", &err), &err);
        char first[64];
        snprintf(first, sizeof first, "%s /path?q=1 HTTP/1.1\r\n", METHODS[i]);
        assert_true(strncmp(server.seen, first, strlen(first)) == 0);
        assert_non_null(strstr(server.seen, "X-One: 1\r\n"));
        assert_non_null(strstr(server.seen, "Authorization: Bearer secret\r\n"));
        assert_true(!!strstr(server.seen, "{\"a\":1}") == has_body);
        assert_true(!!strstr(server.seen, "Content-Type: application/json") == has_body);
        http_response_release(&response);
    }
}

static void test_error_bodies_become_errors(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        enum err_code code;
        const char *says;
    } ROWS[] = {
        {"HTTP/1.1 404 Not Found\r\nContent-Length: 32\r\n\r\n{\"error\":{\"message\":\"no "
         "model\"}} ",
         ERR_NOT_FOUND, "no model"},
        {"HTTP/1.1 409 C\r\nContent-Length: 16\r\n\r\n{\"error\":\"busy\"}", ERR_CONFLICT, "busy"},
        {"HTTP/1.1 422 U\r\nContent-Length: 16\r\n\r\n{\"detail\":\"bad\"}", ERR_UNPROCESSABLE,
         "bad"},
        {"HTTP/1.1 422 U\r\nContent-Length: 112\r\n\r\n"
         "{\"detail\":[{\"loc\":[\"body\",\"name\"],\"msg\":\"Field "
         "required\"},{\"loc\":[\"body\",\"config\"],\"msg\":\"config.seed is odd\"}]}",
         ERR_UNPROCESSABLE, "name: Field required; config.seed is odd"},
        {"HTTP/1.1 400 B\r\nContent-Length: 20\r\n\r\n{\"message\":\"message\"}", ERR_INVALID,
         "message"},
        {"HTTP/1.1 502 B\r\nContent-Length: 5\r\n\r\n<a/>\n", ERR_UNAVAILABLE,
         "http://server answered 502: <a/>"},
        {"HTTP/1.1 418 T\r\nContent-Length: 0\r\n\r\n", ERR_INVALID, "answered 418"},
    };
    static struct server server;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct err err = {0};
        struct http_response response;
        struct http_request request = {0};
        assert_ok(exchange(&server, ROWS[i].answer, &request, &response, &err), &err);
        int rc = http_response_check(&response, request.url, &err);
        if (rc != -(int)ROWS[i].code || !strstr(err.message, ROWS[i].says))
            fail_msg("row %zu: %d %s", i, rc, err.message);
        http_response_release(&response);
    }
}

struct lines {
    char text[256];
    int n;
    int stop_after;
};

static int collect_line(void *ctx, const char *line, size_t n, struct err *err)
{
    struct lines *lines = ctx;
    assert_int_equal(strlen(line), n);
    const size_t used = strlen(lines->text);
    snprintf(lines->text + used, sizeof lines->text - used, "%s|", line);
    if (++lines->n == lines->stop_after)
        return err_set(err, ERR_CANCELLED, "enough");
    return 0;
}

static void test_streams_come_as_lines(void **state)
{
    (void)state;
    static const char ANSWER[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                 "8\r\ndata: a\n\r\n5\r\n\ndata\r\n6\r\n: b\r\nx\r\n0\r\n\r\n";
    static struct server server;
    struct err err = {0};
    struct lines lines = {0};
    struct http_response response;
    struct http_request request = {.on_line = collect_line, .ctx = &lines};
    assert_ok(exchange(&server, ANSWER, &request, &response, &err), &err);
    assert_string_equal(lines.text, "data: a||data: b|x|");
    assert_int_equal(response.body.len, 0);
    http_response_release(&response);

    lines = (struct lines){.stop_after = 2};
    assert_err(exchange(&server, ANSWER, &request, &response, &err), &err, ERR_CANCELLED);
    assert_string_equal(lines.text, "data: a||");
    http_response_release(&response);

    /* a refused stream keeps its body for the message */
    lines = (struct lines){0};
    assert_ok(exchange(&server, "HTTP/1.1 429 B\r\nContent-Length: 16\r\n\r\n{\"error\":\"slow\"}",
                       &request, &response, &err),
              &err);
    assert_int_equal(lines.n, 0);
    assert_err(http_response_check(&response, "u", &err), &err, ERR_BUSY);
    http_response_release(&response);
}

/* Nothing comes, and still the caller can end it. */
static int no_longer(void *ctx, struct err *err)
{
    int *asked = ctx;
    return ++*asked < 3 ? 0 : err_set(err, ERR_CLOSED, "no longer");
}

static void test_failures_have_their_own_codes(void **state)
{
    (void)state;
    static struct server server;
    static const atomic_bool cancelled = true;
    struct err err = {0};
    struct http_response response;
    struct http_request small = {.response_bytes_max = 5};
    assert_err(exchange(&server, OK_ANSWER, &small, &response, &err), &err, ERR_TOO_LARGE);
    http_response_release(&response);
    struct http_request plain = {0};
    assert_err(exchange(&server, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", &plain,
                        &response, &err),
               &err, ERR_CLOSED);
    http_response_release(&response);
    assert_err(exchange(&server, "", &plain, &response, &err), &err, ERR_CLOSED);
    http_response_release(&response);
    struct http_request cancel = {.cancel = &cancelled};
    assert_err(exchange(&server, OK_ANSWER, &cancel, &response, &err), &err, ERR_CANCELLED);
    http_response_release(&response);
    struct http_request hurried = {.timeout_ms = 50};
    int asked = 0;
    struct http_request waiting = {.on_wait = no_longer, .ctx = &asked};
    server.keep_open = true;
    assert_err(exchange(&server, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", &waiting,
                        &response, &err),
               &err, ERR_CLOSED);
    assert_int_equal(asked, 3);
    http_response_release(&response);
    assert_err(exchange(&server, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", &hurried,
                        &response, &err),
               &err, ERR_TIMEOUT);
    http_response_release(&response);
}

static void test_addresses_that_lead_nowhere(void **state)
{
    (void)state;
    static struct server server;
    struct err err = {0};
    struct http_client *client = NULL;
    struct http_response response;
    char url[64];
    server_start(&server, "");
    close(server.listener); /* its port has no listener now */
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", server.port);
    http_response_init(&response);
    assert_ok(http_client_new(&client, &err), &err);
    struct http_request request = {.url = url};
    int rc = http_request(client, &request, &response, &err);
    assert_int_equal(rc, -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "cannot connect to http://127.0.0.1:"));
    err_clear(&err);
    static const char *const BAD[] = {"file:///etc/passwd", "ftp://127.0.0.1/", "http://", ""};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        request.url = BAD[i];
        rc = http_request(client, &request, &response, &err);
        if (rc != -ERR_INVALID)
            fail_msg("%s: %d %s", BAD[i], rc, err.message);
        err_clear(&err);
    }
    static const char *const FORGED[] = {"X: a\r\nY: b", NULL};
    request = (struct http_request){.url = url, .headers = FORGED};
    assert_err(http_request(client, &request, &response, &err), &err, ERR_INVALID);
    request = (struct http_request){.url = url, .bearer = "a\nb"};
    assert_err(http_request(client, &request, &response, &err), &err, ERR_INVALID);
    http_response_release(&response);
    http_client_free(client);
}

static void test_request_survives_failed_allocations(void **state)
{
    (void)state;
    static struct server server;
    struct http_client *client = NULL;
    struct err first = {0};
    assert_ok(http_client_new(&client, &first), &first); /* what curl keeps for ever is made */
    http_client_free(client);
    size_t before = mem_used();
    for (uint64_t n = 1;; n++) {
        struct err err = {0};
        struct http_response response;
        struct http_request request = {.json = "{}", .bearer = "k"};
        fault_arm(FAULT_MALLOC, n, false);
        int rc = exchange(&server, OK_ANSWER, &request, &response, &err);
        fault_disarm();
        bool fired = fault_fired();
        http_response_release(&response);
        assert_true(mem_used() == before);
        if (!fired) {
            assert_int_equal(rc, 0);
            break;
        }
        /* curl does without some of its memory; then the answer must be right */
        assert_true(rc != 0 || response.status == 200);
    }
}

static void test_escape(void **state)
{
    (void)state;
    struct err err = {0};
    char out[32];
    assert_ok(http_escape("a b/\xC3\xA9~1", out, sizeof out, &err), &err);
    assert_string_equal(out, "a%20b%2F%C3%A9~1");
    assert_err(http_escape("////", out, 12, &err), &err, ERR_TOO_LARGE);
    assert_ok(http_escape("////", out, 13, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_bodies_and_headers),
        cmocka_unit_test(test_error_bodies_become_errors),
        cmocka_unit_test(test_streams_come_as_lines),
        cmocka_unit_test(test_failures_have_their_own_codes),
        cmocka_unit_test(test_addresses_that_lead_nowhere),
        cmocka_unit_test(test_request_survives_failed_allocations),
        cmocka_unit_test(test_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
