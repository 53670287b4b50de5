/* Ids equal to the tokenizers package's: small tokenizers of every kind, which are in the fixture,
 * and the real ones of Llama 3.2, Qwen 3 and Gemma 3, which scripts/fetch-tokenizers brings.
 */
#include "text/golden.h"

static void test_tiny(void **state)
{
    static struct golden_lines lines;
    struct buf text;

    (void)state;
    golden_read(&lines, "tests/fixtures/text/tiny.jsonl");
    assert_true(lines.n >= 19);
    buf_init(&text, GOLDEN_FILE_BYTES_MAX);
    for (size_t i = 0; i < lines.n; i++) {
        const char *name = json_string_value(json_object_get(lines.line[i], "name"));
        const json_t *cases = json_object_get(lines.line[i], "cases");
        char *json = json_dumps(json_object_get(lines.line[i], "tokenizer"), 0);
        struct err err = {0};
        struct tokenizer *tok;
        assert_non_null(json);
        if (tokenizer_from_json(&tok, json, strlen(json), &err) != 0)
            fail_msg("%s: %s", name, err.message);
        for (size_t c = 0; c < json_array_size(cases); c++) {
            golden_text(json_object_get(json_array_get(cases, c), "t"), &text);
            golden_case(tok, name, c, &text, json_array_get(cases, c));
        }
        golden_around(tok, name, json_object_get(lines.line[i], "around"));
        tokenizer_free(tok);
        mem_free(json);
    }
    buf_release(&text);
    golden_release(&lines);
}

static void hold_real(const char *name)
{
    struct err err = {0};
    struct tokenizer *tok;
    struct buf json;
    char path[256];

    snprintf(path, sizeof path, ".cache/tokenizers/%s.json", name);
    if (!fs_exists(path))
        fail_msg("%s is missing: run scripts/fetch-tokenizers", path);
    buf_init(&json, GOLDEN_FILE_BYTES_MAX);
    assert_ok(fs_read_file(path, GOLDEN_FILE_BYTES_MAX, &json, &err), &err);
    assert_ok(tokenizer_from_json(&tok, json.data, json.len, &err), &err);
    buf_release(&json);
    golden_model(tok, name);
    tokenizer_free(tok);
}

static void test_llama3_2(void **state)
{
    (void)state;
    hold_real("llama3_2");
}

static void test_qwen3(void **state)
{
    (void)state;
    hold_real("qwen3");
}

static void test_gemma3(void **state)
{
    (void)state;
    hold_real("gemma3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_llama3_2),
        cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_gemma3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
