#include "infer/select.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { BLOCK = 64, FEW = 16, TOP_LANES = 16, DIGIT_BITS = 11, DIGITS = 3 };

int select_init(struct select *s, int n, struct err *err)
{
    *s = (struct select){.n = n, .n_blocks = (n + BLOCK - 1) / BLOCK};
    s->tops = mem_calloc((size_t)s->n_blocks, sizeof *s->tops);
    s->ids = mem_calloc((size_t)n, sizeof *s->ids);
    s->spare = mem_calloc((size_t)n, sizeof *s->spare);
    if (s->tops != NULL && s->ids != NULL && s->spare != NULL) {
        return 0;
    }
    select_release(s);
    return mem_err(err, 2 * (size_t)n * sizeof *s->ids);
}

void select_release(struct select *s)
{
    mem_free(s->tops);
    mem_free(s->ids);
    mem_free(s->spare);
    memset(s, 0, sizeof *s);
}

/* The highest of a whole block; −∞ of NaNs alone. */
static float top_of_block(const float *x)
{
    float top[TOP_LANES];
    for (int j = 0; j < TOP_LANES; j++) {
        top[j] = -INFINITY;
    }
    for (int i = 0; i < BLOCK; i += TOP_LANES) {
        for (int j = 0; j < TOP_LANES; j++) {
            top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
        }
    }
    for (int half = TOP_LANES / 2; half > 0; half /= 2) {
        for (int j = 0; j < half; j++) {
            top[j] = top[j + half] > top[j] ? top[j + half] : top[j];
        }
    }
    return top[0];
}

/* The highest of those of x[0, n), n ≤ 64, whose bit is set; −∞ of none. Bits are walked where few
 * are set, else where they are not: masks are of one kind or the other nearly everywhere. */
static float top_of(const float *x, int n, uint64_t bits)
{
    float values[BLOCK], top = -INFINITY;
    bits &= n < BLOCK ? (UINT64_C(1) << n) - 1 : UINT64_MAX;
    if (bits == UINT64_MAX) {
        return top_of_block(x);
    }
    if (__builtin_popcountll(bits) < FEW) {
        for (; bits != 0; bits &= bits - 1) {
            const float value = x[__builtin_ctzll(bits)];
            top = value > top ? value : top;
        }
        return top;
    }
    memcpy(values, x, (size_t)n * sizeof *values);
    for (uint64_t out = ~bits; out != 0; out &= out - 1) {
        values[__builtin_ctzll(out)] = -INFINITY;
    }
    return top_of_block(values);
}

static int block_length(int n, int block)
{
    return n - block * BLOCK < BLOCK ? n - block * BLOCK : BLOCK;
}

int32_t select_highest(const float *x, int n, const uint64_t *mask)
{
    float top = -INFINITY;
    int best = -1;
    for (int b = 0; b * BLOCK < n; b++) {
        const float own = top_of(x + b * BLOCK, block_length(n, b), mask ? mask[b] : UINT64_MAX);
        if (own > top) {
            top = own;
            best = b;
        }
    }
    if (best < 0) {
        return -1;
    }
    const uint64_t bits = mask ? mask[best] : UINT64_MAX;
    int at = 0;
    while ((bits >> at & 1) == 0 || x[best * BLOCK + at] != top) {
        at++;
    }
    return best * BLOCK + at;
}

/* Smaller keys of higher values: the bits of floats that are not negative rise as they do. */
static uint32_t digit_of(const float *p, int32_t id, int digit)
{
    uint32_t bits;
    memcpy(&bits, &p[id], sizeof bits);
    return ~bits >> (digit * DIGIT_BITS) & ((1U << DIGIT_BITS) - 1);
}

/* Sorts ids[0, n) by value, highest first; equals stay in their order. No worst case: three passes
 * over their digits. */
static void sort(struct select *s, const float *p, int n)
{
    for (int digit = 0; digit < DIGITS; digit++) {
        int32_t at[1 << DIGIT_BITS] = {0};
        int32_t sum = 0;
        for (int i = 0; i < n; i++) {
            at[digit_of(p, s->ids[i], digit)]++;
        }
        for (int d = 0; d < 1 << DIGIT_BITS; d++) {
            const int32_t count = at[d];
            at[d] = sum;
            sum += count;
        }
        for (int i = 0; i < n; i++) {
            s->spare[at[digit_of(p, s->ids[i], digit)]++] = s->ids[i];
        }
        int32_t *const sorted = s->spare;
        s->spare = s->ids;
        s->ids = sorted;
    }
}

int select_first(struct select *s, const float *p, int k, float min_share)
{
    for (int b = 0; b < s->n_blocks; b++) {
        s->tops[b] = top_of(p + b * BLOCK, block_length(s->n, b), UINT64_MAX);
        s->ids[b] = b;
    }
    sort(s, s->tops, s->n_blocks);
    const float floor = min_share * s->tops[s->ids[0]];
    const float bound = k <= s->n_blocks ? s->tops[s->ids[k - 1]] : 0.0f;
    const float least = bound > floor ? bound : floor;
    int n = 0;
    for (int32_t i = 0; i < s->n; i++) {
        s->ids[n] = i;
        n += p[i] >= least && p[i] > 0.0f;
    }
    sort(s, p, n);
    return n;
}
