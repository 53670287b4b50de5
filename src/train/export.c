/* A version's adapter as another tool's folder.
 *
 *   mlx   adapters.safetensors as it is, with mlx-lm's adapter_config.json
 *   peft  adapter_model.safetensors: every factor transposed and renamed, since PEFT keeps
 *         lora_A (rank, in) and lora_B (out, rank) where mlx-lm keeps lora_a (in, rank) and
 *         lora_b (rank, out)
 *
 * Where the base keeps projections fused, both have one adapter on the whole (export_fused.h).
 *
 * What is exported has the checksum of its manifest, or nothing is written.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/model_files.h"
#include "formats/safetensors.h"
#include "train/adapter_config.h"
#include "train/export_fused.h"
#include "train/folder.h"
#include "train/train.h"

enum { NAME_BYTES = 192 };

struct source {
    struct manifest manifest;
    char path[FS_PATH_BYTES_MAX]; /* of adapter.safetensors */
    struct safetensors *file;
    struct adapter_layers layers;
    struct export_fused fused;         /* what is written, where the family fuses projections */
    const struct tensor_view *factors; /* … or the file's */
    size_t n_factors;
};

/* First and last layer that the names speak of. An adapter reaches up to the base's last layer. */
static int read_layers(struct source *source, struct err *err)
{
    static const char prefix[] = "model.layers.";
    source->layers = (struct adapter_layers){.first = MODEL_LAYERS_MAX, .n = 0};
    for (size_t i = 0; i < safetensors_tensor_count(source->file); i++) {
        const struct tensor_view *view = safetensors_tensor_at(source->file, i);
        const size_t length = strlen(view->name);
        char *end = NULL;
        long layer = -1;
        if (strncmp(view->name, prefix, sizeof prefix - 1) == 0) {
            layer = strtol(view->name + sizeof prefix - 1, &end, 10);
        }
        if (layer < 0 || layer >= MODEL_LAYERS_MAX || view->type != TENSOR_F32 ||
            view->n_dims != 2 || length < 7 || length >= NAME_BYTES / 2 ||
            strncmp(view->name + length - 7, ".lora_", 6) != 0) {
            return err_set(err, ERR_CORRUPT, "%s: '%.64s' is no LoRA factor", source->path,
                           view->name);
        }
        source->layers.first =
            (int)layer < source->layers.first ? (int)layer : source->layers.first;
        source->layers.n = (int)layer >= source->layers.n ? (int)layer + 1 : source->layers.n;
    }
    return source->layers.n > 0 ? 0 : err_set(err, ERR_CORRUPT, "%s holds no factor", source->path);
}

/* base_path NULL: a family that fuses nothing. */
static int fuse(struct source *source, const char *base_path, struct err *err)
{
    struct model_files *base = NULL;
    int rc = base_path != NULL ? model_files_open(base_path, &base, err) : 0;
    if (rc == 0 && base != NULL && model_files_config(base)->family->fused) {
        rc = export_fuse(&source->fused, source->file, model_files_config(base), err);
        source->factors = source->fused.views;
        source->n_factors = source->fused.n;
        source->layers.qkv_parts = source->fused.qkv_parts;
        source->layers.gate_up_parts = source->fused.gate_up_parts;
    } else if (rc == 0) {
        source->factors = safetensors_tensor_at(source->file, 0);
        source->n_factors = safetensors_tensor_count(source->file);
    }
    model_files_free(base);
    return rc;
}

static int source_open(struct source *source, const char *version_dir, const char *base_path,
                       struct err *err)
{
    char sha256[SHA256_HEX_BYTES];
    int rc;
    if ((rc = manifest_read(&source->manifest, version_dir, err)) != 0 ||
        (rc = fs_join(source->path, version_dir, MANIFEST_ADAPTER, err)) != 0 ||
        (rc = sha256_file_hex(source->path, sha256, err)) != 0) {
        return rc;
    }
    if (strcmp(sha256, source->manifest.adapter_sha256) != 0) {
        return err_set(err, ERR_CORRUPT, "%s does not have the checksum of its manifest",
                       source->path);
    }
    rc = safetensors_open(source->path, &source->file, err);
    rc = rc == 0 ? read_layers(source, err) : rc;
    return rc == 0 ? fuse(source, base_path, err) : rc;
}

static void source_release(struct source *source)
{
    export_fused_release(&source->fused);
    safetensors_free(source->file);
    manifest_release(&source->manifest);
}

static int write_mlx(const struct source *source, const char *dir, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int rc = fs_join(path, dir, "adapters.safetensors", err);
    if (rc == 0 && source->layers.qkv_parts + source->layers.gate_up_parts > 0) {
        rc = safetensors_write(path, source->factors, source->n_factors, NULL, 0, err);
    } else if (rc == 0) {
        rc = fs_copy_file(source->path, path, err);
    }
    return rc == 0 ? adapter_config_mlx(dir, &source->manifest, &source->layers, err) : rc;
}

/* "model.layers.0.self_attn.q_proj.lora_a" →
 * "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" */
static void peft_name(char out[NAME_BYTES], const char *name)
{
    const size_t length = strlen(name);
    snprintf(out, NAME_BYTES, "base_model.model.%.*s%c.weight", (int)length - 1, name,
             name[length - 1] == 'a' ? 'A' : 'B');
}

static void transpose(const struct tensor_view *from, float *to)
{
    const size_t rows = (size_t)from->dims[0], cols = (size_t)from->dims[1];
    for (size_t c = 0; c < cols; c++) {
        for (size_t r = 0; r < rows; r++) {
            memcpy(&to[c * rows + r], from->data + (r * cols + c) * sizeof(float), sizeof(float));
        }
    }
}

static int write_peft(const struct source *source, const char *dir, struct err *err)
{
    static const struct safetensors_kv metadata[] = {{"format", "pt"}};
    const size_t n = source->n_factors;
    char path[FS_PATH_BYTES_MAX];
    struct arena arena;
    arena_init(&arena, 0);
    struct tensor_view *views = arena_alloc(&arena, n, sizeof *views);
    int rc = views != NULL ? 0 : mem_err(err, n * sizeof *views);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct tensor_view *from = &source->factors[i];
        char *name = arena_alloc(&arena, NAME_BYTES, 1);
        float *values = arena_alloc(&arena, (size_t)from->bytes, 1);
        if (name == NULL || values == NULL) {
            rc = mem_err(err, from->bytes);
            break;
        }
        peft_name(name, from->name);
        transpose(from, values);
        views[i] = *from;
        views[i].name = name;
        views[i].dims[0] = from->dims[1];
        views[i].dims[1] = from->dims[0];
        views[i].data = (const uint8_t *)(const void *)values;
    }
    if (rc == 0) {
        rc = fs_join(path, dir, "adapter_model.safetensors", err);
    }
    if (rc == 0) {
        rc = safetensors_write(path, views, n, metadata, 1, err);
    }
    arena_release(&arena);
    return rc == 0 ? adapter_config_peft(dir, &source->manifest, &source->layers, err) : rc;
}

int train_export(const char *version_dir, const char *base_path, const char *format,
                 const char *dest, struct err *err)
{
    struct source source = {.file = NULL};
    struct folder folder = {.temp = ""};
    const bool mlx = strcmp(format, "mlx") == 0;
    if (!mlx && strcmp(format, "peft") != 0) {
        return err_set(err, ERR_INVALID, "unknown export format '%.40s': known are mlx and peft",
                       format);
    }
    int rc = source_open(&source, version_dir, base_path, err);
    if (rc == 0) {
        rc = folder_open(&folder, dest, err);
    }
    if (rc == 0) {
        rc = mlx ? write_mlx(&source, folder.temp, err) : write_peft(&source, folder.temp, err);
    }
    if (rc == 0) {
        rc = folder_publish(&folder, err);
    }
    folder_abandon(&folder);
    source_release(&source);
    return rc;
}
