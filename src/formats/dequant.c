/* One function per type; block types go one block per call. Bytes are read one by one or by memcpy:
 * a block has no alignment. The layouts (see tensor_type.h for the sizes):
 *
 *   Q4_0, Q4_1, Q5_0, Q5_1: element i < 16 is the low nibble of byte i, element 16 + i the high
 * one; the fifth bit of element i is bit i of a little-endian u32. Q4_K, Q5_K: eight sub-blocks of
 * 32; each 32 bytes of nibbles hold two of them, low then high; fifth bits of sub-block s are bit s
 * of 32 bytes. Scales and mins are 6 bits each: of sub-blocks 0–3 the low six bits of bytes 0–3 and
 * 4–7; of 4–7 the nibbles of bytes 8–11, with the high two bits of bytes 0–3 (scales) and 4–7
 * (mins) on top. Q6_K: two halves of 128; in a half, element 32·j + l takes its low nibble from
 * byte l + 32·(j mod 2) (low nibble for j < 2, high for j ≥ 2) and bits 4–5 from bits 2j of byte l
 * of the high part; sixteen signed scales, one per 16 elements.
 */
#include "formats/dequant.h"

#include <assert.h>
#include <string.h>

enum { K_ELEMENTS = 256 };

static uint16_t load_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t load_u32(const uint8_t *at)
{
    return (uint32_t)load_u16(at) | (uint32_t)load_u16(at + 2) << 16;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Exact for every value; NaN payloads are kept. */
static float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1f;
    uint32_t mantissa = half & 0x3ff;
    if (exponent == 0x1f)
        return float_of_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent != 0)
        return float_of_bits(sign | (exponent + 127 - 15) << 23 | mantissa << 13);
    /* zero and subnormals: mantissa × 2⁻²⁴, exact */
    float value = (float)mantissa * 0x1p-24f;
    return sign ? -value : value;
}

static float bf16_to_float(uint16_t bits)
{
    return float_of_bits((uint32_t)bits << 16);
}

/* The plain types: n elements at once. */
static void dequant_f32(const uint8_t *bytes, uint64_t n, float *out)
{
    for (uint64_t i = 0; i < n; i++)
        out[i] = float_of_bits(load_u32(bytes + 4 * i));
}

static void dequant_f16(const uint8_t *bytes, uint64_t n, float *out)
{
    for (uint64_t i = 0; i < n; i++)
        out[i] = half_to_float(load_u16(bytes + 2 * i));
}

static void dequant_bf16(const uint8_t *bytes, uint64_t n, float *out)
{
    for (uint64_t i = 0; i < n; i++)
        out[i] = bf16_to_float(load_u16(bytes + 2 * i));
}

static void dequant_q4_0(const uint8_t *block, float *out)
{
    float d = half_to_float(load_u16(block));
    const uint8_t *nibbles = block + 2;
    for (unsigned i = 0; i < 16; i++) {
        out[i] = d * (float)((int)(nibbles[i] & 15) - 8);
        out[i + 16] = d * (float)((int)(nibbles[i] >> 4) - 8);
    }
}

static void dequant_q4_1(const uint8_t *block, float *out)
{
    float d = half_to_float(load_u16(block));
    float m = half_to_float(load_u16(block + 2));
    const uint8_t *nibbles = block + 4;
    for (unsigned i = 0; i < 16; i++) {
        out[i] = d * (float)(nibbles[i] & 15) + m;
        out[i + 16] = d * (float)(nibbles[i] >> 4) + m;
    }
}

static void dequant_q5_0(const uint8_t *block, float *out)
{
    float d = half_to_float(load_u16(block));
    uint32_t fifth = load_u32(block + 2);
    const uint8_t *nibbles = block + 6;
    for (unsigned i = 0; i < 16; i++) {
        unsigned low = (nibbles[i] & 15u) | (fifth >> i & 1) << 4;
        unsigned high = (nibbles[i] >> 4) | (fifth >> (i + 16) & 1) << 4;
        out[i] = d * (float)((int)low - 16);
        out[i + 16] = d * (float)((int)high - 16);
    }
}

static void dequant_q5_1(const uint8_t *block, float *out)
{
    float d = half_to_float(load_u16(block));
    float m = half_to_float(load_u16(block + 2));
    uint32_t fifth = load_u32(block + 4);
    const uint8_t *nibbles = block + 8;
    for (unsigned i = 0; i < 16; i++) {
        unsigned low = (nibbles[i] & 15u) | (fifth >> i & 1) << 4;
        unsigned high = (nibbles[i] >> 4) | (fifth >> (i + 16) & 1) << 4;
        out[i] = d * (float)low + m;
        out[i + 16] = d * (float)high + m;
    }
}

static void dequant_q8_0(const uint8_t *block, float *out)
{
    float d = half_to_float(load_u16(block));
    for (unsigned i = 0; i < 32; i++)
        out[i] = d * (float)(int8_t)block[2 + i];
}

/* Scale and minimum of sub-block s from the twelve packed bytes. */
static void k_scale_min(const uint8_t *packed, unsigned s, float *scale, float *min)
{
    if (s < 4) {
        *scale = (float)(packed[s] & 63);
        *min = (float)(packed[s + 4] & 63);
        return;
    }
    *scale = (float)((packed[s + 4] & 15) | (packed[s - 4] >> 6) << 4);
    *min = (float)((packed[s + 4] >> 4) | (packed[s] >> 6) << 4);
}

/* Q4_K, and Q5_K when `fifth` is not NULL. */
static void dequant_k45(const uint8_t *block, const uint8_t *fifth, const uint8_t *nibbles,
                        float *out)
{
    float d = half_to_float(load_u16(block));
    float dmin = half_to_float(load_u16(block + 2));
    for (unsigned s = 0; s < 8; s++) {
        float scale, min;
        k_scale_min(block + 4, s, &scale, &min);
        float ds = d * scale;
        float dm = dmin * min;
        const uint8_t *bytes = nibbles + s / 2 * 32;
        for (unsigned i = 0; i < 32; i++) {
            unsigned q = s % 2 ? bytes[i] >> 4 : bytes[i] & 15;
            if (fifth)
                q |= (unsigned)(fifth[i] >> s & 1) << 4;
            out[s * 32 + i] = ds * (float)q - dm;
        }
    }
}

static void dequant_q4_k(const uint8_t *block, float *out)
{
    dequant_k45(block, NULL, block + 16, out);
}

static void dequant_q5_k(const uint8_t *block, float *out)
{
    dequant_k45(block, block + 16, block + 48, out);
}

static void dequant_q6_k(const uint8_t *block, float *out)
{
    const uint8_t *low = block, *high = block + 128, *scales = block + 192;
    float d = half_to_float(load_u16(block + 208));
    for (unsigned i = 0; i < K_ELEMENTS; i++) {
        unsigned half = i / 128, j = i % 128 / 32, l = i % 32;
        unsigned nibbles = low[half * 64 + j % 2 * 32 + l];
        unsigned q = (j < 2 ? nibbles & 15 : nibbles >> 4) | (high[half * 32 + l] >> (2 * j) & 3u)
                                                                 << 4;
        float ds = d * (float)(int8_t)scales[i / 16];
        out[i] = ds * (float)((int)q - 32);
    }
}

struct dequantiser {
    void (*block)(const uint8_t *block, float *out);
    void (*plain)(const uint8_t *bytes, uint64_t n, float *out);
};

static const struct dequantiser dequantisers[TENSOR_TYPE_COUNT] = {
    [TENSOR_F32] = {.plain = dequant_f32},   [TENSOR_F16] = {.plain = dequant_f16},
    [TENSOR_BF16] = {.plain = dequant_bf16}, [TENSOR_Q4_0] = {.block = dequant_q4_0},
    [TENSOR_Q4_1] = {.block = dequant_q4_1}, [TENSOR_Q5_0] = {.block = dequant_q5_0},
    [TENSOR_Q5_1] = {.block = dequant_q5_1}, [TENSOR_Q8_0] = {.block = dequant_q8_0},
    [TENSOR_Q4_K] = {.block = dequant_q4_k}, [TENSOR_Q5_K] = {.block = dequant_q5_k},
    [TENSOR_Q6_K] = {.block = dequant_q6_k},
};

bool tensor_type_dequantises(enum tensor_type type)
{
    return (unsigned)type < TENSOR_TYPE_COUNT &&
           (dequantisers[type].block || dequantisers[type].plain);
}

void tensor_dequant_blocks(enum tensor_type type, const uint8_t *blocks, uint64_t n_blocks,
                           float *out)
{
    assert(tensor_type_dequantises(type));
    const struct dequantiser *fns = &dequantisers[type];
    if (fns->plain) {
        fns->plain(blocks, n_blocks, out);
        return;
    }
    uint32_t size = tensor_type_block_size(type), bytes = tensor_type_block_bytes(type);
    for (uint64_t i = 0; i < n_blocks; i++)
        fns->block(blocks + i * bytes, out + i * size);
}

static float plain_at(enum tensor_type type, const uint8_t *values, uint64_t i)
{
    float value;
    dequantisers[type].plain(values + i * tensor_type_block_bytes(type), 1, &value);
    return value;
}

static void dequant_affine(const struct tensor_view *view, uint64_t row, float *out)
{
    uint64_t cols = tensor_view_cols(view), n_groups = cols / view->group;
    const uint8_t *bytes = view->data + row * tensor_type_row_bytes(view->type, cols);
    for (uint64_t g = 0; g < n_groups; g++) {
        float scale = plain_at(view->scale_type, view->scales, row * n_groups + g);
        float bias = plain_at(view->scale_type, view->biases, row * n_groups + g);
        for (uint64_t i = g * view->group; i < (g + 1) * view->group; i++) {
            unsigned q = view->type == TENSOR_MLX8 ? bytes[i] : bytes[i / 2] >> (i % 2 * 4) & 15u;
            out[i] = scale * (float)q + bias;
        }
    }
}

void tensor_dequant_row(const struct tensor_view *view, uint64_t row, float *out)
{
    if (view->type == TENSOR_MLX4 || view->type == TENSOR_MLX8) {
        dequant_affine(view, row, out);
        return;
    }
    uint64_t cols = tensor_view_cols(view);
    uint64_t row_bytes = tensor_type_row_bytes(view->type, cols);
    tensor_dequant_blocks(view->type, view->data + row * row_bytes,
                          cols / tensor_type_block_size(view->type), out);
}
