/* Opening, planning, writing into a folder aside, comparing, publishing. */
#include "train/merge.h"

#include <string.h>

#include "formats/model_digest.h"
#include "train/folder.h"
#include "train/merge_int.h"

enum { ROOM_BYTES = 256 << 20 }; /* of companions, beside the weights */

bool merge_type_parse(const char *text, enum merge_type *type)
{
    static const char *const names[] = {"bf16", "f32", "f16", "q8_0", "q4_0", "keep"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], text) == 0) {
            *type = (enum merge_type)i;
            return true;
        }
    }
    return false;
}

void merge_result_write(const struct merge_result *result, struct json_out *out)
{
    json_out_kv_int(out, "tensors", result->tensors);
    json_out_kv_int(out, "merged", result->merged);
    json_out_kv_int(out, "exact", result->exact);
    json_out_kv_int(out, "rounded", result->rounded);
    json_out_kv_int(out, "quantised", result->quantised);
    json_out_kv_int(out, "requantised", result->requantised);
    json_out_kv_bool(out, "lossless", result->exact == result->tensors);
    json_out_kv_int(out, "bytes", (int64_t)result->bytes);
    json_out_kv_int(out, "probed", result->probed);
    json_out_kv_real(out, "mean_difference", result->mean_difference);
    json_out_kv_real(out, "largest_difference", result->largest_difference);
    json_out_kv_real(out, "adapter_effect", result->adapter_effect);
}

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
    arena_release(&m->arena);
}

/* What the base's plain tensors are, as far as the format has it. */
static enum merge_type settled(const struct merge *m)
{
    const bool gguf = model_files_container(m->base) == MODEL_GGUF;
    const struct tensor_view *norm = model_files_tensor(m->base, "model.norm.weight");
    if (m->spec->type != MERGE_KEEP || m->spec->format == MERGE_GGUF) {
        return m->spec->type;
    }
    if (gguf) {
        return MERGE_F16;
    }
    return norm->type == TENSOR_F32 ? MERGE_F32 : norm->type == TENSOR_F16 ? MERGE_F16 : MERGE_BF16;
}

static int check_spec(const struct merge *m, struct err *err)
{
    const struct merge_spec *s = m->spec;
    if (s->format != MERGE_GGUF && (s->type == MERGE_Q8_0 || s->type == MERGE_Q4_0)) {
        return err_set(err, ERR_INVALID, "only GGUF has the types q8_0 and q4_0");
    }
    if ((s->format == MERGE_GGUF && s->bits != 0) ||
        (s->bits != 0 && s->bits != 4 && s->bits != 8) ||
        (s->group != 0 && s->group != 32 && s->group != 64 && s->group != 128)) {
        return err_set(err, ERR_INVALID,
                       "weights are quantised to 4 or 8 bits in groups of 32, 64 "
                       "or 128, and only in MLX's format");
    }
    return 0;
}

static int check_space(const struct merge *m, const char *dir, struct err *err)
{
    uint64_t space = 0;
    const uint64_t need = m->bytes_total + ROOM_BYTES;
    const int rc = fs_free_space(dir, &space, err);
    if (rc == 0 && space < need) {
        return err_set(err, ERR_NOSPACE,
                       "the disk is full: %.2f GB are needed for %s and %.2f GB are free",
                       (double)need / 1e9, m->spec->dest, (double)space / 1e9);
    }
    return rc;
}

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

/* The file's name inside the folder that is made aside: the base's, without what a path minds. */
static int gguf_path(const struct merge *m, const struct folder *folder, bool is_file,
                     char out[FS_PATH_BYTES_MAX], struct err *err)
{
    const char *slash = strrchr(is_file ? folder->path : m->spec->base_id, '/');
    const char *from = slash != NULL                 ? slash + 1
                       : m->spec->base_id[0] != '\0' ? m->spec->base_id
                                                     : "model";
    char name[256];
    const size_t n = strlen(from);
    const bool ends = n > 5 && strcmp(from + n - 5, ".gguf") == 0;
    (void)snprintf(name, sizeof name, "%.240s%s", from, ends ? "" : ".gguf");
    return fs_join(out, folder->temp, name, err);
}

static int write_all(struct merge *m, const struct folder *folder, bool is_file,
                     char written[FS_PATH_BYTES_MAX], struct err *err)
{
    int rc;
    if (m->spec->format == MERGE_GGUF) {
        rc = gguf_path(m, folder, is_file, written, err);
        rc = rc == 0 ? merge_write_gguf(m, written, err) : rc;
    } else {
        memcpy(written, folder->temp, sizeof folder->temp);
        rc = merge_write_safetensors(m, written, err);
        rc = rc == 0 ? merge_write_companions(m, written, err) : rc;
    }
    return rc == 0 ? check_merged(m, err) : rc;
}

static int publish(struct folder *folder, const char *file, struct err *err)
{
    if (file == NULL) {
        return folder_publish(folder, err);
    }
    const int rc = fs_publish_file(file, folder->path, err);
    folder_abandon(folder);
    return rc;
}

static int make(struct merge *m, struct folder *folder, struct err *err)
{
    const struct merge_spec *spec = m->spec;
    const size_t n = strlen(spec->dest);
    const bool is_file =
        spec->format == MERGE_GGUF && n > 5 && strcmp(spec->dest + n - 5, ".gguf") == 0;
    const bool frozen = spec->format == MERGE_SAFETENSORS && spec->bits > 0;
    char written[FS_PATH_BYTES_MAX];
    int rc;
    if ((rc = folder_open(folder, spec->dest, err)) != 0 ||
        (rc = check_space(m, folder->temp, err)) != 0 ||
        (rc = write_all(m, folder, is_file, written, err)) != 0 ||
        (rc = frozen ? 0 : merge_check(m, written, err)) != 0) {
        return rc;
    }
    return publish(folder, is_file ? written : NULL, err);
}

int train_merge(const struct merge_spec *spec, const struct train_hooks *hooks,
                struct merge_result *result, struct err *err)
{
    struct merge m = {.spec = spec, .hooks = hooks, .result = result};
    struct folder folder = {.temp = ""};
    int rc;
    memset(result, 0, sizeof *result);
    arena_init(&m.arena, 0);
    if ((rc = check_spec(&m, err)) == 0 &&
        (rc = model_files_open(spec->base_path, &m.base, err)) == 0 &&
        (rc = open_version(&m, err)) == 0) {
        m.type = settled(&m);
        rc = merge_plan(&m, err);
    }
    rc = rc == 0 ? make(&m, &folder, err) : rc;
    folder_abandon(&folder);
    merge_release(&m);
    return rc;
}
