/* Matrices one after another, in the order of their names, into a shard that is written when it is
 * full; how many shards there will be is known from the sizes beforehand. */
#include "train/merge.h"

#include <math.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/dequant.h"
#include "formats/model_digest.h"
#include "train/folder.h"
#include "train/merge_int.h"

enum { SHARD_NAME_BYTES = 64, INDEX_BYTES_MAX = 64 << 20 };

/* --- opening ---------------------------------------------------------------------------------- */

static int open_version(struct merge *m, struct err *err)
{
    char sha256[SHA256_HEX_BYTES];
    const char *dir = m->spec->version_dir;
    int rc;
    if (dir == NULL) {
        return 0;
    }
    if ((rc = manifest_read(&m->manifest, dir, err)) != 0 ||
        (rc = model_digest(m->spec->base_path, sha256, err)) != 0) {
        return rc;
    }
    if (strcmp(sha256, m->manifest.base_sha256) != 0) {
        return err_set(err, ERR_CORRUPT,
                       "the version was trained on %s with sha256 %s; %s has sha256 %s",
                       m->manifest.base_model, m->manifest.base_sha256, m->spec->base_id, sha256);
    }
    if ((rc = fs_join(m->factors_path, dir, MANIFEST_ADAPTER, err)) != 0 ||
        (rc = sha256_file_hex(m->factors_path, sha256, err)) != 0) {
        return rc;
    }
    if (strcmp(sha256, m->manifest.adapter_sha256) != 0) {
        return err_set(err, ERR_CORRUPT, "%s does not have the checksum of its manifest",
                       m->factors_path);
    }
    return safetensors_open(m->factors_path, &m->factors, err);
}

static void merge_release(struct merge *m)
{
    safetensors_free(m->factors);
    manifest_release(&m->manifest);
    model_files_free(m->base);
}

/* Weights that the architecture has: a GGUF file may bring others, and scales belong to the matrix
 * beside them. */
static bool is_weight(const struct tensor_view *view)
{
    const char *dot = strrchr(view->name, '.');
    return (strncmp(view->name, "model.", 6) == 0 || strncmp(view->name, "lm_head.", 8) == 0) &&
           strcmp(dot, ".scales") != 0 && strcmp(dot, ".biases") != 0;
}

/* --- one matrix ------------------------------------------------------------------------------- */

struct factor {
    const struct tensor_view *a, *b; /* (in, rank), (rank, out); NULL: none */
    float *rows;                     /* a transposed: (rank, in) */
    size_t rank;
};

static float at(const struct tensor_view *view, size_t i)
{
    float value;
    memcpy(&value, view->data + i * sizeof value, sizeof value);
    return value;
}

static int find_factor(const struct merge *m, const struct tensor_view *view, struct factor *factor,
                       struct err *err)
{
    char name[MODEL_TENSOR_NAME_BYTES + 16];
    const size_t length = strlen(view->name);
    memset(factor, 0, sizeof *factor);
    if (m->factors == NULL || length < 7 || strcmp(view->name + length - 7, ".weight") != 0) {
        return 0;
    }
    (void)snprintf(name, sizeof name, "%.*s.lora_a", (int)length - 7, view->name);
    factor->a = safetensors_tensor(m->factors, name);
    name[strlen(name) - 1] = 'b';
    factor->b = safetensors_tensor(m->factors, name);
    if (factor->a == NULL && factor->b == NULL) {
        return 0;
    }
    const size_t rows = (size_t)tensor_view_rows(view), cols = (size_t)tensor_view_cols(view);
    if (factor->a == NULL || factor->b == NULL || factor->a->type != TENSOR_F32 ||
        factor->b->type != TENSOR_F32 || factor->a->n_dims != 2 || factor->b->n_dims != 2 ||
        factor->a->dims[0] != cols || factor->b->dims[1] != rows ||
        factor->a->dims[1] != factor->b->dims[0]) {
        return err_set(err, ERR_CORRUPT, "the factors of %s do not fit it", view->name);
    }
    factor->rank = (size_t)factor->a->dims[1];
    factor->rows = mem_calloc(factor->rank * cols, sizeof *factor->rows);
    if (factor->rows == NULL) {
        return mem_err(err, factor->rank * cols * sizeof *factor->rows);
    }
    for (size_t c = 0; c < cols; c++) {
        for (size_t k = 0; k < factor->rank; k++) {
            factor->rows[k * cols + c] = at(factor->a, c * factor->rank + k);
        }
    }
    return 0;
}

/* Row r of W + scale · B·A; delta is room for one row. */
static void fold_row(const struct factor *factor, float scale, size_t r, size_t cols, float *delta,
                     float *row)
{
    memset(delta, 0, cols * sizeof *delta);
    for (size_t k = 0; k < factor->rank; k++) {
        const float b = at(factor->b, k * (size_t)factor->b->dims[1] + r);
        const float *a = factor->rows + k * cols;
        for (size_t c = 0; c < cols; c++) {
            delta[c] += b * a[c];
        }
    }
    for (size_t c = 0; c < cols; c++) {
        row[c] += scale * delta[c];
    }
}

static void put_row(enum merge_type type, const float *row, size_t cols, uint8_t *out)
{
    if (type == MERGE_F32) {
        memcpy(out, row, cols * sizeof *row);
        return;
    }
    for (size_t c = 0; c < cols; c++) {
        const uint16_t value = merge_to_bf16(row[c]);
        memcpy(out + c * sizeof value, &value, sizeof value);
    }
}

/* Which row of the file is row r of Hugging Face's matrix. */
static uint64_t source_row(const struct merge *m, const struct tensor_view *view, uint64_t r)
{
    const bool turned =
        model_files_rope_permuted(m->base) &&
        (strstr(view->name, ".q_proj.") != NULL || strstr(view->name, ".k_proj.") != NULL);
    if (!turned || view->n_dims != 2) {
        return r;
    }
    return model_rope_gguf_row((uint32_t)r, model_files_config(m->base)->head_dim);
}

static size_t element_bytes(enum merge_type type)
{
    return type == MERGE_F32 ? sizeof(float) : sizeof(uint16_t);
}

static int convert(struct merge *m, const struct tensor_view *view, uint8_t *out, struct err *err)
{
    const enum merge_type type = m->spec->type;
    const size_t cols = (size_t)tensor_view_cols(view), rows = (size_t)tensor_view_rows(view);
    float *room = mem_calloc(2 * cols, sizeof *room);
    struct factor factor = {.rank = 0};
    int rc = room != NULL ? 0 : mem_err(err, 2 * cols * sizeof *room);
    rc = rc == 0 ? find_factor(m, view, &factor, err) : rc;
    for (size_t r = 0; r < rows && rc == 0; r++) {
        tensor_dequant_row(view, source_row(m, view, r), room);
        if (factor.rank > 0) {
            fold_row(&factor, (float)m->manifest.lora_scale, r, cols, room + cols, room);
        }
        for (size_t c = 0; c < cols; c++) {
            if (!isfinite(room[c])) {
                rc = err_set(err, ERR_CORRUPT, "%s holds NaN or infinity", view->name);
                break;
            }
        }
        put_row(type, room, cols, out + r * cols * element_bytes(type));
    }
    m->result->merged += factor.rank > 0;
    mem_free(factor.rows);
    mem_free(room);
    return rc;
}

/* --- shards ----------------------------------------------------------------------------------- */

struct shards {
    struct merge *merge;
    const char *dir;
    int total, now;
    struct arena names;        /* of tensors that the base does not have */
    struct tensor_view *views; /* of the shard that is being filled */
    size_t n;
    uint64_t bytes;
    struct buf index;
    struct json_out map; /* the index's weight_map */
};

/* The group of a matrix that is to be quantised, else 0: only those of the layers are. */
static uint32_t group_of(const struct merge *m, const struct tensor_view *view)
{
    const bool linear = strncmp(view->name, "model.layers.", 13) == 0 && view->n_dims == 2 &&
                        strstr(view->name, "_proj.weight") != NULL;
    return m->spec->bits > 0 && linear ? merge_group(tensor_view_cols(view)) : 0;
}

static uint64_t bytes_of(const struct merge *m, const struct tensor_view *view)
{
    const uint32_t group = group_of(m, view);
    if (group > 0) {
        return tensor_view_elements(view) * (uint64_t)m->spec->bits / 8 +
               tensor_view_elements(view) / group * 2 * element_bytes(m->spec->type);
    }
    return tensor_view_elements(view) * element_bytes(m->spec->type);
}

/* The same walk as the writing one. */
static int count_shards(const struct merge *m)
{
    uint64_t bytes = 0;
    int shards = 1;
    for (size_t i = 0; i < model_files_tensor_count(m->base); i++) {
        const struct tensor_view *view = model_files_tensor_at(m->base, i);
        if (!is_weight(view)) {
            continue;
        }
        if (bytes > 0 && bytes + bytes_of(m, view) > MERGE_SHARD_BYTES_MAX) {
            shards++;
            bytes = 0;
        }
        bytes += bytes_of(m, view);
    }
    return shards;
}

static void shard_name(const struct shards *s, char out[SHARD_NAME_BYTES])
{
    if (s->total == 1) {
        (void)snprintf(out, SHARD_NAME_BYTES, "model.safetensors");
    } else {
        (void)snprintf(out, SHARD_NAME_BYTES, "model-%05d-of-%05d.safetensors", s->now, s->total);
    }
}

static void clear_shard(struct shards *s)
{
    for (size_t i = 0; s->views != NULL && i < s->n; i++) {
        mem_free((void *)(uintptr_t)s->views[i].data);
    }
    s->n = 0;
    s->bytes = 0;
}

static int flush_shard(struct shards *s, struct err *err)
{
    static const struct safetensors_kv metadata[] = {{"format", "pt"}};
    char name[SHARD_NAME_BYTES], path[FS_PATH_BYTES_MAX];
    shard_name(s, name);
    for (size_t i = 0; i < s->n; i++) {
        json_out_kv_string(&s->map, s->views[i].name, name);
    }
    int rc = fs_join(path, s->dir, name, err);
    rc = rc == 0 ? safetensors_write(path, s->views, s->n, metadata, 1, err) : rc;
    s->merge->result->bytes += s->bytes;
    s->now++;
    clear_shard(s);
    return rc;
}

static int poll_hooks(const struct merge *m, struct err *err)
{
    if (m->hooks != NULL && m->hooks->poll != NULL &&
        m->hooks->poll(m->hooks->ctx) != TRAIN_GO_ON) {
        return err_set(err, ERR_CANCELLED, "the merge was cancelled");
    }
    return 0;
}

/* Room for one more tensor of the shard. name: the base's own, or NULL for "<stem>.<part>". */
static uint8_t *add_view(struct shards *s, const struct tensor_view *like, const char *part,
                         enum tensor_type type, uint64_t cols, struct err *err)
{
    struct tensor_view *out = &s->views[s->n];
    const size_t stem = strlen(like->name) - (sizeof ".weight" - 1);
    *out = *like;
    out->type = type;
    out->name =
        part == NULL ? like->name : arena_printf(&s->names, "%.*s.%s", (int)stem, like->name, part);
    out->dims[out->n_dims - 1] = cols;
    out->bytes = tensor_view_rows(out) * tensor_type_row_bytes(type, cols);
    uint8_t *data = out->name != NULL ? mem_alloc((size_t)out->bytes) : NULL;
    if (data == NULL) {
        (void)mem_err(err, (size_t)out->bytes);
        return NULL;
    }
    out->data = data;
    s->bytes += out->bytes;
    s->n++;
    return data;
}

static int add_quantised(struct shards *s, const struct tensor_view *view, uint32_t group,
                         struct err *err)
{
    struct merge *m = s->merge;
    const enum tensor_type plain = m->spec->type == MERGE_F32 ? TENSOR_F32 : TENSOR_BF16;
    const size_t cols = (size_t)tensor_view_cols(view), rows = (size_t)tensor_view_rows(view);
    const size_t bits = (size_t)m->spec->bits, n = cols / group * element_bytes(m->spec->type);
    uint8_t *values = add_view(s, view, NULL, TENSOR_U32, cols * bits / 32, err);
    uint8_t *scales = values != NULL ? add_view(s, view, "scales", plain, cols / group, err) : NULL;
    uint8_t *biases = scales != NULL ? add_view(s, view, "biases", plain, cols / group, err) : NULL;
    float *row = biases != NULL ? mem_calloc(cols, sizeof *row) : NULL;
    if (row == NULL) {
        return mem_err(err, cols * sizeof *row);
    }
    for (size_t r = 0; r < rows; r++) {
        tensor_dequant_row(view, source_row(m, view, r), row);
        merge_quantize_row(row, cols, group, m->spec->bits, m->spec->type,
                           values + r * cols * bits / 8, scales + r * n, biases + r * n);
    }
    mem_free(row);
    m->result->tensors++;
    return 0;
}

static int add_matrix(struct shards *s, const struct tensor_view *view, struct err *err)
{
    struct merge *m = s->merge;
    const uint64_t bytes = bytes_of(m, view);
    int rc = poll_hooks(m, err);
    if (rc == 0 && !tensor_type_usable(view->type)) {
        rc = err_set(err, ERR_UNSUPPORTED, "%s cannot be de-quantised here", view->name);
    }
    if (rc == 0 && s->bytes > 0 && s->bytes + bytes > MERGE_SHARD_BYTES_MAX) {
        rc = flush_shard(s, err);
    }
    if (rc != 0) {
        return rc;
    }
    const uint32_t group = group_of(m, view);
    if (group > 0) {
        return add_quantised(s, view, group, err);
    }
    uint8_t *data = add_view(s, view, NULL, m->spec->type == MERGE_F32 ? TENSOR_F32 : TENSOR_BF16,
                             tensor_view_cols(view), err);
    m->result->tensors++;
    return data != NULL ? convert(m, view, data, err) : -(int)ERR_NOMEM;
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

static int write_weights(struct merge *m, const char *dir, struct err *err)
{
    const size_t n = model_files_tensor_count(m->base);
    struct shards s = {.merge = m, .dir = dir, .total = count_shards(m), .now = 1};
    s.views = mem_calloc(3 * n, sizeof *s.views);
    arena_init(&s.names, 0);
    buf_init(&s.index, INDEX_BYTES_MAX);
    json_out_init(&s.map, &s.index);
    json_out_object(&s.map);
    json_out_key(&s.map, "metadata");
    json_out_object(&s.map);
    json_out_object_end(&s.map);
    json_out_key(&s.map, "weight_map");
    json_out_object(&s.map);
    int rc = s.views != NULL ? 0 : mem_err(err, n * sizeof *s.views);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct tensor_view *view = model_files_tensor_at(m->base, i);
        rc = is_weight(view) ? add_matrix(&s, view, err) : 0;
    }
    rc = rc == 0 ? flush_shard(&s, err) : rc;
    rc = rc == 0 ? write_index(&s, err) : rc;
    clear_shard(&s);
    arena_release(&s.names);
    mem_free(s.views);
    buf_release(&s.index);
    return rc;
}

/* --- the whole -------------------------------------------------------------------------------- */

/* Every factor must have found its matrix. */
static int check_merged(const struct merge *m, struct err *err)
{
    const size_t factors = m->factors != NULL ? safetensors_tensor_count(m->factors) / 2 : 0;
    if ((size_t)m->result->merged != factors) {
        return err_set(err, ERR_CORRUPT, "%zu layers have factors, and %lld of them are the base's",
                       factors, (long long)m->result->merged);
    }
    return 0;
}

int train_merge(const struct merge_spec *spec, const struct train_hooks *hooks,
                struct merge_result *result, struct err *err)
{
    struct merge m = {.spec = spec, .hooks = hooks, .result = result};
    struct folder folder = {.temp = ""};
    int rc;
    memset(result, 0, sizeof *result);
    if ((rc = model_files_open(spec->base_path, &m.base, err)) == 0 &&
        (rc = merge_check_supported(&m, err)) == 0 && (rc = open_version(&m, err)) == 0 &&
        (rc = folder_open(&folder, spec->dest, err)) == 0 &&
        (rc = write_weights(&m, folder.temp, err)) == 0 && (rc = check_merged(&m, err)) == 0 &&
        (rc = merge_write_companions(&m, folder.temp, err)) == 0 &&
        (spec->bits > 0 || (rc = merge_check(&m, folder.temp, err)) == 0)) {
        rc = folder_publish(&folder, err);
    }
    folder_abandon(&folder);
    merge_release(&m);
    return rc;
}
