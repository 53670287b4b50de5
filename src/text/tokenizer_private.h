/* The inside of a tokenizer, shared by the files that make, run and read it. */
#ifndef TEXT_TOKENIZER_PRIVATE_H
#define TEXT_TOKENIZER_PRIVATE_H

#include "base/fs.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/edges.h"
#include "text/pretok.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

enum token_flags {
    TOKEN_SPECIAL = 1, /* a control token */
    TOKEN_ADDED = 2,   /* cut out of texts whole */
    TOKEN_HOLE = 4,    /* an id without a token */
    TOKEN_SPELLED = 8  /* merging can make it: it is in the table */
};

struct replacement {
    char *from; /* NULL: none */
    size_t n_from;
    char *to;
    size_t n_to;
};

/* The big arrays: flags, spelling, pieces, table, merges and edges. */
struct tokenizer {
    struct fs_map map; /* what the big arrays point into, when they are not the tokenizer's own */
    enum tokenizer_kind kind;
    size_t n_vocab;
    uint8_t *flags;          /* enum token_flags by id */
    struct strings spelling; /* what merging works on; BYTES: raw bytes. With scores, behind the
                                vocabulary: characters of tokens that are no token themselves */
    struct strings pieces;   /* what decoding gives; BYTES: empty, spelling serves */
    struct vocab_table table;
    struct bpe_merges merges;
    int32_t byte_id[256]; /* the token of a single byte, or −1 */
    bool scored;          /* merges follow from scores */
    struct edges edges;   /* where a piece may be cut without changing what merges; or empty */

    struct pretok pretok;
    bool nfc;
    bool squeeze_spaces;
    struct replacement before; /* normalisation */
    struct replacement after;  /* decoding */
    char *prepend;             /* NULL: nothing */
    size_t n_prepend;
    enum tokenizer_prepend prepend_to;
    bool replace_late;
    unsigned strip;

    char *added_text;           /* texts of both sets */
    struct added_set added;     /* matched before normalisation */
    struct added_set added_nfc; /* and after */

    bool ignore_merges;
    bool byte_fallback;
    bool fuse_unk;
    bool unk_replaces;

    int32_t prefix[TOKENIZER_AFFIX_MAX];
    size_t n_prefix;
    int32_t suffix[TOKENIZER_AFFIX_MAX];
    size_t n_suffix;
    int32_t bos_id;
    int32_t eos_id;
    int32_t unk_id;
    int32_t pad_id;
};

/* Appends text with every `from` replaced. */
void replacement_apply(const struct replacement *replacement, const char *text, size_t n,
                       struct buf *out);
/* Appends the normalised text, with what a normaliser puts before it where `prepend`. */
int tokenizer_normalize(const struct tokenizer *tok, bool prepend, const char *text, size_t n,
                        struct buf *out, struct err *err) MUST_CHECK;
/* True when tokenizer_normalize would give the text back as it is, without `prepend`. */
bool tokenizer_is_normal(const struct tokenizer *tok, const char *text, size_t n);

#endif
