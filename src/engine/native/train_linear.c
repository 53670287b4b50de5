/* Products of training, as units that any lane may take.
 *
 * A unit is 32 outputs of one sum for a range of tokens; a lane takes up to four at once, and fewer
 * towards the end of a run. For each term and up to 576 chain steps it unpacks their weights into a
 * panel (chain steps, 32) and runs all its tokens past it; their part of x stays in the second
 * cache for the next panel. Where one run has few panels, tokens are split as well, which unpacks
 * again but keeps every lane busy.
 *
 * A longer chain is stored and taken up again between panels: same bits. A joined term that cannot
 * be finished in one go collects in the lane's `part` first.
 */
#include <assert.h>
#include <string.h>

#include "engine/native/train_int.h"
#include "formats/tensor_type.h"

enum {
    GRABS_PER_LANE = 16,   /* small units are taken several at a time */
    SHARES_PER_LANE = 2,   /* of what is left, one is taken */
    UNITS_PER_LANE = 4,    /* wanted at least, before tokens are split */
    SPLIT_TOKENS_MIN = 48, /* but no finer than this */
    TRAIN_BLOCK = 32,      /* columns that can be unpacked alone */
    PANELS_MAX = 4,        /* at once: what they write stays in the second cache, too */
    OUTER_ROWS = 96,       /* of a factor's gradient in one unit */
    OUTER_COLS = 64
};

/* --- units over the pool --- */

/* Units [begin, end). */
typedef void (*train_range)(struct engine_trainer *tr, void *ctx, size_t begin, size_t end,
                            struct train_lane *lane);

struct each {
    struct engine_trainer *tr;
    train_range fn;
    void *ctx;
    size_t n, most; /* units, and how many are taken at once */
    atomic_size_t next;
};

/* Takes a share of what is left, so that lanes end together however fast each of them is. */
static void each_lane(void *ctx, int lane, int lanes)
{
    struct each *each = ctx;
    for (;;) {
        const size_t at = atomic_load_explicit(&each->next, memory_order_relaxed);
        const size_t share = at < each->n ? (each->n - at) / ((size_t)lanes * SHARES_PER_LANE) : 0;
        const size_t taken = share < 1 ? 1 : share < each->most ? share : each->most;
        const size_t begin = atomic_fetch_add_explicit(&each->next, taken, memory_order_relaxed);
        if (begin >= each->n) {
            return;
        }
        const size_t left = each->n - begin;
        each->fn(each->tr, each->ctx, begin, begin + (left < taken ? left : taken),
                 &each->tr->lanes[lane]);
    }
}

static void each_range(struct engine_trainer *tr, size_t n, size_t most, train_range fn, void *ctx)
{
    struct each each = {.tr = tr, .fn = fn, .ctx = ctx, .n = n, .most = most};
    atomic_init(&each.next, 0);
    pool_run(tr->pool, each_lane, &each);
}

struct units {
    train_unit fn;
    void *ctx;
};

static void run_units(struct engine_trainer *tr, void *ctx, size_t begin, size_t end,
                      struct train_lane *lane)
{
    const struct units *units = ctx;
    for (size_t unit = begin; unit < end; unit++) {
        units->fn(tr, units->ctx, unit, lane);
    }
}

void train_each(struct engine_trainer *tr, size_t n, train_unit fn, void *ctx)
{
    struct units units = {.fn = fn, .ctx = ctx};
    each_range(tr, n, n / ((size_t)pool_lanes(tr->pool) * GRABS_PER_LANE) + 1, run_units, &units);
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
        weight_rows(matrix->frozen, row, n_rows, lane->rows_at);
    }
    tr->kernels->unpack[kind](out, ld, lane->rows_at, col, n_rows, n_cols);
}

/* lane->panel[k][i]: chain steps [k, k + n_k) of outputs [out, out + n_out). */
static void fill_panel(const struct engine_trainer *tr, struct train_lane *lane,
                       const struct train_matrix *matrix, bool backward, size_t out, size_t n_out,
                       size_t k, size_t n_k)
{
    if (!backward) {
        for (size_t at = 0; at < n_k; at += TRAIN_STRIP) {
            const size_t n = n_k - at < TRAIN_STRIP ? n_k - at : TRAIN_STRIP;
            unpack(tr, lane, matrix, out, n_out, k + at, n, lane->rows, TRAIN_STRIP);
            tr->kernels->transpose(lane->panel + at * TRAIN_PANEL, lane->rows, n_out, n);
        }
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

/* Outputs [out, end) of a unit's tokens. */
struct block {
    size_t out, end, token, n_tokens;
};

static size_t whole_lanes(size_t n_out)
{
    return (n_out + TRAIN_LANES - 1) / TRAIN_LANES * TRAIN_LANES;
}

/* Outputs of the block's panel at `out`: the last may have fewer. */
static size_t panel_outputs(const struct block *at, size_t out)
{
    return at->end - out < TRAIN_PANEL ? at->end - out : TRAIN_PANEL;
}

static void join_part(const struct engine_trainer *tr, const struct train_lane *lane,
                      const struct train_sum *sum, const struct train_term *term, size_t out,
                      const struct block *at)
{
    const float keep = 1.0f / (1.0f - tr->plan.dropout);
    const size_t n_lanes = whole_lanes(panel_outputs(at, out));
    for (size_t t = 0; t < at->n_tokens; t++) {
        float *c = sum->c + (at->token + t) * sum->ldc + out;
        const float *part = lane->part + t * TRAIN_PANEL;
        if (term->kept != NULL) {
            tr->kernels->mask_add(c, part, term->kept + ((at->token + t) * sum->ldc + out) / 16,
                                  keep, n_lanes);
        } else {
            tr->kernels->join(c, term->scale, part, n_lanes);
        }
    }
}

/* Chain steps of a panel, whole blocks of any weight type: as few panels as there can be, of one
 * size, since each stores what the next one takes up. */
static size_t panel_steps(size_t n_chain)
{
    const size_t n_panels = (n_chain + TRAIN_CHUNK - 1) / TRAIN_CHUNK;
    const size_t even = (n_chain + n_panels - 1) / n_panels;
    return (even + TRAIN_BLOCK - 1) / TRAIN_BLOCK * TRAIN_BLOCK;
}

/* One panel past all tokens: up to n_k chain steps from k on. */
static void run_panel(const struct engine_trainer *tr, struct train_lane *lane,
                      const struct train_sum *sum, int index, const struct block *at, size_t out,
                      size_t k, size_t n_k, bool collect)
{
    const struct train_term *term = &sum->terms[index];
    const struct train_matrix *matrix = &term->matrix;
    const size_t n_chain = sum->backward ? matrix->n_rows : matrix->n_cols;
    n_k = n_chain - k < n_k ? n_chain - k : n_k;
    const size_t n_out = panel_outputs(at, out);
    const size_t tile = tr->kernels->tile_tokens;
    const enum train_mode first = index > 0 && !collect ? TRAIN_JOIN : TRAIN_STORE;
    fill_panel(tr, lane, matrix, sum->backward, out, n_out, k, n_k);
    const struct train_product product = {
        .c = collect ? lane->part : sum->c + at->token * sum->ldc + out,
        .ldc = collect ? TRAIN_PANEL : sum->ldc,
        .x = term->ldx ? term->x + at->token * term->ldx + k
                       : term->x + at->token * n_chain + k * tile,
        .x_tile = n_chain * tile,
        .ldx = term->ldx,
        .w = lane->panel,
        .n_tokens = at->n_tokens,
        .n_k = n_k,
        .n_lanes = whole_lanes(n_out),
        .mode = k > 0 ? TRAIN_CARRY : first,
        .scale = term->scale,
    };
    tr->kernels->product(&product);
}

static void run_term(const struct engine_trainer *tr, struct train_lane *lane,
                     const struct train_sum *sum, int index, const struct block *at)
{
    const struct train_term *term = &sum->terms[index];
    const size_t n_chain = sum->backward ? term->matrix.n_rows : term->matrix.n_cols;
    const size_t steps = panel_steps(n_chain);
    if (index > 0 && (n_chain > steps || term->kept != NULL)) {
        for (size_t out = at->out; out < at->end; out += TRAIN_PANEL) {
            for (size_t k = 0; k < n_chain; k += steps) {
                run_panel(tr, lane, sum, index, at, out, k, steps, true);
            }
            join_part(tr, lane, sum, term, out, at);
        }
        return;
    }
    for (size_t k = 0; k < n_chain; k += steps) {
        for (size_t out = at->out; out < at->end; out += TRAIN_PANEL) {
            run_panel(tr, lane, sum, index, at, out, k, steps, false);
        }
    }
}

static size_t panels_of(const struct train_sum *sum)
{
    return (outputs_of(sum) + TRAIN_PANEL - 1) / TRAIN_PANEL;
}

/* Panels [panel, panel + n) for tokens [token, token + n_tokens) or as many as there are. */
static void run_sum(struct engine_trainer *tr, const struct train_sum *sum, size_t panel, size_t n,
                    size_t token, size_t n_tokens, struct train_lane *lane)
{
    const size_t n_out = outputs_of(sum), end = (panel + n) * TRAIN_PANEL;
    const size_t left = sum->n_tokens - token;
    const struct block at = {.out = panel * TRAIN_PANEL,
                             .end = n_out < end ? n_out : end,
                             .token = token,
                             .n_tokens = left < n_tokens ? left : n_tokens};
    for (int i = 0; i < sum->n_terms; i++) {
        run_term(tr, lane, sum, i, &at);
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
    size_t tokens;                                 /* of a unit of a sum */
    size_t n[TRAIN_JOBS_MAX + 2 * TRAIN_JOBS_MAX]; /* units of each job */
};

/* A sum's units are its panels, for each share of the tokens; those of one share that were taken
 * together pass over the tokens together. */
static void run_jobs(struct engine_trainer *tr, void *ctx, size_t begin, size_t end,
                     struct train_lane *lane)
{
    const struct work_units *units = ctx;
    const struct train_work *work = units->work;
    int job = 0;
    for (size_t n = 0, left = end - begin; left > 0; left -= n, begin += n) {
        while (begin >= units->n[job]) {
            begin -= units->n[job++];
        }
        if (job < work->n_sums) {
            const size_t n_panels = panels_of(&work->sums[job]), panel = begin % n_panels;
            n = n_panels - panel < left ? n_panels - panel : left;
            run_sum(tr, &work->sums[job], panel, n, begin / n_panels * units->tokens, units->tokens,
                    lane);
        } else {
            n = 1;
            run_outer(tr, &work->outers[job - work->n_sums], begin);
        }
    }
}

/* All tokens where there are many panels; where there are few, a share of them in whole tiles. */
static size_t tokens_of(const struct engine_trainer *tr, const struct train_work *work)
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
    struct work_units units = {.work = work, .tokens = tokens_of(tr, work)};
    size_t total = 0;
    int job = 0;
    for (int i = 0; i < work->n_sums; i++, job++) {
        const struct train_sum *sum = &work->sums[i];
        units.n[job] = panels_of(sum) * ((sum->n_tokens + units.tokens - 1) / units.tokens);
        total += units.n[job];
    }
    for (int i = 0; i < work->n_outers; i++, job++) {
        units.n[job] = outer_units(&work->outers[i]);
        total += units.n[job];
    }
    each_range(tr, total, PANELS_MAX, run_jobs, &units);
}
