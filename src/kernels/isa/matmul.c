/* Products of packed weights and activations.
 *
 * Lanes are outputs: sixteen rows of a panel at once, one FMA chain per output over rising k, so
 * neither the tile nor the thread shows in a result. A tile is one panel by up to TILE tokens (or,
 * for a single token of float weights, several panels, to hide the latency of the chain). Tokens go
 * in chunks that stay in the second-level cache while the weights stream past once per chunk.
 */
#include "kernels/isa/dot8.h"
#include "kernels/isa/serve.h"

enum {
    TILE = 8, /* tokens per tile */
    PREFETCH_BYTES = 2048,
    TOKEN_CHUNK = 128 /* tokens whose activations stay in cache; a multiple of TILE */
};

/* What becomes of a finished product: y = acc, y + acc, or fma(scale, acc, y). */
enum put { PUT_SET, PUT_ADD, PUT_SCALED };

LANE_INLINE void put(enum put how, float scale, float *y, v16 acc, size_t n)
{
    if (how == PUT_ADD) {
        acc = v16_add(v16_load_n(y, n), acc);
    } else if (how == PUT_SCALED) {
        acc = v16_fma(v16_set1(scale), acc, v16_load_n(y, n));
    }
    v16_store_n(y, acc, n);
}

/* A block's scales of sixteen rows. Which parts are set, and used, is a constant of the kind. */
struct block_scales {
    v16 d;        /* of the whole block */
    v16 m;        /* offset */
    v16 sc0, sc1; /* PACK_Q6_K: of the two halves, integers */
};

LANE_INLINE bool has_offset(enum pack_kind kind)
{
    return kind == PACK_Q4_1 || kind == PACK_Q5_1 || kind == PACK_Q4_K || kind == PACK_Q5_K ||
           pack_is_affine(kind);
}

LANE_INLINE v16 load_float(enum pack_kind kind, const uint8_t *p)
{
    if (kind == PACK_F32) {
        return v16_load((const float *)(const void *)p);
    }
    const uint16_t *halves = (const uint16_t *)(const void *)p;
    return kind == PACK_F16 ? v16_load_f16(halves) : v16_load_bf16(halves);
}

/* Scales of an affine group. The branch goes the same way for a whole matrix. */
LANE_INLINE struct block_scales load_affine(const struct pack *w, const uint8_t *scales, size_t b)
{
    const size_t size = w->scale_kind == PACK_F32 ? 4 : 2;
    const uint8_t *at = scales + (b >> w->group_shift) * (2 * LANES * size);
    struct block_scales s = {v16_zero(), v16_zero(), v16_zero(), v16_zero()};
    if (w->scale_kind == PACK_F16) {
        s.d = load_float(PACK_F16, at);
        s.m = load_float(PACK_F16, at + 32);
    } else if (w->scale_kind == PACK_BF16) {
        s.d = load_float(PACK_BF16, at);
        s.m = load_float(PACK_BF16, at + 32);
    } else {
        s.d = load_float(PACK_F32, at);
        s.m = load_float(PACK_F32, at + 64);
    }
    return s;
}

LANE_INLINE struct block_scales load_scales(enum pack_kind kind, const struct pack *w,
                                            const uint8_t *scales, size_t b)
{
    struct block_scales s = {v16_zero(), v16_zero(), v16_zero(), v16_zero()};
    if (pack_is_affine(kind)) {
        return load_affine(w, scales, b);
    }
    if (kind == PACK_Q4_K || kind == PACK_Q5_K) {
        const uint8_t *super = scales + b / KERNEL_SUPER * (64 + 32 * KERNEL_SUPER);
        const int8_t *small = (const int8_t *)super + 64 + b % KERNEL_SUPER * 32;
        s.d = v16_mul(load_float(PACK_F16, super), v16_load_i8(small));
        s.m = v16_mul(load_float(PACK_F16, super + 32), v16_load_i8(small + 16));
    } else if (kind == PACK_Q6_K) {
        const uint8_t *super = scales + b / KERNEL_SUPER * (32 + 32 * KERNEL_SUPER);
        const int8_t *small = (const int8_t *)super + 32 + b % KERNEL_SUPER * 32;
        s.d = load_float(PACK_F16, super);
        s.sc0 = v16_load_i8(small);
        s.sc1 = v16_load_i8(small + 16);
    } else {
        const size_t bytes = has_offset(kind) ? 64 : 32;
        s.d = load_float(PACK_F16, scales + b * bytes);
        if (has_offset(kind)) {
            s.m = load_float(PACK_F16, scales + b * bytes + 32);
        }
    }
    return s;
}

LANE_INLINE w8 load_block(enum pack_kind kind, const uint8_t *quants)
{
    switch (pack_quant_bytes(kind)) {
    case 256:
        return w8_load4(quants);
    case 320:
        return w8_load5(quants);
    case 384:
        return w8_load6(quants);
    default:
        return w8_load8(quants);
    }
}

/* The block's exact sum for activations q of block `at` of x, as fp32. */
LANE_INLINE v16 block_sum(enum pack_kind kind, const w8 *block, const struct block_scales *s,
                          const struct qact *x, const int8_t *q, size_t at)
{
    switch (kind) {
    case PACK_Q4_0:
        return w8_dot(block, q, x->zero8[at], 4);
    case PACK_Q5_0:
        return w8_dot(block, q, 2 * x->zero8[at], 5);
    case PACK_Q5_1:
    case PACK_Q5_K:
        return w8_dot(block, q, 0, 5);
    case PACK_Q8:
        return w8_dot(block, q, W8_SIGNED_START(x->zero128[at]), 8);
    case PACK_A8:
        return w8_dot(block, q, W8_UNSIGNED_START(x->zero128[at]), 8);
    case PACK_Q6_K:
        return w8_dot6(block, q, x->zero32 + 2 * at, s->sc0, s->sc1);
    default:
        return w8_dot(block, q, 0, 4);
    }
}

/* The first tile of a panel gets its weights from memory, the only one of a decode; the hardware
 * looks ahead only to the end of a page. Scales come in an order of their own: while one panel is
 * multiplied, the next one's are fetched. Past the end of the matrix a prefetch does nothing. */
LANE_INLINE void prefetch_block(enum pack_kind kind, const struct pack *w, const uint8_t *panel,
                                size_t b, size_t scale_stride)
{
    const size_t n_blocks = w->n_cols / KERNEL_BLOCK;
    const size_t bytes = pack_quant_bytes(kind);
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(panel + b * bytes + PREFETCH_BYTES + i, 0, 3);
    }
    __builtin_prefetch(panel + w->panel_bytes + n_blocks * bytes + b * scale_stride, 0, 3);
}

/* Tokens [t0, t0+n) × one panel. kind and n are constants where this is inlined. */
LANE_INLINE void tile_q(enum pack_kind kind, int n, const struct pack *w, const uint8_t *panel,
                        const struct qact *x, size_t t0, float *y, size_t y_stride, size_t rows,
                        bool add, bool first)
{
    const size_t n_blocks = w->n_cols / KERNEL_BLOCK;
    const uint8_t *scales = panel + n_blocks * pack_quant_bytes(kind);
    /* not in the loop: a division takes as long as a block */
    const size_t scale_stride = w->panel_bytes / n_blocks - pack_quant_bytes(kind);
    v16 acc[TILE];
    for (int t = 0; t < n; t++) {
        acc[t] = v16_zero();
    }
    for (size_t b = 0; b < n_blocks; b++) {
        if (first) {
            prefetch_block(kind, w, panel, b, scale_stride);
        }
        const w8 block = load_block(kind, panel + b * pack_quant_bytes(kind));
        const struct block_scales s = load_scales(kind, w, scales, b);
#pragma GCC unroll 8
        for (int t = 0; t < n; t++) {
            const size_t at = (t0 + (size_t)t) * n_blocks + b;
            const int8_t *xq = x->q + (t0 + (size_t)t) * w->n_cols + b * KERNEL_BLOCK;
            const v16 sum = block_sum(kind, &block, &s, x, xq, at);
            acc[t] = v16_fma(sum, v16_mul(s.d, v16_set1(x->d[at])), acc[t]);
            if (has_offset(kind)) {
                acc[t] = v16_fma(s.m, v16_set1(x->dsum[at]), acc[t]);
            }
        }
    }
    for (int t = 0; t < n; t++) {
        put(add ? PUT_ADD : PUT_SET, 1.0f, y + (t0 + (size_t)t) * y_stride, acc[t], rows);
    }
}

/* A tile's token count is a constant where that keeps its sums in registers. The definition has
 * none, and as a constant it would only be compiled eight times. */
#if defined(KERNELS_ISA_ref)
#define TILE_CASES(call) call((int)n);
#else
#define TILE_CASES(call)                                                                           \
    switch (n) {                                                                                   \
    case 1:                                                                                        \
        call(1);                                                                                   \
        break;                                                                                     \
    case 2:                                                                                        \
        call(2);                                                                                   \
        break;                                                                                     \
    case 3:                                                                                        \
        call(3);                                                                                   \
        break;                                                                                     \
    case 4:                                                                                        \
        call(4);                                                                                   \
        break;                                                                                     \
    case 5:                                                                                        \
        call(5);                                                                                   \
        break;                                                                                     \
    case 6:                                                                                        \
        call(6);                                                                                   \
        break;                                                                                     \
    case 7:                                                                                        \
        call(7);                                                                                   \
        break;                                                                                     \
    default:                                                                                       \
        call(8);                                                                                   \
        break;                                                                                     \
    }
#endif

LANE_INLINE void panel_q(enum pack_kind kind, const struct pack *w, size_t p, const struct qact *x,
                         size_t t0, size_t t1, float *y, size_t y_stride, bool add)
{
    const uint8_t *panel = w->data + p * w->panel_bytes;
    const size_t row = p * LANES;
    const size_t rows = w->n_rows - row < LANES ? w->n_rows - row : LANES;
    for (size_t t = t0; t < t1; t += TILE) {
        const size_t n = t1 - t < TILE ? t1 - t : TILE;
#define TILE_Q(count) tile_q(kind, count, w, panel, x, t, y + row, y_stride, rows, add, t == t0)
        TILE_CASES(TILE_Q)
#undef TILE_Q
    }
}

#define PANELS_Q(name, kind)                                                                       \
    static void name(const struct pack *w, size_t p, const struct qact *x, size_t t0, size_t t1,   \
                     float *y, size_t y_stride, bool add)                                          \
    {                                                                                              \
        panel_q(kind, w, p, x, t0, t1, y, y_stride, add);                                          \
    }
PANELS_Q(panel_q4_0, PACK_Q4_0)
PANELS_Q(panel_q4_1, PACK_Q4_1)
PANELS_Q(panel_q5_0, PACK_Q5_0)
PANELS_Q(panel_q5_1, PACK_Q5_1)
PANELS_Q(panel_q8, PACK_Q8)
PANELS_Q(panel_q4_k, PACK_Q4_K)
PANELS_Q(panel_q5_k, PACK_Q5_K)
PANELS_Q(panel_q6_k, PACK_Q6_K)
PANELS_Q(panel_a4, PACK_A4)
PANELS_Q(panel_a8, PACK_A8)

typedef void panels_fn(const struct pack *w, size_t p, const struct qact *x, size_t t0, size_t t1,
                       float *y, size_t y_stride, bool add);
static panels_fn *const panels_q[] = {
    [PACK_Q4_0] = panel_q4_0, [PACK_Q4_1] = panel_q4_1, [PACK_Q5_0] = panel_q5_0,
    [PACK_Q5_1] = panel_q5_1, [PACK_Q8] = panel_q8,     [PACK_Q4_K] = panel_q4_k,
    [PACK_Q5_K] = panel_q5_k, [PACK_Q6_K] = panel_q6_k, [PACK_A4] = panel_a4,
    [PACK_A8] = panel_a8,
};

void KERNEL(matmul_q)(const struct pack *w, size_t begin, size_t end, const struct qact *x,
                      size_t n_tokens, float *y, size_t y_stride, bool add)
{
    for (size_t t0 = 0; t0 < n_tokens; t0 += TOKEN_CHUNK) {
        const size_t t1 = n_tokens - t0 < TOKEN_CHUNK ? n_tokens : t0 + TOKEN_CHUNK;
        for (size_t p = begin; p < end; p++) {
            panels_q[w->kind](w, p, x, t0, t1, y, y_stride, add);
        }
    }
}

LANE_INLINE v16 load_weight(enum pack_kind kind, const uint8_t *panel, size_t k)
{
    return load_float(kind, panel + k * LANES * (kind == PACK_F32 ? 4 : 2));
}

/* n tokens × m panels of float weights; one of n and m is 1 or both are small constants. */
LANE_INLINE void tile_f(enum pack_kind kind, int n, int m, const struct pack *w, size_t p,
                        const float *x, size_t x_stride, float *y, size_t y_stride, enum put how,
                        float scale)
{
    v16 acc[TILE];
    for (int i = 0; i < n * m; i++) {
        acc[i] = v16_zero();
    }
    for (size_t k = 0; k < w->n_cols; k++) {
#pragma GCC unroll 8
        for (int j = 0; j < m; j++) {
            const v16 wk = load_weight(kind, w->data + (p + (size_t)j) * w->panel_bytes, k);
#pragma GCC unroll 8
            for (int t = 0; t < n; t++) {
                acc[j * n + t] = v16_fma(wk, v16_set1(x[(size_t)t * x_stride + k]), acc[j * n + t]);
            }
        }
    }
    for (int j = 0; j < m; j++) {
        const size_t row = (p + (size_t)j) * LANES;
        const size_t rows = w->n_rows - row < LANES ? w->n_rows - row : LANES;
        for (int t = 0; t < n; t++) {
            put(how, scale, y + (size_t)t * y_stride + row, acc[j * n + t], rows);
        }
    }
}

LANE_INLINE void panels_f(enum pack_kind kind, const struct pack *w, size_t begin, size_t end,
                          const float *x, size_t x_stride, size_t n_tokens, float *y,
                          size_t y_stride, enum put how, float scale)
{
    size_t p = begin;
    if (n_tokens == 1) {
        for (; p + 8 <= end; p += 8) {
            tile_f(kind, 1, 8, w, p, x, x_stride, y, y_stride, how, scale);
        }
        for (; p + 3 <= end; p += 3) {
            tile_f(kind, 1, 3, w, p, x, x_stride, y, y_stride, how, scale);
        }
    }
    for (; p < end; p++) {
        for (size_t t = 0; t < n_tokens; t += TILE) {
            const size_t n = n_tokens - t < TILE ? n_tokens - t : TILE;
#define TILE_F(count)                                                                              \
    tile_f(kind, count, 1, w, p, x + t * x_stride, x_stride, y + t * y_stride, y_stride, how, scale)
            TILE_CASES(TILE_F)
#undef TILE_F
        }
    }
}

LANE_INLINE void matmul_float(const struct pack *w, size_t begin, size_t end, const float *x,
                              size_t x_stride, size_t n_tokens, float *y, size_t y_stride,
                              enum put how, float scale)
{
    switch (w->kind) {
    case PACK_F16:
        panels_f(PACK_F16, w, begin, end, x, x_stride, n_tokens, y, y_stride, how, scale);
        break;
    case PACK_BF16:
        panels_f(PACK_BF16, w, begin, end, x, x_stride, n_tokens, y, y_stride, how, scale);
        break;
    default:
        panels_f(PACK_F32, w, begin, end, x, x_stride, n_tokens, y, y_stride, how, scale);
        break;
    }
}

void KERNEL(matmul_f)(const struct pack *w, size_t begin, size_t end, const float *x,
                      size_t x_stride, size_t n_tokens, float *y, size_t y_stride, bool add)
{
    matmul_float(w, begin, end, x, x_stride, n_tokens, y, y_stride, add ? PUT_ADD : PUT_SET, 1.0f);
}

void KERNEL(matmul_axpy)(const struct pack *w, size_t begin, size_t end, const float *x,
                         size_t x_stride, size_t n_tokens, float scale, float *y, size_t y_stride)
{
    panels_f(PACK_F32, w, begin, end, x, x_stride, n_tokens, y, y_stride, PUT_SCALED, scale);
}
