/* How matching works: the tokens lie sorted, so those that share a beginning are neighbours. At a
 * position the range of candidates is narrowed byte by byte, with two binary searches each; a token
 * equal to what was read so far is always the first of its range. A match that is refused (a
 * control token where they are not wanted, a word that touches another) has still used up its text,
 * as in the Aho–Corasick search that Hugging Face runs.
 */
#include "text/added.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/unicode_class.h"

static int compare(const void *a, const void *b)
{
    const struct added_token *x = a;
    const struct added_token *y = b;
    int order = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);

    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

int added_set_init(struct added_set *set, const struct added_token *tokens, size_t n,
                   struct err *err)
{
    memset(set, 0, sizeof(*set));
    if (n == 0)
        return 0;
    set->tokens = mem_calloc(n, sizeof(*set->tokens));
    if (set->tokens == NULL)
        return mem_err(err, n * sizeof(*set->tokens));
    memcpy(set->tokens, tokens, n * sizeof(*tokens));
    set->n = n;
    qsort(set->tokens, n, sizeof(*set->tokens), compare);
    for (size_t i = 1; i < n; i++) {
        if (compare(&set->tokens[i - 1], &set->tokens[i]) == 0)
            return err_set(err, ERR_INVALID, "added token '%.*s' is there twice",
                           (int)(tokens[i].n < 100 ? set->tokens[i].n : 100), set->tokens[i].bytes);
    }
    for (size_t i = 0; i < n; i++)
        set->first[(unsigned char)set->tokens[i].bytes[0] + 1]++;
    for (int b = 0; b < 256; b++)
        set->first[b + 1] += set->first[b];
    return 0;
}

void added_set_release(struct added_set *set)
{
    mem_free(set->tokens);
    memset(set, 0, sizeof(*set));
}

/* First of tokens[low..high) whose byte at `depth` is at least `byte`; shorter tokens come first.
 */
static size_t lower_bound(const struct added_set *set, size_t low, size_t high, size_t depth,
                          unsigned byte)
{
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct added_token *token = &set->tokens[mid];
        if (token->n <= depth || (unsigned char)token->bytes[depth] < byte)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static const struct added_token *longest_at(const struct added_set *set, const char *text, size_t n)
{
    const struct added_token *best = NULL;
    unsigned byte = (unsigned char)text[0];
    size_t low = set->first[byte];
    size_t high = set->first[byte + 1];

    for (size_t depth = 1; low < high; depth++) {
        if (set->tokens[low].n == depth)
            best = &set->tokens[low];
        if (depth == n)
            break;
        byte = (unsigned char)text[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
    }
    return best;
}

static uint32_t class_at(const char *text, size_t n, size_t *step)
{
    uint32_t code_point = 0;

    *step = utf8_decode(text, n, &code_point);
    assert(*step > 0);
    return unicode_class(code_point);
}

static uint32_t class_before(const char *text, size_t end, size_t *step)
{
    size_t begin = end - 1;

    while (begin > 0 && ((unsigned char)text[begin] & 0xC0) == 0x80)
        begin--;
    return class_at(text + begin, end - begin, step);
}

static bool touches_word(const char *text, size_t n, size_t begin, size_t end)
{
    size_t step;

    return (begin > 0 && (class_before(text, begin, &step) & UNICODE_ADDED_WORD) != 0) ||
           (end < n && (class_at(text + end, n - end, &step) & UNICODE_ADDED_WORD) != 0);
}

bool added_next(struct added_cursor *cursor, struct added_match *match)
{
    const struct added_set *set = cursor->set;

    while (cursor->at < cursor->n) {
        unsigned char byte = (unsigned char)cursor->text[cursor->at];
        const struct added_token *token = NULL;
        if (set->first[byte] < set->first[byte + 1])
            token = longest_at(set, cursor->text + cursor->at, cursor->n - cursor->at);
        if (token == NULL) {
            cursor->at++;
            continue;
        }
        size_t begin = cursor->at;
        size_t end = begin + token->n;
        size_t step;
        cursor->at = end;
        if ((token->special && !cursor->special) ||
            (token->single_word && touches_word(cursor->text, cursor->n, begin, end)))
            continue;
        while (token->lstrip && begin > cursor->taken &&
               (class_before(cursor->text, begin, &step) & UNICODE_SPACE) != 0)
            begin -= step;
        while (token->rstrip && end < cursor->n &&
               (class_at(cursor->text + end, cursor->n - end, &step) & UNICODE_SPACE) != 0)
            end += step;
        cursor->taken = end;
        *match = (struct added_match){.id = token->id, .begin = begin, .end = end};
        return true;
    }
    return false;
}
