/* Logits, loss and their gradient, at target positions only and a slice of them at a time, so that
 * the vocabulary never meets all tokens at once.
 *
 *   gather + norm ─▶ logits ─▶ scale, cap ─▶ −log p, p − onehot ─▶ gradient of the normed row ─▶ dx
 *
 * A row is overwritten by its gradient, and the cap's slope needs the capped logits: they wait in
 * the row's place of logits_packed, which is written only when its tile is done.
 */
#include <math.h>
#include <string.h>

#include "engine/native/train_int.h"
#include "kernels/det_math.h"

struct slice {
    size_t begin, n; /* targets */
    float *packed;   /* normed rows */
    float inverse;   /* 1 / targets of the step; 0: losses only */
};

static void gather(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct slice *slice = ctx;
    const struct train_dims *dims = &tr->dims;
    const size_t tile = tr->kernels->tile_tokens, begin = unit * tile, ld = dims->ld_d;
    const size_t n = slice->n - begin < tile ? slice->n - begin : tile;
    for (size_t i = begin; i < begin + n; i++) {
        memcpy(tr->slice_x + i * ld, tr->x_last + (slice->begin + i) * ld, ld * sizeof(float));
        tr->kernels->norm(tr->slice_normed + i * ld, tr->slice_x + i * ld, train_final_norm(tr), ld,
                          dims->d, tr->model->rms_eps);
    }
    tr->kernels->pack(slice->packed + begin * dims->d, tr->slice_normed + begin * ld, ld, n,
                      dims->d);
}

/* Logits scaled and capped, a copy of capped ones into kept. */
static void bend(const struct engine_trainer *tr, float *row, float *kept)
{
    const struct engine_model *m = tr->model;
    if (m->logit_scale != 1.0f) {
        tr->kernels->scale(row, m->logit_scale, tr->dims.ld_vocab);
    }
    if (m->logit_cap > 0.0f) {
        tr->kernels->soft_cap(row, m->logit_cap, tr->dims.vocab);
        memcpy(kept, row, tr->dims.vocab * sizeof *kept);
    }
}

static void bend_back(const struct engine_trainer *tr, float *grad, const float *kept)
{
    const struct engine_model *m = tr->model;
    if (m->logit_cap > 0.0f) {
        tr->kernels->soft_cap_back(grad, kept, m->logit_cap, tr->dims.vocab);
    }
    if (m->logit_scale != 1.0f) {
        tr->kernels->scale(grad, m->logit_scale, tr->dims.ld_vocab);
    }
}

/* -log p = log Σ e^(x − max) − (x_target − max), rounded to fp32 once. */
static void score(struct engine_trainer *tr, const struct slice *slice, size_t i, float *kept)
{
    float *row = tr->logits + i * tr->dims.ld_vocab;
    const size_t target = (size_t)tr->batch.target[slice->begin + i];
    bend(tr, row, kept);
    const float logit = row[target];
    float max = 0.0f, sum = 1.0f;
    if (!tr->kernels->exp_row(row, tr->dims.vocab, &max, &sum)) {
        atomic_store(&tr->bad, true);
        return;
    }
    const double loss = det_log((double)sum) - ((double)logit - (double)max);
    tr->batch.losses[slice->begin + i] = (float)loss;
    if (slice->inverse > 0.0f) {
        const float p = row[target] / sum;
        tr->kernels->normalise(row, tr->dims.vocab, sum, slice->inverse);
        row[target] = (p - 1.0f) * slice->inverse;
        bend_back(tr, row, kept);
    }
}

static void score_tile(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct slice *slice = ctx;
    const struct train_dims *dims = &tr->dims;
    const size_t tile = tr->kernels->tile_tokens, begin = unit * tile;
    const size_t n = slice->n - begin < tile ? slice->n - begin : tile;
    for (size_t i = begin; i < begin + n; i++) {
        score(tr, slice, i, tr->logits_packed + i * dims->vocab);
    }
    if (slice->inverse > 0.0f) {
        tr->kernels->pack(tr->logits_packed + begin * dims->vocab,
                          tr->logits + begin * dims->ld_vocab, dims->ld_vocab, n, dims->vocab);
    }
}

static void scatter(struct engine_trainer *tr, void *ctx, size_t i, struct train_lane *lane)
{
    (void)lane;
    const struct slice *slice = ctx;
    const struct train_dims *dims = &tr->dims;
    const size_t ld = dims->ld_d;
    tr->kernels->norm_back(tr->dx + (slice->begin + i) * ld, tr->slice_grad + i * ld,
                           tr->slice_x + i * ld, train_final_norm(tr), ld, dims->d,
                           tr->model->rms_eps);
}

/* logits = normed · Wᵀ, or slice_grad = dlogits · W */
static void output_product(struct engine_trainer *tr, const struct slice *slice, bool backward)
{
    struct train_work work = {.n_sums = 1};
    work.sums[0] = (struct train_sum){
        .c = backward ? tr->slice_grad : tr->logits,
        .ldc = backward ? tr->dims.ld_d : tr->dims.ld_vocab,
        .n_tokens = slice->n,
        .backward = backward,
        .n_terms = 1,
        .terms = {{.matrix = train_frozen(tr->model->output),
                   .x = backward ? tr->logits_packed : slice->packed}},
    };
    train_work_run(tr, &work);
}

void train_loss(struct engine_trainer *tr, float inverse_targets)
{
    const size_t tile = tr->kernels->tile_tokens, n = tr->batch.n_targets;
    const bool learn = inverse_targets > 0.0f;
    if (learn) {
        memset(tr->dx, 0, n * tr->dims.ld_d * sizeof(float));
    }
    /* slices of even size, since a short last one would unpack the whole vocabulary for few rows */
    const size_t n_slices = (n + tr->dims.slice - 1) / tr->dims.slice;
    const size_t even = (n + n_slices - 1) / n_slices, whole = (even + tile - 1) / tile * tile;
    const size_t each = whole < tr->dims.slice ? whole : tr->dims.slice;
    for (size_t begin = 0; begin < n; begin += each) {
        train_packed_clear(tr);
        struct slice slice = {.begin = begin,
                              .n = n - begin < each ? n - begin : each,
                              .packed = train_packed_take(tr, tr->dims.d),
                              .inverse = inverse_targets};
        const size_t n_tiles = (slice.n + tile - 1) / tile;
        train_each(tr, n_tiles, gather, &slice);
        output_product(tr, &slice, false);
        train_each(tr, n_tiles, score_tile, &slice);
        if (learn && !atomic_load(&tr->bad)) {
            output_product(tr, &slice, true);
            train_each(tr, slice.n, scatter, &slice);
        }
    }
}
