/* The backward pass, from the gradient of the last residual down to the lowest adapter.
 *
 *   dx ─▶ down ─▶ swiglu ─▶ gate,up ─▶ norm, + dx ─▶ o ─▶ attention ─▶ q,k,v ─▶ norm, + dx
 *
 * dx is the gradient of the residual and is added to in place. Norms, silu(gate)·up and attention's
 * probabilities are computed again; the rest was saved. In the lowest layer with adapters the walk
 * ends at the last projection that has one: nothing below needs a gradient.
 */
#include "engine/native/train_int.h"

enum {
    IN_ATTENTION = 1u << ENGINE_Q_PROJ | 1u << ENGINE_K_PROJ | 1u << ENGINE_V_PROJ,
    BEFORE_MID = IN_ATTENTION | 1u << ENGINE_O_PROJ,
    BEFORE_ACT = BEFORE_MID | 1u << ENGINE_GATE_PROJ | 1u << ENGINE_UP_PROJ
};

/* Whether a gradient must reach the projections of `below`, or anything under this layer. */
static bool goes_on(const struct engine_trainer *tr, size_t layer, unsigned below)
{
    return layer > tr->dims.first || (tr->dims.targets & below) != 0;
}

struct swiglu_job {
    const struct train_save *save;
    float *gate_packed, *up_packed;
};

static void swiglu_unit(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct swiglu_job *job = ctx;
    const struct train_dims *dims = &tr->dims;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin), at = begin * dims->ld_f;
    float *gate = job->save->gate + at, *up = job->save->up + at;
    tr->kernels->swiglu_back(gate, up, tr->act_grad + at, n * dims->ld_f);
    tr->kernels->pack(job->gate_packed + begin * dims->ffn, gate, dims->ld_f, n, dims->ffn);
    tr->kernels->pack(job->up_packed + begin * dims->ffn, up, dims->ld_f, n, dims->ffn);
}

struct norm_back_job {
    const float *x, *weight;
    float *packed;
};

/* dx += gradient through the norm of job->x, whose output gradient is y; dx packed. */
static void norm_back_unit(struct engine_trainer *tr, void *ctx, size_t unit,
                           struct train_lane *lane)
{
    (void)lane;
    const struct norm_back_job *job = ctx;
    const size_t ld = tr->dims.ld_d, d = tr->dims.d;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin);
    for (size_t at = begin * ld; at < (begin + n) * ld; at += ld) {
        tr->kernels->norm_back(tr->dx + at, tr->y + at, job->x + at, job->weight, ld, d,
                               tr->model->rms_eps);
    }
    tr->kernels->pack(job->packed + begin * d, tr->dx + begin * ld, ld, n, d);
}

static const float *norm_back(struct engine_trainer *tr, const float *x, size_t norm)
{
    train_packed_clear(tr);
    struct norm_back_job job = {.x = x,
                                .weight = tr->norms + norm * tr->dims.ld_d,
                                .packed = train_packed_take(tr, tr->dims.d)};
    train_each(tr, train_tiles(tr), norm_back_unit, &job);
    return job.packed;
}

/* Through down, given dx packed. */
static void down_back(struct engine_trainer *tr, size_t layer, struct train_save *save,
                      const float *packed)
{
    const struct train_dims *dims = &tr->dims;
    if (dims->targets & (1u << ENGINE_DOWN_PROJ)) {
        train_act(tr, save, NULL); /* the input of down's adapter */
    }
    struct train_group down = {
        .layer = layer,
        .save = save,
        .x = tr->act,
        .ldx = dims->ld_f,
        .n_in = dims->ffn,
        .projs = {{.target = ENGINE_DOWN_PROJ, .y = tr->dx, .ldy = dims->ld_d, .y_packed = packed}},
        .n_projs = 1,
    };
    train_group_backward(tr, &down, goes_on(tr, layer, BEFORE_ACT) ? tr->act_grad : NULL);
}

/* From act_grad through gate and up; leaves the gradient of the ffn's norm in y. */
static void wide_back(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    const struct train_dims *dims = &tr->dims;
    train_packed_clear(tr);
    struct swiglu_job job = {.save = save,
                             .gate_packed = train_packed_take(tr, dims->ffn),
                             .up_packed = train_packed_take(tr, dims->ffn)};
    train_each(tr, train_tiles(tr), swiglu_unit, &job);
    if (dims->targets & (1u << ENGINE_GATE_PROJ | 1u << ENGINE_UP_PROJ)) {
        train_norm(tr, save->mid, NULL, NULL, 2 * layer + 1, NULL);
    }
    struct train_group wide = {
        .layer = layer,
        .save = save,
        .x = tr->normed,
        .ldx = dims->ld_d,
        .n_in = dims->d,
        .projs = {{.target = ENGINE_GATE_PROJ,
                   .y = save->gate,
                   .ldy = dims->ld_f,
                   .y_packed = job.gate_packed},
                  {.target = ENGINE_UP_PROJ,
                   .y = save->up,
                   .ldy = dims->ld_f,
                   .y_packed = job.up_packed}},
        .n_projs = 2,
    };
    train_group_backward(tr, &wide, goes_on(tr, layer, BEFORE_MID) ? tr->y : NULL);
}

/* Through o, given dx packed. */
static void o_back(struct engine_trainer *tr, size_t layer, struct train_save *save,
                   const float *packed)
{
    const struct train_dims *dims = &tr->dims;
    struct train_group o = {
        .layer = layer,
        .save = save,
        .x = save->attn,
        .ldx = dims->ld_q,
        .n_in = dims->q,
        .projs = {{.target = ENGINE_O_PROJ, .y = tr->dx, .ldy = dims->ld_d, .y_packed = packed}},
        .n_projs = 1,
    };
    train_group_backward(tr, &o, goes_on(tr, layer, IN_ATTENTION) ? tr->attn_grad : NULL);
}

/* From attn_grad through attention and q, k, v; leaves the gradient of attention's norm in y. */
static void qkv_back(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    const struct train_dims *dims = &tr->dims;
    train_packed_clear(tr);
    float *const packed[3] = {train_packed_take(tr, dims->q), train_packed_take(tr, dims->kv),
                              train_packed_take(tr, dims->kv)};
    train_attention_backward(tr, save, packed);
    train_norm(tr, save->x, NULL, NULL, 2 * layer, NULL);
    struct train_group qkv = {
        .layer = layer,
        .save = save,
        .x = tr->normed,
        .ldx = dims->ld_d,
        .n_in = dims->d,
        .projs =
            {{.target = ENGINE_Q_PROJ, .y = tr->q_flat, .ldy = dims->ld_q, .y_packed = packed[0]},
             {.target = ENGINE_K_PROJ, .y = tr->k_flat, .ldy = dims->ld_kv, .y_packed = packed[1]},
             {.target = ENGINE_V_PROJ, .y = tr->v_flat, .ldy = dims->ld_kv, .y_packed = packed[2]}},
        .n_projs = 3,
    };
    train_group_backward(tr, &qkv, goes_on(tr, layer, 0) ? tr->y : NULL);
}

void train_backward(struct engine_trainer *tr)
{
    train_packed_clear(tr);
    const float *packed = train_pack(tr, tr->dx, tr->dims.ld_d, tr->dims.d);
    for (size_t layer = tr->dims.layers; layer-- > tr->dims.first;) {
        struct train_save *save = &tr->saves[layer - tr->dims.first];
        down_back(tr, layer, save, packed);
        if (!goes_on(tr, layer, BEFORE_ACT)) {
            return;
        }
        wide_back(tr, layer, save);
        if (!goes_on(tr, layer, BEFORE_MID)) {
            return;
        }
        packed = norm_back(tr, save->mid, 2 * layer + 1);
        o_back(tr, layer, save, packed);
        if (!goes_on(tr, layer, IN_ATTENTION)) {
            return;
        }
        qkv_back(tr, layer, save);
        if (goes_on(tr, layer, 0)) {
            packed = norm_back(tr, save->x, 2 * layer);
        }
    }
}
