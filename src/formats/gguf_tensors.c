/* Tensor records: types, shapes and where the bytes lie.
 *
 * Three checks make a record believable, each with its own message:
 *  1. the record itself: a name not seen before, one to four dimensions, each ≥ 1, a known type,
 *     rows of whole blocks, an aligned offset;
 *  2. the bytes: offset inside the data section, all of the tensor's bytes inside it;
 *  3. all together, in order of offset: no two overlap, and each is followed at once (after
 *     padding) by the next, so a type or shape that does not account for the bytes is found out.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "formats/gguf_private.h"

/* The file's type numbers. type is TENSOR_TYPE_COUNT for those that have a name but no reader. */
struct file_type {
    uint32_t number;
    enum tensor_type type;
    const char *name;
};

static const struct file_type file_types[] = {
    {0, TENSOR_F32, "F32"},
    {1, TENSOR_F16, "F16"},
    {2, TENSOR_Q4_0, "Q4_0"},
    {3, TENSOR_Q4_1, "Q4_1"},
    {6, TENSOR_Q5_0, "Q5_0"},
    {7, TENSOR_Q5_1, "Q5_1"},
    {8, TENSOR_Q8_0, "Q8_0"},
    {9, TENSOR_TYPE_COUNT, "Q8_1"},
    {10, TENSOR_Q2_K, "Q2_K"},
    {11, TENSOR_Q3_K, "Q3_K"},
    {12, TENSOR_Q4_K, "Q4_K"},
    {13, TENSOR_Q5_K, "Q5_K"},
    {14, TENSOR_Q6_K, "Q6_K"},
    {15, TENSOR_TYPE_COUNT, "Q8_K"},
    {16, TENSOR_TYPE_COUNT, "IQ2_XXS"},
    {17, TENSOR_TYPE_COUNT, "IQ2_XS"},
    {18, TENSOR_TYPE_COUNT, "IQ3_XXS"},
    {19, TENSOR_TYPE_COUNT, "IQ1_S"},
    {20, TENSOR_TYPE_COUNT, "IQ4_NL"},
    {21, TENSOR_TYPE_COUNT, "IQ3_S"},
    {22, TENSOR_TYPE_COUNT, "IQ2_S"},
    {23, TENSOR_TYPE_COUNT, "IQ4_XS"},
    {24, TENSOR_I8, "I8"},
    {25, TENSOR_I16, "I16"},
    {26, TENSOR_I32, "I32"},
    {27, TENSOR_I64, "I64"},
    {28, TENSOR_F64, "F64"},
    {29, TENSOR_TYPE_COUNT, "IQ1_M"},
    {30, TENSOR_BF16, "BF16"},
    {34, TENSOR_TYPE_COUNT, "TQ1_0"},
    {35, TENSOR_TYPE_COUNT, "TQ2_0"},
    {39, TENSOR_TYPE_COUNT, "MXFP4"},
    {40, TENSOR_TYPE_COUNT, "NVFP4"},
    {41, TENSOR_TYPE_COUNT, "Q1_0"},
};

static int type_of(uint32_t number, const char *name, enum tensor_type *type, struct err *err)
{
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++) {
        if (file_types[i].number != number)
            continue;
        if (file_types[i].type == TENSOR_TYPE_COUNT)
            return err_set(err, ERR_UNSUPPORTED,
                           "tensor '%s' is of type %s, which is not supported (%s are)", name,
                           file_types[i].name, tensor_type_usable_list());
        *type = file_types[i].type;
        return 0;
    }
    return err_set(err, ERR_CORRUPT, "unknown type: tensor '%s' is of type number %" PRIu32, name,
                   number);
}

bool gguf_type_number(enum tensor_type type, uint32_t *number)
{
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++) {
        if (file_types[i].type == type && type != TENSOR_TYPE_COUNT) {
            *number = file_types[i].number;
            return true;
        }
    }
    return false;
}

/* Reads n_dims and the dims, innermost first in the file, into the view's order. */
static int take_dims(struct gguf_cursor *cursor, struct tensor_view *view, struct err *err)
{
    uint32_t n_dims = 0;
    int rc = gguf_take_u32(cursor, "a tensor's number of dimensions", &n_dims, err);
    if (rc != 0)
        return rc;
    if (n_dims == 0 || n_dims > TENSOR_DIMS_MAX)
        return err_set(err, ERR_CORRUPT,
                       "tensor '%s' has %" PRIu32 " dimensions, 1 to %d are allowed", view->name,
                       n_dims, TENSOR_DIMS_MAX);
    view->n_dims = n_dims;
    for (uint32_t i = n_dims; i-- > 0;) {
        if ((rc = gguf_take_u64(cursor, "a tensor's dimension", &view->dims[i], err)) != 0)
            return rc;
    }
    return 0;
}

static int take_record(struct gguf *gguf, struct gguf_cursor *cursor, size_t i, struct err *err)
{
    struct tensor_view *view = &gguf->tensors[i];
    uint32_t type_number = 0;
    int rc = gguf_take_name(gguf, cursor, "a tensor name", &view->name, err);
    if (rc != 0)
        return rc;
    if (name_index_add(&gguf->tensor_index, view->name, (int32_t)i) != (int32_t)i)
        return err_set(err, ERR_CORRUPT, "duplicate name: tensor '%s' is there twice", view->name);
    if ((rc = take_dims(cursor, view, err)) != 0 ||
        (rc = gguf_take_u32(cursor, "a tensor's type", &type_number, err)) != 0 ||
        (rc = gguf_take_u64(cursor, "a tensor's offset", &gguf->offsets[i], err)) != 0 ||
        (rc = type_of(type_number, view->name, &view->type, err)) != 0)
        return rc;
    rc = tensor_shape_bytes(view->name, view->type, view->dims, view->n_dims, &view->bytes, err);
    if (rc != 0)
        return rc;
    if (gguf->offsets[i] % gguf->alignment != 0)
        return err_set(err, ERR_CORRUPT,
                       "bad alignment: tensor '%s' at offset %" PRIu64
                       " is not aligned to %" PRIu32,
                       view->name, gguf->offsets[i], gguf->alignment);
    return 0;
}

static uint64_t align_up(uint64_t n, uint64_t alignment)
{
    return (n + alignment - 1) / alignment * alignment;
}

static int place_tensor(struct gguf *gguf, size_t i, struct err *err)
{
    struct tensor_view *view = &gguf->tensors[i];
    uint64_t offset = gguf->offsets[i];
    uint64_t data_bytes = gguf->size - gguf->data_start;
    if (offset >= data_bytes)
        return err_set(err, ERR_CORRUPT,
                       "offset past the end: tensor '%s' at %" PRIu64 ", the data ends at %" PRIu64,
                       view->name, offset, data_bytes);
    if (view->bytes > data_bytes - offset)
        return err_set(err, ERR_CORRUPT,
                       "truncated data: tensor '%s' needs %" PRIu64 " bytes at %" PRIu64
                       ", the data ends at %" PRIu64,
                       view->name, view->bytes, offset, data_bytes);
    view->data = gguf->data + gguf->data_start + offset;
    return 0;
}

static int check_neighbours(const struct gguf *gguf, const struct tensor_view *a,
                            const struct tensor_view *b, struct err *err)
{
    const uint8_t *data = gguf->data + gguf->data_start;
    uint64_t a_end = (uint64_t)(a->data - data) + a->bytes;
    uint64_t b_start = (uint64_t)(b->data - data);
    if (b_start < a_end)
        return err_set(err, ERR_CORRUPT,
                       "overlapping tensors: '%s' ends at %" PRIu64 ", '%s' begins at %" PRIu64,
                       a->name, a_end, b->name, b_start);
    if (b_start > align_up(a_end, gguf->alignment))
        return err_set(err, ERR_CORRUPT,
                       "size does not match the type: tensor '%s' (%s) has %" PRIu64
                       " bytes, but the next one ('%s') begins %" PRIu64 " bytes after its start",
                       a->name, tensor_type_name(a->type), a->bytes, b->name,
                       b_start - (a_end - a->bytes));
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct tensor_view *const *x = a, *const *y = b;
    return ((*x)->data > (*y)->data) - ((*x)->data < (*y)->data);
}

/* Check 3 of the head comment. Files are written in order, so sorting is the exception. */
static int check_layout(const struct gguf *gguf, struct err *err)
{
    const struct tensor_view **order = mem_calloc(gguf->n_tensors, sizeof *order);
    if (!order)
        return mem_err(err, gguf->n_tensors * sizeof *order);
    bool sorted = true;
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        order[i] = &gguf->tensors[i];
        sorted = sorted && (i == 0 || order[i - 1]->data <= order[i]->data);
    }
    if (!sorted)
        qsort(order, gguf->n_tensors, sizeof *order, compare_places);
    int rc = 0;
    for (size_t i = 1; rc == 0 && i < gguf->n_tensors; i++)
        rc = check_neighbours(gguf, order[i - 1], order[i], err);
    mem_free(order);
    return rc;
}

int gguf_parse_tensors(struct gguf *gguf, struct gguf_cursor *cursor, uint64_t n_tensors,
                       struct err *err)
{
    int rc = name_index_init(&gguf->tensor_index, (uint32_t)n_tensors, err);
    if (rc != 0)
        return rc;
    gguf->tensors = mem_calloc((size_t)n_tensors, sizeof *gguf->tensors);
    gguf->offsets = mem_calloc((size_t)n_tensors, sizeof *gguf->offsets);
    if (!gguf->tensors || !gguf->offsets)
        return mem_err(err, (size_t)n_tensors * sizeof *gguf->tensors);
    gguf->n_tensors = (size_t)n_tensors;
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        if ((rc = take_record(gguf, cursor, i, err)) != 0)
            return rc;
    }
    if (gguf->n_tensors == 0)
        return 0;
    gguf->data_start = align_up(cursor->at, gguf->alignment);
    if (gguf->data_start >= gguf->size)
        return err_set(err, ERR_CORRUPT,
                       "truncated data: the file ends at %" PRIu64
                       ", tensor data begins at %" PRIu64,
                       gguf->size, gguf->data_start);
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        if ((rc = place_tensor(gguf, i, err)) != 0)
            return rc;
    }
    return check_layout(gguf, err);
}
