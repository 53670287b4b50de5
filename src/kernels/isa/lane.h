/* The sixteen-lane fp32 type that every kernel is written over.
 *
 * Only this header and the 8-bit dot product (dot8.h) know an instruction set. All operations are
 * IEEE single precision with one rounding each, so every instruction set gives the same bits:
 *   ref     an array of sixteen floats and fmaf
 *   avx2    two ymm
 *   avx512  one zmm
 *   neon    four q registers
 * Reductions follow numerics rule "Reductions": lanes i += i+8, i += i+4, i += i+2, i += i+1.
 * Included by files under kernels/isa only, which are compiled once per instruction set with
 * KERNELS_ISA naming it; KERNEL(name) is the symbol name for that instruction set.
 */
#ifndef KERNELS_ISA_LANE_H
#define KERNELS_ISA_LANE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KERNELS_PASTE2(a, b) a##_##b
#define KERNELS_PASTE(a, b)  KERNELS_PASTE2(a, b)
#define KERNEL(name)         KERNELS_PASTE(name, KERNELS_ISA)

#define LANE_INLINE static inline __attribute__((always_inline, unused))

enum { LANES = 16 };

#if defined(KERNELS_ISA_avx512)
#include "kernels/isa/lane_avx512.h"
#elif defined(KERNELS_ISA_avx2)
#include "kernels/isa/lane_avx2.h"
#elif defined(KERNELS_ISA_neon)
#include "kernels/isa/lane_neon.h"
#else
#include "kernels/isa/lane_ref.h"
#endif

/* First n lanes from memory, zeros after; n ≤ 16. */
LANE_INLINE v16 v16_load_n(const float *p, size_t n)
{
    if (n >= LANES) {
        return v16_load(p);
    }
    float t[LANES] = {0};
    memcpy(t, p, n * sizeof(float));
    return v16_load(t);
}

LANE_INLINE void v16_store_n(float *p, v16 a, size_t n)
{
    if (n >= LANES) {
        v16_store(p, a);
        return;
    }
    float t[LANES];
    v16_store(t, a);
    memcpy(p, t, n * sizeof(float));
}

/* The sum of all lanes by the reduction rule. */
LANE_INLINE float v16_sum(v16 a)
{
    float t[LANES];
    v16_store(t, a);
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            t[i] += t[i + half];
        }
    }
    return t[0];
}

LANE_INLINE float v16_max_lane(v16 a)
{
    float t[LANES];
    v16_store(t, a);
    float m = t[0];
    for (int i = 1; i < LANES; i++) {
        m = t[i] > m ? t[i] : m;
    }
    return m;
}

/* e^x for every lane. x is clamped to [-87.33, 88.72]; below -87.33 the result is exactly 0.
 * n = round(x·log2 e), r = x − n·ln 2 in two parts (Cody and Waite), then the Taylor polynomial of
 * degree 7 in r, |r| ≤ ln2/2: relative error below 2 units in the last place. */
LANE_INLINE v16 v16_exp(v16 x)
{
    const v16 lowest = v16_set1(-87.33654f);
    const v16 clamped = v16_min(v16_max(x, lowest), v16_set1(88.72283f));
    const v16 n = v16_round(v16_mul(clamped, v16_set1(1.44269504088896341f)));
    v16 r = v16_fma(n, v16_set1(-0.693359375f), clamped);
    r = v16_fma(n, v16_set1(2.12194440e-4f), r);
    v16 p = v16_set1(1.9841270e-4f);
    p = v16_fma(p, r, v16_set1(1.3888889e-3f));
    p = v16_fma(p, r, v16_set1(8.3333338e-3f));
    p = v16_fma(p, r, v16_set1(4.1666668e-2f));
    p = v16_fma(p, r, v16_set1(1.6666667e-1f));
    p = v16_fma(p, r, v16_set1(0.5f));
    p = v16_fma(p, r, v16_set1(1.0f));
    p = v16_fma(p, r, v16_set1(1.0f));
    return v16_zero_below(v16_scale_pow2(p, n), x, lowest);
}

/* tanh x. Up to |x| = 0.35 the Taylor polynomial of degree 11, beyond it 1 − 2 / (e^2x + 1):
 * relative error below 4 units in the last place. NaN and infinities become NaN. */
LANE_INLINE v16 v16_tanh(v16 x)
{
    const v16 one = v16_set1(1.0f);
    const v16 z = v16_mul(x, x);
    v16 p = v16_set1(-8.8632356e-3f);
    p = v16_fma(p, z, v16_set1(2.1869488e-2f));
    p = v16_fma(p, z, v16_set1(-5.3968254e-2f));
    p = v16_fma(p, z, v16_set1(1.3333334e-1f));
    p = v16_fma(p, z, v16_set1(-3.3333334e-1f));
    const v16 near = v16_fma(v16_mul(p, z), x, x);
    const v16 below = v16_add(v16_exp(v16_add(x, x)), one);
    const v16 far = v16_sub(one, v16_div(v16_set1(2.0f), below));
    const v16 edge = v16_set1(0.35f);
    const v16 beyond = v16_set1(0.35000002f); /* the next number: each lane takes one branch */
    const v16 size = v16_abs(x);
    const v16 minus = v16_sub(v16_zero(), size);
    const v16 t = v16_add(v16_zero_below(near, minus, v16_sub(v16_zero(), edge)),
                          v16_zero_below(far, size, beyond));
    return v16_add(t, v16_sub(x, x));
}

/* cap · tanh(x / cap) */
LANE_INLINE v16 v16_soft_cap(v16 x, v16 cap)
{
    return v16_mul(v16_tanh(v16_div(x, cap)), cap);
}

/* tanh(√(2/π) · (x + 0.044715·x³)) */
LANE_INLINE v16 v16_gelu_tanh(v16 x)
{
    const v16 z = v16_mul(x, x);
    const v16 inner = v16_mul(x, v16_fma(v16_set1(0.044715f), z, v16_set1(1.0f)));
    return v16_tanh(v16_mul(inner, v16_set1(0.7978845608f)));
}

/* x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³))) */
LANE_INLINE v16 v16_gelu(v16 x)
{
    const v16 half = v16_mul(v16_set1(0.5f), x);
    return v16_mul(half, v16_add(v16_set1(1.0f), v16_gelu_tanh(x)));
}

/* x / (1 + e^-x) */
LANE_INLINE v16 v16_silu(v16 x)
{
    const v16 one = v16_set1(1.0f);
    return v16_div(x, v16_add(one, v16_exp(v16_sub(v16_zero(), x))));
}

#endif
