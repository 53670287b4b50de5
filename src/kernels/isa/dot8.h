/* The 8-bit dot product: the only other thing, beside the lane type, that differs between
 * instruction sets.
 *
 *   w8        one block of a panel, unpacked: 8 groups of 16 rows × 4 columns of bytes
 *   w8_dot    the exact integer sums over a block of 32 columns for sixteen rows, started at
 *             `start`
 *   w8_dot6   the same with two integer scales per row, one for each half of the block:
 *             scale0·(start0 + Σ first half) + scale1·(start1 + Σ second half)
 *
 * Bytes are unsigned with the zero point taken out by `start` where values have at most six bits,
 * and for eight where the hardware multiplies unsigned by signed (VNNI); else eight bits are
 * signed. `bits` is what AVX2 must know to add in 16 bits: four bits over the whole block (at most
 * 8·2·15·127 = 30,480), five over four groups (31,496), six over two (32,004).
 * w8_dot6 is at most 32·127·16·128·2 = 16,646,144 < 2^24, and so is each part of it: fp32 products
 * and sums of these integers are exact, whatever their order.
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
/* Four 64-byte vectors of nibbles, then one with a fifth bit for each of the eight groups. */
LANE_INLINE w8 w8_load5(const uint8_t *p)
{
    const __m512i fifth = _mm512_set1_epi8(16);
    const __m512i h = _mm512_loadu_si512(p + 256);
    w8 w = w8_load4(p);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const __m512i moved = i < 4 ? _mm512_slli_epi16(h, (unsigned)(4 - i) & 7)
                                    : _mm512_srli_epi16(h, (unsigned)(i - 4) & 7);
        w.g[i] = _mm512_ternarylogic_epi32(w.g[i], moved, fifth, 0xf8); /* g | (moved & fifth) */
    }
    return w;
}
/* Nibbles, then two vectors of which each has the upper two bits of four groups. */
LANE_INLINE w8 w8_load6(const uint8_t *p)
{
    const __m512i upper = _mm512_set1_epi8(48);
    w8 w = w8_load4(p);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const __m512i h = _mm512_loadu_si512(p + 256 + i / 4 * 64);
        const int at = i % 4;
        const __m512i moved = at < 2 ? _mm512_slli_epi16(h, (unsigned)(4 - 2 * at) & 7)
                                     : _mm512_srli_epi16(h, (unsigned)(2 * at - 4) & 7);
        w.g[i] = _mm512_ternarylogic_epi32(w.g[i], moved, upper, 0xf8);
    }
    return w;
}
LANE_INLINE v16 w8_dot(const w8 *w, const int8_t *x, int32_t start, int bits)
{
    (void)bits;
    const packed4 *x4 = (const packed4 *)(const void *)x;
    __m512i even = _mm512_set1_epi32(start);
    __m512i odd = _mm512_setzero_si512();
    for (int i = 0; i < 8; i += 2) {
        even = _mm512_dpbusd_epi32(even, w->g[i], _mm512_set1_epi32(x4[i]));
        odd = _mm512_dpbusd_epi32(odd, w->g[i + 1], _mm512_set1_epi32(x4[i + 1]));
    }
    return _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
}
LANE_INLINE v16 w8_dot6(const w8 *w, const int8_t *x, const int32_t *start, v16 scale0, v16 scale1)
{
    const packed4 *x4 = (const packed4 *)(const void *)x;
    __m512i a = _mm512_set1_epi32(start[0]);
    __m512i b = _mm512_set1_epi32(start[1]);
    for (int i = 0; i < 4; i++) {
        a = _mm512_dpbusd_epi32(a, w->g[i], _mm512_set1_epi32(x4[i]));
        b = _mm512_dpbusd_epi32(b, w->g[i + 4], _mm512_set1_epi32(x4[i + 4]));
    }
    return v16_fma(_mm512_cvtepi32_ps(b), scale1, v16_mul(_mm512_cvtepi32_ps(a), scale0));
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
LANE_INLINE __m256i w8_shift(__m256i h, int left)
{
    return left >= 0 ? _mm256_slli_epi16(h, left & 7) : _mm256_srli_epi16(h, -left & 7);
}
LANE_INLINE w8 w8_load5(const uint8_t *p)
{
    const __m256i fifth = _mm256_set1_epi8(16);
    w8 w = w8_load4(p);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        const __m256i h =
            _mm256_loadu_si256((const __m256i *)(const void *)(p + 256 + 32 * (i & 1)));
        w.g[i] = _mm256_or_si256(w.g[i], _mm256_and_si256(w8_shift(h, 4 - i / 2), fifth));
    }
    return w;
}
LANE_INLINE w8 w8_load6(const uint8_t *p)
{
    const __m256i upper = _mm256_set1_epi8(48);
    w8 w = w8_load4(p);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        const uint8_t *at = p + 256 + i / 8 * 64 + 32 * (i & 1);
        const __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)at);
        w.g[i] = _mm256_or_si256(w.g[i], _mm256_and_si256(w8_shift(h, 4 - i / 2 % 4 * 2), upper));
    }
    return w;
}
/* Sums of rows 0–7 and 8–15. */
typedef struct {
    __m256i lo, hi;
} w8_sums;

LANE_INLINE w8_sums w8_plus(w8_sums a, w8_sums b)
{
    const w8_sums r = {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
    return r;
}
/* Groups [from, from + n), added in 16 bits first. The empty statement holds the compiler to the
 * order that is written: made into a tree, the sum of a whole block wants all its products at once,
 * which are more than there are registers. */
LANE_INLINE w8_sums w8_few(const w8 *w, const packed4 *x4, int from, int n)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i a = _mm256_setzero_si256();
    __m256i b = a;
    for (int i = from; i < from + n; i++) {
        const __m256i xi = _mm256_set1_epi32(x4[i]);
        a = _mm256_add_epi16(a, _mm256_maddubs_epi16(w->g[2 * i], xi));
        b = _mm256_add_epi16(b, _mm256_maddubs_epi16(w->g[2 * i + 1], xi));
        if (n == 8) {
            __asm__("" : "+x"(a), "+x"(b));
        }
    }
    const w8_sums r = {_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones)};
    return r;
}
/* |w| unsigned by sign(w)·x: exact even at −128, and no zero point is left to take out */
LANE_INLINE w8_sums w8_signed(const w8 *w, const packed4 *x4)
{
    const __m256i ones = _mm256_set1_epi16(1);
    w8_sums r = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int i = 0; i < 8; i++) {
        const __m256i xi = _mm256_set1_epi32(x4[i]);
        const __m256i wa = w->g[2 * i];
        const __m256i wb = w->g[2 * i + 1];
        const __m256i pa = _mm256_maddubs_epi16(_mm256_abs_epi8(wa), _mm256_sign_epi8(xi, wa));
        const __m256i pb = _mm256_maddubs_epi16(_mm256_abs_epi8(wb), _mm256_sign_epi8(xi, wb));
        r.lo = _mm256_add_epi32(r.lo, _mm256_madd_epi16(pa, ones));
        r.hi = _mm256_add_epi32(r.hi, _mm256_madd_epi16(pb, ones));
    }
    return r;
}
LANE_INLINE v16 w8_float(w8_sums sums, int32_t start)
{
    const __m256i s = _mm256_set1_epi32(start);
    return v16_make(_mm256_cvtepi32_ps(_mm256_add_epi32(sums.lo, s)),
                    _mm256_cvtepi32_ps(_mm256_add_epi32(sums.hi, s)));
}
LANE_INLINE v16 w8_dot(const w8 *w, const int8_t *x, int32_t start, int bits)
{
    const packed4 *x4 = (const packed4 *)(const void *)x;
    if (bits == 8) {
        return w8_float(w8_signed(w, x4), start);
    }
    if (bits == 4) {
        return w8_float(w8_few(w, x4, 0, 8), start);
    }
    return w8_float(w8_plus(w8_few(w, x4, 0, 4), w8_few(w, x4, 4, 4)), start);
}
LANE_INLINE v16 w8_dot6(const w8 *w, const int8_t *x, const int32_t *start, v16 scale0, v16 scale1)
{
    const packed4 *x4 = (const packed4 *)(const void *)x;
    const w8_sums a = w8_plus(w8_few(w, x4, 0, 2), w8_few(w, x4, 2, 2));
    const w8_sums b = w8_plus(w8_few(w, x4, 4, 2), w8_few(w, x4, 6, 2));
    return v16_fma(w8_float(b, start[1]), scale1, v16_mul(w8_float(a, start[0]), scale0));
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
/* One bit field of the bytes h, `left` places up (or down, when negative). */
LANE_INLINE int8x16_t w8_field(int8x16_t low, uint8x16_t h, int left, uint8_t mask)
{
    const uint8x16_t moved = vshlq_u8(h, vdupq_n_s8((int8_t)left));
    return vorrq_s8(low, vreinterpretq_s8_u8(vandq_u8(moved, vdupq_n_u8(mask))));
}
LANE_INLINE w8 w8_load5(const uint8_t *p)
{
    w8 w = w8_load4(p);
    for (int i = 0; i < 32; i++) {
        w.g[i] = w8_field(w.g[i], vld1q_u8(p + 256 + 16 * (i % 4)), 4 - i / 4, 16);
    }
    return w;
}
LANE_INLINE w8 w8_load6(const uint8_t *p)
{
    w8 w = w8_load4(p);
    for (int i = 0; i < 32; i++) {
        const uint8x16_t h = vld1q_u8(p + 256 + i / 16 * 64 + 16 * (i % 4));
        w.g[i] = w8_field(w.g[i], h, 4 - i / 4 % 4 * 2, 48);
    }
    return w;
}
LANE_INLINE v16 w8_dot6(const w8 *w, const int8_t *x, const int32_t *start, v16 scale0, v16 scale1)
{
    const packed4 *x4 = (const packed4 *)(const void *)x;
    v16 a, b;
    for (int j = 0; j < 4; j++) {
        int32x4_t s = vdupq_n_s32(start[0]);
        int32x4_t t = vdupq_n_s32(start[1]);
        for (int i = 0; i < 4; i++) {
            s = vdotq_s32(s, w->g[4 * i + j], vreinterpretq_s8_s32(vdupq_n_s32(x4[i])));
            t = vdotq_s32(t, w->g[4 * i + 16 + j], vreinterpretq_s8_s32(vdupq_n_s32(x4[i + 4])));
        }
        a.q[j] = vcvtq_f32_s32(s);
        b.q[j] = vcvtq_f32_s32(t);
    }
    return v16_fma(b, scale1, v16_mul(a, scale0));
}
LANE_INLINE v16 w8_dot(const w8 *w, const int8_t *x, int32_t start, int bits)
{
    (void)bits;
    const packed4 *x4 = (const packed4 *)(const void *)x;
    v16 r;
    for (int j = 0; j < 4; j++) {
        int32x4_t s = vdupq_n_s32(start);
        for (int i = 0; i < 8; i++) {
            s = vdotq_s32(s, w->g[4 * i + j], vreinterpretq_s8_s32(vdupq_n_s32(x4[i])));
        }
        r.q[j] = vcvtq_f32_s32(s);
    }
    return r;
}

#else /* ref */

/* Calls: inlined into every tile of every kind these would be most of a build's time. */
#define W8_CALL static __attribute__((noinline, unused))

typedef struct {
    int16_t g[8][16][4]; /* the values themselves, zero point in place but for eight bits */
} w8;

W8_CALL w8 w8_load4(const uint8_t *p)
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
W8_CALL w8 w8_load8(const uint8_t *p)
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
W8_CALL w8 w8_load5(const uint8_t *p)
{
    w8 w = w8_load4(p);
    for (int i = 0; i < 8; i++) {
        for (int r = 0; r < 16; r++) {
            for (int c = 0; c < 4; c++) {
                const int bit = p[256 + 4 * r + c] >> i & 1;
                w.g[i][r][c] = (int16_t)(w.g[i][r][c] + 16 * bit);
            }
        }
    }
    return w;
}
W8_CALL w8 w8_load6(const uint8_t *p)
{
    w8 w = w8_load4(p);
    for (int i = 0; i < 8; i++) {
        for (int r = 0; r < 16; r++) {
            for (int c = 0; c < 4; c++) {
                const int upper = p[256 + i / 4 * 64 + 4 * r + c] >> (i % 4 * 2) & 3;
                w.g[i][r][c] = (int16_t)(w.g[i][r][c] + 16 * upper);
            }
        }
    }
    return w;
}
W8_CALL int32_t w8_sum(const w8 *w, const int8_t *x, int row, int begin, int end)
{
    int32_t s = 0;
    for (int i = begin; i < end; i++) {
        for (int c = 0; c < 4; c++) {
            s += w->g[i][row][c] * x[4 * i + c];
        }
    }
    return s;
}
W8_CALL v16 w8_dot(const w8 *w, const int8_t *x, int32_t start, int bits)
{
    (void)bits;
    v16 out;
    for (int r = 0; r < 16; r++) {
        out.v[r] = (float)(start + w8_sum(w, x, r, 0, 8));
    }
    return out;
}
W8_CALL v16 w8_dot6(const w8 *w, const int8_t *x, const int32_t *start, v16 scale0, v16 scale1)
{
    v16 out;
    for (int r = 0; r < 16; r++) {
        const int32_t a = start[0] + w8_sum(w, x, r, 0, 4);
        const int32_t b = start[1] + w8_sum(w, x, r, 4, 8);
        out.v[r] = (float)((int32_t)scale0.v[r] * a + (int32_t)scale1.v[r] * b);
    }
    return out;
}

#endif

/* Where the sum of a block of signed bytes (PACK_Q8) and of unsigned ones (PACK_A8) starts, zero128
 * being −128 Σx: only VNNI multiplies unsigned bytes there. */
#if defined(KERNELS_ISA_avx512)
#define W8_SIGNED_START(zero128)   (zero128)
#define W8_UNSIGNED_START(zero128) 0
#else
#define W8_SIGNED_START(zero128)   0
#define W8_UNSIGNED_START(zero128) (-(zero128))
#endif

#endif
