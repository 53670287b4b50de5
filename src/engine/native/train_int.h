/* The trainer's inside: buffers, and the parts that a step is made of.
 *
 * The micro-step's rows lie one after another in buffers of tokens_max tokens; attention alone
 * looks at where a row starts. Rows that begin alike, as with one system prompt, give the same
 * values there: the forward computes each such token once, in a slot that they share. The backward
 * walks all tokens, since their gradients differ. Buffers are (tokens, leading dimension) with
 * leading dimensions rounded up to sixteen and zeros past the last column. Everything lives in one
 * block that train_layout cuts, so what is planned and what is allocated are one sum.
 *
 * Owner: the thread that owns the model. Parts run in parallel through train_each only, which hands
 * units to whichever lane is free; a unit writes outputs of its own, so who takes it changes no
 * bit.
 */
#ifndef ENGINE_NATIVE_TRAIN_INT_H
#define ENGINE_NATIVE_TRAIN_INT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "engine/native/adapter.h"
#include "engine/native/model.h"
#include "kernels/train_kernels.h"

enum {
    TRAIN_TOKENS_MAX = 1 << 16,
    TRAIN_LOGITS_BYTES = 43 << 20, /* logits in flight at once, and again as packed gradients */
    TRAIN_KEY_BLOCK = 528,         /* keys whose probabilities are kept at once in the backward */
    TRAIN_PROBS_BYTES = 16 << 20,  /* for those: heads are taken in groups that fit, at least one */
    TRAIN_TERMS_MAX = 6,
    TRAIN_JOBS_MAX = 8
};

/* Norms of one layer, and the last one's place behind those of all layers. */
enum train_norm_kind {
    TRAIN_NORM_ATTN,
    TRAIN_NORM_FFN,
    TRAIN_NORM_ATTN_POST,
    TRAIN_NORM_FFN_POST,
    TRAIN_NORMS
};

struct train_dims {
    size_t tokens;               /* tokens_max of the plan */
    size_t slice;                /* positions whose logits exist at once */
    size_t d, q, kv, ffn, vocab; /* widths */
    size_t ld_d, ld_q, ld_kv, ld_f, ld_vocab, ld_rank;
    size_t heads, kv_heads, group, head_dim, head_pad;
    size_t rank, first, layers; /* adapters sit on layers first … layers-1 */
    size_t probs;               /* floats of p (and of ds) per query head and key block */
    size_t kv_block;            /* key-value heads taken at once in the attention backward */
    size_t packed;              /* floats of packed inputs, most of any stage */
    size_t masked;              /* floats of inputs under dropout, most of any stage */
    unsigned targets;
    bool dropout;
    bool qk_norm, post_norm; /* whether their inputs are kept */
};

/* What the backward of one layer needs of the forward: (slots, …) where nothing else is said, and
 * behind the last layer's attention (targets, …). Room is for all tokens. */
struct train_save {
    float *x;                            /* (slots, ld_d) residual on the way in */
    float *q_raw, *k_raw;                /* (slots, ld_q), (slots, ld_kv) before their norm */
    float *q, *k, *v;                    /* (heads, tokens, head_pad) after rope */
    float *attn;                         /* (tokens, ld_q) */
    float *max, *sum;                    /* (heads, tokens) of the softmax */
    float *attn_out, *ffn_out;           /* (slots, ld_d) before the norm on the way out */
    float *mid;                          /* (slots, ld_d) residual after attention */
    float *gate, *up;                    /* (slots, ld_f) */
    float *h[ENGINE_TARGET_COUNT];       /* (slots, ld_rank) A·x; NULL without an adapter */
    uint16_t *kept[ENGINE_TARGET_COUNT]; /* (slots, ld/16) dropout's bits */
};

struct train_factor {
    const float *a, *b; /* (rank, in), (out, rank); NULL without an adapter */
    float *a_grad, *b_grad;
};

struct train_lane {
    const uint8_t *rows_at[TRAIN_CHUNK];
    float *rows;      /* (TRAIN_PANEL, TRAIN_STRIP) unpacked */
    float *panel;     /* (TRAIN_CHUNK, TRAIN_PANEL) */
    float *part;      /* (tokens, TRAIN_PANEL) */
    float *attention; /* scratch of the attention kernels */
    float *tile;      /* (TRAIN_QUERY_TILE, head_pad) */
};

/* A tile of queries, or of keys, of one row. */
struct train_tile {
    uint32_t start; /* first token of the row */
    uint32_t first; /* position of the tile's first token within the row */
    uint32_t n;
    uint32_t length; /* of the row */
    size_t probs;    /* where p of this tile starts in the current key block */
};

/* The rows of one micro-step, checked and flattened. */
struct train_batch {
    size_t n_tokens, n_rows, n_targets, n_tiles, n_key_tiles;
    size_t longest; /* tokens of the longest row */
    int32_t *token;
    uint32_t *position, *row; /* of each token: within its row; row_in_step */
    uint32_t *row_start;      /* of each row: its first token */
    size_t n_slots;
    uint32_t *slot;       /* of each token */
    uint32_t *slot_token; /* of each slot: the first token that has it */
    struct train_tile *tiles, *key_tiles;
    uint32_t *target_at; /* the token that predicts */
    int32_t *target;     /* what is to be predicted */
    float *losses;
};

struct engine_trainer {
    struct engine_model *model;
    struct engine_adapter *adapter;
    struct engine_train_plan plan;
    struct train_dims dims;
    const struct train_kernels *kernels;
    struct pool *pool;
    void *block;

    struct train_factor *factors; /* [layer * ENGINE_TARGET_COUNT + target] */
    float **gradients;            /* beside the adapter's tensors */
    float *gradient_data;
    size_t n_gradient;

    float *norms;             /* (TRAIN_NORMS · layers + 1, ld_d), by layer, then kind */
    float *ones;              /* (tokens): the input of biases */
    struct train_save *saves; /* layers first … */
    struct train_lane *lanes;
    struct train_batch batch;

    /* The positions in work and their tokens: slots in the forward, all tokens in the backward
     * (at NULL), and behind the last layer's attention, in both, only tokens that predict a target,
     * since nothing is asked of the others there. */
    size_t n_at;
    const uint32_t *at;

    float *x_last;                   /* (n_at, ld_d) residual after the last layer */
    float *normed, *y;               /* (tokens, ld_d) */
    float *q_flat, *k_flat, *v_flat; /* (tokens, ld_q), (tokens, ld_kv) twice */
    float *act, *act_grad;           /* (tokens, ld_f) */
    float *dx;                       /* (tokens, ld_d) gradient of the residual */
    float *attn_grad;                /* (tokens, ld_q) */
    float *out_grad, *q_grad;        /* (heads, tokens, head_pad) */
    float *k_grad, *v_grad;          /* (kv_heads, tokens, head_pad) */
    float *dots;                     /* (heads, tokens) */
    float *probs, *probs_grad;       /* (kv_block · group, dims.probs) */
    float *masked;                   /* inputs under dropout */
    float *packed;                   /* packed inputs of the stage in work */
    size_t packed_used;
    float *h_grad[ENGINE_TARGET_COUNT];         /* (tokens, ld_rank) */
    float *logits, *logits_packed;              /* (slice, ld_vocab) */
    float *slice_x, *slice_normed, *slice_grad; /* (slice, ld_d) */

    uint64_t step;   /* feeds dropout */
    bool dropping;   /* this call draws dropout */
    atomic_bool bad; /* a value that is not finite was met */
};

/* --- train_layout.c --- */
int train_dims_init(struct train_dims *dims, const struct engine_model *model,
                    const struct engine_lora *lora, const struct engine_train_plan *plan,
                    struct err *err) MUST_CHECK;
/* Cuts the block: sets every pointer of the trainer when base is not NULL. Returns its bytes. */
size_t train_layout(struct engine_trainer *trainer, int lanes, int n_tensors, uint8_t *base);

/* --- train_batch.c --- */
int train_batch_set(struct engine_trainer *trainer, const struct engine_row *rows, int n_rows,
                    struct err *err) MUST_CHECK;
/* Rows of x by token, ld floats each: those of tokens that predict come to the front, and back to
 * their places with zeros for all others. */
void train_narrow(const struct engine_trainer *trainer, float *x, size_t ld);
void train_widen(const struct engine_trainer *trainer, float *x, size_t ld);
/* Rows by slot become rows by token. */
void train_unshare(const struct engine_trainer *trainer, float *x, size_t ld);

/* --- train_linear.c --- */
typedef void (*train_unit)(struct engine_trainer *trainer, void *ctx, size_t unit,
                           struct train_lane *lane);
/* Runs units 0 … n-1 on the pool, each once, in no order. */
void train_each(struct engine_trainer *trainer, size_t n, train_unit fn, void *ctx);

struct train_matrix { /* (n_rows, n_cols): frozen, or a factor when data is set */
    const struct weight *frozen;
    const float *data;
    size_t n_rows, n_cols;
};
static inline struct train_matrix train_frozen(const struct weight *weight)
{
    return (struct train_matrix){
        .frozen = weight, .n_rows = weight->n_rows, .n_cols = weight->n_cols};
}
static inline struct train_matrix train_factor_matrix(const float *data, size_t rows, size_t cols)
{
    return (struct train_matrix){.data = data, .n_rows = rows, .n_cols = cols};
}

/* One product: the first term of a sum is stored; later ones are chains of their own, joined by
 * c = fma(scale, chain, c), or under dropout (kept set) by fma(keep or 0, chain, c). */
struct train_term {
    struct train_matrix matrix;
    const float *x; /* packed when ldx is 0, else rows ldx apart */
    size_t ldx;
    float scale;
    const uint16_t *kept;
};

/* c = the terms in order. Forward: outputs are the matrices' rows, chains run over columns;
 * backward: outputs are columns, chains run over rows. */
struct train_sum {
    float *c;
    size_t ldc, n_tokens;
    bool backward;
    int n_terms;
    struct train_term terms[TRAIN_TERMS_MAX];
};

/* All sums and all growths of factor gradients, in one parallel run. */
struct train_work {
    struct train_sum sums[TRAIN_JOBS_MAX];
    int n_sums;
    struct train_outer outers[2 * TRAIN_JOBS_MAX];
    int n_outers;
};
void train_work_run(struct engine_trainer *trainer, struct train_work *work);

/* Room for n_tokens_max × n_k packed values, free again after train_packed_clear. */
float *train_packed_take(struct engine_trainer *trainer, size_t n_k);
static inline void train_packed_clear(struct engine_trainer *trainer)
{
    trainer->packed_used = 0;
}

/* --- train_adapter.c: projections with their adapters --- */
/* One projection of a group that shares its input. */
struct train_proj {
    enum engine_target target;
    float *y; /* forward: result; backward: gradient of the result; (tokens, ldy) */
    size_t ldy;
    const float *y_packed; /* backward: y packed */
};
struct train_group {
    size_t layer;
    struct train_save *save;
    const float *x; /* the input, (positions, ldx) */
    bool by_token;  /* or (tokens, ldx) */
    size_t ldx, n_in;
    const float *x_packed; /* forward */
    struct train_proj projs[3];
    int n_projs;
};
/* y = Wx + scale · B(Ax) of every projection; keeps A·x in save. */
void train_group_forward(struct engine_trainer *trainer, struct train_group *group);
/* Grows the factors' gradients, and unless dx is NULL sets dx (tokens, ldx) to the gradient of the
 * input: base part, then adapter part, projection by projection in the group's order. */
void train_group_backward(struct engine_trainer *trainer, struct train_group *group, float *dx);

/* --- train_attention.c --- */
/* From what was projected: into q_raw and k_raw with norms of q and k, else q_flat and k_flat. */
void train_attention_forward(struct engine_trainer *trainer, size_t layer, struct train_save *save);
/* attn_grad → q_flat, k_flat, v_flat as gradients of the projections, and packed into
 * packed[0 … 2]. attn_grad is lost. */
void train_attention_backward(struct engine_trainer *trainer, size_t layer,
                              const struct train_save *save, float *const packed[3]);

/* --- train_forward.c, train_backward.c, train_loss.c --- */
/* Residual after the last layer, of positions that predict, into x_last. keep: every layer's save
 * is its own. */
void train_forward(struct engine_trainer *trainer, bool keep);
/* From dx (of x_last) down to the lowest adapter. */
void train_backward(struct engine_trainer *trainer);
/* Losses of all targets; with inverse_targets > 0 also dx. */
void train_loss(struct engine_trainer *trainer, float inverse_targets);

/* normed = norm of rows of x, or x where the family has no such norm; packed too unless packed is
 * NULL. */
void train_norm(struct engine_trainer *trainer, const float *x, size_t layer,
                enum train_norm_kind kind, float *packed);
/* The weights of a norm, padded to ld_d; NULL where the family has none. */
static inline const float *train_norm_weight(const struct engine_trainer *trainer, size_t layer,
                                             enum train_norm_kind kind)
{
    const struct layer *l = &trainer->model->layers[layer];
    const float *const there[TRAIN_NORMS] = {l->attn_norm, l->ffn_norm, l->attn_post_norm,
                                             l->ffn_post_norm};
    return there[kind] == NULL ? NULL
                               : trainer->norms + (layer * TRAIN_NORMS + kind) * trainer->dims.ld_d;
}
static inline const float *train_final_norm(const struct engine_trainer *trainer)
{
    return trainer->norms + trainer->dims.layers * TRAIN_NORMS * trainer->dims.ld_d;
}
/* activation(gate)·up: in rows into act if wanted, and packed unless packed is NULL. */
void train_act(struct engine_trainer *trainer, const struct train_save *save, bool rows,
               float *packed);
/* Rows of x packed; the positions' tokens say which when by_token is set, else they are in order.
 */
float *train_pack(struct engine_trainer *trainer, const float *x, size_t ldx, size_t n_k,
                  bool by_token);

/* From position in work to token. */
static inline size_t train_token(const struct engine_trainer *trainer, size_t position)
{
    return trainer->at == NULL ? position : trainer->at[position];
}

/* Where the forward left what belongs to a position in work: its row in the layer's save. */
static inline size_t train_saved(const struct engine_trainer *trainer, size_t position)
{
    return trainer->at == NULL ? trainer->batch.slot[position] : position;
}

/* Columns col … of rows that are n wide and padded to ld: those of one strip. */
struct train_strip {
    size_t n, padded;
};
static inline struct train_strip train_strip_at(size_t n, size_t ld, size_t col)
{
    return (struct train_strip){.n = n - col < TRAIN_STRIP ? n - col : TRAIN_STRIP,
                                .padded = ld - col < TRAIN_STRIP ? ld - col : TRAIN_STRIP};
}

/* Positions are walked in tiles where results are packed: tile `unit`'s first and how many. */
static inline size_t train_tiles(const struct engine_trainer *trainer)
{
    const size_t tile = trainer->kernels->tile_tokens;
    return (trainer->n_at + tile - 1) / tile;
}
static inline size_t train_tile_at(const struct engine_trainer *trainer, size_t unit, size_t *begin)
{
    const size_t tile = trainer->kernels->tile_tokens;
    *begin = unit * tile;
    const size_t left = trainer->n_at - *begin;
    return left < tile ? left : tile;
}

#endif
