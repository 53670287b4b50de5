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

/* nt × np outputs; nt and np are constants at every call. Rows of x are reached from one pointer
 * per four so that the addresses fit the registers. */
LANE_INLINE void chain_tile(const int nt, const int np, const struct chain *q, const float *w,
                            const float *x, float *c, bool partial)
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
    const size_t ldt = q->ldt, ldk = q->ldk, ldw = q->ldw;
    const float *x4 = x + 4 * ldt;
    const float *x8 = x + 8 * ldt;
    for (size_t k = 0; k < q->n_k; k++) {
        const v16 row0 = v16_load(w), row1 = np > 1 ? v16_load(w + 16) : row0;
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

/* All rows of one column of panels. */
LANE_INLINE void chain_rows(const int np, const struct chain *q, size_t n_t, const float *w,
                            const float *x, float *c, bool partial)
{
    size_t t = 0;
#define CHAIN_STEP(nt)                                                                             \
    for (; t + (nt) <= n_t; t += (nt)) {                                                           \
        chain_tile(nt, np, q, w, x + t * q->ldt, c + t * q->ldc, partial);                         \
    }
#if defined(KERNELS_ISA_avx512)
    CHAIN_STEP(12)
    CHAIN_STEP(8)
    CHAIN_STEP(4)
#elif defined(KERNELS_ISA_ref)
    CHAIN_STEP(4)
#else
    CHAIN_STEP(6)
    CHAIN_STEP(4)
#endif
    CHAIN_STEP(2)
    CHAIN_STEP(1)
#undef CHAIN_STEP
}

/* n_t rows and n_panels panels of sixteen outputs. */
LANE_INLINE void chain_block(const struct chain *q, size_t n_t, size_t n_panels)
{
    const bool cut = q->last_lanes < LANES;
    size_t p = 0;
    if (TILE_PANELS > 1) {
        for (; p + TILE_PANELS <= n_panels; p += TILE_PANELS) {
            const bool partial = cut && p + TILE_PANELS == n_panels;
            if (partial) {
                break;
            }
            chain_rows(TILE_PANELS, q, n_t, q->w + 16 * p, q->x, q->c + 16 * p, false);
        }
    }
    for (; p < n_panels; p++) {
        if (cut && p + 1 == n_panels) {
            chain_rows(1, q, n_t, q->w + 16 * p, q->x, q->c + 16 * p, true);
        } else {
            chain_rows(1, q, n_t, q->w + 16 * p, q->x, q->c + 16 * p, false);
        }
    }
}

#endif
