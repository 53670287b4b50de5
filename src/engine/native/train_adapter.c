/* Projections that share an input, with their adapters.
 *
 * Forward, with m the dropout factor (0 or 1/(1−p); 1 without dropout):
 *   h = A·(m∘x)        y = fma(scale, B·h, W·x + bias)
 * Backward, dy given:
 *   dh = scale · (Bᵀ·dy)
 *   dB += dy ⊗ (scale·h)       dA += dh ⊗ (m∘x)      one chain per element over all tokens
 *   dx  = Wᵀ·dy, then fma(m, Aᵀ·dh, dx)              projection by projection, in order
 *
 * Dropout draws word (feature mod 4) of Philox at counter (step · 2³² + row in step,
 * tensor · 2⁴⁸ + position · 2²⁴ + feature / 4), tensor = layer · ENGINE_TARGET_COUNT + target; a
 * feature is dropped where the top 24 bits of the word, times 2⁻²⁴, are below p.
 */
#include "base/rng.h"
#include "engine/native/train_int.h"

static const struct train_factor *factor_of(const struct engine_trainer *tr, size_t layer,
                                            enum engine_target target)
{
    return &tr->factors[layer * ENGINE_TARGET_COUNT + (size_t)target];
}

static bool has_adapter(const struct engine_trainer *tr, size_t layer, enum engine_target target)
{
    return factor_of(tr, layer, target)->a != NULL;
}

/* --- packing --- */
struct pack_job {
    float *packed;
    const float *x;
    size_t ldx, n_k;
    bool by_token;
};

static void pack_unit(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct pack_job *job = ctx;
    size_t begin;
    const size_t n = train_tile_at(tr, unit, &begin);
    float *packed = job->packed + begin * job->n_k;
    for (size_t i = 0, run; i < n; i += run) { /* rows that follow one another at once */
        const size_t first = job->by_token ? train_token(tr, begin + i) : begin + i;
        run = job->by_token ? 1 : n;
        while (i + run < n && train_token(tr, begin + i + run) == first + run) {
            run++;
        }
        tr->kernels->pack(packed + i, job->x + first * job->ldx, job->ldx, run, job->n_k);
    }
}

float *train_pack(struct engine_trainer *tr, const float *x, size_t ldx, size_t n_k, bool by_token)
{
    struct pack_job job = {
        .packed = train_packed_take(tr, n_k), .x = x, .ldx = ldx, .n_k = n_k, .by_token = by_token};
    train_each(tr, train_tiles(tr), pack_unit, &job);
    return job.packed;
}

/* --- dropout --- */
struct drop_job {
    const struct train_group *group;
    uint16_t *kept;
    uint64_t tensor;
    float *masked; /* result (tokens, ldx) */
    bool draw;     /* forward draws, backward uses what was drawn */
};

static void draw_row(const struct engine_trainer *tr, const struct drop_job *job, size_t token,
                     uint16_t *kept)
{
    const uint64_t a = tr->step << 32 | tr->batch.row[token];
    const uint64_t b = job->tensor << 48 | (uint64_t)tr->batch.position[token] << 24;
    for (size_t i = 0; i < job->group->n_in; i += 4) {
        uint32_t words[4];
        rng_draw4(tr->plan.seed, RNG_DROPOUT, a, b | i / 4, words);
        for (size_t j = 0; j < 4; j++) {
            const uint16_t bit = (uint16_t)(1u << ((i + j) % 16));
            const float u = (float)(words[j] >> 8) * 0x1p-24f;
            kept[(i + j) / 16] = (uint16_t)(u < tr->plan.dropout ? kept[(i + j) / 16] & ~bit
                                                                 : kept[(i + j) / 16] | bit);
        }
    }
}

static void drop_unit(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    (void)lane;
    const struct drop_job *job = ctx;
    const size_t ld = job->group->ldx;
    uint16_t *kept = job->kept + unit * ld / 16;
    if (job->draw) {
        draw_row(tr, job, train_token(tr, unit), kept);
    }
    const size_t row = job->group->by_token ? train_token(tr, unit) : unit;
    tr->kernels->mask(job->masked + unit * ld, job->group->x + row * ld, kept,
                      1.0f / (1.0f - tr->plan.dropout), ld);
}

/* The input as the adapter of projection i sees it. */
static const float *adapter_input(struct engine_trainer *tr, const struct train_group *group, int i,
                                  bool draw)
{
    if (!tr->dropping) {
        return group->x;
    }
    const enum engine_target target = group->projs[i].target;
    struct drop_job job = {
        .group = group,
        .kept = group->save->kept[target],
        .tensor = group->layer * ENGINE_TARGET_COUNT + (uint64_t)target,
        .masked = tr->masked + (size_t)i * tr->dims.tokens * group->ldx,
        .draw = draw,
    };
    train_each(tr, tr->n_at, drop_unit, &job);
    return job.masked;
}

/* --- forward --- */
static void find_h(struct engine_trainer *tr, struct train_group *group)
{
    struct train_work work = {0};
    for (int i = 0; i < group->n_projs; i++) {
        const enum engine_target target = group->projs[i].target;
        if (!has_adapter(tr, group->layer, target)) {
            continue;
        }
        const float *x = adapter_input(tr, group, i, true);
        const float *packed =
            tr->dropping ? train_pack(tr, x, group->ldx, group->n_in, false) : group->x_packed;
        work.sums[work.n_sums++] = (struct train_sum){
            .c = group->save->h[target],
            .ldc = tr->dims.ld_rank,
            .n_tokens = tr->n_at,
            .n_terms = 1,
            .terms = {{.matrix = train_factor_matrix(factor_of(tr, group->layer, target)->a,
                                                     tr->dims.rank, group->n_in),
                       .x = packed}},
        };
    }
    if (work.n_sums > 0) {
        train_work_run(tr, &work);
    }
}

void train_group_forward(struct engine_trainer *tr, struct train_group *group)
{
    find_h(tr, group);
    struct train_work work = {.n_sums = group->n_projs};
    for (int i = 0; i < group->n_projs; i++) {
        const struct train_proj *proj = &group->projs[i];
        const struct weight *weight = &tr->model->layers[group->layer].proj[proj->target];
        struct train_sum *sum = &work.sums[i];
        *sum = (struct train_sum){
            .c = proj->y,
            .ldc = proj->ldy,
            .n_tokens = tr->n_at,
            .n_terms = 1,
            .terms = {{.matrix = train_frozen(weight), .x = group->x_packed}},
        };
        const float *bias = tr->model->layers[group->layer].bias[proj->target];
        if (bias != NULL) { /* a matrix of one column, which meets ones */
            sum->terms[sum->n_terms++] = (struct train_term){
                .matrix = train_factor_matrix(bias, weight->n_rows, 1),
                .x = tr->ones,
                .ldx = 1,
                .scale = 1.0f,
            };
        }
        if (has_adapter(tr, group->layer, proj->target)) {
            sum->terms[sum->n_terms++] = (struct train_term){
                .matrix = train_factor_matrix(factor_of(tr, group->layer, proj->target)->b,
                                              weight->n_rows, tr->dims.rank),
                .x = group->save->h[proj->target],
                .ldx = tr->dims.ld_rank,
                .scale = tr->adapter->lora.scale,
            };
        }
    }
    train_work_run(tr, &work);
}

/* --- backward --- */
/* h_grad = Bᵀ·dy of every adapter, then both it and the saved h times scale. */
static void find_h_grad(struct engine_trainer *tr, struct train_group *group)
{
    struct train_work work = {0};
    for (int i = 0; i < group->n_projs; i++) {
        const struct train_proj *proj = &group->projs[i];
        if (!has_adapter(tr, group->layer, proj->target)) {
            continue;
        }
        const size_t n_out = tr->model->layers[group->layer].proj[proj->target].n_rows;
        work.sums[work.n_sums++] = (struct train_sum){
            .c = tr->h_grad[proj->target],
            .ldc = tr->dims.ld_rank,
            .n_tokens = tr->n_at,
            .backward = true,
            .n_terms = 1,
            .terms = {{.matrix = train_factor_matrix(factor_of(tr, group->layer, proj->target)->b,
                                                     n_out, tr->dims.rank),
                       .x = proj->y_packed}},
        };
    }
    if (work.n_sums > 0) {
        train_work_run(tr, &work);
    }
    const size_t n = tr->n_at * tr->dims.ld_rank;
    for (int i = 0; i < group->n_projs; i++) {
        if (has_adapter(tr, group->layer, group->projs[i].target)) {
            const enum engine_target target = group->projs[i].target;
            if (tr->at == NULL) {
                train_unshare(tr, group->save->h[target], tr->dims.ld_rank);
            }
            tr->kernels->scale(tr->h_grad[target], tr->adapter->lora.scale, n);
            tr->kernels->scale(group->save->h[target], tr->adapter->lora.scale, n);
        }
    }
}

/* dB and dA of projection i. */
static void grow_factors(struct engine_trainer *tr, const struct train_group *group, int i,
                         struct train_work *work)
{
    const struct train_proj *proj = &group->projs[i];
    const struct train_factor *factor = factor_of(tr, group->layer, proj->target);
    const size_t n_out = tr->model->layers[group->layer].proj[proj->target].n_rows;
    work->outers[work->n_outers++] = (struct train_outer){
        .c = factor->b_grad,
        .ldc = tr->dims.rank,
        .x = proj->y,
        .ldx = proj->ldy,
        .w = group->save->h[proj->target],
        .ldw = tr->dims.ld_rank,
        .rows = n_out,
        .cols = tr->dims.rank,
        .n_tokens = tr->n_at,
    };
    work->outers[work->n_outers++] = (struct train_outer){
        .c = factor->a_grad,
        .ldc = group->n_in,
        .x = tr->h_grad[proj->target],
        .ldx = tr->dims.ld_rank,
        .w = adapter_input(tr, group, i, false),
        .ldw = group->ldx,
        .rows = tr->dims.rank,
        .cols = group->n_in,
        .n_tokens = tr->n_at,
    };
}

void train_group_backward(struct engine_trainer *tr, struct train_group *group, float *dx)
{
    struct train_work work = {0};
    find_h_grad(tr, group);
    struct train_sum *sum = &work.sums[0];
    *sum = (struct train_sum){.c = dx, .ldc = group->ldx, .n_tokens = tr->n_at, .backward = true};
    work.n_sums = dx != NULL;
    for (int i = 0; i < group->n_projs; i++) {
        const struct train_proj *proj = &group->projs[i];
        const bool adapted = has_adapter(tr, group->layer, proj->target);
        if (adapted) {
            grow_factors(tr, group, i, &work);
        }
        if (dx == NULL) {
            continue;
        }
        const struct weight *weight = &tr->model->layers[group->layer].proj[proj->target];
        sum->terms[sum->n_terms++] =
            (struct train_term){.matrix = train_frozen(weight), .x = proj->y_packed, .scale = 1.0f};
        if (adapted) {
            sum->terms[sum->n_terms++] = (struct train_term){
                .matrix = train_factor_matrix(factor_of(tr, group->layer, proj->target)->a,
                                              tr->dims.rank, group->n_in),
                .x = tr->h_grad[proj->target],
                .ldx = tr->dims.ld_rank,
                .scale = 1.0f,
                .kept = tr->dropping ? group->save->kept[proj->target] : NULL,
            };
        }
    }
    if (work.n_sums + work.n_outers > 0) {
        train_work_run(tr, &work);
    }
}
