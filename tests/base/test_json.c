/* JSON in and out: limits, bad input by kind, numbers that read back, allocation failures. */
#include "test.h"

#include <float.h>
#include <math.h>

#include "base/json.h"

static json_t *parse(const char *text, struct err *err)
{
    return json_parse(text, strlen(text), err);
}

static void test_parse_reads_every_kind(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *tree = parse("{\"s\":\"a\\u0000b\",\"i\":-9223372036854775808,\"r\":1.5e3,\"t\":true,"
                         "\"n\":null,\"a\":[1,2,{}]}",
                         &err);
    assert_non_null(tree);
    assert_int_equal(json_string_length(json_object_get(tree, "s")), 3);
    assert_true(json_integer_value(json_object_get(tree, "i")) == INT64_MIN);
    assert_int_equal(json_array_size(json_object_get(tree, "a")), 3);
    json_decref(tree);
}

static void test_parse_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *what, *text, *says;
    } ROWS[] = {
        {"empty", "", "line 1 column 0"},
        {"blank", "  \n ", "line 2"},
        {"cut object", "{\"a\":", "end of file"},
        {"cut string", "\"abc", "end of input"},
        {"two values", "1 2", "end of file expected"},
        {"trailing comma", "[1,]", "unexpected token"},
        {"single quotes", "{'a':1}", "line 1"},
        {"bare word", "nope", "invalid token"},
        {"NaN", "[NaN]", "invalid token"},
        {"leading zero", "[01]", "line 1"},
        {"comment", "[1] // no", "line 1"},
        {"duplicate key", "{\"a\":1,\n\"a\":2}", "line 2"},
        {"real too big", "1e999", "overflow"},
        {"bad UTF-8", "\"\xC3\x28\"", "0xc3"},
        {"overlong UTF-8", "\"\xC0\xAF\"", "0xc0"},
        {"surrogate in UTF-8", "\"\xED\xA0\x80\"", "0xed"},
        {"lone surrogate escape", "\"\\ud800\"", "invalid Unicode"},
        {"NUL in key", "{\"a\\u0000b\":1}", "NUL"},
        {"raw control character", "\"a\nb\"", "line 1"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct err err = {0};
        json_t *tree = parse(ROWS[i].text, &err);
        if (tree || err.code != ERR_UNPROCESSABLE || !strstr(err.message, ROWS[i].says))
            fail_msg("%s: %s", ROWS[i].what, err.message);
    }
}

static void nested(char *out, int depth)
{
    memset(out, '[', (size_t)depth);
    memset(out + depth, ']', (size_t)depth);
    out[2 * depth] = '\0';
}

static void test_parse_limits_depth_and_number_length(void **state)
{
    (void)state;
    struct err err = {0};
    char text[1024];
    nested(text, JSON_DEPTH_MAX);
    json_t *tree = parse(text, &err);
    assert_non_null(tree);
    json_decref(tree);
    nested(text, JSON_DEPTH_MAX + 1);
    assert_null(parse(text, &err));
    assert_non_null(strstr(err.message, "nested too deeply at line 1 column 65"));
    err_clear(&err);
    /* brackets inside a string do not nest */
    char quoted[1100];
    snprintf(quoted, sizeof quoted, "\"\\\"%s\"", text);
    tree = parse(quoted, &err);
    assert_non_null(tree);
    json_decref(tree);
    memset(text, '1', 300);
    text[1] = '.';
    text[300] = '\0';
    assert_null(parse(text, &err));
    assert_non_null(strstr(err.message, "too many digits"));
}

static void test_typed_members(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *tree = parse(
        "{\"s\":\"x\",\"i\":3,\"r\":2.0,\"f\":2.5,\"b\":true,\"n\":null,\"big\":1e300}", &err);
    const char *text;
    int64_t number;
    double real;
    bool flag;
    assert_ok(json_get_string(tree, "s", NULL, &text, &err), &err);
    assert_string_equal(text, "x");
    assert_ok(json_get_string(tree, "n", "d", &text, &err), &err);
    assert_string_equal(text, "d");
    assert_ok(json_get_int(tree, "r", 0, &number, &err), &err);
    assert_true(number == 2);
    assert_ok(json_get_real(tree, "i", 0, &real, &err), &err);
    assert_true(real == 3.0);
    assert_ok(json_get_bool(tree, "missing", true, &flag, &err), &err);
    assert_true(flag);
    assert_err(json_get_int(tree, "f", 0, &number, &err), &err, ERR_UNPROCESSABLE);
    assert_err(json_get_int(tree, "big", 0, &number, &err), &err, ERR_UNPROCESSABLE);
    assert_err(json_get_int(tree, "s", 0, &number, &err), &err, ERR_UNPROCESSABLE);
    assert_err(json_get_real(tree, "b", 0, &real, &err), &err, ERR_UNPROCESSABLE);
    assert_err(json_get_bool(tree, "i", false, &flag, &err), &err, ERR_UNPROCESSABLE);
    assert_int_equal(json_get_string(tree, "i", NULL, &text, &err), -ERR_UNPROCESSABLE);
    assert_string_equal(err.message, "\"i\" must be a string, not a number");
    json_decref(tree);
}

static void test_reals_are_short_and_read_back(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } ROWS[] = {
        {0.1, "0.1"},
        {1e-5, "1e-05"},
        {3, "3"},
        {-0.0, "-0"},
        {1e15, "1e+15"},
        {5e-324, NULL},
        {DBL_MAX, NULL},
        {DBL_MIN, NULL},
        {0.1 + 0.2, NULL},
        {1.0 / 3, NULL},
        {123456789.125, "123456789.125"},
        {NAN, "null"},
        {INFINITY, "null"},
        {-INFINITY, "null"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        char text[32];
        json_format_real(ROWS[i].value, text);
        if (ROWS[i].text)
            assert_string_equal(text, ROWS[i].text);
        if (isfinite(ROWS[i].value))
            assert_true(strtod(text, NULL) == ROWS[i].value);
    }
}

static void test_out_writes_what_it_is_told(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf buf;
    struct json_out out;
    buf_init(&buf, 4096);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_string(&out, "text", "q\" b\\ n\n t\t c\x01 u\xC3\xA9 bad\xFF");
    json_out_kv_string(&out, "none", NULL);
    json_out_key(&out, "list");
    json_out_array(&out);
    json_out_int(&out, INT64_MIN);
    json_out_uint(&out, UINT64_MAX);
    json_out_real(&out, 0.5);
    json_out_object(&out);
    json_out_object_end(&out);
    json_out_array_end(&out);
    json_out_kv_bool(&out, "no", false);
    json_out_kv_real(&out, "nan", NAN);
    json_out_kv_raw(&out, "raw", "[1]");
    json_out_kv_null(&out, "null");
    json_out_kv_int(&out, "int", 7);
    json_out_object_end(&out);
    assert_ok(buf_check(&buf, "answer", &err), &err);
    assert_string_equal(buf.data,
                        "{\"text\":\"q\\\" b\\\\ n\\n t\\t c\\u0001 u\xC3\xA9 bad\xEF\xBF\xBD\","
                        "\"none\":null,\"list\":[-9223372036854775808,18446744073709551615,0.5,{}],"
                        "\"no\":false,\"nan\":null,\"raw\":[1],\"null\":null,\"int\":7}");
    buf_release(&buf);
}

static void test_tree_goes_round(void **state)
{
    (void)state;
    static const char TEXT[] = "{\"b\":[1,2.5,\"x\",null,true],\"a\":{\"k\":\"\\u0000\"}}";
    struct err err = {0};
    struct buf buf;
    struct json_out out;
    json_t *tree = parse(TEXT, &err);
    buf_init(&buf, 4096);
    json_out_init(&out, &buf);
    json_out_tree(&out, tree);
    assert_string_equal(buf.data, TEXT);
    buf_release(&buf);
    json_decref(tree);
}

/* Every allocation of a parse fails in turn; strings and numbers of every length up to past the
 * growth of jansson's token buffer are in there, since it ignores a growth that fails. */
static void test_parse_survives_every_failed_allocation(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 1 << 20);
    buf_puts(&text, "[");
    for (int n = 1; n < 80; n++) {
        buf_printf(&text, "%s\"%0*d\",1.%0*d,{\"k%0*d\":%.*s}", n > 1 ? "," : "", n, 0, n, 1, n, 1,
                   n < 18 ? n : 18, "123456789012345678");
    }
    buf_puts(&text, "]");
    for (size_t cut = 0; cut < 2; cut++) {
        size_t before = mem_used();
        const char *from = cut ? "123456789012345,1" : text.data;
        struct buf wrapped;
        buf_init(&wrapped, 1 << 20);
        buf_printf(&wrapped, cut ? "[%s]" : "%s", from);
        size_t held = mem_used();
        for (uint64_t n = 1;; n++) {
            struct err err = {0};
            fault_arm(FAULT_MALLOC, n, false);
            json_t *tree = json_parse(wrapped.data, wrapped.len, &err);
            fault_disarm();
            if (!fault_fired()) {
                assert_non_null(tree);
                json_decref(tree);
                break;
            }
            assert_null(tree);
            assert_int_equal(err.code, ERR_NOMEM);
            assert_true(mem_used() == held);
        }
        buf_release(&wrapped);
        assert_true(mem_used() == before);
    }
    buf_release(&text);
}

static void test_parse_file(void **state)
{
    (void)state;
    struct err err = {0};
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "x.json", &err), &err);
    assert_ok(fs_write_file(path, "[1,2]", 5, &err), &err);
    json_t *tree = json_parse_file(path, 100, &err);
    assert_int_equal(json_array_size(tree), 2);
    json_decref(tree);
    assert_null(json_parse_file(path, 4, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    err_clear(&err);
    assert_ok(fs_write_file(path, "[1,", 3, &err), &err);
    assert_null(json_parse_file(path, 100, &err));
    assert_int_equal(err.code, ERR_UNPROCESSABLE);
    assert_true(strncmp(err.message, path, strlen(path)) == 0);
    test_dir_remove(dir);
}

/* Hugging Face's tokenizer_config.json says 10^30 where it means "no limit". */
static void test_whole_numbers_past_64_bits_become_reals(void **state)
{
    (void)state;
    struct err err = {0};
    static const char text[] = "{\"max\": 1000000000000000019884624838656, \"rank\": 16}";
    json_t *tree = json_parse(text, sizeof text - 1, &err);
    double max;
    int64_t rank;
    assert_non_null(tree);
    assert_ok(json_get_real(tree, "max", 0.0, &max, &err), &err);
    assert_true(max == 1e30);
    assert_ok(json_get_int(tree, "rank", 0, &rank, &err), &err);
    assert_int_equal(rank, 16);
    assert_err(json_get_int(tree, "max", 0, &rank, &err), &err, ERR_UNPROCESSABLE);
    json_decref(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_numbers_past_64_bits_become_reals),
        cmocka_unit_test(test_parse_reads_every_kind),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_parse_limits_depth_and_number_length),
        cmocka_unit_test(test_typed_members),
        cmocka_unit_test(test_reals_are_short_and_read_back),
        cmocka_unit_test(test_out_writes_what_it_is_told),
        cmocka_unit_test(test_tree_goes_round),
        cmocka_unit_test(test_parse_survives_every_failed_allocation),
        cmocka_unit_test(test_parse_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
