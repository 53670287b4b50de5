/* Products of a pass: their inputs prepared, adapters and biases added, blocks joined to the
 * residual. A linear layer is y = W·x, then + bias, then fma(scale, B·(A·x), y). */
#include "engine/native/forward_int.h"

/* How many tokens from t on, before `end`, share t's adapter. */
static size_t lora_run(const struct pass *pass, size_t t, size_t end)
{
    size_t n = 1;
    while (t + n < end && pass->w->tokens[t + n].lora == pass->w->tokens[t].lora) {
        n++;
    }
    return n;
}

static void apply_a(const struct pass *pass, const struct act *act, int layer,
                    enum lora_input input, size_t begin, size_t end)
{
    for (size_t t = begin; t < end;) {
        const size_t n = lora_run(pass, t, end);
        const struct lora_packs *lora = pass->w->tokens[t].lora;
        const struct pack *a = lora != NULL ? &lora->layers[layer].a[input] : NULL;
        if (a != NULL && a->data != NULL) {
            pass->model->kernels->matmul_f(a, 0, pack_panels(a->n_rows), act->x + t * act->x_stride,
                                           act->x_stride, n, act->h + t * LORA_H_MAX, LORA_H_MAX,
                                           false);
        }
        t += n;
    }
}

struct act pass_prepare(struct pass *pass, int lane, int lanes, int layer, size_t cols,
                        fill_fn fill, enum lora_input input)
{
    const struct kernels *kn = pass->model->kernels;
    const bool alone = pass->n_tokens <= ALONE_TOKENS;
    struct act act = alone ? pass->w->alone[lane] : pass->w->shared;
    act.x_stride = cols;
    act.q.n_cols = cols;
    size_t begin = 0;
    size_t end = (size_t)pass->n_tokens;
    if (!alone) {
        pool_split(end, 1, lane, lanes, &begin, &end);
    }
    for (size_t t = begin; t < end; t++) {
        float *x = act.x + t * cols;
        fill(pass, layer, t, x);
        const bool finite = cols % KERNEL_BLOCK == 0 ? kn->quantise(x, &act.q, t, 0, cols)
                                                     : kn->all_finite(x, cols);
        if (!finite) {
            atomic_store_explicit(&pass->not_finite, 1, memory_order_relaxed);
        }
    }
    if (pass->any_lora && input != LORA_INPUT_COUNT) {
        apply_a(pass, &act, layer, input, begin, end);
    }
    if (!alone) {
        pool_barrier(pass->model->pool, lane);
    }
    return act;
}

/* --- products ------------------------------------------------------------------------------- */

static void multiply(const struct pass *pass, const struct pack *w, size_t begin, size_t end,
                     const struct act *act, float *y, bool add)
{
    const struct kernels *kn = pass->model->kernels;
    const size_t n = (size_t)pass->n_tokens;
    if (pack_is_quantised(w->kind)) {
        kn->matmul_q(w, begin, end, &act->q, n, y, w->n_rows, add);
    } else {
        kn->matmul_f(w, begin, end, act->x, act->x_stride, n, y, w->n_rows, add);
    }
}

/* Adds scale·B·h to rows of panels [begin, end) for every token that has an adapter. */
static void add_lora(const struct pass *pass, int layer, enum engine_target target, size_t n_rows,
                     size_t begin, size_t end, const struct act *act, float *y)
{
    const size_t n_tokens = (size_t)pass->n_tokens;
    for (size_t t = 0; t < n_tokens;) {
        const size_t n = lora_run(pass, t, n_tokens);
        const struct lora_packs *lora = pass->w->tokens[t].lora;
        const struct lora_layer *l = lora != NULL ? &lora->layers[layer] : NULL;
        if (l != NULL && l->b[target].data != NULL) {
            pass->model->kernels->matmul_axpy(
                &l->b[target], begin, end, act->h + t * LORA_H_MAX + l->h_at[target], LORA_H_MAX, n,
                pass->w->tokens[t].lora_scale, y + t * n_rows, n_rows);
        }
        t += n;
    }
}

static void add_bias(const struct pass *pass, const float *bias, size_t n_rows, size_t begin,
                     size_t end, float *y)
{
    const size_t row = begin * KERNEL_LANES;
    const size_t row_end = end * KERNEL_LANES < n_rows ? end * KERNEL_LANES : n_rows;
    for (size_t t = 0; t < (size_t)pass->n_tokens && row < row_end; t++) {
        pass->model->kernels->axpy(y + t * n_rows + row, 1.0f, bias + row, row_end - row);
    }
}

/* Rows of panels [begin, end) of the whole linear layer. */
static void linear(const struct pass *pass, int layer, enum engine_target target, size_t begin,
                   size_t end, const struct act *act, float *y)
{
    const struct layer *l = &pass->model->layers[layer];
    const struct weight *w = &l->proj[target];
    multiply(pass, &w->pack, begin, end, act, y, false);
    if (l->bias[target] != NULL) {
        add_bias(pass, l->bias[target], w->n_rows, begin, end, y);
    }
    if (pass->any_lora) {
        add_lora(pass, layer, target, w->n_rows, begin, end, act, y);
    }
}

void pass_project(const struct pass *pass, int lane, int lanes, int layer,
                  enum engine_target target, const struct act *act, float *y)
{
    size_t begin, end;
    pool_split(pack_panels(pass->model->layers[layer].proj[target].n_rows), 1, lane, lanes, &begin,
               &end);
    linear(pass, layer, target, begin, end, act, y);
}

/* x += scale · norm(y), token by token, once all rows of y are there. */
static void join_normed(const struct pass *pass, int lane, int lanes, float *y, const float *norm)
{
    const struct engine_model *m = pass->model;
    const size_t d = (size_t)m->info.d_model;
    size_t begin, end;
    pool_barrier(m->pool, lane);
    pool_split((size_t)pass->n_tokens, 1, lane, lanes, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        m->kernels->rmsnorm(y + t * d, norm, m->rms_eps, d, y + t * d);
        m->kernels->axpy(pass->w->x + t * d, m->residual_scale, y + t * d, d);
    }
}

void pass_project_into_residual(const struct pass *pass, int lane, int lanes, int layer,
                                enum engine_target target, const struct act *act, const float *norm)
{
    const struct engine_model *m = pass->model;
    struct workspace *ws = pass->w;
    const struct layer *l = &m->layers[layer];
    const struct weight *w = &l->proj[target];
    size_t begin, end;
    pool_split(pack_panels(w->n_rows), 1, lane, lanes, &begin, &end);
    const bool plain = l->bias[target] == NULL && norm == NULL && m->residual_scale == 1.0f;
    if (plain && !pass->any_lora) {
        multiply(pass, &w->pack, begin, end, act, ws->x, true);
        return;
    }
    float *y = ws->up; /* free at both places, and wide enough for d_model */
    linear(pass, layer, target, begin, end, act, y);
    if (norm != NULL) {
        join_normed(pass, lane, lanes, y, norm);
        return;
    }
    const size_t row = begin * KERNEL_LANES;
    const size_t row_end = end * KERNEL_LANES < w->n_rows ? end * KERNEL_LANES : w->n_rows;
    for (size_t t = 0; t < (size_t)pass->n_tokens && row < row_end; t++) {
        m->kernels->axpy(ws->x + t * w->n_rows + row, m->residual_scale, y + t * w->n_rows + row,
                         row_end - row);
    }
}

void pass_gate(const struct pass *pass, int lane, int lanes)
{
    const size_t ffn = (size_t)pass->model->info.d_ffn;
    const struct kernels *kn = pass->model->kernels;
    const bool gelu = pass->model->activation == ACTIVATION_GELU_TANH;
    size_t begin, end;
    pool_split(pack_panels(ffn), 1, lane, lanes, &begin, &end);
    begin *= KERNEL_LANES;
    end = end * KERNEL_LANES < ffn ? end * KERNEL_LANES : ffn;
    for (size_t t = 0; t < (size_t)pass->n_tokens && begin < end; t++) {
        (gelu ? kn->gelu_mul : kn->silu_mul)(pass->w->gate + t * ffn + begin,
                                             pass->w->up + t * ffn + begin, end - begin);
    }
}
