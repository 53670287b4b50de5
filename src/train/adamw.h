/* Clipping and AdamW over the factors of an adapter.
 *
 * AdamW as PyTorch's torch.optim.AdamW defines it (Loshchilov & Hutter, "Decoupled weight decay
 * regularization", 2019), β₁ 0.9, β₂ 0.999, ε 1e-8. For step t = 1, 2, … with rate lr, decay λ and
 * gradient g = gradient × scale, every value in fp32 and every operation rounded by itself:
 *
 *   p ← p · (1 − lr·λ)
 *   m ← m + (1 − β₁)·(g − m)
 *   v ← β₂·v + ((1 − β₂)·g)·g
 *   p ← p − (lr / (1 − β₁ᵗ)) · m / (√v / √(1 − β₂ᵗ) + ε)
 *
 * Coefficients that depend on the step alone are made in double, powers by det_pow, and rounded
 * once.
 * Owned by one thread.
 */
#ifndef TRAIN_ADAMW_H
#define TRAIN_ADAMW_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"

/* Moments of all factors, one behind the other in the adapter's order. */
struct adamw {
    float *m, *v;
    size_t n;
};

/* Values of all tensors together. */
size_t tensors_values(const struct engine_tensor *tensors, int n);

/* Sets the factors of `to` from `from`. ERR_INVALID unless names and shapes are the same. */
int adapter_copy(struct engine_adapter *to, struct engine_adapter *from,
                 struct err *err) MUST_CHECK;
/* Factors to and from one array, one behind the other. */
void tensors_gather(const struct engine_tensor *tensors, int n, float *out);
void tensors_scatter(struct engine_tensor *tensors, int n, const float *from);

int adamw_init(struct adamw *adamw, size_t n, struct err *err) MUST_CHECK;
void adamw_release(struct adamw *adamw); /* safe on a zeroed struct */
/* ERR_INVALID when a value is not finite afterwards. */
int adamw_step(struct adamw *adamw, struct engine_tensor *tensors, float *const *gradients, int n,
               int64_t step, double learning_rate, double weight_decay, float scale,
               struct err *err) MUST_CHECK;

/* √Σg² over all gradients as one reduction: sixteen lanes, index over the concatenated tensors
 * mod 16, squares by FMA. */
float gradient_norm(const struct engine_tensor *tensors, float *const *gradients, int n);
/* What clipping multiplies every gradient with: 1, or norm_max / (norm + 1e-6) where that is less.
 * norm_max 0: no clipping. */
float clip_scale(float norm, double norm_max);

#endif
