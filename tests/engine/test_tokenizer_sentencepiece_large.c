/* Real tokenizer.model files against SentencePiece itself on the large corpus (text/large.h). */
#include "engine/tokenizer_files.h"
#include "text/large.h"

static void test_corpus(void **state)
{
    struct err err = {0};
    struct tokenizer *tok;
    char path[256];

    snprintf(path, sizeof path, ".cache/tokenizers/%s.model", (const char *)*state);
    if (!fs_exists(path))
        fail_msg("%s is missing: run scripts/fetch-tokenizers", path);
    assert_ok(tokenizer_from_sentencepiece(path, NULL, NULL, &tok, &err), &err);
    large_hold(tok, *state, false);
    tokenizer_free(tok);
}

#define HOLD(name)                                                                                 \
    {                                                                                              \
        name, test_corpus, NULL, NULL, (char[])                                                    \
        {                                                                                          \
            name                                                                                   \
        }                                                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {HOLD("mistral_v1"), HOLD("mistral_v3"), HOLD("mistral_v7")};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
