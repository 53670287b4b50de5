#include "infer/grammar_vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static int by_bytes(const void *a, const void *b)
{
    const struct vocab_token *x = a;
    const struct vocab_token *y = b;
    const int order = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);
    return order != 0 ? order : x->n != y->n ? (int)x->n - (int)y->n : x->id - y->id;
}

static uint16_t shared_bytes(const struct vocab_token *a, const struct vocab_token *b)
{
    uint16_t n = 0;
    while (n < a->n && n < b->n && a->bytes[n] == b->bytes[n]) {
        n++;
    }
    return n;
}

int grammar_vocab_new(struct grammar_vocab **out, const struct engine_model *model, struct err *err)
{
    const struct engine_info *info = engine_model_info(model);
    const struct tokenizer *tok = engine_model_tokenizer(model);
    if (tok == NULL) {
        return err_set(err, ERR_INVALID, "the model brings no tokenizer");
    }
    struct grammar_vocab *v = mem_calloc(1, sizeof *v);
    struct vocab_token *tokens = mem_calloc((size_t)info->vocab_size, sizeof *tokens);
    if (v == NULL || tokens == NULL) {
        mem_free(v);
        mem_free(tokens);
        return mem_err(err, (size_t)info->vocab_size * sizeof *tokens);
    }
    v->tokens = tokens;
    v->vocab_size = info->vocab_size;
    v->n_eos = info->n_eos;
    memcpy(v->eos, info->eos, sizeof v->eos);
    v->tokenizer = tok;
    for (int32_t id = 0; id < info->vocab_size; id++) {
        size_t n;
        const char *bytes = tokenizer_piece(tok, id, &n);
        if (n > 0 && n <= GRAMMAR_TOKEN_BYTES_MAX && !tokenizer_is_special(tok, id)) {
            const struct vocab_token token = {bytes, (uint16_t)n, 0, id};
            tokens[v->n++] = token;
        }
    }
    qsort(tokens, v->n, sizeof *tokens, by_bytes);
    for (size_t i = 1; i < v->n; i++) {
        tokens[i].shared = shared_bytes(&tokens[i - 1], &tokens[i]);
    }
    *out = v;
    return 0;
}

void grammar_vocab_free(struct grammar_vocab *v)
{
    if (v != NULL) {
        mem_free(v->tokens);
        mem_free(v);
    }
}
