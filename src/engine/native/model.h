/* The native engine's model: weights, vectors, rope tables, page pool and workspace of one base. */
#ifndef ENGINE_NATIVE_MODEL_H
#define ENGINE_NATIVE_MODEL_H

#include <stdint.h>

#include "base/thread.h"
#include "engine/engine.h"
#include "engine/native/packs.h"
#include "engine/native/pages.h"
#include "engine/native/weights.h"
#include "formats/model_files.h"
#include "kernels/kernels.h"

enum { MODEL_ROPES = 2 };

/* Cosines and sines of positions; layers share them. */
struct rope {
    size_t dims;            /* of each head, the first so many turn */
    float scale;            /* of cosines and sines; 1 but for LongRoPE and YaRN */
    float *inv_freq;        /* dims/2 */
    float *cosines, *sines; /* (context_length, dims/2), filled up to ready */
    int ready;
};

/* Vectors are NULL where the family has none. */
struct layer {
    struct weight proj[ENGINE_TARGET_COUNT];     /* by enum engine_target */
    const float *bias[ENGINE_TARGET_COUNT];      /* one for each row */
    const float *attn_norm, *ffn_norm;           /* d_model, on the way in */
    const float *attn_post_norm, *ffn_post_norm; /* d_model, on the way out */
    const float *q_norm, *k_norm;                /* by enum qk_norm */
    const struct rope *rope;
    struct attention_rule attention;
};

struct engine_session {
    struct engine_model *model;
    uint16_t **pages; /* each page's halves; room for context_length */
    size_t n_pages;
    int length;
};

struct engine_model {
    struct engine_info info;
    float rms_eps;
    enum qk_norm qk_norm;
    enum activation activation;
    float embedding_scale, residual_scale, logit_scale; /* 1 where there is none */
    float logit_cap;                                    /* 0: none */
    struct model_files *files;
    struct tokenizer *tokenizer;
    struct pool *pool;
    const struct kernels *kernels;

    struct layer *layers;
    struct weight embedding; /* (vocab, d_model), read by row */
    struct weight *output;   /* &embedding when tied, else &output_own */
    struct weight output_own;
    const float *final_norm;        /* d_model */
    float *vectors;                 /* behind all norm weights and biases */
    struct packs *packs;            /* behind all pack.data */
    struct rope ropes[MODEL_ROPES]; /* of all layers, or of full ones; of sliding ones */

    struct page_pool kv;
    struct workspace *workspace; /* of eval: forward.c */
};

static inline size_t model_q_dim(const struct engine_model *m)
{
    return (size_t)m->info.n_heads * (size_t)m->info.head_dim;
}
static inline size_t model_kv_dim(const struct engine_model *m)
{
    return (size_t)m->info.n_kv_heads * (size_t)m->info.head_dim;
}

/* Halves from a page's start to the K of (layer, kv_head). */
static inline size_t model_kv_offset(const struct engine_model *m, int layer, int kv_head)
{
    const size_t head = (size_t)layer * (size_t)m->info.n_kv_heads + (size_t)kv_head;
    return head * 2 * (size_t)m->info.head_dim * ENGINE_KV_PAGE_TOKENS;
}

/* --- model_vectors.c --- */
/* Norm weights and biases of all layers, widened, in Hugging Face's order. */
int model_load_vectors(struct engine_model *model, struct err *err) MUST_CHECK;

/* --- model_rope.c --- */
/* The tables' memory and frequencies, and each layer's rope. */
int model_make_ropes(struct engine_model *model, struct err *err) MUST_CHECK;
void model_free_ropes(struct engine_model *model);
/* Fills the rope tables for positions [0, n). Rule: angle = fp32 position × fp32 frequency. */
void model_rope_prepare(struct engine_model *model, int n);

/* Workspace of engine_eval, allocated at open. */
int workspace_new(struct workspace **workspace, const struct engine_model *model,
                  struct err *err) MUST_CHECK;
void workspace_free(struct workspace *workspace);
size_t workspace_bytes(const struct engine_model *model);

/* Makes sure the session has pages for n tokens, and may write from its length on; on failure it
 * keeps what it had. */
int session_reserve(struct engine_session *session, int n, struct err *err) MUST_CHECK;
/* Gives back the pages that no token of the session stands in. */
void session_trim(struct engine_session *session);

#endif
