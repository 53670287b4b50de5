/* UTF-8: every code point goes round, every malformed kind is refused, streams are cut right. */
#include "test.h"

#include <stdbool.h>

#include "base/utf8.h"

static void test_every_code_point_goes_round(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x110000; c++) {
        char bytes[4];
        uint32_t back = 0;
        bool allowed = c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF);
        size_t n = utf8_encode(c, bytes);
        if ((n > 0) != allowed)
            fail_msg("U+%04X", c);
        if (!allowed)
            continue;
        if (utf8_decode(bytes, n, &back) != n || back != c || !utf8_valid(bytes, n))
            fail_msg("U+%04X", c);
        for (size_t cut = 1; cut < n; cut++)
            if (utf8_decode(bytes, cut, &back) != 0 || utf8_complete_prefix(bytes, cut) != 0)
                fail_msg("U+%04X cut at %zu", c, cut);
        if (utf8_complete_prefix(bytes, n) != n)
            fail_msg("U+%04X", c);
    }
}

static void test_malformed_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *what, *bytes;
    } ROWS[] = {
        {"continuation alone", "\x80"},
        {"overlong two", "\xC0\xAF"},
        {"overlong two, high", "\xC1\xBF"},
        {"overlong three", "\xE0\x9F\xBF"},
        {"overlong four", "\xF0\x8F\xBF\xBF"},
        {"surrogate", "\xED\xA0\x80"},
        {"above the last", "\xF4\x90\x80\x80"},
        {"lead of five", "\xF8\x88\x80\x80\x80"},
        {"lead FF", "\xFF"},
        {"ASCII inside", "\xC3\x28"},
        {"third byte wrong", "\xE2\x82\x28"},
        {"fourth byte wrong", "\xF0\x9F\x98\x28"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        size_t n = strlen(ROWS[i].bytes);
        uint32_t code_point;
        if (utf8_valid(ROWS[i].bytes, n) || utf8_decode(ROWS[i].bytes, n, &code_point) != 0)
            fail_msg("%s", ROWS[i].what);
        /* what can never become a character is not held back */
        if (utf8_complete_prefix(ROWS[i].bytes, n) != n)
            fail_msg("%s held back", ROWS[i].what);
    }
    uint32_t code_point;
    assert_int_equal(utf8_decode("", 0, &code_point), 0);
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("a\0b", 3));
}

static void test_prefix_of_a_stream(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t sendable;
    } ROWS[] = {
        {"", 0},
        {"abc", 3},
        {"ab\xC3", 2},
        {"ab\xC3\xA9", 4},
        {"\xE2\x82", 0},
        {"a\xF0\x9F\x98", 1},
        {"\xE2\x82\xAC\xE2", 3},
        {"\xED\xA0", 2},         /* could only become a surrogate */
        {"\xE0\x80", 2},         /* could only become overlong */
        {"\x80\x80\x80\x80", 4}, /* nothing leads */
        {"\xF0\x9F\x28", 3},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        if (utf8_complete_prefix(ROWS[i].bytes, strlen(ROWS[i].bytes)) != ROWS[i].sendable)
            fail_msg("row %zu", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point_goes_round),
        cmocka_unit_test(test_malformed_bytes),
        cmocka_unit_test(test_prefix_of_a_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
