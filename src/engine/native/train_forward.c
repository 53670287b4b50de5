/* The forward pass: one block, residual by residual; norms stand on the way in, out or both.
 *
 *   x ─ norm ─ q,k,v ─ norms of q,k ─ rope ─ attention ─ o ─ norm ─ + x ─▶ mid
 *   mid ─ norm ─ gate,up ─ act·up ─ down ─ norm ─ + mid ─▶
 *
 * The last layer goes on behind attention with the positions alone that predict a target.
 * A layer reads save->x and writes the next layer's. Layers below the lowest adapter, and all of
 * them in an evaluation, share the first save: nothing of them is needed again.
 */
#include <string.h>

#include "engine/native/train_int.h"
#include "formats/tensor_type.h"

/* --- parts that pack while they are at it --- */

/* x = base + scale · add, add normed first where the family does that; then normed = norm of x. */
struct join_job {
    float *x;
    const float *base, *add, *post; /* add NULL: x stays */
    bool by_slot;                   /* base has rows of all slots, whatever is in work */
    bool norm;                      /* whether normed is wanted */
    const float *weight;            /* NULL: normed is x */
    float *packed;
};

static void join_unit(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct join_job *job = ctx;
    const struct train_dims *dims = &tr->dims;
    const size_t ld = dims->ld_d;
    const float eps = tr->model->rms_eps;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin);
    for (size_t t = begin; t < begin + n; t++) {
        float *x = job->x + (job->add == NULL ? train_saved(tr, t) : t) * ld;
        float *normed = tr->normed + t * ld;
        if (job->add != NULL) {
            const float *add = job->add + t * ld;
            if (job->post != NULL) {
                tr->kernels->norm(normed, add, job->post, ld, dims->d, eps);
                add = normed;
            }
            const size_t row = job->by_slot ? tr->batch.slot[train_token(tr, t)] : t;
            memcpy(x, job->base + row * ld, ld * sizeof(float));
            tr->kernels->join(x, tr->model->residual_scale, add, ld);
        }
        if (job->norm && job->weight != NULL) {
            tr->kernels->norm(normed, x, job->weight, ld, dims->d, eps);
        } else if (job->norm) {
            memcpy(normed, x, ld * sizeof(float));
        }
    }
    if (job->packed != NULL) {
        tr->kernels->pack(job->packed + begin * dims->d, tr->normed + begin * ld, ld, n, dims->d);
    }
}

void train_norm(struct engine_trainer *tr, const float *x, size_t layer, enum train_norm_kind kind,
                float *packed)
{
    struct join_job job = {.x = (float *)(uintptr_t)x, /* stays as it is: there is nothing to add */
                           .norm = true,
                           .weight = train_norm_weight(tr, layer, kind),
                           .packed = packed};
    train_each(tr, train_tiles(tr), join_unit, &job);
}

struct act_job {
    const struct train_save *save;
    bool rows; /* whether act is wanted in rows, too */
    float *packed;
};

/* A strip of columns at a time, which stays in the first cache until it is packed. */
static void act_unit(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    const struct act_job *job = ctx;
    const struct train_dims *dims = &tr->dims;
    const size_t ld = job->rows ? dims->ld_f : TRAIN_STRIP;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin);
    const bool gelu = tr->model->activation == ACTIVATION_GELU_TANH;
    for (size_t col = 0; col < dims->ld_f; col += TRAIN_STRIP) {
        const struct train_strip strip = train_strip_at(dims->ffn, dims->ld_f, col);
        float *act = job->rows ? tr->act + begin * dims->ld_f + col : lane->rows;
        for (size_t t = 0; t < n; t++) {
            const size_t from = train_saved(tr, begin + t) * dims->ld_f + col;
            (gelu ? tr->kernels->geglu : tr->kernels->swiglu)(act + t * ld, job->save->gate + from,
                                                              job->save->up + from, strip.padded);
        }
        if (job->packed != NULL) {
            tr->kernels->pack(job->packed + begin * dims->ffn + col * tr->kernels->tile_tokens, act,
                              ld, n, strip.n);
        }
    }
}

void train_act(struct engine_trainer *tr, const struct train_save *save, bool rows, float *packed)
{
    struct act_job job = {.save = save, .rows = rows, .packed = packed};
    train_each(tr, train_tiles(tr), act_unit, &job);
}

/* --- the whole --- */
static void embed(struct engine_trainer *tr, void *ctx, size_t slot, struct train_lane *lane)
{
    (void)lane;
    float *x = (float *)ctx + slot * tr->dims.ld_d;
    const int32_t token = tr->batch.token[train_token(tr, slot)];
    weight_dequant_row(&tr->model->embedding, (size_t)token, x);
    memset(x + tr->dims.d, 0, (tr->dims.ld_d - tr->dims.d) * sizeof(float));
    if (tr->model->embedding_scale != 1.0f) {
        tr->kernels->scale(x, tr->model->embedding_scale, tr->dims.ld_d);
    }
}

static void attention_block(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    const struct train_dims *dims = &tr->dims;
    train_packed_clear(tr);
    float *packed = train_packed_take(tr, dims->d);
    train_norm(tr, save->x, layer, TRAIN_NORM_ATTN, packed);
    struct train_group qkv = {
        .layer = layer,
        .save = save,
        .x = tr->normed,
        .ldx = dims->ld_d,
        .n_in = dims->d,
        .x_packed = packed,
        .projs = {{.target = ENGINE_Q_PROJ,
                   .y = dims->qk_norm ? save->q_raw : tr->q_flat,
                   .ldy = dims->ld_q},
                  {.target = ENGINE_K_PROJ,
                   .y = dims->qk_norm ? save->k_raw : tr->k_flat,
                   .ldy = dims->ld_kv},
                  {.target = ENGINE_V_PROJ, .y = tr->v_flat, .ldy = dims->ld_kv}},
        .n_projs = 3,
    };
    train_group_forward(tr, &qkv);
    train_attention_forward(tr, layer, save);
    if (layer + 1 == dims->layers) {
        tr->at = tr->batch.target_at;
        tr->n_at = tr->batch.n_targets;
    }

    train_packed_clear(tr);
    struct train_group o = {
        .layer = layer,
        .save = save,
        .x = save->attn,
        .by_token = true,
        .ldx = dims->ld_q,
        .n_in = dims->q,
        .x_packed = train_pack(tr, save->attn, dims->ld_q, dims->q, true),
        .projs = {{.target = ENGINE_O_PROJ,
                   .y = dims->post_norm ? save->attn_out : tr->y,
                   .ldy = dims->ld_d}},
        .n_projs = 1,
    };
    train_group_forward(tr, &o);
}

static void ffn_block(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    const struct train_dims *dims = &tr->dims;
    train_packed_clear(tr);
    float *packed = train_packed_take(tr, dims->d);
    struct join_job join = {.x = save->mid,
                            .base = save->x,
                            .add = dims->post_norm ? save->attn_out : tr->y,
                            .post = train_norm_weight(tr, layer, TRAIN_NORM_ATTN_POST),
                            .by_slot = true,
                            .norm = true,
                            .weight = train_norm_weight(tr, layer, TRAIN_NORM_FFN),
                            .packed = packed};
    train_each(tr, train_tiles(tr), join_unit, &join);
    struct train_group wide = {
        .layer = layer,
        .save = save,
        .x = tr->normed,
        .ldx = dims->ld_d,
        .n_in = dims->d,
        .x_packed = packed,
        .projs = {{.target = ENGINE_GATE_PROJ, .y = save->gate, .ldy = dims->ld_f},
                  {.target = ENGINE_UP_PROJ, .y = save->up, .ldy = dims->ld_f}},
        .n_projs = 2,
    };
    train_group_forward(tr, &wide);

    train_packed_clear(tr);
    packed = train_packed_take(tr, dims->ffn);
    const bool dropped = tr->dropping && (dims->targets & 1u << ENGINE_DOWN_PROJ) != 0;
    train_act(tr, save, dropped, packed);
    struct train_group down = {
        .layer = layer,
        .save = save,
        .x = tr->act,
        .ldx = dims->ld_f,
        .n_in = dims->ffn,
        .x_packed = packed,
        .projs = {{.target = ENGINE_DOWN_PROJ,
                   .y = dims->post_norm ? save->ffn_out : tr->y,
                   .ldy = dims->ld_d}},
        .n_projs = 1,
    };
    train_group_forward(tr, &down);
}

static struct train_save *save_of(const struct engine_trainer *tr, size_t layer, bool keep)
{
    return &tr->saves[keep && layer > tr->dims.first ? layer - tr->dims.first : 0];
}

void train_forward(struct engine_trainer *tr, bool keep)
{
    tr->at = tr->batch.slot_token;
    tr->n_at = tr->batch.n_slots;
    train_each(tr, tr->n_at, embed, save_of(tr, 0, keep)->x);
    for (size_t layer = 0; layer < tr->dims.layers; layer++) {
        struct train_save *save = save_of(tr, layer, keep);
        attention_block(tr, layer, save);
        ffn_block(tr, layer, save);
        struct join_job join = {
            .x = layer + 1 < tr->dims.layers ? save_of(tr, layer + 1, keep)->x : tr->x_last,
            .base = save->mid,
            .add = tr->dims.post_norm ? save->ffn_out : tr->y,
            .post = train_norm_weight(tr, layer, TRAIN_NORM_FFN_POST),
        };
        train_each(tr, train_tiles(tr), join_unit, &join);
    }
}
