/* Products of training, as units that any lane may take.
 *
 * A unit is up to 128 outputs of one sum for a range of tokens. For each term it unpacks 256 chain
 * steps of 32 outputs at a time into a panel (256, 32) that stays in the first cache, and runs all
 * its tokens past it; their part of x stays in the second for the unit's other panels. Where one
 * run has few panels, units are smaller, and tokens are split as well, which unpacks again but
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
    TRAIN_BLOCK = 32,      /* columns that can be unpacked alone */
    PANELS_MAX = 4,        /* of one unit: what they write stays in the second cache, too */
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

/* How a run is cut into units. */
struct cut {
    size_t outputs; /* of a unit of a sum: whole panels */
    size_t tokens;
};

static size_t blocks_of(const struct train_sum *sum, size_t outputs_each)
{
    return (outputs_of(sum) + outputs_each - 1) / outputs_each;
}

static void run_sum(struct engine_trainer *tr, const struct train_sum *sum, size_t unit,
                    const struct cut *cut, struct train_lane *lane)
{
    const size_t n_blocks = blocks_of(sum, cut->outputs), n_out = outputs_of(sum);
    const size_t out = unit % n_blocks * cut->outputs, token = unit / n_blocks * cut->tokens;
    const size_t left = sum->n_tokens - token;
    const struct block at = {.out = out,
                             .end = n_out - out < cut->outputs ? n_out : out + cut->outputs,
                             .token = token,
                             .n_tokens = left < cut->tokens ? left : cut->tokens};
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
    struct cut cut;
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
        run_sum(tr, &work->sums[job], unit, &units->cut, lane);
    } else {
        run_outer(tr, &work->outers[job - work->n_sums], unit);
    }
}

/* Several panels of all tokens where there are many, so that a part of x that was fetched serves
 * them all; where there are few, one panel, of a share of the tokens in whole tiles. */
static struct cut cut_work(const struct engine_trainer *tr, const struct train_work *work)
{
    size_t n_tokens = 0, n_panels = 0;
    for (int i = 0; i < work->n_sums; i++) {
        n_panels += blocks_of(&work->sums[i], TRAIN_PANEL);
        n_tokens = work->sums[i].n_tokens;
    }
    const size_t wanted = (size_t)pool_lanes(tr->pool) * UNITS_PER_LANE;
    const size_t shares = n_panels > 0 ? (wanted + n_panels - 1) / n_panels : 1;
    const size_t panels = n_panels / wanted;
    size_t each = (n_tokens + shares - 1) / shares;
    if (each < SPLIT_TOKENS_MIN) {
        each = SPLIT_TOKENS_MIN;
    }
    const size_t tile = tr->kernels->tile_tokens;
    return (struct cut){.outputs = TRAIN_PANEL * (panels < 1            ? 1
                                                  : panels > PANELS_MAX ? PANELS_MAX
                                                                        : panels),
                        .tokens = (each + tile - 1) / tile * tile};
}

void train_work_run(struct engine_trainer *tr, struct train_work *work)
{
    struct work_units units = {.work = work, .cut = cut_work(tr, work)};
    size_t total = 0;
    int job = 0;
    for (int i = 0; i < work->n_sums; i++, job++) {
        const struct train_sum *sum = &work->sums[i];
        units.n[job] = blocks_of(sum, units.cut.outputs) *
                       ((sum->n_tokens + units.cut.tokens - 1) / units.cut.tokens);
        total += units.n[job];
    }
    for (int i = 0; i < work->n_outers; i++, job++) {
        units.n[job] = outer_units(&work->outers[i]);
        total += units.n[job];
    }
    train_each(tr, total, run_unit, &units);
}
