/* Sixteen lanes as two ymm. Contract in lane.h. */
#ifndef KERNELS_ISA_LANE_AVX2_H
#define KERNELS_ISA_LANE_AVX2_H

#include <immintrin.h>

typedef struct {
    __m256 lo, hi;
} v16;

LANE_INLINE v16 v16_make(__m256 lo, __m256 hi)
{
    const v16 r = {lo, hi};
    return r;
}
LANE_INLINE v16 v16_zero(void)
{
    return v16_make(_mm256_setzero_ps(), _mm256_setzero_ps());
}
LANE_INLINE v16 v16_set1(float x)
{
    const __m256 a = _mm256_set1_ps(x);
    return v16_make(a, a);
}
LANE_INLINE v16 v16_load(const float *p)
{
    return v16_make(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
LANE_INLINE void v16_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
LANE_INLINE v16 v16_add(v16 a, v16 b)
{
    return v16_make(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi));
}
LANE_INLINE v16 v16_sub(v16 a, v16 b)
{
    return v16_make(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi));
}
LANE_INLINE v16 v16_mul(v16 a, v16 b)
{
    return v16_make(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi));
}
LANE_INLINE v16 v16_div(v16 a, v16 b)
{
    return v16_make(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi));
}
LANE_INLINE v16 v16_max(v16 a, v16 b)
{
    return v16_make(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi));
}
LANE_INLINE v16 v16_min(v16 a, v16 b)
{
    return v16_make(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi));
}
LANE_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
    return v16_make(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}
LANE_INLINE v16 v16_abs(v16 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return v16_make(_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi));
}
LANE_INLINE v16 v16_sqrt(v16 a)
{
    return v16_make(_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi));
}
LANE_INLINE v16 v16_round(v16 a)
{
    return v16_make(_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                    _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
LANE_INLINE __m256 v8_scale_pow2(__m256 a, __m256 n)
{
    const __m256i i = _mm256_cvtps_epi32(n);
    const __m256i h = _mm256_srai_epi32(i, 1);
    const __m256i l = _mm256_sub_epi32(i, h);
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256 ph = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(h, bias), 23));
    const __m256 pl = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(l, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, ph), pl);
}
LANE_INLINE v16 v16_scale_pow2(v16 a, v16 n)
{
    return v16_make(v8_scale_pow2(a.lo, n.lo), v8_scale_pow2(a.hi, n.hi));
}
LANE_INLINE v16 v16_zero_below(v16 a, v16 x, v16 limit)
{
    return v16_make(_mm256_and_ps(a.lo, _mm256_cmp_ps(x.lo, limit.lo, _CMP_GE_OQ)),
                    _mm256_and_ps(a.hi, _mm256_cmp_ps(x.hi, limit.hi, _CMP_GE_OQ)));
}
LANE_INLINE v16 v16_from_i32(const int32_t *p)
{
    const __m256i *q = (const __m256i *)(const void *)p;
    return v16_make(_mm256_cvtepi32_ps(_mm256_loadu_si256(q)),
                    _mm256_cvtepi32_ps(_mm256_loadu_si256(q + 1)));
}
LANE_INLINE v16 v16_load_f16(const uint16_t *p)
{
    const __m128i *q = (const __m128i *)(const void *)p;
    return v16_make(_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1)));
}
LANE_INLINE void v16_store_f16(uint16_t *p, v16 a)
{
    __m128i *q = (__m128i *)(void *)p;
    _mm_storeu_si128(q, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128(q + 1, _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
LANE_INLINE v16 v16_load_bf16(const uint16_t *p)
{
    const __m128i *q = (const __m128i *)(const void *)p;
    const __m256i lo = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), 16);
    const __m256i hi = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1)), 16);
    return v16_make(_mm256_castsi256_ps(lo), _mm256_castsi256_ps(hi));
}
LANE_INLINE v16 v16_load_i8(const int8_t *p)
{
    const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
    return v16_make(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))));
}
LANE_INLINE void v16_store_i8(int8_t *p, v16 a)
{
    const __m256i w = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    const __m256i s = _mm256_permute4x64_epi64(w, 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p,
                     _mm_packs_epi16(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1)));
}

#endif
