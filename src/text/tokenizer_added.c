/* Loading added tokens: their list, from the spec or from GGUF's types, and the two sets that match
 * them, before and after normalisation. A set's texts lie in one block that the tokenizer owns.
 */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/tokenizer_load.h"

/* Whether a token's type makes it an added one: for SentencePiece the unknown token too. */
static bool is_added_type(const struct tokenizer_spec *spec, size_t id)
{
    int32_t type = spec->types[id];

    return type == TOKENIZER_CONTROL || type == TOKENIZER_USER_DEFINED ||
           (type == TOKENIZER_UNKNOWN && spec->scores != NULL);
}

/* Added tokens by GGUF's types, where the spec brings none of its own. */
/* A user-defined piece that is spelled with SentencePiece's mark is looked for in normalised text;
 * llama.cpp's converter spells it with the spaces themselves, which only the raw text has. */
static bool is_marked(const struct tokenizer_text *text)
{
    for (size_t i = 0; i + 3 <= text->n; i++)
        if (memcmp(text->bytes + i, "\xe2\x96\x81", 3) == 0)
            return true;
    return memchr(text->bytes, ' ', text->n) == NULL;
}

static int take_added(struct loader *load)
{
    const struct tokenizer_spec *spec = load->spec;
    size_t n = spec->n_added;

    for (size_t id = 0; spec->n_added == 0 && spec->types != NULL && id < spec->n_tokens; id++)
        n += is_added_type(spec, id);
    if (n > TOKENIZER_ADDED_MAX)
        return err_set(load->err, ERR_TOO_LARGE, "tokenizer of %zu added tokens, at most %d", n,
                       TOKENIZER_ADDED_MAX);
    load->added = mem_calloc(n + 1, sizeof(*load->added));
    if (load->added == NULL)
        return mem_err(load->err, n * sizeof(*load->added));
    load->n_added = spec->n_added;
    if (spec->n_added > 0)
        memcpy(load->added, spec->added, n * sizeof(*load->added));
    for (size_t id = 0; load->n_added < n; id++) {
        bool user_defined = spec->types[id] == TOKENIZER_USER_DEFINED;
        if (!is_added_type(spec, id))
            continue;
        load->added[load->n_added++] = (struct tokenizer_added){
            .text = spec->tokens[id],
            .id = (int32_t)id,
            .special = !user_defined,
            .normalized = user_defined && spec->scores != NULL && is_marked(&spec->tokens[id])};
    }
    return 0;
}

static int check_added(struct loader *load, size_t *n_vocab)
{
    for (size_t i = 0; i < load->n_added; i++) {
        const struct tokenizer_added *added = &load->added[i];
        if (added->id < 0 || added->id >= TOKENIZER_VOCAB_MAX)
            return err_set(load->err, ERR_INVALID, "added token %zu has id %d", i, (int)added->id);
        if (added->text.bytes == NULL || added->text.n == 0)
            return err_set(load->err, ERR_INVALID, "added token %zu is empty", i);
        if ((size_t)added->id >= *n_vocab)
            *n_vocab = (size_t)added->id + 1;
    }
    return 0;
}

static int index_added(struct loader *load)
{
    size_t n = load->tok->n_vocab;

    load->added_at = mem_alloc(n * sizeof(*load->added_at));
    load->tok->flags = mem_calloc(n, 1);
    if (load->added_at == NULL || load->tok->flags == NULL)
        return mem_err(load->err, n * sizeof(*load->added_at));
    memset(load->added_at, 0xFF, n * sizeof(*load->added_at));
    for (size_t i = 0; i < load->n_added; i++) {
        int32_t id = load->added[i].id;
        if (load->added_at[id] >= 0)
            return err_set(load->err, ERR_INVALID, "two added tokens have id %d", (int)id);
        load->added_at[id] = (int32_t)i;
        load->tok->flags[id] |= TOKEN_ADDED | (load->added[i].special ? TOKEN_SPECIAL : 0);
    }
    return 0;
}

int load_added_list(struct loader *load)
{
    int rc = take_added(load);

    load->tok->n_vocab = load->spec->n_tokens;
    if (rc == 0)
        rc = check_added(load, &load->tok->n_vocab);
    return rc != 0 ? rc : index_added(load);
}

/* --- the sets ----------------------------------------------------------------------------------
 */
/* Copies the texts of the added tokens of one set, normalised where that is the set's (those of
 * SentencePiece are so in its file, and Hugging Face prepends to these too); the tokens' bytes are
 * offsets in `texts` until it stands. */
static int gather(struct loader *load, bool normalized, struct added_token *tokens, size_t *n,
                  struct buf *texts)
{
    *n = 0;
    for (size_t i = 0; i < load->n_added; i++) {
        const struct tokenizer_added *from = &load->added[i];
        size_t begin = texts->len;
        if (from->normalized != normalized)
            continue;
        if (normalized && !load->tok->scored) {
            int rc = tokenizer_normalize(load->tok, true, from->text.bytes, from->text.n, texts,
                                         load->err);
            if (rc != 0)
                return rc;
        } else {
            buf_append(texts, from->text.bytes, from->text.n);
        }
        if (texts->failed == ERR_NONE && texts->len == begin)
            return err_set(load->err, ERR_INVALID, "added token %zu is empty once normalised", i);
        tokens[(*n)++] = (struct added_token){.n = (uint32_t)(texts->len - begin),
                                              .id = from->id,
                                              .special = from->special,
                                              .lstrip = from->lstrip,
                                              .rstrip = from->rstrip,
                                              .single_word = from->single_word};
    }
    return buf_check(texts, "added tokens", load->err);
}

static const char *point(struct added_token *tokens, size_t n, const char *at)
{
    for (size_t i = 0; i < n; i++) {
        tokens[i].bytes = at;
        at += tokens[i].n;
    }
    return at;
}

int load_added_sets(struct loader *load)
{
    struct tokenizer *tok = load->tok;
    struct added_token *tokens = mem_calloc(load->n_added * 2 + 1, sizeof(*tokens));
    struct added_token *late = NULL;
    struct buf texts;
    size_t n = 0;
    size_t n_late = 0;
    int rc = 0;

    buf_init(&texts, TOKENIZER_POOL_BYTES_MAX);
    if (tokens == NULL)
        return mem_err(load->err, load->n_added * 2 * sizeof(*tokens));
    late = tokens + load->n_added;
    rc = gather(load, false, tokens, &n, &texts);
    if (rc == 0)
        rc = gather(load, true, late, &n_late, &texts);
    if (rc == 0 && (tok->added_text = buf_take(&texts)) == NULL)
        rc = mem_err(load->err, texts.len);
    if (rc == 0) {
        point(late, n_late, point(tokens, n, tok->added_text));
        rc = added_set_init(&tok->added, tokens, n, load->err);
    }
    if (rc == 0)
        rc = added_set_init(&tok->added_nfc, late, n_late, load->err);
    buf_release(&texts);
    mem_free(tokens);
    return rc;
}
