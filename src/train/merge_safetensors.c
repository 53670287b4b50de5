/* Which tensor goes into which file is known from the sizes beforehand, so files are numbered and
 * the index written without a second look. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "train/merge_int.h"

enum { SHARD_NAME_BYTES = 64, INDEX_BYTES_MAX = 64 << 20, VIEWS_PER_OUT = 3 };

struct shards {
    struct merge *merge;
    const char *dir;
    int total, now;
    struct tensor_view *views;
    size_t n_views;
    struct buf index;
    struct json_out map; /* the index's weight_map */
};

/* One past the last of the tensors that begin at `first` and go into one file. */
static size_t shard_end(const struct merge *m, size_t first)
{
    uint64_t bytes = 0;
    size_t i = first;
    for (; i < m->n_outs; i++) {
        if (bytes > 0 && bytes + m->outs[i].bytes > (uint64_t)MERGE_SHARD_BYTES_MAX) {
            break;
        }
        bytes += m->outs[i].bytes;
    }
    return i;
}

static int count_shards(const struct merge *m)
{
    int n = 0;
    for (size_t i = 0; i < m->n_outs; n++) {
        i = shard_end(m, i);
    }
    return n;
}

static void shard_name(const struct shards *s, char out[SHARD_NAME_BYTES])
{
    if (s->total == 1) {
        (void)snprintf(out, SHARD_NAME_BYTES, "model.safetensors");
    } else {
        (void)snprintf(out, SHARD_NAME_BYTES, "model-%05d-of-%05d.safetensors", s->now, s->total);
    }
}

static void add_view(struct shards *s, const char *name, enum tensor_type type,
                     const struct merge_out *out, uint64_t cols)
{
    struct tensor_view *view = &s->views[s->n_views++];
    *view = (struct tensor_view){.name = name, .type = type, .n_dims = out->n_dims};
    view->dims[0] = out->n_dims == 2 ? out->dims[0] : cols;
    view->dims[1] = cols;
    view->bytes = tensor_view_rows(view) * tensor_type_row_bytes(type, cols);
}

static int add_out(struct shards *s, const struct merge_out *out, struct err *err)
{
    struct arena *arena = &s->merge->arena;
    const uint64_t cols = out->dims[out->n_dims - 1];
    const int stem = (int)strlen(out->name) - (int)(sizeof ".weight" - 1);
    if (out->bits == 0 || out->group == 0 || out->way == MERGE_VALUES) {
        add_view(s, out->name, out->type, out, cols);
        return 0;
    }
    const char *scales = arena_printf(arena, "%.*s.scales", stem, out->name);
    const char *biases = arena_printf(arena, "%.*s.biases", stem, out->name);
    if (scales == NULL || biases == NULL) {
        return mem_err(err, MERGE_NAME_BYTES);
    }
    add_view(s, out->name, TENSOR_U32, out, cols * (uint64_t)out->bits / 32);
    add_view(s, scales, out->scale_type, out, cols / out->group);
    add_view(s, biases, out->scale_type, out, cols / out->group);
    return 0;
}

static int write_shard(struct shards *s, size_t first, size_t end, struct err *err)
{
    struct merge *m = s->merge;
    const struct safetensors_kv metadata = {"format", m->spec->format == MERGE_MLX ? "mlx" : "pt"};
    char name[SHARD_NAME_BYTES], path[FS_PATH_BYTES_MAX];
    struct fs_writer file = {0};
    int rc = 0;
    shard_name(s, name);
    s->n_views = 0;
    for (size_t i = first; i < end && rc == 0; i++) {
        rc = add_out(s, &m->outs[i], err);
    }
    for (size_t i = 0; i < s->n_views; i++) {
        json_out_kv_string(&s->map, s->views[i].name, name);
    }
    rc = rc == 0 ? fs_join(path, s->dir, name, err) : rc;
    rc =
        rc == 0 ? safetensors_write_head(&file, path, s->views, s->n_views, &metadata, 1, err) : rc;
    for (size_t i = first; i < end && rc == 0; i++) {
        rc = merge_stream(m, &m->outs[i], &file, err);
    }
    m->result->bytes += file.written;
    rc = rc == 0 ? fs_writer_publish(&file, err) : rc;
    fs_writer_abandon(&file);
    s->now++;
    return rc;
}

static int write_index(struct shards *s, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    json_out_object_end(&s->map);
    json_out_object_end(&s->map);
    if (s->total == 1) {
        return 0;
    }
    int rc = buf_check(&s->index, "the index", err);
    rc = rc == 0 ? fs_join(path, s->dir, "model.safetensors.index.json", err) : rc;
    return rc == 0 ? fs_write_file(path, s->index.data, s->index.len, err) : rc;
}

int merge_write_safetensors(struct merge *merge, const char *dir, struct err *err)
{
    struct shards s = {.merge = merge, .dir = dir, .total = count_shards(merge), .now = 1};
    int rc = 0;
    s.views = mem_calloc(VIEWS_PER_OUT * merge->n_outs + 1, sizeof *s.views);
    if (s.views == NULL) {
        return mem_err(err, merge->n_outs * sizeof *s.views);
    }
    buf_init(&s.index, INDEX_BYTES_MAX);
    json_out_init(&s.map, &s.index);
    json_out_object(&s.map);
    json_out_key(&s.map, "metadata");
    json_out_object(&s.map);
    json_out_kv_int(&s.map, "total_size", (int64_t)merge->bytes_total);
    json_out_object_end(&s.map);
    json_out_key(&s.map, "weight_map");
    json_out_object(&s.map);
    for (size_t i = 0; i < merge->n_outs && rc == 0;) {
        const size_t end = shard_end(merge, i);
        rc = write_shard(&s, i, end, err);
        i = end;
    }
    rc = rc == 0 ? write_index(&s, err) : rc;
    buf_release(&s.index);
    mem_free(s.views);
    return rc;
}
