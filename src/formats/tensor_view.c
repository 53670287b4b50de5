/* Shape arithmetic. Every product is checked before it is made; the element count is held below
 * 2^60 so that no later size of it in bits can wrap. */
#include "formats/tensor_view.h"

#include <inttypes.h>
#include <stdio.h>

static const uint64_t elements_max = UINT64_C(1) << 60;

uint64_t tensor_view_elements(const struct tensor_view *view)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < view->n_dims; i++)
        n *= view->dims[i];
    return n;
}

uint64_t tensor_view_cols(const struct tensor_view *view)
{
    return view->n_dims ? view->dims[view->n_dims - 1] : 1;
}

uint64_t tensor_view_rows(const struct tensor_view *view)
{
    uint64_t n = 1;
    for (unsigned i = 0; i + 1 < view->n_dims; i++)
        n *= view->dims[i];
    return n;
}

int tensor_shape_bytes(const char *name, enum tensor_type type, const uint64_t *dims,
                       unsigned n_dims, uint64_t *bytes, struct err *err)
{
    if (n_dims > TENSOR_DIMS_MAX)
        return err_set(err, ERR_UNSUPPORTED,
                       "tensor '%s' has %u dimensions, at most %d can be read", name, n_dims,
                       TENSOR_DIMS_MAX);
    uint64_t rows = 1;
    for (unsigned i = 0; i < n_dims; i++) {
        if (dims[i] == 0)
            return err_set(err, ERR_CORRUPT, "tensor '%s' has a zero dimension", name);
        if (dims[i] > INT64_MAX)
            return err_set(err, ERR_CORRUPT, "tensor '%s' has a negative dimension (%" PRId64 ")",
                           name, (int64_t)dims[i]);
        if (dims[i] > elements_max / rows)
            return err_set(err, ERR_CORRUPT, "tensor '%s': the product of its dimensions overflows",
                           name);
        rows *= dims[i];
    }
    uint64_t cols = n_dims ? dims[n_dims - 1] : 1;
    uint64_t row_bytes = tensor_type_row_bytes(type, cols);
    if (row_bytes == 0)
        return err_set(err, ERR_CORRUPT,
                       "tensor '%s': rows of %" PRIu64 " elements are no whole blocks of %u (%s)",
                       name, cols, tensor_type_block_size(type), tensor_type_name(type));
    /* rows × cols < 2^60 and no type has more than 8 bytes an element: no overflow */
    *bytes = rows / cols * row_bytes;
    return 0;
}

void tensor_shape_text(const uint64_t *dims, unsigned n_dims, char out[TENSOR_SHAPE_TEXT_BYTES])
{
    size_t at = 0;
    out[at++] = '[';
    for (unsigned i = 0; i < n_dims && i < TENSOR_DIMS_MAX; i++) {
        int n =
            snprintf(out + at, TENSOR_SHAPE_TEXT_BYTES - at, "%s%" PRIu64, i ? ", " : "", dims[i]);
        at += (size_t)n; /* 1 + 4 × 22 + 2 < 96 */
    }
    out[at++] = ']';
    out[at] = '\0';
}
