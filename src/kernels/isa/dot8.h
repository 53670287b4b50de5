/* The 8-bit dot product: the only other thing, beside the lane type, that differs between
 * instruction sets.
 *
 *   w8        one block of a panel, unpacked: 8 groups of 16 rows × 4 columns of bytes
 *   w8_dot    the exact integer sums over a block of 32 columns for sixteen rows, started at
 * `start`
 *
 * Bytes are unsigned with the zero point taken out by `start` where the hardware multiplies
 * unsigned by signed (VNNI, and 4-bit on AVX2); signed where it can (NEON, 8-bit on AVX2). `four`
 * says that values are 0…15, which AVX2 may add in 16 bits over the whole block (at most 8·2·15·127
 * = 30,480).
 */
#ifndef KERNELS_ISA_DOT8_H
#define KERNELS_ISA_DOT8_H

#include "kernels/isa/lane.h"

/* Four activations as one number. Read through this type, and not by memcpy, the compiler
 * broadcasts them straight from memory, which costs no shuffle. */
typedef int32_t packed4 __attribute__((may_alias, aligned(1)));

#if defined(KERNELS_ISA_avx512)

typedef struct {
    __m512i g[8];
} w8;

LANE_INLINE w8 w8_load4(const uint8_t *p)
{
    const __m512i low = _mm512_set1_epi8(15);
    w8 w;
    for (int i = 0; i < 4; i++) {
        const __m512i b = _mm512_loadu_si512(p + 64 * i);
        w.g[i] = _mm512_and_si512(b, low);
        w.g[i + 4] = _mm512_and_si512(_mm512_srli_epi16(b, 4), low);
    }
    return w;
}
LANE_INLINE w8 w8_load8(const uint8_t *p)
{
    w8 w;
    for (int i = 0; i < 8; i++) {
        w.g[i] = _mm512_loadu_si512(p + 64 * i);
    }
    return w;
}
LANE_INLINE v16 w8_dot(const w8 *w, const int8_t *x, int32_t start, int four)
{
    (void)four;
    const packed4 *x4 = (const packed4 *)(const void *)x;
    __m512i even = _mm512_set1_epi32(start);
    __m512i odd = _mm512_setzero_si512();
    for (int i = 0; i < 8; i += 2) {
        even = _mm512_dpbusd_epi32(even, w->g[i], _mm512_set1_epi32(x4[i]));
        odd = _mm512_dpbusd_epi32(odd, w->g[i + 1], _mm512_set1_epi32(x4[i + 1]));
    }
    return _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
}

#elif defined(KERNELS_ISA_avx2)

typedef struct {
    __m256i g[16];
} w8;

LANE_INLINE w8 w8_load4(const uint8_t *p)
{
    const __m256i low = _mm256_set1_epi8(15);
    w8 w;
    for (int i = 0; i < 8; i++) {
        const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * i));
        w.g[i] = _mm256_and_si256(b, low);
        w.g[i + 8] = _mm256_and_si256(_mm256_srli_epi16(b, 4), low);
    }
    return w;
}
LANE_INLINE w8 w8_load8(const uint8_t *p)
{
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    w8 w;
    for (int i = 0; i < 16; i++) {
        const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * i));
        w.g[i] = _mm256_xor_si256(b, flip);
    }
    return w;
}
LANE_INLINE v16 w8_dot(const w8 *w, const int8_t *x, int32_t start, int four)
{
    const packed4 *x4 = (const packed4 *)(const void *)x;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i lo, hi;
    if (four) {
        __m256i a = _mm256_setzero_si256();
        __m256i b = a;
        for (int i = 0; i < 8; i++) {
            const __m256i xi = _mm256_set1_epi32(x4[i]);
            a = _mm256_add_epi16(a, _mm256_maddubs_epi16(w->g[2 * i], xi));
            b = _mm256_add_epi16(b, _mm256_maddubs_epi16(w->g[2 * i + 1], xi));
        }
        const __m256i s = _mm256_set1_epi32(start);
        lo = _mm256_add_epi32(_mm256_madd_epi16(a, ones), s);
        hi = _mm256_add_epi32(_mm256_madd_epi16(b, ones), s);
    } else {
        /* |w| unsigned by sign(w)·x: exact even at −128, and no zero point is left to take out */
        lo = _mm256_setzero_si256();
        hi = lo;
        for (int i = 0; i < 8; i++) {
            const __m256i xi = _mm256_set1_epi32(x4[i]);
            const __m256i wa = w->g[2 * i];
            const __m256i wb = w->g[2 * i + 1];
            const __m256i pa = _mm256_maddubs_epi16(_mm256_abs_epi8(wa), _mm256_sign_epi8(xi, wa));
            const __m256i pb = _mm256_maddubs_epi16(_mm256_abs_epi8(wb), _mm256_sign_epi8(xi, wb));
            lo = _mm256_add_epi32(lo, _mm256_madd_epi16(pa, ones));
            hi = _mm256_add_epi32(hi, _mm256_madd_epi16(pb, ones));
        }
    }
    return v16_make(_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi));
}

#elif defined(KERNELS_ISA_neon)

typedef struct {
    int8x16_t g[32];
} w8;

LANE_INLINE w8 w8_load4(const uint8_t *p)
{
    w8 w;
    for (int i = 0; i < 16; i++) {
        const uint8x16_t b = vld1q_u8(p + 16 * i);
        w.g[i] = vreinterpretq_s8_u8(vandq_u8(b, vdupq_n_u8(15)));
        w.g[i + 16] = vreinterpretq_s8_u8(vshrq_n_u8(b, 4));
    }
    return w;
}
LANE_INLINE w8 w8_load8(const uint8_t *p)
{
    w8 w;
    for (int i = 0; i < 32; i++) {
        w.g[i] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p + 16 * i), vdupq_n_u8(0x80)));
    }
    return w;
}
LANE_INLINE v16 w8_dot(const w8 *w, const int8_t *x, int32_t start, int four)
{
    const packed4 *x4 = (const packed4 *)(const void *)x;
    v16 r;
    for (int j = 0; j < 4; j++) {
        int32x4_t s = vdupq_n_s32(four ? start : 0);
        for (int i = 0; i < 8; i++) {
            s = vdotq_s32(s, w->g[4 * i + j], vreinterpretq_s8_s32(vdupq_n_s32(x4[i])));
        }
        r.q[j] = vcvtq_f32_s32(s);
    }
    return r;
}

#else /* ref */

typedef struct {
    int16_t g[8][16][4]; /* the values themselves, zero point in place for 4-bit only */
} w8;

LANE_INLINE w8 w8_load4(const uint8_t *p)
{
    w8 w;
    for (int i = 0; i < 4; i++) {
        for (int r = 0; r < 16; r++) {
            for (int c = 0; c < 4; c++) {
                const uint8_t b = p[64 * i + 4 * r + c];
                w.g[i][r][c] = b & 15;
                w.g[i + 4][r][c] = b >> 4;
            }
        }
    }
    return w;
}
LANE_INLINE w8 w8_load8(const uint8_t *p)
{
    w8 w;
    for (int i = 0; i < 8; i++) {
        for (int r = 0; r < 16; r++) {
            for (int c = 0; c < 4; c++) {
                w.g[i][r][c] = (int16_t)(p[64 * i + 4 * r + c] - 128);
            }
        }
    }
    return w;
}
LANE_INLINE v16 w8_dot(const w8 *w, const int8_t *x, int32_t start, int four)
{
    v16 out;
    for (int r = 0; r < 16; r++) {
        int32_t s = four ? start : 0;
        for (int i = 0; i < 8; i++) {
            for (int c = 0; c < 4; c++) {
                s += w->g[i][r][c] * x[4 * i + c];
            }
        }
        out.v[r] = (float)s;
    }
    return out;
}

#endif

/* Where the sum of a block of PACK_Q8 starts: only VNNI multiplies unsigned bytes there. */
#if defined(KERNELS_ISA_avx512)
#define W8_EIGHT_BIT_START(zero128) (zero128)
#else
#define W8_EIGHT_BIT_START(zero128) 0
#endif

#endif
