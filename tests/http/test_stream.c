/* Answers that outlive their handler, uploads, and clients that leave. */
#include <sched.h>

#include "http/client.h"
#include "telemetry/metrics.h"

enum { FILE_BYTES = 1 << 20, WAIT_MS = 60000, BIG_BYTES = 4 << 20, UPLOAD_MAX = 8 << 20 };

/* What the handlers share with the test that runs them; one request at a time. */
struct shared {
    struct gate opened, go, closed, done;
    struct http_stream *stream;
    struct http_request *request;
    const char *path;
    size_t received;
    uint64_t sum;
    int rc;
};

static struct shared shared = {.opened = GATE, .go = GATE, .closed = GATE, .done = GATE};

static void tell_closed(void *ctx)
{
    gate_open(&((struct shared *)ctx)->closed);
}

/* Opens a stream and leaves it to the test. */
static int open_stream(void *ctx, struct http_request *request, struct http_response *response,
                       struct err *err)
{
    struct shared *at = ctx;
    int rc;

    response->content_type = HTTP_SSE;
    rc = http_stream_open(request, response, &at->stream, err);
    if (rc != 0)
        return rc;
    http_stream_on_close(at->stream, tell_closed, at);
    gate_open(&at->opened);
    return 0;
}

/* Writes from the handler itself, then fails. */
static int fail_late(void *ctx, struct http_request *request, struct http_response *response,
                     struct err *err)
{
    struct http_stream *stream;
    int rc = http_stream_open(request, response, &stream, err);

    (void)ctx;
    if (rc != 0)
        return rc;
    rc = http_stream_write(stream, "begun", 5, WAIT_MS, err);
    return rc != 0 ? rc : err_set(err, ERR_INTERNAL, "too late to say");
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

/* Waits for its client to leave. */
static int wait_closed(void *ctx, struct http_request *request, struct http_response *response,
                       struct err *err)
{
    struct shared *at = ctx;

    (void)response;
    http_request_on_close(request, tell_closed, at);
    gate_open(&at->opened);
    gate_wait(&at->closed);
    at->rc = http_request_closed(request);
    gate_open(&at->done);
    return err_set(err, ERR_CANCELLED, "nobody is there");
}

static int upload(void *ctx, struct http_request *request, struct http_response *response,
                  struct err *err)
{
    static const struct {
        const char *word;
        enum err_code code;
    } refusals[] = {{"first", ERR_CONFLICT}, {"middle", ERR_INVALID}};
    struct shared *at = ctx;
    const char *refuse = http_query(request, "refuse");
    char bytes[10000];
    size_t got;
    struct json_out out;

    at->received = 0;
    at->sum = 0;
    at->rc = 0;
    if (refuse && strcmp(refuse, refusals[0].word) == 0)
        return err_set(err, refusals[0].code, "there already");
    if (http_query(request, "wait"))
        gate_wait(&at->go);
    do {
        at->rc = http_request_read(request, bytes, sizeof(bytes), &got, err);
        for (size_t i = 0; i < got; i++)
            at->sum += (unsigned char)bytes[i] * (uint64_t)(at->received + i + 1);
        at->received += got;
        gate_open(&at->opened);
        if (refuse && strcmp(refuse, refusals[1].word) == 0)
            return err_set(err, refusals[1].code, "row 1 is bad");
    } while (at->rc == 0 && got > 0);
    gate_open(&at->done);
    if (at->rc != 0)
        return at->rc;
    http_json(response, &out);
    json_out_uint(&out, at->received);
    return http_reply_json(response, 201, err);
}

static int file(void *ctx, struct http_request *request, struct http_response *response,
                struct err *err)
{
    return http_reply_file(request, response, ((struct shared *)ctx)->path,
                           "application/octet-stream", http_query(request, "name"), err);
}

static int64_t count_down(void *ctx, char *bytes, size_t n)
{
    int *left = ctx;

    if (*left == 0)
        return 0;
    if (*left < 0)
        return -1;
    n = n < 1000 ? n : 1000;
    memset(bytes, 'x', n);
    --*left;
    return (int64_t)n;
}

static void count_done(void *ctx)
{
    (void)ctx;
    gate_open(&shared.done);
}

/* A source of unknown length; a negative count breaks. */
static int source(void *ctx, struct http_request *request, struct http_response *response,
                  struct err *err)
{
    static int left;

    (void)ctx;
    left = http_query(request, "break") ? -1 : 50;
    response->content_type = "text/plain";
    return http_reply_source(request, response, -1, count_down, count_done, &left, err);
}

static int hello(void *ctx, struct http_request *request, struct http_response *response,
                 struct err *err)
{
    (void)ctx;
    (void)request;
    return http_reply_text(response, 200, "text/plain", "hello", err);
}

static const struct http_route routes[] = {
    {.method = "GET", .pattern = "/stream", .handler = open_stream},
    {.method = "GET", .pattern = "/fail-late", .handler = fail_late},
    {.method = "GET", .pattern = "/defer", .handler = defer},
    {.method = "GET", .pattern = "/wait", .handler = wait_closed},
    {.method = "POST",
     .pattern = "/upload",
     .handler = upload,
     .flags = HTTP_UPLOAD,
     .body_bytes_max = UPLOAD_MAX},
    {.method = "GET", .pattern = "/file", .handler = file},
    {.method = "GET", .pattern = "/source", .handler = source},
    {.method = "GET", .pattern = "/hello", .handler = hello},
};

enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

static int setup(void **state)
{
    static struct fixture fixture;

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

/* Gates that an earlier test left open are closed. */
static int reset(void **state)
{
    (void)state;
    shared.opened.open = shared.go.open = shared.closed.open = shared.done.open = false;
    return 0;
}

static void begin(struct client *client, struct fixture *fixture, const char *path)
{
    char text[256];

    client_open(client, fixture->port);
    snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" HOST "\r\n", path);
    client_send(client, text);
}

static void expect_hello(struct client *client)
{
    struct answer answer;

    client_send(client, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    client_read(client, &answer, false);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "hello");
    answer_free(&answer);
}

/* --- streams --- */

static void events_arrive_as_they_are_written(void **state)
{
    struct err err = {0};
    struct client client;
    struct answer answer;
    char value[256];

    begin(&client, *state, "/stream");
    gate_wait(&shared.opened);
    assert_true(client_head(&client, &answer));
    assert_int_equal(answer.status, 200);
    assert_true(head_value(answer.head, "Content-Type", value));
    assert_string_equal(value, HTTP_SSE);
    for (int i = 0; i < 3; i++) {
        struct answer piece = {0};
        char data[32];
        snprintf(data, sizeof(data), "{\"i\":%d}", i);
        assert_ok(http_stream_event(shared.stream, i ? NULL : "token", data, WAIT_MS, &err), &err);
        assert_true(take_chunk(&client, &piece));
        assert_non_null(strstr(piece.body, data));
        assert_int_equal(i == 0, strncmp(piece.body, "event: token\ndata: ", 19) == 0);
        answer_free(&piece);
    }
    assert_ok(http_stream_event(shared.stream, NULL, "a\nb\r\nc\rd\n", WAIT_MS, &err), &err);
    http_stream_end(shared.stream);
    while (take_chunk(&client, &answer))
        ;
    assert_string_equal(answer.body, "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
    assert_false(answer.cut);
    expect_hello(&client);
    answer_free(&answer);
    client_close(&client);
}

static void old_clients_get_streams_too(void **state)
{
    struct fixture *fixture = *state;
    struct err err = {0};
    struct client client;
    struct answer answer;

    client_open(&client, fixture->port);
    client_send(&client, "GET /stream HTTP/1.0\r\n" HOST "\r\n");
    gate_wait(&shared.opened);
    for (int i = 0; i < 3; i++)
        assert_ok(http_stream_write(shared.stream, "abc\n", 4, WAIT_MS, &err), &err);
    http_stream_end(shared.stream);
    client_read(&client, &answer, false);
    assert_string_equal(answer.body, "abc\nabc\nabc\n");
    assert_true(client_ended(&client));
    answer_free(&answer);
    client_close(&client);
}

static void a_leaving_client_is_noticed(void **state)
{
    struct err err = {0};
    struct client client;
    struct answer answer;

    begin(&client, *state, "/stream");
    gate_wait(&shared.opened);
    assert_true(client_head(&client, &answer));
    assert_false(http_stream_closed(shared.stream));
    answer_free(&answer);
    client_close(&client);
    gate_wait(&shared.closed);
    assert_true(http_stream_closed(shared.stream));
    assert_err(http_stream_write(shared.stream, "x", 1, WAIT_MS, &err), &err, ERR_CLOSED);
    http_stream_end(shared.stream);
}

static void a_slow_client_holds_the_writer_back(void **state)
{
    static char block[HTTP_STREAM_BYTES_MAX];
    struct err err = {0};
    struct client client;
    struct answer answer;
    size_t written = 0;
    int rc;

    memset(block, 'y', sizeof(block));
    begin(&client, *state, "/stream");
    gate_wait(&shared.opened);
    assert_err(http_stream_write(shared.stream, block, sizeof(block) + 1, 0, &err), &err,
               ERR_TOO_LARGE);
    do {
        rc = http_stream_write(shared.stream, block, 100000, 20, &err);
        written += rc == 0 ? 100000 : 0;
    } while (rc == 0);
    assert_err(rc, &err, ERR_TIMEOUT);
    assert_err(http_stream_write(shared.stream, block, sizeof(block), 0, &err), &err, ERR_TIMEOUT);
    assert_true(client_head(&client, &answer));
    while (answer.body_bytes < written)
        assert_true(take_chunk(&client, &answer));
    assert_int_equal(answer.body_bytes, written);
    assert_ok(http_stream_write(shared.stream, block, sizeof(block), WAIT_MS, &err), &err);
    http_stream_end(shared.stream);
    while (take_chunk(&client, &answer))
        ;
    assert_int_equal(answer.body_bytes, written + sizeof(block));
    answer_free(&answer);
    client_close(&client);
}

/* arg: a size_t of how many bytes. */
static void *write_much(void *arg)
{
    struct err err = {0};
    static char block[50000];
    intptr_t rc = 0;

    for (size_t n = 0; rc == 0 && n < *(size_t *)arg; n += sizeof(block)) {
        memset(block, 'a' + (int)(n / sizeof(block) % 26), sizeof(block));
        rc = http_stream_write(shared.stream, block, sizeof(block), WAIT_MS, &err);
    }
    http_stream_end(shared.stream);
    return (void *)rc;
}

static void a_blocked_writer_goes_on_with_its_client(void **state)
{
    struct client client;
    struct answer answer;
    size_t bytes = BIG_BYTES;
    pthread_t writer;
    void *rc;

    begin(&client, *state, "/stream");
    gate_wait(&shared.opened);
    assert_int_equal(pthread_create(&writer, NULL, write_much, &bytes), 0);
    client_read(&client, &answer, false);
    pthread_join(writer, &rc);
    assert_null(rc);
    assert_false(answer.cut);
    assert_int_equal(answer.body_bytes, (BIG_BYTES + 49999) / 50000 * 50000);
    for (size_t i = 0; i < answer.body_bytes; i++)
        if (answer.body[i] != 'a' + (int)(i / 50000 % 26))
            fail_msg("byte %zu", i);
    answer_free(&answer);
    client_close(&client);
}

static void a_blocked_writer_learns_that_its_client_left(void **state)
{
    struct client client;
    size_t bytes = (size_t)BIG_BYTES << 8; /* more than any system holds on its way */
    pthread_t writer;
    void *rc;

    begin(&client, *state, "/stream");
    gate_wait(&shared.opened);
    assert_int_equal(pthread_create(&writer, NULL, write_much, &bytes), 0);
    while (client.len == 0)
        assert_true(client_more(&client));
    client_close(&client);
    pthread_join(writer, &rc);
    assert_int_equal((intptr_t)rc, -ERR_CLOSED);
}

static void an_aborted_stream_is_seen_to_be_cut(void **state)
{
    struct err err = {0};
    struct client client;
    struct answer answer;

    begin(&client, *state, "/stream");
    gate_wait(&shared.opened);
    assert_ok(http_stream_write(shared.stream, "abc", 3, WAIT_MS, &err), &err);
    assert_true(client_head(&client, &answer));
    assert_true(take_chunk(&client, &answer));
    http_stream_abort(shared.stream);
    assert_false(take_chunk(&client, &answer));
    assert_true(answer.cut);
    answer_free(&answer);
    client_close(&client);

    begin(&client, *state, "/fail-late");
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    assert_true(answer.cut);
    answer_free(&answer);
    client_close(&client);
}

static void head_of_a_stream_has_no_body(void **state)
{
    struct fixture *fixture = *state;
    struct client client;
    struct answer answer;

    client_open(&client, fixture->port);
    client_send(&client, "HEAD /stream HTTP/1.1\r\n" HOST "\r\n");
    gate_wait(&shared.opened);
    client_read(&client, &answer, true);
    assert_int_equal(answer.status, 200);
    gate_wait(&shared.closed);
    http_stream_end(shared.stream);
    answer_free(&answer);
    client_close(&client);
}

/* --- deferred answers --- */

static void another_thread_may_answer(void **state)
{
    struct err err = {0};
    struct client client;
    struct answer answer;

    begin(&client, *state, "/defer");
    gate_wait(&shared.opened);
    assert_false(http_request_closed(shared.request));
    assert_ok(
        http_reply_text(http_request_response(shared.request), 202, "text/plain", "later", &err),
        &err);
    http_request_finish(shared.request, 0, NULL);
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 202);
    assert_string_equal(answer.body, "later");
    answer_free(&answer);
    expect_hello(&client);

    client_send(&client, "GET /defer HTTP/1.1\r\n" HOST "\r\n");
    gate_wait(&shared.opened);
    (void)err_set(&err, ERR_BUSY, "The queue is full");
    http_request_finish(shared.request, -ERR_BUSY, &err);
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 429);
    answer_free(&answer);

    client_send(&client, "GET /defer HTTP/1.1\r\n" HOST "\r\n"); /* deferred, then streamed */
    gate_wait(&shared.opened);
    err_clear(&err);
    assert_ok(http_stream_open(shared.request, http_request_response(shared.request),
                               &shared.stream, &err),
              &err);
    assert_ok(http_stream_write(shared.stream, "bit", 3, WAIT_MS, &err), &err);
    http_stream_end(shared.stream);
    client_read(&client, &answer, false);
    assert_string_equal(answer.body, "bit");
    answer_free(&answer);
    client_close(&client);
}

static uint64_t counted(const char *route, const char *status)
{
    const char *labels[] = {"GET", route, status};
    return (uint64_t)metric_value(metric_with(METRIC_HTTP_REQUESTS, labels));
}

static void nobody_is_left_to_answer(void **state)
{
    struct fixture *fixture = *state;
    struct client client;
    struct err cancelled = {.code = ERR_CANCELLED, .message = "nobody is there"};

    begin(&client, *state, "/defer");
    gate_wait(&shared.opened);
    client_close(&client);
    gate_wait(&shared.closed);
    assert_true(http_request_closed(shared.request));
    http_request_finish(shared.request, 0, NULL);

    begin(&client, *state, "/wait");
    gate_wait(&shared.opened);
    client_close(&client);
    gate_wait(&shared.done);
    assert_true(shared.rc);

    begin(&client, *state, "/defer");
    gate_wait(&shared.opened);
    client_close(&client);
    gate_wait(&shared.closed);
    http_request_finish(shared.request, -ERR_CANCELLED, &cancelled);

    while (http_server_in_flight(fixture->server) > 0)
        sched_yield();
    assert_int_equal(counted("/wait", "499") + counted("/defer", "499"), 2);
    assert_int_equal(counted("/wait", "503") + counted("/defer", "503"), 0);
}

/* Work that ends of itself while its client is there is told to it as before. */
static void a_cancelled_request_is_answered(void **state)
{
    struct client client;
    struct answer answer;
    struct err cancelled = {.code = ERR_CANCELLED, .message = "it was stopped"};

    begin(&client, *state, "/defer");
    gate_wait(&shared.opened);
    http_request_finish(shared.request, -ERR_CANCELLED, &cancelled);
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 503);
    answer_free(&answer);
    client_close(&client);
}

/* --- uploads --- */

static char *pattern(size_t n, uint64_t *sum)
{
    char *bytes = malloc(n);

    *sum = 0;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (char)(i * 7 + i / 251);
        *sum += (unsigned char)bytes[i] * (uint64_t)(i + 1);
    }
    return bytes;
}

static void *send_all(void *arg)
{
    struct client *client = ((void **)arg)[0];
    client_write(client, ((void **)arg)[1], *(size_t *)((void **)arg)[2]);
    return NULL;
}

static void uploads_pass_through_whole(void **state)
{
    static const char *const queries[] = {"", "?wait=1"};
    struct fixture *fixture = *state;
    size_t n = BIG_BYTES;
    uint64_t sum;
    char *bytes = pattern(n, &sum);

    for (size_t i = 0; i < 2; i++) {
        struct client client;
        struct answer answer;
        void *args[] = {&client, bytes, &n};
        pthread_t sender;
        char head[256], want[32];

        client_open(&client, fixture->port);
        snprintf(head, sizeof(head),
                 "POST /upload%s HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", queries[i], n);
        client_send(&client, head);
        assert_int_equal(pthread_create(&sender, NULL, send_all, args), 0);
        if (i == 1)
            gate_open(&shared.go);
        client_read(&client, &answer, false);
        pthread_join(sender, NULL);
        assert_int_equal(answer.status, 201);
        snprintf(want, sizeof(want), "%zu", n);
        assert_string_equal(answer.body, want);
        assert_true(shared.sum == sum);
        answer_free(&answer);
        expect_hello(&client);
        client_close(&client);
    }
    free(bytes);
}

static void small_and_chunked_uploads(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *body;
    } rows[] = {
        {"POST /upload HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 201, "3"},
        {"POST /upload HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 201, "0"},
        {"POST /upload HTTP/1.1\r\n" HOST "\r\n", 201, "0"},
        {"POST /upload HTTP/1.1\r\n" HOST
         "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
         201, "7"},
        {"POST /upload?refuse=first HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 409,
         "{\"detail\":\"there already\"}"},
        {"POST /upload?refuse=middle HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 400,
         "{\"detail\":\"row 1 is bad\"}"},
        {"POST /upload HTTP/1.1\r\n" HOST "Content-Length: 99999999\r\n\r\nabc", 413, NULL},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct answer answer;
        assert_int_equal(ask(fixture->port, rows[i].request, &answer), rows[i].status);
        if (rows[i].body)
            assert_string_equal(answer.body, rows[i].body);
        answer_free(&answer);
    }
}

static void uploads_wait_for_100_continue(void **state)
{
    static const char head[] =
        "POST /upload%s HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    struct fixture *fixture = *state;
    struct client client;
    struct answer answer;
    char text[256];

    client_open(&client, fixture->port);
    snprintf(text, sizeof(text), head, "");
    client_send(&client, text);
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 100);
    answer_free(&answer);
    client_send(&client, "abc");
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 201);
    answer_free(&answer);
    snprintf(text, sizeof(text), head, "?refuse=first");
    client_send(&client, text);
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 409);
    assert_true(client_ended(&client));
    answer_free(&answer);
    client_close(&client);
}

/* The rest of an upload that was refused on its first row is read, so the client sees why. */
static void a_refused_upload_is_read_to_its_end(void **state)
{
    struct fixture *fixture = *state;
    uint64_t sum;
    char *bytes = pattern(BIG_BYTES, &sum);
    struct client client;
    struct answer answer;
    char head[256];

    client_open(&client, fixture->port);
    snprintf(head, sizeof(head),
             "POST /upload?refuse=middle HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n",
             BIG_BYTES);
    client_send(&client, head);
    assert_true(client_write(&client, bytes, BIG_BYTES));
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 400);
    answer_free(&answer);
    expect_hello(&client);
    client_close(&client);
    free(bytes);
}

static void an_upload_may_break_off(void **state)
{
    struct fixture *fixture = *state;
    struct client client;

    client_open(&client, fixture->port);
    client_send(&client, "POST /upload HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\nabc");
    gate_wait(&shared.opened);
    client_close(&client);
    gate_wait(&shared.done);
    assert_int_equal(shared.rc, -ERR_CLOSED);
}

static void chunks_beyond_the_limit_are_refused(void **state)
{
    struct fixture *fixture = *state;
    uint64_t sum;
    char *bytes = pattern(UPLOAD_MAX + 1, &sum);
    struct client client;
    struct answer answer;
    char size[32];

    client_open(&client, fixture->port);
    client_send(&client, "POST /upload HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    snprintf(size, sizeof(size), "%x\r\n", UPLOAD_MAX + 1);
    client_send(&client, size);
    assert_true(client_write(&client, bytes, UPLOAD_MAX + 1));
    client_send(&client, "\r\n0\r\n\r\n");
    client_read(&client, &answer, false);
    assert_int_equal(answer.status, 413);
    answer_free(&answer);
    client_close(&client);
    free(bytes);
}

/* --- files and sources --- */

static void files_are_sent_whole_and_in_parts(void **state)
{
    static const struct {
        const char *header;
        int status;
        size_t first, n;
        const char *range;
    } rows[] = {
        {"", 200, 0, FILE_BYTES, NULL},
        {"Range: bytes=0-9\r\n", 206, 0, 10, "bytes 0-9/1048576"},
        {"Range: bytes=1000000-\r\n", 206, 1000000, 48576, "bytes 1000000-1048575/1048576"},
        {"Range: bytes=-5\r\n", 206, FILE_BYTES - 5, 5, "bytes 1048571-1048575/1048576"},
        {"Range: bytes=5-9999999\r\n", 206, 5, FILE_BYTES - 5, "bytes 5-1048575/1048576"},
        {"Range: bytes=-9999999\r\n", 206, 0, FILE_BYTES, "bytes 0-1048575/1048576"},
        {"Range: bytes=1048576-\r\n", 416, 0, 0, "bytes */1048576"},
        {"Range: bytes=-0\r\n", 416, 0, 0, "bytes */1048576"},
        {"Range: bytes=9-5\r\n", 200, 0, FILE_BYTES, NULL},
        {"Range: bytes=0-1,5-6\r\n", 200, 0, FILE_BYTES, NULL},
        {"Range: bytes=x\r\n", 200, 0, FILE_BYTES, NULL},
        {"Range: lines=1-2\r\n", 200, 0, FILE_BYTES, NULL},
        {"Range: bytes=0-9\r\nIf-Range: \"x\"\r\n", 200, 0, FILE_BYTES, NULL},
    };
    struct fixture *fixture = *state;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX + 16], value[256];
    struct err err = {0};
    struct answer answer;
    uint64_t sum;
    char *bytes = pattern(FILE_BYTES, &sum);

    test_dir_make(dir);
    snprintf(path, sizeof(path), "%s/file", dir);
    assert_ok(fs_write_file(path, bytes, FILE_BYTES, &err), &err);
    shared.path = path;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "GET /file HTTP/1.1\r\n" HOST "%s\r\n", rows[i].header);
        print_message("%s", rows[i].header);
        assert_int_equal(ask(fixture->port, text, &answer), rows[i].status);
        assert_int_equal(answer.body_bytes, rows[i].n);
        assert_memory_equal(answer.body, bytes + rows[i].first, rows[i].n);
        assert_int_equal(head_value(answer.head, "Content-Range", value), rows[i].range != NULL);
        if (rows[i].range)
            assert_string_equal(value, rows[i].range);
        answer_free(&answer);
    }
    ask(fixture->port, "HEAD /file?name=a%22%C3%A9 HTTP/1.1\r\n" HOST "\r\n", &answer);
    assert_true(head_value(answer.head, "Content-Length", value));
    assert_string_equal(value, "1048576");
    assert_true(head_value(answer.head, "Content-Disposition", value));
    assert_string_equal(value, "attachment; filename*=UTF-8''a%22%C3%A9");
    answer_free(&answer);
    shared.path = dir;
    assert_int_equal(ask(fixture->port, "GET /file HTTP/1.1\r\n" HOST "\r\n", NULL), 404);
    assert_ok(fs_remove_file(path, &err), &err);
    shared.path = path;
    assert_int_equal(ask(fixture->port, "GET /file HTTP/1.1\r\n" HOST "\r\n", NULL), 404);
    test_dir_remove(dir);
    free(bytes);
}

static void sources_are_pulled(void **state)
{
    struct fixture *fixture = *state;
    struct answer answer;

    assert_int_equal(ask(fixture->port, "GET /source HTTP/1.1\r\n" HOST "\r\n", &answer), 200);
    gate_wait(&shared.done);
    assert_int_equal(answer.body_bytes, 50000);
    assert_false(answer.cut);
    answer_free(&answer);
    assert_int_equal(ask(fixture->port, "GET /source?break=1 HTTP/1.1\r\n" HOST "\r\n", &answer),
                     200);
    gate_wait(&shared.done);
    assert_true(answer.cut);
    answer_free(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(events_arrive_as_they_are_written, reset),
        cmocka_unit_test_setup(old_clients_get_streams_too, reset),
        cmocka_unit_test_setup(a_leaving_client_is_noticed, reset),
        cmocka_unit_test_setup(a_slow_client_holds_the_writer_back, reset),
        cmocka_unit_test_setup(a_blocked_writer_goes_on_with_its_client, reset),
        cmocka_unit_test_setup(a_blocked_writer_learns_that_its_client_left, reset),
        cmocka_unit_test_setup(an_aborted_stream_is_seen_to_be_cut, reset),
        cmocka_unit_test_setup(head_of_a_stream_has_no_body, reset),
        cmocka_unit_test_setup(another_thread_may_answer, reset),
        cmocka_unit_test_setup(nobody_is_left_to_answer, reset),
        cmocka_unit_test_setup(a_cancelled_request_is_answered, reset),
        cmocka_unit_test_setup(uploads_pass_through_whole, reset),
        cmocka_unit_test_setup(small_and_chunked_uploads, reset),
        cmocka_unit_test_setup(uploads_wait_for_100_continue, reset),
        cmocka_unit_test_setup(a_refused_upload_is_read_to_its_end, reset),
        cmocka_unit_test_setup(an_upload_may_break_off, reset),
        cmocka_unit_test_setup(chunks_beyond_the_limit_are_refused, reset),
        cmocka_unit_test_setup(files_are_sent_whole_and_in_parts, reset),
        cmocka_unit_test_setup(sources_are_pulled, reset),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
