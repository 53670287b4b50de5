/* engine_eval: one pass of a batch of pieces through the layers.
 *
 * All tokens of all pieces form one list; a token knows its session, position and adapter. The pool
 * runs forward_lane once per eval, and lanes meet at barriers between steps:
 *
 *   embed ─▶ ┌ norm, quantise ─▶ q k v ─▶ rope, store k v ─▶ attend ─▶ quantise ─▶ o, add ┐
 *            └ norm, quantise ─▶ gate up, silu·up ─▶ quantise ─▶ down, add ◀──────────────┘ ×
 * layers ─▶ norm, quantise, output rows for the tokens whose logits are wanted
 *
 * Invariants
 *   1. Every output is one chain over its inputs, computed by one lane: lanes split rows or tokens,
 *      never a sum.
 *   2. A token's results depend on its own session and adapter only, so batch mates, chunks and
 *      lanes leave no trace.
 *   3. Steps that prepare the input of a product are done by every lane for itself when the batch
 * is small (no barrier, same bits), else split over tokens with a barrier.
 *   4. Sessions' lengths move only after the whole pass has succeeded.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "engine/native/adapter.h"
#include "engine/native/model.h"
#include "kernels/det_math.h"

enum { ALONE_TOKENS = 4 }; /* up to this many tokens every lane prepares its own input */

/* The input of a product in both forms: fp32 for float weights and adapters, 8 bits for the rest.
 */
struct act {
    float *x; /* (tokens, x_stride) */
    size_t x_stride;
    struct qact q;
    float *h; /* (tokens, LORA_H_MAX): A·x of all projections that share the input */
};

struct token {
    struct engine_session *session;
    const struct lora_packs *lora;
    float lora_scale;
    int32_t id;
    int position;
};

struct workspace {
    float *x;         /* (tokens, d_model): the residual stream */
    float *q, *k, *v; /* (tokens, q_dim), (tokens, kv_dim) × 2 */
    float *gate, *up; /* (tokens, d_ffn) */
    float **rows;     /* ENGINE_EVAL_TOKENS_MAX: where logits go, of the tokens that want any */
    float *scores;    /* per lane: (KERNEL_QUERY_TILE, context rounded up) */
    size_t scores_stride;
    struct act shared;    /* the whole batch */
    struct act *alone;    /* per lane, ALONE_TOKENS */
    struct token *tokens; /* ENGINE_EVAL_TOKENS_MAX */
    struct arena arena;   /* behind all of it */
};

struct pass {
    struct engine_model *model;
    struct workspace *w;
    struct engine_piece *pieces;
    int n_pieces;
    int n_tokens;
    bool any_lora;
    atomic_int not_finite;
};

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t widest_input(const struct engine_model *m)
{
    return max_size(max_size((size_t)m->info.d_model, (size_t)m->info.d_ffn), model_q_dim(m));
}

static size_t scores_stride(const struct engine_model *m)
{
    return ((size_t)m->info.context_length + 15) / 16 * 16;
}

/* Floats are counted for both: what estimate and allocation must agree on. */
static size_t act_bytes(size_t cols, size_t tokens)
{
    const size_t blocks = cols / KERNEL_BLOCK + 1;
    return tokens * (cols * 5 + blocks * 16 + LORA_H_MAX * sizeof(float)) + 1024;
}

size_t workspace_bytes(const struct engine_model *m)
{
    const size_t t = ENGINE_EVAL_TOKENS_MAX;
    const size_t lanes = (size_t)m->info.threads;
    const size_t floats = t * ((size_t)m->info.d_model + model_q_dim(m) + 2 * model_kv_dim(m) +
                               (size_t)m->info.d_ffn + widest_input(m)) +
                          lanes * KERNEL_QUERY_TILE * scores_stride(m);
    return floats * sizeof(float) + act_bytes(widest_input(m), t) +
           lanes * act_bytes(widest_input(m), ALONE_TOKENS) +
           t * (sizeof(struct token) + sizeof(float *)) + 65536;
}

static float *floats(struct arena *arena, size_t n)
{
    return arena_alloc(arena, n, sizeof(float));
}

static bool act_alloc(struct arena *arena, size_t cols, size_t tokens, struct act *act)
{
    const size_t blocks = cols / KERNEL_BLOCK + 1;
    act->x = floats(arena, tokens * cols);
    act->h = floats(arena, tokens * LORA_H_MAX);
    act->q.q = arena_alloc(arena, tokens * cols, 1);
    act->q.d = floats(arena, tokens * blocks);
    act->q.dsum = floats(arena, tokens * blocks);
    act->q.zero8 = arena_alloc(arena, tokens * blocks, sizeof(int32_t));
    act->q.zero128 = arena_alloc(arena, tokens * blocks, sizeof(int32_t));
    return act->x && act->h && act->q.q && act->q.d && act->q.dsum && act->q.zero8 &&
           act->q.zero128;
}

int workspace_new(struct workspace **out, const struct engine_model *m, struct err *err)
{
    const size_t t = ENGINE_EVAL_TOKENS_MAX;
    const size_t lanes = (size_t)m->info.threads;
    const size_t widest = widest_input(m);
    struct workspace *w = mem_calloc(1, sizeof *w);
    if (w == NULL) {
        return mem_err(err, sizeof *w);
    }
    arena_init(&w->arena, 0);
    w->scores_stride = scores_stride(m);
    w->x = floats(&w->arena, t * (size_t)m->info.d_model);
    w->q = floats(&w->arena, t * model_q_dim(m));
    w->k = floats(&w->arena, t * model_kv_dim(m));
    w->v = floats(&w->arena, t * model_kv_dim(m));
    w->gate = floats(&w->arena, t * (size_t)m->info.d_ffn);
    w->up = floats(&w->arena, t * widest);
    w->rows = arena_alloc(&w->arena, t, sizeof *w->rows);
    w->scores = floats(&w->arena, lanes * KERNEL_QUERY_TILE * w->scores_stride);
    w->tokens = arena_alloc(&w->arena, t, sizeof *w->tokens);
    w->alone = arena_alloc(&w->arena, lanes, sizeof *w->alone);
    bool ok = w->x && w->q && w->k && w->v && w->gate && w->up && w->rows && w->scores &&
              w->tokens && w->alone && act_alloc(&w->arena, widest, t, &w->shared);
    for (size_t i = 0; ok && i < lanes; i++) {
        ok = act_alloc(&w->arena, widest, ALONE_TOKENS, &w->alone[i]);
    }
    if (!ok) {
        workspace_free(w);
        return mem_err(err, workspace_bytes(m));
    }
    *out = w;
    return 0;
}

void workspace_free(struct workspace *w)
{
    if (w != NULL) {
        arena_release(&w->arena);
        mem_free(w);
    }
}

/* --- preparing the input of products -------------------------------------------------------- */

/* What fills one token's row of an input; `out` has room for the widest. */
typedef void (*fill_fn)(const struct pass *pass, int layer, size_t token, float *out);

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

/* Fills and quantises the input of every token, and applies the adapters' A when input is one of
 * theirs. The copy that is returned holds strides for this step; the arrays are the workspace's. */
static struct act prepare(struct pass *pass, int lane, int lanes, int layer, size_t cols,
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

static void fill_attn_norm(const struct pass *pass, int layer, size_t t, float *out)
{
    const struct engine_model *m = pass->model;
    const size_t d = (size_t)m->info.d_model;
    m->kernels->rmsnorm(pass->w->x + t * d, m->layers[layer].attn_norm, m->rms_eps, d, out);
}
static void fill_ffn_norm(const struct pass *pass, int layer, size_t t, float *out)
{
    const struct engine_model *m = pass->model;
    const size_t d = (size_t)m->info.d_model;
    m->kernels->rmsnorm(pass->w->x + t * d, m->layers[layer].ffn_norm, m->rms_eps, d, out);
}
/* Attention leaves its result where q was. */
static void fill_attended(const struct pass *pass, int layer, size_t t, float *out)
{
    (void)layer;
    const size_t n = model_q_dim(pass->model);
    memcpy(out, pass->w->q + (size_t)t * n, n * sizeof(float));
}
static void fill_gated(const struct pass *pass, int layer, size_t t, float *out)
{
    (void)layer;
    const size_t n = (size_t)pass->model->info.d_ffn;
    memcpy(out, pass->w->gate + (size_t)t * n, n * sizeof(float));
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

/* This lane's rows of y = W·x (+ adapter), for one projection. */
static void project(const struct pass *pass, int lane, int lanes, int layer,
                    enum engine_target target, const struct act *act, float *y)
{
    const struct weight *w = &pass->model->layers[layer].proj[target];
    size_t begin, end;
    pool_split(pack_panels(w->n_rows), 1, lane, lanes, &begin, &end);
    multiply(pass, &w->pack, begin, end, act, y, false);
    if (pass->any_lora) {
        add_lora(pass, layer, target, w->n_rows, begin, end, act, y);
    }
}

/* This lane's rows of x += W·act (+ adapter): the end of both halves of a layer. */
static void project_into_residual(const struct pass *pass, int lane, int lanes, int layer,
                                  enum engine_target target, const struct act *act)
{
    struct workspace *ws = pass->w;
    const struct weight *w = &pass->model->layers[layer].proj[target];
    size_t begin, end;
    pool_split(pack_panels(w->n_rows), 1, lane, lanes, &begin, &end);
    if (!pass->any_lora) {
        multiply(pass, &w->pack, begin, end, act, ws->x, true);
        return;
    }
    float *y = ws->up; /* free at both places, and wide enough for d_model */
    multiply(pass, &w->pack, begin, end, act, y, false);
    add_lora(pass, layer, target, w->n_rows, begin, end, act, y);
    const size_t row = begin * KERNEL_LANES;
    const size_t row_end = end * KERNEL_LANES < w->n_rows ? end * KERNEL_LANES : w->n_rows;
    for (size_t t = 0; t < (size_t)pass->n_tokens && row < row_end; t++) {
        pass->model->kernels->axpy(ws->x + t * w->n_rows + row, 1.0f, y + t * w->n_rows + row,
                                   row_end - row);
    }
}

/* --- attention ------------------------------------------------------------------------------ */

/* Rope on this lane's share of tokens' heads, then their keys and values into pages. */
static void rope_and_store(struct pass *pass, int lane, int lanes, int layer)
{
    struct engine_model *m = pass->model;
    const struct kernels *kn = m->kernels;
    const size_t hd = (size_t)m->info.head_dim;
    const int n_q = m->info.n_heads;
    const int n_kv = m->info.n_kv_heads;
    size_t begin, end;
    pool_split((size_t)pass->n_tokens * (size_t)(n_q + n_kv), 1, lane, lanes, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const int t = (int)i / (n_q + n_kv);
        const int head = (int)i % (n_q + n_kv);
        const struct token *token = &pass->w->tokens[t];
        const float *c = m->rope_cos + (size_t)token->position * (hd / 2);
        const float *s = m->rope_sin + (size_t)token->position * (hd / 2);
        if (head < n_q) {
            kn->rope(pass->w->q + (size_t)t * model_q_dim(m) + (size_t)head * hd, c, s, hd);
            continue;
        }
        const size_t at = (size_t)t * model_kv_dim(m) + (size_t)(head - n_q) * hd;
        kn->rope(pass->w->k + at, c, s, hd);
        const struct kv_view kv = {token->session->pages, model_kv_offset(m, layer, head - n_q)};
        kn->kv_store(&kv, (size_t)token->position, pass->w->k + at, pass->w->v + at, hd);
    }
}

/* Queries of `heads` heads from `head` on, all of one kv head, for tokens [t, t+n) of one piece. */
static void attend_tile(struct pass *pass, int lane, int layer, int t, int n, int head, int heads)
{
    struct engine_model *m = pass->model;
    const size_t hd = (size_t)m->info.head_dim;
    const int kv_head = head / (m->info.n_heads / m->info.n_kv_heads);
    float *rows[KERNEL_QUERY_TILE];
    const float *queries[KERNEL_QUERY_TILE];
    float copies[KERNEL_QUERY_TILE][KERNEL_HEAD_DIM_MAX];
    size_t visible[KERNEL_QUERY_TILE];
    int count = 0;
    for (int i = 0; i < n; i++) {
        for (int h = 0; h < heads; h++) {
            rows[count] = pass->w->q + (size_t)(t + i) * model_q_dim(m) + (size_t)(head + h) * hd;
            memcpy(copies[count], rows[count], hd * sizeof(float));
            queries[count] = copies[count];
            visible[count] = (size_t)pass->w->tokens[t + i].position + 1;
            count++;
        }
    }
    const struct kv_view kv = {pass->w->tokens[t].session->pages,
                               model_kv_offset(m, layer, kv_head)};
    float *scores = pass->w->scores + (size_t)lane * KERNEL_QUERY_TILE * pass->w->scores_stride;
    m->kernels->attention(&kv, hd, m->attention_scale, (size_t)count, queries, visible, rows,
                          scores, pass->w->scores_stride);
}

/* Tiles are numbered piece by piece, tokens by heads; a lane takes the tiles of its share. A single
 * token's heads go one by one, so that lanes share the work evenly. */
static void attend(struct pass *pass, int lane, int lanes, int layer)
{
    const struct engine_model *m = pass->model;
    const int group = m->info.n_heads / m->info.n_kv_heads;
    int tile = 0;
    int t0 = 0;
    for (int p = 0; p < pass->n_pieces; p++) {
        const int n = pass->pieces[p].n_tokens;
        int heads = n == 1 ? 1 : group;
        if (heads > KERNEL_QUERY_TILE) {
            heads = 1;
        }
        const int per_tile = KERNEL_QUERY_TILE / heads;
        for (int t = 0; t < n; t += per_tile) {
            const int tokens = n - t < per_tile ? n - t : per_tile;
            for (int head = 0; head < m->info.n_heads; head += heads) {
                if (tile++ % lanes == lane) {
                    attend_tile(pass, lane, layer, t0 + t, tokens, head, heads);
                }
            }
        }
        t0 += n;
    }
}

/* --- the pass ------------------------------------------------------------------------------- */

/* This lane's rows of gate = silu(gate)·up; the same rows that it has just projected. */
static void gate(const struct pass *pass, int lane, int lanes)
{
    const size_t ffn = (size_t)pass->model->info.d_ffn;
    size_t begin, end;
    pool_split(pack_panels(ffn), 1, lane, lanes, &begin, &end);
    begin *= KERNEL_LANES;
    end = end * KERNEL_LANES < ffn ? end * KERNEL_LANES : ffn;
    for (size_t t = 0; t < (size_t)pass->n_tokens && begin < end; t++) {
        pass->model->kernels->silu_mul(pass->w->gate + t * ffn + begin,
                                       pass->w->up + t * ffn + begin, end - begin);
    }
}

static void run_layer(struct pass *pass, int lane, int lanes, int layer)
{
    struct pool *pool = pass->model->pool;
    struct workspace *w = pass->w;
    const size_t d = (size_t)pass->model->info.d_model;
    const size_t ffn = (size_t)pass->model->info.d_ffn;

    struct act in = prepare(pass, lane, lanes, layer, d, fill_attn_norm, LORA_ATTENTION);
    project(pass, lane, lanes, layer, ENGINE_Q_PROJ, &in, w->q);
    project(pass, lane, lanes, layer, ENGINE_K_PROJ, &in, w->k);
    project(pass, lane, lanes, layer, ENGINE_V_PROJ, &in, w->v);
    pool_barrier(pool, lane);
    rope_and_store(pass, lane, lanes, layer);
    pool_barrier(pool, lane);
    attend(pass, lane, lanes, layer);
    pool_barrier(pool, lane);
    in = prepare(pass, lane, lanes, layer, model_q_dim(pass->model), fill_attended, LORA_O);
    project_into_residual(pass, lane, lanes, layer, ENGINE_O_PROJ, &in);
    pool_barrier(pool, lane);

    in = prepare(pass, lane, lanes, layer, d, fill_ffn_norm, LORA_FFN);
    project(pass, lane, lanes, layer, ENGINE_GATE_PROJ, &in, w->gate);
    project(pass, lane, lanes, layer, ENGINE_UP_PROJ, &in, w->up);
    gate(pass, lane, lanes);
    pool_barrier(pool, lane);
    in = prepare(pass, lane, lanes, layer, ffn, fill_gated, LORA_DOWN);
    project_into_residual(pass, lane, lanes, layer, ENGINE_DOWN_PROJ, &in);
    pool_barrier(pool, lane);
}

/* The tokens whose logits are wanted, moved to the front of x; w->tokens is done with. */
static int gather_outputs(struct pass *pass)
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
static void output_lane(void *ctx, int lane, int lanes)
{
    struct pass *pass = ctx;
    struct engine_model *m = pass->model;
    const struct pack *w = &m->output->pack;
    float **rows = pass->w->rows;
    const struct act in =
        prepare(pass, lane, lanes, -1, (size_t)m->info.d_model, fill_final_norm, LORA_INPUT_COUNT);
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
                                   in.q.zero128 + at * n_blocks};
            m->kernels->matmul_q(w, begin, end, &q, (size_t)n, rows[t], w->n_rows, false);
        } else {
            m->kernels->matmul_f(w, begin, end, in.x + (size_t)t * in.x_stride, in.x_stride,
                                 (size_t)n, rows[t], w->n_rows, false);
        }
        t += n;
    }
    pool_barrier(m->pool, lane);
    for (int t = lane; t < pass->n_tokens; t += lanes) {
        if (!m->kernels->all_finite(rows[t], w->n_rows)) {
            atomic_store_explicit(&pass->not_finite, 1, memory_order_relaxed);
        }
    }
}

static void layers_lane(void *ctx, int lane, int lanes)
{
    struct pass *pass = ctx;
    struct engine_model *m = pass->model;
    const size_t d = (size_t)m->info.d_model;
    size_t begin, end;
    pool_split((size_t)pass->n_tokens, 1, lane, lanes, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        weight_dequant_row(&m->embedding, (size_t)pass->w->tokens[t].id, pass->w->x + t * d);
    }
    pool_barrier(m->pool, lane);
    for (int layer = 0; layer < m->info.n_layers; layer++) {
        run_layer(pass, lane, lanes, layer);
    }
}

static int check_piece(const struct engine_model *m, const struct engine_piece *piece,
                       struct err *err)
{
    const int length = piece->session->length;
    if (piece->n_tokens < 1 || piece->n_tokens > m->info.context_length - length) {
        return err_set(err, ERR_INVALID, "%d tokens after %d do not fit the context of %d",
                       piece->n_tokens, length, m->info.context_length);
    }
    for (int i = 0; i < piece->n_tokens; i++) {
        if (piece->tokens[i] < 0 || piece->tokens[i] >= m->info.vocab_size) {
            return err_set(err, ERR_INVALID, "token %d is outside the vocabulary of %d",
                           (int)piece->tokens[i], m->info.vocab_size);
        }
    }
    return session_reserve(piece->session, length + piece->n_tokens, err);
}

static int piece_lora(const struct engine_piece *piece, const struct lora_packs **out,
                      struct err *err)
{
    *out = NULL;
    if (piece->adapter == NULL) {
        return 0;
    }
    /* The packed form is a cache inside the adapter; the model's thread is its only user. */
    struct engine_adapter *adapter = (struct engine_adapter *)(uintptr_t)piece->adapter;
    if (adapter->serving == NULL) {
        const int rc = lora_packs_new(&adapter->serving, adapter, err);
        if (rc != 0) {
            return rc;
        }
    }
    *out = adapter->serving;
    return 0;
}

/* Checks every piece, reserves its pages and lists its tokens. */
static int pass_begin(struct pass *pass, struct err *err)
{
    struct engine_model *m = pass->model;
    int furthest = 0;
    for (int p = 0; p < pass->n_pieces; p++) {
        const struct engine_piece *piece = &pass->pieces[p];
        if (piece->n_tokens > ENGINE_EVAL_TOKENS_MAX - pass->n_tokens) {
            return err_set(err, ERR_INVALID, "more than %d tokens in one eval",
                           ENGINE_EVAL_TOKENS_MAX);
        }
        const struct lora_packs *lora;
        int rc = check_piece(m, piece, err);
        if (rc == 0) {
            rc = piece_lora(piece, &lora, err);
        }
        if (rc != 0) {
            return rc;
        }
        pass->any_lora = pass->any_lora || lora != NULL;
        for (int i = 0; i < piece->n_tokens; i++) {
            struct token *token = &pass->w->tokens[pass->n_tokens++];
            token->session = piece->session;
            token->lora = lora;
            token->lora_scale = lora != NULL ? piece->adapter->lora.scale : 0.0f;
            token->id = piece->tokens[i];
            token->position = piece->session->length + i;
            furthest = token->position + 1 > furthest ? token->position + 1 : furthest;
        }
    }
    model_rope_prepare(m, furthest);
    return 0;
}

int engine_eval(struct engine_model *model, struct engine_piece *pieces, int n_pieces,
                struct err *err)
{
    struct pass pass = {
        .model = model, .w = model->workspace, .pieces = pieces, .n_pieces = n_pieces};
    if (n_pieces < 1 || n_pieces > ENGINE_PIECES_MAX) {
        return err_set(err, ERR_INVALID, "%d pieces in one eval; 1 to %d are taken", n_pieces,
                       ENGINE_PIECES_MAX);
    }
    const int rc = pass_begin(&pass, err);
    if (rc != 0) {
        return rc;
    }
    pool_run(model->pool, layers_lane, &pass);
    pass.n_tokens = gather_outputs(&pass);
    pass.any_lora = false;
    if (pass.n_tokens > 0 && !atomic_load(&pass.not_finite)) {
        pool_run(model->pool, output_lane, &pass);
    }
    if (atomic_load(&pass.not_finite)) {
        return err_set(err, ERR_INVALID,
                       "a value is not finite: the weights or adapter are broken");
    }
    for (int p = 0; p < n_pieces; p++) {
        pieces[p].session->length += pieces[p].n_tokens;
    }
    return 0;
}

int engine_softmax(const struct engine_model *model, float *logits, struct err *err)
{
    if (!model->kernels->softmax(logits, (size_t)model->info.vocab_size)) {
        return err_set(err, ERR_INVALID, "a logit is not finite");
    }
    return 0;
}

float engine_log_probability(const struct engine_model *model, const float *logits, int32_t id)
{
    float max;
    const float sum = model->kernels->exp_sum(logits, (size_t)model->info.vocab_size, &max);
    return (logits[id] - max) - (float)det_log((double)sum);
}
