/* A model's tokens in the order of their bytes. Private to the grammar's files. Immutable. */
#ifndef INFER_GRAMMAR_VOCAB_H
#define INFER_GRAMMAR_VOCAB_H

#include "infer/grammar.h"

enum { GRAMMAR_TOKEN_BYTES_MAX = 256 }; /* longer tokens are never chosen */

struct vocab_token {
    const char *bytes; /* the tokenizer's */
    uint16_t n;
    uint16_t shared; /* bytes at the beginning that the token before has too */
    int32_t id;
};

struct grammar_vocab {
    struct vocab_token *tokens; /* neither special nor empty ones */
    size_t n;
    int vocab_size;
    int eos[ENGINE_EOS_MAX];
    int n_eos;
    const struct tokenizer *tokenizer;
};

#endif
