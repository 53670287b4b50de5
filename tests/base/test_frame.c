/* Frames over a socketpair: whole, cut, hostile, and sent by several threads at once. */
#include "test.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/frame.h"

enum { WAIT_MS = 60000, SENDERS = 4, FRAMES_EACH = 200 };

struct ends {
    int fd[2];
    struct frame_conn conn[2];
    struct buf payload;
};

static void open_ends(struct ends *ends)
{
    struct err err = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends->fd), 0);
    for (int i = 0; i < 2; i++)
        assert_ok(frame_conn_init(&ends->conn[i], ends->fd[i], &err), &err);
    buf_init(&ends->payload, FRAME_BYTES_MAX);
}

static void close_ends(struct ends *ends)
{
    for (int i = 0; i < 2; i++) {
        if (ends->fd[i] >= 0)
            close(ends->fd[i]);
        frame_conn_release(&ends->conn[i]);
    }
    buf_release(&ends->payload);
}

static void close_end(struct ends *ends, int i)
{
    close(ends->fd[i]);
    ends->fd[i] = -1;
}

static void test_frames_arrive_whole_and_in_order(void **state)
{
    (void)state;
    struct err err = {0};
    struct ends ends;
    open_ends(&ends);
    char text[6000];
    memset(text, 'a', sizeof text);
    static const size_t SIZES[] = {0, 1, 4090, 4091, 4092, 4096, 6000, 3};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++)
        assert_ok(frame_send(&ends.conn[0], (uint8_t)i, text, SIZES[i], WAIT_MS, &err), &err);
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        uint8_t type = 255;
        assert_ok(frame_recv(&ends.conn[1], &type, &ends.payload, WAIT_MS, &err), &err);
        assert_int_equal(type, i);
        assert_int_equal(ends.payload.len, SIZES[i]);
        assert_memory_equal(ends.payload.data, text, SIZES[i]);
        assert_int_equal(ends.payload.data[SIZES[i]], 0);
    }
    assert_false(frame_pending(&ends.conn[1]));
    close_ends(&ends);
}

struct sender {
    struct frame_conn *conn;
    uint8_t id;
    bool failed;
};

static void *send_many(void *arg)
{
    struct sender *sender = arg;
    struct err err = {0};
    char text[30000];
    memset(text, sender->id, sizeof text);
    for (int i = 0; i < FRAMES_EACH; i++)
        if (frame_send(sender->conn, sender->id, text, (size_t)(i * 149), WAIT_MS, &err) != 0)
            sender->failed = true;
    return NULL;
}

static void test_several_senders_do_not_mix(void **state)
{
    (void)state;
    struct err err = {0};
    struct ends ends;
    pthread_t threads[SENDERS];
    struct sender senders[SENDERS];
    int next[SENDERS] = {0};
    open_ends(&ends);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){&ends.conn[0], (uint8_t)i, false};
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, &senders[i]), 0);
    }
    for (int n = 0; n < SENDERS * FRAMES_EACH; n++) {
        uint8_t type = 0;
        assert_ok(frame_recv(&ends.conn[1], &type, &ends.payload, WAIT_MS, &err), &err);
        assert_true(type < SENDERS);
        assert_int_equal(ends.payload.len, next[type]++ * 149);
        for (size_t k = 0; k < ends.payload.len; k++)
            if ((uint8_t)ends.payload.data[k] != type)
                fail_msg("frames mixed");
    }
    for (int i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(senders[i].failed);
    }
    close_ends(&ends);
}

static void test_no_frame_in_time(void **state)
{
    (void)state;
    struct err err = {0};
    struct ends ends;
    uint8_t type = 0;
    open_ends(&ends);
    assert_err(frame_recv(&ends.conn[1], &type, &ends.payload, 0, &err), &err, ERR_TIMEOUT);
    assert_err(frame_recv(&ends.conn[1], &type, &ends.payload, 2, &err), &err, ERR_TIMEOUT);
    /* the connection is still good */
    assert_ok(frame_send(&ends.conn[0], 1, "x", 1, 0, &err), &err);
    assert_ok(frame_recv(&ends.conn[1], &type, &ends.payload, 0, &err), &err);
    /* a receiver that does not read makes the sender give up, which breaks the connection */
    size_t bytes = 8 << 20;
    char *big = calloc(1, bytes);
    assert_err(frame_send(&ends.conn[0], 1, big, bytes, 5, &err), &err, ERR_TIMEOUT);
    assert_err(frame_send(&ends.conn[0], 1, "x", 1, 0, &err), &err, ERR_CLOSED);
    free(big);
    close_ends(&ends);
}

static void test_the_other_end_goes_away(void **state)
{
    (void)state;
    struct err err = {0};
    struct ends ends;
    uint8_t type = 0;
    open_ends(&ends);
    assert_ok(frame_send(&ends.conn[0], 9, "last", 4, 0, &err), &err);
    close_end(&ends, 0);
    assert_ok(frame_recv(&ends.conn[1], &type, &ends.payload, 0, &err), &err);
    assert_string_equal(ends.payload.data, "last");
    assert_err(frame_recv(&ends.conn[1], &type, &ends.payload, -1, &err), &err, ERR_CLOSED);
    assert_err(frame_send(&ends.conn[1], 1, "x", 1, 0, &err), &err, ERR_CLOSED);
    close_ends(&ends);
    open_ends(&ends);
    close_end(&ends, 0);
    /* no SIGPIPE: this process is alive to say so */
    assert_err(frame_send(&ends.conn[1], 1, "x", 1, 0, &err), &err, ERR_CLOSED);
    close_ends(&ends);
}

static void test_bad_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        const char *bytes;
        size_t n;
        size_t ceiling;
        enum err_code code;
    } ROWS[] = {
        {"end inside the header", "\x01\x00\x00", 3, 1024, ERR_CLOSED},
        {"end after the header", "\x05\x00\x00\x00\x01", 5, 1024, ERR_CLOSED},
        {"end inside the payload",
         "\x05\x00\x00\x00\x01"
         "ab",
         7, 1024, ERR_CLOSED},
        {"length above the limit", "\x01\x00\x00\x04\x01x", 6, 1024, ERR_CORRUPT},
        {"length of 4 GB", "\xff\xff\xff\xff\x01x", 6, 1024, ERR_CORRUPT},
        {"length above the buffer's ceiling",
         "\x05\x00\x00\x00\x01"
         "abcde",
         10, 4, ERR_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct err err = {0};
        struct ends ends;
        uint8_t type = 0;
        open_ends(&ends);
        ends.payload.bytes_max = ROWS[i].ceiling;
        assert_int_equal(write(ends.fd[0], ROWS[i].bytes, ROWS[i].n), ROWS[i].n);
        close_end(&ends, 0);
        int rc = frame_recv(&ends.conn[1], &type, &ends.payload, -1, &err);
        if (rc != -(int)ROWS[i].code)
            fail_msg("%s: %d %s", ROWS[i].what, rc, err.message);
        err_clear(&err);
        assert_err(frame_recv(&ends.conn[1], &type, &ends.payload, -1, &err), &err, ERR_CLOSED);
        close_ends(&ends);
    }
}

static void test_too_large_to_send(void **state)
{
    (void)state;
    struct err err = {0};
    struct ends ends;
    open_ends(&ends);
    assert_err(frame_send(&ends.conn[0], 1, "", (size_t)FRAME_BYTES_MAX + 1, 0, &err), &err,
               ERR_TOO_LARGE);
    assert_ok(frame_send(&ends.conn[0], 1, "x", 1, 0, &err), &err);
    close_ends(&ends);
}

static void *receive_until_closed(void *arg)
{
    struct ends *ends = arg;
    struct err err = {0};
    uint8_t type = 0;
    return frame_recv(&ends->conn[1], &type, &ends->payload, -1, &err) == -ERR_CLOSED ? arg : NULL;
}

static void test_shutdown_wakes_a_receiver(void **state)
{
    (void)state;
    struct ends ends;
    pthread_t thread;
    void *result = NULL;
    open_ends(&ends);
    assert_int_equal(pthread_create(&thread, NULL, receive_until_closed, &ends), 0);
    frame_shutdown(&ends.conn[1]);
    pthread_join(thread, &result);
    assert_ptr_equal(result, &ends);
    close_ends(&ends);
}

static void test_faults_end_as_errors(void **state)
{
    (void)state;
    static const enum fault_kind KINDS[] = {FAULT_MALLOC, FAULT_READ, FAULT_WRITE};
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
        for (uint64_t n = 1;; n++) {
            struct err err = {0};
            struct ends ends;
            uint8_t type = 0;
            open_ends(&ends);
            fault_arm(KINDS[k], n, false);
            int rc = frame_send(&ends.conn[0], 1, "abc", 3, 0, &err);
            if (rc == 0)
                rc = frame_recv(&ends.conn[1], &type, &ends.payload, 0, &err);
            fault_disarm();
            bool fired = fault_fired();
            assert_true(fired == (rc != 0));
            close_ends(&ends);
            if (!fired)
                break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_arrive_whole_and_in_order),
        cmocka_unit_test(test_several_senders_do_not_mix),
        cmocka_unit_test(test_no_frame_in_time),
        cmocka_unit_test(test_the_other_end_goes_away),
        cmocka_unit_test(test_bad_bytes),
        cmocka_unit_test(test_too_large_to_send),
        cmocka_unit_test(test_shutdown_wakes_a_receiver),
        cmocka_unit_test(test_faults_end_as_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
