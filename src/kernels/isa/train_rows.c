/* Norms, rope, activation, softmax and other row-wise parts of training. Pads of a row are zeros
 * and stay zeros: silu(0)·0 = 0, 0·r·0 = 0. A value that is not finite shows up as NaN in Σ 0·x. */
#include <float.h>
#include <math.h>

#include "kernels/isa/train_parts.h"

float KERNEL(train_dot)(const float *x, const float *y, size_t n)
{
    v16 acc = v16_zero();
    for (size_t i = 0; i < n; i += LANES) {
        acc = v16_fma(v16_load(x + i), v16_load(y + i), acc);
    }
    return v16_sum(acc);
}

LANE_INLINE float inverse_rms(const float *x, size_t n, size_t n_cols, float eps)
{
    v16 acc = v16_zero();
    for (size_t i = 0; i < n; i += LANES) {
        const v16 a = v16_load(x + i);
        acc = v16_fma(a, a, acc);
    }
    const float mean = v16_sum(acc) / (float)n_cols;
    /* an infinite mean would hide as r = 0; times 0 it is NaN, and a finite one adds nothing */
    return 1.0f / sqrtf(mean + eps) + mean * 0.0f;
}

void KERNEL(train_norm)(float *y, const float *x, const float *weight, size_t n, size_t n_cols,
                        float eps)
{
    const v16 r = v16_set1(inverse_rms(x, n, n_cols, eps));
    for (size_t i = 0; i < n; i += LANES) {
        v16_store(y + i, v16_mul(v16_mul(v16_load(x + i), r), v16_load(weight + i)));
    }
}

void KERNEL(train_norm_back)(float *dx, const float *dy, const float *x, const float *weight,
                             size_t n, size_t n_cols, float eps)
{
    const float r = inverse_rms(x, n, n_cols, eps);
    v16 acc = v16_zero();
    for (size_t i = 0; i < n; i += LANES) {
        const v16 g = v16_mul(v16_load(dy + i), v16_load(weight + i));
        acc = v16_fma(g, v16_load(x + i), acc);
    }
    const float share = v16_sum(acc) / (float)n_cols;
    const v16 back = v16_set1(-((share * r) * (r * r)));
    const v16 rate = v16_set1(r);
    for (size_t i = 0; i < n; i += LANES) {
        const v16 g = v16_mul(v16_load(dy + i), v16_load(weight + i));
        const v16 part = v16_fma(back, v16_load(x + i), v16_mul(rate, g));
        v16_store(dx + i, v16_add(v16_load(dx + i), part));
    }
}

void KERNEL(train_rope)(float *y, const float *x, const float *cosines, const float *sines,
                        size_t head_dim, float sign)
{
    const size_t half = head_dim / 2;
    const v16 turn = v16_set1(sign);
    for (size_t i = 0; i < half; i += LANES) {
        const size_t n = half - i;
        const v16 c = v16_load_n(cosines + i, n);
        const v16 s = v16_mul(v16_load_n(sines + i, n), turn);
        const v16 x0 = v16_load_n(x + i, n), x1 = v16_load_n(x + half + i, n);
        const v16 y0 = v16_fma(x0, c, v16_sub(v16_zero(), v16_mul(x1, s)));
        const v16 y1 = v16_fma(x1, c, v16_mul(x0, s));
        v16_store_n(y + i, y0, n);
        v16_store_n(y + half + i, y1, n);
    }
}

void KERNEL(train_swiglu)(float *act, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        v16_store(act + i, v16_mul(v16_silu(v16_load(gate + i)), v16_load(up + i)));
    }
}

void KERNEL(train_swiglu_back)(float *gate_grad, float *up_grad, const float *gate, const float *up,
                               const float *act_grad, size_t n)
{
    const v16 one = v16_set1(1.0f);
    for (size_t i = 0; i < n; i += LANES) {
        const v16 g = v16_load(gate + i), u = v16_load(up + i), d = v16_load(act_grad + i);
        const v16 below = v16_add(one, v16_exp(v16_sub(v16_zero(), g)));
        const v16 s = v16_div(one, below);
        const v16 slope = v16_mul(s, v16_fma(g, v16_sub(one, s), one));
        v16_store(up_grad + i, v16_mul(d, v16_div(g, below)));
        v16_store(gate_grad + i, v16_mul(v16_mul(d, u), slope));
    }
}

void KERNEL(train_geglu)(float *act, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        v16_store(act + i, v16_mul(v16_gelu(v16_load(gate + i)), v16_load(up + i)));
    }
}

void KERNEL(train_geglu_back)(float *gate_grad, float *up_grad, const float *gate, const float *up,
                              const float *act_grad, size_t n)
{
    const v16 one = v16_set1(1.0f), half = v16_set1(0.5f), c = v16_set1(0.7978845608f);
    for (size_t i = 0; i < n; i += LANES) {
        const v16 g = v16_load(gate + i), u = v16_load(up + i), d = v16_load(act_grad + i);
        const v16 t = v16_gelu_tanh(g);
        const v16 open = v16_mul(half, v16_add(one, t));
        const v16 bend = v16_mul(v16_mul(half, g), v16_sub(one, v16_mul(t, t)));
        const v16 inner = v16_mul(c, v16_fma(v16_set1(3.0f * 0.044715f), v16_mul(g, g), one));
        const v16 slope = v16_fma(bend, inner, open);
        v16_store(up_grad + i, v16_mul(d, v16_gelu(g)));
        v16_store(gate_grad + i, v16_mul(v16_mul(d, u), slope));
    }
}

void KERNEL(train_soft_cap)(float *x, float cap, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        v16_store_n(x + i, v16_soft_cap(v16_load_n(x + i, n - i), v16_set1(cap)), n - i);
    }
}

void KERNEL(train_soft_cap_back)(float *grad, const float *capped, float cap, size_t n)
{
    const v16 one = v16_set1(1.0f), by = v16_set1(cap);
    for (size_t i = 0; i < n; i += LANES) {
        const v16 t = v16_div(v16_load_n(capped + i, n - i), by);
        const v16 slope = v16_sub(one, v16_mul(t, t));
        v16_store_n(grad + i, v16_mul(v16_load_n(grad + i, n - i), slope), n - i);
    }
}

void KERNEL(train_join)(float *y, float scale, const float *x, size_t n)
{
    const v16 by = v16_set1(scale);
    for (size_t i = 0; i < n; i += LANES) {
        v16_store(y + i, v16_fma(by, v16_load(x + i), v16_load(y + i)));
    }
}

void KERNEL(train_scale)(float *x, float scale, size_t n)
{
    const v16 by = v16_set1(scale);
    for (size_t i = 0; i < n; i += LANES) {
        v16_store(x + i, v16_mul(by, v16_load(x + i)));
    }
}

void KERNEL(train_settle)(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        v16_store_n(y + i, v16_add(v16_load_n(x + i, n - i), v16_zero()), n - i);
    }
}

/* keep or zero for each of sixteen bits */
LANE_INLINE v16 spread(uint16_t bits, float keep)
{
    float t[LANES];
    for (int i = 0; i < LANES; i++) {
        t[i] = (bits >> i) & 1 ? keep : 0.0f;
    }
    return v16_load(t);
}

void KERNEL(train_mask)(float *y, const float *x, const uint16_t *bits, float keep, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        v16_store(y + i, v16_mul(v16_load(x + i), spread(bits[i / LANES], keep)));
    }
}

void KERNEL(train_mask_add)(float *y, const float *x, const uint16_t *bits, float keep, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        v16_store(y + i, v16_fma(spread(bits[i / LANES], keep), v16_load(x + i), v16_load(y + i)));
    }
}

bool KERNEL(train_exp_row)(float *x, size_t n_cols, float *max, float *sum)
{
    const size_t n = (n_cols + LANES - 1) / LANES * LANES;
    for (size_t i = n_cols; i < n; i++) {
        x[i] = -FLT_MAX; /* no maximum, and e^ of it is exactly 0 */
    }
    v16 top = v16_load(x), bad = v16_zero();
    for (size_t i = 0; i < n; i += LANES) {
        const v16 a = v16_load(x + i);
        top = v16_max(top, a);
        bad = v16_fma(a, v16_zero(), bad);
    }
    *max = v16_max_lane(top);
    const v16 m = v16_set1(*max);
    v16 acc = v16_zero();
    for (size_t i = 0; i < n; i += LANES) {
        const v16 e = v16_exp(v16_sub(v16_load(x + i), m));
        acc = v16_add(acc, e);
        v16_store(x + i, e);
    }
    *sum = v16_sum(acc);
    return v16_sum(bad) == 0.0f;
}

void KERNEL(train_normalise)(float *x, size_t n_cols, float sum, float scale)
{
    const v16 below = v16_set1(sum), by = v16_set1(scale);
    for (size_t i = 0; i < n_cols; i += LANES) {
        v16_store(x + i, v16_mul(v16_div(v16_load(x + i), below), by));
    }
}

bool KERNEL(train_finite)(const float *x, size_t n)
{
    v16 bad = v16_zero();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        bad = v16_fma(v16_load(x + i), v16_zero(), bad);
    }
    bad = v16_fma(v16_load_n(x + i, n - i), v16_zero(), bad);
    return v16_sum(bad) == 0.0f;
}
