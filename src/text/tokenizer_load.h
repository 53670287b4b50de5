/* The stages of making a tokenizer, in the order in which tokenizer_new runs them. Each fills its
 * part of load->tok; on failure the caller frees what is there.
 */
#ifndef TEXT_TOKENIZER_LOAD_H
#define TEXT_TOKENIZER_LOAD_H

#include "text/tokenizer_private.h"

/* What is needed only while loading. */
struct loader {
    struct tokenizer *tok;
    const struct tokenizer_spec *spec;
    const struct pretok_known *known;
    struct tokenizer_added *added; /* spec's, or made from types */
    size_t n_added;
    int32_t *added_at; /* id → index in added, or −1 */
    struct byte_alphabet alphabet;
    struct err *err;
};

/* The list of added tokens and the flags of ids; sets n_vocab. */
int load_added_list(struct loader *load) MUST_CHECK;
/* Spellings, pieces and the table; token texts are checked here. */
int load_texts(struct loader *load) MUST_CHECK;
int load_merges(struct loader *load) MUST_CHECK;
/* Merges where the spec has scores: load_merges calls it. */
int load_scored_merges(struct loader *load) MUST_CHECK;
/* The pairs of characters inside tokens, where cutting is allowed at all. */
int load_edges(struct loader *load) MUST_CHECK;
/* The two sets of added tokens. Needs the normaliser's settings. */
int load_added_sets(struct loader *load) MUST_CHECK;

#endif
