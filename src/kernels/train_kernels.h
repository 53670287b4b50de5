/* Training kernels: fp32 products over weights that are unpacked as they are needed, the rows of
 * norms, rope, activation and loss, and attention with its backward.
 *
 * One `struct train_kernels` per instruction set; all give the same bits (numerics rules): every
 * output is one FMA chain in a fixed order and sixteen outputs share a vector, so tiles, blocks and
 * threads are free to change. Everything takes raw pointers and sizes, allocates nothing and cannot
 * fail. Any thread may call any kernel on disjoint outputs.
 *
 * Activations are (tokens, columns), row-major, with a leading dimension that is a multiple of
 * sixteen; columns past the last hold zeros and kernels keep them so. Heads of q, k and v are kept
 * head by head, (tokens, head_pad) with head_pad = head_dim rounded up to sixteen.
 */
#ifndef KERNELS_TRAIN_KERNELS_H
#define KERNELS_TRAIN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TRAIN_LANES = 16,     /* leading dimensions are multiples of this */
    TRAIN_PANEL = 32,     /* outputs of one product call: columns of an unpacked weight panel */
    TRAIN_CHUNK = 576,    /* chain steps for which a panel is unpacked at once, at most */
    TRAIN_STRIP = 128,    /* of these, how many are turned at once: rows stay in the first cache */
    TRAIN_TILE_MAX = 12,  /* tokens of a packed tile, at most */
    TRAIN_QUERY_TILE = 16 /* queries that attention takes at once, one a lane */
};

/* How weights lie in the file; blocks are GGUF's. */
enum train_weight {
    TRAIN_F32,
    TRAIN_F16,
    TRAIN_BF16,
    TRAIN_Q4_0,
    TRAIN_Q4_1,
    TRAIN_Q5_0,
    TRAIN_Q5_1,
    TRAIN_Q8_0,
    TRAIN_Q4_K,
    TRAIN_Q5_K,
    TRAIN_Q6_K,
    TRAIN_WEIGHT_COUNT
};

/* A matrix of MLX's affine quantisation: quants of 4 or 8 bits from the low end of little-endian
 * words, a scale and a bias (value = scale·q + bias, two roundings) for each `group` columns. */
struct train_affine {
    const uint8_t *quants, *scales, *biases;
    size_t row_bytes, scale_row_bytes;
    unsigned bits, group;
    enum train_weight scale_type; /* TRAIN_F32, TRAIN_F16 or TRAIN_BF16 */
};

enum train_mode {
    TRAIN_STORE, /* c = chain from zero */
    TRAIN_CARRY, /* the chain goes on from what c holds */
    TRAIN_JOIN   /* c = fma(scale, chain from zero, c) */
};

/* c[t][i] for t < n_tokens, i < n_lanes (16 or 32): a chain of fma(w[k][i], x[t][k], …) over rising
 * k < n_k. x is packed (see pack) and points at the first k wanted. */
struct train_product {
    float *c;
    size_t ldc;
    const float *x;
    size_t x_tile;  /* floats between tiles: all packed columns × tile_tokens */
    size_t ldx;     /* 0, or: x is not packed, its rows are ldx apart (for short chains) */
    const float *w; /* (n_k, TRAIN_PANEL) */
    size_t n_tokens, n_k, n_lanes;
    enum train_mode mode;
    float scale; /* for TRAIN_JOIN */
};

/* c[i][j] goes on in its chain of fma(x[t][i], w[t][j], …) over rising t < n_tokens: how gradients
 * of factors grow. i < rows, j < cols; c is exactly (rows, cols) with ldc; x and w rows lie ldx and
 * ldw apart and may be read up to the next multiple of sixteen columns. */
struct train_outer {
    float *c;
    size_t ldc;
    const float *x;
    size_t ldx;
    const float *w;
    size_t ldw;
    size_t rows, cols, n_tokens;
};

/* One tile of queries of one head. Keys and values are those of one row of the batch, (tokens,
 * head_pad), position 0 first; query i of the tile has position first + i and sees keys 0 … first +
 * i, of these the last `window` unless it is 0. A scaled score s becomes soft_cap·tanh(s/soft_cap)
 * unless that is 0. `scratch` is TRAIN_ATTENTION_SCRATCH(keys) floats. */
struct train_attention {
    size_t head_dim, head_pad;
    size_t first, n_queries; /* n_queries ≤ TRAIN_QUERY_TILE */
    size_t window;
    float scale; /* at most 1 */
    float soft_cap;
    const float *q; /* the tile's first query */
    const float *k, *v;
    float *scratch;
};
#define TRAIN_ATTENTION_SCRATCH(keys, head_pad)                                                    \
    ((size_t)TRAIN_QUERY_TILE * ((size_t)(keys) + 2 * (size_t)(head_pad)))

/* The backward of a tile over keys [key_begin, key_end), key_begin rising from call to call. */
struct train_attention_back {
    struct train_attention tile;
    const float *out_grad;  /* (queries, head_pad) */
    const float *max, *sum; /* of the tile's queries, from the forward */
    const float *dots;      /* Σ out_grad · out of each query */
    size_t key_begin, key_end;
    float *p, *ds; /* results, (key_end − key_begin, TRAIN_QUERY_TILE): zeros where masked */
    float *q_grad; /* (queries, head_pad), carried */
};

/* dK and dV of up to TRAIN_KEY_TILE keys carried over one query tile. */
enum { TRAIN_KEY_TILE = 48 };
struct train_attention_keys {
    size_t head_dim, n_keys, n_queries;
    size_t head_pad;
    const float *p, *ds;       /* first key's rows, (n_keys, TRAIN_QUERY_TILE) */
    const float *q, *out_grad; /* the tile's queries, (queries, head_pad) */
    float *k_grad, *v_grad;    /* (n_keys, head_pad) */
};

struct train_kernels {
    const char *isa;
    size_t tile_tokens; /* rows of a packed tile, ≤ TRAIN_TILE_MAX */

    /* --- products --- */
    /* packed[tile][k][i] = x[tile·tile_tokens + i][k]; a last partial tile has the same strides. */
    void (*pack)(float *packed, const float *x, size_t ldx, size_t n_tokens, size_t n_k);
    /* panel[k][i] = rows[i][k] for i < n_rows (rows TRAIN_STRIP apart), zero for the other lanes */
    void (*transpose)(float *panel, const float *rows, size_t n_rows, size_t n_k);
    /* out[i·ld + j] = value col + j, j < n, of the weight row that begins at rows[i], i < n_rows:
     * d·(q − offset) or d·q + m. col is a multiple of 32, and n too but for plain floats. */
    void (*unpack[TRAIN_WEIGHT_COUNT])(float *out, size_t ld, const uint8_t *const *rows,
                                       size_t col, size_t n_rows, size_t n);
    /* The same for rows row + i. */
    void (*unpack_affine)(float *out, size_t ld, const struct train_affine *w, size_t row,
                          size_t col, size_t n_rows, size_t n);
    void (*product)(const struct train_product *product);
    void (*outer)(const struct train_outer *outer);

    /* --- rows --- n is the padded width unless said otherwise */
    /* y = (x · r) · weight, r = 1 / sqrt(Σx² / n_cols + eps) */
    void (*norm)(float *y, const float *x, const float *weight, size_t n, size_t n_cols, float eps);
    /* dx += gradient through norm: g = dy · weight, c = Σ g·x, dx + fma(−((c / n)·r)·(r·r), x,
     * r·g) */
    void (*norm_back)(float *dx, const float *dy, const float *x, const float *weight, size_t n,
                      size_t n_cols, float eps);
    /* Half-rotation rope of one head: y0 = fma(x0, cos, −(x1·sin)), y1 = fma(x1, cos, x0·sin) with
     * sin times `sign` (−1 turns back). head_dim values; y may be x. */
    void (*rope)(float *y, const float *x, const float *cosines, const float *sines,
                 size_t head_dim, float sign);
    /* act = silu(gate) · up */
    void (*swiglu)(float *act, const float *gate, const float *up, size_t n);
    /* Gradients of gate and up, which may take their place, or act_grad's. s = 1 / (1 + e^−g): up'
     * = d·silu(g), gate' = (d·up)·(s·fma(g, 1 − s, 1)) */
    void (*swiglu_back)(float *gate_grad, float *up_grad, const float *gate, const float *up,
                        const float *act_grad, size_t n);
    /* The same with gelu by its tanh approximation for silu. With t = tanh(c·(g + 0.044715·g³)):
     * gate' = (d·up)·fma(½·g·(1 − t²), c·(1 + 3·0.044715·g²), ½·(1 + t)), c = √(2/π) */
    void (*geglu)(float *act, const float *gate, const float *up, size_t n);
    void (*geglu_back)(float *gate_grad, float *up_grad, const float *gate, const float *up,
                       const float *act_grad, size_t n);
    /* x = cap·tanh(x/cap), any n */
    void (*soft_cap)(float *x, float cap, size_t n);
    /* grad times the cap's slope, 1 − (capped/cap)², any n */
    void (*soft_cap_back)(float *grad, const float *capped, float cap, size_t n);
    void (*join)(float *y, float scale, const float *x, size_t n); /* y = fma(scale, x, y) */
    void (*scale)(float *x, float scale, size_t n);                /* x = scale · x */
    void (*settle)(float *y, const float *x, size_t n);            /* y = x + 0; any n */
    /* y = x · (bit of mask ? keep : 0); one bit a value, low bits first */
    void (*mask)(float *y, const float *x, const uint16_t *bits, float keep, size_t n);
    /* y = fma(bit ? keep : 0, x, y) */
    void (*mask_add)(float *y, const float *x, const uint16_t *bits, float keep, size_t n);
    /* Logits of one position (room for n_cols rounded up to sixteen) become e^(x − max); their
     * maximum and sum. False when one is not finite. */
    bool (*exp_row)(float *x, size_t n_cols, float *max, float *sum);
    /* x = (x / sum) · scale; pads become zero */
    void (*normalise)(float *x, size_t n_cols, float sum, float scale);
    bool (*finite)(const float *x, size_t n); /* any n: true when all are finite */

    /* --- attention --- rule "Attention", keys and values in fp32 */
    /* out (queries, head_pad), max and sum per query. False when a score is not finite. */
    bool (*attention)(const struct train_attention *tile, float *out, float *max, float *sum);
    void (*attention_back)(const struct train_attention_back *back);
    void (*attention_keys)(const struct train_attention_keys *keys);
    /* Σ x·y by the reduction rule, n padded */
    float (*dot)(const float *x, const float *y, size_t n);
};

/* The table for "ref", "avx2", "avx512", "neon" or "best"; NULL when this build or this machine
 * cannot run it. */
const struct train_kernels *train_kernels_get(const char *isa);

#endif
