/* From dataset rows to tokens and targets: equal to transformers' tokens and to spans found by
 * character offsets (golden.json), and every kind of template, length and bad row. */
#include "train/rows.h"

#include "train/run_fixture.h"

static struct engine_model *model;

static int open_model(void **state)
{
    const struct engine_options options = {.threads = 1, .isa = "best"};
    (void)state;
    return engine_model_open(&model, FIXTURE_BASE, &options, NULL);
}

static int close_model(void **state)
{
    (void)state;
    engine_model_free(model);
    return 0;
}

static void test_golden_rows(void **state)
{
    struct row_maker maker;
    struct train_rows rows;
    struct err err = {0};
    (void)state;
    json_t *golden = fixture_json("golden.json");
    const json_t *want = json_object_get(golden, "rows");
    assert_ok(row_maker_init(&maker, model, NULL, NULL, 96, true, &err), &err);
    assert_ok(train_rows_read(&rows, &maker, FIXTURE_DATASET, NULL, NULL, NULL, NULL, &err), &err);
    assert_int_equal(rows.n_rows, json_array_size(want));
    assert_int_equal(rows.dropped + rows.truncated + rows.last_turn_only, 0);
    for (size_t r = 0; r < rows.n_rows; r++) {
        const json_t *tokens = json_object_get(json_array_get(want, r), "tokens");
        const json_t *targets = json_object_get(json_array_get(want, r), "targets");
        const struct train_row *row = &rows.rows[r];
        assert_int_equal(row->n_tokens, json_array_size(tokens));
        uint32_t n_targets = 0;
        for (size_t i = 0; i < row->n_tokens; i++) {
            assert_int_equal(rows.tokens[row->at + i],
                             json_integer_value(json_array_get(tokens, i)));
            assert_int_equal(rows.targets[row->at + i],
                             json_integer_value(json_array_get(targets, i)));
            n_targets += rows.targets[row->at + i];
        }
        assert_int_equal(row->n_targets, n_targets);
    }
    train_rows_release(&rows);
    row_maker_release(&maker);
    json_decref(golden);
}

/* --- one row ---------------------------------------------------------------------------------- */

static const char chatml[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
/* One that says something by itself, but not before there is a message. */
static const char preamble[] =
    "{% for m in messages %}{% if loop.first %}<|im_start|>system\nassist<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
/* Earlier answers are shortened, as reasoning is by many templates. */
static const char rewriting[] = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
                                "{% if m.role == 'assistant' and loop.last %}(thought) {% endif %}"
                                "{{ m.content }}<|im_end|>\n{% endfor %}"
                                "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
/* Asks with more than it writes. */
static const char asking[] =
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] <think>{% endif %}";
/* Nothing of what stands before an answer is where it was. */
static const char counting[] =
    "{{ messages | length }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}";

/* Targets of the one row in `json`, with every run of targets in brackets. */
struct made {
    char text[512];
    int n_tokens, n_targets;
    bool truncated, last_turn_only;
};

static int make(const char *template, const char *json, int tokens_max, bool mask_prompt,
                struct made *made, struct err *err)
{
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    struct row_maker maker = {0};
    struct dataset_reader *reader = NULL;
    struct dataset_row row;
    struct train_sample sample;
    struct buf text;
    bool more = false;
    memset(made, 0, sizeof *made);
    buf_init(&text, sizeof made->text - 1);
    test_dir_make(dir);
    int rc = fs_join(path, dir, "row.jsonl", err);
    if (rc == 0) {
        rc = fs_write_file(path, json, strlen(json), err);
    }
    if (rc == 0) {
        rc = row_maker_init(&maker, model, template, "2026-01-31", tokens_max, mask_prompt, err);
    }
    if (rc == 0) {
        rc = dataset_reader_new(&reader, path, NULL, err);
    }
    if (rc == 0) {
        rc = dataset_reader_next(reader, &row, &more, err);
    }
    if (rc == 0) {
        rc = row_maker_make(&maker, &row, &sample, err);
    }
    for (int i = 0; rc == 0 && i < sample.n_tokens; i++) {
        const bool target = sample.targets[i] != 0;
        const bool before = i > 0 && sample.targets[i - 1] != 0;
        buf_puts(&text, target && !before ? "[" : !target && before ? "]" : "");
        rc = tokenizer_decode(maker.tokenizer, &sample.tokens[i], 1, false, &text, err);
    }
    if (rc == 0) {
        snprintf(made->text, sizeof made->text, "%s%s", text.len > 0 ? text.data : "",
                 sample.n_tokens > 0 ? "]" : "");
        made->n_tokens = sample.n_tokens;
        made->n_targets = sample.n_targets;
        made->truncated = sample.truncated;
        made->last_turn_only = sample.last_turn_only;
    }
    buf_release(&text);
    dataset_reader_free(reader);
    row_maker_release(&maker);
    test_dir_remove(dir);
    return rc;
}

#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define BOT(text)  "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define CHAT(list) "{\"messages\":[" list "]}"

static void test_targets(void **state)
{
    static const struct {
        const char *what, *template, *json, *want;
        bool last_only;
    } rows[] = {
        {"one turn", chatml, CHAT(USER("hi") "," BOT("yes")),
         "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n[yes<|im_end|>]", false},
        {"every assistant turn", chatml, CHAT(USER("a") "," BOT("b") "," USER("c") "," BOT("d")),
         "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]\n"
         "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[d<|im_end|>]",
         false},
        {"what follows the last answer is left out", chatml,
         CHAT(USER("a") "," BOT("b") "," USER("thanks")),
         "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]", false},
        {"two answers in a row", chatml, CHAT(BOT("a") "," BOT("b")),
         "<|im_start|>assistant\n[a<|im_end|>]\n<|im_start|>assistant\n[b<|im_end|>]", false},
        {"an answer to nothing, behind a preamble", preamble, CHAT(BOT("a")),
         "<|im_start|>system\nassist<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]", false},
        {"an answer to nothing from a template that asks differently", asking, CHAT(BOT("b")),
         "[[assistant] b<|im_end|>]", false},
        {"a template that rewrites", rewriting,
         CHAT(USER("a") "," BOT("b") "," USER("c") "," BOT("d")),
         "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
         "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[(thought) d<|im_end|>]",
         true},
        {"a template that asks differently", asking, CHAT(USER("a") "," BOT("b")),
         "[user] a<|im_end|>[[assistant] b<|im_end|>]", true},
        {"no end token in the template: one is put", NULL, CHAT(USER("a") "," BOT("b")), NULL,
         false},
        {"a completion", chatml, "{\"prompt\":\"two and \",\"completion\":\"two\"}",
         "two and [two<|im_end|>]", false},
        {"a text", chatml, "{\"text\":\"ab\"}", NULL, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct made made;
        struct err err = {0};
        if (make(rows[i].template, rows[i].json, 96, true, &made, &err) != 0) {
            fail_msg("%s: %s", rows[i].what, err.message);
        }
        if (rows[i].want != NULL && strcmp(made.text, rows[i].want) != 0) {
            fail_msg("%s: %s", rows[i].what, made.text);
        }
        assert_int_equal(made.last_turn_only, rows[i].last_only);
        assert_true(made.n_targets > 0);
        /* All end with the end token as a target. */
        assert_non_null(strstr(made.text, "<|im_end|>]"));
    }
}

static void test_plain_template_ends_with_the_end_token(void **state)
{
    struct made made;
    struct err err = {0};
    (void)state;
    assert_ok(make(template_plain, CHAT(USER("a") "," BOT("b")), 96, true, &made, &err), &err);
    assert_string_equal(made.text, "<|user|>\na\n<|assistant|>\n[b\n<|im_end|>]");
}

static void test_without_mask_all_are_targets(void **state)
{
    struct made made;
    struct err err = {0};
    (void)state;
    assert_ok(make(chatml, CHAT(USER("a") "," BOT("b")), 96, false, &made, &err), &err);
    assert_int_equal(made.n_targets, made.n_tokens - 1);
}

static void test_truncation(void **state)
{
    struct made whole, cut, gone;
    struct err err = {0};
    static const char json[] = CHAT(USER("abc") "," BOT("defghijkl"));
    (void)state;
    assert_ok(make(chatml, json, 96, true, &whole, &err), &err);
    assert_false(whole.truncated);
    assert_ok(make(chatml, json, whole.n_tokens - 2, true, &cut, &err), &err);
    assert_true(cut.truncated);
    assert_int_equal(cut.n_tokens, whole.n_tokens - 2);
    assert_int_equal(cut.n_targets, whole.n_targets - 2);
    assert_ok(make(chatml, json, whole.n_tokens - whole.n_targets, true, &gone, &err), &err);
    assert_true(gone.truncated);
    assert_int_equal(gone.n_targets, 0);
    /* A turn that begins where the row is full is lost as a whole. */
    static const char more[] = CHAT(USER("abc") "," BOT("defghijkl") "," USER("m") "," BOT("n"));
    for (int n = whole.n_tokens; n < whole.n_tokens + 3; n++) {
        assert_ok(make(chatml, more, n, true, &cut, &err), &err);
        assert_int_equal(cut.n_targets, whole.n_targets);
        assert_true(cut.truncated);
    }
}

static void test_refusals(void **state)
{
    static const struct {
        const char *what, *template, *json, *says;
    } rows[] = {
        {"answers cannot be told apart", counting, CHAT(USER("a") "," BOT("b")),
         "cannot be told apart"},
        {"the template refuses", "{{ raise_exception('no system role') }}",
         CHAT(USER("a") "," BOT("b")), "no system role"},
        {"the template is broken", "{% for %}", CHAT(USER("a") "," BOT("b")), "line 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct made made;
        struct err err = {0};
        assert_int_equal(make(rows[i].template, rows[i].json, 96, true, &made, &err), -ERR_INVALID);
        if (strstr(err.message, rows[i].says) == NULL) {
            fail_msg("%s: %s", rows[i].what, err.message);
        }
    }
}

/* --- a file ----------------------------------------------------------------------------------- */

static void test_dropped_rows_are_counted_and_errors_name_the_line(void **state)
{
    static const char text[] = CHAT(USER("a") "," BOT("b")) "\n" CHAT(USER(
        "a long question, which takes all of the room that a row may have here") "," BOT("b")) "\n";
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    struct row_maker maker;
    struct train_rows rows;
    struct err err = {0};
    (void)state;
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "d.jsonl", &err), &err);
    assert_ok(fs_write_file(path, text, strlen(text), &err), &err);
    assert_ok(row_maker_init(&maker, model, chatml, NULL, 24, true, &err), &err);
    assert_ok(train_rows_read(&rows, &maker, path, NULL, NULL, NULL, NULL, &err), &err);
    assert_int_equal(rows.read, 2);
    assert_int_equal(rows.n_rows, 1);
    assert_int_equal(rows.dropped, 1);
    assert_int_equal(rows.truncated, 1);
    train_rows_release(&rows);
    row_maker_release(&maker);

    assert_ok(row_maker_init(&maker, model, counting, NULL, 24, true, &err), &err);
    assert_int_equal(train_rows_read(&rows, &maker, path, NULL, NULL, NULL, NULL, &err),
                     -ERR_INVALID);
    assert_non_null(strstr(err.message, "d.jsonl:1: "));
    row_maker_release(&maker);
    test_dir_remove(dir);
}

/* A file that changed is said to have changed, even when the change broke a row. */
static void test_changed_file(void **state)
{
    static const char *const texts[] = {"{\"text\": \"fine\"}\n", "{oops\n"};
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX], zeros[SHA256_HEX_BYTES];
    struct row_maker maker;
    struct train_rows rows;
    struct err err = {0};
    (void)state;
    memset(zeros, '0', sizeof zeros - 1);
    zeros[sizeof zeros - 1] = '\0';
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "d.jsonl", &err), &err);
    assert_ok(row_maker_init(&maker, model, chatml, NULL, 24, true, &err), &err);
    for (int i = 0; i < 2; i++) {
        assert_ok(fs_write_file(path, texts[i], strlen(texts[i]), &err), &err);
        assert_err(train_rows_read(&rows, &maker, path, NULL, zeros, NULL, NULL, &err), &err,
                   ERR_CORRUPT);
    }
    row_maker_release(&maker);
    test_dir_remove(dir);
}

static void test_failed_allocations(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct row_maker maker = {0};
        struct train_rows rows = {0};
        struct err err = {0};
        const size_t before = mem_used();
        fault_arm(FAULT_MALLOC, n, false);
        int rc = row_maker_init(&maker, model, NULL, NULL, 96, true, &err);
        if (rc == 0) {
            rc = train_rows_read(&rows, &maker, FIXTURE_DATASET, NULL, NULL, NULL, NULL, &err);
        }
        fault_disarm();
        train_rows_release(&rows);
        row_maker_release(&maker);
        assert_int_equal(mem_used(), before);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            break;
        }
        n += n / 24; /* most are the interpreter's, one like the other */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_rows),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_plain_template_ends_with_the_end_token),
        cmocka_unit_test(test_without_mask_all_are_targets),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_dropped_rows_are_counted_and_errors_name_the_line),
        cmocka_unit_test(test_changed_file),
        cmocka_unit_test(test_failed_allocations),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
