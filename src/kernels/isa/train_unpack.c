/* Weight rows as fp32. d·q is exact in fp32 for these types (11 bits by at most 8), so d·q + m is
 * rounded once whether it is an FMA or not. */
#include "kernels/half.h"
#include "kernels/isa/lane.h"
#include "kernels/isa/train_parts.h"

enum { AHEAD = 16, BLOCK = 32, Q4_0_BYTES = 18, Q4_1_BYTES = 20, Q8_0_BYTES = 34 };

typedef uint8_t bytes16 __attribute__((vector_size(16)));

LANE_INLINE float read_half(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_to_float(h);
}

/* Columns 0–15 are the low halves of the bytes, 16–31 the high ones. */
LANE_INLINE void nibbles(const uint8_t *quants, v16 *low, v16 *high)
{
    bytes16 b;
    memcpy(&b, quants, sizeof b);
    const bytes16 lo = b & 15, hi = b >> 4;
    int8_t t[BLOCK];
    memcpy(t, &lo, sizeof lo);
    memcpy(t + 16, &hi, sizeof hi);
    *low = v16_load_i8(t);
    *high = v16_load_i8(t + 16);
}

LANE_INLINE void row_f32(float *out, const uint8_t *row, size_t n)
{
    memcpy(out, row, n * sizeof *out);
}

LANE_INLINE void row_f16(float *out, const uint8_t *row, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint16_t t[LANES] = {0};
        memcpy(t, row + 2 * i, 2 * (n - i < LANES ? n - i : LANES));
        v16_store_n(out + i, v16_load_f16(t), n - i);
    }
}

LANE_INLINE void row_bf16(float *out, const uint8_t *row, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint16_t t[LANES] = {0};
        memcpy(t, row + 2 * i, 2 * (n - i < LANES ? n - i : LANES));
        v16_store_n(out + i, v16_load_bf16(t), n - i);
    }
}

LANE_INLINE void row_q4_0(float *out, const uint8_t *row, size_t n)
{
    const v16 eight = v16_set1(8.0f);
    for (size_t i = 0; i < n; i += BLOCK, row += Q4_0_BYTES) {
        const v16 d = v16_set1(read_half(row));
        v16 low, high;
        nibbles(row + 2, &low, &high);
        v16_store(out + i, v16_mul(d, v16_sub(low, eight)));
        v16_store(out + i + LANES, v16_mul(d, v16_sub(high, eight)));
    }
}

LANE_INLINE void row_q4_1(float *out, const uint8_t *row, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK, row += Q4_1_BYTES) {
        const v16 d = v16_set1(read_half(row)), m = v16_set1(read_half(row + 2));
        v16 low, high;
        nibbles(row + 4, &low, &high);
        v16_store(out + i, v16_fma(d, low, m));
        v16_store(out + i + LANES, v16_fma(d, high, m));
    }
}

LANE_INLINE void row_q8_0(float *out, const uint8_t *row, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK, row += Q8_0_BYTES) {
        const v16 d = v16_set1(read_half(row));
        int8_t q[BLOCK];
        memcpy(q, row + 2, sizeof q);
        v16_store(out + i, v16_mul(d, v16_load_i8(q)));
        v16_store(out + i + LANES, v16_mul(d, v16_load_i8(q + LANES)));
    }
}

/* Rows lie far apart and the hardware does not see the next one coming. */
#define UNPACK(type)                                                                               \
    void KERNEL(train_unpack_##type)(float *out, size_t ld, const uint8_t *const *rows,            \
                                     size_t offset, size_t n_rows, size_t n)                       \
    {                                                                                              \
        for (size_t i = 0; i < n_rows; i++) {                                                      \
            if (i + AHEAD < n_rows) {                                                              \
                __builtin_prefetch(rows[i + AHEAD] + offset);                                      \
            }                                                                                      \
            row_##type(out + i * ld, rows[i] + offset, n);                                         \
        }                                                                                          \
    }

UNPACK(f32)
UNPACK(f16)
UNPACK(bf16)
UNPACK(q4_0)
UNPACK(q4_1)
UNPACK(q8_0)
