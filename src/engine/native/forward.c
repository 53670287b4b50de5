/* engine_eval: one pass of a batch of pieces through the layers.
 *
 * All tokens of all pieces form one list; a token knows its session, position and adapter. The pool
 * runs layers_lane once per eval, and lanes meet at barriers between steps:
 *
 *   embed ─▶ ┌ norm, quantise ─▶ q k v ─▶ rope, store k v ─▶ attend ─▶ quantise ─▶ o, add ┐
 *            └ norm, quantise ─▶ gate up, act·up ─▶ quantise ─▶ down, add ◀───────────────┘ ×
 * layers ─▶ norm, quantise, output rows for the tokens whose logits are wanted
 *
 * What differs between families is a NULL or a number in struct layer and struct engine_model:
 * norms on the way in or out, norms of q and k, biases, ropes, windows, caps and scales.
 */
#include <string.h>

#include "engine/native/forward_int.h"
#include "kernels/det_math.h"

/* The input of a block: the residual, normed unless the family norms on the way out only. */
static void fill_residual(const struct pass *pass, const float *norm, size_t t, float *out)
{
    const struct engine_model *m = pass->model;
    const size_t d = (size_t)m->info.d_model;
    if (norm != NULL) {
        m->kernels->rmsnorm(pass->w->x + t * d, norm, m->rms_eps, d, out);
    } else {
        memcpy(out, pass->w->x + t * d, d * sizeof(float));
    }
}
static void fill_attn_norm(const struct pass *pass, int layer, size_t t, float *out)
{
    fill_residual(pass, pass->model->layers[layer].attn_norm, t, out);
}
static void fill_ffn_norm(const struct pass *pass, int layer, size_t t, float *out)
{
    fill_residual(pass, pass->model->layers[layer].ffn_norm, t, out);
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

static void run_layer(struct pass *pass, int lane, int lanes, int layer)
{
    struct pool *pool = pass->model->pool;
    struct workspace *w = pass->w;
    const struct layer *l = &pass->model->layers[layer];
    const size_t d = (size_t)pass->model->info.d_model;
    const size_t ffn = (size_t)pass->model->info.d_ffn;

    struct act in = pass_prepare(pass, lane, lanes, layer, d, fill_attn_norm, LORA_ATTENTION);
    pass_project(pass, lane, lanes, layer, ENGINE_Q_PROJ, &in, w->q);
    pass_project(pass, lane, lanes, layer, ENGINE_K_PROJ, &in, w->k);
    pass_project(pass, lane, lanes, layer, ENGINE_V_PROJ, &in, w->v);
    pass_attention(pass, lane, lanes, layer);
    in = pass_prepare(pass, lane, lanes, layer, model_q_dim(pass->model), fill_attended, LORA_O);
    pass_project_into_residual(pass, lane, lanes, layer, ENGINE_O_PROJ, &in, l->attn_post_norm);
    pool_barrier(pool, lane);

    in = pass_prepare(pass, lane, lanes, layer, d, fill_ffn_norm, LORA_FFN);
    pass_project(pass, lane, lanes, layer, ENGINE_GATE_PROJ, &in, w->gate);
    pass_project(pass, lane, lanes, layer, ENGINE_UP_PROJ, &in, w->up);
    pass_gate(pass, lane, lanes);
    pool_barrier(pool, lane);
    in = pass_prepare(pass, lane, lanes, layer, ffn, fill_gated, LORA_DOWN);
    pass_project_into_residual(pass, lane, lanes, layer, ENGINE_DOWN_PROJ, &in, l->ffn_post_norm);
    pool_barrier(pool, lane);
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
        if (m->embedding_scale != 1.0f) {
            m->kernels->scale_cap(pass->w->x + t * d, m->embedding_scale, 0.0f, d);
        }
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

static int pass_run(struct pass *pass, struct err *err)
{
    struct engine_model *model = pass->model;
    const int rc = pass_begin(pass, err);
    if (rc != 0) {
        return rc;
    }
    pool_run(model->pool, layers_lane, pass);
    pass_put_hidden(pass);
    pass->n_tokens = pass_gather_outputs(pass);
    pass->any_lora = false;
    if (pass->n_tokens > 0 && !atomic_load(&pass->not_finite)) {
        pool_run(model->pool, pass_output_lane, pass);
    }
    if (atomic_load(&pass->not_finite)) {
        return err_set(err, ERR_INVALID,
                       "a value is not finite: the weights or adapter are broken");
    }
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
    const int rc = pass_run(&pass, err);
    for (int p = 0; p < n_pieces; p++) {
        if (rc == 0) {
            pieces[p].session->length += pieces[p].n_tokens;
        } else {
            session_trim(pieces[p].session);
        }
    }
    return rc;
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
