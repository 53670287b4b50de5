/* A reproduce job: everything is looked for by the checksums of the version's manifest, wherever
 * the registry has it now, and trained again in the job's own checkpoint folder. */
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "formats/manifest.h"
#include "registry/versions.h"
#include "train/reproduce.h"
#include "worker/job_int.h"

struct found {
    struct version_row version;
    struct manifest manifest;
    struct reproduce_spec spec;
    char base[FS_PATH_BYTES_MAX], init[FS_PATH_BYTES_MAX], scratch[FS_PATH_BYTES_MAX];
};

/* *path stays NULL when no dataset has this checksum any more. */
static int find_dataset(struct job_run *run, const char *sha256, const char **path, struct err *err)
{
    struct dataset_record record;
    bool found = false;
    if (sha256 == NULL) {
        return 0;
    }
    const int rc =
        registry_find_dataset_checksum(run->registry, sha256, &run->arena, &record, &found, err);
    *path = rc == 0 && found ? record.path : NULL;
    return rc;
}

/* What it went on from: any version with those bytes, or what was made of one that is gone. */
static int find_init(struct job_run *run, struct found *f, struct err *err)
{
    const char *sha256 = f->manifest.init_sha256;
    struct version_row version;
    bool found = false;
    if (sha256 == NULL) {
        return 0;
    }
    int rc =
        registry_find_version_checksum(run->registry, sha256, &run->arena, &version, &found, err);
    if (rc == 0 && found && version.artifact_path != NULL) {
        rc = fs_join(f->init, version.artifact_path, MANIFEST_ADAPTER, err);
    } else if (rc == 0) {
        rc = storage_blob(registry_storage(run->registry), sha256, f->init, err);
    }
    f->spec.init_adapter_path = rc == 0 && fs_exists(f->init) ? f->init : NULL;
    return rc;
}

static int find_all(struct job_run *run, struct found *f, struct err *err)
{
    const struct storage *storage = registry_storage(run->registry);
    struct reproduce_spec *spec = &f->spec;
    int rc;
    if (run->row->model_version_id == NULL) {
        return err_set(err, ERR_NOT_FOUND, "the version to reproduce is gone");
    }
    if ((rc = registry_get_version_by_id(run->registry, run->row->model_version_id, &run->arena,
                                         &f->version, err)) != 0 ||
        (rc = manifest_read(&f->manifest, f->version.artifact_path, err)) != 0 ||
        (rc = storage_blob(storage, f->manifest.base_sha256, f->base, err)) != 0 ||
        (rc = find_dataset(run, f->manifest.dataset_sha256, &spec->dataset_path, err)) != 0 ||
        (rc = find_dataset(run, f->manifest.validation_sha256, &spec->validation_path, err)) != 0 ||
        (rc = find_init(run, f, err)) != 0 ||
        (rc = storage_checkpoints(storage, run->row->id, f->scratch, err)) != 0) {
        return rc;
    }
    spec->version_dir = f->version.artifact_path;
    spec->base_path = f->base;
    spec->scratch_dir = f->scratch;
    spec->source_revision = MLX_HUB_REVISION;
    spec->threads = run->settings->threads;
    spec->isa = run->settings->isa;
    spec->memory_bytes_max = run->memory_bytes_max;
    return 0;
}

static void write_result(const struct job_run *run, const struct reproduce_result *result,
                         struct json_out *out)
{
    char now[CLOCK_ISO_BYTES];
    clock_format_iso(clock_wall_us(), now);
    json_out_object(out);
    json_out_kv_string(out, "kind", "reproduce");
    json_out_kv_string(out, "job_id", run->row->id);
    json_out_kv_string(out, "created_at", now);
    reproduce_result_write(result, out);
    json_out_object_end(out);
}

static void remove_scratch(const char *path)
{
    struct err err = {0};
    if (fs_exists(path) && fs_remove_tree(path, &err) != 0) {
        log_event(LOG_WARNING, "worker", "leftover", "path=%s error=\"%s\"", path, err.message);
    }
}

int job_reproduce(struct job_run *run, struct err *err)
{
    const struct train_hooks hooks = job_hooks(run);
    struct found f = {.scratch = ""};
    struct reproduce_result result;
    int rc = find_all(run, &f, err);
    rc = rc == 0 ? train_reproduce(&f.spec, &hooks, &result, err) : rc;
    if (rc == 0) {
        struct json_out out;
        json_out_init(&out, &run->result);
        write_result(run, &result, &out);
        (void)snprintf(run->summary, sizeof run->summary, "%s: expected sha256 %s, %s",
                       result.pass ? "PASS" : "FAIL", result.expected,
                       result.actual[0] != '\0' ? result.actual : result.differences[0]);
    }
    if (rc != -ERR_CLOSED && !run->lost && f.scratch[0] != '\0') {
        remove_scratch(f.scratch);
    }
    manifest_release(&f.manifest);
    return rc;
}
