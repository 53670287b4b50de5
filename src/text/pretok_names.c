/* The names of pre-tokenizers in GGUF and what the models' own tokenizer.json files say for them.
 *
 * Normalisation and ignore_merges are not in GGUF either; they go with the name. A name is listed
 * only where the original is known; any other is refused at import, for a wrong split gives wrong
 * tokens without a sign.
 */
#include <string.h>

#include "text/pretok.h"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3(digits)                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                           \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define O200K_UPPER  "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K_LOWER  "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K_SUFFIX "(?:'s|'S|'t|'T|'re|'rE|'Re|'RE|'ve|'vE|'Ve|'VE|'m|'M|'ll|'lL|'Ll|'LL|'d|'D)?"
#define O200K_REST   " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define O200K                                                                                      \
    "[^\\r\\n\\p{L}\\p{N}]?" O200K_UPPER "*" O200K_LOWER "+" O200K_SUFFIX                          \
    "|[^\\r\\n\\p{L}\\p{N}]?" O200K_UPPER "+" O200K_LOWER "*" O200K_SUFFIX                         \
    "|\\p{N}{1,3}|" O200K_REST
#define TEKKEN                                                                                     \
    "[^\\r\\n\\p{L}\\p{N}]?" O200K_UPPER "*" O200K_LOWER "+"                                       \
    "|[^\\r\\n\\p{L}\\p{N}]?" O200K_UPPER "+" O200K_LOWER "*|\\p{N}|" O200K_REST

#define QWEN35                                                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"                    \
    "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define DEEPSEEK3                                                                                  \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"                                        \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*"                      \
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#define REGEX(text)                                                                                \
    {                                                                                              \
        .kind = TOKENIZER_STEP_REGEX, .pattern = { text, sizeof(text) - 1 }                        \
    }
#define DIGITS                                                                                     \
    {                                                                                              \
        .kind = TOKENIZER_STEP_DIGITS, .individual = true                                          \
    }
#define AS_GPT2(name)                                                                              \
    {                                                                                              \
        name, {REGEX(GPT2)}, 1, false, false                                                       \
    }
#define AS_STARCODER(name)                                                                         \
    {                                                                                              \
        name, {DIGITS, REGEX(GPT2)}, 2, false, false                                               \
    }
#define AS_QWEN2(name)                                                                             \
    {                                                                                              \
        name, {REGEX(LLAMA3("\\p{N}"))}, 1, true, false                                            \
    }
#define AS_CL100K(name)                                                                            \
    {                                                                                              \
        name, {REGEX(LLAMA3("\\p{N}{1,3}"))}, 1, false, false                                      \
    }
#define AS_LLAMA3(name)                                                                            \
    {                                                                                              \
        name, {REGEX(LLAMA3("\\p{N}{1,3}"))}, 1, false, true                                       \
    }

const char pretok_gpt2_pattern[] = GPT2;

static const struct pretok_known known[] = {
    AS_GPT2("gpt-2"),
    AS_GPT2("phi-2"),
    AS_GPT2("granite-docling"),
    AS_GPT2("mellum"),
    {"mpt", {REGEX(GPT2)}, 1, true, false},
    {"olmo", {REGEX(GPT2)}, 1, true, false},
    AS_STARCODER("smollm"),
    AS_STARCODER("starcoder"),
    AS_STARCODER("refact"),
    AS_STARCODER("codeshell"),
    {"command-r", {DIGITS, REGEX(GPT2)}, 2, true, false},
    AS_LLAMA3("llama-bpe"),
    AS_LLAMA3("llama3"),
    AS_LLAMA3("llama-v3"),
    AS_LLAMA3("falcon3"),
    AS_LLAMA3("lfm2"),
    AS_LLAMA3("smaug-bpe"),
    AS_LLAMA3("glm4"),
    AS_CL100K("chatglm-bpe"),
    AS_CL100K("dbrx"),
    AS_QWEN2("qwen2"),
    AS_QWEN2("deepseek-r1-qwen"),
    AS_QWEN2("megrez"),
    {"qwen35", {REGEX(QWEN35)}, 1, false, false},
    {"stablelm2", {REGEX(LLAMA3("\\p{N}"))}, 1, false, false},
    {"gpt-4o", {REGEX(O200K)}, 1, false, false},
    {"llama4", {REGEX(O200K)}, 1, false, false},
    {"kanana2", {REGEX(O200K)}, 1, false, false},
    {"tekken", {REGEX(TEKKEN)}, 1, false, true},
    {"falcon",
     {REGEX("[\\p{P}\\$\\+<=>\\^~\\|`]+"), REGEX(GPT2), REGEX("[0-9][0-9][0-9]")},
     3,
     false,
     false},
    {"deepseek-v3",
     {REGEX("\\p{N}{1,3}"), REGEX("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), REGEX(DEEPSEEK3)},
     3,
     false,
     false},
    {"deepseek-coder",
     {REGEX("[\\r\\n]"), REGEX("\\s?\\p{L}+"), REGEX("\\s?\\p{P}+"),
      REGEX("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), REGEX("\\p{N}")},
     5,
     false,
     false},
};

const struct pretok_known *pretok_find(const char *name)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].name, name) == 0)
            return &known[i];
    }
    return NULL;
}

bool tokenizer_pre_known(const char *name)
{
    return pretok_find(name) != NULL;
}
