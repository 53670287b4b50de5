/* Attention of a pass: q and k normed where the model does that, turned, keys and values put into
 * pages, queries met with them. */
#include <string.h>

#include "engine/native/forward_int.h"

/* Norm over the whole of q, and of k, of this lane's share of tokens. */
static void norm_whole(const struct pass *pass, int lane, int lanes, int layer)
{
    const struct engine_model *m = pass->model;
    const struct layer *l = &m->layers[layer];
    size_t begin, end;
    pool_split((size_t)pass->n_tokens * 2, 1, lane, lanes, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const bool key = i % 2 != 0;
        const size_t n = key ? model_kv_dim(m) : model_q_dim(m);
        float *x = (key ? pass->w->k : pass->w->q) + i / 2 * n;
        m->kernels->rmsnorm(x, key ? l->k_norm : l->q_norm, m->rms_eps, n, x);
    }
}

/* Norm and rope of one head at its position. */
static void turn(const struct engine_model *m, const struct layer *l, const float *norm,
                 int position, float *x)
{
    const struct rope *rope = l->rope;
    if (norm != NULL && m->qk_norm == QK_NORM_HEAD) {
        m->kernels->rmsnorm(x, norm, m->rms_eps, (size_t)m->info.head_dim, x);
    }
    if (rope != NULL) {
        const size_t at = (size_t)position * (rope->dims / 2);
        m->kernels->rope(x, rope->cosines + at, rope->sines + at, rope->dims);
    }
}

/* This lane's share of tokens' heads turned, then their keys and values into pages. */
static void turn_and_store(struct pass *pass, int lane, int lanes, int layer)
{
    struct engine_model *m = pass->model;
    const struct layer *l = &m->layers[layer];
    const size_t hd = (size_t)m->info.head_dim;
    const int n_q = m->info.n_heads;
    const int n_kv = m->info.n_kv_heads;
    size_t begin, end;
    pool_split((size_t)pass->n_tokens * (size_t)(n_q + n_kv), 1, lane, lanes, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const int t = (int)i / (n_q + n_kv);
        const int head = (int)i % (n_q + n_kv);
        const struct token *token = &pass->w->tokens[t];
        if (head < n_q) {
            turn(m, l, l->q_norm, token->position,
                 pass->w->q + (size_t)t * model_q_dim(m) + (size_t)head * hd);
            continue;
        }
        const size_t at = (size_t)t * model_kv_dim(m) + (size_t)(head - n_q) * hd;
        turn(m, l, l->k_norm, token->position, pass->w->k + at);
        const struct kv_view kv = {token->session->pages, model_kv_offset(m, layer, head - n_q)};
        m->kernels->kv_store(&kv, (size_t)token->position, pass->w->k + at, pass->w->v + at, hd);
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
    m->kernels->attention(&kv, &m->layers[layer].attention, (size_t)count, queries, visible, rows,
                          scores, pass->w->scores_stride);
}

/* Queries of one token that meet a kv head's keys together, which are then read once: all that
 * share it, where that leaves enough tiles for every lane, else one by one. */
static int heads_of_one_token(const struct pass *pass, int lanes, int group)
{
    return pass->n_pieces * pass->model->info.n_kv_heads >= 2 * lanes ? group : 1;
}

/* Tiles are numbered piece by piece, tokens by heads; a lane takes the tiles of its share. */
static void attend(struct pass *pass, int lane, int lanes, int layer)
{
    const struct engine_model *m = pass->model;
    const int group = m->info.n_heads / m->info.n_kv_heads;
    const int of_one = heads_of_one_token(pass, lanes, group);
    int tile = 0;
    int t0 = 0;
    for (int p = 0; p < pass->n_pieces; p++) {
        const int n = pass->pieces[p].n_tokens;
        int heads = n == 1 ? of_one : group;
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

void pass_attention(struct pass *pass, int lane, int lanes, int layer)
{
    struct pool *pool = pass->model->pool;
    pool_barrier(pool, lane);
    if (pass->model->qk_norm == QK_NORM_WHOLE) {
        norm_whole(pass, lane, lanes, layer);
        pool_barrier(pool, lane);
    }
    turn_and_store(pass, lane, lanes, layer);
    pool_barrier(pool, lane);
    attend(pass, lane, lanes, layer);
    pool_barrier(pool, lane);
}
