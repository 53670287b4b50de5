/* Time in text: ISO 8601 both ways, durations, and the clock that tests can stop. */
#include "test.h"

#include "base/clock.h"

static void test_iso_goes_round(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *text;
    } ROWS[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {1769860800123456, "2026-01-31T12:00:00.123456Z"},
        {951782400000000, "2000-02-29T00:00:00.000000Z"},
        {253402300799999999, "9999-12-31T23:59:59.999999Z"},
    };
    struct err err = {0};
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        char text[CLOCK_ISO_BYTES];
        int64_t back = 1;
        clock_format_iso(ROWS[i].us, text);
        assert_string_equal(text, ROWS[i].text);
        assert_ok(clock_parse_iso(text, &back, &err), &err);
        assert_true(back == ROWS[i].us);
    }
    char text[CLOCK_ISO_BYTES];
    clock_format_iso(INT64_MAX, text);
    assert_true(strncmp(text, "9999-12-31T", 11) == 0);
    clock_format_iso(INT64_MIN, text);
    assert_true(strncmp(text, "0001-01-01T", 11) == 0);
}

static void test_iso_spellings(void **state)
{
    (void)state;
    static const char *const SAME[] = {
        "2026-01-31T12:00:00Z",           "2026-01-31 12:00:00Z",      "2026-01-31t12:00:00z",
        "2026-01-31T13:30:00+01:30",      "2026-01-31T04:00:00-08:00", "2026-01-31T12:00:00.0Z",
        "2026-01-31T12:00:00.0000000009Z"};
    struct err err = {0};
    for (size_t i = 0; i < sizeof SAME / sizeof *SAME; i++) {
        int64_t us = 0;
        assert_ok(clock_parse_iso(SAME[i], &us, &err), &err);
        assert_true(us == 1769860800000000);
    }
    static const char *const BAD[] = {"",
                                      "2026",
                                      "2026-01-31",
                                      "2026-01-31T12:00:00",
                                      "2026-13-01T12:00:00Z",
                                      "2026-00-01T12:00:00Z",
                                      "2026-02-29T12:00:00Z",
                                      "1900-02-29T12:00:00Z",
                                      "2026-01-32T12:00:00Z",
                                      "2026-01-31T24:00:00Z",
                                      "2026-01-31T12:60:00Z",
                                      "2026-01-31T12:00:60Z",
                                      "2026-01-31T12:00:00.Z",
                                      "2026-01-31T12:00:00Zx",
                                      "2026-01-31T12:00:00+1:00",
                                      "2026-01-31T12:00:00+24:00",
                                      "0000-01-01T00:00:00Z",
                                      "+026-01-31T12:00:00Z"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        int64_t us = 0;
        if (clock_parse_iso(BAD[i], &us, &err) != -ERR_INVALID)
            fail_msg("%s", BAD[i]);
        err_clear(&err);
    }
}

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } ROWS[] = {{"300", 300000},    {"5m", 300000},
                {"1h30m", 5400000}, {"500ms", 500},
                {"0", 0},           {"0s", 0},
                {"-1", -1},         {"-5m", -1},
                {"2d", 172800000},  {"1h1m1s1ms", 3661001}};
    struct err err = {0};
    int64_t ms;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        assert_ok(clock_parse_duration(ROWS[i].text, &ms, &err), &err);
        assert_true(ms == ROWS[i].ms);
    }
    static const char *const BAD[] = {"",
                                      "-",
                                      "m",
                                      "5x",
                                      "5 m",
                                      "1.5h",
                                      "5m3",
                                      "+5m",
                                      "--1",
                                      " 5m",
                                      "5m ",
                                      "99999d",
                                      "99999999999999999999"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        if (clock_parse_duration(BAD[i], &ms, &err) != -ERR_INVALID)
            fail_msg("%s", BAD[i]);
        err_clear(&err);
    }
}

static void test_clocks(void **state)
{
    (void)state;
    int64_t before = clock_monotonic_ns();
    clock_sleep_ms(0);
    clock_sleep_ms(-5);
    clock_sleep_ms(1);
    assert_true(clock_monotonic_ns() >= before + 1000000);
    assert_true(clock_wall_us() > 1700000000000000);
    clock_freeze_us(5);
    assert_true(clock_wall_us() == 5);
    clock_freeze_us(0);
    assert_true(clock_wall_us() > 1700000000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_iso_goes_round),
        cmocka_unit_test(test_iso_spellings),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
