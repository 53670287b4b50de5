/* Stopping with work of every kind in flight, and streams that outlive their server. */
#include "http/client.h"

enum { WAIT_MS = 60000, ASKS_MAX = 100000, ROUNDS = 20 };

struct shared {
    struct gate opened, go, closed;
    struct http_stream *stream;
    struct http_request *request;
    int rc;
};

static struct shared shared = {.opened = GATE, .go = GATE, .closed = GATE};

static void tell_closed(void *ctx)
{
    gate_open(&((struct shared *)ctx)->closed);
}

static int open_stream(void *ctx, struct http_request *request, struct http_response *response,
                       struct err *err)
{
    struct shared *at = ctx;
    int rc = http_stream_open(request, response, &at->stream, err);

    if (rc != 0)
        return rc;
    http_stream_on_close(at->stream, tell_closed, at);
    gate_open(&at->opened);
    return 0;
}

static int defer(void *ctx, struct http_request *request, struct http_response *response,
                 struct err *err)
{
    struct shared *at = ctx;

    (void)response;
    (void)err;
    http_request_on_close(request, tell_closed, at);
    at->request = request;
    http_request_defer(request);
    gate_open(&at->opened);
    return 0;
}

static int wait_go(void *ctx, struct http_request *request, struct http_response *response,
                   struct err *err)
{
    struct shared *at = ctx;

    (void)request;
    gate_open(&at->opened);
    gate_wait(&at->go);
    return http_reply_text(response, 200, "text/plain", "done", err);
}

static int upload(void *ctx, struct http_request *request, struct http_response *response,
                  struct err *err)
{
    struct shared *at = ctx;
    char bytes[16];
    size_t got;

    (void)response;
    do {
        at->rc = http_request_read(request, bytes, sizeof(bytes), &got, err);
        gate_open(&at->opened);
    } while (at->rc == 0 && got > 0);
    return at->rc;
}

static int64_t endless(void *ctx, char *bytes, size_t n)
{
    (void)ctx;
    memset(bytes, 'x', n);
    return (int64_t)n;
}

static void release(void *ctx)
{
    gate_open(&((struct shared *)ctx)->closed);
}

static int source(void *ctx, struct http_request *request, struct http_response *response,
                  struct err *err)
{
    gate_open(&((struct shared *)ctx)->opened);
    return http_reply_source(request, response, -1, endless, release, ctx, err);
}

static const struct http_route routes[] = {
    {.method = "GET", .pattern = "/stream", .handler = open_stream},
    {.method = "GET", .pattern = "/defer", .handler = defer},
    {.method = "GET", .pattern = "/wait", .handler = wait_go},
    {.method = "POST", .pattern = "/upload", .handler = upload, .flags = HTTP_UPLOAD},
    {.method = "GET", .pattern = "/source", .handler = source},
};

enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

static int setup(void **state)
{
    static struct fixture fixture;

    shared.opened.open = shared.go.open = shared.closed.open = false;
    fixture_init(&fixture);
    fixture_start(&fixture, routes, ROUTES, &shared);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    fixture_end(*state);
    return 0;
}

static void begin(struct client *client, struct fixture *fixture, const char *request)
{
    client_open(client, fixture->port);
    client_send(client, request);
    gate_wait(&shared.opened);
}

static void *stop(void *arg)
{
    http_server_stop(((struct fixture *)arg)->server, WAIT_MS);
    return NULL;
}

static void idle_servers_stop(void **state)
{
    struct fixture *fixture = *state;
    struct client silent, halfway;

    client_open(&silent, fixture->port);
    client_open(&halfway, fixture->port);
    client_send(&halfway, "GET /wai");
    http_server_stop(fixture->server, WAIT_MS);
    assert_true(client_ended(&silent));
    assert_true(client_ended(&halfway));
    http_server_stop(fixture->server, WAIT_MS);
    client_close(&silent);
    client_close(&halfway);
}

/* While one request is finished, others hear 503 and are asked to close. */
static void draining_finishes_what_has_begun(void **state)
{
    struct fixture *fixture = *state;
    struct client client;
    struct answer answer;
    pthread_t stopper;
    char value[256];
    int status = 0;

    begin(&client, fixture, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(pthread_create(&stopper, NULL, stop, fixture), 0);
    for (int i = 0; i < ASKS_MAX && status != 503; i++) {
        status = ask(fixture->port, "GET /nothing HTTP/1.1\r\n" HOST "\r\n", &answer);
        if (status == 503)
            assert_true(head_value(answer.head, "Connection", value));
        answer_free(&answer);
    }
    assert_int_equal(status, 503);
    gate_open(&shared.go);
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "done");
    assert_true(head_value(answer.head, "Connection", value));
    assert_string_equal(value, "close");
    pthread_join(stopper, NULL);
    assert_int_equal(http_server_in_flight(fixture->server), 0);
    answer_free(&answer);
    client_close(&client);
}

static void draining_lets_streams_end(void **state)
{
    struct fixture *fixture = *state;
    struct err err = {0};
    struct client client;
    struct answer answer;
    pthread_t stopper;

    begin(&client, fixture, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(pthread_create(&stopper, NULL, stop, fixture), 0);
    assert_ok(http_stream_write(shared.stream, "last", 4, WAIT_MS, &err), &err);
    http_stream_end(shared.stream);
    client_read(&client, &answer, false);
    assert_string_equal(answer.body, "last");
    assert_false(answer.cut);
    pthread_join(stopper, NULL);
    answer_free(&answer);
    client_close(&client);
}

static void streams_are_cut_at_the_deadline(void **state)
{
    struct fixture *fixture = *state;
    struct err err = {0};
    struct client client;
    struct answer answer;

    begin(&client, fixture, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    assert_true(client_head(&client, &answer));
    http_server_stop(fixture->server, 0);
    gate_wait(&shared.closed);
    assert_false(take_chunk(&client, &answer));
    assert_true(answer.cut);
    fixture_end(fixture);
    assert_true(http_stream_closed(shared.stream));
    assert_err(http_stream_write(shared.stream, "x", 1, WAIT_MS, &err), &err, ERR_CLOSED);
    http_stream_end(shared.stream); /* after its server is gone */
    answer_free(&answer);
    client_close(&client);
    setup(state);
}

static void deferred_requests_may_be_finished_late(void **state)
{
    struct fixture *fixture = *state;
    struct client client;

    begin(&client, fixture, "GET /defer HTTP/1.1\r\n" HOST "\r\n");
    http_server_stop(fixture->server, 0);
    gate_wait(&shared.closed);
    assert_true(client_ended(&client));
    fixture_end(fixture);
    http_request_finish(shared.request, 0, NULL);
    client_close(&client);
    setup(state);
}

static void uploads_are_broken_off(void **state)
{
    struct fixture *fixture = *state;
    struct client client;

    begin(&client, fixture, "POST /upload HTTP/1.1\r\n" HOST "Content-Length: 99\r\n\r\nabc");
    http_server_stop(fixture->server, 0);
    assert_int_equal(shared.rc, -ERR_CLOSED);
    client_close(&client);
}

static void sources_are_released(void **state)
{
    struct fixture *fixture = *state;
    struct client client;

    begin(&client, fixture, "GET /source HTTP/1.1\r\n" HOST "\r\n");
    assert_true(client_more(&client));
    http_server_stop(fixture->server, 0);
    gate_wait(&shared.closed);
    client_close(&client);
}

static void *keep_asking(void *arg)
{
    int port = ((struct fixture *)arg)->port;
    int fd;

    while ((fd = client_socket(port)) >= 0) {
        static const char text[] = "GET /nothing HTTP/1.1\r\n" HOST "\r\n";
        char bytes[4096];
        while (send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL) > 0 &&
               recv(fd, bytes, sizeof(bytes), 0) > 0)
            ;
        close(fd);
    }
    return NULL;
}

/* Start and stop under load, to meet the races between the two. */
static void stopping_under_load_is_safe(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        struct fixture fixture;
        struct client client;
        pthread_t askers[2];

        fixture_init(&fixture);
        fixture.options.n_event_threads = 1 + i % 2;
        fixture_start(&fixture, routes, ROUTES, &shared);
        begin(&client, &fixture, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
        for (int j = 0; j < 2; j++)
            assert_int_equal(pthread_create(&askers[j], NULL, keep_asking, &fixture), 0);
        http_server_stop(fixture.server, i % 5);
        for (int j = 0; j < 2; j++)
            pthread_join(askers[j], NULL);
        http_stream_end(shared.stream);
        client_close(&client);
        fixture_end(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(idle_servers_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(draining_finishes_what_has_begun, setup, teardown),
        cmocka_unit_test_setup_teardown(draining_lets_streams_end, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_are_cut_at_the_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(deferred_requests_may_be_finished_late, setup, teardown),
        cmocka_unit_test_setup_teardown(uploads_are_broken_off, setup, teardown),
        cmocka_unit_test_setup_teardown(sources_are_released, setup, teardown),
        cmocka_unit_test(stopping_under_load_is_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
