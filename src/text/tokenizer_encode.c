/* Encoding, from text to ids:
 *
 *   text ─added tokens─▶ stretches ─normalise─▶ ─added, normalised─▶ stretches
 *        ─pre-tokenizer─▶ pieces ─symbols, merging─▶ ids
 *
 * 1. Everything one call needs is in a struct encoder on its stack, whose buffers grow to the
 *    longest stretch and piece and go at the end: a tokenizer is never written to.
 * 2. The output is cut back to where it was when anything fails.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/normalize.h"
#include "text/tokenizer_private.h"

enum { NORMALIZED_GROWTH = 4 }; /* most bytes that come of one, before it is too large */

struct encoder {
    const struct tokenizer *tok;
    bool parse_special;
    struct token_ids *out;
    struct bpe_row row;
    struct pretok_scratch scratch;
    struct buf normal;
    struct buf replaced; /* by a late replacement */
    bool at_start;       /* the stretch in hand is what the text begins with */
};

/* --- ids ---------------------------------------------------------------------------------------
 */
void token_ids_init(struct token_ids *ids, size_t max)
{
    assert(max > 0);
    *ids = (struct token_ids){.max = max};
}

void token_ids_release(struct token_ids *ids)
{
    mem_free(ids->ids);
    ids->ids = NULL;
    ids->n = ids->cap = 0;
}

void token_ids_clear(struct token_ids *ids)
{
    ids->n = 0;
}

static int reserve_ids(struct token_ids *ids, size_t n, struct err *err)
{
    size_t cap = ids->cap == 0 ? 64 : ids->cap;

    if (n > ids->max - ids->n)
        return err_set(err, ERR_TOO_LARGE, "text is more than %zu tokens, at most %zu", ids->max,
                       ids->max);
    if (ids->n + n <= ids->cap)
        return 0;
    while (cap < ids->n + n)
        cap *= 2;
    void *grown = mem_realloc(ids->ids, cap, sizeof(*ids->ids));
    if (grown == NULL)
        return mem_err(err, cap * sizeof(*ids->ids));
    ids->ids = grown;
    ids->cap = cap;
    return 0;
}

int token_ids_push(struct token_ids *ids, int32_t id, struct err *err)
{
    int rc = reserve_ids(ids, 1, err);

    if (rc == 0)
        ids->ids[ids->n++] = id;
    return rc;
}

/* --- normalisation -----------------------------------------------------------------------------
 */
void replacement_apply(const struct replacement *replacement, const char *text, size_t n,
                       struct buf *out)
{
    while (replacement->from != NULL && n > 0) {
        const char *at = memmem(text, n, replacement->from, replacement->n_from);
        if (at == NULL)
            break;
        size_t before = (size_t)(at - text);
        buf_append(out, text, before);
        buf_append(out, replacement->to, replacement->n_to);
        text += before + replacement->n_from;
        n -= before + replacement->n_from;
    }
    buf_append(out, text, n);
}

bool tokenizer_is_normal(const struct tokenizer *tok, const char *text, size_t n)
{
    return !tok->squeeze_spaces && (!tok->nfc || normalize_is_plain(text, n)) &&
           (tok->before.from == NULL || tok->replace_late ||
            memmem(text, n, tok->before.from, tok->before.n_from) == NULL);
}

/* Replaces, once runs of spaces are one and those at the ends are gone. */
static void squeeze_apply(const struct replacement *replacement, const char *text, size_t n,
                          struct buf *out)
{
    while (n > 0 && text[n - 1] == ' ')
        n--;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (i < n && text[i] == ' ')
            i++;
        if (i > end && end > 0)
            replacement_apply(replacement, " ", 1, out);
        for (end = i; end < n && text[end] != ' ';)
            end++;
        replacement_apply(replacement, text + i, end - i, out);
        i = end;
    }
}

/* SentencePiece takes what stands for spaces off the end, also where the text itself has it or
 * nothing but the mark in front is left. */
static void strip_end(const struct replacement *replacement, struct buf *out, size_t start)
{
    size_t n = replacement->n_to;

    while (replacement->from != NULL && n > 0 && out->len >= start + n &&
           memcmp(out->data + out->len - n, replacement->to, n) == 0)
        out->len -= n;
}

int tokenizer_normalize(const struct tokenizer *tok, bool prepend, const char *text, size_t n,
                        struct buf *out, struct err *err)
{
    const struct replacement none = {0};
    const struct replacement *before = tok->replace_late ? &none : &tok->before;
    struct buf composed;
    size_t start = out->len;
    int rc = 0;

    if (prepend && tok->prepend != NULL && !tok->replace_late)
        buf_append(out, tok->prepend, tok->n_prepend);
    if (tok->squeeze_spaces) {
        squeeze_apply(before, text, n, out);
        strip_end(before, out, start);
    } else if (!tok->nfc) {
        replacement_apply(before, text, n, out);
    } else if (before->from == NULL) {
        rc = normalize_nfc(text, n, out, err);
    } else {
        buf_init(&composed, (size_t)TOKENIZER_TEXT_BYTES_MAX * NORMALIZED_GROWTH);
        rc = normalize_nfc(text, n, &composed, err);
        if (rc == 0)
            replacement_apply(before, composed.data, composed.len, out);
        buf_release(&composed);
    }
    return rc != 0 ? rc : buf_check(out, "normalised text", err);
}

static bool wants_prepend(const struct encoder *enc, const char *text, size_t n)
{
    const struct tokenizer *tok = enc->tok;
    bool there = tok->prepend != NULL && n >= tok->n_prepend &&
                 memcmp(text, tok->prepend, tok->n_prepend) == 0;

    if (tok->prepend == NULL || n == 0)
        return false;
    switch (tok->prepend_to) {
    case TOKENIZER_PREPEND_EACH:
        return true;
    case TOKENIZER_PREPEND_START:
        return enc->at_start;
    case TOKENIZER_PREPEND_EACH_MISSING:
        return !there;
    case TOKENIZER_PREPEND_START_MISSING:
        return enc->at_start && !there;
    }
    return false;
}

/* --- pieces to symbols to ids ------------------------------------------------------------------
 */
/* Puts the unknown token, or nothing; the last symbol is one already when unknowns fuse. */
static void push_unknown(struct encoder *enc, bool *last_unknown)
{
    const struct tokenizer *tok = enc->tok;

    if (!tok->unk_replaces)
        return;
    if (!*last_unknown || !tok->fuse_unk)
        bpe_row_push(&enc->row, tok->unk_id);
    *last_unknown = true;
}

static void symbols_of_bytes(struct encoder *enc, const char *piece, size_t n)
{
    bool last_unknown = false;

    for (size_t i = 0; i < n; i++) {
        int32_t id = enc->tok->byte_id[(unsigned char)piece[i]];
        if (id < 0) {
            push_unknown(enc, &last_unknown);
            continue;
        }
        bpe_row_push(&enc->row, id);
        last_unknown = false;
    }
}

static bool spelled_in_bytes(const struct tokenizer *tok, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (tok->byte_id[(unsigned char)bytes[i]] < 0)
            return false;
    }
    return tok->byte_fallback;
}

static void symbols_of_chars(struct encoder *enc, const char *piece, size_t n)
{
    const struct tokenizer *tok = enc->tok;
    bool last_unknown = false;

    for (size_t i = 0; i < n;) {
        uint32_t code_point = 0;
        size_t step = utf8_decode(piece + i, n - i, &code_point);
        assert(step > 0);
        int32_t id = vocab_table_find(&tok->table, &tok->spelling, piece + i, step);
        if (id >= 0) { /* perhaps beyond the vocabulary: a character that only tokens have */
            bpe_row_push(&enc->row, id);
            last_unknown = false;
        } else if (spelled_in_bytes(tok, piece + i, step)) {
            for (size_t b = 0; b < step; b++)
                bpe_row_push(&enc->row, tok->byte_id[(unsigned char)piece[i + b]]);
            last_unknown = false;
        } else {
            push_unknown(enc, &last_unknown);
        }
        i += step;
    }
}

/* Puts what merging left of a row. A character that is no token itself and found nothing to merge
 * with is spelled in bytes only now. */
static int put_row(struct encoder *enc, struct err *err)
{
    const struct tokenizer *tok = enc->tok;
    bool last_unknown = false;
    int rc = reserve_ids(enc->out, enc->row.n, err);

    for (size_t i = 0; rc == 0 && i < enc->row.n; i++) {
        int32_t id = enc->row.symbols[i].id;
        if ((size_t)id < tok->n_vocab) {
            last_unknown = tok->scored && tok->unk_replaces && id == tok->unk_id;
            enc->out->ids[enc->out->n++] = id;
            continue;
        }
        size_t n;
        const char *bytes = strings_get(&tok->spelling, (size_t)id, &n);
        bool spelled = spelled_in_bytes(tok, bytes, n);
        rc = reserve_ids(enc->out, n + enc->row.n - i, err);
        for (size_t b = 0; rc == 0 && spelled && b < n; b++)
            enc->out->ids[enc->out->n++] = tok->byte_id[(unsigned char)bytes[b]];
        if (rc == 0 && !spelled && tok->unk_replaces && !(last_unknown && tok->fuse_unk))
            enc->out->ids[enc->out->n++] = tok->unk_id;
        last_unknown = !spelled;
    }
    return rc;
}

static int put_symbols(struct encoder *enc, const char *piece, size_t n, struct err *err)
{
    const struct tokenizer *tok = enc->tok;
    int rc;

    bpe_row_clear(&enc->row);
    rc = bpe_row_reserve(&enc->row, n, err);
    if (rc != 0)
        return rc;
    if (tok->kind == TOKENIZER_BPE_BYTES)
        symbols_of_bytes(enc, piece, n);
    else
        symbols_of_chars(enc, piece, n);
    rc = bpe_row_merge(&enc->row, &tok->merges, err);
    return rc != 0 ? rc : put_row(enc, err);
}

static int put_piece(void *ctx, const char *piece, size_t n, struct err *err)
{
    struct encoder *enc = ctx;
    const struct tokenizer *tok = enc->tok;
    uint32_t left = 0;
    size_t done = 0;
    size_t at = 0;
    int rc = 0;

    if (tok->ignore_merges) {
        int32_t id = vocab_table_find(&tok->table, &tok->spelling, piece, n);
        if (id >= 0)
            return token_ids_push(enc->out, id, err);
    }
    while (tok->edges.bits != NULL && rc == 0 && at < n) {
        uint32_t right = 0;
        size_t step = utf8_decode(piece + at, n - at, &right);
        assert(step > 0);
        if (at > 0 && !edges_joined(&tok->edges, left, right)) {
            rc = put_symbols(enc, piece + done, at - done, err);
            done = at;
        }
        left = right;
        at += step;
    }
    return rc != 0 ? rc : put_symbols(enc, piece + done, n - done, err);
}

/* --- stretches between added tokens ------------------------------------------------------------
 */
/* Cuts a text at a set's tokens and hands what lies between to `put`. */
static int cut(struct encoder *enc, const struct added_set *set, const char *text, size_t n,
               int (*put)(struct encoder *, const char *, size_t, struct err *), struct err *err)
{
    struct added_cursor cursor = {.set = set, .text = text, .n = n, .special = enc->parse_special};
    struct added_match match;
    size_t done = 0;
    int rc = 0;

    while (rc == 0 && set->n > 0 && added_next(&cursor, &match)) {
        if (match.begin > done)
            rc = put(enc, text + done, match.begin - done, err);
        if (rc == 0)
            rc = token_ids_push(enc->out, match.id, err);
        done = match.end;
        enc->at_start = false;
    }
    if (rc == 0 && done < n)
        rc = put(enc, text + done, n - done, err);
    enc->at_start = false;
    return rc;
}

static int put_normal(struct encoder *enc, const char *text, size_t n, struct err *err)
{
    const struct tokenizer *tok = enc->tok;
    bool replaces = tok->before.from != NULL;
    int rc = 0;

    if (tok->replace_late && (replaces || tok->prepend != NULL)) {
        struct buf *out = &enc->replaced;
        buf_clear(out);
        if (tok->prepend != NULL) /* where it would stand; taken away again if it is not wanted */
            buf_append(out, tok->prepend, tok->n_prepend);
        replacement_apply(&tok->before, text, n, out);
        rc = buf_check(out, "normalised text", err);
        if (rc != 0)
            return rc;
        text = out->data + tok->n_prepend;
        n = out->len - tok->n_prepend;
        if (wants_prepend(enc, text, n)) {
            text -= tok->n_prepend;
            n += tok->n_prepend;
        }
    }
    enc->at_start = false;
    return pretok_run(&tok->pretok, &enc->scratch, text, n, put_piece, enc, err);
}

static int put_stretch(struct encoder *enc, const char *text, size_t n, struct err *err)
{
    const struct tokenizer *tok = enc->tok;
    bool prepend = !tok->replace_late && wants_prepend(enc, text, n);

    if (prepend || !tokenizer_is_normal(tok, text, n)) {
        buf_clear(&enc->normal);
        int rc = tokenizer_normalize(tok, prepend, text, n, &enc->normal, err);
        if (rc != 0)
            return rc;
        text = enc->normal.data;
        n = enc->normal.len;
    }
    return cut(enc, &tok->added_nfc, text, n, put_normal, err);
}

static int push_all(struct token_ids *out, const int32_t *ids, size_t n, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = token_ids_push(out, ids[i], err);
    return rc;
}

static size_t first_bad_byte(const char *text, size_t n)
{
    size_t i = 0;
    uint32_t code_point;
    size_t step;

    while (i < n && (step = utf8_decode(text + i, n - i, &code_point)) > 0)
        i += step;
    return i;
}

int tokenizer_encode(const struct tokenizer *tok, const char *text, size_t length, unsigned flags,
                     struct token_ids *out, struct err *err)
{
    struct encoder enc = {.tok = tok, .out = out, .at_start = true};
    bool add_special = (flags & TOKENIZER_ADD_SPECIAL) != 0;
    size_t n_before = out->n;
    int rc = 0;

    if (length > TOKENIZER_TEXT_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "text of %zu bytes, at most %d", length,
                       TOKENIZER_TEXT_BYTES_MAX);
    if (!utf8_valid(text, length))
        return err_set(err, ERR_INVALID, "text is not UTF-8 at byte %zu",
                       first_bad_byte(text, length));
    enc.parse_special = (flags & TOKENIZER_PARSE_SPECIAL) != 0;
    buf_init(&enc.normal, (size_t)TOKENIZER_TEXT_BYTES_MAX * NORMALIZED_GROWTH);
    buf_init(&enc.replaced, (size_t)TOKENIZER_TEXT_BYTES_MAX * NORMALIZED_GROWTH);
    if (add_special)
        rc = push_all(out, tok->prefix, tok->n_prefix, err);
    if (rc == 0)
        rc = cut(&enc, &tok->added, text, length, put_stretch, err);
    if (rc == 0 && add_special)
        rc = push_all(out, tok->suffix, tok->n_suffix, err);
    if (rc != 0)
        out->n = n_before;
    bpe_row_release(&enc.row);
    pretok_scratch_release(&enc.scratch);
    buf_release(&enc.normal);
    buf_release(&enc.replaced);
    return rc;
}
