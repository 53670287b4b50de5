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

bool vocab_byte_is_plain(uint8_t byte)
{
    return byte >= ' ' && byte < 0x7f && byte != '"' && byte != '\\';
}

static bool is_plain(const char *bytes, size_t n)
{
    size_t i = 0;
    while (i < n && vocab_byte_is_plain((uint8_t)bytes[i])) {
        i++;
    }
    return i == n;
}

static void add(struct grammar_vocab *v, const struct vocab_token *token)
{
    const bool plain = is_plain(token->bytes, token->n);
    struct vocab_list *list = plain ? &v->plain : &v->rest;
    list->tokens[list->n++] = *token;
    if (plain) {
        v->plain_bits[token->id / 64] |= UINT64_C(1) << (token->id % 64);
        v->plain_longest = token->n > v->plain_longest ? token->n : v->plain_longest;
    }
}

static void sort(struct vocab_list *list)
{
    qsort(list->tokens, list->n, sizeof *list->tokens, by_bytes);
    for (size_t i = 1; i < list->n; i++) {
        list->tokens[i].shared = shared_bytes(&list->tokens[i - 1], &list->tokens[i]);
    }
}

int grammar_vocab_new(struct grammar_vocab **out, const struct engine_model *model, struct err *err)
{
    const struct engine_info *info = engine_model_info(model);
    const struct tokenizer *tok = engine_model_tokenizer(model);
    if (tok == NULL) {
        return err_set(err, ERR_INVALID, "the model brings no tokenizer");
    }
    struct grammar_vocab *v = mem_calloc(1, sizeof *v);
    const size_t size = (size_t)info->vocab_size;
    if (v == NULL) {
        return mem_err(err, sizeof *v);
    }
    v->plain.tokens = mem_calloc(size, sizeof *v->plain.tokens);
    v->rest.tokens = mem_calloc(size, sizeof *v->rest.tokens);
    v->plain_bits = mem_calloc((size + 63) / 64, sizeof *v->plain_bits);
    if (v->plain.tokens == NULL || v->rest.tokens == NULL || v->plain_bits == NULL) {
        grammar_vocab_free(v);
        return mem_err(err, size * sizeof *v->rest.tokens);
    }
    v->vocab_size = info->vocab_size;
    v->n_eos = info->n_eos;
    memcpy(v->eos, info->eos, sizeof v->eos);
    v->tokenizer = tok;
    for (int32_t id = 0; id < info->vocab_size; id++) {
        size_t n;
        const char *bytes = tokenizer_piece(tok, id, &n);
        if (n > 0 && n <= GRAMMAR_TOKEN_BYTES_MAX && !tokenizer_is_special(tok, id)) {
            const struct vocab_token token = {bytes, (uint16_t)n, 0, id};
            add(v, &token);
        }
    }
    sort(&v->plain);
    sort(&v->rest);
    *out = v;
    return 0;
}

void grammar_vocab_free(struct grammar_vocab *v)
{
    if (v != NULL) {
        mem_free(v->plain.tokens);
        mem_free(v->rest.tokens);
        mem_free(v->plain_bits);
        mem_free(v);
    }
}
