/* The one inner loop of training: a tile of outputs, each an FMA chain over rising k.
 *
 *   c[t][16p + lane] = Σ_k w[k][16p + lane] · x[t·ldt + k·ldk]
 *
 * A tile of TILE_TOKENS × TILE_PANELS sixteen-lane accumulators stays in registers: 24 zmm of 32,
 * or 12 ymm of 16. Packed products, attention and factor gradients differ only in the strides. Tile
 * shape is no part of the definition: each output is a chain of its own.
 */
#ifndef KERNELS_ISA_TRAIN_CHAIN_H
#define KERNELS_ISA_TRAIN_CHAIN_H

#include <stdbool.h>

#include "kernels/isa/lane.h"
#include "kernels/train_kernels.h"

#if defined(KERNELS_ISA_avx512)
enum { TILE_TOKENS = 12, TILE_PANELS = 2 };
#elif defined(KERNELS_ISA_ref)
enum { TILE_TOKENS = 4, TILE_PANELS = 1 };
#else
enum { TILE_TOKENS = 6, TILE_PANELS = 1 };
#endif

/* Everything of one call but the tile's place; constant parts fold away after inlining. */
struct chain {
    size_t n_k;
    const float *w;
    size_t ldw;
    const float *x;
    size_t ldt, ldk;
    float *c;
    size_t ldc;
    enum train_mode mode;
    float scale;
    size_t last_lanes; /* lanes of c's last panel that exist; 16 when all do */
    size_t ahead;      /* from x to that of the tile after this one; 0: not worth asking for */
};

LANE_INLINE v16 chain_load(const float *c, bool partial, size_t lanes)
{
    return partial ? v16_load_n(c, lanes) : v16_load(c);
}

LANE_INLINE void chain_finish(const struct chain *q, float *c, v16 acc, bool partial)
{
    if (q->mode == TRAIN_JOIN) {
        acc = v16_fma(v16_set1(q->scale), acc, chain_load(c, partial, q->last_lanes));
    }
    if (partial) {
        v16_store_n(c, acc, q->last_lanes);
    } else {
        v16_store(c, acc);
    }
}

/* nt × np outputs; nt, np, far and one of the strides are constants at every call. Rows of x are
 * reached from one pointer per four so that the addresses fit the registers. Where x is far away,
 * the next tile's is asked for step by step; what the next tile writes is, at any rate. */
LANE_INLINE void chain_tile(const int nt, const int np, const bool far, const struct chain *q,
                            size_t ldt, size_t ldk, const float *w, const float *x, float *c,
                            bool partial)
{
    v16 acc[TILE_TOKENS][TILE_PANELS];
#pragma GCC unroll 12
    for (int t = 0; t < nt; t++) {
#pragma GCC unroll 2
        for (int p = 0; p < np; p++) {
            acc[t][p] = q->mode == TRAIN_CARRY ? chain_load(c + (size_t)t * q->ldc + 16 * p,
                                                            partial && p == np - 1, q->last_lanes)
                                               : v16_zero();
        }
    }
    for (int t = 0; t < nt; t++) {
        for (int p = 0; p < np; p++) {
            __builtin_prefetch(c + (size_t)(nt + t) * q->ldc + 16 * p, 1);
        }
    }
    const size_t ldw = q->ldw;
    const float *next = x + q->ahead; /* nt values a step, one after the other */
    const float *x4 = x + 4 * ldt;
    const float *x8 = x + 8 * ldt;
#pragma GCC unroll 2
    for (size_t k = q->n_k; k > 0; k--) {
        const v16 row0 = v16_load(w), row1 = np > 1 ? v16_load(w + 16) : row0;
        if (far) {
            __builtin_prefetch(next, 0, 2);
            next += nt;
        }
#pragma GCC unroll 12
        for (int t = 0; t < nt; t++) {
            const float *from = t < 4 ? x : t < 8 ? x4 : x8;
            const v16 one = v16_set1(from[(size_t)(t & 3) * ldt]);
            acc[t][0] = v16_fma(row0, one, acc[t][0]);
            if (np > 1) {
                acc[t][TILE_PANELS - 1] = v16_fma(row1, one, acc[t][TILE_PANELS - 1]);
            }
        }
        w += ldw;
        x += ldk;
        x4 += ldk;
        x8 += ldk;
    }
#pragma GCC unroll 12
    for (int t = 0; t < nt; t++) {
#pragma GCC unroll 2
        for (int p = 0; p < np; p++) {
            chain_finish(q, c + (size_t)t * q->ldc + 16 * p, acc[t][p], partial && p == np - 1);
        }
    }
}

/* Tiles are functions of their own: inlined into their loops, the compiler would keep addresses of
 * those loops in registers that the accumulators need. */
#define CHAIN_TILE(kind, nt, np, ldt, ldk, cuts, far)                                              \
    static __attribute__((noinline, unused)) void kind##_##nt##x##np(                              \
        const struct chain *q, const float *w, const float *x, float *c, bool partial)             \
    {                                                                                              \
        chain_tile(nt, np, far, q, ldt, ldk, w, x, c, (cuts) && (np) == 1 && partial);             \
    }
#define CHAIN_STEP(kind, nt, np)                                                                   \
    for (; t + (nt) <= n_t; t += (nt)) {                                                           \
        kind##_##nt##x##np(q, w, x + t * q->ldt, c + t * q->ldc, partial);                         \
    }

/* All rows of one column of panels. */
/* clang-format off: one height a line */
#if defined(KERNELS_ISA_avx512)
#define CHAIN_HEIGHTS(each, kind, np, ...)                                                         \
    each(kind, 12, np __VA_ARGS__) each(kind, 8, np __VA_ARGS__) each(kind, 4, np __VA_ARGS__)     \
        each(kind, 2, np __VA_ARGS__) each(kind, 1, np __VA_ARGS__)
#elif defined(KERNELS_ISA_ref)
#define CHAIN_HEIGHTS(each, kind, np, ...)                                                         \
    each(kind, 4, np __VA_ARGS__) each(kind, 2, np __VA_ARGS__) each(kind, 1, np __VA_ARGS__)
#else
#define CHAIN_HEIGHTS(each, kind, np, ...)                                                         \
    each(kind, 6, np __VA_ARGS__) each(kind, 4, np __VA_ARGS__) each(kind, 2, np __VA_ARGS__)      \
        each(kind, 1, np __VA_ARGS__)
#endif
/* clang-format on */

#define CHAIN_ROWS(kind, np)                                                                       \
    static inline __attribute__((unused)) void kind##_rows_##np(                                   \
        const struct chain *q, size_t n_t, const float *w, const float *x, float *c, bool partial) \
    {                                                                                              \
        size_t t = 0;                                                                              \
        CHAIN_HEIGHTS(CHAIN_STEP, kind, np, )                                                      \
    }

/* KIND_block: n_t rows and n_panels panels of sixteen outputs; only kinds with `cuts` may have a
 * partial last panel. */
#if defined(KERNELS_ISA_avx512)
#define CHAIN_WIDTHS(kind, ldt, ldk, cuts, far)                                                    \
    CHAIN_HEIGHTS(CHAIN_TILE, kind, 2, , ldt, ldk, cuts, far)                                      \
    CHAIN_HEIGHTS(CHAIN_TILE, kind, 1, , ldt, ldk, cuts, far)                                      \
    CHAIN_ROWS(kind, 2)                                                                            \
    CHAIN_ROWS(kind, 1)
#define CHAIN_PAIRS(kind)                                                                          \
    for (; p + 2 <= n_panels - cut; p += 2) {                                                      \
        kind##_rows_2(q, n_t, q->w + 16 * p, q->x, q->c + 16 * p, false);                          \
    }
#else
#define CHAIN_WIDTHS(kind, ldt, ldk, cuts, far)                                                    \
    CHAIN_HEIGHTS(CHAIN_TILE, kind, 1, , ldt, ldk, cuts, far)                                      \
    CHAIN_ROWS(kind, 1)
#define CHAIN_PAIRS(kind)
#endif

#define CHAIN_KIND(kind, ldt, ldk, cuts, far)                                                      \
    CHAIN_WIDTHS(kind, ldt, ldk, cuts, far)                                                        \
    static inline __attribute__((unused)) void kind##_block(const struct chain *q, size_t n_t,     \
                                                            size_t n_panels)                       \
    {                                                                                              \
        const size_t cut = q->last_lanes < LANES;                                                  \
        size_t p = 0;                                                                              \
        CHAIN_PAIRS(kind)                                                                          \
        for (; p < n_panels; p++) {                                                                \
            kind##_rows_1(q, n_t, q->w + 16 * p, q->x, q->c + 16 * p, cut && p + 1 == n_panels);   \
        }                                                                                          \
    }

CHAIN_KIND(packed, 1, TILE_TOKENS, 0, true) /* x from pack: (k, tile_tokens) */
CHAIN_KIND(columns, 1, q->ldk, 1, false)    /* x as (k, rows of c) */
CHAIN_KIND(strided, q->ldt, 1, 0, true)     /* x as (rows of c, k) */

#endif
