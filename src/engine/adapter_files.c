/* Loading first learns the adapter's shape from the names in the file, makes an empty adapter of
 * that shape, and then requires the file to hold exactly its tensors. Whatever does not fit is
 * collected and told in one message, because a user with the wrong base wants to see that all of it
 * is wrong. */
#include "engine/adapter_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/safetensors.h"

/* Tensors of a file, sorted by name. */
struct tensors {
    const struct tensor_view *views;
    size_t n;
};

/* What the names in a file say. */
struct outline {
    int rank;
    unsigned targets;
    int first_layer;
};

/* "model.layers.<n>.<part>.<target>.lora_a" → layer and target; false for any other name. */
static bool parse_name(const char *name, int *layer, enum engine_target *target)
{
    static const char prefix[] = "model.layers.";
    char *end;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) {
        return false;
    }
    const long n = strtol(name + sizeof prefix - 1, &end, 10);
    if (end == name + sizeof prefix - 1 || n < 0 || n > 1 << 20 || *end != '.') {
        return false;
    }
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        char want[64];
        snprintf(want, sizeof want, ".%s.%s.lora_", t < ENGINE_GATE_PROJ ? "self_attn" : "mlp",
                 engine_target_name((enum engine_target)t));
        if (strncmp(end, want, strlen(want)) == 0) {
            const char *kind = end + strlen(want);
            *layer = (int)n;
            *target = (enum engine_target)t;
            return (kind[0] == 'a' || kind[0] == 'b') && kind[1] == '\0';
        }
    }
    return false;
}

static void complain(struct buf *faults, int *n, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void complain(struct buf *faults, int *n, const char *fmt, ...)
{
    va_list args;
    if ((*n)++ >= ADAPTER_ERRORS_SHOWN_MAX) {
        return;
    }
    buf_puts(faults, faults->len > 0 ? "; " : "");
    va_start(args, fmt);
    buf_vprintf(faults, fmt, args);
    va_end(args);
}

static int refuse(const char *what, const struct buf *faults, int n, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s does not fit this base: %s%s", what,
                   faults->data != NULL ? faults->data : "",
                   n > ADAPTER_ERRORS_SHOWN_MAX ? "; and more" : "");
}

static struct outline read_outline(const struct tensors *file, int n_layers, struct buf *faults,
                                   int *n_faults)
{
    struct outline o = {.rank = 0, .targets = 0, .first_layer = n_layers};
    for (size_t i = 0; i < file->n; i++) {
        const struct tensor_view *view = &file->views[i];
        int layer;
        enum engine_target target;
        if (!parse_name(view->name, &layer, &target)) {
            complain(faults, n_faults, "unknown tensor '%s'", view->name);
            continue;
        }
        if (layer >= n_layers) {
            complain(faults, n_faults, "'%s' is of no layer of the base's %d", view->name,
                     n_layers);
        }
        o.targets |= 1u << target;
        o.first_layer = layer < o.first_layer ? layer : o.first_layer;
        if (o.rank == 0 && view->n_dims == 2) {
            const bool b = view->name[strlen(view->name) - 1] == 'b';
            o.rank = (int)(b ? view->dims[0] : view->dims[1]);
        }
    }
    return o;
}

/* File values (cols, rows) into the factor (rows, cols). */
static void transpose(const uint8_t *from, struct engine_tensor *to)
{
    for (int r = 0; r < to->rows; r++) {
        for (int c = 0; c < to->cols; c++) {
            memcpy(&to->data[(size_t)r * (size_t)to->cols + (size_t)c],
                   from + ((size_t)c * (size_t)to->rows + (size_t)r) * sizeof(float),
                   sizeof(float));
        }
    }
}

static int by_name(const void *key, const void *view)
{
    return strcmp(key, ((const struct tensor_view *)view)->name);
}

static void fill(struct engine_adapter *adapter, const struct tensors *file, struct buf *faults,
                 int *n_faults)
{
    int n;
    struct engine_tensor *tensors = engine_adapter_tensors(adapter, &n);
    for (int i = 0; i < n; i++) {
        const struct tensor_view *view =
            bsearch(tensors[i].name, file->views, file->n, sizeof *file->views, by_name);
        if (view == NULL) {
            complain(faults, n_faults, "'%s' is missing", tensors[i].name);
        } else if (view->type != TENSOR_F32 || view->n_dims != 2 ||
                   view->dims[0] != (uint64_t)tensors[i].cols ||
                   view->dims[1] != (uint64_t)tensors[i].rows) {
            char shape[TENSOR_SHAPE_TEXT_BYTES];
            tensor_shape_text(view->dims, view->n_dims, shape);
            complain(faults, n_faults, "'%s' is %s %s where [%d, %d] F32 belongs", view->name,
                     shape, tensor_type_name(view->type), tensors[i].cols, tensors[i].rows);
        } else {
            transpose(view->data, &tensors[i]);
        }
    }
    if (file->n > (size_t)n) {
        complain(faults, n_faults, "%zu tensors where %d belong", file->n, n);
    }
}

int engine_adapter_of(struct engine_adapter **out, struct engine_model *model,
                      const struct tensor_view *views, size_t n, const char *what, float scale,
                      struct err *err)
{
    const struct tensors file = {views, n};
    struct engine_adapter *adapter = NULL;
    struct buf faults;
    int n_faults = 0;
    buf_init(&faults, ERR_MESSAGE_BYTES_MAX);
    const struct outline o =
        read_outline(&file, engine_model_info(model)->n_layers, &faults, &n_faults);
    int rc = n_faults > 0 || o.targets == 0 ? refuse(what, &faults, n_faults, err) : 0;
    if (rc == 0) {
        const struct engine_lora lora = {o.rank, scale, o.targets, o.first_layer};
        rc = engine_adapter_new(&adapter, model, &lora, 0, err);
        if (rc != 0) {
            err_prefix(err, "%s does not fit this base", what);
        }
    }
    if (rc == 0) {
        fill(adapter, &file, &faults, &n_faults);
        rc = n_faults > 0 ? refuse(what, &faults, n_faults, err) : 0;
    }
    if (rc == 0) {
        engine_adapter_changed(adapter);
        *out = adapter;
        adapter = NULL;
    }
    engine_adapter_free(adapter);
    buf_release(&faults);
    return rc;
}

int engine_adapter_load(struct engine_adapter **out, struct engine_model *model, const char *path,
                        float scale, struct err *err)
{
    struct safetensors *file = NULL;
    char what[FS_PATH_BYTES_MAX + 16];
    (void)snprintf(what, sizeof what, "adapter %s", path);
    int rc = safetensors_open(path, &file, err);
    if (rc == 0) {
        const size_t n = safetensors_tensor_count(file);
        rc = engine_adapter_of(out, model, n > 0 ? safetensors_tensor_at(file, 0) : NULL, n, what,
                               scale, err);
    }
    safetensors_free(file);
    return rc;
}

/* Views of transposed copies of all factors; values holds the copies. */
static void list_views(const struct engine_tensor *tensors, int n, float *values,
                       struct tensor_view *views)
{
    for (int i = 0; i < n; i++) {
        const struct engine_tensor *t = &tensors[i];
        const size_t rows = (size_t)t->rows;
        const size_t cols = (size_t)t->cols;
        for (size_t c = 0; c < cols; c++) {
            for (size_t r = 0; r < rows; r++) {
                values[c * rows + r] = t->data[r * cols + c];
            }
        }
        const struct tensor_view view = {.name = t->name,
                                         .type = TENSOR_F32,
                                         .n_dims = 2,
                                         .dims = {cols, rows},
                                         .data = (const uint8_t *)(const void *)values,
                                         .bytes = rows * cols * sizeof(float)};
        views[i] = view;
        values += rows * cols;
    }
}

int engine_adapter_save(struct engine_adapter *adapter, const char *path, struct err *err)
{
    static const struct safetensors_kv metadata[] = {{"format", "mlx"}};
    int n;
    const struct engine_tensor *tensors = engine_adapter_tensors(adapter, &n);
    size_t count = 0;
    for (int i = 0; i < n; i++) {
        count += (size_t)tensors[i].rows * (size_t)tensors[i].cols;
    }
    struct tensor_view *views = mem_calloc((size_t)n, sizeof *views);
    float *values = mem_realloc(NULL, count, sizeof *values);
    int rc;
    if (views == NULL || values == NULL) {
        rc = mem_err(err, count * sizeof *values);
    } else {
        list_views(tensors, n, values, views);
        rc = safetensors_write(path, views, (size_t)n, metadata, 1, err);
    }
    mem_free(views);
    mem_free(values);
    return rc;
}
