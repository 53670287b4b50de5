/* Kernels over one vector: quantisation, norm, rope, activation, softmax. */
#include "kernels/isa/serve.h"

/* Not finite ⇔ x − x is not 0; the maximum of |x − x| over lanes would lose NaN, so lanes are
 * summed. */
LANE_INLINE v16 not_finite(v16 sum, v16 x)
{
    return v16_add(sum, v16_sub(x, x));
}

bool KERNEL(all_finite)(const float *x, size_t n)
{
    v16 bad = v16_zero();
    for (size_t i = 0; i < n; i += LANES) {
        bad = not_finite(bad, v16_load_n(x + i, n - i));
    }
    return v16_sum(bad) == 0.0f;
}

bool KERNEL(quantise)(const float *x, struct qact *out, size_t token, size_t begin, size_t end)
{
    const size_t n_blocks = out->n_cols / KERNEL_BLOCK;
    int8_t *q = out->q + token * out->n_cols;
    v16 bad = v16_zero();
    for (size_t i = begin; i < end; i += KERNEL_BLOCK) {
        const size_t at = token * n_blocks + i / KERNEL_BLOCK;
        const v16 a = v16_load(x + i);
        const v16 b = v16_load(x + i + LANES);
        bad = not_finite(not_finite(bad, a), b);
        const float amax = v16_max_lane(v16_max(v16_abs(a), v16_abs(b)));
        if (!(amax >= 1e-30f)) {
            memset(q + i, 0, KERNEL_BLOCK);
            out->d[at] = 0.0f;
            out->dsum[at] = 0.0f;
            out->zero8[at] = 0;
            out->zero128[at] = 0;
            out->zero32[2 * at] = 0;
            out->zero32[2 * at + 1] = 0;
            continue;
        }
        const v16 inverse = v16_set1(127.0f / amax);
        v16_store_i8(q + i, v16_mul(a, inverse));
        v16_store_i8(q + i + LANES, v16_mul(b, inverse));
        int32_t first = 0;
        int32_t second = 0;
        for (size_t j = 0; j < LANES; j++) {
            first += q[i + j];
            second += q[i + LANES + j];
        }
        const int32_t sum = first + second;
        const float d = amax / 127.0f;
        out->d[at] = d;
        out->dsum[at] = d * (float)sum;
        out->zero8[at] = -8 * sum;
        out->zero128[at] = -128 * sum;
        out->zero32[2 * at] = -32 * first;
        out->zero32[2 * at + 1] = -32 * second;
    }
    return v16_sum(bad) == 0.0f;
}

void KERNEL(rmsnorm)(const float *x, const float *weight, float eps, size_t n, float *out)
{
    v16 squares = v16_zero();
    for (size_t i = 0; i < n; i += LANES) {
        const v16 a = v16_load_n(x + i, n - i);
        squares = v16_fma(a, a, squares);
    }
    const float mean = v16_sum(squares) / (float)n;
    const v16 r = v16_set1(1.0f / sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += LANES) {
        const v16 a = v16_mul(v16_load_n(x + i, n - i), r);
        v16_store_n(out + i, v16_mul(a, v16_load_n(weight + i, n - i)), n - i);
    }
}

/* (a, b) → (a·cos − b·sin, b·cos + a·sin), the second product by FMA onto the first. */
void KERNEL(rope)(float *x, const float *cosines, const float *sines, size_t head_dim)
{
    const size_t half = head_dim / 2;
    for (size_t i = 0; i < half; i += LANES) {
        const size_t n = half - i;
        const v16 a = v16_load_n(x + i, n);
        const v16 b = v16_load_n(x + half + i, n);
        const v16 c = v16_load_n(cosines + i, n);
        const v16 s = v16_load_n(sines + i, n);
        const v16 minus_s = v16_sub(v16_zero(), s);
        v16_store_n(x + i, v16_fma(b, minus_s, v16_mul(a, c)), n);
        v16_store_n(x + half + i, v16_fma(a, s, v16_mul(b, c)), n);
    }
}

void KERNEL(silu_mul)(float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        const v16 a = v16_silu(v16_load_n(g + i, n - i));
        v16_store_n(g + i, v16_mul(a, v16_load_n(u + i, n - i)), n - i);
    }
}

void KERNEL(gelu_mul)(float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        const v16 a = v16_gelu(v16_load_n(g + i, n - i));
        v16_store_n(g + i, v16_mul(a, v16_load_n(u + i, n - i)), n - i);
    }
}

void KERNEL(scale_cap)(float *x, float scale, float cap, size_t n)
{
    const v16 by = v16_set1(scale);
    for (size_t i = 0; i < n; i += LANES) {
        const v16 a = v16_mul(v16_load_n(x + i, n - i), by);
        v16_store_n(x + i, cap > 0.0f ? v16_soft_cap(a, v16_set1(cap)) : a, n - i);
    }
}

void KERNEL(axpy)(float *y, float scale, const float *z, size_t n)
{
    const v16 s = v16_set1(scale);
    for (size_t i = 0; i < n; i += LANES) {
        const v16 a = v16_fma(s, v16_load_n(z + i, n - i), v16_load_n(y + i, n - i));
        v16_store_n(y + i, a, n - i);
    }
}

/* The largest of n ≥ 1 values. */
static float maximum(const float *x, size_t n)
{
    v16 m = v16_set1(x[0]);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        m = v16_max(m, v16_load(x + i));
    }
    float best = v16_max_lane(m);
    for (; i < n; i++) {
        best = x[i] > best ? x[i] : best;
    }
    return best;
}

/* x[i] = e^(x[i] − max) for n values; the sum by index mod 16. Lanes past n add nothing. */
static float exponentials(float *x, size_t n, float max)
{
    const v16 m = v16_set1(max);
    v16 sum = v16_zero();
    for (size_t i = 0; i < n; i += LANES) {
        const v16 e = v16_exp(v16_sub(v16_load_n(x + i, n - i), m));
        v16_store_n(x + i, e, n - i);
        sum = v16_add(sum, v16_load_n(x + i, n - i));
    }
    return v16_sum(sum);
}

bool KERNEL(softmax)(float *x, size_t n)
{
    if (!KERNEL(all_finite)(x, n)) {
        return false;
    }
    const v16 sum = v16_set1(exponentials(x, n, maximum(x, n)));
    for (size_t i = 0; i < n; i += LANES) {
        v16_store_n(x + i, v16_div(v16_load_n(x + i, n - i), sum), n - i);
    }
    return true;
}

float KERNEL(exp_sum)(const float *x, size_t n, float *max)
{
    *max = maximum(x, n);
    const v16 m = v16_set1(*max);
    v16 sum = v16_zero();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        sum = v16_add(sum, v16_exp(v16_sub(v16_load(x + i), m)));
    }
    if (i < n) {
        float t[LANES] = {0};
        v16_store_n(t, v16_exp(v16_sub(v16_load_n(x + i, n - i), m)), n - i);
        sum = v16_add(sum, v16_load(t));
    }
    return v16_sum(sum);
}

const struct kernels KERNEL(kernels_table) = {
#define NAME2(x) #x
#define NAME(x)  NAME2(x)
    .isa = NAME(KERNELS_ISA),
    .quantise = KERNEL(quantise),
    .matmul_q = KERNEL(matmul_q),
    .matmul_f = KERNEL(matmul_f),
    .matmul_axpy = KERNEL(matmul_axpy),
    .rmsnorm = KERNEL(rmsnorm),
    .rope = KERNEL(rope),
    .silu_mul = KERNEL(silu_mul),
    .gelu_mul = KERNEL(gelu_mul),
    .scale_cap = KERNEL(scale_cap),
    .axpy = KERNEL(axpy),
    .kv_store = KERNEL(kv_store),
    .attention = KERNEL(attention),
    .softmax = KERNEL(softmax),
    .exp_sum = KERNEL(exp_sum),
    .all_finite = KERNEL(all_finite),
};
