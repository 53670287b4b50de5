/* The layouts are those of formats/tensor_type.h; only the GGUF types that are written are here. */
#include <string.h>

#include "kernels/half.h"
#include "train/merge_int.h"

enum { BLOCK = 32, HALF_BLOCK = BLOCK / 2 };

uint16_t merge_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static void put_half(uint8_t *out, uint16_t half)
{
    out[0] = (uint8_t)half;
    out[1] = (uint8_t)(half >> 8);
}

static uint16_t get_half(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

/* --- values to blocks ------------------------------------------------------------------------- */

/* To the nearest integer, halves away from zero; |x| < 2^22. */
static int round_away(float x)
{
    const float magnitude = x < 0 ? -x : x;
    int whole = (int)magnitude;
    whole += magnitude - (float)whole >= 0.5f;
    return x < 0 ? -whole : whole;
}

static void to_q8_0(const float *x, uint8_t *out)
{
    float most = 0;
    for (int i = 0; i < BLOCK; i++) {
        const float magnitude = x[i] < 0 ? -x[i] : x[i];
        most = magnitude > most ? magnitude : most;
    }
    const float d = most / 127.0f;
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    put_half(out, half_from_float(d));
    for (int i = 0; i < BLOCK; i++) {
        out[2 + i] = (uint8_t)(int8_t)round_away(x[i] * inverse);
    }
}

static uint8_t nibble(float x, float inverse)
{
    const int q = (int)(x * inverse + 8.5f);
    return (uint8_t)(q < 0 ? 0 : q > 15 ? 15 : q);
}

static void to_q4_0(const float *x, uint8_t *out)
{
    float most = 0, extreme = 0;
    for (int i = 0; i < BLOCK; i++) {
        const float magnitude = x[i] < 0 ? -x[i] : x[i];
        if (magnitude > most) {
            most = magnitude;
            extreme = x[i];
        }
    }
    const float d = extreme / -8.0f;
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    put_half(out, half_from_float(d));
    for (int i = 0; i < HALF_BLOCK; i++) {
        out[2 + i] = (uint8_t)(nibble(x[i], inverse) | nibble(x[i + HALF_BLOCK], inverse) << 4);
    }
}

void merge_encode(enum tensor_type type, const float *values, size_t n, uint8_t *out)
{
    const size_t bytes = tensor_type_block_bytes(type);
    switch (type) {
    case TENSOR_F32:
        memcpy(out, values, n * sizeof *values);
        break;
    case TENSOR_Q8_0:
        for (size_t b = 0; b < n / BLOCK; b++) {
            to_q8_0(values + b * BLOCK, out + b * bytes);
        }
        break;
    case TENSOR_Q4_0:
        for (size_t b = 0; b < n / BLOCK; b++) {
            to_q4_0(values + b * BLOCK, out + b * bytes);
        }
        break;
    default:
        for (size_t i = 0; i < n; i++) {
            put_half(out + i * bytes,
                     type == TENSOR_F16 ? half_from_float(values[i]) : merge_to_bf16(values[i]));
        }
    }
}

/* --- GGUF's blocks to groups of 32 ------------------------------------------------------------ */

/* What a block says: d × (q − offset) + m, with q unsigned. */
struct block {
    uint16_t d, m;
    bool has_m;
    int offset;
    uint8_t q[BLOCK];
};

static void read_nibbles(const uint8_t *at, uint8_t q[BLOCK])
{
    for (int i = 0; i < HALF_BLOCK; i++) {
        q[i] = at[i] & 15;
        q[i + HALF_BLOCK] = at[i] >> 4;
    }
}

static void add_fifth(const uint8_t *at, uint8_t q[BLOCK])
{
    for (int i = 0; i < BLOCK; i++) {
        q[i] |= (uint8_t)((at[i / 8] >> (i % 8) & 1) << 4);
    }
}

static void read_block(enum tensor_type type, const uint8_t *at, struct block *b)
{
    const bool five = type == TENSOR_Q5_0 || type == TENSOR_Q5_1;
    b->d = get_half(at);
    b->has_m = type == TENSOR_Q4_1 || type == TENSOR_Q5_1;
    b->m = b->has_m ? get_half(at + 2) : 0;
    b->offset = b->has_m ? 0 : type == TENSOR_Q8_0 ? 128 : five ? 16 : 8;
    at += b->has_m ? 4 : 2;
    if (type == TENSOR_Q8_0) {
        for (int i = 0; i < BLOCK; i++) {
            b->q[i] = (uint8_t)((int8_t)at[i] + 128);
        }
        return;
    }
    read_nibbles(at + (five ? 4 : 0), b->q);
    if (five) {
        add_fifth(at, b->q);
    }
}

/* The bias of the group; false where fp16 does not hold it. */
static bool bias_of(const struct block *b, uint16_t *bias)
{
    const float wanted = b->has_m ? half_to_float(b->m) : half_to_float(b->d) * -(float)b->offset;
    *bias = b->has_m ? b->m : half_from_float(wanted);
    return half_to_float(*bias) == wanted;
}

static bool fits(enum tensor_type type, int bits)
{
    return type == TENSOR_Q4_0 || type == TENSOR_Q4_1 ||
           (bits == 8 && (type == TENSOR_Q5_0 || type == TENSOR_Q5_1 || type == TENSOR_Q8_0));
}

bool merge_repacks(const struct tensor_view *view, int bits)
{
    if (!fits(view->type, bits)) {
        return false;
    }
    const size_t bytes = tensor_type_block_bytes(view->type);
    for (uint64_t at = 0; at < view->bytes; at += bytes) {
        struct block b;
        uint16_t bias;
        read_block(view->type, view->data + at, &b);
        if (!bias_of(&b, &bias)) {
            return false;
        }
    }
    return true;
}

void merge_repack_row(const struct tensor_view *view, uint64_t row, int bits, uint8_t *values,
                      uint8_t *scales, uint8_t *biases)
{
    const uint64_t cols = tensor_view_cols(view);
    const size_t bytes = tensor_type_block_bytes(view->type);
    const uint8_t *at = view->data + row * (cols / BLOCK) * bytes;
    for (uint64_t g = 0; g < cols / BLOCK; g++) {
        struct block b;
        uint16_t bias;
        read_block(view->type, at + g * bytes, &b);
        (void)bias_of(&b, &bias);
        put_half(scales + 2 * g, b.d);
        put_half(biases + 2 * g, bias);
        for (int i = 0; i < BLOCK && bits == 8; i++) {
            values[g * BLOCK + (size_t)i] = b.q[i];
        }
        for (int i = 0; i < HALF_BLOCK && bits == 4; i++) {
            values[g * HALF_BLOCK + (size_t)i] = (uint8_t)(b.q[2 * i] | b.q[2 * i + 1] << 4);
        }
    }
}

/* --- groups of 4 bits to Q4_1 ----------------------------------------------------------------- */

/* Element i of scales or biases as fp16; false where fp16 does not hold it. */
static bool scale_at(const struct tensor_view *view, const uint8_t *list, uint64_t i, uint16_t *out)
{
    float value;
    if (view->scale_type == TENSOR_F32) {
        memcpy(&value, list + i * sizeof value, sizeof value);
    } else {
        const uint16_t half = get_half(list + 2 * i);
        value = view->scale_type == TENSOR_F16 ? half_to_float(half) : bfloat_to_float(half);
    }
    *out = half_from_float(value);
    return half_to_float(*out) == value;
}

bool merge_is_q4_1(const struct tensor_view *view)
{
    if (view->type != TENSOR_MLX4) {
        return false;
    }
    const uint64_t n = tensor_view_elements(view) / view->group;
    for (uint64_t i = 0; i < n; i++) {
        uint16_t unused;
        if (!scale_at(view, view->scales, i, &unused) ||
            !scale_at(view, view->biases, i, &unused)) {
            return false;
        }
    }
    return true;
}

void merge_q4_1_row(const struct tensor_view *view, uint64_t row, uint8_t *out)
{
    const uint64_t cols = tensor_view_cols(view), n_groups = cols / view->group;
    const uint8_t *values = view->data + row * cols / 2;
    const size_t bytes = tensor_type_block_bytes(TENSOR_Q4_1);
    for (uint64_t b = 0; b < cols / BLOCK; b++) {
        const uint64_t group = row * n_groups + b * BLOCK / view->group;
        uint16_t d, m;
        (void)scale_at(view, view->scales, group, &d);
        (void)scale_at(view, view->biases, group, &m);
        put_half(out + b * bytes, d);
        put_half(out + b * bytes + 2, m);
        for (int i = 0; i < HALF_BLOCK; i++) {
            const uint8_t *at = values + b * HALF_BLOCK;
            const int low = at[i / 2] >> (i % 2 * 4) & 15;
            const int j = i + HALF_BLOCK;
            const int high = at[j / 2] >> (j % 2 * 4) & 15;
            out[b * bytes + 4 + (size_t)i] = (uint8_t)(low | high << 4);
        }
    }
}
