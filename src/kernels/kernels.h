/* Serving kernels: quantised and float products, norms, rope, attention, softmax, activations.
 *
 * One `struct kernels` of function pointers per instruction set; all give the same bits (numerics
 * rules). Everything takes raw pointers and sizes, allocates nothing and cannot fail except where a
 * function returns false for a value that is not finite.
 * Shapes are written (rows, cols), row-major; "tokens" is the leading dimension of activations.
 * Any thread may call any kernel on disjoint outputs.
 */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KERNEL_LANES = 16, /* rows of a weight panel; lanes of every reduction */
    KERNEL_BLOCK = 32, /* activations that share one scale */
    KERNEL_HEAD_DIM_MAX = 256,
    KERNEL_QUERY_TILE = 12 /* queries that attention takes at once */
};

/* --- packed weights ------------------------------------------------------------------------- */
/* clang-format off */
/* A matrix (n_rows, n_cols) cut into panels of sixteen rows; the last panel is padded with zeros.
 * A quantised panel is all blocks' quants, then all scales, padded to 64 bytes.
 *
 * Quants of a block of 32 columns, by bits of a value:
 *     8   8 groups × 16 rows × 4 columns of bytes: group g has columns 4g…4g+3      512 bytes
 *     4   4 groups × 16 rows × 4 bytes; low nibbles are columns 4g…4g+3, high nibbles columns
 *         16+4g…16+4g+3: groups g and 4+g of the form above                         256 bytes
 *     5   as 4, then 16 rows × 4 bytes: bit g is the fifth bit of group g           320 bytes
 *     6   as 4, then twice 16 rows × 4 bytes: bits 2g, 2g+1 of the first are the upper bits of
 *         group g, of the second those of group 4+g                                 384 bytes
 * Scales, and what a value is, for unsigned quants q (PACK_Q8 keeps its signed bytes as q = 128 + b):
 *     Q4_0, Q5_0, Q8   per block fp16 d[16]                               d·(q − 8, 16, 128)
 *     Q4_1, Q5_1       per block fp16 d[16], m[16]                        d·q + m
 *     Q4_K, Q5_K       per 8 blocks fp16 d[16], n[16], then per block
 *                      bytes sc[16], mn[16]                               (d·sc)·q + n·mn
 *     Q6_K             per 8 blocks fp16 d[16], then per block signed
 *                      bytes sc[16] of its first half and of its second   (d·sc)·(q − 32)
 *     A4, A8           per group of 1, 2 or 4 blocks s[16], b[16] in
 *                      one of three float types                           s·q + b
 * A float panel is n_cols × 16 rows of the element type. */
/* clang-format on */
enum pack_kind {
    PACK_Q4_0,
    PACK_Q4_1,
    PACK_Q5_0,
    PACK_Q5_1,
    PACK_Q8,
    PACK_Q4_K,
    PACK_Q5_K,
    PACK_Q6_K,
    PACK_A4,
    PACK_A8,
    PACK_F16, /* from here on floats */
    PACK_BF16,
    PACK_F32,
    PACK_KIND_COUNT
};

enum { KERNEL_SUPER = 8 }; /* blocks that share an fp16 scale in K types */

struct pack {
    enum pack_kind kind;
    size_t n_rows, n_cols; /* n_cols is a multiple of 32 for quantised kinds, of 256 for K types */
    size_t panel_bytes;
    const uint8_t *data; /* 64-byte aligned */
    /* PACK_A4 and PACK_A8 only: */
    unsigned group_shift;      /* log2 of a group's blocks: 0, 1 or 2 */
    enum pack_kind scale_kind; /* PACK_F16, PACK_BF16 or PACK_F32 */
};

static inline size_t pack_panels(size_t n_rows)
{
    return (n_rows + KERNEL_LANES - 1) / KERNEL_LANES;
}
static inline bool pack_is_quantised(enum pack_kind kind)
{
    return kind < PACK_F16;
}
static inline bool pack_is_affine(enum pack_kind kind)
{
    return kind == PACK_A4 || kind == PACK_A8;
}
/* Bytes of a block's quants, sixteen rows. */
static inline size_t pack_quant_bytes(enum pack_kind kind)
{
    switch (kind) {
    case PACK_Q5_0:
    case PACK_Q5_1:
    case PACK_Q5_K:
        return 320;
    case PACK_Q6_K:
        return 384;
    case PACK_Q8:
    case PACK_A8:
        return 512;
    default:
        return 256;
    }
}
/* Bytes of one panel of a matrix with n_cols columns; not of an affine kind. */
size_t pack_panel_bytes(enum pack_kind kind, size_t n_cols);
/* The same for PACK_A4 and PACK_A8. */
size_t pack_affine_panel_bytes(enum pack_kind kind, size_t n_cols, unsigned group_shift,
                               enum pack_kind scale_kind);

/* --- quantised activations ------------------------------------------------------------------ */
/* (tokens, cols) in blocks of 32: x ≈ d·q. The caller owns all arrays. */
struct qact {
    size_t n_cols;
    int8_t *q;        /* (tokens, n_cols) */
    float *d;         /* (tokens, n_cols/32) */
    float *dsum;      /* (tokens, n_cols/32): d × Σq, for types with an offset */
    int32_t *zero8;   /* (tokens, n_cols/32): −8 Σq: where the integer sum of PACK_Q4_0 starts */
    int32_t *zero128; /* −128 Σq, for PACK_Q8 */
    int32_t *zero32;  /* (tokens, n_cols/16): −32 Σq of each half block, for PACK_Q6_K */
};

/* --- attention ------------------------------------------------------------------------------ */
/* One key-value head's timeline as pages of sixteen positions. A page holds, at `offset` halves
 * from its start, K as fp16 (head_dim, 16) and then V as fp16 (16, head_dim). */
struct kv_view {
    uint16_t *const *pages;
    size_t offset;
};

/* How queries of one layer meet its keys. */
struct attention_rule {
    size_t head_dim;
    float scale;    /* of q·K, at most 1 */
    size_t window;  /* the last positions that a query sees, itself among them; 0: all */
    float soft_cap; /* scaled scores become cap·tanh(s/cap); 0: they stay */
};

struct kernels {
    const char *isa;

    /* Quantises columns [begin, end) (multiples of 32) of one token's x. False when a value is not
     * finite. Rule "Quantised products". */
    bool (*quantise)(const float *x, struct qact *out, size_t token, size_t begin, size_t end);

    /* y[t][n] = Σ_k w[n][k]·x[t][k] for panels [begin, end) and tokens [0, n_tokens): quantised
     * weights by quantised activations. y rows are y_stride floats; n = 16·panel + lane. With add,
     * the product is added to what y holds (one more rounding). Writes only rows < n_rows. */
    void (*matmul_q)(const struct pack *w, size_t begin, size_t end, const struct qact *x,
                     size_t n_tokens, float *y, size_t y_stride, bool add);
    /* The same for float kinds with fp32 activations x (tokens, n_cols), rows x_stride apart. */
    void (*matmul_f)(const struct pack *w, size_t begin, size_t end, const float *x,
                     size_t x_stride, size_t n_tokens, float *y, size_t y_stride, bool add);

    /* y[t][n] = fma(scale, Σ_k w[n][k]·x[t][k], y[t][n]) for PACK_F32: an adapter's B on its h. */
    void (*matmul_axpy)(const struct pack *w, size_t begin, size_t end, const float *x,
                        size_t x_stride, size_t n_tokens, float scale, float *y, size_t y_stride);

    /* out = x / sqrt(mean(x²) + eps) · weight, n columns: (x·r)·weight. Rule "Reductions". */
    void (*rmsnorm)(const float *x, const float *weight, float eps, size_t n, float *out);

    /* Half-rotation rope on one head of head_dim: pairs (i, i + head_dim/2). cos, sin: head_dim/2.
     */
    void (*rope)(float *x, const float *cosines, const float *sines, size_t head_dim);

    /* g = silu(g)·u, n values. */
    void (*silu_mul)(float *g, const float *u, size_t n);
    /* g = gelu(g)·u, gelu by its tanh approximation. */
    void (*gelu_mul)(float *g, const float *u, size_t n);
    /* x = scale·x, and, unless cap is 0, cap·tanh(x/cap); n values. */
    void (*scale_cap)(float *x, float scale, float cap, size_t n);
    /* y = fma(scale, z, y), n values. */
    void (*axpy)(float *y, float scale, const float *z, size_t n);

    /* Writes one token's K and V (head_dim each) of one kv head at `position`, rounded to fp16.
     * Returns how many values were clamped to ±65504. */
    unsigned (*kv_store)(const struct kv_view *kv, size_t position, const float *k, const float *v,
                         size_t head_dim);
    /* out[i] = softmax(cap(scale · q_i·K))·V for n_queries ≤ KERNEL_QUERY_TILE rows, query i seeing
     * positions below n_visible[i], of these the last `window`; n_visible rises or stays. q and out
     * rows by pointer. scores: n_queries × scores_stride floats, scores_stride ≥ n_visible rounded
     * up to 16. */
    void (*attention)(const struct kv_view *kv, const struct attention_rule *rule, size_t n_queries,
                      const float *const *q, const size_t *n_visible, float *const *out,
                      float *scores, size_t scores_stride);

    /* Probabilities in place over n logits: exact maximum, exp, sum by index mod 16, one division.
     * Returns false when a logit is not finite. */
    bool (*softmax)(float *x, size_t n);
    /* The sum of e^(x−max) by index mod 16, and max: for log-probabilities. */
    float (*exp_sum)(const float *x, size_t n, float *max);
    /* True when all n values are finite. */
    bool (*all_finite)(const float *x, size_t n);
};

/* The table for "ref", "avx2", "avx512", "neon" or "best"; NULL when this build or this machine
 * cannot run it. */
const struct kernels *kernels_get(const char *isa);
/* Names that kernels_get would accept here, best first, NULL-terminated. */
const char *const *kernels_available(void);

/* --- packing -------------------------------------------------------------------------------- */
/* Writes one panel from rows given as file blocks. rows[i] points to the start of the panel's row i
 * in its own format (GGUF's blocks, or floats), NULL for padding. Not for affine kinds. */
void pack_panel(enum pack_kind kind, size_t n_cols, const uint8_t *const rows[KERNEL_LANES],
                uint8_t *out);

/* Rows of MLX's affine quantisation, each as three arrays: quants from the low bits of
 * little-endian words up, and one scale and one bias for each group. NULL for padding. */
struct pack_affine_rows {
    const uint8_t *quants[KERNEL_LANES];
    const uint8_t *scales[KERNEL_LANES];
    const uint8_t *biases[KERNEL_LANES];
};
/* Writes one panel; kind, n_cols, group_shift and scale_kind are read from `pack`. */
void pack_affine_panel(const struct pack *pack, const struct pack_affine_rows *rows, uint8_t *out);

#endif
