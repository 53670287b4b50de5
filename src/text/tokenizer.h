/* Tokenizers: text to token ids and back, equal to Hugging Face's `tokenizers` id for id.
 *
 * A `struct tokenizer` is built once from plain arrays (what GGUF metadata holds) or from the text
 * of a tokenizer.json, owns copies of all it needs, and is immutable afterwards: any number of
 * threads may use it at once. Two kinds exist: byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) and
 * BPE over characters with byte fallback (Llama 2, Mistral, Gemma, Phi 3), whose merges are listed
 * (tokenizer.json) or follow from scores (SentencePiece's own files, and GGUF's "llama"). Whatever
 * a source asks for that is not served is ERR_UNSUPPORTED naming the part; malformed sources are
 * ERR_INVALID.
 *
 * Encoding takes valid UTF-8 (else ERR_INVALID with the byte's position), NUL included. Its cost is
 * O(n log n) in the text whatever the text, with no cache behind it, and everything is bounded by
 * the maxima below. A character that the vocabulary cannot spell becomes the unknown token, or is
 * dropped where the source has none, as Hugging Face does (SmolLM2 lacks some control bytes);
 * for a byte-level vocabulary with all 256 bytes, decode(encode(x)) == x.
 * All output is appended; on error an output is as it was.
 */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum {
    TOKENIZER_TEXT_BYTES_MAX = 16 << 20, /* one encode call */
    TOKENIZER_JSON_BYTES_MAX = 128 << 20,
    TOKENIZER_VOCAB_MAX = 1 << 20,
    TOKENIZER_MERGES_MAX = 1 << 21,
    TOKENIZER_TOKEN_BYTES_MAX = 4096,
    TOKENIZER_POOL_BYTES_MAX = 256 << 20, /* all token texts together */
    TOKENIZER_ADDED_MAX = 1 << 16,
    TOKENIZER_STEPS_MAX = 8,
    TOKENIZER_PATTERN_BYTES_MAX = 4096,
    TOKENIZER_AFFIX_MAX = 8 /* tokens that a post-processor puts before or after a text */
};

/* Bytes that the caller keeps until tokenizer_new returns. */
struct tokenizer_text {
    const char *bytes; /* NULL: no such token (a hole among the ids) */
    size_t n;
};

enum tokenizer_kind {
    TOKENIZER_BPE_BYTES, /* tokens are spelled in GPT-2's printable alphabet, one letter a byte */
    TOKENIZER_BPE_CHARS  /* tokens are text; "<0xNN>" are bytes when byte_fallback is set */
};

/* As GGUF numbers them. */
enum tokenizer_token_type {
    TOKENIZER_NORMAL = 1,
    TOKENIZER_UNKNOWN = 2,
    TOKENIZER_CONTROL = 3,      /* matched in text only with TOKENIZER_PARSE_SPECIAL */
    TOKENIZER_USER_DEFINED = 4, /* matched in text always */
    TOKENIZER_UNUSED = 5,
    TOKENIZER_BYTE = 6
};

/* A token that is cut out of the text before anything else happens to it. */
struct tokenizer_added {
    struct tokenizer_text text;
    int32_t id;
    bool special;     /* a control token: see TOKENIZER_PARSE_SPECIAL, and skipped in decoding */
    bool lstrip;      /* takes the white space on its left along */
    bool rstrip;      /* and on its right */
    bool single_word; /* matches only where no word character touches it */
    bool normalized;  /* matched after normalisation, not before */
};

/* Where spec.prepend goes. A stretch is what lies between added tokens; an empty one gets none. */
enum tokenizer_prepend {
    TOKENIZER_PREPEND_EACH,         /* before every stretch */
    TOKENIZER_PREPEND_START,        /* before the one that the text begins with */
    TOKENIZER_PREPEND_EACH_MISSING, /* before every stretch that does not begin with it */
    TOKENIZER_PREPEND_START_MISSING
};

enum tokenizer_step_kind {
    TOKENIZER_STEP_REGEX,   /* split by a regular expression, Oniguruma's syntax as HF uses it */
    TOKENIZER_STEP_LITERAL, /* split by a fixed text */
    TOKENIZER_STEP_DIGITS   /* split off numeric characters, together or one by one */
};

/* What becomes of a match. */
enum tokenizer_split {
    TOKENIZER_SPLIT_ISOLATED,
    TOKENIZER_SPLIT_REMOVED,
    TOKENIZER_SPLIT_MERGED_WITH_PREVIOUS,
    TOKENIZER_SPLIT_MERGED_WITH_NEXT,
    TOKENIZER_SPLIT_CONTIGUOUS
};

struct tokenizer_step {
    enum tokenizer_step_kind kind;
    struct tokenizer_text pattern; /* not for DIGITS */
    enum tokenizer_split split;
    bool invert;     /* what lies between matches counts as the match */
    bool individual; /* DIGITS: each one alone */
};

struct tokenizer_spec {
    enum tokenizer_kind kind;

    const struct tokenizer_text *tokens; /* by id */
    const int32_t *types;                /* enum tokenizer_token_type by id, or NULL: all normal */
    size_t n_tokens;
    /* "a b" with one space, or, with merge_left, a and b without a space: merge_left[i] bytes of
     * merges[i] are a. Rank is the index. */
    const struct tokenizer_text *merges;
    const uint32_t *merge_left;
    size_t n_merges;
    /* Instead of merges, for BPE_CHARS: by id. Any two neighbours merge whose texts together are a
     * normal, user-defined or unused token, the best score first and the leftmost among equals, as
     * SentencePiece does; user-defined tokens are matched in the normalised text. Needs types. */
    const float *scores;

    /* NULL with n_added 0: taken from types (CONTROL special, USER_DEFINED not, no other flags).
     * Ids here may lie beyond n_tokens. */
    const struct tokenizer_added *added;
    size_t n_added;

    /* How text is cut before merging: by name, as GGUF has it (tokenizer_pre_known), which also
     * sets normaliser and ignore_merges; or, with pre_name NULL, by steps, each applied to the
     * pieces of the one before. */
    const char *pre_name;
    const struct tokenizer_step *steps;
    size_t n_steps;

    bool nfc;            /* Unicode NFC first */
    bool squeeze_spaces; /* runs of spaces become one, those at a stretch's ends none */
    struct tokenizer_text replace_from; /* then every such text … */
    struct tokenizer_text replace_to;   /* … becomes this; NULL: no replacement */
    struct tokenizer_text prepend;      /* put before stretches; NULL: nothing */
    enum tokenizer_prepend prepend_to;
    bool replace_late; /* replacing and prepending come after normalised added tokens are cut out,
                          as a Metaspace pre-tokenizer has it */
    struct tokenizer_text decode_from; /* in pieces, going back: this becomes … */
    struct tokenizer_text decode_to;   /* … this; NULL: none. BPE_CHARS only */
    unsigned decode_strip; /* so many spaces at most are cut off the beginning of a decoded text */

    bool ignore_merges; /* a piece that is itself a token is that token */
    bool byte_fallback; /* BPE_CHARS: a character not in the vocabulary is spelled in bytes */
    bool fuse_unk;      /* neighbouring unknowns are one */
    bool unk_replaces;  /* unk_id stands for what cannot be spelled; else that is dropped */

    bool add_bos; /* with TOKENIZER_ADD_SPECIAL, bos_id goes before the text … */
    bool add_eos; /* … and eos_id after */
    /* Instead of add_bos and add_eos, where a post-processor says more: what goes before and
     * after. NULL with 0. */
    const int32_t *prefix;
    size_t n_prefix;
    const int32_t *suffix;
    size_t n_suffix;

    int32_t bos_id; /* -1: none; so for the others */
    int32_t eos_id;
    int32_t unk_id;
    int32_t pad_id;
};

/* A spec with nothing in it and every id -1. */
void tokenizer_spec_init(struct tokenizer_spec *spec);

struct tokenizer;

/* ERR_INVALID: duplicate or out-of-range ids, a merge of unknown tokens, a bad pattern;
 * ERR_TOO_LARGE over a maximum; ERR_UNSUPPORTED: an unknown pre_name or regular-expression feature,
 * by name. */
int tokenizer_new(struct tokenizer **tok, const struct tokenizer_spec *spec,
                  struct err *err) MUST_CHECK;
/* From the text of a tokenizer.json; ERR_UNPROCESSABLE where that is not JSON or a member has the
 * wrong type, else as above. bos and eos are what its post-processor puts before and after
 * a text (-1 where it puts nothing); a model's own list of end tokens is in its config files.
 * Truncation and padding, which are no part of a model, are not read. */
int tokenizer_from_json(struct tokenizer **tok, const char *text, size_t length,
                        struct err *err) MUST_CHECK;
void tokenizer_free(struct tokenizer *tok); /* NULL is fine */

/* --- compiled files -----------------------------------------------------------------------------
 */
enum { TOKENIZER_FILE_VERSION = 1, TOKENIZER_KEY_BYTES = 64 };

/* Publishes a tokenizer as a file that tokenizer_map loads without reading its source again. `key`
 * is TOKENIZER_KEY_BYTES characters that tell one source from another: its digest in hex. */
int tokenizer_write(const struct tokenizer *tok, const char *path, const char *key,
                    struct err *err) MUST_CHECK;
/* Maps such a file; the tokenizer is the one that was written, and its tables stay in the map.
 * ERR_NOT_FOUND; ERR_CORRUPT for a file of another key, version or machine, or one that is damaged
 * anywhere: every byte is summed up. The file must not change while it is in use. */
int tokenizer_map(struct tokenizer **tok, const char *path, const char *key,
                  struct err *err) MUST_CHECK;

/* Whether GGUF's name of a pre-tokenizer is one that we know. */
bool tokenizer_pre_known(const char *name);

/* --- encoding ----------------------------------------------------------------------------------
 */
struct token_ids {
    int32_t *ids;
    size_t n;
    size_t cap;
    size_t max; /* ceiling on n; set at init, never 0 */
};

void token_ids_init(struct token_ids *ids, size_t max);
void token_ids_release(struct token_ids *ids);
void token_ids_clear(struct token_ids *ids); /* n = 0, storage kept */
int token_ids_push(struct token_ids *ids, int32_t id, struct err *err) MUST_CHECK;

enum tokenizer_flags {
    TOKENIZER_ADD_SPECIAL = 1,  /* BOS and EOS as the model's post-processor puts them */
    TOKENIZER_PARSE_SPECIAL = 2 /* control tokens written in the text become that token */
};

/* Appends the ids of text. ERR_INVALID: not UTF-8; ERR_TOO_LARGE: text or ids over their maximum,
 * naming both numbers. */
int tokenizer_encode(const struct tokenizer *tok, const char *text, size_t length, unsigned flags,
                     struct token_ids *out, struct err *err) MUST_CHECK;

/* --- decoding ----------------------------------------------------------------------------------
 */
/* Appends the text of ids: always UTF-8, bytes that are none become U+FFFD, one for each maximal
 * part of a character. skip_special leaves special tokens out. ERR_INVALID: no such id. */
int tokenizer_decode(const struct tokenizer *tok, const int32_t *ids, size_t n, bool skip_special,
                     struct buf *out, struct err *err) MUST_CHECK;

/* Streaming: what push and flush append, put together, is what tokenizer_decode gives, and no
 * append ends inside a character. Owned by one thread; holds no memory. */
enum { DETOK_SHOWN_MAX = 4 };
struct detok {
    const struct tokenizer *tok;
    bool skip_special;
    int32_t shown[DETOK_SHOWN_MAX]; /* special tokens that are not skipped */
    int n_shown;
    unsigned strip;           /* spaces that may still be cut off, while nothing else has come */
    unsigned char pending[4]; /* the beginning of a character */
    size_t n_pending;
};

void detok_init(struct detok *detok, const struct tokenizer *tok, bool skip_special);
/* For ids that go on a text, as an answer goes on its prompt: no space is cut off the beginning. */
void detok_init_within(struct detok *detok, const struct tokenizer *tok, bool skip_special);
/* Before the first push: this special token is not skipped, if there is one of that text. At most
 * DETOK_SHOWN_MAX. */
void detok_show(struct detok *detok, const char *text);
int detok_push(struct detok *detok, int32_t id, struct buf *out, struct err *err) MUST_CHECK;
int detok_flush(struct detok *detok, struct buf *out, struct err *err) MUST_CHECK;

/* --- facts -------------------------------------------------------------------------------------
 */
size_t tokenizer_vocab_size(const struct tokenizer *tok); /* highest id + 1 */
/* The raw bytes of a token, perhaps half a character; valid as long as tok. "" and 0 for a hole or
 * an id out of range. */
const char *tokenizer_piece(const struct tokenizer *tok, int32_t id, size_t *n);
bool tokenizer_is_special(const struct tokenizer *tok, int32_t id);
/* The id of the token with exactly these raw bytes (added tokens first), or -1. */
int32_t tokenizer_id_of(const struct tokenizer *tok, const char *bytes, size_t n);
int32_t tokenizer_bos(const struct tokenizer *tok); /* -1: none; so for the others */
int32_t tokenizer_eos(const struct tokenizer *tok);
int32_t tokenizer_unk(const struct tokenizer *tok);
int32_t tokenizer_pad(const struct tokenizer *tok);
size_t tokenizer_bytes(const struct tokenizer *tok); /* memory held, compiled patterns aside */

#endif
