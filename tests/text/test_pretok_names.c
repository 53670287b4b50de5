/* The names of pre-tokenizers that GGUF files carry: each cuts as the models' own patterns do under
 * Hugging Face's tokenizers (scripts/golden/pretok_names.py), and other names are unknown. */
#include "base/json.h"
#include "test.h"
#include "text/pretok.h"

struct pieces {
    const json_t *want;
    size_t n;
    const char *name;
};

static int put_piece(void *ctx, const char *piece, size_t n, struct err *err)
{
    struct pieces *pieces = ctx;
    const json_t *want = json_array_get(pieces->want, pieces->n++);

    (void)err;
    if (want == NULL || json_string_length(want) != n ||
        memcmp(json_string_value(want), piece, n) != 0)
        fail_msg("%s: piece %zu is '%.*s', not '%s'", pieces->name, pieces->n - 1, (int)n, piece,
                 want == NULL ? "(the end)" : json_string_value(want));
    return 0;
}

static void test_cuts(void **state)
{
    struct err err = {0};
    json_t *file = json_parse_file("tests/fixtures/text/pretok_names.json", 1 << 20, &err);
    const json_t *texts = json_object_get(file, "texts");
    const char *name;
    json_t *wants;
    size_t n_names = 0;

    (void)state;
    assert_non_null(file);
    json_object_foreach(json_object_get(file, "names"), name, wants)
    {
        const struct pretok_known *known = pretok_find(name);
        struct pretok_scratch scratch = {0};
        struct pretok pretok;
        if (known == NULL)
            fail_msg("%s is unknown", name);
        assert_ok(pretok_init(&pretok, known->steps, known->n_steps, &err), &err);
        for (size_t i = 0; i < json_array_size(texts); i++) {
            const json_t *text = json_array_get(texts, i);
            struct pieces pieces = {.want = json_array_get(wants, i), .name = name};
            assert_ok(pretok_run(&pretok, &scratch, json_string_value(text),
                                 json_string_length(text), put_piece, &pieces, &err),
                      &err);
            assert_int_equal(pieces.n, json_array_size(pieces.want));
        }
        pretok_scratch_release(&scratch);
        pretok_release(&pretok);
        n_names++;
    }
    assert_true(n_names >= 30);
    json_decref(file);
}

static void test_unknown(void **state)
{
    (void)state;
    assert_true(tokenizer_pre_known("llama-bpe"));
    assert_false(tokenizer_pre_known("default"));
    assert_false(tokenizer_pre_known("llama-bp"));
    assert_false(tokenizer_pre_known(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cuts), cmocka_unit_test(test_unknown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
