/* SmolLM2's tokenizer out of its GGUF metadata: ids equal to the tokenizers package's. The model is
 * the real one, which scripts/fetch-model brings.
 */
#include "engine/tokenizer_files.h"
#include "formats/gguf.h"
#include "text/golden.h"

static const char model_path[] = ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf";

static void test_smollm2(void **state)
{
    struct err err = {0};
    struct gguf *gguf = NULL;
    struct tokenizer *tok = NULL;

    (void)state;
    if (!fs_exists(model_path))
        fail_msg("%s is missing: run scripts/fetch-model", model_path);
    assert_ok(gguf_open(model_path, &gguf, &err), &err);
    assert_ok(tokenizer_from_gguf(gguf, &tok, &err), &err);
    gguf_free(gguf); /* the tokenizer keeps nothing of it */
    assert_int_equal(tokenizer_vocab_size(tok), 49152);
    assert_int_equal(tokenizer_bos(tok), 1);
    assert_int_equal(tokenizer_eos(tok), 2);
    assert_true(tokenizer_is_special(tok, 2));
    assert_false(tokenizer_is_special(tok, 17));
    golden_model(tok, "smollm2");
    tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_smollm2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
