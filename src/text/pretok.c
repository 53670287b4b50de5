/* How cutting works: no lists of pieces. Each step walks its piece's matches and what lies between
 * them and hands every resulting piece to the next step at once, so depth is the number of steps.
 *
 * 1. A span is a piece in two measures, bytes and letters (characters). Patterns count in letters;
 *    the cursor turns those into bytes by walking, which costs nothing where all is ASCII.
 * 2. A step produces a cover of its span: parts in order, each a match or not, without gaps. What
 *    becomes of matches (tokenizer_split) needs one part of look-back or look-ahead: `held`.
 */
#include "text/pretok.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

struct span {
    size_t byte;
    size_t n_bytes;
    size_t letter;
    size_t n_letters;
};

struct run {
    const struct pretok *pretok;
    struct pretok_scratch *scratch;
    const char *text;
    const uint8_t *letters;
    pretok_piece_fn fn;
    void *ctx;
    struct err *err;
};

/* The walk over one span's parts in one step. */
struct walk {
    struct run *run;
    size_t step;
    struct span held; /* a part not handed on yet; n_bytes 0: none */
    bool held_match;
    bool held_any;
};

/* --- making and freeing ------------------------------------------------------------------------
 */
static int step_init(struct pretok *pretok, struct pretok_step *step,
                     const struct tokenizer_step *from, struct err *err)
{
    step->kind = from->kind;
    step->split = from->split;
    step->invert = from->invert;
    step->individual = from->individual;
    if (step->kind == TOKENIZER_STEP_DIGITS)
        return 0;
    step->text = mem_strndup(from->pattern.bytes, from->pattern.n);
    step->n_text = from->pattern.n;
    if (step->text == NULL)
        return mem_err(err, from->pattern.n);
    return step->kind == TOKENIZER_STEP_REGEX
               ? pattern_compile(&step->pattern, &pretok->alphabet, step->text, step->n_text, err)
               : 0;
}

static int step_check(const struct tokenizer_step *step, struct err *err)
{
    if (step->kind == TOKENIZER_STEP_DIGITS)
        return 0;
    if (step->pattern.bytes == NULL || step->pattern.n == 0)
        return err_set(err, ERR_INVALID, "pre-tokenizer with an empty pattern");
    if (step->pattern.n > TOKENIZER_PATTERN_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "pre-tokenizer pattern of %zu bytes, at most %d",
                       step->pattern.n, TOKENIZER_PATTERN_BYTES_MAX);
    if (step->kind == TOKENIZER_STEP_LITERAL && !utf8_valid(step->pattern.bytes, step->pattern.n))
        return err_set(err, ERR_INVALID, "pre-tokenizer pattern is not UTF-8");
    return 0;
}

int pretok_init(struct pretok *pretok, const struct tokenizer_step *steps, size_t n_steps,
                struct err *err)
{
    int rc = 0;

    memset(pretok, 0, sizeof(*pretok));
    if (n_steps > TOKENIZER_STEPS_MAX)
        return err_set(err, ERR_TOO_LARGE, "pre-tokenizer of %zu steps, at most %d", n_steps,
                       TOKENIZER_STEPS_MAX);
    for (size_t i = 0; i < n_steps && rc == 0; i++) {
        rc = step_check(&steps[i], err);
        if (rc != 0 || steps[i].kind != TOKENIZER_STEP_REGEX)
            continue;
        pretok->has_alphabet = true;
        rc = alphabet_scan(&pretok->alphabet, steps[i].pattern.bytes, steps[i].pattern.n, err);
    }
    if (rc == 0 && pretok->has_alphabet)
        rc = alphabet_build(&pretok->alphabet, err);
    for (size_t i = 0; i < n_steps && rc == 0; i++) {
        pretok->n_steps = i + 1;
        rc = step_init(pretok, &pretok->steps[i], &steps[i], err);
    }
    if (rc != 0)
        pretok_release(pretok);
    return rc;
}

void pretok_release(struct pretok *pretok)
{
    for (size_t i = 0; i < pretok->n_steps; i++) {
        pattern_release(&pretok->steps[i].pattern);
        mem_free(pretok->steps[i].text);
    }
    alphabet_release(&pretok->alphabet);
    memset(pretok, 0, sizeof(*pretok));
}

void pretok_scratch_release(struct pretok_scratch *scratch)
{
    for (size_t i = 0; i < TOKENIZER_STEPS_MAX; i++)
        pattern_scratch_release(&scratch->patterns[i]);
    mem_free(scratch->letters);
    memset(scratch, 0, sizeof(*scratch));
}

/* --- parts -------------------------------------------------------------------------------------
 */
static int split(struct run *run, size_t step, struct span span);

/* Cuts the first n_letters off *rest. */
static struct span cut_letters(const struct run *run, struct span *rest, size_t n_letters)
{
    struct span part = {.byte = rest->byte, .letter = rest->letter, .n_letters = n_letters};

    if (rest->n_bytes == rest->n_letters) {
        part.n_bytes = n_letters;
    } else {
        for (size_t i = 0; i < n_letters; i++) {
            unsigned char lead = (unsigned char)run->text[part.byte + part.n_bytes];
            part.n_bytes += lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
        }
    }
    rest->byte += part.n_bytes;
    rest->n_bytes -= part.n_bytes;
    rest->letter += n_letters;
    rest->n_letters -= n_letters;
    return part;
}

/* Cuts n_bytes, the edge of a character, off *rest. */
static struct span cut_bytes(const struct run *run, struct span *rest, size_t n_bytes)
{
    size_t n_letters = 0;

    for (size_t i = 0; i < n_bytes; i++)
        n_letters += ((unsigned char)run->text[rest->byte + i] & 0xC0) != 0x80;
    return cut_letters(run, rest, n_letters);
}

static void join(struct span *left, const struct span *right)
{
    left->n_bytes += right->n_bytes;
    left->n_letters += right->n_letters;
}

static int hand_on(struct walk *walk, struct span part)
{
    return part.n_bytes == 0 ? 0 : split(walk->run, walk->step + 1, part);
}

static bool joins_held(const struct walk *walk, enum tokenizer_split how, bool is_match)
{
    if (!walk->held_any)
        return false;
    switch (how) {
    case TOKENIZER_SPLIT_CONTIGUOUS:
        return is_match == walk->held_match;
    case TOKENIZER_SPLIT_MERGED_WITH_PREVIOUS:
        return is_match && !walk->held_match;
    case TOKENIZER_SPLIT_MERGED_WITH_NEXT:
        return !is_match && walk->held_match;
    case TOKENIZER_SPLIT_ISOLATED:
    case TOKENIZER_SPLIT_REMOVED:
        break;
    }
    return false;
}

/* Takes the next part of the cover. */
static int part_put(struct walk *walk, struct span part, bool is_match)
{
    const struct pretok_step *step = &walk->run->pretok->steps[walk->step];
    int rc = 0;

    is_match = is_match != step->invert;
    if (step->split == TOKENIZER_SPLIT_ISOLATED)
        return hand_on(walk, part);
    if (step->split == TOKENIZER_SPLIT_REMOVED)
        return is_match ? 0 : hand_on(walk, part);
    if (joins_held(walk, step->split, is_match)) {
        join(&walk->held, &part);
    } else {
        if (walk->held_any)
            rc = hand_on(walk, walk->held);
        walk->held = part;
        walk->held_any = true;
    }
    walk->held_match = is_match;
    return rc;
}

static int part_end(struct walk *walk)
{
    return walk->held_any ? hand_on(walk, walk->held) : 0;
}

/* --- the three kinds of step -------------------------------------------------------------------
 */
static int walk_regex(struct walk *walk, const struct pretok_step *step, struct span rest)
{
    struct run *run = walk->run;
    struct pattern_scratch *scratch = &run->scratch->patterns[walk->step];
    const uint8_t *letters = run->letters + rest.letter;
    size_t n = rest.n_letters;
    size_t done = 0; /* letters of the span already covered */
    size_t from = 0;
    int rc = 0;

    while (rc == 0 && from <= n) {
        size_t begin = 0;
        size_t end = 0;
        int found = pattern_find(&step->pattern, scratch, letters, n, from, &begin, &end, run->err);
        if (found < 0)
            return found;
        if (found == 0)
            break;
        if (begin > done)
            rc = part_put(walk, cut_letters(run, &rest, begin - done), false);
        if (rc == 0)
            rc = part_put(walk, cut_letters(run, &rest, end - begin), true);
        done = end;
        from = end > begin ? end : end + 1;
    }
    if (rc == 0 && rest.n_bytes > 0)
        rc = part_put(walk, rest, false);
    return rc;
}

static int walk_literal(struct walk *walk, const struct pretok_step *step, struct span rest)
{
    const char *text = walk->run->text;
    int rc = 0;

    while (rc == 0 && rest.n_bytes > 0) {
        const char *at = memmem(text + rest.byte, rest.n_bytes, step->text, step->n_text);
        if (at == NULL)
            return part_put(walk, rest, false);
        size_t before = (size_t)(at - text) - rest.byte;
        if (before > 0)
            rc = part_put(walk, cut_bytes(walk->run, &rest, before), false);
        if (rc == 0)
            rc = part_put(walk, cut_bytes(walk->run, &rest, step->n_text), true);
    }
    return rc;
}

static bool numeric_at(const char *text, size_t n, size_t *step)
{
    uint32_t code_point = (unsigned char)*text;

    *step = 1;
    if (code_point < 128)
        return code_point >= '0' && code_point <= '9';
    *step = utf8_decode(text, n, &code_point);
    assert(*step > 0);
    return (unicode_class(code_point) & UNICODE_NUMERIC) != 0;
}

/* Digits are isolated one by one, or taken together. */
static int walk_digits(struct walk *walk, const struct pretok_step *step, struct span rest)
{
    const char *text = walk->run->text;
    int rc = 0;

    while (rc == 0 && rest.n_bytes > 0) {
        size_t length = 0;
        size_t at = rest.byte;
        size_t end = rest.byte + rest.n_bytes;
        bool numeric = numeric_at(text + at, end - at, &length);
        for (at += length; at < end && !(numeric && step->individual); at += length) {
            if (numeric_at(text + at, end - at, &length) != numeric)
                break;
        }
        rc = hand_on(walk, cut_bytes(walk->run, &rest, at - rest.byte));
    }
    return rc;
}

static int split(struct run *run, size_t index, struct span span)
{
    const struct pretok_step *step = &run->pretok->steps[index];
    struct walk walk = {.run = run, .step = index};
    int rc;

    if (index == run->pretok->n_steps)
        return run->fn(run->ctx, run->text + span.byte, span.n_bytes, run->err);
    if (step->kind == TOKENIZER_STEP_REGEX)
        rc = walk_regex(&walk, step, span);
    else if (step->kind == TOKENIZER_STEP_LITERAL)
        rc = walk_literal(&walk, step, span);
    else
        rc = walk_digits(&walk, step, span);
    return rc != 0 ? rc : part_end(&walk);
}

/* --- running -----------------------------------------------------------------------------------
 */
static int scratch_ready(const struct pretok *pretok, struct pretok_scratch *scratch, size_t n,
                         struct err *err)
{
    for (size_t i = 0; i < pretok->n_steps; i++) {
        if (pretok->steps[i].kind != TOKENIZER_STEP_REGEX || scratch->patterns[i].data != NULL)
            continue;
        int rc = pattern_scratch_init(&scratch->patterns[i], &pretok->steps[i].pattern, err);
        if (rc != 0)
            return rc;
    }
    if (!pretok->has_alphabet || scratch->letters_cap >= n)
        return 0;
    mem_free(scratch->letters);
    scratch->letters_cap = 0;
    scratch->letters = mem_alloc(n);
    if (scratch->letters == NULL)
        return mem_err(err, n);
    scratch->letters_cap = n;
    return 0;
}

int pretok_run(const struct pretok *pretok, struct pretok_scratch *scratch, const char *text,
               size_t n, pretok_piece_fn fn, void *ctx, struct err *err)
{
    struct run run = {.pretok = pretok, .scratch = scratch, .text = text, .fn = fn, .ctx = ctx};
    struct span span = {.n_bytes = n, .n_letters = n};
    int rc = scratch_ready(pretok, scratch, n, err);

    run.err = err;
    if (rc != 0 || n == 0)
        return rc;
    if (pretok->has_alphabet) {
        span.n_letters = alphabet_map(&pretok->alphabet, text, n, scratch->letters);
        run.letters = scratch->letters;
    } else {
        span.n_letters = 0;
        for (size_t i = 0; i < n; i++)
            span.n_letters += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return split(&run, 0, span);
}
