/* A matrix of MLX's affine quantisation is three tensors: "<stem>.weight" of U32 words with the
 * values from the low bits up, "<stem>.scales" and "<stem>.biases" of one float for each group.
 * Their shapes and the shape that the architecture demands give bits and group, so files that treat
 * some matrices in another way than config.json's default need no table of exceptions.
 */
#include <stdio.h>
#include <string.h>

#include "formats/model_private.h"

static const char weight_suffix[] = ".weight";

/* "<stem>.<part>" of the tensor "<stem>.weight"; NULL when name or tensor are not like that. */
static const struct tensor_view *sibling(const struct model_files *files, const char *name,
                                         const char *part)
{
    char other[MODEL_TENSOR_NAME_BYTES];
    size_t length = strlen(name), suffix = sizeof weight_suffix - 1;
    if (length < suffix || strcmp(name + length - suffix, weight_suffix) != 0)
        return NULL;
    int n = snprintf(other, sizeof other, "%.*s.%s", (int)(length - suffix), name, part);
    return n > 0 && (size_t)n < sizeof other ? model_files_tensor(files, other) : NULL;
}

static bool is_float(enum tensor_type type)
{
    return type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16;
}

enum model_affine model_affine_resolve(const struct model_files *files, struct tensor_view *view,
                                       const uint64_t dims[2])
{
    const struct tensor_view *scales = sibling(files, view->name, "scales");
    const struct tensor_view *biases = sibling(files, view->name, "biases");
    if (view->type != TENSOR_U32 || view->n_dims != 2 || !scales || !biases)
        return MODEL_AFFINE_NOT;
    uint64_t rows = dims[0], cols = dims[1];
    if (scales->n_dims != 2 || biases->n_dims != 2 || scales->type != biases->type ||
        !is_float(scales->type) || memcmp(scales->dims, biases->dims, 2 * sizeof *dims) != 0 ||
        view->dims[0] != rows || scales->dims[0] != rows)
        return MODEL_AFFINE_WRONG;
    uint64_t words = view->dims[1], n_groups = scales->dims[1];
    bool eight = words * 4 == cols, four = words * 8 == cols;
    uint64_t group = cols / n_groups;
    if ((!eight && !four) || group * n_groups != cols ||
        (group != 32 && group != 64 && group != 128))
        return MODEL_AFFINE_WRONG;
    view->type = eight ? TENSOR_MLX8 : TENSOR_MLX4;
    view->dims[1] = cols;
    view->scales = scales->data;
    view->biases = biases->data;
    view->scale_type = scales->type;
    view->group = (uint32_t)group;
    return MODEL_AFFINE_RESOLVED;
}

uint64_t model_affine_scale_bytes(const struct tensor_view *view)
{
    if (view->type != TENSOR_MLX4 && view->type != TENSOR_MLX8)
        return 0;
    return 2 * tensor_view_elements(view) / view->group * tensor_type_block_bytes(view->scale_type);
}
