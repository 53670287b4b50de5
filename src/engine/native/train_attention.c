/* Attention over the rows of a micro-step: which tiles there are, and which lane takes them.
 *
 * Forward: a unit is one tile of sixteen queries of one head.
 * Backward, for as many key-value heads at once as their probabilities fit, and 528 keys at a time:
 *   a unit is one query tile of one head: p and dS of its keys are kept, dQ goes on;
 *   then a unit is one tile of 48 keys of one key-value head: dK and dV go on over (query head,
 *   position), from the kept p and dS.
 * Every finished chain gets + 0 (see kernels/isa/train_attention.c), here for dQ, dK, dV.
 */
#include <assert.h>
#include <string.h>

#include "engine/native/train_int.h"

/* Where token `token` of head `head` starts. */
static size_t head_at(const struct train_dims *dims, size_t head, size_t token)
{
    return (head * dims->tokens + token) * dims->head_pad;
}

/* The layer in work, and for the backward which part of it. */
struct attend {
    const struct layer *layer;
    const struct train_save *save;
    size_t first_kv, n_kv; /* key-value heads in work */
    size_t key;            /* first key of the block in work */
};

/* y = rope of x, turned back with sign −1; without a rope y = x. y may be x. */
static void turn(const struct engine_trainer *tr, const struct layer *layer, size_t token, float *y,
                 const float *x, float sign)
{
    const struct rope *rope = layer->rope;
    const size_t turned = rope != NULL ? rope->dims : 0;
    if (rope != NULL) {
        const size_t at = tr->batch.position[token] * (turned / 2);
        tr->kernels->rope(y, x, rope->cosines + at, rope->sines + at, turned, sign);
    }
    if (y != x) {
        memcpy(y + turned, x + turned, (tr->dims.head_dim - turned) * sizeof(float));
    }
}

/* --- norms of q and k --- */

/* One token's row normed, by head or as a whole: n values; y is not x. */
static void norm_row(const struct engine_trainer *tr, float *y, const float *x, const float *weight,
                     size_t n)
{
    const bool whole = tr->model->qk_norm == QK_NORM_WHOLE;
    const size_t step = whole ? n : tr->dims.head_dim;
    for (size_t at = 0; at < n; at += step) {
        tr->kernels->norm(y + at, x + at, weight, step, step, tr->model->rms_eps);
    }
}

/* dx = gradient through that norm of x, dy that of its result; dx is neither. */
static void norm_row_back(const struct engine_trainer *tr, float *dx, const float *dy,
                          const float *x, const float *weight, size_t n)
{
    const bool whole = tr->model->qk_norm == QK_NORM_WHOLE;
    const size_t step = whole ? n : tr->dims.head_dim;
    memset(dx, 0, n * sizeof(float));
    for (size_t at = 0; at < n; at += step) {
        tr->kernels->norm_back(dx + at, dy + at, x + at, weight, step, step, tr->model->rms_eps);
    }
}

/* --- forward --- */
static void place_heads(struct engine_trainer *tr, void *ctx, size_t token, struct train_lane *lane)
{
    (void)lane;
    const struct train_dims *dims = &tr->dims;
    const struct attend *attend = ctx;
    const struct train_save *save = attend->save;
    const size_t slot = tr->batch.slot[token], row = dims->qk_norm ? token : slot;
    float *q = tr->q_flat + row * dims->ld_q, *k = tr->k_flat + row * dims->ld_kv;
    if (dims->qk_norm) {
        norm_row(tr, q, save->q_raw + slot * dims->ld_q, attend->layer->q_norm, dims->q);
        norm_row(tr, k, save->k_raw + slot * dims->ld_kv, attend->layer->k_norm, dims->kv);
    }
    for (size_t h = 0; h < dims->heads; h++) {
        turn(tr, attend->layer, token, save->q + head_at(dims, h, token), q + h * dims->head_dim,
             1.0f);
    }
    for (size_t h = 0; h < dims->kv_heads; h++) {
        turn(tr, attend->layer, token, save->k + head_at(dims, h, token), k + h * dims->head_dim,
             1.0f);
        memcpy(save->v + head_at(dims, h, token),
               tr->v_flat + slot * dims->ld_kv + h * dims->head_dim,
               dims->head_dim * sizeof(float));
    }
}

static struct train_attention tile_of(const struct engine_trainer *tr, const struct attend *attend,
                                      const struct train_tile *tile, size_t head,
                                      struct train_lane *lane)
{
    const struct train_save *save = attend->save;
    const struct train_dims *dims = &tr->dims;
    const size_t keys = head_at(dims, head / dims->group, tile->start);
    return (struct train_attention){
        .head_dim = dims->head_dim,
        .head_pad = dims->head_pad,
        .first = tile->first,
        .n_queries = tile->n,
        .window = attend->layer->attention.window,
        .scale = attend->layer->attention.scale,
        .soft_cap = attend->layer->attention.soft_cap,
        .q = save->q + head_at(dims, head, tile->start + tile->first),
        .k = save->k + keys,
        .v = save->v + keys,
        .scratch = lane->attention,
    };
}

/* The token that an earlier row has, too, and whose results are this one's; else the token. */
static size_t twin_of(const struct engine_trainer *tr, size_t token)
{
    return tr->batch.slot_token[tr->batch.slot[token]];
}

/* Whether all queries of the tile have twins: what is shared is the beginning of a row. */
static bool all_twins(const struct engine_trainer *tr, const struct train_tile *tile)
{
    const size_t last = (size_t)tile->start + tile->first + tile->n - 1;
    return twin_of(tr, last) != last;
}

static void attend_tile(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    const struct train_dims *dims = &tr->dims;
    const struct attend *attend = ctx;
    const struct train_save *save = attend->save;
    const struct train_tile *tile = &tr->batch.tiles[unit % tr->batch.n_tiles];
    const size_t head = unit / tr->batch.n_tiles;
    const size_t token = tile->start + tile->first;
    const struct train_attention job = tile_of(tr, attend, tile, head, lane);
    const size_t stats = head * dims->tokens + token;
    if (all_twins(tr, tile)) {
        return;
    }
    if (!tr->kernels->attention(&job, lane->tile, save->max + stats, save->sum + stats)) {
        atomic_store(&tr->bad, true);
    }
    for (size_t i = 0; i < tile->n; i++) {
        memcpy(save->attn + (token + i) * dims->ld_q + head * dims->head_dim,
               lane->tile + i * dims->head_pad, dims->head_dim * sizeof(float));
    }
}

/* What attend_tile left out. */
static void copy_twins(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct train_dims *dims = &tr->dims;
    const struct attend *attend = ctx;
    const struct train_save *save = attend->save;
    const struct train_tile *tile = &tr->batch.tiles[unit];
    if (!all_twins(tr, tile)) {
        return;
    }
    for (size_t i = 0; i < tile->n; i++) {
        const size_t token = tile->start + tile->first + i, twin = twin_of(tr, token);
        memcpy(save->attn + token * dims->ld_q, save->attn + twin * dims->ld_q,
               dims->ld_q * sizeof(float));
        for (size_t h = 0; h < dims->heads; h++) {
            save->max[h * dims->tokens + token] = save->max[h * dims->tokens + twin];
            save->sum[h * dims->tokens + token] = save->sum[h * dims->tokens + twin];
        }
    }
}

void train_attention_forward(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    struct attend attend = {.layer = &tr->model->layers[layer], .save = save};
    train_each(tr, tr->batch.n_tokens, place_heads, &attend);
    train_each(tr, tr->dims.heads * tr->batch.n_tiles, attend_tile, &attend);
    if (tr->batch.n_slots < tr->batch.n_tokens) {
        train_each(tr, tr->batch.n_tiles, copy_twins, &attend);
    }
}

/* --- backward --- */
/* Output gradients by head, D = Σ out_grad·out, and zeros where chains start. */
static void start_token(struct engine_trainer *tr, void *ctx, size_t token, struct train_lane *lane)
{
    const struct train_dims *dims = &tr->dims;
    const struct attend *back = ctx;
    const size_t bytes = dims->head_pad * sizeof(float);
    for (size_t h = 0; h < dims->heads; h++) {
        const size_t flat = token * dims->ld_q + h * dims->head_dim, at = head_at(dims, h, token);
        memcpy(tr->out_grad + at, tr->attn_grad + flat, dims->head_dim * sizeof(float));
        memset(lane->tile, 0, bytes);
        memcpy(lane->tile, back->save->attn + flat, dims->head_dim * sizeof(float));
        tr->dots[h * dims->tokens + token] =
            tr->kernels->dot(tr->out_grad + at, lane->tile, dims->head_pad);
        memset(tr->q_grad + at, 0, bytes);
    }
    for (size_t h = 0; h < dims->kv_heads; h++) {
        memset(tr->k_grad + head_at(dims, h, token), 0, bytes);
        memset(tr->v_grad + head_at(dims, h, token), 0, bytes);
    }
}

/* Keys of the block that a query tile sees, from the block's first on; 0 when the tile's window
 * begins behind the block. */
static size_t keys_seen(const struct train_tile *tile, size_t window, size_t key)
{
    const size_t seen = (size_t)tile->first + tile->n;
    if (seen <= key || (window > 0 && tile->first + 1 >= window + key + TRAIN_KEY_BLOCK)) {
        return 0;
    }
    return seen - key < TRAIN_KEY_BLOCK ? seen - key : TRAIN_KEY_BLOCK;
}

static void back_queries(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    const struct train_dims *dims = &tr->dims;
    const struct attend *back = ctx;
    const struct train_tile *tile = &tr->batch.tiles[unit % tr->batch.n_tiles];
    const size_t slot = unit / tr->batch.n_tiles;
    const size_t head = back->first_kv * dims->group + slot;
    const size_t n_keys = keys_seen(tile, back->layer->attention.window, back->key);
    if (n_keys == 0) {
        return;
    }
    const size_t token = tile->start + tile->first;
    const size_t stats = head * dims->tokens + token;
    const struct train_attention_back job = {
        .tile = tile_of(tr, back, tile, head, lane),
        .out_grad = tr->out_grad + head_at(dims, head, token),
        .max = back->save->max + stats,
        .sum = back->save->sum + stats,
        .dots = tr->dots + stats,
        .key_begin = back->key,
        .key_end = back->key + n_keys,
        .p = tr->probs + slot * dims->probs + tile->probs,
        .ds = tr->probs_grad + slot * dims->probs + tile->probs,
        .q_grad = tr->q_grad + head_at(dims, head, token),
    };
    tr->kernels->attention_back(&job);
}

/* Query tile `tile` of the row that starts at token `start`, wherever the row's tiles begin. */
static size_t first_tile_of(const struct train_batch *batch, size_t start)
{
    size_t low = 0, high = batch->n_tiles;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (batch->tiles[middle].start < start) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void back_keys(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct train_dims *dims = &tr->dims;
    const struct train_batch *batch = &tr->batch;
    const struct attend *back = ctx;
    const struct train_tile *keys = &batch->key_tiles[unit % batch->n_key_tiles];
    if (keys->first < back->key || keys->first >= back->key + TRAIN_KEY_BLOCK) {
        return;
    }
    const size_t window = back->layer->attention.window;
    const size_t kv_slot = unit / batch->n_key_tiles, kv = back->first_kv + kv_slot;
    const size_t kv_at = head_at(dims, kv, (size_t)keys->start + keys->first);
    const size_t begin = first_tile_of(batch, keys->start) + (size_t)keys->first / TRAIN_QUERY_TILE;
    for (size_t g = 0; g < dims->group; g++) {
        const size_t slot = kv_slot * dims->group + g, head = kv * dims->group + g;
        for (size_t i = begin; i < batch->n_tiles && batch->tiles[i].start == keys->start; i++) {
            const struct train_tile *tile = &batch->tiles[i];
            if (window > 0 && tile->first + 1 >= window + keys->first + keys->n) {
                break; /* its window, and all later ones, begin behind these keys */
            }
            const size_t seen = (size_t)tile->first + tile->n - keys->first;
            const size_t row =
                slot * dims->probs + tile->probs + (keys->first - back->key) * TRAIN_QUERY_TILE;
            const size_t query = head_at(dims, head, (size_t)tile->start + tile->first);
            const struct train_attention_keys job = {
                .head_dim = dims->head_dim,
                .head_pad = dims->head_pad,
                .n_keys = seen < keys->n ? seen : keys->n,
                .n_queries = tile->n,
                .p = tr->probs + row,
                .ds = tr->probs_grad + row,
                .q = back->save->q + query,
                .out_grad = tr->out_grad + query,
                .k_grad = tr->k_grad + kv_at,
                .v_grad = tr->v_grad + kv_at,
            };
            tr->kernels->attention_keys(&job);
        }
    }
}

/* Where each tile's p starts while the block at `key` is in work. */
static void place_probs(struct engine_trainer *tr, size_t window, size_t key)
{
    size_t at = 0;
    for (size_t i = 0; i < tr->batch.n_tiles; i++) {
        tr->batch.tiles[i].probs = at;
        at += keys_seen(&tr->batch.tiles[i], window, key) * TRAIN_QUERY_TILE;
    }
    assert(at <= tr->dims.probs);
}

struct finish {
    const struct attend *back;
    float *const *packed;
};

/* One token's gradients of q or k from heads to a row, turned back and through the norm: flat is
 * the result, n values of n_heads heads, raw what was normed. The row of attn_grad, done with,
 * holds the gradient of the norm's result. */
static void finish_row(struct engine_trainer *tr, const struct layer *layer, size_t token,
                       const float *grads, size_t n_heads, const float *norm, const float *raw,
                       float *flat)
{
    const struct train_dims *dims = &tr->dims;
    const size_t n = n_heads * dims->head_dim;
    float *row = norm != NULL ? tr->attn_grad + token * dims->ld_q : flat;
    for (size_t h = 0; h < n_heads; h++) {
        float *head = row + h * dims->head_dim;
        tr->kernels->settle(head, grads + head_at(dims, h, token), dims->head_dim);
        turn(tr, layer, token, head, head, -1.0f);
    }
    if (norm != NULL) {
        norm_row_back(tr, flat, row, raw, norm, n);
    }
}

static void finish_token(struct engine_trainer *tr, const struct attend *back, size_t token)
{
    const struct train_dims *dims = &tr->dims;
    const struct layer *layer = back->layer;
    const size_t q_at = token * dims->ld_q, k_at = token * dims->ld_kv;
    const size_t slot = tr->batch.slot[token];
    const bool normed = dims->qk_norm;
    finish_row(tr, layer, token, tr->q_grad, dims->heads, layer->q_norm,
               normed ? back->save->q_raw + slot * dims->ld_q : NULL, tr->q_flat + q_at);
    finish_row(tr, layer, token, tr->k_grad, dims->kv_heads, layer->k_norm,
               normed ? back->save->k_raw + slot * dims->ld_kv : NULL, tr->k_flat + k_at);
    for (size_t h = 0; h < dims->kv_heads; h++) {
        tr->kernels->settle(tr->v_flat + k_at + h * dims->head_dim,
                            tr->v_grad + head_at(dims, h, token), dims->head_dim);
    }
}

static void finish_tile(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct train_dims *dims = &tr->dims;
    const struct finish *finish = ctx;
    float *const *packed = finish->packed;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin);
    for (size_t t = begin; t < begin + n; t++) {
        finish_token(tr, finish->back, t);
    }
    tr->kernels->pack(packed[0] + begin * dims->q, tr->q_flat + begin * dims->ld_q, dims->ld_q, n,
                      dims->q);
    tr->kernels->pack(packed[1] + begin * dims->kv, tr->k_flat + begin * dims->ld_kv, dims->ld_kv,
                      n, dims->kv);
    tr->kernels->pack(packed[2] + begin * dims->kv, tr->v_flat + begin * dims->ld_kv, dims->ld_kv,
                      n, dims->kv);
}

void train_attention_backward(struct engine_trainer *tr, size_t layer,
                              const struct train_save *save, float *const packed[3])
{
    const struct train_dims *dims = &tr->dims;
    struct attend back = {.layer = &tr->model->layers[layer], .save = save};
    train_each(tr, tr->batch.n_tokens, start_token, &back);
    for (; back.first_kv < dims->kv_heads; back.first_kv += dims->kv_block) {
        const size_t left = dims->kv_heads - back.first_kv;
        back.n_kv = left < dims->kv_block ? left : dims->kv_block;
        for (back.key = 0; back.key < tr->batch.longest; back.key += TRAIN_KEY_BLOCK) {
            place_probs(tr, back.layer->attention.window, back.key);
            train_each(tr, back.n_kv * dims->group * tr->batch.n_tiles, back_queries, &back);
            train_each(tr, back.n_kv * tr->batch.n_key_tiles, back_keys, &back);
        }
    }
    struct finish finish = {.back = &back, .packed = packed};
    train_each(tr, train_tiles(tr), finish_tile, &finish);
}
