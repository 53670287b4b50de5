/* An evaluate job: a version on a dataset, by its model's base as it is now. */
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "formats/manifest.h"
#include "registry/versions.h"
#include "train/evaluate.h"
#include "worker/job_int.h"

enum { SAMPLES = 8 };

static void write_result(const struct job_run *run, const struct dataset_record *dataset,
                         const struct evaluate_result *result, struct json_out *out)
{
    char now[CLOCK_ISO_BYTES];
    clock_format_iso(clock_wall_us(), now);
    json_out_object(out);
    json_out_kv_string(out, "kind", "evaluate");
    json_out_kv_string(out, "job_id", run->row->id);
    json_out_kv_string(out, "created_at", now);
    json_out_kv_string(out, "dataset_id", dataset->id);
    json_out_kv_string(out, "dataset_name", dataset->name);
    json_out_kv_string(out, "dataset_checksum", dataset->checksum);
    evaluate_result_write(result, out);
    json_out_object_end(out);
}

static int evaluate(struct job_run *run, const struct version_row *version,
                    const struct dataset_record *dataset, struct evaluate_result *result,
                    struct err *err)
{
    const struct train_hooks hooks = job_hooks(run);
    struct manifest manifest = {0};
    struct job_base base;
    char adapter[FS_PATH_BYTES_MAX];
    int rc = job_find_base(run, version->model_id, &base, err);
    rc = rc == 0 ? manifest_read(&manifest, version->artifact_path, err) : rc;
    rc = rc == 0 ? train_evaluate_limits(run->row->config, &manifest.config, err) : rc;
    rc = rc == 0 ? fs_join(adapter, version->artifact_path, MANIFEST_ADAPTER, err) : rc;
    if (rc == 0) {
        const struct evaluate_spec spec = {.base_id = base.id,
                                           .base_path = base.path,
                                           .base_sha256 = manifest.base_sha256,
                                           .adapter_path = adapter,
                                           .adapter_scale = (float)manifest.lora_scale,
                                           .chat_template = manifest.chat_template,
                                           .dataset_path = dataset->path,
                                           .dataset_sha256 = dataset->checksum,
                                           .dataset_columns = dataset->columns,
                                           .date = manifest.date,
                                           .max_seq_length = manifest.config.max_seq_length,
                                           .mask_prompt = manifest.config.mask_prompt,
                                           .n_samples = SAMPLES,
                                           .threads = run->settings->threads,
                                           .isa = run->settings->isa,
                                           .memory_bytes_max = run->memory_bytes_max};
        rc = train_evaluate(&spec, &hooks, result, err);
    }
    manifest_release(&manifest);
    return rc;
}

int job_evaluate(struct job_run *run, struct err *err)
{
    struct evaluate_result result = {0};
    struct dataset_record dataset;
    struct version_row version;
    int rc = job_find_dataset(run, run->row->dataset_id, &dataset, err);
    if (rc == 0 && run->row->model_version_id == NULL) {
        rc = err_set(err, ERR_NOT_FOUND, "the version to evaluate is gone");
    }
    if (rc == 0) {
        rc = registry_get_version_by_id(run->registry, run->row->model_version_id, &run->arena,
                                        &version, err);
    }
    rc = rc == 0 ? evaluate(run, &version, &dataset, &result, err) : rc;
    if (rc == 0) {
        struct json_out out;
        json_out_init(&out, &run->result);
        write_result(run, &dataset, &result, &out);
        (void)snprintf(run->summary, sizeof run->summary,
                       "evaluated on %.80s: loss %.4f, perplexity %.4f, %lld of %lld rows matched",
                       dataset.name, result.loss, result.perplexity, (long long)result.matches,
                       (long long)result.rows);
    }
    evaluate_result_release(&result);
    return rc;
}
