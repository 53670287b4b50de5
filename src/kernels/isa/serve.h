/* The serving kernels of one instruction set, as kernels.c finds them. */
#ifndef KERNELS_ISA_SERVE_H
#define KERNELS_ISA_SERVE_H

#include "kernels/isa/lane.h"
#include "kernels/kernels.h"

bool KERNEL(quantise)(const float *x, struct qact *out, size_t token, size_t begin, size_t end);
void KERNEL(matmul_q)(const struct pack *w, size_t begin, size_t end, const struct qact *x,
                      size_t n_tokens, float *y, size_t y_stride, bool add);
void KERNEL(matmul_f)(const struct pack *w, size_t begin, size_t end, const float *x,
                      size_t x_stride, size_t n_tokens, float *y, size_t y_stride, bool add);
void KERNEL(matmul_axpy)(const struct pack *w, size_t begin, size_t end, const float *x,
                         size_t x_stride, size_t n_tokens, float scale, float *y, size_t y_stride);
void KERNEL(rmsnorm)(const float *x, const float *weight, float eps, size_t n, float *out);
void KERNEL(rope)(float *x, const float *cosines, const float *sines, size_t head_dim);
void KERNEL(silu_mul)(float *g, const float *u, size_t n);
void KERNEL(gelu_mul)(float *g, const float *u, size_t n);
void KERNEL(scale_cap)(float *x, float scale, float cap, size_t n);
void KERNEL(axpy)(float *y, float scale, const float *z, size_t n);
unsigned KERNEL(kv_store)(const struct kv_view *kv, size_t position, const float *k, const float *v,
                          size_t head_dim);
void KERNEL(attention)(const struct kv_view *kv, const struct attention_rule *rule,
                       size_t n_queries, const float *const *q, const size_t *n_visible,
                       float *const *out, float *scores, size_t scores_stride);
bool KERNEL(softmax)(float *x, size_t n);
float KERNEL(exp_sum)(const float *x, size_t n, float *max);
bool KERNEL(all_finite)(const float *x, size_t n);

extern const struct kernels KERNEL(kernels_table);

#endif
