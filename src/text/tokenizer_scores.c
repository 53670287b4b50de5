/* Merges that follow from scores, as SentencePiece has them, and the edges of every character BPE.
 *
 * SentencePiece joins any two neighbours whose texts together are a token, the best score first and
 * the leftmost of equals. Every neighbour is a token or a single character, so all joins can be
 * listed beforehand: each token is split at each of its characters, and where both parts exist the
 * pair gets the token's rank, one rank for each different score. From then on it is merging by
 * pairs like any other.
 *
 * A character that only longer tokens have (no token of its own) gets an id beyond the vocabulary,
 * so that it can be a part of a pair.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/tokenizer_load.h"

/* --- characters without a token ----------------------------------------------------------------
 */
typedef int (*char_fn)(struct loader *load, const char *bytes, size_t n, size_t *count);

/* Calls fn for each character of each token that merging makes and that is not in the table. */
static int each_stray_char(struct loader *load, char_fn fn, size_t *count)
{
    struct tokenizer *tok = load->tok;
    int rc = 0;

    for (size_t id = 0; rc == 0 && id < tok->n_vocab; id++) {
        size_t n;
        const char *text;
        if ((tok->flags[id] & TOKEN_SPELLED) == 0)
            continue;
        for (size_t i = 0; rc == 0; i += n) {
            uint32_t code_point;
            size_t length;
            text = strings_get(&tok->spelling, id, &length); /* fn may have moved it */
            if (i >= length)
                break;
            n = utf8_decode(text + i, length - i, &code_point);
            if (vocab_table_find(&tok->table, &tok->spelling, text + i, n) < 0)
                rc = fn(load, text + i, n, count);
        }
    }
    return rc;
}

static int count_char(struct loader *load, const char *bytes, size_t n, size_t *count)
{
    (void)load;
    (void)bytes;
    (void)n;
    ++*count;
    return 0;
}

static int put_char(struct loader *load, const char *bytes, size_t n, size_t *count)
{
    struct tokenizer *tok = load->tok;
    char copy[4];

    memcpy(copy, bytes, n);
    strings_put(&tok->spelling, copy, n);
    vocab_table_put(&tok->table, &tok->spelling, (int32_t)(tok->spelling.n - 1));
    ++*count;
    return 0;
}

static int add_stray_chars(struct loader *load)
{
    struct tokenizer *tok = load->tok;
    size_t bound = 0;
    size_t n = 0;
    int rc = each_stray_char(load, count_char, &bound);

    if (rc != 0 || bound == 0)
        return rc;
    if (bound > TOKENIZER_VOCAB_MAX)
        return err_set(load->err, ERR_TOO_LARGE,
                       "tokens with %zu characters that are no tokens, at most %d", bound,
                       TOKENIZER_VOCAB_MAX);
    vocab_table_release(&tok->table);
    rc = strings_grow(&tok->spelling, bound, bound * 4, load->err);
    if (rc == 0)
        rc = vocab_table_init(&tok->table, tok->n_vocab + bound, load->err);
    for (size_t id = 0; rc == 0 && id < tok->n_vocab; id++) {
        if ((tok->flags[id] & TOKEN_SPELLED) != 0)
            vocab_table_put(&tok->table, &tok->spelling, (int32_t)id);
    }
    return rc != 0 ? rc : each_stray_char(load, put_char, &n);
}

/* --- ranks -------------------------------------------------------------------------------------
 */
struct scored {
    float score;
    int32_t id;
};

static int compare(const void *a, const void *b)
{
    const struct scored *x = a;
    const struct scored *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Tokens that merging makes, best first; *n of them. */
static int sort_tokens(struct loader *load, struct scored **out, size_t *n)
{
    struct tokenizer *tok = load->tok;
    size_t n_tokens = load->spec->n_tokens;
    struct scored *all = mem_calloc(n_tokens + 1, sizeof(*all));

    *out = all;
    *n = 0;
    if (all == NULL)
        return mem_err(load->err, (n_tokens + 1) * sizeof(*all));
    for (size_t id = 0; id < n_tokens; id++) {
        size_t length;
        const char *text = strings_get(&tok->spelling, id, &length);
        if ((tok->flags[id] & TOKEN_SPELLED) == 0 || /* or another token has its text */
            vocab_table_find(&tok->table, &tok->spelling, text, length) != (int32_t)id)
            continue;
        if (!isfinite(load->spec->scores[id]))
            return err_set(load->err, ERR_INVALID, "the score of token %zu is not finite", id);
        all[(*n)++] = (struct scored){load->spec->scores[id], (int32_t)id};
    }
    qsort(all, *n, sizeof(*all), compare);
    return 0;
}

/* Lists the pairs that make a token; puts them where `put`, else counts them only. */
static void pairs_of(struct loader *load, const struct scored *token, uint32_t rank, bool put,
                     size_t *count)
{
    struct tokenizer *tok = load->tok;
    size_t n;
    const char *text = strings_get(&tok->spelling, (size_t)token->id, &n);
    uint32_t code_point;

    for (size_t at = utf8_decode(text, n, &code_point); at > 0 && at < n;
         at += utf8_decode(text + at, n - at, &code_point)) {
        int32_t left = vocab_table_find(&tok->table, &tok->spelling, text, at);
        if (left < 0)
            continue;
        int32_t right = vocab_table_find(&tok->table, &tok->spelling, text + at, n - at);
        if (right < 0)
            continue;
        ++*count;
        if (put)
            bpe_merges_put(&tok->merges, left, right, rank, token->id);
    }
}

static int put_pairs(struct loader *load, const struct scored *tokens, size_t n)
{
    size_t count = 0;
    uint32_t rank = 0;
    int rc;

    for (size_t i = 0; i < n; i++)
        pairs_of(load, &tokens[i], 0, false, &count);
    if (count > TOKENIZER_MERGES_MAX)
        return err_set(load->err, ERR_TOO_LARGE, "tokenizer of %zu merges, at most %d", count,
                       TOKENIZER_MERGES_MAX);
    rc = bpe_merges_init(&load->tok->merges, count, load->err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (i > 0 && tokens[i].score != tokens[i - 1].score)
            rank++;
        pairs_of(load, &tokens[i], rank, true, &count);
    }
    return rc;
}

int load_scored_merges(struct loader *load)
{
    struct scored *tokens = NULL;
    size_t n = 0;
    int rc = add_stray_chars(load);

    if (rc == 0)
        rc = sort_tokens(load, &tokens, &n);
    if (rc == 0)
        rc = put_pairs(load, tokens, n);
    mem_free(tokens);
    return rc;
}

/* --- edges -------------------------------------------------------------------------------------
 */
/* Cutting shows where unknown characters fuse, and where a piece that is a token is taken whole; a
 * byte token that merges would stand for a character that the edges do not know. */
static bool may_cut(const struct loader *load)
{
    const struct tokenizer *tok = load->tok;
    static const char digits[] = "0123456789ABCDEF";

    if (tok->kind != TOKENIZER_BPE_CHARS || !tok->byte_fallback || tok->ignore_merges)
        return false;
    for (int byte = 0; byte < 256; byte++) {
        if (tok->byte_id[byte] < 0)
            return false;
    }
    for (size_t i = 0; i < load->spec->n_merges; i++) {
        const struct tokenizer_text *text = &load->spec->merges[i];
        for (size_t at = 0; text->n >= 6 && at + 6 <= text->n; at++) {
            const char *t = text->bytes + at;
            if (memcmp(t, "<0x", 3) == 0 && t[5] == '>' && strchr(digits, t[3]) != NULL &&
                strchr(digits, t[4]) != NULL)
                return false;
        }
    }
    return true;
}

int load_edges(struct loader *load)
{
    struct tokenizer *tok = load->tok;
    int rc;

    if (!may_cut(load))
        return 0;
    rc = edges_init(&tok->edges, tok->n_vocab, load->err);
    for (size_t id = 0; rc == 0 && id < tok->n_vocab; id++) {
        size_t n;
        const char *text = strings_get(&tok->spelling, id, &n);
        if ((tok->flags[id] & TOKEN_SPELLED) != 0)
            edges_add(&tok->edges, text, n);
    }
    return rc;
}
