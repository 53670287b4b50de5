/* What the parts of engine_eval share: one pass of a batch of tokens through the layers.
 *
 *   forward.c            the pass: pieces checked, layers run, lengths moved
 *   forward_linear.c     inputs prepared, products, adapters, biases, residuals
 *   forward_attention.c  norms of q and k, rope, pages, attention
 *   forward_output.c     logits
 *   workspace.c          the memory of all of it
 *
 * Invariants
 *   1. Every output is one chain over its inputs, computed by one lane: lanes split rows or tokens,
 *      never a sum.
 *   2. A token's results depend on its own session and adapter only, so batch mates, chunks and
 *      lanes leave no trace.
 *   3. Steps that prepare the input of a product are done by every lane for itself when the batch
 *      is small (no barrier, same bits), else split over tokens with a barrier.
 *   4. Sessions' lengths move only after the whole pass has succeeded.
 *
 * All functions here run on every lane of the pool at once, each on its share.
 */
#ifndef ENGINE_NATIVE_FORWARD_INT_H
#define ENGINE_NATIVE_FORWARD_INT_H

#include <stdatomic.h>

#include "base/mem.h"
#include "engine/native/adapter.h"
#include "engine/native/model.h"

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

/* --- forward_linear.c --- */
/* What fills one token's row of an input; `out` has room for the widest. */
typedef void (*fill_fn)(const struct pass *pass, int layer, size_t token, float *out);

/* Fills and quantises the input of every token, and applies the adapters' A when input is one of
 * theirs. The copy that is returned holds strides for this step; the arrays are the workspace's. */
struct act pass_prepare(struct pass *pass, int lane, int lanes, int layer, size_t cols,
                        fill_fn fill, enum lora_input input);
/* This lane's rows of y = W·x (+ bias, + adapter), for one projection. */
void pass_project(const struct pass *pass, int lane, int lanes, int layer,
                  enum engine_target target, const struct act *act, float *y);
/* The end of both halves of a layer: x += scale · norm(W·act + bias + adapter), without what the
 * model has not. The caller's barrier follows. */
void pass_project_into_residual(const struct pass *pass, int lane, int lanes, int layer,
                                enum engine_target target, const struct act *act,
                                const float *norm);
/* gate = activation(gate)·up in this lane's rows, the same that it has just projected. */
void pass_gate(const struct pass *pass, int lane, int lanes);

/* --- forward_attention.c --- */
/* From projected q, k, v to attention's result in q's place; a barrier before and after. */
void pass_attention(struct pass *pass, int lane, int lanes, int layer);

/* --- forward_output.c --- */
/* Hidden states of the pieces that want them; before the next, which moves rows. */
void pass_put_hidden(struct pass *pass);
/* The tokens whose logits are wanted, moved to the front of x; w->tokens is done with. */
int pass_gather_outputs(struct pass *pass);
/* Logits of the gathered tokens; a task of the pool, ctx is the pass. */
void pass_output_lane(void *ctx, int lane, int lanes);

#endif
