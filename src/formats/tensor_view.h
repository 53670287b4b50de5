/* A tensor inside a mapped file: a name, a type, a shape and where its bytes lie.
 *
 * A view owns nothing; name and data live as long as the reader that made it (struct gguf, struct
 * safetensors, struct model_files). Readers hand out only views whose shape, type and bytes agree
 * and lie inside the file: dims are all ≥ 1, the innermost is whole blocks, `bytes` is exactly the
 * size of the elements. `data` may have any alignment: read it with memcpy or unaligned loads.
 */
#ifndef FORMATS_TENSOR_VIEW_H
#define FORMATS_TENSOR_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "formats/tensor_type.h"

enum { TENSOR_DIMS_MAX = 4, TENSOR_SHAPE_TEXT_BYTES = 96 };

struct tensor_view {
    const char *name;
    enum tensor_type type;
    unsigned n_dims; /* 0 (a scalar) to TENSOR_DIMS_MAX */
    /* Row-major: dims[0] is the outermost (rows), the last one is contiguous. A matrix is
     * [out, in] from either container (GGUF writes the reverse order). */
    uint64_t dims[TENSOR_DIMS_MAX];
    const uint8_t *data;
    uint64_t bytes;
    /* TENSOR_MLX4 and TENSOR_MLX8 only: (rows, cols / group) each, of one plain float type. */
    const uint8_t *scales, *biases;
    enum tensor_type scale_type;
    uint32_t group; /* columns that share a scale: 32, 64 or 128 */
};

/* Number of elements: the product of the dims, 1 for a scalar. */
uint64_t tensor_view_elements(const struct tensor_view *view);
/* Elements of one contiguous row: the last dim, 1 for a scalar. */
uint64_t tensor_view_cols(const struct tensor_view *view);
/* Number of contiguous rows: elements / cols. */
uint64_t tensor_view_rows(const struct tensor_view *view);

/* Checks n_dims, every dim and the product against overflow, and that rows are whole blocks; sets
 * *bytes to the size of type and dims. ERR_CORRUPT or ERR_UNSUPPORTED (too many dims) naming the
 * tensor. */
int tensor_shape_bytes(const char *name, enum tensor_type type, const uint64_t *dims,
                       unsigned n_dims, uint64_t *bytes, struct err *err) MUST_CHECK;

/* "[576, 1536]" into out. */
void tensor_shape_text(const uint64_t *dims, unsigned n_dims, char out[TENSOR_SHAPE_TEXT_BYTES]);

#endif
