/* A GGUF file may keep rows in another order and norms with one added; here all of that is undone,
 * so what the rest sees is what a Hugging Face folder would hold. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/dequant.h"
#include "train/merge_int.h"

static float at(const struct tensor_view *view, size_t i)
{
    float value;
    memcpy(&value, view->data + i * sizeof value, sizeof value);
    return value;
}

static bool ends_with(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n > m && strcmp(name + n - m, ending) == 0;
}

/* lora_a or lora_b of "<stem>.weight". */
static const struct tensor_view *factor_of(const struct merge *m, const struct tensor_view *view,
                                           char which)
{
    char name[MERGE_NAME_BYTES];
    if (m->factors == NULL || !ends_with(view->name, ".weight")) {
        return NULL;
    }
    (void)snprintf(name, sizeof name, "%.*s.lora_%c", (int)strlen(view->name) - 7, view->name,
                   which);
    return safetensors_tensor(m->factors, name);
}

bool merge_has_factor(const struct merge *merge, const struct tensor_view *view)
{
    return factor_of(merge, view, 'a') != NULL || factor_of(merge, view, 'b') != NULL;
}

static int open_factor(struct merge_rows *rows, struct err *err)
{
    const struct tensor_view *view = rows->view;
    const struct tensor_view *a = rows->a = factor_of(rows->merge, view, 'a');
    const struct tensor_view *b = rows->b = factor_of(rows->merge, view, 'b');
    const size_t n_rows = (size_t)tensor_view_rows(view), cols = (size_t)tensor_view_cols(view);
    if (a == NULL && b == NULL) {
        return 0;
    }
    if (a == NULL || b == NULL || a->type != TENSOR_F32 || b->type != TENSOR_F32 ||
        a->n_dims != 2 || b->n_dims != 2 || a->dims[0] != cols || b->dims[1] != n_rows ||
        a->dims[1] != b->dims[0]) {
        return err_set(err, ERR_CORRUPT, "the factors of %s do not fit it", view->name);
    }
    rows->rank = (size_t)a->dims[1];
    rows->a_rows = mem_calloc(rows->rank * cols, sizeof *rows->a_rows);
    rows->delta = mem_calloc(cols, sizeof *rows->delta);
    if (rows->a_rows == NULL || rows->delta == NULL) {
        return mem_err(err, rows->rank * cols * sizeof *rows->a_rows);
    }
    for (size_t c = 0; c < cols; c++) {
        for (size_t k = 0; k < rows->rank; k++) {
            rows->a_rows[k * cols + c] = at(a, c * rows->rank + k);
        }
    }
    return 0;
}

int merge_rows_open(struct merge_rows *rows, const struct merge *merge,
                    const struct tensor_view *view, struct err *err)
{
    const bool gguf = model_files_container(merge->base) == MODEL_GGUF;
    memset(rows, 0, sizeof *rows);
    rows->merge = merge;
    rows->view = view;
    if (!tensor_type_usable(view->type)) {
        return err_set(err, ERR_UNSUPPORTED, "%s cannot be de-quantised here", view->name);
    }
    rows->turned =
        model_files_rope_permuted(merge->base) &&
        (strstr(view->name, ".q_proj.") != NULL || strstr(view->name, ".k_proj.") != NULL);
    rows->plus_one = gguf && model_files_config(merge->base)->family->norm_plus_one &&
                     ends_with(view->name, "norm.weight");
    const int rc = open_factor(rows, err);
    if (rc != 0) {
        merge_rows_close(rows);
    }
    return rc;
}

void merge_rows_close(struct merge_rows *rows)
{
    mem_free(rows->a_rows);
    mem_free(rows->delta);
    rows->a_rows = rows->delta = NULL;
}

uint64_t merge_rows_source(const struct merge_rows *rows, uint64_t r)
{
    if (!rows->turned || rows->view->n_dims != 2) {
        return r;
    }
    return model_rope_gguf_row((uint32_t)r, model_files_config(rows->merge->base)->head_dim);
}

/* A bias has as many elements as its matrix has rows, in the same order. */
static void turn_back(const struct merge_rows *rows, float *values, size_t n)
{
    const uint32_t head_dim = model_files_config(rows->merge->base)->head_dim;
    float head[MODEL_HEAD_DIM_MAX];
    for (size_t first = 0; first + head_dim <= n; first += head_dim) {
        memcpy(head, values + first, head_dim * sizeof *head);
        for (uint32_t i = 0; i < head_dim; i++) {
            values[first + i] = head[model_rope_gguf_row(i, head_dim)];
        }
    }
}

static void fold(const struct merge_rows *rows, uint64_t r, size_t cols, float *row)
{
    const float scale = (float)rows->merge->manifest.lora_scale;
    memset(rows->delta, 0, cols * sizeof *rows->delta);
    for (size_t k = 0; k < rows->rank; k++) {
        const float b = at(rows->b, k * (size_t)rows->b->dims[1] + (size_t)r);
        const float *a = rows->a_rows + k * cols;
        for (size_t c = 0; c < cols; c++) {
            rows->delta[c] += b * a[c];
        }
    }
    for (size_t c = 0; c < cols; c++) {
        row[c] += scale * rows->delta[c];
    }
}

int merge_rows_get(const struct merge_rows *rows, uint64_t r, float *out, struct err *err)
{
    const size_t cols = (size_t)tensor_view_cols(rows->view);
    tensor_dequant_row(rows->view, merge_rows_source(rows, r), out);
    if (rows->turned && rows->view->n_dims == 1) {
        turn_back(rows, out, cols);
    }
    for (size_t c = 0; c < cols && rows->plus_one; c++) {
        out[c] -= 1.0f;
    }
    if (rows->rank > 0) {
        fold(rows, r, cols, out);
    }
    for (size_t c = 0; c < cols; c++) {
        if (!isfinite(out[c])) {
            return err_set(err, ERR_CORRUPT, "%s holds NaN or infinity", rows->view->name);
        }
    }
    return 0;
}
