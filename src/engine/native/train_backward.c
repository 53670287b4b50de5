/* The backward pass, from the gradient of the last residual down to the lowest adapter.
 *
 *   dx ─▶ norm ─▶ down ─▶ act ─▶ gate,up ─▶ norm, + dx ─▶ norm ─▶ o ─▶ attention ─▶ q,k,v ─▶ norm,
 *   + dx
 *
 * dx is the gradient of the residual and is added to in place. Where a block's result is normed or
 * scaled on its way out, the gradient of that result stands in `normed` meanwhile; else it is dx
 * itself. Norms, act(gate)·up and attention's probabilities are computed again; the rest was saved.
 * In the lowest layer with adapters the walk ends at the last projection that has one: nothing
 * below needs a gradient.
 */
#include <string.h>

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

struct act_back_job {
    const struct train_save *save;
    bool rows; /* whether the gradients are wanted in rows, too: in act and act_grad */
    float *gate_packed, *up_packed;
};

/* A strip of columns at a time, as in the forward. */
static void act_back_unit(struct engine_trainer *tr, void *ctx, size_t unit,
                          struct train_lane *lane)
{
    const struct act_back_job *job = ctx;
    const struct train_dims *dims = &tr->dims;
    const size_t ld = job->rows ? dims->ld_f : TRAIN_STRIP;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin);
    const bool gelu = tr->model->activation == ACTIVATION_GELU_TANH;
    for (size_t col = 0; col < dims->ld_f; col += TRAIN_STRIP) {
        const struct train_strip strip = train_strip_at(dims->ffn, dims->ld_f, col);
        const size_t at = begin * dims->ld_f + col;
        float *gate_grad = job->rows ? tr->act + at : lane->rows;
        float *up_grad =
            job->rows ? tr->act_grad + at : lane->rows + (size_t)TRAIN_TILE_MAX * TRAIN_STRIP;
        for (size_t t = 0; t < n; t++) {
            const size_t from = train_saved(tr, begin + t) * dims->ld_f + col;
            (gelu ? tr->kernels->geglu_back : tr->kernels->swiglu_back)(
                gate_grad + t * ld, up_grad + t * ld, job->save->gate + from, job->save->up + from,
                tr->act_grad + at + t * dims->ld_f, strip.padded);
        }
        const size_t packed = begin * dims->ffn + col * tr->kernels->tile_tokens;
        tr->kernels->pack(job->gate_packed + packed, gate_grad, ld, n, strip.n);
        tr->kernels->pack(job->up_packed + packed, up_grad, ld, n, strip.n);
    }
}

struct norm_back_job {
    const float *x, *weight;
    float *packed; /* NULL: not wanted */
};

/* dx += gradient through the norm of job->x, whose output gradient is y; dx packed. Without a norm
 * dx += y. */
static void norm_back_unit(struct engine_trainer *tr, void *ctx, size_t unit,
                           struct train_lane *lane)
{
    (void)lane;
    const struct norm_back_job *job = ctx;
    const size_t ld = tr->dims.ld_d, d = tr->dims.d;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin);
    for (size_t t = begin; t < begin + n; t++) {
        const size_t at = t * ld;
        if (job->weight != NULL) {
            tr->kernels->norm_back(tr->dx + at, tr->y + at, job->x + train_saved(tr, t) * ld,
                                   job->weight, ld, d, tr->model->rms_eps);
        } else {
            tr->kernels->join(tr->dx + at, 1.0f, tr->y + at, ld);
        }
    }
    if (job->packed != NULL) {
        tr->kernels->pack(job->packed + begin * d, tr->dx + begin * ld, ld, n, d);
    }
}

/* The gradient of a block's result, and packed. */
struct branch {
    float *grad;
    const float *packed;
};

/* Whether it is dx itself. */
static bool branch_is_dx(const struct engine_trainer *tr)
{
    return !tr->dims.post_norm && tr->model->residual_scale == 1.0f;
}

struct branch_job {
    const float *out, *weight; /* the result before its norm, and the norm; NULL without */
    float *packed;
};

/* normed = residual_scale · (gradient through the norm of job->out, whose output gradient is dx) */
static void branch_unit(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct branch_job *job = ctx;
    const size_t ld = tr->dims.ld_d, d = tr->dims.d;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin);
    for (size_t t = begin; t < begin + n; t++) {
        const size_t at = t * ld;
        float *grad = tr->normed + at;
        if (job->weight != NULL) {
            memset(grad, 0, ld * sizeof(float));
            tr->kernels->norm_back(grad, tr->dx + at, job->out + train_saved(tr, t) * ld,
                                   job->weight, ld, d, tr->model->rms_eps);
        } else {
            memcpy(grad, tr->dx + at, ld * sizeof(float));
        }
        if (tr->model->residual_scale != 1.0f) {
            tr->kernels->scale(grad, tr->model->residual_scale, ld);
        }
    }
    tr->kernels->pack(job->packed + begin * d, tr->normed + begin * ld, ld, n, d);
}

/* dx_packed is used where the branch is dx. */
static struct branch branch_of(struct engine_trainer *tr, size_t layer, enum train_norm_kind kind,
                               const float *out, const float *dx_packed)
{
    if (branch_is_dx(tr)) {
        return (struct branch){tr->dx, dx_packed};
    }
    train_packed_clear(tr);
    struct branch_job job = {.out = out,
                             .weight = train_norm_weight(tr, layer, kind),
                             .packed = train_packed_take(tr, tr->dims.d)};
    train_each(tr, train_tiles(tr), branch_unit, &job);
    return (struct branch){tr->normed, job.packed};
}

/* Returns dx packed where the next branch is dx. */
static const float *norm_back(struct engine_trainer *tr, const float *x, size_t layer,
                              enum train_norm_kind kind)
{
    train_packed_clear(tr);
    struct norm_back_job job = {.x = x,
                                .weight = train_norm_weight(tr, layer, kind),
                                .packed =
                                    branch_is_dx(tr) ? train_packed_take(tr, tr->dims.d) : NULL};
    train_each(tr, train_tiles(tr), norm_back_unit, &job);
    return job.packed;
}

/* Through down, given dx packed. */
static void down_back(struct engine_trainer *tr, size_t layer, struct train_save *save,
                      const float *packed)
{
    const struct train_dims *dims = &tr->dims;
    const struct branch branch = branch_of(tr, layer, TRAIN_NORM_FFN_POST, save->ffn_out, packed);
    if (dims->targets & (1u << ENGINE_DOWN_PROJ)) {
        train_act(tr, save, true, NULL); /* the input of down's adapter */
    }
    struct train_group down = {
        .layer = layer,
        .save = save,
        .x = tr->act,
        .ldx = dims->ld_f,
        .n_in = dims->ffn,
        .projs = {{.target = ENGINE_DOWN_PROJ,
                   .y = branch.grad,
                   .ldy = dims->ld_d,
                   .y_packed = branch.packed}},
        .n_projs = 1,
    };
    train_group_backward(tr, &down, goes_on(tr, layer, BEFORE_ACT) ? tr->act_grad : NULL);
}

/* From act_grad through gate and up; leaves the gradient of the ffn's norm in y. */
static void wide_back(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    const struct train_dims *dims = &tr->dims;
    train_packed_clear(tr);
    const bool adapted = (dims->targets & (1u << ENGINE_GATE_PROJ | 1u << ENGINE_UP_PROJ)) != 0;
    struct act_back_job job = {.save = save,
                               .rows = adapted,
                               .gate_packed = train_packed_take(tr, dims->ffn),
                               .up_packed = train_packed_take(tr, dims->ffn)};
    train_each(tr, train_tiles(tr), act_back_unit, &job);
    if (adapted) {
        train_norm(tr, save->mid, layer, TRAIN_NORM_FFN, NULL);
    }
    struct train_group wide = {
        .layer = layer,
        .save = save,
        .x = tr->normed,
        .ldx = dims->ld_d,
        .n_in = dims->d,
        .projs = {{.target = ENGINE_GATE_PROJ,
                   .y = tr->act,
                   .ldy = dims->ld_f,
                   .y_packed = job.gate_packed},
                  {.target = ENGINE_UP_PROJ,
                   .y = tr->act_grad,
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
    const struct branch branch = branch_of(tr, layer, TRAIN_NORM_ATTN_POST, save->attn_out, packed);
    if (tr->at != NULL) {
        train_narrow(tr, save->attn, dims->ld_q);
    }
    struct train_group o = {
        .layer = layer,
        .save = save,
        .x = save->attn,
        .ldx = dims->ld_q,
        .n_in = dims->q,
        .projs = {{.target = ENGINE_O_PROJ,
                   .y = branch.grad,
                   .ldy = dims->ld_d,
                   .y_packed = branch.packed}},
        .n_projs = 1,
    };
    train_group_backward(tr, &o, goes_on(tr, layer, IN_ATTENTION) ? tr->attn_grad : NULL);
}

/* From attn_grad through attention and q, k, v; leaves the gradient of attention's norm in y. */
static void qkv_back(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    const struct train_dims *dims = &tr->dims;
    if (tr->at != NULL) { /* from here on the others' keys and values count */
        train_widen(tr, tr->attn_grad, dims->ld_q);
        train_widen(tr, save->attn, dims->ld_q);
        train_widen(tr, tr->dx, dims->ld_d);
        tr->at = NULL;
        tr->n_at = tr->batch.n_tokens;
    }
    train_packed_clear(tr);
    float *const packed[3] = {train_packed_take(tr, dims->q), train_packed_take(tr, dims->kv),
                              train_packed_take(tr, dims->kv)};
    train_attention_backward(tr, layer, save, packed);
    train_norm(tr, save->x, layer, TRAIN_NORM_ATTN, NULL);
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
    const float *packed = train_pack(tr, tr->dx, tr->dims.ld_d, tr->dims.d, false);
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
        packed = norm_back(tr, save->mid, layer, TRAIN_NORM_FFN);
        o_back(tr, layer, save, packed);
        if (!goes_on(tr, layer, IN_ATTENTION)) {
            return;
        }
        qkv_back(tr, layer, save);
        if (goes_on(tr, layer, 0)) {
            packed = norm_back(tr, save->x, layer, TRAIN_NORM_ATTN);
        }
    }
}
