/* Sixteen lanes as an array: the definition that the others must equal. Contract in lane.h. */
#ifndef KERNELS_ISA_LANE_REF_H
#define KERNELS_ISA_LANE_REF_H

#include "kernels/half.h"

typedef struct {
    float v[16];
} v16;

#define V16_EACH(expression)                                                                       \
    v16 r;                                                                                         \
    for (int i = 0; i < 16; i++) {                                                                 \
        r.v[i] = (expression);                                                                     \
    }                                                                                              \
    return r

LANE_INLINE v16 v16_zero(void)
{
    V16_EACH(0.0f);
}
LANE_INLINE v16 v16_set1(float x)
{
    V16_EACH(x);
}
LANE_INLINE v16 v16_load(const float *p)
{
    V16_EACH(p[i]);
}
LANE_INLINE void v16_store(float *p, v16 a)
{
    memcpy(p, a.v, sizeof a.v);
}
LANE_INLINE v16 v16_add(v16 a, v16 b)
{
    V16_EACH(a.v[i] + b.v[i]);
}
LANE_INLINE v16 v16_sub(v16 a, v16 b)
{
    V16_EACH(a.v[i] - b.v[i]);
}
LANE_INLINE v16 v16_mul(v16 a, v16 b)
{
    V16_EACH(a.v[i] * b.v[i]);
}
LANE_INLINE v16 v16_div(v16 a, v16 b)
{
    V16_EACH(a.v[i] / b.v[i]);
}
LANE_INLINE v16 v16_max(v16 a, v16 b)
{
    V16_EACH(a.v[i] > b.v[i] ? a.v[i] : b.v[i]);
}
LANE_INLINE v16 v16_min(v16 a, v16 b)
{
    V16_EACH(a.v[i] < b.v[i] ? a.v[i] : b.v[i]);
}
LANE_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
    V16_EACH(fmaf(a.v[i], b.v[i], c.v[i]));
}
LANE_INLINE v16 v16_abs(v16 a)
{
    V16_EACH(fabsf(a.v[i]));
}
LANE_INLINE v16 v16_sqrt(v16 a)
{
    V16_EACH(sqrtf(a.v[i]));
}
/* Nearest, ties to even: adding and taking away 1.5·2^23 rounds in the last place; from 2^22 on
 * the kernels never ask. */
LANE_INLINE float lane_round(float x)
{
    const float magic = 12582912.0f;
    volatile float shifted = x + magic;
    const float r = shifted - magic;
    return copysignf(r, x);
}
LANE_INLINE v16 v16_round(v16 a)
{
    V16_EACH(lane_round(a.v[i]));
}
LANE_INLINE float lane_pow2(int n)
{
    const uint32_t bits = (uint32_t)(n + 127) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
LANE_INLINE float lane_scale_pow2(float a, float n)
{
    const int i = (int)n;
    const int h = i >> 1;
    return (a * lane_pow2(h)) * lane_pow2(i - h);
}
LANE_INLINE v16 v16_scale_pow2(v16 a, v16 n)
{
    V16_EACH(lane_scale_pow2(a.v[i], n.v[i]));
}
LANE_INLINE v16 v16_zero_below(v16 a, v16 x, v16 limit)
{
    V16_EACH(x.v[i] >= limit.v[i] ? a.v[i] : 0.0f);
}
LANE_INLINE v16 v16_from_i32(const int32_t *p)
{
    V16_EACH((float)p[i]);
}
LANE_INLINE v16 v16_load_f16(const uint16_t *p)
{
    V16_EACH(half_to_float(p[i]));
}
LANE_INLINE void v16_store_f16(uint16_t *p, v16 a)
{
    for (int i = 0; i < 16; i++) {
        p[i] = half_from_float(a.v[i]);
    }
}
LANE_INLINE v16 v16_load_bf16(const uint16_t *p)
{
    V16_EACH(bfloat_to_float(p[i]));
}
LANE_INLINE v16 v16_load_i8(const int8_t *p)
{
    V16_EACH((float)p[i]);
}
LANE_INLINE void v16_store_i8(int8_t *p, v16 a)
{
    for (int i = 0; i < 16; i++) {
        p[i] = (int8_t)lane_round(a.v[i]);
    }
}

#undef V16_EACH

#endif
