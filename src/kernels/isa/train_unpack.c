/* Weight rows as fp32, 32 columns at a time from any multiple of 32 on, the same bits as
 * formats/dequant.h, which also says how blocks lie. d·sc·q is exact in fp32 for GGUF's types (11
 * bits by at most 8 by at most 5), so adding an offset rounds once whether it is an FMA or not. */
#include "kernels/half.h"
#include "kernels/isa/lane.h"
#include "kernels/isa/train_parts.h"

enum {
    AHEAD = 16,
    BLOCK = 32,
    SUPER = 8, /* blocks of a K type's 256 columns */
    Q4_0_BYTES = 18,
    Q4_1_BYTES = 20,
    Q5_0_BYTES = 22,
    Q5_1_BYTES = 24,
    Q8_0_BYTES = 34,
    Q4_K_BYTES = 144,
    Q5_K_BYTES = 176,
    Q6_K_BYTES = 210
};

typedef uint8_t bytes16 __attribute__((vector_size(16)));

LANE_INLINE float read_half(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_to_float(h);
}

LANE_INLINE bytes16 read16(const uint8_t *p)
{
    bytes16 b;
    memcpy(&b, p, sizeof b);
    return b;
}

LANE_INLINE v16 widen16(bytes16 b)
{
    int8_t t[16];
    memcpy(t, &b, sizeof t);
    return v16_load_i8(t);
}

/* Columns 0–15 are the low halves of the bytes, 16–31 the high ones. */
LANE_INLINE void nibbles(const uint8_t *quants, v16 *low, v16 *high)
{
    const bytes16 b = read16(quants);
    *low = widen16(b & 15);
    *high = widen16(b >> 4);
}

/* 16 where bit j of the two bytes is set, for byte j. */
LANE_INLINE bytes16 fifth16(const uint8_t *bits)
{
    const bytes16 at = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8_t a = bits[0], b = bits[1];
    const bytes16 both = {a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b};
    return (bytes16)((both & at) == at) & 16;
}

LANE_INLINE void put_offset(float *out, v16 d, v16 offset, v16 low, v16 high)
{
    v16_store(out, v16_fma(d, low, offset));
    v16_store(out + LANES, v16_fma(d, high, offset));
}

LANE_INLINE void put_centred(float *out, v16 d, v16 zero, v16 low, v16 high)
{
    v16_store(out, v16_mul(d, v16_sub(low, zero)));
    v16_store(out + LANES, v16_mul(d, v16_sub(high, zero)));
}

LANE_INLINE void row_f32(float *out, const uint8_t *row, size_t col, size_t n)
{
    memcpy(out, row + 4 * col, n * sizeof *out);
}

LANE_INLINE void row_f16(float *out, const uint8_t *row, size_t col, size_t n)
{
    row += 2 * col;
    for (size_t i = 0; i < n; i += LANES) {
        uint16_t t[LANES] = {0};
        memcpy(t, row + 2 * i, 2 * (n - i < LANES ? n - i : LANES));
        v16_store_n(out + i, v16_load_f16(t), n - i);
    }
}

LANE_INLINE void row_bf16(float *out, const uint8_t *row, size_t col, size_t n)
{
    row += 2 * col;
    for (size_t i = 0; i < n; i += LANES) {
        uint16_t t[LANES] = {0};
        memcpy(t, row + 2 * i, 2 * (n - i < LANES ? n - i : LANES));
        v16_store_n(out + i, v16_load_bf16(t), n - i);
    }
}

/* The 32 columns of one block of each type. `part` says which of a K type's blocks it is. */
LANE_INLINE void block_q4_0(float *out, const uint8_t *block, size_t part)
{
    (void)part;
    v16 low, high;
    nibbles(block + 2, &low, &high);
    put_centred(out, v16_set1(read_half(block)), v16_set1(8.0f), low, high);
}

LANE_INLINE void block_q4_1(float *out, const uint8_t *block, size_t part)
{
    (void)part;
    v16 low, high;
    nibbles(block + 4, &low, &high);
    put_offset(out, v16_set1(read_half(block)), v16_set1(read_half(block + 2)), low, high);
}

LANE_INLINE void block_q5_0(float *out, const uint8_t *block, size_t part)
{
    (void)part;
    const bytes16 b = read16(block + 6);
    put_centred(out, v16_set1(read_half(block)), v16_set1(16.0f),
                widen16((b & 15) | fifth16(block + 2)), widen16((b >> 4) | fifth16(block + 4)));
}

LANE_INLINE void block_q5_1(float *out, const uint8_t *block, size_t part)
{
    (void)part;
    const bytes16 b = read16(block + 8);
    put_offset(out, v16_set1(read_half(block)), v16_set1(read_half(block + 2)),
               widen16((b & 15) | fifth16(block + 4)), widen16((b >> 4) | fifth16(block + 6)));
}

LANE_INLINE void block_q8_0(float *out, const uint8_t *block, size_t part)
{
    (void)part;
    put_centred(out, v16_set1(read_half(block)), v16_zero(), widen16(read16(block + 2)),
                widen16(read16(block + 18)));
}

/* Scale and minimum of block `part` out of twelve bytes of six bits each. */
LANE_INLINE void scale_min(const uint8_t *packed, size_t part, float *scale, float *min)
{
    if (part < 4) {
        *scale = (float)(packed[part] & 63);
        *min = (float)(packed[part + 4] & 63);
    } else {
        *scale = (float)((packed[part + 4] & 15) | (packed[part - 4] >> 6) << 4);
        *min = (float)((packed[part + 4] >> 4) | (packed[part] >> 6) << 4);
    }
}

LANE_INLINE void block_k45(float *out, const uint8_t *block, const uint8_t *fifth,
                           const uint8_t *quants, size_t part)
{
    float scale, min;
    bytes16 half[2];
    scale_min(block + 4, part, &scale, &min);
    for (size_t i = 0; i < 2; i++) {
        const bytes16 b = read16(quants + part / 2 * 32 + 16 * i);
        half[i] = part % 2 ? b >> 4 : b & 15;
        if (fifth != NULL) {
            half[i] |= (read16(fifth + 16 * i) >> (uint8_t)part & 1) << 4;
        }
    }
    put_offset(out, v16_set1(read_half(block) * scale), v16_set1(-(read_half(block + 2) * min)),
               widen16(half[0]), widen16(half[1]));
}

LANE_INLINE void block_q4_k(float *out, const uint8_t *block, size_t part)
{
    block_k45(out, block, NULL, block + 16, part);
}

LANE_INLINE void block_q5_k(float *out, const uint8_t *block, size_t part)
{
    block_k45(out, block, block + 16, block + 48, part);
}

LANE_INLINE void block_q6_k(float *out, const uint8_t *block, size_t part)
{
    const size_t half = part / 4, j = part % 4;
    const uint8_t *low = block + half * 64 + j % 2 * 32, *high = block + 128 + half * 32;
    const int8_t *scales = (const int8_t *)block + 192 + 2 * part;
    const float d = read_half(block + 208);
    for (size_t i = 0; i < 2; i++) {
        const bytes16 b = read16(low + 16 * i);
        const bytes16 upper = (read16(high + 16 * i) >> (uint8_t)(2 * j) & 3) << 4;
        const v16 q = widen16((j < 2 ? b & 15 : b >> 4) | upper);
        v16_store(out + LANES * i,
                  v16_mul(v16_set1(d * (float)scales[i]), v16_sub(q, v16_set1(32.0f))));
    }
}

#define ROW32(type, bytes)                                                                         \
    LANE_INLINE void row_##type(float *out, const uint8_t *row, size_t col, size_t n)              \
    {                                                                                              \
        row += col / BLOCK * (bytes);                                                              \
        for (size_t i = 0; i < n; i += BLOCK, row += (bytes)) {                                    \
            block_##type(out + i, row, 0);                                                         \
        }                                                                                          \
    }
#define ROW256(type, bytes)                                                                        \
    LANE_INLINE void row_##type(float *out, const uint8_t *row, size_t col, size_t n)              \
    {                                                                                              \
        for (size_t i = 0; i < n; i += BLOCK) {                                                    \
            const size_t b = (col + i) / BLOCK;                                                    \
            block_##type(out + i, row + b / SUPER * (bytes), b % SUPER);                           \
        }                                                                                          \
    }
ROW32(q4_0, Q4_0_BYTES)
ROW32(q4_1, Q4_1_BYTES)
ROW32(q5_0, Q5_0_BYTES)
ROW32(q5_1, Q5_1_BYTES)
ROW32(q8_0, Q8_0_BYTES)
ROW256(q4_k, Q4_K_BYTES)
ROW256(q5_k, Q5_K_BYTES)
ROW256(q6_k, Q6_K_BYTES)

/* All lines of a part of a row: its bytes begin anywhere in the first. */
LANE_INLINE void ask_for(const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(from + i);
    }
    __builtin_prefetch(from + bytes);
}

/* Rows lie far apart and the hardware does not see the next one coming. `bits` only has to be close
 * to a column's share of a row. */
#define UNPACK(type, bits)                                                                         \
    void KERNEL(train_unpack_##type)(float *out, size_t ld, const uint8_t *const *rows,            \
                                     size_t col, size_t n_rows, size_t n)                          \
    {                                                                                              \
        for (size_t i = 0; i < n_rows; i++) {                                                      \
            if (i + AHEAD < n_rows) {                                                              \
                ask_for(rows[i + AHEAD] + col * (bits) / 8, n * (bits) / 8);                       \
            }                                                                                      \
            row_##type(out + i * ld, rows[i], col, n);                                             \
        }                                                                                          \
    }

UNPACK(f32, 32)
UNPACK(f16, 16)
UNPACK(bf16, 16)
UNPACK(q4_0, Q4_0_BYTES / 4)
UNPACK(q4_1, Q4_1_BYTES / 4)
UNPACK(q5_0, Q5_0_BYTES / 4)
UNPACK(q5_1, Q5_1_BYTES / 4)
UNPACK(q8_0, Q8_0_BYTES / 4)
UNPACK(q4_k, Q4_K_BYTES / 32)
UNPACK(q5_k, Q5_K_BYTES / 32)
UNPACK(q6_k, Q6_K_BYTES / 32)

LANE_INLINE float read_float(enum train_weight type, const uint8_t *p)
{
    uint16_t h;
    float f;
    if (type == TRAIN_F32) {
        memcpy(&f, p, sizeof f);
        return f;
    }
    memcpy(&h, p, sizeof h);
    return type == TRAIN_F16 ? half_to_float(h) : bfloat_to_float(h);
}

/* s·q and the sum are rounded apart, which only fp32 scales can tell from an FMA. */
LANE_INLINE void affine_block(float *out, const struct train_affine *w, size_t row, size_t col)
{
    const size_t size = w->scale_type == TRAIN_F32 ? 4 : 2;
    const size_t at = row * w->scale_row_bytes + col / w->group * size;
    const v16 s = v16_set1(read_float(w->scale_type, w->scales + at));
    const v16 b = v16_set1(read_float(w->scale_type, w->biases + at));
    const uint8_t *q = w->quants + row * w->row_bytes + col * w->bits / 8;
    uint8_t t[BLOCK];
    float values[BLOCK];
    if (w->bits == 8) {
        memcpy(t, q, BLOCK);
    } else {
        for (size_t i = 0; i < BLOCK / 2; i++) {
            t[2 * i] = q[i] & 15;
            t[2 * i + 1] = q[i] >> 4;
        }
    }
    for (size_t i = 0; i < BLOCK; i++) {
        values[i] = (float)t[i];
    }
    for (size_t i = 0; i < BLOCK; i += LANES) {
        v16_store(out + i, v16_add(v16_mul(s, v16_load(values + i)), b));
    }
}

void KERNEL(train_unpack_affine)(float *out, size_t ld, const struct train_affine *w, size_t row,
                                 size_t col, size_t n_rows, size_t n)
{
    for (size_t i = 0; i < n_rows; i++) {
        if (i + AHEAD < n_rows) {
            ask_for(w->quants + (row + i + AHEAD) * w->row_bytes + col * w->bits / 8,
                    n * w->bits / 8);
        }
        for (size_t j = 0; j < n; j += BLOCK) {
            affine_block(out + i * ld + j, w, row + i, col + j);
        }
    }
}
