/* Factors on parts of a fused projection as factors on the whole.
 *
 * The hub trains q, k and v apart; where a family keeps them in one matrix, other tools put one
 * adapter on that. Its factors are the parts' beside one another: with x·a of each part in columns
 * of its own, b has each part's rows there and zeros elsewhere, so
 *
 *     x·[a_q a_k a_v]·⎡b_q  0   0 ⎤ = [x·a_q·b_q   x·a_k·b_k   x·a_v·b_v]
 *                     ⎢ 0  b_k  0 ⎥
 *                     ⎣ 0   0  b_v⎦
 *
 * with the same scale, at the rank of all parts together.
 */
#ifndef TRAIN_EXPORT_FUSED_H
#define TRAIN_EXPORT_FUSED_H

#include "base/mem.h"
#include "formats/model_config.h"
#include "formats/safetensors.h"

struct export_fused {
    struct arena arena;
    struct tensor_view
        *views; /* F32 lora_a (in, rank) and lora_b (rank, out), as mlx-lm has them */
    size_t n;
    int qkv_parts, gate_up_parts; /* how many of a fused projection's have factors */
};

/* The file must outlive what is made of it. */
int export_fuse(struct export_fused *fused, const struct safetensors *file,
                const struct model_config *config, struct err *err) MUST_CHECK;
void export_fused_release(struct export_fused *fused); /* safe on a zeroed struct */

#endif
