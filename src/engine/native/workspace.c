/* The memory of engine_eval, allocated when the model is opened. */
#include "engine/native/forward_int.h"

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
    return tokens * (cols * 5 + blocks * 24 + LORA_H_MAX * sizeof(float)) + 1024;
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
    act->q.zero32 = arena_alloc(arena, tokens * blocks * 2, sizeof(int32_t));
    return act->x && act->h && act->q.q && act->q.d && act->q.dsum && act->q.zero8 &&
           act->q.zero128 && act->q.zero32;
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
