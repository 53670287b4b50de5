/* A path names its model by where it lies, how long it is and when it was written: enough for the
 * one runner that this command starts, without reading the weights to hash them. */
#include "cli/find_model.h"

#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "base/json.h"
#include "formats/manifest.h"
#include "registry/bases.h"
#include "registry/resolve.h"

/* --- paths --------------------------------------------------------------------------------------
 */

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text);
    const size_t m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool has_file(const char *dir, const char *name)
{
    char path[FS_PATH_BYTES_MAX];
    return fs_join(path, dir, name, NULL) == 0 && fs_exists(path);
}

bool is_model_path(const char *name)
{
    if (name[0] == '/' || strncmp(name, "./", 2) == 0 || strncmp(name, "../", 3) == 0 ||
        strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || ends_with(name, ".gguf") ||
        ends_with(name, ".safetensors") || ends_with(name, ".json") || ends_with(name, ".jinja") ||
        ends_with(name, ".model")) {
        return true;
    }
    return fs_exists(name) &&
           (!fs_is_dir(name) || has_file(name, "config.json") || has_file(name, "tokenizer.json") ||
            has_file(name, "tokenizer.model"));
}

struct tally {
    const char *dir;
    struct sha256 *hash;
    uint64_t bytes;
    struct err *err;
};

static int add_file(struct tally *t, const char *path, const char *name)
{
    struct stat st;
    char line[128];
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
        return 0;
    }
    t->bytes += (uint64_t)st.st_size;
    snprintf(line, sizeof line, " %lld %lld ", (long long)st.st_size, (long long)st.st_mtime);
    int rc = sha256_update(t->hash, name, strlen(name), t->err);
    return rc == 0 ? sha256_update(t->hash, line, strlen(line), t->err) : rc;
}

static int visit(void *ctx, const char *name, bool is_dir)
{
    struct tally *t = ctx;
    char path[FS_PATH_BYTES_MAX];
    const int rc = fs_join(path, t->dir, name, t->err);
    return rc != 0 || is_dir ? rc : add_file(t, path, name);
}

static int find_path(struct found_model *model, const char *name, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    char key[SHA256_HEX_BYTES];
    struct sha256 hash = {0};
    if (!fs_exists(name)) {
        return err_set(err, ERR_NOT_FOUND, "there is no file '%s'", name);
    }
    int rc = fs_absolute(path, name, err);
    if (rc == 0) {
        rc = sha256_init(&hash, err);
    }
    struct tally tally = {.dir = path, .hash = &hash, .err = err};
    if (rc == 0) {
        rc = fs_is_dir(path) ? fs_list_dir(path, visit, &tally, err) : add_file(&tally, path, path);
    }
    if (rc == 0) {
        rc = sha256_final_hex(&hash, key, err);
    }
    sha256_release(&hash);
    if (rc != 0) {
        return rc;
    }
    model->is_path = true;
    model->spec.base_id = arena_strdup(&model->arena, name);
    model->spec.base_key = arena_strdup(&model->arena, key);
    model->spec.base_path = arena_strdup(&model->arena, path);
    model->spec.memory_bytes = tally.bytes;
    if (model->spec.base_id == NULL || model->spec.base_key == NULL ||
        model->spec.base_path == NULL) {
        return mem_err(err, sizeof path);
    }
    return 0;
}

/* --- names --------------------------------------------------------------------------------------
 */

/* A hub that was never started has no database, and looking for a name must not make one. */
static int check_database(const struct settings *settings, const char *name, struct err *err)
{
    static const char scheme[] = "sqlite:///";
    const char *url = settings->database_url;
    if (strncmp(url, scheme, sizeof scheme - 1) == 0 && !fs_exists(url + sizeof scheme - 1)) {
        return err_set(err, ERR_NOT_FOUND,
                       "'%s' is no file here, and there is no hub in %s yet; give a path, or take "
                       "a model in with: mlx-hub pull ID, or mlx-hub import PATH --as ID",
                       name, settings->storage_base_path);
    }
    return 0;
}

/* What the version's manifest says about running it. */
static int read_manifest(struct found_model *model, const char *dir, struct err *err)
{
    struct manifest manifest = {0};
    int rc = manifest_read(&manifest, dir, err);
    if (rc == 0) {
        model->spec.adapter_scale = (float)manifest.lora_scale;
        if (manifest.chat_template != NULL) {
            model->spec.chat_template = arena_strdup(&model->arena, manifest.chat_template);
            rc = model->spec.chat_template != NULL ? 0 : mem_err(err, 1);
        }
    }
    manifest_release(&manifest);
    return rc;
}

static int take_version(struct found_model *model, const struct version_row *version,
                        struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    if (version->artifact_path == NULL || version->checksum == NULL) {
        return err_set(err, ERR_CONFLICT, "version %s has no adapter", version->version);
    }
    model->version_dir = version->artifact_path;
    model->spec.adapter_key = version->checksum;
    int rc = fs_join(path, version->artifact_path, MANIFEST_ADAPTER, err);
    if (rc == 0) {
        model->spec.adapter_path = arena_strdup(&model->arena, path);
        rc = model->spec.adapter_path != NULL ? read_manifest(model, version->artifact_path, err)
                                              : mem_err(err, sizeof path);
    }
    return rc;
}

static int take_preset(struct found_model *model, const struct registry *registry,
                       const struct preset_row *preset, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int rc = 0;
    model->spec.chat_template = preset->template;
    if (preset->adapter_sha256 != NULL) {
        rc = storage_blob(registry_storage(registry), preset->adapter_sha256, path, err);
        model->spec.adapter_key = preset->adapter_sha256;
        model->spec.adapter_scale = (float)preset->adapter_scale;
        model->spec.adapter_path = rc == 0 ? arena_strdup(&model->arena, path) : NULL;
    }
    return rc != 0 || preset->adapter_sha256 == NULL || model->spec.adapter_path != NULL
               ? rc
               : mem_err(err, sizeof path);
}

static int take_base(struct found_model *model, struct registry *registry, const char *id,
                     struct err *err)
{
    struct base_row base;
    char path[FS_PATH_BYTES_MAX];
    int64_t memory = 0;
    struct err ignored = {0};
    const int rc = registry_base_path(registry, id, &model->arena, &base, path, err);
    if (rc != 0) {
        return rc;
    }
    json_t *details = json_parse(base.details, strlen(base.details), &ignored);
    if (details == NULL || json_get_int(details, "memory_bytes", 0, &memory, &ignored) != 0) {
        memory = 0;
    }
    json_decref(details);
    model->spec.base_id = base.id;
    model->spec.base_key = base.sha256;
    model->spec.base_path = arena_strdup(&model->arena, path);
    model->spec.memory_bytes = (uint64_t)(memory > base.bytes ? memory : base.bytes);
    return model->spec.base_path != NULL ? 0 : mem_err(err, sizeof path);
}

static int resolve(struct registry *registry, const char *name, struct found_model *model,
                   struct resolved_model *out, struct err *err)
{
    if (uuid_valid(name) &&
        registry_resolve_ids(registry, name, NULL, &model->arena, out, NULL) == 0) {
        return 0;
    }
    const int rc = registry_resolve_model(registry, name, &model->arena, out, err);
    if (rc == -ERR_NOT_FOUND) {
        err_clear(err);
        return err_set(err, ERR_NOT_FOUND,
                       "'%s' is no file here and no model of the hub; mlx-hub list shows those",
                       name);
    }
    return rc;
}

static int open_registry(struct registry **registry, const struct settings *settings,
                         struct err *err)
{
    const struct registry_options options = {.database_url = settings->database_url,
                                             .base_path = settings->storage_base_path,
                                             .models_path = settings->storage_models_path,
                                             .datasets_path = settings->storage_datasets_path};
    return registry_open(registry, &options, err);
}

static int find_name(struct found_model *model, const struct settings *settings, const char *name,
                     struct err *err)
{
    struct registry *registry = NULL;
    struct resolved_model *resolved = &model->resolved;
    int rc = check_database(settings, name, err);
    if (rc == 0) {
        rc = open_registry(&registry, settings, err);
    }
    if (rc == 0) {
        rc = resolve(registry, name, model, resolved, err);
    }
    if (rc == 0) {
        rc = take_base(model, registry, resolved->base_id, err);
    }
    if (rc == 0 && resolved->has_version) {
        rc = take_version(model, &resolved->version, err);
    }
    if (rc == 0 && resolved->has_preset) {
        rc = take_preset(model, registry, &resolved->preset, err);
    }
    registry_close(registry);
    return rc;
}

int find_model(struct found_model *model, const struct settings *settings, const char *name,
               struct err *err)
{
    memset(model, 0, sizeof *model);
    arena_init(&model->arena, 0);
    return is_model_path(name) ? find_path(model, name, err)
                               : find_name(model, settings, name, err);
}

void found_model_release(struct found_model *model)
{
    arena_release(&model->arena);
    memset(model, 0, sizeof *model);
}

int check_new_base(const struct settings *settings, const char *id, struct err *err)
{
    struct registry *registry = NULL;
    int rc = open_registry(&registry, settings, err);
    rc = rc == 0 ? registry_check_new_base(registry, id, err) : rc;
    registry_close(registry);
    return rc;
}
