/* The end of a pass: the last norm, and logits for the tokens that want any. */
#include <string.h>

#include "engine/native/forward_int.h"

void pass_put_hidden(struct pass *pass)
{
    const struct engine_model *m = pass->model;
    const size_t d = (size_t)m->info.d_model;
    size_t t0 = 0;
    for (int p = 0; p < pass->n_pieces; p++) {
        const struct engine_piece *piece = &pass->pieces[p];
        const size_t n = (size_t)piece->n_tokens;
        for (size_t t = 0; piece->hidden != NULL && t < n; t++) {
            m->kernels->rmsnorm(pass->w->x + (t0 + t) * d, m->final_norm, m->rms_eps, d,
                                piece->hidden + t * d);
        }
        if (piece->hidden != NULL && !m->kernels->all_finite(piece->hidden, n * d)) {
            atomic_store_explicit(&pass->not_finite, 1, memory_order_relaxed);
        }
        t0 += n;
    }
}

int pass_gather_outputs(struct pass *pass)
{
    float **rows = pass->w->rows;
    const size_t d = (size_t)pass->model->info.d_model;
    int n = 0;
    int t0 = 0;
    for (int p = 0; p < pass->n_pieces; p++) {
        const struct engine_piece *piece = &pass->pieces[p];
        const int first = piece->all_logits ? 0 : piece->n_tokens - 1;
        for (int t = first; piece->logits != NULL && t < piece->n_tokens; t++) {
            memmove(pass->w->x + (size_t)n * d, pass->w->x + (size_t)(t0 + t) * d,
                    d * sizeof(float));
            rows[n++] = piece->logits + (size_t)(t - first) * (size_t)pass->model->info.vocab_size;
        }
        t0 += piece->n_tokens;
    }
    return n;
}

static void fill_final_norm(const struct pass *pass, int layer, size_t t, float *out)
{
    (void)layer;
    const struct engine_model *m = pass->model;
    const size_t d = (size_t)m->info.d_model;
    m->kernels->rmsnorm(pass->w->x + t * d, m->final_norm, m->rms_eps, d, out);
}

/* Rows of logits are not one array, so panels go token by token where they are not adjacent. */
void pass_output_lane(void *ctx, int lane, int lanes)
{
    struct pass *pass = ctx;
    struct engine_model *m = pass->model;
    const struct pack *w = &m->output->pack;
    float **rows = pass->w->rows;
    const struct act in = pass_prepare(pass, lane, lanes, -1, (size_t)m->info.d_model,
                                       fill_final_norm, LORA_INPUT_COUNT);
    size_t begin, end;
    pool_split(pack_panels(w->n_rows), 1, lane, lanes, &begin, &end);
    const size_t n_blocks = in.q.n_cols / KERNEL_BLOCK;
    for (int t = 0; t < pass->n_tokens;) {
        int n = 1;
        while (t + n < pass->n_tokens && rows[t + n] == rows[t] + (size_t)n * w->n_rows) {
            n++;
        }
        if (pack_is_quantised(w->kind)) {
            const size_t at = (size_t)t;
            const struct qact q = {in.q.n_cols,
                                   in.q.q + at * in.q.n_cols,
                                   in.q.d + at * n_blocks,
                                   in.q.dsum + at * n_blocks,
                                   in.q.zero8 + at * n_blocks,
                                   in.q.zero128 + at * n_blocks,
                                   in.q.zero32 + at * n_blocks * 2};
            m->kernels->matmul_q(w, begin, end, &q, (size_t)n, rows[t], w->n_rows, false);
        } else {
            m->kernels->matmul_f(w, begin, end, in.x + (size_t)t * in.x_stride, in.x_stride,
                                 (size_t)n, rows[t], w->n_rows, false);
        }
        t += n;
    }
    pool_barrier(m->pool, lane);
    for (int t = lane; t < pass->n_tokens; t += lanes) {
        if (m->logit_scale != 1.0f || m->logit_cap > 0.0f) {
            m->kernels->scale_cap(rows[t], m->logit_scale, m->logit_cap, w->n_rows);
        }
        if (!m->kernels->all_finite(rows[t], w->n_rows)) {
            atomic_store_explicit(&pass->not_finite, 1, memory_order_relaxed);
        }
    }
}
