/* Errors: the first wins, messages are cut at a character, codes map to names and statuses. */
#include "test.h"

#include <errno.h>

#include "base/utf8.h"

static void test_first_error_wins(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(err_set(&err, ERR_NOT_FOUND, "no %s", "model"), -ERR_NOT_FOUND);
    assert_int_equal(err_set(&err, ERR_IO, "later"), -ERR_NOT_FOUND);
    assert_int_equal(err_set_errno(&err, ENOSPC, "later"), -ERR_NOT_FOUND);
    assert_string_equal(err.message, "no model");
    assert_non_null(strstr(err.file, "test_err.c"));
    assert_true(err.line > 0);
    err_prefix(&err, "while %s", "loading");
    assert_string_equal(err.message, "while loading: no model");
    err_clear(&err);
    assert_int_equal(err.code, ERR_NONE);
    err_prefix(&err, "nothing to prefix");
    assert_string_equal(err.message, "");
}

static void test_null_takes_only_the_code(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_IO, "x"), -ERR_IO);
    assert_int_equal(err_set_errno(NULL, ENOENT, "x"), -ERR_NOT_FOUND);
    err_prefix(NULL, "x");
    err_clear(NULL);
}

static void test_errno_chooses_the_code(void **state)
{
    (void)state;
    static const struct {
        int errnum;
        enum err_code code;
    } ROWS[] = {
        {ENOENT, ERR_NOT_FOUND}, {ENOSPC, ERR_NOSPACE},  {EDQUOT, ERR_NOSPACE}, {ENOMEM, ERR_NOMEM},
        {EACCES, ERR_FORBIDDEN}, {EPERM, ERR_FORBIDDEN}, {EIO, ERR_IO},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct err err = {0};
        assert_int_equal(err_set_errno(&err, ROWS[i].errnum, "open %d", 7), -(int)ROWS[i].code);
        assert_true(strncmp(err.message, "open 7: ", 8) == 0);
        assert_true(strlen(err.message) > 10);
    }
}

static void test_long_messages_are_cut_at_a_character(void **state)
{
    (void)state;
    char text[3 * ERR_MESSAGE_BYTES_MAX];
    for (size_t at = 0; at + 3 < sizeof text; at += 3)
        memcpy(text + at, "\xE2\x82\xAC", 4); /* a character of three bytes, at every offset */
    for (int shift = 0; shift < 3; shift++) {
        struct err err = {0};
        (void)err_set(&err, ERR_IO, "%.*s%s", shift, "ab", text);
        size_t length = strlen(err.message);
        assert_true(length > ERR_MESSAGE_BYTES_MAX - 5 && length < ERR_MESSAGE_BYTES_MAX);
        assert_true(utf8_valid(err.message, length));
        err_prefix(&err, "%.*s", shift, "xy");
        assert_true(utf8_valid(err.message, strlen(err.message)));
        err_prefix(&err, "%s", text);
        assert_true(utf8_valid(err.message, strlen(err.message)));
        err_clear(&err);
        (void)err_set_errno(&err, EIO, "%.*s%s", shift, "ab", text);
        assert_true(utf8_valid(err.message, strlen(err.message)));
    }
}

static void test_every_code_has_a_name_and_a_status(void **state)
{
    (void)state;
    for (int code = 1; code < ERR_CODE_COUNT; code++) {
        assert_non_null(err_code_name((enum err_code)code));
        assert_true(err_http_status(code) >= 400);
        assert_int_equal(err_http_status(-code), err_http_status(code));
        for (int other = 1; other < code; other++)
            assert_string_not_equal(err_code_name((enum err_code)code),
                                    err_code_name((enum err_code)other));
    }
    assert_int_equal(err_http_status(0), 200);
    assert_int_equal(err_http_status(-ERR_UNPROCESSABLE), 422);
    assert_int_equal(err_http_status(9999), 500);
    assert_int_equal(err_http_status(INT32_MIN), 500);
    assert_string_equal(err_code_name((enum err_code)9999), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_error_wins),
        cmocka_unit_test(test_null_takes_only_the_code),
        cmocka_unit_test(test_errno_chooses_the_code),
        cmocka_unit_test(test_long_messages_are_cut_at_a_character),
        cmocka_unit_test(test_every_code_has_a_name_and_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
