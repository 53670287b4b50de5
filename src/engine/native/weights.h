/* One frozen matrix: its rows as the file has them, and the same rows packed for serving.
 *
 * Rows are always spoken of in Hugging Face order. GGUF's llama files keep the q and k rows of each
 * head interleaved for their rope (file row 2·i + j holds row i + j·head_dim/2 of the head);
 * weight_rows puts that right, so nothing above knows of it.
 * Read-only after open; any thread may read.
 */
#ifndef ENGINE_NATIVE_WEIGHTS_H
#define ENGINE_NATIVE_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/thread.h"
#include "formats/tensor_view.h"
#include "kernels/kernels.h"

struct weight {
    struct tensor_view view; /* (n_rows, n_cols) */
    size_t n_rows, n_cols;
    size_t row_bytes;
    size_t permuted_head; /* head_dim where rows are interleaved by head, else 0 */
    struct pack pack;     /* data NULL until packed */
};

/* Takes a 1- or 2-dimensional view; permuted_head as in the struct. ERR_UNSUPPORTED for a type that
 * no kernel serves, by name. */
int weight_init(struct weight *weight, const struct tensor_view *view, size_t permuted_head,
                struct err *err) MUST_CHECK;
/* rows[i] = the bytes of row `row` + i (Hugging Face order) in the file's own format, i < n. */
void weight_rows(const struct weight *weight, size_t row, size_t n, const uint8_t **rows);
/* Bytes of one row's scales, and of its biases, in the file. Affine types only. */
size_t weight_scale_row_bytes(const struct weight *weight);
/* Row `row` de-quantised, n_cols floats: rule "Quantised products", last sentence. */
void weight_dequant_row(const struct weight *weight, size_t row, float *out);

size_t weight_packed_bytes(const struct weight *weight);
/* Packs into `out` (weight_packed_bytes, 64-byte aligned), which the caller keeps; the panels are
 * split over the pool. */
void weight_pack(struct weight *weight, uint8_t *out, struct pool *pool);

#endif
