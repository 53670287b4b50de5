/* Attention over paged fp16 keys and values.
 *
 * A page holds sixteen positions, so the lanes of a score vector are positions and a position's
 * lane in the softmax sum is its index mod 16, as the reduction rule asks. Steps for a tile of
 * queries:
 *   1. s = q·K as an FMA chain over the head dimension, then scaled, then capped
 *   2. the exact maximum over visible positions
 *   3. p = exp(s − max), summed by lane; invisible positions get exactly 0
 *   4. o = P·V as an FMA chain over rising position, one division at the end
 * Pages that every query of the tile sees whole go through the tile; the ragged end goes query by
 * query, so a chain never holds a term that its query may not see.
 *
 * With a window, pages that no query of the tile sees are left out; in those that are taken, a
 * position before the window gets the lowest score, so p is exactly 0 and its terms keep a chain
 * that starts from zero at zero: same bits as leaving them out.
 */
#include <float.h>

#include "kernels/isa/serve.h"

enum { PAGE = 16 };

/* `next` is the keys of the page behind, or these: asked for in passing, since hardware does not
 * fetch ahead from one page into another. */
LANE_INLINE void scores_tile(int n, const uint16_t *keys, const uint16_t *next,
                             const float *const *q, size_t head_dim, v16 scale, float *scores,
                             size_t stride)
{
    v16 acc[KERNEL_QUERY_TILE];
    for (int i = 0; i < n; i++) {
        acc[i] = v16_zero();
    }
    for (size_t d = 0; d < head_dim; d++) {
        const v16 k = v16_load_f16(keys + d * PAGE);
        __builtin_prefetch(next + d * PAGE);
#pragma GCC unroll 12
        for (int i = 0; i < n; i++) {
            acc[i] = v16_fma(v16_set1(q[i][d]), k, acc[i]);
        }
    }
    for (int i = 0; i < n; i++) {
        v16_store(scores + (size_t)i * stride, v16_mul(acc[i], scale));
    }
}

/* n is 12, 6, 4, 3 or 1; other counts are made of these. */
static void scores_page(size_t n_queries, const uint16_t *keys, const uint16_t *next,
                        const float *const *q, size_t head_dim, v16 scale, float *scores,
                        size_t stride)
{
    size_t i = 0;
    while (i < n_queries) {
        const size_t left = n_queries - i;
        float *s = scores + i * stride;
        if (left >= 12) {
            scores_tile(12, keys, next, q + i, head_dim, scale, s, stride);
            i += 12;
        } else if (left >= 6) {
            scores_tile(6, keys, next, q + i, head_dim, scale, s, stride);
            i += 6;
        } else if (left >= 3) {
            scores_tile(3, keys, next, q + i, head_dim, scale, s, stride);
            i += 3;
        } else {
            scores_tile(1, keys, next, q + i, head_dim, scale, s, stride);
            i += 1;
        }
    }
}

/* One query over four pages: four chains, none of which waits for another, while the four pages
 * behind are fetched where `more` says that they are there. */
static void scores_four_pages(const struct kv_view *kv, size_t page, const float *q,
                              size_t head_dim, v16 scale, bool more, float *scores)
{
    const uint16_t *keys[4];
    const uint16_t *next[4];
    v16 acc[4];
    for (int i = 0; i < 4; i++) {
        keys[i] = kv->pages[page + (size_t)i] + kv->offset;
        next[i] = more ? kv->pages[page + 4 + (size_t)i] + kv->offset : keys[i];
        acc[i] = v16_zero();
    }
    for (size_t d = 0; d < head_dim; d++) {
        const v16 x = v16_set1(q[d]);
        for (int i = 0; i < 4; i++) {
            __builtin_prefetch(next[i] + d * PAGE);
            acc[i] = v16_fma(x, v16_load_f16(keys[i] + d * PAGE), acc[i]);
        }
    }
    for (int i = 0; i < 4; i++) {
        v16_store(scores + i * PAGE, v16_mul(acc[i], scale));
    }
}

/* Scores of one query → probabilities before division; returns their sum. Whatever lies before the
 * first visible position is hidden. */
static float probabilities(float *s, size_t first_visible, size_t n_visible, float cap)
{
    for (size_t i = 0; cap > 0.0f && i < n_visible; i += PAGE) {
        v16_store(s + i, v16_soft_cap(v16_load(s + i), v16_set1(cap)));
    }
    for (size_t i = 0; i < first_visible; i++) {
        s[i] = -FLT_MAX;
    }
    float max = s[0];
    v16 m = v16_set1(max);
    size_t i = 0;
    for (; i + PAGE <= n_visible; i += PAGE) {
        m = v16_max(m, v16_load(s + i));
    }
    max = v16_max_lane(m);
    for (size_t j = i; j < n_visible; j++) {
        max = s[j] > max ? s[j] : max;
    }
    m = v16_set1(max);
    v16 sum = v16_zero();
    for (i = 0; i + PAGE <= n_visible; i += PAGE) {
        const v16 e = v16_exp(v16_sub(v16_load(s + i), m));
        v16_store(s + i, e);
        sum = v16_add(sum, e);
    }
    if (i < n_visible) {
        float t[PAGE] = {0};
        const size_t n = n_visible - i;
        v16_store_n(t, v16_exp(v16_sub(v16_load_n(s + i, n), m)), n);
        v16_store(s + i, v16_load(t));
        sum = v16_add(sum, v16_load(t));
    }
    return v16_sum(sum);
}

/* acc (head_dim) carries on over positions [0, n) of one page for m queries. */
LANE_INLINE void values_tile(int m, const uint16_t *values, const uint16_t *next, size_t n,
                             size_t head_dim, const float *p, size_t stride, float *const *acc)
{
    for (size_t d = 0; d < head_dim; d += LANES) {
        v16 a[KERNEL_QUERY_TILE];
        for (int i = 0; i < m; i++) {
            a[i] = v16_load(acc[i] + d);
        }
        for (size_t j = 0; j < n; j++) {
            const v16 v = v16_load_f16(values + j * head_dim + d);
            __builtin_prefetch(next + j * head_dim + d);
#pragma GCC unroll 12
            for (int i = 0; i < m; i++) {
                a[i] = v16_fma(v16_set1(p[(size_t)i * stride + j]), v, a[i]);
            }
        }
        for (int i = 0; i < m; i++) {
            v16_store(acc[i] + d, a[i]);
        }
    }
}

/* Asks for the `n` halves at p. */
LANE_INLINE void fetch(const uint16_t *p, size_t n)
{
    enum { LINE = 32 };
    for (size_t i = 0; i < n; i += LINE) {
        __builtin_prefetch(p + i);
    }
}

/* Chains of m·16 dimensions carry on over n positions of a page, while the same rows of the next
 * page are fetched. */
LANE_INLINE void values_chains(int m, const uint16_t *values, const uint16_t *next, size_t n,
                               size_t head_dim, const float *p, v16 *a)
{
    for (size_t j = 0; j < n; j++) {
        const uint16_t *v = values + j * head_dim;
        const v16 pj = v16_set1(p[j]);
        fetch(next + j * head_dim, (size_t)m * LANES);
#pragma GCC unroll 4
        for (int i = 0; i < m; i++) {
            a[i] = v16_fma(pj, v16_load_f16(v + (size_t)i * LANES), a[i]);
        }
    }
}

/* One query over positions [from, to), from at a page's boundary: chains for the whole head held in
 * registers by fours. */
static void values_row(const struct kv_view *kv, size_t head_dim, const float *p, size_t from,
                       size_t to, float *out)
{
    for (size_t d = 0; d < head_dim; d += 4 * LANES) {
        const size_t skip = kv->offset + head_dim * PAGE + d;
        const size_t left = head_dim - d;
        const int m = left >= 4 * LANES ? 4 : (int)(left / LANES);
        v16 a[4] = {v16_zero(), v16_zero(), v16_zero(), v16_zero()};
        for (int i = 0; i < m; i++) {
            a[i] = v16_load(out + d + (size_t)i * LANES);
        }
        for (size_t j = from; j < to; j += PAGE) {
            const size_t n = to - j < PAGE ? to - j : PAGE;
            const uint16_t *v = kv->pages[j / PAGE] + skip;
            const uint16_t *next = j + PAGE < to ? kv->pages[j / PAGE + 1] + skip : v;
            if (m == 4) {
                values_chains(4, v, next, n, head_dim, p + j, a);
            } else {
                values_chains(m, v, next, n, head_dim, p + j, a);
            }
        }
        for (int i = 0; i < m; i++) {
            v16_store(out + d + (size_t)i * LANES, a[i]);
        }
    }
}

/* Positions [start, n_full) in whole pages for all queries, twelve, six, three or one at a time. */
static void values_pages(const struct kv_view *kv, size_t start, size_t n_full, size_t head_dim,
                         size_t n_queries, const float *p, size_t stride, float *const *out)
{
    const size_t skip = kv->offset + head_dim * PAGE;
    for (size_t page = start / PAGE; page < n_full / PAGE; page++) {
        const uint16_t *v = kv->pages[page] + skip;
        const uint16_t *next = page + 1 < n_full / PAGE ? kv->pages[page + 1] + skip : v;
        const float *pp = p + page * PAGE;
        size_t i = 0;
        for (; i + 12 <= n_queries; i += 12) {
            values_tile(12, v, next, PAGE, head_dim, pp + i * stride, stride, out + i);
        }
        for (; i + 6 <= n_queries; i += 6) {
            values_tile(6, v, next, PAGE, head_dim, pp + i * stride, stride, out + i);
        }
        for (; i + 3 <= n_queries; i += 3) {
            values_tile(3, v, next, PAGE, head_dim, pp + i * stride, stride, out + i);
        }
        for (; i < n_queries; i++) {
            values_tile(1, v, next, PAGE, head_dim, pp + i * stride, stride, out + i);
        }
    }
}

/* The first position that a query with n_visible positions sees. */
static size_t first_seen(const struct attention_rule *rule, size_t n_visible)
{
    return rule->window > 0 && n_visible > rule->window ? n_visible - rule->window : 0;
}

void KERNEL(attention)(const struct kv_view *kv, const struct attention_rule *rule,
                       size_t n_queries, const float *const *q, const size_t *n_visible,
                       float *const *out, float *scores, size_t scores_stride)
{
    const size_t head_dim = rule->head_dim;
    const size_t longest = n_visible[n_queries - 1];
    const size_t start = first_seen(rule, n_visible[0]) / PAGE * PAGE;
    const size_t n_full = n_queries > 1 ? n_visible[0] / PAGE * PAGE : start;
    const v16 s = v16_set1(rule->scale);
    size_t page = start / PAGE;
    for (; n_queries == 1 && (page + 4) * PAGE <= longest; page += 4) {
        scores_four_pages(kv, page, q[0], head_dim, s, (page + 8) * PAGE <= longest,
                          scores + page * PAGE);
    }
    for (; page * PAGE < longest; page++) {
        const uint16_t *keys = kv->pages[page] + kv->offset;
        const bool more = (page + 1) * PAGE < longest;
        scores_page(n_queries, keys, more ? kv->pages[page + 1] + kv->offset : keys, q, head_dim, s,
                    scores + page * PAGE, scores_stride);
    }
    float sums[KERNEL_QUERY_TILE];
    for (size_t i = 0; i < n_queries; i++) {
        sums[i] = probabilities(scores + i * scores_stride + start,
                                first_seen(rule, n_visible[i]) - start, n_visible[i] - start,
                                rule->soft_cap);
        memset(out[i], 0, head_dim * sizeof(float));
    }
    values_pages(kv, start, n_full, head_dim, n_queries, scores, scores_stride, out);
    for (size_t i = 0; i < n_queries; i++) {
        values_row(kv, head_dim, scores + i * scores_stride, n_full, n_visible[i], out[i]);
        const v16 sum = v16_set1(sums[i]);
        for (size_t d = 0; d < head_dim; d += LANES) {
            v16_store(out[i] + d, v16_div(v16_load(out[i] + d), sum));
        }
    }
}

unsigned KERNEL(kv_store)(const struct kv_view *kv, size_t position, const float *k, const float *v,
                          size_t head_dim)
{
    uint16_t *page = kv->pages[position / PAGE] + kv->offset;
    uint16_t *value = page + head_dim * PAGE + (position % PAGE) * head_dim;
    const v16 top = v16_set1(65504.0f);
    const v16 bottom = v16_set1(-65504.0f);
    unsigned clamped = 0;
    for (size_t d = 0; d < head_dim; d += LANES) {
        const v16 kd = v16_load(k + d);
        const v16 vd = v16_load(v + d);
        const v16 kc = v16_max(v16_min(kd, top), bottom);
        const v16 vc = v16_max(v16_min(vd, top), bottom);
        uint16_t half[LANES];
        v16_store_f16(half, kc);
        for (size_t i = 0; i < LANES; i++) {
            page[(d + i) * PAGE + position % PAGE] = half[i];
        }
        v16_store_f16(value + d, vc);
        float t[LANES];
        v16_store(t, v16_max(v16_abs(v16_sub(kd, kc)), v16_abs(v16_sub(vd, vc))));
        for (size_t i = 0; i < LANES; i++) {
            clamped += t[i] != 0.0f;
        }
    }
    return clamped;
}
