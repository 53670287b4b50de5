/* How large everything is, and where it lies. train_layout walks the buffers once, counting when
 * there is no block yet and placing when there is, so the estimate cannot differ from the truth. */
#include <math.h>
#include <string.h>

#include "engine/native/train_int.h"

enum { PLACE_ALIGN = 64 };

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Σ of min(keys seen, TRAIN_KEY_BLOCK) over the query tiles of one row of all tokens: no split into
 * shorter rows needs more. */
static size_t probs_of(size_t tokens)
{
    size_t keys = 0;
    for (size_t first = 0; first < tokens; first += TRAIN_QUERY_TILE) {
        const size_t seen = first + TRAIN_QUERY_TILE < tokens ? first + TRAIN_QUERY_TILE : tokens;
        keys += seen < TRAIN_KEY_BLOCK ? seen : TRAIN_KEY_BLOCK;
    }
    return keys * TRAIN_QUERY_TILE;
}

/* Packed and masked inputs of the hungriest stage. */
static void stage_sizes(struct train_dims *dims)
{
    const size_t drop = dims->dropout ? 1 : 0;
    size_t widest = dims->d + 3 * drop * dims->d;
    widest = larger(widest, dims->q + drop * dims->q);
    widest = larger(widest, dims->q + 2 * dims->kv);
    widest = larger(widest, 2 * dims->ffn);
    dims->packed = (dims->tokens + TRAIN_TILE_MAX) * widest;
    dims->masked = drop * dims->tokens * larger(3 * dims->ld_d, larger(dims->ld_q, dims->ld_f));
}

static int check_plan(const struct engine_model *model, const struct engine_train_plan *plan,
                      struct err *err)
{
    if (plan->tokens_max < 1 || plan->tokens_max > TRAIN_TOKENS_MAX) {
        return err_set(err, ERR_INVALID, "a micro-step holds 1 to %d tokens, not %d",
                       TRAIN_TOKENS_MAX, plan->tokens_max);
    }
    if (!(plan->dropout >= 0.0f && plan->dropout < 1.0f)) {
        return err_set(err, ERR_INVALID, "dropout must be at least 0 and below 1");
    }
    (void)model;
    return 0;
}

int train_dims_init(struct train_dims *dims, const struct engine_model *model,
                    const struct engine_lora *lora, const struct engine_train_plan *plan,
                    struct err *err)
{
    int rc = adapter_check(model, lora, err);
    if (rc == 0) {
        rc = check_plan(model, plan, err);
    }
    if (rc != 0) {
        return rc;
    }
    const struct engine_info *info = &model->info;
    *dims = (struct train_dims){
        .tokens = (size_t)plan->tokens_max,
        .d = (size_t)info->d_model,
        .q = model_q_dim(model),
        .kv = model_kv_dim(model),
        .ffn = (size_t)info->d_ffn,
        .vocab = (size_t)info->vocab_size,
        .heads = (size_t)info->n_heads,
        .kv_heads = (size_t)info->n_kv_heads,
        .group = (size_t)(info->n_heads / info->n_kv_heads),
        .head_dim = (size_t)info->head_dim,
        .rank = (size_t)lora->rank,
        .first = (size_t)lora->first_layer,
        .layers = (size_t)info->n_layers,
        .targets = lora->targets,
        .dropout = plan->dropout > 0.0f,
        .qk_norm = info->qk_norm,
        .post_norm = info->post_norm,
    };
    dims->ld_d = round_up(dims->d, TRAIN_LANES);
    dims->ld_q = round_up(dims->q, TRAIN_LANES);
    dims->ld_kv = round_up(dims->kv, TRAIN_LANES);
    dims->ld_f = round_up(dims->ffn, TRAIN_LANES);
    dims->ld_vocab = round_up(dims->vocab, TRAIN_LANES);
    dims->ld_rank = round_up(dims->rank, TRAIN_LANES);
    dims->head_pad = round_up(dims->head_dim, TRAIN_LANES);
    const size_t fit = TRAIN_LOGITS_BYTES / sizeof(float) / dims->ld_vocab;
    dims->slice = larger(fit / TRAIN_TILE_MAX * TRAIN_TILE_MAX, TRAIN_TILE_MAX);
    if (dims->slice > dims->tokens) {
        dims->slice = dims->tokens;
    }
    dims->probs = probs_of(dims->tokens);
    const size_t per_kv = 2 * sizeof(float) * dims->probs * dims->group;
    dims->kv_block = larger(1, TRAIN_PROBS_BYTES / per_kv);
    if (dims->kv_block > dims->kv_heads) {
        dims->kv_block = dims->kv_heads;
    }
    stage_sizes(dims);
    return 0;
}

/* --- placing ---------------------------------------------------------------------------------- */

struct place {
    uint8_t *base; /* NULL: only count */
    size_t at;
};

static void *take(struct place *place, size_t n, size_t size)
{
    void *p = place->base ? place->base + place->at : NULL;
    place->at += round_up(n * size, PLACE_ALIGN);
    return p;
}

static float *take_floats(struct place *place, size_t n)
{
    return take(place, n, sizeof(float));
}

/* Columns that a projection reads, padded. */
static size_t input_ld(const struct train_dims *dims, int target)
{
    return target == ENGINE_O_PROJ      ? dims->ld_q
           : target == ENGINE_DOWN_PROJ ? dims->ld_f
                                        : dims->ld_d;
}

static void place_save(struct place *place, const struct train_dims *dims, struct train_save *save)
{
    const size_t n = dims->tokens;
    save->x = take_floats(place, n * dims->ld_d);
    save->q_raw = dims->qk_norm ? take_floats(place, n * dims->ld_q) : NULL;
    save->k_raw = dims->qk_norm ? take_floats(place, n * dims->ld_kv) : NULL;
    save->q = take_floats(place, dims->heads * n * dims->head_pad);
    save->k = take_floats(place, dims->kv_heads * n * dims->head_pad);
    save->v = take_floats(place, dims->kv_heads * n * dims->head_pad);
    save->attn = take_floats(place, n * dims->ld_q);
    save->max = take_floats(place, dims->heads * n);
    save->sum = take_floats(place, dims->heads * n);
    save->attn_out = dims->post_norm ? take_floats(place, n * dims->ld_d) : NULL;
    save->ffn_out = dims->post_norm ? take_floats(place, n * dims->ld_d) : NULL;
    save->mid = take_floats(place, n * dims->ld_d);
    save->gate = take_floats(place, n * dims->ld_f);
    save->up = take_floats(place, n * dims->ld_f);
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        save->h[t] = NULL;
        save->kept[t] = NULL;
        if ((dims->targets >> t) & 1) {
            save->h[t] = take_floats(place, n * dims->ld_rank);
            if (dims->dropout) {
                save->kept[t] = take(place, n * input_ld(dims, t) / 16, sizeof(uint16_t));
            }
        }
    }
}

static void place_lane(struct place *place, const struct train_dims *dims, struct train_lane *lane)
{
    lane->rows = take_floats(place, (size_t)TRAIN_PANEL * TRAIN_STRIP);
    lane->panel = take_floats(place, (size_t)TRAIN_PANEL * TRAIN_CHUNK);
    lane->part = take_floats(place, dims->tokens * TRAIN_PANEL);
    lane->attention = take_floats(place, TRAIN_ATTENTION_SCRATCH(dims->tokens, dims->head_pad));
    lane->tile = take_floats(place, TRAIN_QUERY_TILE * dims->head_pad);
}

static void place_batch(struct place *place, const struct train_dims *dims,
                        struct train_batch *batch)
{
    const size_t n = dims->tokens;
    batch->token = take(place, n, sizeof *batch->token);
    batch->position = take(place, n, sizeof *batch->position);
    batch->row = take(place, n, sizeof *batch->row);
    batch->row_start = take(place, n, sizeof *batch->row_start);
    batch->slot = take(place, n, sizeof *batch->slot);
    batch->slot_token = take(place, n, sizeof *batch->slot_token);
    batch->tiles = take(place, n, sizeof *batch->tiles);
    batch->key_tiles = take(place, n, sizeof *batch->key_tiles);
    batch->target_at = take(place, n, sizeof *batch->target_at);
    batch->target = take(place, n, sizeof *batch->target);
    batch->losses = take_floats(place, n);
}

/* Logits are done with before the backward of attention begins: both have the same room. */
static void place_largest(struct place *place, struct engine_trainer *tr)
{
    const struct train_dims *dims = &tr->dims;
    struct place loss = *place, attention = *place;
    tr->logits = take_floats(&loss, dims->slice * dims->ld_vocab);
    tr->logits_packed = take_floats(&loss, (dims->slice + TRAIN_TILE_MAX) * dims->ld_vocab);
    tr->probs = take_floats(&attention, dims->kv_block * dims->group * dims->probs);
    tr->probs_grad = take_floats(&attention, dims->kv_block * dims->group * dims->probs);
    place->at = larger(loss.at, attention.at);
}

static void place_shared(struct place *place, struct engine_trainer *tr)
{
    const struct train_dims *dims = &tr->dims;
    const size_t n = dims->tokens;
    tr->x_last = take_floats(place, n * dims->ld_d);
    tr->normed = take_floats(place, n * dims->ld_d);
    tr->y = take_floats(place, n * dims->ld_d);
    tr->q_flat = take_floats(place, n * dims->ld_q);
    tr->k_flat = take_floats(place, n * dims->ld_kv);
    tr->v_flat = take_floats(place, n * dims->ld_kv);
    tr->act = take_floats(place, n * dims->ld_f);
    tr->act_grad = take_floats(place, n * dims->ld_f);
    tr->dx = take_floats(place, n * dims->ld_d);
    tr->attn_grad = take_floats(place, n * dims->ld_q);
    tr->out_grad = take_floats(place, dims->heads * n * dims->head_pad);
    tr->q_grad = take_floats(place, dims->heads * n * dims->head_pad);
    tr->k_grad = take_floats(place, dims->kv_heads * n * dims->head_pad);
    tr->v_grad = take_floats(place, dims->kv_heads * n * dims->head_pad);
    tr->dots = take_floats(place, dims->heads * n);
    tr->masked = take_floats(place, dims->masked);
    tr->packed = take_floats(place, dims->packed);
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        tr->h_grad[t] = (dims->targets >> t) & 1 ? take_floats(place, n * dims->ld_rank) : NULL;
    }
    place_largest(place, tr);
    tr->slice_x = take_floats(place, dims->slice * dims->ld_d);
    tr->slice_normed = take_floats(place, dims->slice * dims->ld_d);
    tr->slice_grad = take_floats(place, dims->slice * dims->ld_d);
}

static size_t gradient_values(const struct train_dims *dims)
{
    const size_t in[ENGINE_TARGET_COUNT] = {dims->d, dims->d, dims->d,  dims->q,
                                            dims->d, dims->d, dims->ffn};
    const size_t out[ENGINE_TARGET_COUNT] = {dims->q,   dims->kv,  dims->kv, dims->d,
                                             dims->ffn, dims->ffn, dims->d};
    size_t values = 0;
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        if ((dims->targets >> t) & 1) {
            values += dims->rank * (in[t] + out[t]);
        }
    }
    return values * (dims->layers - dims->first);
}

size_t train_layout(struct engine_trainer *tr, int lanes, int n_tensors, uint8_t *base)
{
    const struct train_dims *dims = &tr->dims;
    struct place place = {.base = base};
    const size_t n_saves = dims->layers - dims->first;
    tr->factors = take(&place, dims->layers * ENGINE_TARGET_COUNT, sizeof *tr->factors);
    tr->gradients = take(&place, (size_t)n_tensors, sizeof *tr->gradients);
    tr->n_gradient = gradient_values(dims);
    tr->gradient_data = take_floats(&place, tr->n_gradient);
    tr->norms = take_floats(&place, (TRAIN_NORMS * dims->layers + 1) * dims->ld_d);
    tr->ones = take_floats(&place, dims->tokens);
    tr->saves = take(&place, n_saves, sizeof *tr->saves);
    tr->lanes = take(&place, (size_t)lanes, sizeof *tr->lanes);
    place_batch(&place, dims, &tr->batch);
    for (size_t i = 0; i < n_saves; i++) {
        struct train_save counted;
        place_save(&place, dims, base ? &tr->saves[i] : &counted);
    }
    for (int i = 0; i < lanes; i++) {
        struct train_lane counted;
        place_lane(&place, dims, base ? &tr->lanes[i] : &counted);
    }
    place_shared(&place, tr);
    return place.at;
}
