/* train_run from outside to inside: a version that is there already, the run, its publication. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "formats/checksums.h"
#include "kernels/det_math.h"
#include "train/run.h"

/* Nothing is promised about a run without these. */
static int check_spec(const struct train_spec *spec, struct err *err)
{
    if (spec->base_id == NULL || spec->base_path == NULL || spec->dataset_path == NULL ||
        spec->config == NULL || spec->checkpoint_dir == NULL || spec->output_dir == NULL ||
        spec->model_name == NULL || spec->version == NULL) {
        return err_set(err, ERR_INVALID, "the training spec is incomplete");
    }
    return 0;
}

static double perplexity(double loss)
{
    return isfinite(loss) ? det_exp(loss) : (double)NAN;
}

static void fill_result(struct train_result *result, const struct manifest_training *t)
{
    result->steps = t->steps;
    result->first_loss = t->first_loss;
    result->final_loss = t->final_loss;
    result->first_val_loss = t->first_val_loss;
    result->val_loss = t->val_loss;
    result->best_val_loss = t->best_val_loss;
    result->best_step = t->best_step;
    result->first_val_perplexity = perplexity(t->first_val_loss);
    result->val_perplexity = perplexity(t->val_loss);
    result->best_val_perplexity = perplexity(t->best_val_loss);
    result->rows = t->rows;
    result->rows_dropped = t->rows_dropped;
    result->rows_truncated = t->rows_truncated;
    result->targets = t->targets;
}

static bool same_text(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* As text, since structs may differ in bytes that mean nothing. */
bool run_same_config(const struct train_config *a, const struct train_config *b)
{
    const struct train_config *const both[] = {a, b};
    struct buf text[2];
    for (int i = 0; i < 2; i++) {
        struct json_out out;
        buf_init(&text[i], MANIFEST_BYTES_MAX);
        json_out_init(&out, &text[i]);
        train_config_write(both[i], &out);
    }
    const bool same = buf_check(&text[0], "config", NULL) == 0 &&
                      buf_check(&text[1], "config", NULL) == 0 &&
                      strcmp(text[0].data, text[1].data) == 0;
    buf_release(&text[0]);
    buf_release(&text[1]);
    return same;
}

/* A folder at output_dir is fine when it is what this run would publish: then the run died between
 * publishing and saying so. *done: it is. */
static int check_output(const struct train_spec *spec, struct train_result *result, bool *done,
                        struct err *err)
{
    struct manifest manifest = {0};
    struct err why = {0};
    *done = false;
    if (!fs_exists(spec->output_dir)) {
        return 0;
    }
    int rc = checksums_verify(spec->output_dir, &why);
    if (rc == 0) {
        rc = manifest_read(&manifest, spec->output_dir, &why);
    }
    *done = rc == 0 && run_same_config(&manifest.config, spec->config) &&
            same_text(manifest.model, spec->model_name) &&
            same_text(manifest.version, spec->version) &&
            same_text(manifest.base_model, spec->base_id) &&
            (spec->dataset_sha256 == NULL ||
             same_text(manifest.dataset_sha256, spec->dataset_sha256)) &&
            (spec->base_sha256 == NULL || same_text(manifest.base_sha256, spec->base_sha256));
    if (*done) {
        fill_result(result, &manifest.training);
        memcpy(result->checksum, manifest.adapter_sha256,
               strnlen(manifest.adapter_sha256, sizeof result->checksum - 1));
    }
    manifest_release(&manifest);
    return *done ? 0
                 : err_set(err, ERR_CONFLICT, "%s exists already and is not this run's",
                           spec->output_dir);
}

static void fill_eos(struct manifest *manifest, const struct run *run)
{
    for (int i = 0; i < run->maker.n_end_ids && i < MODEL_EOS_MAX; i++) {
        manifest->eos_ids[manifest->n_eos++] = run->maker.end_ids[i];
    }
    if (manifest->n_eos == 0 && run->maker.end_id >= 0) {
        manifest->eos_ids[manifest->n_eos++] = run->maker.end_id;
    }
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static int publish(struct run *run, struct train_result *result, struct err *err)
{
    const struct train_spec *spec = run->spec;
    const struct engine_info *info = engine_model_info(run->model);
    size_t template_bytes;
    struct manifest manifest = {
        .model = spec->model_name,
        .version = spec->version,
        .base_model = spec->base_id,
        .base_sha256 = run->base_sha256,
        .dataset_sha256 = run->dataset_sha256,
        .dataset_columns = spec->dataset_columns,
        .validation_sha256 = or_null(run->validation_sha256),
        .validation_columns = spec->validation_columns,
        .init_sha256 = or_null(run->init_sha256),
        .engine = info->engine,
        .source_revision = spec->source_revision,
        .date = or_null(run->state.date),
        .chat_template = template_source(run->maker.template, &template_bytes),
        .numerics_version = ENGINE_NUMERICS_VERSION,
        .lora_scale = (double)run->lora.scale,
        .config = *run->config,
        .training = {.steps = run->state.step,
                     .best_step = run->state.best_step,
                     .first_loss = run->state.first_loss,
                     .final_loss = run->state.loss,
                     .first_val_loss = run->state.first_val_loss,
                     .val_loss = run->state.val_loss,
                     .best_val_loss = run->state.best_val_loss,
                     .rows = (int64_t)run->rows.n_rows,
                     .rows_dropped = run->rows.dropped,
                     .rows_truncated = run->rows.truncated,
                     .targets = (int64_t)run->rows.n_targets},
    };
    fill_eos(&manifest, run);
    fill_result(result, &manifest.training);
    if (run->best != NULL && run->state.best_step > 0) {
        if (run->state.best_step < run->state.step) {
            run_note(run, "the adapter of step %lld, which validated best, is published",
                     (long long)run->state.best_step);
        }
        tensors_scatter(run->tensors, run->n_tensors, run->best);
        engine_adapter_changed(run->adapter);
    }
    return version_publish(spec->output_dir, run->adapter, info->n_layers, &manifest,
                           result->checksum, err);
}

int train_run(const struct train_spec *spec, const struct train_hooks *hooks,
              struct train_result *result, struct err *err)
{
    struct train_result unused;
    const int64_t started_ns = clock_monotonic_ns();
    bool done = false;
    result = result != NULL ? result : &unused;
    memset(result, 0, sizeof *result);
    int rc = check_spec(spec, err);
    if (rc == 0) {
        rc = check_output(spec, result, &done, err);
    }
    if (rc != 0 || done) {
        return rc;
    }
    struct run run = {
        .spec = spec, .config = spec->config, .hooks = hooks, .grad_norm = (double)NAN};
    rc = run_open(&run, err);
    if (rc == 0) {
        rc = run_steps(&run, err);
    }
    if (rc == 0) {
        rc = publish(&run, result, err);
    }
    if (rc != -ERR_CLOSED && !run.abandoned && run.quantised[0] != '\0' &&
        fs_exists(run.quantised)) {
        (void)!fs_remove_tree(run.quantised, NULL); /* made again should the run be resumed */
    }
    if (rc == 0) {
        run_note(&run, "memory: %.0f MB were planned, %.0f MB was the most in use (%+.0f%%)",
                 (double)run.planned_memory_bytes / 1e6, (double)run.peak_memory_bytes / 1e6,
                 100.0 * ((double)run.planned_memory_bytes / (double)run.peak_memory_bytes - 1.0));
    }
    result->resumed_from_step = run.resumed_step;
    result->planned_memory_bytes = run.planned_memory_bytes;
    result->peak_memory_bytes = run.peak_memory_bytes;
    result->seconds = (double)(clock_monotonic_ns() - started_ns) / 1e9;
    run_release(&run);
    return rc;
}

int64_t train_checkpoint_step(const char *checkpoint_dir)
{
    char path[FS_PATH_BYTES_MAX];
    struct train_state state;
    return checkpoint_find(checkpoint_dir, NULL, path, &state, NULL, NULL, NULL) == 0 ? state.step
                                                                                      : 0;
}
