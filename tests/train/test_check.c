/* What a dataset check says of rows whose tokens are known, and of files that are not as they
 * should be. */
#include "train/check.h"

#include "train/run_fixture.h"

struct file {
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
};

static void file_new(struct file *file, const char *text)
{
    struct err err = {0};
    test_dir_make(file->dir);
    assert_ok(fs_join(file->path, file->dir, "rows.jsonl", &err), &err);
    assert_ok(fs_write_file(file->path, text, strlen(text), &err), &err);
}

static int check(const struct check_request *request, json_t **answer, struct err *err)
{
    struct buf text;
    struct json_out out;
    buf_init(&text, CHECK_ANSWER_BYTES_MAX);
    json_out_init(&out, &text);
    const size_t before = mem_used();
    int rc = train_check(request, &out, err);
    if (rc == 0) {
        *answer = json_parse(text.data, text.len, err);
        assert_non_null(*answer);
    } else {
        assert_int_equal(mem_used(), before);
    }
    buf_release(&text);
    return rc;
}

static json_t *check_text(const char *rows, int64_t max_seq_length, bool mask)
{
    struct file file;
    struct err err = {0};
    json_t *answer = NULL;
    file_new(&file, rows);
    const struct check_request request = {.dataset_path = file.path,
                                          .base_path = FIXTURE_BASE,
                                          .max_seq_length = max_seq_length,
                                          .mask_prompt = mask};
    assert_ok(check(&request, &answer, &err), &err);
    test_dir_remove(file.dir);
    return answer;
}

static int64_t number(const json_t *object, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(object, key));
}

static const json_t *sample(const json_t *answer, size_t i)
{
    return json_array_get(json_object_get(answer, "samples"), i);
}

/* Tokens and targets are the golden ones that training has. */
static void test_rows_are_those_of_training(void **state)
{
    struct err err = {0};
    json_t *golden = fixture_json("golden.json"), *answer = NULL;
    (void)state;
    for (int64_t r = 1; r <= 23; r++) {
        const json_t *want = json_array_get(json_object_get(golden, "rows"), (size_t)r - 1);
        const struct check_request request = {.dataset_path = FIXTURE_DATASET,
                                              .base_path = FIXTURE_BASE,
                                              .max_seq_length = 96,
                                              .mask_prompt = true,
                                              .row = r};
        assert_ok(check(&request, &answer, &err), &err);
        assert_int_equal(json_array_size(json_object_get(answer, "samples")), 1);
        const json_t *got = json_object_get(sample(answer, 0), "tokens");
        assert_int_equal(number(sample(answer, 0), "row"), r);
        assert_int_equal(json_array_size(got), json_array_size(json_object_get(want, "tokens")));
        for (size_t i = 0; i < json_array_size(got); i++) {
            const json_t *token = json_array_get(got, i);
            assert_int_equal(number(token, "id"), json_integer_value(json_array_get(
                                                      json_object_get(want, "tokens"), i)));
            assert_int_equal(
                json_is_true(json_object_get(token, "trained")),
                json_integer_value(json_array_get(json_object_get(want, "targets"), i)));
        }
        json_decref(answer);
    }
    json_decref(golden);
}

static void test_numbers(void **state)
{
    (void)state;
    /* One letter is one token here; the end token is a target, too. */
    json_t *answer = check_text("{\"prompt\":\"zz\",\"completion\":\"q\"}\n"
                                "{\"prompt\":\"zz\",\"completion\":\"q\"}\n"
                                "{\"prompt\":\"zzzzzzzz\",\"completion\":\"q\"}\n"
                                "{\"prompt\":\"zzzz\",\"completion\":\"qqqqqq\"}\n"
                                "{\"prompt\":\"z\",\"completion\":\"<|im_end|>\"}\n",
                                8, true);
    const json_t *tokens = json_object_get(answer, "tokens");
    assert_int_equal(number(answer, "rows"), 5);
    assert_int_equal(number(answer, "completion"), 5);
    assert_int_equal(number(tokens, "total"), 4 + 4 + 10 + 11 + 2);
    assert_int_equal(number(tokens, "min"), 2);
    assert_int_equal(number(tokens, "max"), 11);
    assert_int_equal(number(tokens, "median"), 4);
    assert_int_equal(number(answer, "targets"), 2 + 2 + 0 + 4 + 1);
    assert_int_equal(number(answer, "truncated"), 2);
    assert_int_equal(number(answer, "dropped"), 1);
    assert_int_equal(number(answer, "empty"), 1);
    assert_int_equal(number(answer, "duplicates"), 1);
    const json_t *pair = json_array_get(json_object_get(answer, "duplicate_of"), 0);
    assert_int_equal(number(pair, "line"), 2);
    assert_int_equal(number(pair, "first_line"), 1);
    int64_t rows = 0;
    size_t i;
    const json_t *bucket;
    json_array_foreach(json_object_get(answer, "histogram"), i, bucket)
    {
        rows += number(bucket, "rows");
    }
    assert_int_equal(rows, 5);
    assert_int_equal(json_array_size(json_object_get(answer, "samples")), CHECK_SAMPLES);
    json_decref(answer);

    answer = check_text("{\"prompt\":\"zz\",\"completion\":\"q\"}\n", 8, false);
    assert_int_equal(number(answer, "targets"), 3);
    json_decref(answer);
}

static void test_bad_rows_are_named(void **state)
{
    (void)state;
    json_t *answer = check_text("{\"text\":\"fine\"}\n{oops\n{\"text\":7}\n"
                                "{\"messages\":[{\"role\":\"user\",\"content\":\"hm\"}]}\n",
                                64, true);
    const json_t *bad = json_object_get(answer, "bad");
    assert_int_equal(number(answer, "rows"), 1);
    assert_int_equal(number(answer, "bad_rows"), 3);
    assert_non_null(strstr(json_string_value(json_array_get(bad, 0)), "rows.jsonl:2: not JSON"));
    assert_non_null(strstr(json_string_value(json_array_get(bad, 1)), "rows.jsonl:3: text"));
    assert_non_null(strstr(json_string_value(json_array_get(bad, 2)), "rows.jsonl:4: "));
    json_decref(answer);

    struct file file;
    struct err err = {0};
    file_new(&file, "{\"text\":\"fine\"}\n{\"text\":7}\n");
    struct check_request request = {
        .dataset_path = file.path, .base_path = FIXTURE_BASE, .max_seq_length = 64, .row = 2};
    assert_int_equal(check(&request, &answer, &err), -ERR_INVALID);
    assert_string_equal(err.message, "row 2 is bad: rows.jsonl:2: text is not a string");
    test_dir_remove(file.dir);
    file_new(&file, "\n");
    request.dataset_path = file.path;
    request.row = 0;
    err_clear(&err);
    assert_int_equal(check(&request, &answer, &err), -ERR_INVALID);
    assert_string_equal(err.message, "rows.jsonl has no rows");
    test_dir_remove(file.dir);
}

/* A base like the fixture's with another chat template. */
static void base_with(const char *dir, const char *template, char base[FS_PATH_BYTES_MAX])
{
    static const char *const files[] = {"config.json", "generation_config.json", "tokenizer.json",
                                        "tokenizer_config.json", "model.safetensors"};
    char path[FS_PATH_BYTES_MAX], from[128];
    struct err err = {0};
    assert_ok(fs_join(base, dir, "base", &err), &err);
    assert_ok(fs_mkdirs(base, &err), &err);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(from, sizeof from, FIXTURE_BASE "/%s", files[i]);
        assert_ok(fs_join(path, base, files[i], &err), &err);
        assert_ok(fs_copy_file(from, path, &err), &err);
    }
    assert_ok(fs_join(path, base, "chat_template.jinja", &err), &err);
    assert_ok(fs_write_file(path, template, strlen(template), &err), &err);
}

/* Training sees a template rewrite turns only as far as the row goes, and so does the check: of
 * this row, cut within its second turn, the first answer is learnt; whole, the last one. */
static void test_turns_that_are_rewritten_behind_the_cut(void **state)
{
    static const char rewriting[] =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and loop.last and loop.index > 2 %}(thought) {% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    static const char rows[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"zz\"},"
        "{\"role\":\"assistant\",\"content\":\"qq\"},{\"role\":\"user\",\"content\":\"z\"},"
        "{\"role\":\"assistant\",\"content\":\"j\"},{\"role\":\"user\",\"content\":\"z\"},"
        "{\"role\":\"assistant\",\"content\":\"k\"}]}\n";
    static const int64_t lengths[] = {13, 200};
    struct file file;
    char base[FS_PATH_BYTES_MAX];
    (void)state;
    file_new(&file, rows);
    base_with(file.dir, rewriting, base);
    for (size_t i = 0; i < 2; i++) {
        struct run_fixture f;
        struct err err = {0};
        json_t *answer = NULL;
        const struct check_request request = {.dataset_path = file.path,
                                              .base_path = base,
                                              .max_seq_length = lengths[i],
                                              .mask_prompt = true};
        assert_ok(check(&request, &answer, &err), &err);
        fixture_new(&f, FIXTURE_CONFIG(FIXTURE_GOLDEN));
        f.config.max_seq_length = lengths[i];
        f.config.max_steps = 1;
        f.spec.base_path = base;
        f.spec.dataset_path = file.path;
        fixture_run(&f);
        assert_int_equal(number(answer, "targets"), f.result.targets);
        assert_int_equal(number(answer, "truncated"), f.result.rows_truncated);
        assert_int_equal(number(answer, "last_turn_only"), lengths[i] > 13);
        fixture_free(&f);
        json_decref(answer);
    }
    test_dir_remove(file.dir);
}

static void test_columns_and_tools(void **state)
{
    struct file file;
    struct err err = {0};
    json_t *answer = NULL;
    (void)state;
    file_new(&file, "{\"q\":\"zz\",\"a\":\"q\"}\n"
                    "{\"talk\":[{\"role\":\"user\",\"content\":\"z\"},"
                    "{\"role\":\"assistant\",\"content\":\"q\"}],"
                    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}\n");
    const struct check_request request = {
        .dataset_path = file.path,
        .columns = "{\"prompt\":\"q\",\"completion\":\"a\",\"messages\":\"talk\"}",
        .base_path = FIXTURE_BASE,
        .max_seq_length = 64,
        .mask_prompt = true};
    assert_ok(check(&request, &answer, &err), &err);
    assert_int_equal(number(answer, "completion"), 1);
    assert_int_equal(number(answer, "chat"), 1);
    assert_int_equal(number(answer, "targets"), 4);
    json_decref(answer);
    test_dir_remove(file.dir);
}

static void test_refusals(void **state)
{
    static const struct {
        struct check_request request;
        enum err_code code;
        const char *says;
    } rows[] = {
        {{.dataset_path = "/nowhere.jsonl", .base_path = FIXTURE_BASE}, ERR_NOT_FOUND, "/nowhere"},
        {{.dataset_path = FIXTURE_DATASET, .base_path = "/nowhere"}, ERR_NOT_FOUND, "/nowhere"},
        {{.dataset_path = FIXTURE_DATASET, .base_path = FIXTURE_DATASET}, ERR_CORRUPT, ""},
        {{.dataset_path = FIXTURE_DATASET, .base_path = FIXTURE_BASE, .row = 24},
         ERR_NOT_FOUND,
         "there is no row 24: the file has 23"},
        {{.dataset_path = FIXTURE_DATASET, .base_path = FIXTURE_BASE, .columns = "{\"x\":\"y\"}"},
         ERR_UNPROCESSABLE,
         "Unknown column 'x'"},
        {{.dataset_path = FIXTURE_DATASET, .base_path = FIXTURE_BASE, .columns = "nonsense"},
         ERR_UNPROCESSABLE,
         "JSON is not valid"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct check_request request = rows[i].request;
        struct err err = {0};
        json_t *answer = NULL;
        request.max_seq_length = 64;
        const int rc = check(&request, &answer, &err);
        if (rc != -(int)rows[i].code || strstr(err.message, rows[i].says) == NULL) {
            fail_msg("row %zu: %d \"%s\"", i, rc, err.message);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_those_of_training),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_bad_rows_are_named),
        cmocka_unit_test(test_turns_that_are_rewritten_behind_the_cut),
        cmocka_unit_test(test_columns_and_tools),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
