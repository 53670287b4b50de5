/* A trainer's life and the entry points of a step.
 *
 *   engine_trainer_new ──▶ engine_trainer_zero ──▶ engine_train_step … ──▶ gradients read
 *                               ▲───────────────────────────────────────────────┘
 *
 * 1. All memory is one block, taken and zeroed in engine_trainer_new; zeros in the pads stay.
 * 2. The adapter's values are read in place, so a change by the optimizer needs no call.
 * 3. A step that meets a value that is not finite reports it; its gradients are then worthless
 * until engine_trainer_zero.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "engine/native/train_int.h"

static int estimate(const struct engine_model *model, int lanes, const struct engine_lora *lora,
                    const struct engine_train_plan *plan, uint64_t *bytes, struct err *err)
{
    struct engine_trainer tr = {0};
    int rc = train_dims_init(&tr.dims, model, lora, plan, err);
    if (rc != 0) {
        return rc;
    }
    int n_targets = 0;
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        n_targets += (lora->targets >> t) & 1;
    }
    const int n_tensors = 2 * n_targets * (model->info.n_layers - lora->first_layer);
    *bytes = sizeof tr + train_layout(&tr, lanes, n_tensors, NULL);
    return 0;
}

int engine_trainer_estimate(const struct engine_model *model, const struct engine_lora *lora,
                            const struct engine_train_plan *plan, uint64_t *bytes, struct err *err)
{
    return estimate(model, pool_lanes(model->pool), lora, plan, bytes, err);
}

int engine_trainer_estimate_info(const struct engine_info *info, const struct engine_lora *lora,
                                 const struct engine_train_plan *plan, uint64_t *bytes,
                                 struct err *err)
{
    const struct engine_model model = {.info = *info};
    return estimate(&model, info->threads, lora, plan, bytes, err);
}

/* Gradient arrays in the order of the adapter's tensors, and both found by layer and target. */
static void bind_factors(struct engine_trainer *tr)
{
    float *at = tr->gradient_data;
    for (int i = 0; i < tr->adapter->n_tensors; i++) {
        const struct engine_tensor *tensor = &tr->adapter->tensors[i];
        tr->gradients[i] = at;
        at += (size_t)tensor->rows * (size_t)tensor->cols;
    }
    for (size_t layer = tr->dims.first; layer < tr->dims.layers; layer++) {
        for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
            if (((tr->dims.targets >> t) & 1) == 0) {
                continue;
            }
            const struct engine_tensor *a =
                adapter_tensor(tr->adapter, (int)layer, (enum engine_target)t, false);
            const struct engine_tensor *b =
                adapter_tensor(tr->adapter, (int)layer, (enum engine_target)t, true);
            tr->factors[layer * ENGINE_TARGET_COUNT + (size_t)t] = (struct train_factor){
                .a = a->data,
                .b = b->data,
                .a_grad = tr->gradients[a - tr->adapter->tensors],
                .b_grad = tr->gradients[b - tr->adapter->tensors],
            };
        }
    }
}

static void copy_norms(struct engine_trainer *tr)
{
    const struct train_dims *dims = &tr->dims;
    const size_t bytes = dims->d * sizeof(float);
    for (size_t l = 0; l < dims->layers; l++) {
        const struct layer *layer = &tr->model->layers[l];
        const float *const from[TRAIN_NORMS] = {layer->attn_norm, layer->ffn_norm,
                                                layer->attn_post_norm, layer->ffn_post_norm};
        for (size_t kind = 0; kind < TRAIN_NORMS; kind++) {
            if (from[kind] != NULL) {
                memcpy(tr->norms + (l * TRAIN_NORMS + kind) * dims->ld_d, from[kind], bytes);
            }
        }
    }
    memcpy(tr->norms + dims->layers * TRAIN_NORMS * dims->ld_d, tr->model->final_norm, bytes);
    for (size_t i = 0; i < dims->tokens; i++) {
        tr->ones[i] = 1.0f;
    }
}

int engine_trainer_new(struct engine_trainer **out, struct engine_model *model,
                       struct engine_adapter *adapter, const struct engine_train_plan *plan,
                       struct err *err)
{
    *out = NULL;
    int rc = 0;
    struct engine_trainer *tr = mem_calloc(1, sizeof *tr);
    if (tr == NULL) {
        return mem_err(err, sizeof *tr);
    }
    tr->model = model;
    tr->adapter = adapter;
    tr->plan = *plan;
    tr->pool = model->pool;
    tr->kernels = train_kernels_get(model->info.isa);
    if (tr->kernels == NULL) {
        rc = err_set(err, ERR_INTERNAL, "no training kernels for %s", model->info.isa);
        goto out;
    }
    rc = train_dims_init(&tr->dims, model, &adapter->lora, plan, err);
    if (rc != 0) {
        goto out;
    }
    const int lanes = pool_lanes(model->pool);
    const size_t bytes = train_layout(tr, lanes, adapter->n_tensors, NULL);
    tr->block = mem_alloc_simd(1, bytes);
    if (tr->block == NULL) {
        rc = mem_err(err, bytes);
        goto out;
    }
    mem_large_pages(tr->block);
    memset(tr->block, 0, bytes);
    (void)train_layout(tr, lanes, adapter->n_tensors, tr->block);
    bind_factors(tr);
    copy_norms(tr);
    *out = tr;
    tr = NULL;
out:
    engine_trainer_free(tr);
    return rc;
}

void engine_trainer_free(struct engine_trainer *trainer)
{
    if (trainer == NULL) {
        return;
    }
    mem_free(trainer->block);
    mem_free(trainer);
}

void engine_trainer_zero(struct engine_trainer *trainer)
{
    memset(trainer->gradient_data, 0, trainer->n_gradient * sizeof(float));
}

float *const *engine_trainer_gradients(struct engine_trainer *trainer)
{
    return trainer->gradients;
}

float engine_loss_sum(const struct engine_loss *loss)
{
    float lanes[16];
    memcpy(lanes, loss->lanes, sizeof lanes);
    for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            lanes[i] += lanes[i + half];
        }
    }
    return lanes[0];
}

/* Losses join the lanes by their ordinal in the optimizer step. */
static void add_losses(const struct train_batch *batch, struct engine_loss *loss)
{
    for (size_t i = 0; i < batch->n_targets; i++) {
        loss->lanes[loss->n_targets % 16] += batch->losses[i];
        loss->n_targets++;
    }
}

static int not_finite(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "NaN/Inf %s", what);
}

enum { FINITE_UNIT = 1 << 14 };

static void check_gradients(struct engine_trainer *tr, void *ctx, size_t unit,
                            struct train_lane *lane)
{
    (void)ctx;
    (void)lane;
    const size_t at = unit * FINITE_UNIT;
    const size_t left = tr->n_gradient - at;
    if (!tr->kernels->finite(tr->gradient_data + at, left < FINITE_UNIT ? left : FINITE_UNIT)) {
        atomic_store(&tr->bad, true);
    }
}

static int run(struct engine_trainer *tr, const struct engine_row *rows, int n_rows,
               float inverse_targets, struct engine_loss *loss, struct err *err)
{
    int rc = train_batch_set(tr, rows, n_rows, err);
    if (rc != 0 || tr->batch.n_targets == 0) {
        return rc;
    }
    const bool learn = inverse_targets > 0.0f;
    model_rope_prepare(tr->model, (int)tr->batch.longest);
    atomic_store(&tr->bad, false);
    train_forward(tr, learn);
    train_loss(tr, inverse_targets);
    if (atomic_load(&tr->bad)) {
        return not_finite(err, "loss");
    }
    if (learn) {
        train_backward(tr);
        train_each(tr, (tr->n_gradient + FINITE_UNIT - 1) / FINITE_UNIT, check_gradients, NULL);
        if (atomic_load(&tr->bad)) {
            return not_finite(err, "gradient");
        }
    }
    rc = pool_check(tr->pool, err);
    if (rc == 0) {
        add_losses(&tr->batch, loss);
    }
    return rc;
}

int engine_train_step(struct engine_trainer *trainer, const struct engine_row *rows, int n_rows,
                      uint64_t step, float inverse_targets, struct engine_loss *loss,
                      struct err *err)
{
    if (!(inverse_targets > 0.0f) || !isfinite(inverse_targets)) {
        return err_set(err, ERR_INVALID, "inverse_targets must be a positive number");
    }
    trainer->step = step;
    trainer->dropping = trainer->dims.dropout;
    return run(trainer, rows, n_rows, inverse_targets, loss, err);
}

int engine_eval_loss(struct engine_trainer *trainer, const struct engine_row *rows, int n_rows,
                     struct engine_loss *loss, struct err *err)
{
    trainer->dropping = false;
    return run(trainer, rows, n_rows, 0.0f, loss, err);
}
