/* Sixteen lanes as one zmm. Contract in lane.h. */
#ifndef KERNELS_ISA_LANE_AVX512_H
#define KERNELS_ISA_LANE_AVX512_H

#include <immintrin.h>

typedef __m512 v16;

LANE_INLINE v16 v16_zero(void)
{
    return _mm512_setzero_ps();
}
LANE_INLINE v16 v16_set1(float x)
{
    return _mm512_set1_ps(x);
}
LANE_INLINE v16 v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
LANE_INLINE void v16_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}
LANE_INLINE v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
LANE_INLINE v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
LANE_INLINE v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
LANE_INLINE v16 v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
LANE_INLINE v16 v16_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}
LANE_INLINE v16 v16_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}
LANE_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
LANE_INLINE v16 v16_abs(v16 a)
{
    return _mm512_abs_ps(a);
}
LANE_INLINE v16 v16_sqrt(v16 a)
{
    return _mm512_sqrt_ps(a);
}
/* nearest, ties to even */
LANE_INLINE v16 v16_round(v16 a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* a·2^n for integral n in [-127, 128], as two exact steps so that the ends do not overflow */
LANE_INLINE v16 v16_scale_pow2(v16 a, v16 n)
{
    const __m512i i = _mm512_cvtps_epi32(n);
    const __m512i h = _mm512_srai_epi32(i, 1);
    const __m512i l = _mm512_sub_epi32(i, h);
    const __m512i bias = _mm512_set1_epi32(127);
    const v16 ph = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(h, bias), 23));
    const v16 pl = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(l, bias), 23));
    return _mm512_mul_ps(_mm512_mul_ps(a, ph), pl);
}
/* a where x ≥ limit, else +0 */
LANE_INLINE v16 v16_zero_below(v16 a, v16 x, v16 limit)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), a);
}
LANE_INLINE v16 v16_from_i32(const int32_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_loadu_si512(p));
}
LANE_INLINE v16 v16_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
/* nearest even; the caller has clamped to ±65504 */
LANE_INLINE void v16_store_f16(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
LANE_INLINE v16 v16_load_bf16(const uint16_t *p)
{
    const __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
LANE_INLINE v16 v16_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
/* lanes rounded to nearest even, as signed bytes; the caller keeps them within ±127 */
LANE_INLINE void v16_store_i8(int8_t *p, v16 a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

#endif
