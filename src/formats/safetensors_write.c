/* Writing. The header is made whole in memory first, so every refusal happens before a byte is
 * written; fs_writer then publishes the file or nothing.
 *
 * Two orders are at work: `by_name` for the header, `by_place` (element size falling, then name)
 * for the data, which keeps every tensor at a multiple of its element size without padding, as the
 * format allows none.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "formats/safetensors.h"

enum { HEADER_ALIGN = 8 };

/* A view and where its bytes will lie. */
struct slot {
    const struct tensor_view *view;
    uint64_t begin;
};

struct plan {
    struct slot *slots; /* by name */
    struct slot **by_place;
    const struct safetensors_kv **metadata; /* by key */
};

static int compare_slot_names(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;
    return strcmp(x->view->name, y->view->name);
}

static int compare_slot_places(const void *a, const void *b)
{
    const struct slot *x = *(struct slot *const *)a, *y = *(struct slot *const *)b;
    uint32_t x_bytes = tensor_type_block_bytes(x->view->type);
    uint32_t y_bytes = tensor_type_block_bytes(y->view->type);
    if (x_bytes != y_bytes)
        return x_bytes > y_bytes ? -1 : 1;
    return strcmp(x->view->name, y->view->name);
}

static int compare_keys(const void *a, const void *b)
{
    const struct safetensors_kv *x = *(const struct safetensors_kv *const *)a;
    const struct safetensors_kv *y = *(const struct safetensors_kv *const *)b;
    return strcmp(x->key, y->key);
}

static int check_text(const char *what, const char *text, struct err *err)
{
    if (!utf8_valid(text, strlen(text)))
        return err_set(err, ERR_INVALID, "%s is not valid UTF-8", what);
    return 0;
}

static int check_view(const struct tensor_view *view, struct err *err)
{
    uint64_t bytes = 0;
    size_t length = strlen(view->name);
    if (length == 0 || length > SAFETENSORS_NAME_BYTES_MAX ||
        strcmp(view->name, "__metadata__") == 0)
        return err_set(err, ERR_INVALID, "'%.64s' cannot be a tensor's name", view->name);
    int rc = check_text("a tensor's name", view->name, err);
    if (rc != 0)
        return rc;
    if (tensor_type_quantised(view->type))
        return err_set(err, ERR_UNSUPPORTED, "safetensors cannot hold tensor '%s' of type %s",
                       view->name, tensor_type_name(view->type));
    rc = tensor_shape_bytes(view->name, view->type, view->dims, view->n_dims, &bytes, err);
    if (rc != 0)
        return rc;
    if (bytes != view->bytes)
        return err_set(err, ERR_INVALID,
                       "tensor '%s' has %" PRIu64 " bytes, its type and shape need %" PRIu64,
                       view->name, view->bytes, bytes);
    return 0;
}

static int plan_init(struct plan *plan, size_t n, size_t n_metadata, struct err *err)
{
    plan->slots = mem_calloc(n + 1, sizeof *plan->slots);
    plan->by_place = mem_calloc(n + 1, sizeof *plan->by_place);
    plan->metadata = mem_calloc(n_metadata + 1, sizeof *plan->metadata);
    if (!plan->slots || !plan->by_place || !plan->metadata)
        return mem_err(err, (n + 1) * sizeof *plan->slots);
    return 0;
}

static void plan_release(struct plan *plan)
{
    mem_free(plan->slots);
    mem_free(plan->by_place);
    mem_free(plan->metadata);
}

/* as_given: data lies in the order of views. */
static int plan_tensors(struct plan *plan, const struct tensor_view *views, size_t n, bool as_given,
                        struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        int rc = check_view(&views[i], err);
        if (rc != 0)
            return rc;
        plan->slots[i].view = &views[i];
    }
    qsort(plan->slots, n, sizeof *plan->slots, compare_slot_names);
    for (size_t i = 0; i < n; i++) {
        plan->by_place[as_given ? (size_t)(plan->slots[i].view - views) : i] = &plan->slots[i];
        if (i > 0 && compare_slot_names(&plan->slots[i - 1], &plan->slots[i]) == 0)
            return err_set(err, ERR_INVALID, "duplicate name: tensor '%s' is given twice",
                           plan->slots[i].view->name);
    }
    if (!as_given)
        qsort(plan->by_place, n, sizeof *plan->by_place, compare_slot_places);
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = plan->by_place[i]->view->bytes;
        plan->by_place[i]->begin = at;
        if (bytes > INT64_MAX - at)
            return err_set(err, ERR_TOO_LARGE, "the tensors together are too large");
        at += bytes;
    }
    return 0;
}

static int plan_metadata(struct plan *plan, const struct safetensors_kv *metadata, size_t n,
                         struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        int rc;
        if ((rc = check_text("a metadata key", metadata[i].key, err)) != 0 ||
            (rc = check_text("a metadata value", metadata[i].value, err)) != 0)
            return rc;
        plan->metadata[i] = &metadata[i];
    }
    qsort(plan->metadata, n, sizeof *plan->metadata, compare_keys);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(plan->metadata[i - 1]->key, plan->metadata[i]->key) == 0)
            return err_set(err, ERR_INVALID, "duplicate name: metadata '%s' is given twice",
                           plan->metadata[i]->key);
    }
    return 0;
}

static void put_entry(struct json_out *out, const struct slot *slot)
{
    const struct tensor_view *view = slot->view;
    json_out_key(out, view->name);
    json_out_object(out);
    json_out_kv_string(out, "dtype", tensor_type_name(view->type));
    json_out_key(out, "shape");
    json_out_array(out);
    for (unsigned i = 0; i < view->n_dims; i++)
        json_out_uint(out, view->dims[i]);
    json_out_array_end(out);
    json_out_key(out, "data_offsets");
    json_out_array(out);
    json_out_uint(out, slot->begin);
    json_out_uint(out, slot->begin + view->bytes);
    json_out_array_end(out);
    json_out_object_end(out);
}

static int put_header(struct buf *header, const struct plan *plan, size_t n, size_t n_metadata,
                      struct err *err)
{
    struct json_out out;
    json_out_init(&out, header);
    json_out_object(&out);
    if (n_metadata > 0) {
        json_out_key(&out, "__metadata__");
        json_out_object(&out);
        for (size_t i = 0; i < n_metadata; i++)
            json_out_kv_string(&out, plan->metadata[i]->key, plan->metadata[i]->value);
        json_out_object_end(&out);
    }
    for (size_t i = 0; i < n; i++)
        put_entry(&out, &plan->slots[i]);
    json_out_object_end(&out);
    while (header->failed == ERR_NONE && header->len % HEADER_ALIGN != 0)
        buf_putc(header, ' ');
    return buf_check(header, "the safetensors header", err);
}

static int put_head(struct fs_writer *file, const char *path, const struct buf *header,
                    struct err *err)
{
    uint8_t length[8];
    for (unsigned i = 0; i < sizeof length; i++)
        length[i] = (uint8_t)((uint64_t)header->len >> (8 * i));
    int rc = fs_writer_open(file, path, err);
    if (rc != 0)
        return rc;
    if ((rc = fs_writer_write(file, length, sizeof length, err)) != 0 ||
        (rc = fs_writer_write(file, header->data, header->len, err)) != 0)
        fs_writer_abandon(file);
    return rc;
}

static int put_data(struct fs_writer *file, const struct plan *plan, size_t n, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct tensor_view *view = plan->by_place[i]->view;
        rc = fs_writer_write(file, view->data, (size_t)view->bytes, err);
    }
    return rc;
}

/* The plan of everything and the beginning of the file. */
static int begin(struct plan *plan, bool as_given, struct fs_writer *file, const char *path,
                 const struct tensor_view *views, size_t n, const struct safetensors_kv *metadata,
                 size_t n_metadata, struct err *err)
{
    struct buf header;
    int rc;
    if (n > SAFETENSORS_TENSORS_MAX || n_metadata > SAFETENSORS_METADATA_MAX)
        return err_set(err, ERR_TOO_LARGE,
                       "%zu tensors and %zu metadata entries, at most %d and %d are allowed", n,
                       n_metadata, SAFETENSORS_TENSORS_MAX, SAFETENSORS_METADATA_MAX);
    buf_init(&header, SAFETENSORS_HEADER_BYTES_MAX);
    if ((rc = plan_init(plan, n, n_metadata, err)) == 0 &&
        (rc = plan_tensors(plan, views, n, as_given, err)) == 0 &&
        (rc = plan_metadata(plan, metadata, n_metadata, err)) == 0 &&
        (rc = put_header(&header, plan, n, n_metadata, err)) == 0)
        rc = put_head(file, path, &header, err);
    buf_release(&header);
    return rc;
}

int safetensors_write_head(struct fs_writer *file, const char *path,
                           const struct tensor_view *views, size_t n,
                           const struct safetensors_kv *metadata, size_t n_metadata,
                           struct err *err)
{
    struct plan plan = {0};
    memset(file, 0, sizeof *file);
    int rc = begin(&plan, true, file, path, views, n, metadata, n_metadata, err);
    plan_release(&plan);
    return rc;
}

int safetensors_write(const char *path, const struct tensor_view *views, size_t n,
                      const struct safetensors_kv *metadata, size_t n_metadata, struct err *err)
{
    struct plan plan = {0};
    struct fs_writer file = {0};
    int rc = begin(&plan, false, &file, path, views, n, metadata, n_metadata, err);
    if (rc == 0)
        rc = put_data(&file, &plan, n, err);
    if (rc == 0)
        rc = fs_writer_publish(&file, err);
    fs_writer_abandon(&file);
    plan_release(&plan);
    return rc;
}
