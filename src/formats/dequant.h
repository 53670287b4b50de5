/* Blocks to fp32: the scalar definition of what a stored weight is.
 *
 * A value is (d × sc) × (q − offset), in that order, each product rounded to fp32; types with a
 * minimum add it in one more rounding: d × q + m, and (d × sc) × q − (dmin × mn) for the K types.
 * MLX's affine types are scale × q + bias, two roundings.
 * Bit-equal to the `gguf` Python package's dequantize. Exact and the same on every machine: no
 * FMA, no intrinsics. Thread safe, allocates nothing.
 */
#ifndef FORMATS_DEQUANT_H
#define FORMATS_DEQUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/tensor_view.h"

/* True for F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K: what
 * tensor_dequant_blocks takes. */
bool tensor_type_dequantises(enum tensor_type type);

/* Row `row` < tensor_view_rows(view) as fp32 into out[tensor_view_cols(view)]. The type must be one
 * that dequantises, or an affine one (asserted). */
void tensor_dequant_row(const struct tensor_view *view, uint64_t row, float *out);

/* n_blocks consecutive blocks at `blocks` into out[n_blocks × block_size]. */
void tensor_dequant_blocks(enum tensor_type type, const uint8_t *blocks, uint64_t n_blocks,
                           float *out);

#endif
