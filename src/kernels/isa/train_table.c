/* The training table of this instruction set. */
#include "kernels/isa/train_chain.h"
#include "kernels/isa/train_parts.h"

#define TEXT2(a) #a
#define TEXT(a)  TEXT2(a)

extern const struct train_kernels KERNEL(train_kernels_table);

const struct train_kernels KERNEL(train_kernels_table) = {
    .isa = TEXT(KERNELS_ISA),
    .tile_tokens = TILE_TOKENS,
    .pack = KERNEL(train_pack),
    .transpose = KERNEL(train_transpose),
    .unpack = {[TRAIN_F32] = KERNEL(train_unpack_f32),
               [TRAIN_F16] = KERNEL(train_unpack_f16),
               [TRAIN_BF16] = KERNEL(train_unpack_bf16),
               [TRAIN_Q4_0] = KERNEL(train_unpack_q4_0),
               [TRAIN_Q4_1] = KERNEL(train_unpack_q4_1),
               [TRAIN_Q5_0] = KERNEL(train_unpack_q5_0),
               [TRAIN_Q5_1] = KERNEL(train_unpack_q5_1),
               [TRAIN_Q8_0] = KERNEL(train_unpack_q8_0),
               [TRAIN_Q4_K] = KERNEL(train_unpack_q4_k),
               [TRAIN_Q5_K] = KERNEL(train_unpack_q5_k),
               [TRAIN_Q6_K] = KERNEL(train_unpack_q6_k)},
    .unpack_affine = KERNEL(train_unpack_affine),
    .product = KERNEL(train_product),
    .outer = KERNEL(train_outer),
    .norm = KERNEL(train_norm),
    .norm_back = KERNEL(train_norm_back),
    .rope = KERNEL(train_rope),
    .swiglu = KERNEL(train_swiglu),
    .swiglu_back = KERNEL(train_swiglu_back),
    .geglu = KERNEL(train_geglu),
    .geglu_back = KERNEL(train_geglu_back),
    .soft_cap = KERNEL(train_soft_cap),
    .soft_cap_back = KERNEL(train_soft_cap_back),
    .join = KERNEL(train_join),
    .scale = KERNEL(train_scale),
    .settle = KERNEL(train_settle),
    .mask = KERNEL(train_mask),
    .mask_add = KERNEL(train_mask_add),
    .exp_row = KERNEL(train_exp_row),
    .normalise = KERNEL(train_normalise),
    .finite = KERNEL(train_finite),
    .attention = KERNEL(train_attention),
    .attention_back = KERNEL(train_attention_back),
    .attention_keys = KERNEL(train_attention_keys),
    .dot = KERNEL(train_dot),
};
