/* Sixteen lanes as four q registers. Contract in lane.h. */
#ifndef KERNELS_ISA_LANE_NEON_H
#define KERNELS_ISA_LANE_NEON_H

#include <arm_neon.h>

typedef struct {
    float32x4_t q[4];
} v16;

#define V16_EACH(expression)                                                                       \
    v16 r;                                                                                         \
    for (int i = 0; i < 4; i++) {                                                                  \
        r.q[i] = (expression);                                                                     \
    }                                                                                              \
    return r

LANE_INLINE v16 v16_zero(void)
{
    V16_EACH(vdupq_n_f32(0.0f));
}
LANE_INLINE v16 v16_set1(float x)
{
    V16_EACH(vdupq_n_f32(x));
}
LANE_INLINE v16 v16_load(const float *p)
{
    V16_EACH(vld1q_f32(p + 4 * i));
}
LANE_INLINE void v16_store(float *p, v16 a)
{
    for (int i = 0; i < 4; i++) {
        vst1q_f32(p + 4 * i, a.q[i]);
    }
}
LANE_INLINE v16 v16_add(v16 a, v16 b)
{
    V16_EACH(vaddq_f32(a.q[i], b.q[i]));
}
LANE_INLINE v16 v16_sub(v16 a, v16 b)
{
    V16_EACH(vsubq_f32(a.q[i], b.q[i]));
}
LANE_INLINE v16 v16_mul(v16 a, v16 b)
{
    V16_EACH(vmulq_f32(a.q[i], b.q[i]));
}
LANE_INLINE v16 v16_div(v16 a, v16 b)
{
    V16_EACH(vdivq_f32(a.q[i], b.q[i]));
}
LANE_INLINE v16 v16_max(v16 a, v16 b)
{
    V16_EACH(vbslq_f32(vcgtq_f32(a.q[i], b.q[i]), a.q[i], b.q[i]));
}
LANE_INLINE v16 v16_min(v16 a, v16 b)
{
    V16_EACH(vbslq_f32(vcltq_f32(a.q[i], b.q[i]), a.q[i], b.q[i]));
}
LANE_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
    V16_EACH(vfmaq_f32(c.q[i], a.q[i], b.q[i]));
}
LANE_INLINE v16 v16_abs(v16 a)
{
    V16_EACH(vabsq_f32(a.q[i]));
}
LANE_INLINE v16 v16_sqrt(v16 a)
{
    V16_EACH(vsqrtq_f32(a.q[i]));
}
LANE_INLINE v16 v16_round(v16 a)
{
    V16_EACH(vrndnq_f32(a.q[i]));
}
LANE_INLINE float32x4_t v4_scale_pow2(float32x4_t a, float32x4_t n)
{
    const int32x4_t i = vcvtq_s32_f32(n);
    const int32x4_t h = vshrq_n_s32(i, 1);
    const int32x4_t l = vsubq_s32(i, h);
    const int32x4_t bias = vdupq_n_s32(127);
    const float32x4_t ph = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(h, bias), 23));
    const float32x4_t pl = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(l, bias), 23));
    return vmulq_f32(vmulq_f32(a, ph), pl);
}
LANE_INLINE v16 v16_scale_pow2(v16 a, v16 n)
{
    V16_EACH(v4_scale_pow2(a.q[i], n.q[i]));
}
LANE_INLINE v16 v16_zero_below(v16 a, v16 x, v16 limit)
{
    V16_EACH(vreinterpretq_f32_u32(
        vandq_u32(vreinterpretq_u32_f32(a.q[i]), vcgeq_f32(x.q[i], limit.q[i]))));
}
LANE_INLINE v16 v16_from_i32(const int32_t *p)
{
    V16_EACH(vcvtq_f32_s32(vld1q_s32(p + 4 * i)));
}
LANE_INLINE v16 v16_load_f16(const uint16_t *p)
{
    V16_EACH(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))));
}
LANE_INLINE void v16_store_f16(uint16_t *p, v16 a)
{
    for (int i = 0; i < 4; i++) {
        vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.q[i])));
    }
}
LANE_INLINE v16 v16_load_bf16(const uint16_t *p)
{
    V16_EACH(vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)));
}
LANE_INLINE v16 v16_load_i8(const int8_t *p)
{
    const int8x16_t b = vld1q_s8(p);
    const int16x8_t lo = vmovl_s8(vget_low_s8(b));
    const int16x8_t hi = vmovl_s8(vget_high_s8(b));
    v16 r;
    r.q[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo)));
    r.q[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo)));
    r.q[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi)));
    r.q[3] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi)));
    return r;
}
LANE_INLINE void v16_store_i8(int8_t *p, v16 a)
{
    const int16x8_t lo =
        vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a.q[0])), vmovn_s32(vcvtnq_s32_f32(a.q[1])));
    const int16x8_t hi =
        vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a.q[2])), vmovn_s32(vcvtnq_s32_f32(a.q[3])));
    vst1q_s8(p, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
}

#undef V16_EACH

#endif
