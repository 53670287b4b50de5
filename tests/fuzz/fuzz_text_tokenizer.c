/* Tokenizers from anywhere: any tokenizer.json loads or is refused, and what loads encodes any
 * text, decodes it again, and streams it to the same bytes. Bytes behind a NUL are a text to try;
 * a fixed one is tried always.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer.h"

enum { FUZZ_IDS_MAX = 1 << 16, FUZZ_TEXT_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void stream(const struct tokenizer *tok, const struct token_ids *ids, const struct buf *all)
{
    struct detok detok;
    struct buf out;

    buf_init(&out, FUZZ_TEXT_MAX);
    detok_init(&detok, tok, false);
    for (size_t i = 0; i < ids->n; i++) {
        if (detok_push(&detok, ids->ids[i], &out, NULL) != 0 || !utf8_valid(out.data, out.len))
            abort();
    }
    if (detok_flush(&detok, &out, NULL) != 0 || out.len != all->len ||
        (out.len > 0 && memcmp(out.data, all->data, out.len) != 0))
        abort();
    buf_release(&out);
}

static void encode(const struct tokenizer *tok, const char *text, size_t n)
{
    struct token_ids ids;
    struct buf out;

    token_ids_init(&ids, FUZZ_IDS_MAX);
    for (unsigned flags = 0; flags < 4; flags++) {
        struct err err = {0};
        token_ids_clear(&ids);
        buf_init(&out, FUZZ_TEXT_MAX);
        int rc = tokenizer_encode(tok, text, n, flags, &ids, &err);
        if (rc != 0 && (err.code == ERR_NONE || err.code == ERR_INTERNAL || ids.n != 0))
            abort();
        for (size_t i = 0; i < ids.n; i++) {
            if (ids.ids[i] < 0 || (size_t)ids.ids[i] >= tokenizer_vocab_size(tok))
                abort();
        }
        if (tokenizer_decode(tok, ids.ids, ids.n, false, &out, NULL) == 0)
            stream(tok, &ids, &out);
        buf_release(&out);
    }
    token_ids_release(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char fixed[] =
        "ab 12 caf\xC3\xA9 e\xCC\x81 \xE4\xB8\x80\xF0\x9F\x98\x80<|end|>\n\0";
    const char *text = size == 0 ? "" : (const char *)data;
    const char *end = size == 0 ? NULL : memchr(text, '\0', size);
    size_t length = end == NULL ? size : (size_t)(end - text);
    struct err err = {0};
    struct tokenizer *tok = NULL;

    if (tokenizer_from_json(&tok, text, length, &err) != 0) {
        if (err.code == ERR_NONE || err.code == ERR_INTERNAL || tok != NULL)
            abort();
        return 0;
    }
    encode(tok, fixed, sizeof fixed - 1);
    if (end != NULL)
        encode(tok, end + 1, size - length - 1);
    tokenizer_free(tok);
    return 0;
}
