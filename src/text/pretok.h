/* Pre-tokenization: a text is cut into pieces, and merging never crosses a piece's edge.
 *
 * A `struct pretok` is a row of steps, each applied to the pieces of the one before; compiled once,
 * immutable, shared by threads. GGUF only names its pre-tokenizer; the table of names is here.
 */
#ifndef TEXT_PRETOK_H
#define TEXT_PRETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/pattern.h"
#include "text/tokenizer.h"

/* GPT-2's pattern, which a ByteLevel pre-tokenizer with use_regex splits by. */
extern const char pretok_gpt2_pattern[];

enum { PRETOK_KNOWN_STEPS = 5 };

/* What a name in GGUF stands for. */
struct pretok_known {
    const char *name;
    struct tokenizer_step steps[PRETOK_KNOWN_STEPS];
    size_t n_steps;
    bool nfc;
    bool ignore_merges;
};
const struct pretok_known *pretok_find(const char *name); /* NULL: unknown */

struct pretok_step {
    enum tokenizer_step_kind kind;
    enum tokenizer_split split;
    bool invert;
    bool individual;
    struct pattern pattern; /* REGEX */
    char *text;             /* what was asked for; not for DIGITS */
    size_t n_text;
};

struct pretok {
    struct pretok_step steps[TOKENIZER_STEPS_MAX];
    size_t n_steps;
    bool has_alphabet; /* some step is a REGEX */
    struct alphabet alphabet;
};

int pretok_init(struct pretok *pretok, const struct tokenizer_step *steps, size_t n_steps,
                struct err *err) MUST_CHECK;
void pretok_release(struct pretok *pretok); /* safe on a zeroed struct */

/* Called for each piece, in order; a non-zero return stops and is returned. Pieces are not empty.
 */
typedef int (*pretok_piece_fn)(void *ctx, const char *piece, size_t n, struct err *err);

/* One thread's work space; kept between texts. */
struct pretok_scratch {
    struct pattern_scratch patterns[TOKENIZER_STEPS_MAX];
    uint8_t *letters;
    size_t letters_cap;
};
void pretok_scratch_release(struct pretok_scratch *scratch); /* safe on a zeroed struct */

/* Cuts valid UTF-8. */
int pretok_run(const struct pretok *pretok, struct pretok_scratch *scratch, const char *text,
               size_t n, pretok_piece_fn fn, void *ctx, struct err *err) MUST_CHECK;

#endif
