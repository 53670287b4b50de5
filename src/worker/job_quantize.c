/* Jobs that write weights: a base quantised into another base, and a version exported.
 *
 * Neither has checkpoints: a job that was interrupted starts over, and what its forerunner left is
 * removed first. A quantised base is made in cache/, inspected in a child as every import is, and
 * taken in; an export stays in artifacts/exports/{job}. */
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "formats/model_digest.h"
#include "infer/inspect.h"
#include "registry/bases.h"
#include "registry/versions.h"
#include "train/merge.h"
#include "worker/job_int.h"

enum { FACTS_BYTES_MAX = 1 << 20 };

static json_t *config_of(const struct job_run *run, struct err *err)
{
    return json_parse(run->row->config, strlen(run->row->config), err);
}

static void begin_result(const struct job_run *run, const char *kind, struct json_out *out)
{
    char now[CLOCK_ISO_BYTES];
    clock_format_iso(clock_wall_us(), now);
    json_out_object(out);
    json_out_kv_string(out, "kind", kind);
    json_out_kv_string(out, "job_id", run->row->id);
    json_out_kv_string(out, "created_at", now);
}

/* --- quantize --------------------------------------------------------------------------------- */

struct quantizing {
    const char *base, *as;
    int64_t bits, group;
    char folder[FS_PATH_BYTES_MAX];
    struct merge_result merged;
    struct base_row row;
};

static int read_quantize(struct quantizing *q, const json_t *config, struct err *err)
{
    int rc;
    if ((rc = json_get_string(config, "base", "", &q->base, err)) != 0 ||
        (rc = json_get_string(config, "as", "", &q->as, err)) != 0 ||
        (rc = json_get_int(config, "bits", 4, &q->bits, err)) != 0) {
        return rc;
    }
    return json_get_int(config, "group_size", 0, &q->group, err);
}

static int write_quantised(struct job_run *run, struct quantizing *q, struct err *err)
{
    const struct train_hooks hooks = job_hooks(run);
    struct base_row base;
    char path[FS_PATH_BYTES_MAX];
    int rc = storage_quantising(registry_storage(run->registry), run->row->id, q->folder, err);
    rc = rc == 0 ? fs_remove_tree(q->folder, err) : rc;
    rc = rc == 0 ? registry_base_path(run->registry, q->base, &run->arena, &base, path, err) : rc;
    if (rc != 0) {
        return rc;
    }
    const struct merge_spec spec = {.base_id = base.id,
                                    .base_path = path,
                                    .dest = q->folder,
                                    .format = MERGE_MLX,
                                    .type = MERGE_KEEP,
                                    .bits = (int)q->bits,
                                    .group = (uint32_t)q->group,
                                    .threads = run->settings->threads,
                                    .isa = run->settings->isa};
    return train_merge(&spec, &hooks, &q->merged, err);
}

static bool is_cancelled(void *ctx)
{
    struct job_run *run = ctx;
    return job_hooks(run).poll(run) != TRAIN_GO_ON;
}

static int take_in(struct job_run *run, struct quantizing *q, struct err *err)
{
    struct base_facts facts = {0};
    struct buf text;
    json_t *tree = NULL;
    buf_init(&text, FACTS_BYTES_MAX);
    int rc = inspect_model(NULL, q->folder, &text, err);
    if (rc == 0) {
        tree = json_parse(text.data, text.len, err);
        rc = tree != NULL ? base_facts_read(tree, &facts, err) : -(int)err->code;
    }
    if (rc == 0) {
        facts.details = text.data;
        facts.source = q->base;
        rc = registry_import_base(run->registry, q->folder, q->as, &facts, is_cancelled, run,
                                  &run->arena, &q->row, err);
        if (rc == -ERR_CANCELLED && !run->cancel && !run->lost) {
            err_clear(err);
            rc = err_set(err, ERR_CLOSED, "stopped while the base was taken in");
        }
    }
    json_decref(tree);
    buf_release(&text);
    return rc;
}

int job_quantize(struct job_run *run, struct err *err)
{
    struct quantizing q = {.folder = ""};
    struct json_out out;
    json_t *config = config_of(run, err);
    int rc = config != NULL ? read_quantize(&q, config, err) : -(int)err->code;
    rc = rc == 0 ? write_quantised(run, &q, err) : rc;
    rc = rc == 0 ? take_in(run, &q, err) : rc;
    if (rc == 0) {
        json_out_init(&out, &run->result);
        begin_result(run, "quantize", &out);
        json_out_kv_string(&out, "base", q.base);
        json_out_kv_string(&out, "as", q.row.id);
        json_out_kv_string(&out, "sha256", q.row.sha256);
        merge_result_write(&q.merged, &out);
        json_out_object_end(&out);
        (void)snprintf(run->summary, sizeof run->summary, "quantised %.80s to %d bits as %.80s",
                       q.base, (int)q.bits, q.row.id);
    }
    if (q.folder[0] != '\0' && !run->lost) {
        struct err ignored = {0};
        (void)!fs_remove_tree(q.folder, &ignored);
    }
    json_decref(config);
    return rc;
}

/* --- export ----------------------------------------------------------------------------------- */

struct exporting {
    const char *format;
    bool merge;
    char folder[FS_PATH_BYTES_MAX], sha256[SHA256_HEX_BYTES];
    struct merge_result merged;
    struct version_row version;
};

static int find_export(struct job_run *run, struct exporting *e, const json_t *config,
                       struct err *err)
{
    int rc;
    if (run->row->model_version_id == NULL) {
        return err_set(err, ERR_NOT_FOUND, "the version to export is gone");
    }
    if ((rc = json_get_string(config, "format", "", &e->format, err)) != 0 ||
        (rc = json_get_bool(config, "merge", false, &e->merge, err)) != 0 ||
        (rc = registry_get_version_by_id(run->registry, run->row->model_version_id, &run->arena,
                                         &e->version, err)) != 0 ||
        (rc = storage_artifacts(registry_storage(run->registry), "exports", run->row->id, e->folder,
                                err)) != 0) {
        return rc;
    }
    return fs_remove_tree(e->folder, err);
}

static int write_files(struct job_run *run, struct exporting *e, struct err *err)
{
    const struct train_hooks hooks = job_hooks(run);
    struct job_base base;
    const int rc = job_find_base(run, e->version.model_id, &base, err);
    if (rc != 0) {
        return rc;
    }
    if (!e->merge) {
        return train_export(e->version.artifact_path, base.path, e->format, e->folder, err);
    }
    const struct merge_spec spec = {.base_id = base.id,
                                    .base_path = base.path,
                                    .version_dir = e->version.artifact_path,
                                    .dest = e->folder,
                                    .format = strcmp(e->format, "gguf") == 0  ? MERGE_GGUF
                                              : strcmp(e->format, "mlx") == 0 ? MERGE_MLX
                                                                              : MERGE_SAFETENSORS,
                                    .type = MERGE_KEEP,
                                    .threads = run->settings->threads,
                                    .isa = run->settings->isa};
    return train_merge(&spec, &hooks, &e->merged, err);
}

struct listing {
    struct json_out *out;
    const char *dir;
};

static int list_file(void *ctx, const char *name, bool is_dir)
{
    const struct listing *listing = ctx;
    char path[FS_PATH_BYTES_MAX];
    uint64_t bytes = 0;
    if (is_dir || fs_join(path, listing->dir, name, NULL) != 0 ||
        fs_size(path, &bytes, NULL) != 0) {
        return 0;
    }
    json_out_object(listing->out);
    json_out_kv_string(listing->out, "name", name);
    json_out_kv_int(listing->out, "bytes", (int64_t)bytes);
    json_out_object_end(listing->out);
    return 0;
}

static int write_export(const struct job_run *run, const struct exporting *e, struct json_out *out,
                        struct err *err)
{
    struct listing listing = {out, e->folder};
    begin_result(run, "export", out);
    json_out_kv_string(out, "format", e->format);
    json_out_kv_bool(out, "merge", e->merge);
    json_out_kv_string(out, "path", e->folder);
    json_out_kv_string(out, "sha256", e->sha256);
    json_out_key(out, "files");
    json_out_array(out);
    const int rc = fs_list_dir(e->folder, list_file, &listing, err);
    json_out_array_end(out);
    if (e->merge) {
        merge_result_write(&e->merged, out);
    }
    json_out_object_end(out);
    return rc;
}

int job_export(struct job_run *run, struct err *err)
{
    struct exporting e = {.folder = ""};
    struct json_out out;
    json_t *config = config_of(run, err);
    int rc = config != NULL ? find_export(run, &e, config, err) : -(int)err->code;
    rc = rc == 0 ? write_files(run, &e, err) : rc;
    rc = rc == 0 ? model_digest(e.folder, e.sha256, err) : rc;
    if (rc == 0) {
        json_out_init(&out, &run->result);
        rc = write_export(run, &e, &out, err);
        (void)snprintf(run->summary, sizeof run->summary, "exported as %.20s to %.200s", e.format,
                       e.folder);
    }
    json_decref(config);
    return rc;
}
