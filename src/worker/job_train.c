/* A training job: what train_run needs is gathered from the rows; what comes of it is published.
 *
 * A job that resumes another works in the first one's checkpoint folder: same bits, no copy. */
#include <string.h>

#include "base/fs.h"
#include "registry/jobs.h"
#include "registry/versions.h"
#include "worker/job_int.h"

enum { RESUME_CHAIN_MAX = 64, DATE_BYTES = 11 };

struct training {
    struct job_run *run;
    struct train_config config;
    struct train_spec spec;
    char checkpoint_dir[FS_PATH_BYTES_MAX];
    char version_dir[FS_PATH_BYTES_MAX];
    char date[DATE_BYTES];
};

/* The checkpoint folder of the first job in a chain of resumes. */
static int find_checkpoints(struct training *t, struct err *err)
{
    struct job_run *run = t->run;
    const char *id = run->row->id;
    const char *from = run->row->resumed_from;
    for (int i = 0; from != NULL && i < RESUME_CHAIN_MAX; i++) {
        struct job_row row;
        struct err gone = {0};
        if (registry_get_job(run->registry, from, &run->arena, &row, &gone) != 0) {
            break;
        }
        id = row.id;
        from = row.resumed_from;
    }
    return storage_checkpoints(registry_storage(run->registry), id, t->checkpoint_dir, err);
}

static int find_datasets(struct training *t, struct err *err)
{
    struct dataset_record record, other;
    struct train_spec *spec = &t->spec;
    int rc = job_find_dataset(t->run, t->run->row->dataset_id, &record, err);
    if (rc != 0) {
        return rc;
    }
    spec->dataset_path = record.path;
    spec->dataset_sha256 = record.checksum;
    spec->dataset_columns = record.columns;
    if (t->config.val_dataset_id[0] != '\0') {
        rc = job_find_dataset(t->run, t->config.val_dataset_id, &other, err);
        if (rc == 0) {
            spec->validation_path = other.path;
            spec->validation_sha256 = other.checksum;
            spec->validation_columns = other.columns;
        }
    }
    return rc;
}

static int find_first_adapter(struct training *t, struct err *err)
{
    struct version_row version;
    char path[FS_PATH_BYTES_MAX];
    if (t->config.init_from[0] == '\0') {
        return 0;
    }
    int rc = registry_get_version_by_id(t->run->registry, t->config.init_from, &t->run->arena,
                                        &version, err);
    if (rc == 0 && version.artifact_path == NULL) {
        rc = err_set(err, ERR_NOT_FOUND, "init_from: version %s has no adapter", version.version);
    }
    if (rc == 0) {
        rc = fs_join(path, version.artifact_path, "adapter.safetensors", err);
    }
    if (rc == 0) {
        t->spec.init_adapter_path = arena_strdup(&t->run->arena, path);
        rc = t->spec.init_adapter_path != NULL ? 0 : mem_err(err, sizeof path);
    }
    return rc;
}

static int find_model(struct training *t, struct err *err)
{
    struct job_run *run = t->run;
    struct job_base base;
    struct version_row version;
    int rc = job_find_base(run, run->row->model_id, &base, err);
    if (rc == 0) {
        rc = registry_job_version(run->registry, run->row->id, run->row->fence, &run->arena,
                                  &version, t->version_dir, err);
    }
    if (rc == 0) {
        t->spec.base_id = base.id;
        t->spec.base_path = base.path;
        t->spec.base_sha256 = base.sha256;
        t->spec.model_name = base.model_name;
        t->spec.version = version.version;
        t->spec.output_dir = t->version_dir;
    }
    return rc;
}

static int gather(struct training *t, struct err *err)
{
    const struct settings *s = t->run->settings;
    struct train_spec *spec = &t->spec;
    int rc;
    if ((rc = train_config_parse_text(&t->config, t->run->row->config, err)) != 0 ||
        (rc = find_model(t, err)) != 0 || (rc = find_datasets(t, err)) != 0 ||
        (rc = find_first_adapter(t, err)) != 0 || (rc = find_checkpoints(t, err)) != 0) {
        return rc;
    }
    /* the day of submission, so that a resume on another day trains on the same tokens */
    (void)snprintf(t->date, sizeof t->date, "%.10s", t->run->row->created_at);
    spec->config = &t->config;
    spec->checkpoint_dir = t->checkpoint_dir;
    spec->date = t->date;
    spec->source_revision = MLX_HUB_REVISION;
    spec->threads = s->threads;
    spec->isa = s->isa;
    spec->memory_bytes_max = t->run->memory_bytes_max;
    return 0;
}

static void write_result(const struct train_result *result, struct json_out *out)
{
    json_out_object(out);
    json_out_kv_real(out, "final_loss", result->final_loss);
    json_out_kv_real(out, "first_loss", result->first_loss);
    json_out_kv_real(out, "first_val_loss", result->first_val_loss);
    json_out_kv_real(out, "val_loss", result->val_loss);
    json_out_kv_real(out, "best_val_loss", result->best_val_loss);
    json_out_kv_int(out, "best_step", result->best_step);
    json_out_kv_real(out, "first_val_perplexity", result->first_val_perplexity);
    json_out_kv_real(out, "val_perplexity", result->val_perplexity);
    json_out_kv_real(out, "best_val_perplexity", result->best_val_perplexity);
    json_out_kv_int(out, "steps", result->steps);
    json_out_kv_int(out, "rows", result->rows);
    json_out_kv_int(out, "rows_dropped", result->rows_dropped);
    json_out_kv_int(out, "rows_truncated", result->rows_truncated);
    json_out_kv_int(out, "targets", result->targets);
    json_out_kv_real(out, "seconds", result->seconds);
    json_out_kv_int(out, "planned_memory_bytes", (int64_t)result->planned_memory_bytes);
    json_out_kv_int(out, "peak_memory_bytes", (int64_t)result->peak_memory_bytes);
    json_out_object_end(out);
}

int job_train(struct job_run *run, struct err *err)
{
    struct training t = {.run = run};
    struct train_result result = {0};
    struct json_out out;
    const struct train_hooks hooks = job_hooks(run);
    int rc = gather(&t, err);
    rc = rc == 0 ? train_run(&t.spec, &hooks, &result, err) : rc;
    if (rc == 0) {
        json_out_init(&out, &run->result);
        write_result(&result, &out);
        memcpy(run->checksum, result.checksum, sizeof run->checksum);
        memcpy(run->checkpoints, t.checkpoint_dir, sizeof run->checkpoints);
        (void)snprintf(run->summary, sizeof run->summary, "published %s sha256 %s", t.spec.version,
                       result.checksum);
    }
    return rc;
}
