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

static const float *cosines_at(const struct engine_trainer *tr, size_t token)
{
    return tr->model->rope_cos + tr->batch.position[token] * (tr->dims.head_dim / 2);
}

static const float *sines_at(const struct engine_trainer *tr, size_t token)
{
    return tr->model->rope_sin + tr->batch.position[token] * (tr->dims.head_dim / 2);
}

/* --- forward --- */
static void place_heads(struct engine_trainer *tr, void *ctx, size_t token, struct train_lane *lane)
{
    (void)lane;
    const struct train_dims *dims = &tr->dims;
    const struct train_save *save = ctx;
    const float *cosines = cosines_at(tr, token), *sines = sines_at(tr, token);
    for (size_t h = 0; h < dims->heads; h++) {
        tr->kernels->rope(save->q + head_at(dims, h, token),
                          tr->q_flat + token * dims->ld_q + h * dims->head_dim, cosines, sines,
                          dims->head_dim, 1.0f);
    }
    for (size_t h = 0; h < dims->kv_heads; h++) {
        const size_t from = token * dims->ld_kv + h * dims->head_dim;
        tr->kernels->rope(save->k + head_at(dims, h, token), tr->k_flat + from, cosines, sines,
                          dims->head_dim, 1.0f);
        memcpy(save->v + head_at(dims, h, token), tr->v_flat + from,
               dims->head_dim * sizeof(float));
    }
}

static struct train_attention tile_of(const struct engine_trainer *tr,
                                      const struct train_save *save, const struct train_tile *tile,
                                      size_t head, struct train_lane *lane)
{
    const struct train_dims *dims = &tr->dims;
    const size_t keys = head_at(dims, head / dims->group, tile->start);
    return (struct train_attention){
        .head_dim = dims->head_dim,
        .head_pad = dims->head_pad,
        .first = tile->first,
        .n_queries = tile->n,
        .scale = tr->model->attention_scale,
        .q = save->q + head_at(dims, head, tile->start + tile->first),
        .k = save->k + keys,
        .v = save->v + keys,
        .scratch = lane->attention,
    };
}

static void attend(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    const struct train_dims *dims = &tr->dims;
    const struct train_save *save = ctx;
    const struct train_tile *tile = &tr->batch.tiles[unit % tr->batch.n_tiles];
    const size_t head = unit / tr->batch.n_tiles;
    const size_t token = tile->start + tile->first;
    const struct train_attention job = tile_of(tr, save, tile, head, lane);
    const size_t stats = head * dims->tokens + token;
    if (!tr->kernels->attention(&job, lane->tile, save->max + stats, save->sum + stats)) {
        atomic_store(&tr->bad, true);
    }
    for (size_t i = 0; i < tile->n; i++) {
        memcpy(save->attn + (token + i) * dims->ld_q + head * dims->head_dim,
               lane->tile + i * dims->head_pad, dims->head_dim * sizeof(float));
    }
}

void train_attention_forward(struct engine_trainer *tr, struct train_save *save)
{
    train_each(tr, tr->batch.n_tokens, place_heads, save);
    train_each(tr, tr->dims.heads * tr->batch.n_tiles, attend, save);
}

/* --- backward --- */
struct back {
    const struct train_save *save;
    size_t first_kv, n_kv; /* key-value heads in work */
    size_t key;            /* first key of the block in work */
};

/* Output gradients by head, D = Σ out_grad·out, and zeros where chains start. */
static void start_token(struct engine_trainer *tr, void *ctx, size_t token, struct train_lane *lane)
{
    const struct train_dims *dims = &tr->dims;
    const struct back *back = ctx;
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

/* Keys of the block that a query tile sees. */
static size_t keys_seen(const struct train_tile *tile, size_t key)
{
    const size_t seen = (size_t)tile->first + tile->n;
    if (seen <= key) {
        return 0;
    }
    return seen - key < TRAIN_KEY_BLOCK ? seen - key : TRAIN_KEY_BLOCK;
}

static void back_queries(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    const struct train_dims *dims = &tr->dims;
    const struct back *back = ctx;
    const struct train_tile *tile = &tr->batch.tiles[unit % tr->batch.n_tiles];
    const size_t slot = unit / tr->batch.n_tiles;
    const size_t head = back->first_kv * dims->group + slot;
    const size_t n_keys = keys_seen(tile, back->key);
    if (n_keys == 0) {
        return;
    }
    const size_t token = tile->start + tile->first;
    const size_t stats = head * dims->tokens + token;
    const struct train_attention_back job = {
        .tile = tile_of(tr, back->save, tile, head, lane),
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
    const struct back *back = ctx;
    const struct train_tile *keys = &batch->key_tiles[unit % batch->n_key_tiles];
    if (keys->first < back->key || keys->first >= back->key + TRAIN_KEY_BLOCK) {
        return;
    }
    const size_t kv_slot = unit / batch->n_key_tiles, kv = back->first_kv + kv_slot;
    const size_t kv_at = head_at(dims, kv, (size_t)keys->start + keys->first);
    const size_t begin = first_tile_of(batch, keys->start) + (size_t)keys->first / TRAIN_QUERY_TILE;
    for (size_t g = 0; g < dims->group; g++) {
        const size_t slot = kv_slot * dims->group + g, head = kv * dims->group + g;
        for (size_t i = begin; i < batch->n_tiles && batch->tiles[i].start == keys->start; i++) {
            const struct train_tile *tile = &batch->tiles[i];
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
static void place_probs(struct engine_trainer *tr, size_t key)
{
    size_t at = 0;
    for (size_t i = 0; i < tr->batch.n_tiles; i++) {
        tr->batch.tiles[i].probs = at;
        at += keys_seen(&tr->batch.tiles[i], key) * TRAIN_QUERY_TILE;
    }
    assert(at <= tr->dims.probs);
}

static void finish_token(struct engine_trainer *tr, size_t token)
{
    const struct train_dims *dims = &tr->dims;
    const float *cosines = cosines_at(tr, token), *sines = sines_at(tr, token);
    for (size_t h = 0; h < dims->heads; h++) {
        float *flat = tr->q_flat + token * dims->ld_q + h * dims->head_dim;
        tr->kernels->settle(flat, tr->q_grad + head_at(dims, h, token), dims->head_dim);
        tr->kernels->rope(flat, flat, cosines, sines, dims->head_dim, -1.0f);
    }
    for (size_t h = 0; h < dims->kv_heads; h++) {
        const size_t flat = token * dims->ld_kv + h * dims->head_dim, at = head_at(dims, h, token);
        tr->kernels->settle(tr->k_flat + flat, tr->k_grad + at, dims->head_dim);
        tr->kernels->rope(tr->k_flat + flat, tr->k_flat + flat, cosines, sines, dims->head_dim,
                          -1.0f);
        tr->kernels->settle(tr->v_flat + flat, tr->v_grad + at, dims->head_dim);
    }
}

static void finish_tile(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct train_dims *dims = &tr->dims;
    float *const *packed = ctx;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin);
    for (size_t t = begin; t < begin + n; t++) {
        finish_token(tr, t);
    }
    tr->kernels->pack(packed[0] + begin * dims->q, tr->q_flat + begin * dims->ld_q, dims->ld_q, n,
                      dims->q);
    tr->kernels->pack(packed[1] + begin * dims->kv, tr->k_flat + begin * dims->ld_kv, dims->ld_kv,
                      n, dims->kv);
    tr->kernels->pack(packed[2] + begin * dims->kv, tr->v_flat + begin * dims->ld_kv, dims->ld_kv,
                      n, dims->kv);
}

void train_attention_backward(struct engine_trainer *tr, const struct train_save *save,
                              float *const packed[3])
{
    const struct train_dims *dims = &tr->dims;
    struct back back = {.save = save};
    train_each(tr, tr->batch.n_tokens, start_token, &back);
    for (; back.first_kv < dims->kv_heads; back.first_kv += dims->kv_block) {
        const size_t left = dims->kv_heads - back.first_kv;
        back.n_kv = left < dims->kv_block ? left : dims->kv_block;
        for (back.key = 0; back.key < tr->batch.longest; back.key += TRAIN_KEY_BLOCK) {
            place_probs(tr, back.key);
            train_each(tr, back.n_kv * dims->group * tr->batch.n_tiles, back_queries, &back);
            train_each(tr, back.n_kv * tr->batch.n_key_tiles, back_keys, &back);
        }
    }
    float *results[3] = {packed[0], packed[1], packed[2]};
    train_each(tr, train_tiles(tr), finish_tile, results);
}
