/* Floating-point operations of training one token, so that speeds of shapes and lengths compare. */
#ifndef BENCH_FLOPS_H
#define BENCH_FLOPS_H

#include "engine/engine.h"

/* In a row of `length`: every matrix once forward and once backward, factors three times,
 * attention's two products forward and five backward over half the row. */
static inline double flops_per_token(const struct engine_info *info, const struct engine_lora *lora,
                                     int length)
{
    const double q = (double)info->n_heads * info->head_dim;
    const double kv = (double)info->n_kv_heads * info->head_dim, d = info->d_model;
    const double f = info->d_ffn, layers = info->n_layers;
    const double in[ENGINE_TARGET_COUNT] = {d, d, d, q, d, d, f};
    const double out[ENGINE_TARGET_COUNT] = {q, kv, kv, d, f, f, d};
    double matrices = (double)info->vocab_size * d, factors = 0;
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        matrices += layers * in[t] * out[t];
        factors += (lora->targets >> t) & 1
                       ? (layers - lora->first_layer) * lora->rank * (in[t] + out[t])
                       : 0;
    }
    return 4 * matrices + 6 * factors + 14 * layers * q * length / 2;
}

#endif
