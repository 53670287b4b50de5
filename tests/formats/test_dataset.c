/* Reading datasets: shapes, bad rows, odd files, failures. */
#include "formats/dataset.h"
#include "test.h"

struct fixture {
    char dir[FS_PATH_BYTES_MAX];
    char path[FS_PATH_BYTES_MAX];
};

static int setup(void **state)
{
    static struct fixture f;
    struct err err = {0};

    test_dir_make(f.dir);
    assert_ok(fs_join(f.path, f.dir, "d.jsonl", &err), &err);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fault_disarm();
    test_dir_remove(f->dir);
    return 0;
}

static void put(struct fixture *f, const void *bytes, size_t n)
{
    struct err err = {0};

    assert_ok(fs_write_file(f->path, bytes, n, &err), &err);
}

static void test_shapes(void **state)
{
    struct fixture *f = *state;
    static const char text[] =
        "\xef\xbb\xbf{\"prompt\":\"p\",\"completion\":\"c\\u0000d\"}\r\n"
        "\n   \n"
        "{\"messages\":[{\"role\":\"system\",\"content\":\"\"},"
        "{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[{\"function\":{}}]},{\"role\":\"tool\",\"content\":\"t\"}],"
        "\"tools\":[{}],\"other\":1}\n"
        "{\"text\":\"t\",\"completion\":\"no prompt, so text\"}";
    struct dataset_reader *reader = NULL;
    struct dataset_row row;
    struct err err = {0};
    bool more = false;
    char seen[SHA256_HEX_BYTES], whole[SHA256_HEX_BYTES];

    put(f, text, sizeof text - 1);
    assert_ok(dataset_reader_new(&reader, f->path, NULL, &err), &err);
    assert_ok(dataset_reader_next(reader, &row, &more, &err), &err);
    assert_true(more);
    assert_int_equal(row.shape, DATASET_COMPLETION);
    assert_int_equal(row.line, 1);
    assert_int_equal(row.completion.length, 3);
    assert_memory_equal(row.completion.bytes, "c\0d", 3);
    assert_ok(dataset_reader_next(reader, &row, &more, &err), &err);
    assert_int_equal(row.shape, DATASET_CHAT);
    assert_int_equal(row.line, 4);
    assert_int_equal(row.index, 1);
    assert_int_equal(json_array_size(row.messages), 4);
    assert_int_equal(json_array_size(row.tools), 1);
    assert_ok(dataset_reader_next(reader, &row, &more, &err), &err);
    assert_int_equal(row.shape, DATASET_TEXT);
    assert_string_equal(row.text.bytes, "t");
    assert_ok(dataset_reader_next(reader, &row, &more, &err), &err);
    assert_false(more);
    assert_ok(dataset_reader_sha256(reader, seen, &err), &err);
    assert_ok(sha256_file_hex(f->path, whole, &err), &err);
    assert_string_equal(seen, whole);
    assert_int_equal(dataset_reader_bytes(reader), sizeof text - 1);
    dataset_reader_free(reader);
}

#define CHAT(messages) "{\"messages\":" messages "}"

static void test_bad_rows(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *row, *why;
    } rows[] = {
        {"{", "not JSON: "},
        {"{\"text\":\"a\"} x", "not JSON: "},
        {"{\"text\":\"a\",\"text\":\"b\"}", "not JSON: "},
        {"{\"text\":\"\xff\"}", "not JSON: "},
        {"[]", "not a JSON object"},
        {"3", "not a JSON object"},
        {"{}", "no messages, no prompt with completion, no text"},
        {"{\"prompt\":\"p\"}", "no messages"},
        {"{\"prompt\":1,\"completion\":\"c\"}", "prompt is not a string"},
        {"{\"prompt\":\"p\",\"completion\":\" \\n\"}", "completion is empty: nothing to learn"},
        {"{\"text\":5}", "text is not a string"},
        {"{\"text\":\"\"}", "text is empty: nothing to learn"},
        {CHAT("{}"), "messages is not a list with at least one message"},
        {CHAT("[]"), "messages is not a list with at least one message"},
        {CHAT("[1]"), "messages[0] is not an object"},
        {CHAT("[{\"content\":\"x\"}]"), "messages[0].role is missing"},
        {CHAT("[{\"role\":\"bot\",\"content\":\"x\"}]"), "messages[0].role is none of"},
        {CHAT("[{\"role\":\"user\"}]"), "messages[0].content is missing"},
        {CHAT("[{\"role\":\"user\",\"content\":[]}]"), "messages[0].content is not a string"},
        {CHAT("[{\"role\":\"assistant\",\"content\":null}]"), "messages[0].content"},
        {CHAT("[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":3}]"),
         "messages[0].tool_calls is not a list"},
        {CHAT("[{\"role\":\"user\",\"content\":\"x\"}]"),
         "messages has nothing to learn: no assistant"},
        {CHAT("[{\"role\":\"assistant\",\"content\":\" \"}]"), "nothing to learn: no assistant"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}],\"tools\":{}}",
         "tools is not a list"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[512];
        struct dataset_report report;
        struct err err = {0};
        int n = snprintf(text, sizeof text, "{\"text\":\"good\"}\n%s\n{\"text\":\"good\"}\n",
                         rows[i].row);

        put(f, text, (size_t)n);
        assert_int_equal(dataset_check(f->path, NULL, NULL, &report, &err), -ERR_INVALID);
        if (strncmp(err.message, "d.jsonl:2: ", 11) != 0 || !strstr(err.message, rows[i].why))
            fail_msg("row %zu: %s", i, err.message);
    }
}

static void test_reading_goes_on_after_a_bad_row(void **state)
{
    struct fixture *f = *state;
    struct dataset_reader *reader = NULL;
    struct dataset_row row;
    struct err err = {0};
    bool more = false;

    put(f, "nonsense\n{\"text\":\"good\"}\n", 25);
    assert_ok(dataset_reader_new(&reader, f->path, NULL, &err), &err);
    assert_err(dataset_reader_next(reader, &row, &more, &err), &err, ERR_INVALID);
    assert_ok(dataset_reader_next(reader, &row, &more, &err), &err);
    assert_true(more);
    assert_int_equal(row.line, 2);
    assert_int_equal(row.index, 0);
    dataset_reader_free(reader);
}

static void test_only_the_first_bad_rows_are_shown(void **state)
{
    struct fixture *f = *state;
    struct dataset_report report;
    struct err err = {0};
    char text[256] = "";

    for (int i = 0; i < DATASET_BAD_ROWS_SHOWN + 3; i++)
        memcpy(text + 3 * i, "{}\n", 4);
    put(f, text, strlen(text));
    assert_int_equal(dataset_check(f->path, "up", NULL, &report, &err), -ERR_INVALID);
    assert_true(strncmp(err.message, "up:1: ", 6) == 0);
    assert_non_null(strstr(err.message, "; up:5: "));
    assert_null(strstr(err.message, "up:6: "));
    assert_non_null(strstr(err.message, "; and 3 more"));
}

static void test_odd_files(void **state)
{
    struct fixture *f = *state;
    struct dataset_report report;
    struct err err = {0};

    put(f, "", 0);
    assert_err(dataset_check(f->path, NULL, NULL, &report, &err), &err, ERR_INVALID);
    put(f, " \n\n", 3);
    assert_err(dataset_check(f->path, NULL, NULL, &report, &err), &err, ERR_INVALID);
    assert_err(dataset_check(f->dir, NULL, NULL, &report, &err), &err, ERR_INVALID);
    assert_err(dataset_check("/nonexistent", NULL, NULL, &report, &err), &err, ERR_NOT_FOUND);
    assert_err(dataset_check("/dev/null", NULL, NULL, &report, &err), &err, ERR_INVALID);
}

/* Lines longer than a block, and one past the limit between two good ones. */
static void test_long_lines(void **state)
{
    struct fixture *f = *state;
    struct dataset_report report;
    struct err err = {0};
    size_t huge = DATASET_LINE_BYTES_MAX + (1 << 20), used = 0;
    char *text = malloc(huge + 400000);

    assert_non_null(text);
    used += (size_t)snprintf(text, huge, "{\"text\":\"");
    memset(text + used, 'x', 300000);
    used += 300000;
    used += (size_t)snprintf(text + used, 16, "\"}\n");
    put(f, text, used);
    assert_ok(dataset_check(f->path, NULL, NULL, &report, &err), &err);
    assert_int_equal(report.rows, 1);
    memset(text + used, 'y', huge);
    used += huge;
    used += (size_t)snprintf(text + used, 16, "\n{}\n");
    put(f, text, used);
    assert_int_equal(dataset_check(f->path, NULL, NULL, &report, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "d.jsonl:2: the line is longer than 16 MiB; d.jsonl:3: "));
    free(text);
}

static void test_columns(void **state)
{
    struct fixture *f = *state;
    struct dataset_columns columns;
    struct dataset_report report;
    struct err err = {0};
    static const char *const bad[] = {"[]", "{\"question\":\"q\"}", "{\"prompt\":1}",
                                      "{\"prompt\":\"\"}"};
    json_t *json = json_pack("{s:s,s:s}", "prompt", "q", "completion", "a");

    assert_ok(dataset_columns_parse(&columns, json, &err), &err);
    json_decref(json);
    put(f, "{\"q\":\"1\",\"a\":\"2\"}", 17);
    assert_ok(dataset_check(f->path, NULL, &columns, &report, &err), &err);
    assert_int_equal(report.by_shape[DATASET_COMPLETION], 1);
    assert_err(dataset_check(f->path, NULL, NULL, &report, &err), &err, ERR_INVALID);
    put(f, "{\"q\":\"1\",\"a\":2}", 15); /* errors have the file's names, too */
    assert_int_equal(dataset_check(f->path, NULL, &columns, &report, &err), -ERR_INVALID);
    assert_string_equal(err.message, "d.jsonl:1: a is not a string");
    err_clear(&err);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        json = json_parse(bad[i], strlen(bad[i]), &err);
        assert_err(dataset_columns_parse(&columns, json, &err), &err, ERR_UNPROCESSABLE);
        json_decref(json);
    }
}

static void test_failures(void **state)
{
    struct fixture *f = *state;
    static const enum fault_kind kinds[] = {FAULT_MALLOC, FAULT_OPEN, FAULT_READ};
    static const char text[] = CHAT("[{\"role\":\"assistant\",\"content\":\"x\"}]") "\n{}\n";

    put(f, text, sizeof text - 1);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (uint64_t n = 1;; n++) {
            struct dataset_report report;
            struct err err = {0};

            fault_arm(kinds[k], n, false);
            int rc = dataset_check(f->path, NULL, NULL, &report, &err);
            bool fired = fault_fired();
            fault_disarm();
            if (!fired) {
                assert_int_equal(rc, -ERR_INVALID);
                break;
            }
            assert_true(rc < 0);
            if (kinds[k] == FAULT_MALLOC)
                assert_int_equal(rc, -ERR_NOMEM);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_shapes),
        TEST(test_bad_rows),
        TEST(test_reading_goes_on_after_a_bad_row),
        TEST(test_only_the_first_bad_rows_are_shown),
        TEST(test_odd_files),
        TEST(test_long_lines),
        TEST(test_columns),
        TEST(test_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
