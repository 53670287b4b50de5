/* Logs: what a line looks like in both forms, levels per room, and lines that nobody can forge. */
#include "test.h"

#include <fcntl.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

static char captured[65536];

/* Runs what a test logs with standard error in a file, then reads the file. */
static int saved_stderr = -1;
static FILE *sink;

static void capture_begin(void)
{
    sink = tmpfile();
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fileno(sink), STDERR_FILENO);
}

static void capture_end(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    rewind(sink);
    size_t n = fread(captured, 1, sizeof captured - 1, sink);
    captured[n] = '\0';
    fclose(sink);
}

static void init(const char *spec, bool json)
{
    struct err err = {0};
    assert_ok(log_init(spec, json, &err), &err);
}

static void test_human_line(void **state)
{
    (void)state;
    init("INFO", false);
    clock_freeze_us(1769860800123456);
    capture_begin();
    log_event(LOG_INFO, "store", "opened", "path=%s n=%d", "/x", 3);
    log_set_trace("abc123");
    log_event(LOG_ERROR, "http", "failed", "why=\"a b\"");
    log_set_trace(NULL);
    log_event(LOG_WARNING, "http", "bare", "%s", "");
    capture_end();
    clock_freeze_us(0);
    assert_string_equal(
        captured, "2026-01-31T12:00:00.123456Z INFO store opened path=/x n=3\n"
                  "2026-01-31T12:00:00.123456Z ERROR http failed why=\"a b\" trace_id=abc123\n"
                  "2026-01-31T12:00:00.123456Z WARNING http bare\n");
}

static void test_json_line(void **state)
{
    (void)state;
    struct err err = {0};
    init("INFO", true);
    capture_begin();
    log_set_trace("t1");
    log_event(LOG_INFO, "api", "request", "method=GET path=\"/a b\" status=%d note=%s tail", 200,
              "q\"\\\n\x01\xff");
    log_set_trace(NULL);
    capture_end();
    json_t *line = json_parse(captured, strlen(captured), &err);
    if (!line)
        fail_msg("%s in %s", err.message, captured);
    assert_string_equal(json_string_value(json_object_get(line, "level")), "INFO");
    assert_string_equal(json_string_value(json_object_get(line, "room")), "api");
    assert_string_equal(json_string_value(json_object_get(line, "event")), "request");
    assert_string_equal(json_string_value(json_object_get(line, "path")), "/a b");
    assert_string_equal(json_string_value(json_object_get(line, "status")), "200");
    assert_string_equal(json_string_value(json_object_get(line, "note")),
                        "q\"\\\n\x01\xEF\xBF\xBD");
    assert_string_equal(json_string_value(json_object_get(line, "message")), "tail");
    assert_string_equal(json_string_value(json_object_get(line, "trace_id")), "t1");
    json_decref(line);
}

static void test_no_second_line_can_be_forged(void **state)
{
    (void)state;
    char big[40000];
    memset(big, 'x', sizeof big);
    memcpy(big, "k=\x1b[31m\n", 8);
    for (size_t at = 100; at + 3 < sizeof big; at += 3)
        memcpy(big + at, "\xE2\x82\xAC", 3);
    big[sizeof big - 1] = '\0';
    for (int json = 0; json < 2; json++) {
        struct err err = {0};
        init("INFO", json);
        capture_begin();
        log_event(LOG_INFO, "api", "x", "name=a\nb %s", big);
        capture_end();
        assert_ptr_equal(strchr(captured, '\n'), captured + strlen(captured) - 1);
        assert_null(strchr(captured, '\x1b'));
        if (json) {
            json_t *line = json_parse(captured, strlen(captured), &err);
            if (!line)
                fail_msg("%s", err.message);
            json_decref(line);
        }
    }
}

static void test_levels_per_room(void **state)
{
    (void)state;
    struct err err = {0};
    init("warning,store=debug", false);
    assert_false(log_enabled("api", LOG_INFO));
    assert_true(log_enabled("api", LOG_WARNING));
    assert_true(log_enabled("store", LOG_DEBUG));
    assert_false(log_enabled("unknown", LOG_INFO));
    init("store=ERROR", false);
    assert_true(log_enabled("api", LOG_INFO));
    assert_false(log_enabled("api", LOG_DEBUG));
    assert_false(log_enabled("store", LOG_WARNING));
    capture_begin();
    log_event(LOG_INFO, "store", "hidden", "%s", "");
    capture_end();
    assert_string_equal(captured, "");
    static const char *const BAD[] = {"",           "LOUD",        "INFO,", "INFO,nope=DEBUG",
                                      "INFO,store", "INFO,store=", "=INFO"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        if (log_init(BAD[i], false, &err) != -ERR_INVALID)
            fail_msg("%s", BAD[i]);
        err_clear(&err);
    }
    assert_false(log_enabled("store", LOG_WARNING)); /* a bad spec changes nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_human_line),
        cmocka_unit_test(test_json_line),
        cmocka_unit_test(test_no_second_line_can_be_forged),
        cmocka_unit_test(test_levels_per_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
