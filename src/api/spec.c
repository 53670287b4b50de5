#include "api/spec.h"

#include <string.h>

#include "api/rows_json.h"
#include "base/json.h"
#include "formats/manifest.h"
#include "registry/bases.h"

static int add_version(const struct version_row *version, struct arena *arena,
                       struct infer_spec *spec, struct err *err)
{
    struct manifest manifest = {0};
    char path[FS_PATH_BYTES_MAX];
    int rc = version->artifact_path != NULL && version->checksum != NULL
                 ? manifest_read(&manifest, version->artifact_path, err)
                 : err_set(err, ERR_CORRUPT, "Version %s has no files", version->version);
    if (rc == 0) {
        rc = fs_join(path, version->artifact_path, MANIFEST_ADAPTER, err);
    }
    if (rc == 0) {
        spec->adapter_key = version->checksum;
        spec->adapter_path = arena_strdup(arena, path);
        spec->adapter_scale = (float)manifest.lora_scale;
        spec->chat_template =
            manifest.chat_template != NULL ? arena_strdup(arena, manifest.chat_template) : NULL;
        if (spec->adapter_path == NULL ||
            (manifest.chat_template != NULL && spec->chat_template == NULL)) {
            rc = mem_err(err, 0);
        }
    } else if (err != NULL && err->code == ERR_NOT_FOUND) {
        err_clear(err);
        rc = err_set(err, ERR_CORRUPT, "The files of version %s are gone from %s", version->version,
                     version->artifact_path);
    }
    manifest_release(&manifest);
    return rc;
}

enum { CONTEXT_DEFAULT_MAX = 8192, KV_PAGE_TOKENS = 16 }; /* as inspection counts, engines open */

/* Whole pages, as sessions take them. */
static uint64_t kv_bytes_of(int64_t each, int64_t context)
{
    return (uint64_t)each * (uint64_t)((context + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS) *
           KV_PAGE_TOKENS;
}

/* What of the base's memory is for keys and values of one session of full length. Another context
 * than inspection thought of moves both numbers. */
static void plan_memory(const struct base_row *base, int context, struct infer_spec *spec)
{
    struct err err = {0};
    int64_t each = 0;
    int64_t trained = 0;
    json_t *details = json_parse(base->details, strlen(base->details), &err);
    spec->memory_bytes = base_memory_bytes(base);
    if (details != NULL && json_get_int(details, "kv_bytes_per_token", 0, &each, &err) == 0 &&
        json_get_int(details, "context_length", 0, &trained, &err) == 0 && each > 0 &&
        trained > 0) {
        const int64_t counted = trained < CONTEXT_DEFAULT_MAX ? trained : CONTEXT_DEFAULT_MAX;
        const uint64_t before = kv_bytes_of(each, counted);
        spec->kv_bytes = kv_bytes_of(each, context > 0 ? context : counted);
        spec->memory_bytes -= before < spec->memory_bytes ? before : 0;
        spec->memory_bytes += spec->kv_bytes;
    }
    json_decref(details);
}

static int add_preset(const struct hub *hub, const struct preset_row *preset, struct arena *arena,
                      struct infer_spec *spec, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    spec->chat_template = preset->template;
    if (preset->adapter_sha256 == NULL) {
        return 0;
    }
    const int rc = storage_blob(registry_storage(hub->registry), preset->adapter_sha256, path, err);
    if (rc == 0) {
        spec->adapter_key = preset->adapter_sha256;
        spec->adapter_path = arena_strdup(arena, path);
        spec->adapter_scale = (float)preset->adapter_scale;
    }
    return rc != 0 || spec->adapter_path != NULL ? rc : mem_err(err, sizeof path);
}

int spec_of(struct hub *hub, const struct resolved_model *model, struct arena *arena,
            struct infer_spec *spec, struct err *err)
{
    struct base_row base;
    char path[FS_PATH_BYTES_MAX];
    memset(spec, 0, sizeof *spec);
    infer_sampling_defaults(&spec->sampling);
    int rc = registry_base_path(hub->registry, model->base_id, arena, &base, path, err);
    if (rc == 0) {
        spec->base_id = base.id;
        spec->base_key = base.sha256;
        spec->base_path = arena_strdup(arena, path);
        plan_memory(&base, hub->settings.context_length, spec);
        rc = spec->base_path != NULL ? 0 : mem_err(err, strlen(path));
    }
    if (rc == 0 && model->has_version) {
        rc = add_version(&model->version, arena, spec, err);
    }
    return rc == 0 && model->has_preset ? add_preset(hub, &model->preset, arena, spec, err) : rc;
}
