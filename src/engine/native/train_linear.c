/* Products of training, as units that any lane may take.
 *
 * A unit is 32 outputs of one sum for a range of tokens. For each term it unpacks 256 chain steps
 * of the weights at a time into a panel (256, 32) that stays in the first cache, and runs all its
 * tokens past it. Where one run has few panels, tokens are split as well, which unpacks again but
 * keeps every lane busy.
 *
 * A chain longer than 256 is stored and taken up again between panels: same bits. A joined term
 * that cannot be finished in one go collects in the lane's `part` first.
 */
#include <assert.h>
#include <string.h>

#include "engine/native/train_int.h"
#include "formats/tensor_type.h"

enum {
    GRABS_PER_LANE = 16,   /* small units are taken several at a time */
    UNITS_PER_LANE = 4,    /* wanted at least, before tokens are split */
    SPLIT_TOKENS_MIN = 48, /* but no finer than this */
    OUTER_ROWS = 96,       /* of a factor's gradient in one unit */
    OUTER_COLS = 64
};

/* --- units over the pool --- */
struct each {
    struct engine_trainer *tr;
    train_unit fn;
    void *ctx;
    size_t n, grain;
    atomic_size_t next;
};

static void each_lane(void *ctx, int lane, int lanes)
{
    (void)lanes;
    struct each *each = ctx;
    for (;;) {
        const size_t begin =
            atomic_fetch_add_explicit(&each->next, each->grain, memory_order_relaxed);
        if (begin >= each->n) {
            return;
        }
        const size_t left = each->n - begin;
        const size_t end = begin + (left < each->grain ? left : each->grain);
        for (size_t unit = begin; unit < end; unit++) {
            each->fn(each->tr, each->ctx, unit, &each->tr->lanes[lane]);
        }
    }
}

void train_each(struct engine_trainer *tr, size_t n, train_unit fn, void *ctx)
{
    const size_t grain = n / ((size_t)pool_lanes(tr->pool) * GRABS_PER_LANE);
    struct each each = {.tr = tr, .fn = fn, .ctx = ctx, .n = n, .grain = grain > 0 ? grain : 1};
    atomic_init(&each.next, 0);
    pool_run(tr->pool, each_lane, &each);
}

float *train_packed_take(struct engine_trainer *tr, size_t n_k)
{
    const size_t tile = tr->kernels->tile_tokens;
    const size_t n_tiles = (tr->dims.tokens + tile - 1) / tile;
    float *p = tr->packed + tr->packed_used;
    tr->packed_used += n_tiles * tile * n_k;
    assert(tr->packed_used <= tr->dims.packed);
    return p;
}

/* --- panels --- */
static enum train_weight weight_kind(enum tensor_type type)
{
    switch (type) {
    case TENSOR_F16:
        return TRAIN_F16;
    case TENSOR_BF16:
        return TRAIN_BF16;
    case TENSOR_Q4_0:
        return TRAIN_Q4_0;
    case TENSOR_Q4_1:
        return TRAIN_Q4_1;
    case TENSOR_Q5_0:
        return TRAIN_Q5_0;
    case TENSOR_Q5_1:
        return TRAIN_Q5_1;
    case TENSOR_Q8_0:
        return TRAIN_Q8_0;
    case TENSOR_Q4_K:
        return TRAIN_Q4_K;
    case TENSOR_Q5_K:
        return TRAIN_Q5_K;
    case TENSOR_Q6_K:
        return TRAIN_Q6_K;
    default:
        assert(type == TENSOR_F32); /* weight_init lets no other pass */
        return TRAIN_F32;
    }
}

static void unpack_affine(const struct engine_trainer *tr, const struct weight *weight, size_t row,
                          size_t n_rows, size_t col, size_t n_cols, float *out, size_t ld)
{
    const struct tensor_view *view = &weight->view;
    const struct train_affine affine = {.quants = view->data,
                                        .scales = view->scales,
                                        .biases = view->biases,
                                        .row_bytes = weight->row_bytes,
                                        .scale_row_bytes = weight_scale_row_bytes(weight),
                                        .bits = view->type == TENSOR_MLX8 ? 8 : 4,
                                        .group = view->group,
                                        .scale_type = weight_kind(view->scale_type)};
    tr->kernels->unpack_affine(out, ld, &affine, row, col, n_rows, n_cols);
}

/* Unpacks rows [row, row + n_rows) × columns [col, col + n_cols). */
static void unpack(const struct engine_trainer *tr, struct train_lane *lane,
                   const struct train_matrix *matrix, size_t row, size_t n_rows, size_t col,
                   size_t n_cols, float *out, size_t ld)
{
    enum train_weight kind = TRAIN_F32;
    if (matrix->data != NULL) {
        for (size_t i = 0; i < n_rows; i++) {
            lane->rows_at[i] = (const uint8_t *)(matrix->data + (row + i) * matrix->n_cols);
        }
    } else if (pack_is_affine(matrix->frozen->pack.kind)) {
        assert(matrix->frozen->permuted_head == 0); /* only safetensors have such weights */
        unpack_affine(tr, matrix->frozen, row, n_rows, col, n_cols, out, ld);
        return;
    } else {
        kind = weight_kind(matrix->frozen->view.type);
        for (size_t i = 0; i < n_rows; i++) {
            lane->rows_at[i] = weight_row(matrix->frozen, row + i);
        }
    }
    tr->kernels->unpack[kind](out, ld, lane->rows_at, col, n_rows, n_cols);
}

/* lane->panel[k][i]: chain steps [k, k + n_k) of outputs [out, out + n_out). */
static void fill_panel(const struct engine_trainer *tr, struct train_lane *lane,
                       const struct train_matrix *matrix, bool backward, size_t out, size_t n_out,
                       size_t k, size_t n_k)
{
    if (!backward) {
        unpack(tr, lane, matrix, out, n_out, k, n_k, lane->rows, TRAIN_CHUNK);
        tr->kernels->transpose(lane->panel, lane->rows, n_out, n_k);
        return;
    }
    if (n_out < TRAIN_PANEL) {
        memset(lane->panel, 0, n_k * TRAIN_PANEL * sizeof(float));
    }
    unpack(tr, lane, matrix, k, n_k, out, n_out, lane->panel, TRAIN_PANEL);
}

/* --- sums --- */
static size_t outputs_of(const struct train_sum *sum)
{
    const struct train_matrix *matrix = &sum->terms[0].matrix;
    return sum->backward ? matrix->n_cols : matrix->n_rows;
}

static void join_part(const struct engine_trainer *tr, const struct train_lane *lane,
                      const struct train_sum *sum, const struct train_term *term, size_t out,
                      size_t n_lanes, size_t token, size_t n_tokens)
{
    const float keep = 1.0f / (1.0f - tr->plan.dropout);
    for (size_t t = 0; t < n_tokens; t++) {
        float *c = sum->c + (token + t) * sum->ldc + out;
        const float *part = lane->part + t * TRAIN_PANEL;
        if (term->kept != NULL) {
            tr->kernels->mask_add(c, part, term->kept + ((token + t) * sum->ldc + out) / 16, keep,
                                  n_lanes);
        } else {
            tr->kernels->join(c, term->scale, part, n_lanes);
        }
    }
}

static void run_term(const struct engine_trainer *tr, struct train_lane *lane,
                     const struct train_sum *sum, int index, size_t out, size_t token,
                     size_t n_tokens)
{
    const struct train_term *term = &sum->terms[index];
    const struct train_matrix *matrix = &term->matrix;
    const size_t n_chain = sum->backward ? matrix->n_rows : matrix->n_cols;
    const size_t left = outputs_of(sum) - out;
    const size_t n_out = left < TRAIN_PANEL ? left : TRAIN_PANEL;
    const size_t n_lanes = (n_out + TRAIN_LANES - 1) / TRAIN_LANES * TRAIN_LANES;
    const size_t tile = tr->kernels->tile_tokens;
    const bool join = index > 0;
    const bool collect = join && (n_chain > TRAIN_CHUNK || term->kept != NULL);
    const enum train_mode first = join && !collect ? TRAIN_JOIN : TRAIN_STORE;
    for (size_t k = 0; k < n_chain; k += TRAIN_CHUNK) {
        const size_t n_k = n_chain - k < TRAIN_CHUNK ? n_chain - k : TRAIN_CHUNK;
        fill_panel(tr, lane, matrix, sum->backward, out, n_out, k, n_k);
        const struct train_product product = {
            .c = collect ? lane->part : sum->c + token * sum->ldc + out,
            .ldc = collect ? TRAIN_PANEL : sum->ldc,
            .x = term->ldx ? term->x + token * term->ldx + k : term->x + token * n_chain + k * tile,
            .x_tile = n_chain * tile,
            .ldx = term->ldx,
            .w = lane->panel,
            .n_tokens = n_tokens,
            .n_k = n_k,
            .n_lanes = n_lanes,
            .mode = k > 0 ? TRAIN_CARRY : first,
            .scale = term->scale,
        };
        tr->kernels->product(&product);
    }
    if (collect) {
        join_part(tr, lane, sum, term, out, n_lanes, token, n_tokens);
    }
}

static size_t panels_of(const struct train_sum *sum)
{
    return (outputs_of(sum) + TRAIN_PANEL - 1) / TRAIN_PANEL;
}

static void run_sum(struct engine_trainer *tr, const struct train_sum *sum, size_t unit,
                    size_t tokens_each, struct train_lane *lane)
{
    const size_t n_panels = panels_of(sum);
    const size_t out = unit % n_panels * TRAIN_PANEL;
    const size_t token = unit / n_panels * tokens_each;
    const size_t left = sum->n_tokens - token;
    for (int i = 0; i < sum->n_terms; i++) {
        run_term(tr, lane, sum, i, out, token, left < tokens_each ? left : tokens_each);
    }
}

/* --- growth of factor gradients --- */
static size_t outer_units(const struct train_outer *outer)
{
    return outer->rows > outer->cols ? (outer->rows + OUTER_ROWS - 1) / OUTER_ROWS
                                     : (outer->cols + OUTER_COLS - 1) / OUTER_COLS;
}

static void run_outer(const struct engine_trainer *tr, const struct train_outer *outer, size_t unit)
{
    struct train_outer part = *outer;
    if (outer->rows > outer->cols) {
        const size_t row = unit * OUTER_ROWS;
        part.c += row * outer->ldc;
        part.x += row;
        part.rows = outer->rows - row < OUTER_ROWS ? outer->rows - row : OUTER_ROWS;
    } else {
        const size_t col = unit * OUTER_COLS;
        part.c += col;
        part.w += col;
        part.cols = outer->cols - col < OUTER_COLS ? outer->cols - col : OUTER_COLS;
    }
    tr->kernels->outer(&part);
}

/* --- one run of many --- */
struct work_units {
    struct train_work *work;
    size_t tokens_each;                            /* of a sum's unit */
    size_t n[TRAIN_JOBS_MAX + 2 * TRAIN_JOBS_MAX]; /* units of each job */
};

static void run_unit(struct engine_trainer *tr, void *ctx, size_t unit, struct train_lane *lane)
{
    const struct work_units *units = ctx;
    const struct train_work *work = units->work;
    int job = 0;
    while (unit >= units->n[job]) {
        unit -= units->n[job++];
    }
    if (job < work->n_sums) {
        run_sum(tr, &work->sums[job], unit, units->tokens_each, lane);
    } else {
        run_outer(tr, &work->outers[job - work->n_sums], unit);
    }
}

/* Tokens of one unit: all of them, or a share in whole tiles when there are few panels. */
static size_t share_tokens(const struct engine_trainer *tr, const struct train_work *work)
{
    size_t n_tokens = 0, n_panels = 0;
    for (int i = 0; i < work->n_sums; i++) {
        n_panels += panels_of(&work->sums[i]);
        n_tokens = work->sums[i].n_tokens;
    }
    const size_t wanted = (size_t)pool_lanes(tr->pool) * UNITS_PER_LANE;
    const size_t shares = n_panels > 0 ? (wanted + n_panels - 1) / n_panels : 1;
    size_t each = (n_tokens + shares - 1) / shares;
    if (each < SPLIT_TOKENS_MIN) {
        each = SPLIT_TOKENS_MIN;
    }
    const size_t tile = tr->kernels->tile_tokens;
    return (each + tile - 1) / tile * tile;
}

void train_work_run(struct engine_trainer *tr, struct train_work *work)
{
    struct work_units units = {.work = work, .tokens_each = share_tokens(tr, work)};
    size_t total = 0;
    int job = 0;
    for (int i = 0; i < work->n_sums; i++, job++) {
        const struct train_sum *sum = &work->sums[i];
        units.n[job] =
            panels_of(sum) * ((sum->n_tokens + units.tokens_each - 1) / units.tokens_each);
        total += units.n[job];
    }
    for (int i = 0; i < work->n_outers; i++, job++) {
        units.n[job] = outer_units(&work->outers[i]);
        total += units.n[job];
    }
    train_each(tr, total, run_unit, &units);
}
