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
    TILE = 8,         /* tokens per tile */
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

/* Tokens [t0, t0+n) × one panel. kind and n are constants where this is inlined. */
LANE_INLINE void tile_q(enum pack_kind kind, int n, const struct pack *w, const uint8_t *panel,
                        const struct qact *x, size_t t0, float *y, size_t y_stride, size_t rows,
                        bool add)
{
    const size_t n_blocks = w->n_cols / KERNEL_BLOCK;
    const size_t quant_bytes = kind == PACK_Q8 ? 512 : 256;
    const size_t scale_halves = kind == PACK_Q4_1 ? 32 : 16;
    const uint16_t *scales = (const uint16_t *)(const void *)(panel + n_blocks * quant_bytes);
    v16 acc[TILE];
    for (int t = 0; t < n; t++) {
        acc[t] = v16_zero();
    }
    for (size_t b = 0; b < n_blocks; b++) {
        const uint8_t *quants = panel + b * quant_bytes;
        const w8 block = kind == PACK_Q8 ? w8_load8(quants) : w8_load4(quants);
        const v16 dw = v16_load_f16(scales + b * scale_halves);
        v16 mw = v16_zero();
        if (kind == PACK_Q4_1) {
            mw = v16_load_f16(scales + b * scale_halves + 16);
        }
#pragma GCC unroll 8
        for (int t = 0; t < n; t++) {
            const size_t at = (t0 + (size_t)t) * n_blocks + b;
            int32_t start = 0;
            if (kind == PACK_Q4_0) {
                start = x->zero8[at];
            } else if (kind == PACK_Q8) {
                start = W8_EIGHT_BIT_START(x->zero128[at]);
            }
            const int8_t *xq = x->q + (t0 + (size_t)t) * w->n_cols + b * KERNEL_BLOCK;
            const v16 sum = w8_dot(&block, xq, start, kind != PACK_Q8);
            acc[t] = v16_fma(sum, v16_mul(dw, v16_set1(x->d[at])), acc[t]);
            if (kind == PACK_Q4_1) {
                acc[t] = v16_fma(mw, v16_set1(x->dsum[at]), acc[t]);
            }
        }
    }
    for (int t = 0; t < n; t++) {
        put(add ? PUT_ADD : PUT_SET, 1.0f, y + (t0 + (size_t)t) * y_stride, acc[t], rows);
    }
}

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

LANE_INLINE void panel_q(enum pack_kind kind, const struct pack *w, size_t p, const struct qact *x,
                         size_t t0, size_t t1, float *y, size_t y_stride, bool add)
{
    const uint8_t *panel = w->data + p * w->panel_bytes;
    const size_t row = p * LANES;
    const size_t rows = w->n_rows - row < LANES ? w->n_rows - row : LANES;
    for (size_t t = t0; t < t1; t += TILE) {
        const size_t n = t1 - t < TILE ? t1 - t : TILE;
#define TILE_Q(count) tile_q(kind, count, w, panel, x, t, y + row, y_stride, rows, add)
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
PANELS_Q(panel_q8, PACK_Q8)

void KERNEL(matmul_q)(const struct pack *w, size_t begin, size_t end, const struct qact *x,
                      size_t n_tokens, float *y, size_t y_stride, bool add)
{
    for (size_t t0 = 0; t0 < n_tokens; t0 += TOKEN_CHUNK) {
        const size_t t1 = n_tokens - t0 < TOKEN_CHUNK ? n_tokens : t0 + TOKEN_CHUNK;
        for (size_t p = begin; p < end; p++) {
            switch (w->kind) {
            case PACK_Q4_0:
                panel_q4_0(w, p, x, t0, t1, y, y_stride, add);
                break;
            case PACK_Q4_1:
                panel_q4_1(w, p, x, t0, t1, y, y_stride, add);
                break;
            default:
                panel_q8(w, p, x, t0, t1, y, y_stride, add);
                break;
            }
        }
    }
}

LANE_INLINE v16 load_weight(enum pack_kind kind, const uint8_t *panel, size_t k)
{
    if (kind == PACK_F32) {
        return v16_load((const float *)(const void *)panel + k * LANES);
    }
    const uint16_t *p = (const uint16_t *)(const void *)panel + k * LANES;
    return kind == PACK_F16 ? v16_load_f16(p) : v16_load_bf16(p);
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
