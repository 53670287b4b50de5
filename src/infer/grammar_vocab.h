/* A model's tokens in the order of their bytes. Private to the grammar's files. Immutable. */
#ifndef INFER_GRAMMAR_VOCAB_H
#define INFER_GRAMMAR_VOCAB_H

#include "infer/grammar.h"

enum { GRAMMAR_TOKEN_BYTES_MAX = 256 }; /* longer tokens are never chosen */

/* Bytes of plain tokens. */
bool vocab_byte_is_plain(uint8_t byte);

struct vocab_token {
    const char *bytes; /* the tokenizer's */
    uint16_t n;
    uint16_t shared; /* bytes at the beginning that the token before has too */
    int32_t id;
};

/* Tokens in the order of their bytes. */
struct vocab_list {
    struct vocab_token *tokens;
    size_t n;
};

struct grammar_vocab {
    /* Neither special nor empty ones. Plain ones are of printable ASCII without quote and backslash
     * alone: where a string may hold any character these are most of what may come. */
    struct vocab_list plain, rest;
    size_t plain_longest; /* bytes */
    uint64_t *plain_bits; /* one per token of the model */
    int vocab_size;
    int eos[ENGINE_EOS_MAX];
    int n_eos;
    const struct tokenizer *tokenizer;
};

#endif
