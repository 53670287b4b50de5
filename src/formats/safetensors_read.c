/* Reading one safetensors file.
 *
 * Invariants after a successful parse:
 *  1. tensors are sorted by name, unique, and in the index;
 *  2. put in order of offset they cover the data exactly: the first begins at 0, each begins where
 *     the one before it ends, the last ends at the end of the file (the format's own rule: no
 *     holes, so nothing can hide in a file, and none of the bytes is read twice).
 * The JSON tree lives only during the parse; names are copied into the arena.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/safetensors.h"
#include "formats/safetensors_private.h"
#include "formats/strict_json.h"

enum { LENGTH_BYTES = 8 };

static const char index_suffix[] = ".index.json";

/* What of a file a header entry needs to know. */
struct region {
    const uint8_t *data;
    uint64_t size;
};

static int read_header(const uint8_t *data, uint64_t size, json_t **header, struct region *body,
                       struct err *err)
{
    if (size < LENGTH_BYTES)
        return err_set(err, ERR_CORRUPT,
                       "truncated header: a safetensors file is longer than %" PRIu64 " bytes",
                       size);
    uint64_t length = 0;
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        length |= (uint64_t)data[i] << (8 * i);
    if (length > SAFETENSORS_HEADER_BYTES_MAX)
        return err_set(err, ERR_CORRUPT,
                       "header too large: %" PRIu64 " bytes, at most %d are allowed", length,
                       SAFETENSORS_HEADER_BYTES_MAX);
    if (length > size - LENGTH_BYTES)
        return err_set(err, ERR_CORRUPT,
                       "header longer than the file: %" PRIu64 " bytes of header, %" PRIu64
                       " bytes of file",
                       length, size);
    *body = (struct region){data + LENGTH_BYTES + length, size - LENGTH_BYTES - length};
    return strict_json_parse("header", (const char *)data + LENGTH_BYTES, (size_t)length, header,
                             err);
}

static int read_type(const char *name, const json_t *entry, enum tensor_type *type, struct err *err)
{
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    if (!text)
        return err_set(err, ERR_CORRUPT, "tensor '%s': \"dtype\" is missing or not a string", name);
    static const char *const unread[] = {"F4",  "F6_E2M3", "F6_E3M2",     "F8_E8M0",
                                         "C64", "C128",    "F8_E4M3FNUZ", "F8_E5M2FNUZ"};
    for (size_t i = 0; i < sizeof unread / sizeof *unread; i++) {
        if (strcmp(text, unread[i]) == 0)
            return err_set(err, ERR_UNSUPPORTED,
                           "tensor '%s' is of type %s, which is not supported", name, text);
    }
    *type = tensor_type_by_name(text);
    if (*type == TENSOR_TYPE_COUNT || tensor_type_quantised(*type))
        return err_set(err, ERR_CORRUPT, "unknown type: tensor '%s' is of type '%.40s'", name,
                       text);
    return 0;
}

static int read_shape(struct tensor_view *view, const json_t *entry, struct err *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return err_set(err, ERR_CORRUPT, "tensor '%s': \"shape\" is missing or not an array",
                       view->name);
    size_t n_dims = json_array_size(shape);
    if (n_dims > TENSOR_DIMS_MAX)
        return err_set(err, ERR_UNSUPPORTED,
                       "tensor '%s' has %zu dimensions, at most %d can be read", view->name, n_dims,
                       TENSOR_DIMS_MAX);
    view->n_dims = (unsigned)n_dims;
    for (unsigned i = 0; i < view->n_dims; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim))
            return err_set(err, ERR_CORRUPT, "tensor '%s': a dimension is not an integer",
                           view->name);
        view->dims[i] = (uint64_t)json_integer_value(dim);
    }
    return 0;
}

static int read_place(struct tensor_view *view, const json_t *entry, const struct region *body,
                      struct err *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second))
        return err_set(err, ERR_CORRUPT,
                       "tensor '%s': \"data_offsets\" is missing or not two integers", view->name);
    int64_t begin = json_integer_value(first), end = json_integer_value(second);
    if (begin < 0 || end < begin)
        return err_set(err, ERR_CORRUPT,
                       "tensor '%s': data_offsets [%" PRId64 ", %" PRId64 "] are not a range",
                       view->name, begin, end);
    if ((uint64_t)(end - begin) != view->bytes) {
        char shape[TENSOR_SHAPE_TEXT_BYTES];
        tensor_shape_text(view->dims, view->n_dims, shape);
        return err_set(err, ERR_CORRUPT,
                       "size does not match the type: tensor '%s' %s of %s needs %" PRIu64
                       " bytes, its data_offsets give %" PRId64,
                       view->name, shape, tensor_type_name(view->type), view->bytes, end - begin);
    }
    if ((uint64_t)begin >= body->size)
        return err_set(err, ERR_CORRUPT,
                       "offset past the end: tensor '%s' at %" PRId64 ", the data ends at %" PRIu64,
                       view->name, begin, body->size);
    if ((uint64_t)end > body->size)
        return err_set(err, ERR_CORRUPT,
                       "truncated data: tensor '%s' ends at %" PRId64 ", the data at %" PRIu64,
                       view->name, end, body->size);
    view->data = body->data + begin;
    return 0;
}

static int read_tensor(struct safetensors *file, const char *key, const json_t *entry,
                       const struct region *body, struct err *err)
{
    struct tensor_view *view = &file->tensors[file->n_tensors];
    size_t length = strlen(key);
    if (length == 0 || length > SAFETENSORS_NAME_BYTES_MAX)
        return err_set(err, ERR_CORRUPT, "a tensor's name has %zu bytes, 1 to %d are allowed",
                       length, SAFETENSORS_NAME_BYTES_MAX);
    if (!json_is_object(entry))
        return err_set(err, ERR_CORRUPT, "tensor '%s': its entry is not an object", key);
    view->name = arena_strdup(&file->arena, key);
    if (!view->name)
        return mem_err(err, length + 1);
    int rc;
    if ((rc = read_type(view->name, entry, &view->type, err)) != 0 ||
        (rc = read_shape(view, entry, err)) != 0 ||
        (rc = tensor_shape_bytes(view->name, view->type, view->dims, view->n_dims, &view->bytes,
                                 err)) != 0 ||
        (rc = read_place(view, entry, body, err)) != 0)
        return rc;
    file->n_tensors++;
    return 0;
}

static int read_metadata(struct safetensors *file, json_t *map, struct err *err)
{
    if (json_is_null(map)) /* MLX writes null where it has none */
        return 0;
    if (!json_is_object(map))
        return err_set(err, ERR_CORRUPT, "\"__metadata__\" is not an object");
    size_t n = json_object_size(map);
    if (n > SAFETENSORS_METADATA_MAX)
        return err_set(err, ERR_CORRUPT,
                       "count too large: %zu metadata entries, at most %d are allowed", n,
                       SAFETENSORS_METADATA_MAX);
    file->metadata = mem_calloc(n + 1, sizeof *file->metadata);
    if (!file->metadata)
        return mem_err(err, (n + 1) * sizeof *file->metadata);
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        if (!json_is_string(value))
            return err_set(err, ERR_CORRUPT, "metadata '%.200s' is not a string", key);
        struct safetensors_kv *kv = &file->metadata[file->n_metadata];
        kv->key = arena_strdup(&file->arena, key);
        kv->value =
            arena_strndup(&file->arena, json_string_value(value), json_string_length(value));
        if (!kv->key || !kv->value)
            return mem_err(err, strlen(key) + json_string_length(value) + 2);
        file->n_metadata++;
    }
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct tensor_view *x = a, *y = b;
    if (x->data != y->data)
        return (x->data > y->data) - (x->data < y->data);
    return strcmp(x->name, y->name);
}

static int compare_names(const void *a, const void *b)
{
    const struct tensor_view *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Invariant 2. Leaves the tensors sorted by place. */
static int check_layout(struct safetensors *file, const struct region *body, struct err *err)
{
    qsort(file->tensors, file->n_tensors, sizeof *file->tensors, compare_places);
    uint64_t at = 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct tensor_view *view = &file->tensors[i];
        uint64_t begin = (uint64_t)(view->data - body->data);
        if (begin < at)
            return err_set(err, ERR_CORRUPT,
                           "overlapping tensors: '%s' ends at %" PRIu64 ", '%s' begins at %" PRIu64,
                           file->tensors[i - 1].name, at, view->name, begin);
        if (begin > at)
            return err_set(err, ERR_CORRUPT,
                           "hole in the data: %" PRIu64 " bytes before tensor '%s' belong to none",
                           begin - at, view->name);
        at = begin + view->bytes;
    }
    if (at != body->size)
        return err_set(err, ERR_CORRUPT,
                       "the tensors end at %" PRIu64 " but the data has %" PRIu64 " bytes", at,
                       body->size);
    return 0;
}

int safetensors_index_names(struct safetensors *file, struct err *err)
{
    qsort(file->tensors, file->n_tensors, sizeof *file->tensors, compare_names);
    int rc = name_index_init(&file->index, (uint32_t)file->n_tensors, err);
    for (size_t i = 0; rc == 0 && i < file->n_tensors; i++) {
        const char *name = file->tensors[i].name;
        if (name_index_add(&file->index, name, (int32_t)i) != (int32_t)i)
            rc = err_set(err, ERR_CORRUPT, "duplicate name: tensor '%s' is there twice", name);
    }
    return rc;
}

static int read_entries(struct safetensors *file, json_t *header, const struct region *body,
                        struct err *err)
{
    size_t n = json_object_size(header);
    if (n > SAFETENSORS_TENSORS_MAX)
        return err_set(err, ERR_CORRUPT, "count too large: %zu tensors, at most %d are allowed", n,
                       SAFETENSORS_TENSORS_MAX);
    file->tensors = mem_calloc(n + 1, sizeof *file->tensors);
    if (!file->tensors)
        return mem_err(err, (n + 1) * sizeof *file->tensors);
    const char *key;
    json_t *entry;
    json_object_foreach(header, key, entry)
    {
        int rc = strcmp(key, "__metadata__") == 0 ? read_metadata(file, entry, err)
                                                  : read_tensor(file, key, entry, body, err);
        if (rc != 0)
            return rc;
    }
    int rc = check_layout(file, body, err);
    return rc != 0 ? rc : safetensors_index_names(file, err);
}

int safetensors_parse(const void *data, size_t size, struct safetensors **out, struct err *err)
{
    json_t *header = NULL;
    struct region body = {0};
    int rc;
    struct safetensors *file = mem_calloc(1, sizeof *file);
    if (!file)
        return mem_err(err, sizeof *file);
    arena_init(&file->arena, 0);
    file->file_bytes = size;
    if ((rc = read_header(data, size, &header, &body, err)) != 0 ||
        (rc = read_entries(file, header, &body, err)) != 0)
        goto out;
    *out = file;
    file = NULL;
out:
    json_decref(header);
    safetensors_free(file);
    return rc;
}

int safetensors_open_file(const char *path, struct safetensors **out, struct err *err)
{
    struct fs_map map = {0};
    int rc = fs_map_open(&map, path, err);
    if (rc != 0)
        return rc;
    rc = safetensors_parse(map.data, map.size, out, err);
    if (rc != 0) {
        err_prefix(err, "%s", path);
        fs_map_close(&map);
        return rc;
    }
    (*out)->map = map;
    return 0;
}

int safetensors_open(const char *path, struct safetensors **out, struct err *err)
{
    size_t length = strlen(path), suffix = sizeof index_suffix - 1;
    if (length < suffix || strcmp(path + length - suffix, index_suffix) != 0)
        return safetensors_open_file(path, out, err);
    struct safetensors *file = mem_calloc(1, sizeof *file);
    if (!file)
        return mem_err(err, sizeof *file);
    arena_init(&file->arena, 0);
    int rc = safetensors_open_index(path, file, err);
    if (rc != 0) {
        err_prefix(err, "%s", path);
        safetensors_free(file);
        return rc;
    }
    *out = file;
    return 0;
}

void safetensors_free(struct safetensors *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->n_shards; i++)
        safetensors_free(file->shards[i]);
    mem_free(file->shards);
    mem_free(file->tensors);
    mem_free(file->metadata);
    name_index_release(&file->index);
    arena_release(&file->arena);
    fs_map_close(&file->map);
    mem_free(file);
}

size_t safetensors_tensor_count(const struct safetensors *file)
{
    return file->n_tensors;
}

const struct tensor_view *safetensors_tensor_at(const struct safetensors *file, size_t i)
{
    return &file->tensors[i];
}

const struct tensor_view *safetensors_tensor(const struct safetensors *file, const char *name)
{
    int32_t id = name_index_find(&file->index, name);
    return id == NAME_INDEX_NONE ? NULL : &file->tensors[id];
}

size_t safetensors_metadata_count(const struct safetensors *file)
{
    return file->n_metadata;
}

struct safetensors_kv safetensors_metadata_at(const struct safetensors *file, size_t i)
{
    return file->metadata[i];
}

const char *safetensors_metadata(const struct safetensors *file, const char *key)
{
    for (size_t i = 0; i < file->n_metadata; i++) {
        if (strcmp(file->metadata[i].key, key) == 0)
            return file->metadata[i].value;
    }
    return NULL;
}

uint64_t safetensors_file_bytes(const struct safetensors *file)
{
    return file->file_bytes;
}
