/* Real tokenizer.json files against Hugging Face's tokenizers on megabytes of text: five hundred
 * languages, every kind of code point, long pieces, lookalikes of special tokens. The files and the
 * corpus come from scripts/fetch-tokenizers. */
#include "text/large.h"

static void hold(void **state)
{
    const char *name = *state;
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
    large_hold(tok, name, true);
    tokenizer_free(tok);
}

#define HOLD(name)                                                                                 \
    {                                                                                              \
        name, hold, NULL, NULL, (char[])                                                           \
        {                                                                                          \
            name                                                                                   \
        }                                                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        HOLD("llama2"), HOLD("llama3_2"),    HOLD("mistral_nemo"), HOLD("qwen2_5"),
        HOLD("qwen3"),  HOLD("deepseek_v3"), HOLD("gemma3"),       HOLD("gptoss"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
