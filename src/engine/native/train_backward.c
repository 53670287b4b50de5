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

static void swiglu_unit(struct engine_trainer *tr, void *ctx, size_t token, struct train_lane *lane)
{
    (void)lane;
    const struct train_save *save = ctx;
    const size_t at = token * tr->dims.ld_f;
    tr->kernels->swiglu_back(save->gate + at, save->up + at, tr->act_grad + at, tr->dims.ld_f);
}

struct norm_back_job {
    const float *x, *weight;
};

/* dx += gradient through the norm of job->x, whose output gradient is y */
static void norm_back_unit(struct engine_trainer *tr, void *ctx, size_t token,
                           struct train_lane *lane)
{
    (void)lane;
    const struct norm_back_job *job = ctx;
    const size_t ld = tr->dims.ld_d, at = token * ld;
    tr->kernels->norm_back(tr->dx + at, tr->y + at, job->x + at, job->weight, ld, tr->dims.d,
                           tr->model->rms_eps);
}

static void norm_back(struct engine_trainer *tr, const float *x, size_t norm)
{
    struct norm_back_job job = {.x = x, .weight = tr->norms + norm * tr->dims.ld_d};
    train_each(tr, tr->batch.n_tokens, norm_back_unit, &job);
}

/* Leaves the gradient of the ffn's norm in y. */
static void ffn_back(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    const struct train_dims *dims = &tr->dims;
    train_packed_clear(tr);
    if (dims->targets & (1u << ENGINE_DOWN_PROJ)) {
        (void)train_act_pack(tr, save); /* act is the input of down's adapter */
        train_packed_clear(tr);
    }
    struct train_group down = {
        .layer = layer,
        .save = save,
        .x = tr->act,
        .ldx = dims->ld_f,
        .n_in = dims->ffn,
        .projs = {{.target = ENGINE_DOWN_PROJ, .y = tr->dx, .ldy = dims->ld_d}},
        .n_projs = 1,
    };
    train_group_backward(tr, &down, goes_on(tr, layer, BEFORE_ACT) ? tr->act_grad : NULL);
    if (!goes_on(tr, layer, BEFORE_ACT)) {
        return;
    }
    train_each(tr, tr->batch.n_tokens, swiglu_unit, save);

    train_packed_clear(tr);
    if (dims->targets & (1u << ENGINE_GATE_PROJ | 1u << ENGINE_UP_PROJ)) {
        (void)train_norm_pack(tr, save->mid, NULL, NULL, 2 * layer + 1);
        train_packed_clear(tr);
    }
    struct train_group wide = {
        .layer = layer,
        .save = save,
        .x = tr->normed,
        .ldx = dims->ld_d,
        .n_in = dims->d,
        .projs = {{.target = ENGINE_GATE_PROJ, .y = save->gate, .ldy = dims->ld_f},
                  {.target = ENGINE_UP_PROJ, .y = save->up, .ldy = dims->ld_f}},
        .n_projs = 2,
    };
    train_group_backward(tr, &wide, goes_on(tr, layer, BEFORE_MID) ? tr->y : NULL);
}

/* Leaves the gradient of attention's norm in y. */
static void attention_back(struct engine_trainer *tr, size_t layer, struct train_save *save)
{
    const struct train_dims *dims = &tr->dims;
    train_packed_clear(tr);
    struct train_group o = {
        .layer = layer,
        .save = save,
        .x = save->attn,
        .ldx = dims->ld_q,
        .n_in = dims->q,
        .projs = {{.target = ENGINE_O_PROJ, .y = tr->dx, .ldy = dims->ld_d}},
        .n_projs = 1,
    };
    train_group_backward(tr, &o, goes_on(tr, layer, IN_ATTENTION) ? tr->attn_grad : NULL);
    if (!goes_on(tr, layer, IN_ATTENTION)) {
        return;
    }
    train_attention_backward(tr, save);

    train_packed_clear(tr);
    (void)train_norm_pack(tr, save->x, NULL, NULL, 2 * layer);
    train_packed_clear(tr);
    struct train_group qkv = {
        .layer = layer,
        .save = save,
        .x = tr->normed,
        .ldx = dims->ld_d,
        .n_in = dims->d,
        .projs = {{.target = ENGINE_Q_PROJ, .y = tr->q_flat, .ldy = dims->ld_q},
                  {.target = ENGINE_K_PROJ, .y = tr->k_flat, .ldy = dims->ld_kv},
                  {.target = ENGINE_V_PROJ, .y = tr->v_flat, .ldy = dims->ld_kv}},
        .n_projs = 3,
    };
    train_group_backward(tr, &qkv, goes_on(tr, layer, 0) ? tr->y : NULL);
}

void train_backward(struct engine_trainer *tr)
{
    for (size_t layer = tr->dims.layers; layer-- > tr->dims.first;) {
        struct train_save *save = &tr->saves[layer - tr->dims.first];
        ffn_back(tr, layer, save);
        if (!goes_on(tr, layer, BEFORE_MID)) {
            return;
        }
        norm_back(tr, save->mid, 2 * layer + 1);
        attention_back(tr, layer, save);
        if (goes_on(tr, layer, 0)) {
            norm_back(tr, save->x, 2 * layer);
        }
    }
}
