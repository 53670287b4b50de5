/* Attention for training, a tile of sixteen queries at a time, one query a lane.
 *
 * Scores lie as (keys, 16 queries), so the maximum and the sixteen partial sums of the reduction
 * rule (by key position mod 16) need no work across lanes, and the same array serves as the
 * broadcast side of P·V. The scores of keys that a query may not see are computed and then
 * overwritten: before the maximum by the lowest number (scale ≤ 1), after exp by zero. A masked
 * slot therefore adds ±0 to a chain; the finished chain gets + 0, which settles the sign of a zero,
 * so the result does not depend on where tiles end.
 *
 * A window takes its keys from the first multiple of sixteen that the tile's first query sees,
 * which keeps every key in its lane of the sum; the keys before a query's own window are masked as
 * the future is, after the soft cap too, which would lift the lowest number to −cap.
 *
 * Backward, with p = e^(s − max) / sum, D = Σ_d out_grad·out:
 *   dP = out_grad·V,  dS = (p · (dP − D)) · scale (times the cap's slope),  dQ = dS·K,  dK = dSᵀ·Q,
 * dV = pᵀ·out_grad p and dS of a tile are kept for the call that makes dK and dV, whose outputs are
 * keys.
 */
#include <float.h>

#include "kernels/isa/train_chain.h"
#include "kernels/isa/train_parts.h"
#include "kernels/isa/train_turn.h"

/* to[d][i] = rows[i][d]; lanes past n_rows are zero. */
static void turn_queries(float *to, const float *rows, size_t ld, size_t n_rows, size_t head_dim)
{
    turn_padded(to, TRAIN_QUERY_TILE, rows, ld, n_rows, head_dim);
}

/* scores[j][i] = Σ_d turned[d][i] · keys[j][d] */
static void scores_of(float *scores, const float *turned, const float *keys, size_t n_keys,
                      size_t head_pad, size_t head_dim)
{
    const struct chain q = {.n_k = head_dim,
                            .w = turned,
                            .ldw = TRAIN_QUERY_TILE,
                            .x = keys,
                            .ldt = head_pad,
                            .ldk = 1,
                            .c = scores,
                            .ldc = TRAIN_QUERY_TILE,
                            .mode = TRAIN_STORE,
                            .last_lanes = LANES,
                            .ahead = TILE_TOKENS * head_pad};
    strided_block(&q, n_keys, 1);
}

/* c[i][d] goes on: Σ_j weights[j][i] · rows[j][d] for queries i */
static void mix_of(float *c, const float *weights, const float *rows, size_t n_keys,
                   size_t n_queries, size_t head_pad, enum train_mode mode)
{
    const struct chain q = {.n_k = n_keys,
                            .w = rows,
                            .ldw = head_pad,
                            .x = weights,
                            .ldt = 1,
                            .ldk = TRAIN_QUERY_TILE,
                            .c = c,
                            .ldc = head_pad,
                            .mode = mode,
                            .last_lanes = LANES};
    columns_block(&q, n_queries, head_pad / LANES);
}

/* Writes `value` where a query of the tile may not see a key of [key_begin, key_end). */
LANE_INLINE void mask_hidden(float *scores, const struct train_attention *tile, size_t key_begin,
                             size_t key_end, float value)
{
    const size_t first = tile->first;
    for (size_t j = first + 1 > key_begin ? first + 1 : key_begin; j < key_end; j++) {
        float *row = scores + (j - key_begin) * TRAIN_QUERY_TILE;
        const size_t hidden = j - first < TRAIN_QUERY_TILE ? j - first : TRAIN_QUERY_TILE;
        for (size_t i = 0; i < hidden; i++) {
            row[i] = value;
        }
    }
    /* key j is out of the window of queries from position j + window on */
    for (size_t j = key_begin;
         tile->window > 0 && j < key_end && j + tile->window < first + TRAIN_QUERY_TILE; j++) {
        float *row = scores + (j - key_begin) * TRAIN_QUERY_TILE;
        for (size_t i = j + tile->window > first ? j + tile->window - first : 0;
             i < TRAIN_QUERY_TILE; i++) {
            row[i] = value;
        }
    }
}

/* The first key that any query of the tile sees, down to a multiple of sixteen. */
LANE_INLINE size_t first_key(const struct train_attention *tile)
{
    return tile->window > 0 && tile->first + 1 > tile->window
               ? (tile->first + 1 - tile->window) / LANES * LANES
               : 0;
}

/* Scores of n keys from key_begin on: scaled, capped, hidden ones lowest; the maximum of each query
 * into *top. False when one is not finite. */
static bool settle_scores(float *scores, const struct train_attention *tile, size_t key_begin,
                          size_t n, v16 *top)
{
    const v16 scale = v16_set1(tile->scale), cap = v16_set1(tile->soft_cap);
    const bool capped = tile->soft_cap > 0.0f;
    v16 most = v16_set1(-FLT_MAX), bad = v16_zero();
    mask_hidden(scores, tile, key_begin, key_begin + n, -FLT_MAX);
    for (size_t j = 0; j < n; j++) {
        const v16 raw = v16_load(scores + j * LANES);
        const v16 s = v16_mul(raw, scale);
        bad = v16_fma(s, v16_zero(), bad);
        most = v16_max(most, s);
        v16_store(scores + j * LANES, capped ? v16_soft_cap(s, cap) : s);
    }
    if (capped) {
        most = v16_set1(-FLT_MAX);
        mask_hidden(scores, tile, key_begin, key_begin + n, -FLT_MAX);
        for (size_t j = 0; j < n; j++) {
            most = v16_max(most, v16_load(scores + j * LANES));
        }
    }
    *top = most;
    return v16_sum(bad) == 0.0f;
}

/* The sixteen sums by key position mod 16 to one: the reduction rule, a query in each lane. */
LANE_INLINE v16 tree(v16 *parts)
{
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            parts[i] = v16_add(parts[i], parts[i + half]);
        }
    }
    return parts[0];
}

bool KERNEL(train_attention)(const struct train_attention *tile, float *out, float *max, float *sum)
{
    const size_t begin = first_key(tile), pad = tile->head_pad;
    const size_t end = tile->first + tile->n_queries, n_keys = end - begin;
    float *turned = tile->scratch, *scores = turned + TRAIN_QUERY_TILE * pad;
    turn_queries(turned, tile->q, pad, tile->n_queries, tile->head_dim);
    scores_of(scores, turned, tile->k + begin * pad, n_keys, pad, tile->head_dim);

    v16 top;
    const bool finite = settle_scores(scores, tile, begin, n_keys, &top);
    for (size_t j = 0; j < n_keys; j++) {
        float *row = scores + j * LANES;
        v16_store(row, v16_exp(v16_sub(v16_load(row), top)));
    }
    mask_hidden(scores, tile, begin, end, 0.0f);
    v16 parts[LANES];
    for (int i = 0; i < LANES; i++) {
        parts[i] = v16_zero();
    }
    for (size_t j = 0; j < n_keys; j++) {
        parts[j % LANES] = v16_add(parts[j % LANES], v16_load(scores + j * LANES));
    }
    float sums[LANES];
    v16_store(sums, tree(parts));
    v16_store_n(max, top, tile->n_queries);
    memcpy(sum, sums, tile->n_queries * sizeof *sum);

    mix_of(out, scores, tile->v + begin * pad, n_keys, tile->n_queries, pad, TRAIN_STORE);
    for (size_t i = 0; i < tile->n_queries; i++) {
        const v16 below = v16_set1(sums[i]);
        for (size_t d = 0; d < pad; d += LANES) {
            float *at = out + i * pad + d;
            v16_store(at, v16_div(v16_add(v16_load(at), v16_zero()), below));
        }
    }
    return finite;
}

/* n values, then `fill` for the lanes of queries that do not exist. */
LANE_INLINE v16 load_filled(const float *p, size_t n, float fill)
{
    float t[LANES];
    for (size_t i = 0; i < LANES; i++) {
        t[i] = i < n ? p[i] : fill;
    }
    return v16_load(t);
}

void KERNEL(train_attention_back)(const struct train_attention_back *back)
{
    const struct train_attention *tile = &back->tile;
    const size_t pad = tile->head_pad, n = back->key_end - back->key_begin;
    const float *keys = tile->k + back->key_begin * pad;
    float *turned = tile->scratch, *turned_grad = turned + TRAIN_QUERY_TILE * pad;
    turn_queries(turned, tile->q, pad, tile->n_queries, tile->head_dim);
    turn_queries(turned_grad, back->out_grad, pad, tile->n_queries, tile->head_dim);
    scores_of(back->p, turned, keys, n, pad, tile->head_dim);
    scores_of(back->ds, turned_grad, tile->v + back->key_begin * pad, n, pad, tile->head_dim);

    const v16 scale = v16_set1(tile->scale);
    const v16 top = load_filled(back->max, tile->n_queries, 0.0f);
    const v16 below = load_filled(back->sum, tile->n_queries, 1.0f);
    const v16 dots = load_filled(back->dots, tile->n_queries, 0.0f);
    const v16 one = v16_set1(1.0f), cap = v16_set1(tile->soft_cap);
    for (size_t j = 0; j < n; j++) {
        float *p = back->p + j * LANES, *ds = back->ds + j * LANES;
        v16 s = v16_mul(v16_load(p), scale), slope = scale;
        if (tile->soft_cap > 0.0f) {
            const v16 t = v16_tanh(v16_div(s, cap));
            s = v16_mul(t, cap);
            slope = v16_mul(scale, v16_sub(one, v16_mul(t, t)));
        }
        const v16 e = v16_exp(v16_sub(s, top));
        const v16 share = v16_div(e, below);
        v16_store(p, share);
        v16_store(ds, v16_mul(v16_mul(share, v16_sub(v16_load(ds), dots)), slope));
    }
    mask_hidden(back->p, tile, back->key_begin, back->key_end, 0.0f);
    mask_hidden(back->ds, tile, back->key_begin, back->key_end, 0.0f);
    mix_of(back->q_grad, back->ds, keys, n, tile->n_queries, pad, TRAIN_CARRY);
}

void KERNEL(train_attention_keys)(const struct train_attention_keys *keys)
{
    struct chain q = {.n_k = keys->n_queries,
                      .w = keys->out_grad,
                      .ldw = keys->head_pad,
                      .x = keys->p,
                      .ldt = TRAIN_QUERY_TILE,
                      .ldk = 1,
                      .c = keys->v_grad,
                      .ldc = keys->head_pad,
                      .mode = TRAIN_CARRY,
                      .last_lanes = LANES,
                      .ahead = TILE_TOKENS * TRAIN_QUERY_TILE};
    strided_block(&q, keys->n_keys, keys->head_pad / LANES);
    q.w = keys->q;
    q.x = keys->ds;
    q.c = keys->k_grad;
    strided_block(&q, keys->n_keys, keys->head_pad / LANES);
}
