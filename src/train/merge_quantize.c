/* A group's values lie on a grid of 2^bits points between its extremes, so placed that the extreme
 * that is farther from zero is a point of it, and zero nearly one. Only comparisons, products and
 * quotients of fp32: the same bytes everywhere. */
#include <string.h>

#include "kernels/half.h"
#include "train/merge_int.h"

/* To the nearest integer, halves to even; |x| < 2^22. */
static float nearest(float x)
{
    const float magic = 12582912.0f; /* 1.5 × 2^23 */
    const float sum = x + magic;
    return sum - magic;
}

/* Writes the value as the type has it, and says what that is. */
static float put(enum tensor_type type, float value, uint8_t *out)
{
    uint16_t half;
    if (type == TENSOR_F32) {
        memcpy(out, &value, sizeof value);
        return value;
    }
    half = type == TENSOR_F16 ? half_from_float(value) : merge_to_bf16(value);
    memcpy(out, &half, sizeof half);
    return type == TENSOR_F16 ? half_to_float(half) : bfloat_to_float(half);
}

static void find_grid(const float *w, uint32_t n, int bits, float *scale, float *bias)
{
    const float steps = (float)((1 << bits) - 1);
    float low = w[0], high = w[0];
    for (uint32_t i = 1; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    const bool low_is_farther = (low < 0 ? -low : low) > (high < 0 ? -high : high);
    float step = (high - low) / steps;
    step = step > 1e-7f ? step : 1e-7f;
    step = low_is_farther ? step : -step;
    const float edge = low_is_farther ? low : high;
    const float at = nearest(edge / step);
    *scale = at != 0.0f ? edge / at : step;
    *bias = at != 0.0f ? edge : 0.0f;
}

void merge_quantize_row(const float *row, size_t cols, uint32_t group, int bits,
                        enum tensor_type scale_type, bool on_rounded, uint8_t *values,
                        uint8_t *scales, uint8_t *biases)
{
    const size_t element = tensor_type_block_bytes(scale_type);
    const float most = (float)((1 << bits) - 1);
    memset(values, 0, cols * (size_t)bits / 8);
    for (size_t g = 0; g < cols / group; g++) {
        const float *w = row + g * group;
        float scale, bias;
        find_grid(w, group, bits, &scale, &bias);
        const float put_scale = put(scale_type, scale, scales + g * element);
        const float put_bias = put(scale_type, bias, biases + g * element);
        scale = on_rounded ? put_scale : scale;
        bias = on_rounded ? put_bias : bias;
        for (uint32_t i = 0; i < group; i++) {
            float q = (w[i] - bias) / scale;
            q = q > 0.0f ? q : 0.0f;
            q = nearest(q < most ? q : most);
            const size_t c = g * group + i;
            values[c * (size_t)bits / 8] |= (uint8_t)((unsigned)q << (bits == 4 && c % 2 ? 4 : 0));
        }
    }
}
