/* The forward pass: llama's block, residual by residual.
 *
 *   x ─ norm ─ q,k,v ─ rope ─ attention ─ o ─ + x ─▶ mid ─ norm ─ gate,up ─ silu·up ─ down ─ + mid
 * ─▶
 *
 * A layer reads save->x and writes the next layer's. Layers below the lowest adapter, and all of
 * them in an evaluation, share the first save: nothing of them is needed again.
 */
#include <string.h>

#include "engine/native/train_int.h"
#include "formats/tensor_type.h"

/* --- parts that pack while they are at it --- */
struct norm_job {
    float *x;
    const float *base, *add, *weight;
    float *packed;
};

static void norm_unit(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct norm_job *job = ctx;
    const struct train_dims *dims = &tr->dims;
    const size_t ld = dims->ld_d;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin);
    for (size_t t = begin; t < begin + n; t++) {
        if (job->add != NULL) {
            memcpy(job->x + t * ld, job->base + t * ld, ld * sizeof(float));
            tr->kernels->join(job->x + t * ld, 1.0f, job->add + t * ld, ld);
        }
        tr->kernels->norm(tr->normed + t * ld, job->x + t * ld, job->weight, ld, dims->d,
                          tr->model->rms_eps);
    }
    if (job->packed != NULL) {
        tr->kernels->pack(job->packed + begin * dims->d, tr->normed + begin * ld, ld, n, dims->d);
    }
}

void train_norm(struct engine_trainer *tr, float *x, const float *base, const float *add,
                size_t norm, float *packed)
{
    struct norm_job job = {.x = x,
                           .base = base,
                           .add = add,
                           .weight = tr->norms + norm * tr->dims.ld_d,
                           .packed = packed};
    train_each(tr, train_tiles(tr), norm_unit, &job);
}

struct act_job {
    const struct train_save *save;
    float *packed;
};

static void act_unit(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct act_job *job = ctx;
    const struct train_dims *dims = &tr->dims;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin), at = begin * dims->ld_f;
    tr->kernels->swiglu(tr->act + at, job->save->gate + at, job->save->up + at, n * dims->ld_f);
    if (job->packed != NULL) {
        tr->kernels->pack(job->packed + begin * dims->ffn, tr->act + at, dims->ld_f, n, dims->ffn);
    }
}

void train_act(struct engine_trainer *tr, const struct train_save *save, float *packed)
{
    struct act_job job = {.save = save, .packed = packed};
    train_each(tr, train_tiles(tr), act_unit, &job);
}

/* --- the whole --- */
static void embed(struct engine_trainer *tr, void *ctx, size_t token, struct train_lane *lane)
{
    (void)lane;
    weight_dequant_row(&tr->model->embedding, (size_t)tr->batch.token[token],
                       (float *)ctx + token * tr->dims.ld_d);
}

static void attention_block(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    const struct train_dims *dims = &tr->dims;
    train_packed_clear(tr);
    float *packed = train_packed_take(tr, dims->d);
    train_norm(tr, save->x, NULL, NULL, 2 * layer, packed);
    struct train_group qkv = {
        .layer = layer,
        .save = save,
        .x = tr->normed,
        .ldx = dims->ld_d,
        .n_in = dims->d,
        .x_packed = packed,
        .projs = {{.target = ENGINE_Q_PROJ, .y = tr->q_flat, .ldy = dims->ld_q},
                  {.target = ENGINE_K_PROJ, .y = tr->k_flat, .ldy = dims->ld_kv},
                  {.target = ENGINE_V_PROJ, .y = tr->v_flat, .ldy = dims->ld_kv}},
        .n_projs = 3,
    };
    train_group_forward(tr, &qkv);
    train_attention_forward(tr, save);

    train_packed_clear(tr);
    struct train_group o = {
        .layer = layer,
        .save = save,
        .x = save->attn,
        .ldx = dims->ld_q,
        .n_in = dims->q,
        .x_packed = train_pack(tr, save->attn, dims->ld_q, dims->q),
        .projs = {{.target = ENGINE_O_PROJ, .y = tr->y, .ldy = dims->ld_d}},
        .n_projs = 1,
    };
    train_group_forward(tr, &o);
}

static void ffn_block(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    const struct train_dims *dims = &tr->dims;
    train_packed_clear(tr);
    float *packed = train_packed_take(tr, dims->d);
    train_norm(tr, save->mid, save->x, tr->y, 2 * layer + 1, packed);
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
    train_act(tr, save, packed);
    struct train_group down = {
        .layer = layer,
        .save = save,
        .x = tr->act,
        .ldx = dims->ld_f,
        .n_in = dims->ffn,
        .x_packed = packed,
        .projs = {{.target = ENGINE_DOWN_PROJ, .y = tr->y, .ldy = dims->ld_d}},
        .n_projs = 1,
    };
    train_group_forward(tr, &down);
}

struct residual_job {
    float *x;
    const float *mid;
};

static void residual_unit(struct engine_trainer *tr, void *ctx, size_t token,
                          struct train_lane *lane)
{
    (void)lane;
    const struct residual_job *job = ctx;
    const size_t at = token * tr->dims.ld_d;
    memcpy(job->x + at, job->mid + at, tr->dims.ld_d * sizeof(float));
    tr->kernels->join(job->x + at, 1.0f, tr->y + at, tr->dims.ld_d);
}

static struct train_save *save_of(const struct engine_trainer *tr, size_t layer, bool keep)
{
    return &tr->saves[keep && layer > tr->dims.first ? layer - tr->dims.first : 0];
}

void train_forward(struct engine_trainer *tr, bool keep)
{
    train_each(tr, tr->batch.n_tokens, embed, save_of(tr, 0, keep)->x);
    for (size_t layer = 0; layer < tr->dims.layers; layer++) {
        struct train_save *save = save_of(tr, layer, keep);
        attention_block(tr, layer, save);
        ffn_block(tr, layer, save);
        struct residual_job job = {
            .x = layer + 1 < tr->dims.layers ? save_of(tr, layer + 1, keep)->x : tr->x_last,
            .mid = save->mid,
        };
        train_each(tr, tr->batch.n_tokens, residual_unit, &job);
    }
}
