/* What the training table of one instruction set is put together from. Contracts in
 * kernels/train_kernels.h, beside the field of the same name. */
#ifndef KERNELS_ISA_TRAIN_PARTS_H
#define KERNELS_ISA_TRAIN_PARTS_H

#include "kernels/isa/lane.h"
#include "kernels/train_kernels.h"

void KERNEL(train_pack)(float *packed, const float *x, size_t ldx, size_t n_tokens, size_t n_k);
void KERNEL(train_transpose)(float *panel, const float *rows, size_t n_rows, size_t n_k);
void KERNEL(train_product)(const struct train_product *product);
void KERNEL(train_outer)(const struct train_outer *outer);

#define TRAIN_UNPACK(type)                                                                         \
    void KERNEL(train_unpack_##type)(float *out, size_t ld, const uint8_t *const *rows,            \
                                     size_t col, size_t n_rows, size_t n)
TRAIN_UNPACK(f32);
TRAIN_UNPACK(f16);
TRAIN_UNPACK(bf16);
TRAIN_UNPACK(q4_0);
TRAIN_UNPACK(q4_1);
TRAIN_UNPACK(q5_0);
TRAIN_UNPACK(q5_1);
TRAIN_UNPACK(q8_0);
TRAIN_UNPACK(q4_k);
TRAIN_UNPACK(q5_k);
TRAIN_UNPACK(q6_k);
#undef TRAIN_UNPACK
void KERNEL(train_unpack_affine)(float *out, size_t ld, const struct train_affine *w, size_t row,
                                 size_t col, size_t n_rows, size_t n);

void KERNEL(train_norm)(float *y, const float *x, const float *weight, size_t n, size_t n_cols,
                        float eps);
void KERNEL(train_norm_back)(float *dx, const float *dy, const float *x, const float *weight,
                             size_t n, size_t n_cols, float eps);
void KERNEL(train_rope)(float *y, const float *x, const float *cosines, const float *sines,
                        size_t head_dim, float sign);
void KERNEL(train_swiglu)(float *act, const float *gate, const float *up, size_t n);
void KERNEL(train_swiglu_back)(float *gate_grad, float *up_grad, const float *gate, const float *up,
                               const float *act_grad, size_t n);
void KERNEL(train_geglu)(float *act, const float *gate, const float *up, size_t n);
void KERNEL(train_geglu_back)(float *gate_grad, float *up_grad, const float *gate, const float *up,
                              const float *act_grad, size_t n);
void KERNEL(train_soft_cap)(float *x, float cap, size_t n);
void KERNEL(train_soft_cap_back)(float *grad, const float *capped, float cap, size_t n);
void KERNEL(train_join)(float *y, float scale, const float *x, size_t n);
void KERNEL(train_scale)(float *x, float scale, size_t n);
void KERNEL(train_settle)(float *y, const float *x, size_t n);
void KERNEL(train_mask)(float *y, const float *x, const uint16_t *bits, float keep, size_t n);
void KERNEL(train_mask_add)(float *y, const float *x, const uint16_t *bits, float keep, size_t n);
bool KERNEL(train_exp_row)(float *x, size_t n_cols, float *max, float *sum);
void KERNEL(train_normalise)(float *x, size_t n_cols, float sum, float scale);
bool KERNEL(train_finite)(const float *x, size_t n);
float KERNEL(train_dot)(const float *x, const float *y, size_t n);

bool KERNEL(train_attention)(const struct train_attention *tile, float *out, float *max,
                             float *sum);
void KERNEL(train_attention_back)(const struct train_attention_back *back);
void KERNEL(train_attention_keys)(const struct train_attention_keys *keys);

#endif
