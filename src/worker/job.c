/* What train_run needs is gathered from the rows; what it tells goes back as heartbeats, progress,
 * series and lines of the job's log.
 *
 * Invariants
 *   1. Every write names the fence. Once one is refused the job is another's: training stops and
 *      nothing is published.
 *   2. A report goes out at least every REPORT_NS while training polls, so silence means death.
 *   3. A job that resumes another works in the first one's checkpoint folder: same bits, no copy.
 */
#include "worker/job.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "registry/bases.h"
#include "registry/datasets.h"
#include "registry/jobs.h"
#include "registry/models.h"
#include "registry/versions.h"
#include "train/train.h"

enum {
    METRICS_PENDING_MAX = 64,
    RESUME_CHAIN_MAX = 64,
    RESULT_BYTES_MAX = 1 << 16,
    DATE_BYTES = 11
};
#define REPORT_NS 1000000000LL

struct run {
    struct registry *registry;
    const struct settings *settings;
    const struct job_row *row;
    const atomic_bool *stop;
    struct arena arena;
    struct train_config config;
    struct train_spec spec;
    char checkpoint_dir[FS_PATH_BYTES_MAX];
    char version_dir[FS_PATH_BYTES_MAX];
    char base_path[FS_PATH_BYTES_MAX];
    char date[DATE_BYTES];
    FILE *log;
    /* since the last report */
    struct job_progress progress;
    struct metric_row metrics[METRICS_PENDING_MAX];
    char wall[METRICS_PENDING_MAX][CLOCK_ISO_BYTES];
    size_t n_metrics;
    double val_loss_seen;
    int64_t reported_ns;
    bool cancel;
    bool lost; /* the job is no longer ours */
};

/* --- telling ------------------------------------------------------------------------------------
 */

static void report(struct run *run)
{
    struct err err = {0};
    bool cancel = false;
    const int rc = registry_job_report(run->registry, run->row->id, run->row->fence, &run->progress,
                                       run->metrics, run->n_metrics, &cancel, &err);
    run->reported_ns = clock_monotonic_ns();
    if (rc == 0) {
        run->n_metrics = 0;
        run->cancel = run->cancel || cancel;
    } else if (rc == -ERR_CONFLICT || rc == -ERR_NOT_FOUND) {
        run->lost = true;
    } else {
        log_event(LOG_WARNING, "worker", "report_failed", "job=%s error=\"%s\"", run->row->id,
                  err.message);
        if (run->n_metrics == METRICS_PENDING_MAX) {
            run->n_metrics = 0; /* the next steps matter more than a gap in a curve */
        }
    }
}

static void add_metric(struct run *run, const char *name, int64_t step, double value)
{
    if (!isfinite(value)) {
        return;
    }
    if (run->n_metrics == METRICS_PENDING_MAX) {
        report(run);
    }
    if (run->n_metrics < METRICS_PENDING_MAX) {
        const size_t i = run->n_metrics++;
        clock_format_iso(clock_wall_us(), run->wall[i]);
        const struct metric_row row = {name, step, value, run->wall[i]};
        run->metrics[i] = row;
    }
}

static void on_note(void *ctx, const char *line)
{
    struct run *run = ctx;
    char now[CLOCK_ISO_BYTES];
    clock_format_iso(clock_wall_us(), now);
    if (run->log != NULL) {
        fprintf(run->log, "%s %s\n", now, line);
        fflush(run->log);
    }
}

static void on_progress(void *ctx, const struct train_progress *p, bool log)
{
    struct run *run = ctx;
    const struct job_progress progress = {.step = p->step,
                                          .steps = p->steps,
                                          .epoch = p->epoch,
                                          .loss = p->loss,
                                          .val_loss = p->val_loss,
                                          .learning_rate = p->learning_rate,
                                          .tokens_per_second = p->tokens_per_second,
                                          .memory_bytes = (int64_t)p->memory_bytes,
                                          .eta_seconds = p->eta_seconds};
    run->progress = progress;
    add_metric(run, "loss", p->step, p->loss);
    add_metric(run, "learning_rate", p->step, p->learning_rate);
    add_metric(run, "grad_norm", p->step, p->grad_norm);
    if (isfinite(p->val_loss) && p->val_loss != run->val_loss_seen) {
        run->val_loss_seen = p->val_loss;
        add_metric(run, "val_loss", p->step, p->val_loss);
    }
    if (log) {
        char line[256];
        snprintf(line, sizeof line,
                 "step %lld/%lld loss %.4f lr %.3g grad_norm %.3g tokens/s %.0f memory %.0f MB",
                 (long long)p->step, (long long)p->steps, p->loss, p->learning_rate, p->grad_norm,
                 p->tokens_per_second, (double)p->memory_bytes / 1e6);
        on_note(run, line);
        add_metric(run, "tokens_per_second", p->step, p->tokens_per_second);
        report(run);
    }
}

static void on_checkpoint(void *ctx, int64_t step)
{
    struct run *run = ctx;
    struct err err = {0};
    const int rc =
        registry_job_checkpoint(run->registry, run->row->id, run->row->fence, step, &err);
    run->lost = run->lost || rc == -ERR_CONFLICT;
    if (rc != 0) {
        log_event(LOG_WARNING, "worker", "checkpoint_unrecorded", "job=%s error=\"%s\"",
                  run->row->id, err.message);
    }
}

static enum train_stop on_poll(void *ctx)
{
    struct run *run = ctx;
    if (clock_monotonic_ns() - run->reported_ns >= REPORT_NS) {
        report(run);
    }
    if (run->lost || run->cancel) {
        return TRAIN_CANCEL;
    }
    return atomic_load(run->stop) ? TRAIN_CHECKPOINT_AND_STOP : TRAIN_GO_ON;
}

/* --- gathering ----------------------------------------------------------------------------------
 */

/* The checkpoint folder of the first job in a chain of resumes. */
static int find_checkpoints(struct run *run, struct err *err)
{
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
    return storage_checkpoints(registry_storage(run->registry), id, run->checkpoint_dir, err);
}

static int find_dataset(struct run *run, const char *id, const char **path, const char **sha256,
                        const char **columns, struct err *err)
{
    struct dataset_record record;
    if (id == NULL || id[0] == '\0') {
        return err_set(err, ERR_NOT_FOUND, "the job's dataset is gone");
    }
    const int rc = registry_get_dataset(run->registry, id, &run->arena, &record, err);
    if (rc == 0) {
        *path = record.path;
        *sha256 = record.checksum;
        *columns = record.columns;
    }
    return rc;
}

static int find_first_adapter(struct run *run, struct err *err)
{
    struct version_row version;
    if (run->config.init_from[0] == '\0') {
        return 0;
    }
    int rc = registry_get_version_by_id(run->registry, run->config.init_from, &run->arena, &version,
                                        err);
    if (rc == 0) {
        char path[FS_PATH_BYTES_MAX];
        rc = fs_join(path, version.artifact_path, "adapter.safetensors", err);
        run->spec.init_adapter_path = rc == 0 ? arena_strdup(&run->arena, path) : NULL;
    }
    return rc;
}

static int find_model(struct run *run, struct err *err)
{
    struct model_row model;
    struct base_row base;
    struct version_row version;
    int rc = registry_get_model(run->registry, run->row->model_id, &run->arena, &model, err);
    if (rc == 0) {
        rc = registry_base_path(run->registry, model.base_model, &run->arena, &base, run->base_path,
                                err);
    }
    if (rc == 0) {
        rc = registry_job_version(run->registry, run->row->id, run->row->fence, &run->arena,
                                  &version, run->version_dir, err);
    }
    if (rc == 0) {
        run->spec.base_id = base.id;
        run->spec.base_path = run->base_path;
        run->spec.base_sha256 = base.sha256;
        run->spec.model_name = model.name;
        run->spec.version = version.version;
        run->spec.output_dir = run->version_dir;
    }
    return rc;
}

static int gather(struct run *run, struct err *err)
{
    const struct settings *s = run->settings;
    struct train_spec *spec = &run->spec;
    int rc = train_config_parse_text(&run->config, run->row->config, err);
    if (rc == 0) {
        rc = find_model(run, err);
    }
    if (rc == 0) {
        rc = find_dataset(run, run->row->dataset_id, &spec->dataset_path, &spec->dataset_sha256,
                          &spec->dataset_columns, err);
    }
    if (rc == 0 && run->config.val_dataset_id[0] != '\0') {
        rc = find_dataset(run, run->config.val_dataset_id, &spec->validation_path,
                          &spec->validation_sha256, &spec->validation_columns, err);
    }
    if (rc == 0) {
        rc = find_first_adapter(run, err);
    }
    if (rc == 0) {
        rc = find_checkpoints(run, err);
    }
    /* the day of submission, so that a resume on another day trains on the same tokens */
    snprintf(run->date, sizeof run->date, "%.10s", run->row->created_at);
    spec->config = &run->config;
    spec->checkpoint_dir = run->checkpoint_dir;
    spec->date = run->date;
    spec->threads = s->threads;
    spec->isa = s->isa;
    spec->memory_bytes_max = (uint64_t)(s->memory_limit_gb * 1073741824.0);
    return rc;
}

static void open_log(struct run *run)
{
    struct err err = {0};
    char dir[FS_PATH_BYTES_MAX];
    char path[FS_PATH_BYTES_MAX];
    if (storage_artifacts(registry_storage(run->registry), "jobs", run->row->id, dir, &err) == 0 &&
        fs_mkdirs(dir, &err) == 0 && fs_join(path, dir, "train.log", &err) == 0) {
        run->log = fopen(path, "ae");
    }
    if (run->log == NULL) {
        log_event(LOG_WARNING, "worker", "no_job_log", "job=%s", run->row->id);
    }
}

/* --- the end ------------------------------------------------------------------------------------
 */

static int publish(struct run *run, const struct train_result *result, struct err *err)
{
    struct buf buf;
    struct json_out out;
    buf_init(&buf, RESULT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_real(&out, "final_loss", result->final_loss);
    json_out_kv_real(&out, "first_loss", result->first_loss);
    json_out_kv_real(&out, "best_val_loss", result->best_val_loss);
    json_out_kv_int(&out, "steps", result->steps);
    json_out_kv_int(&out, "rows", result->rows);
    json_out_kv_int(&out, "rows_dropped", result->rows_dropped);
    json_out_kv_int(&out, "rows_truncated", result->rows_truncated);
    json_out_kv_int(&out, "targets", result->targets);
    json_out_kv_real(&out, "seconds", result->seconds);
    json_out_kv_int(&out, "peak_memory_bytes", (int64_t)result->peak_memory_bytes);
    json_out_object_end(&out);
    int rc = buf_check(&buf, "the version's metrics", err);
    if (rc == 0) {
        const struct version_result version = {buf.data, result->checksum};
        rc = registry_job_publish(run->registry, run->row->id, run->row->fence, &version, err);
    }
    buf_release(&buf);
    return rc;
}

/* Writes to the registry how it ended; an answer of ERR_CONFLICT means that it was no longer ours.
 */
static int settle(struct run *run, int outcome, const struct err *cause,
                  const struct train_result *result, struct err *err)
{
    const char *id = run->row->id;
    const int64_t fence = run->row->fence;
    char line[FS_PATH_BYTES_MAX + 128];
    int rc;
    if (run->lost) {
        return 0;
    }
    report(run);
    if (outcome == 0) {
        rc = publish(run, result, err);
        snprintf(line, sizeof line, "published %s sha256 %s", run->version_dir, result->checksum);
    } else if (outcome == -ERR_CLOSED) {
        rc = registry_job_hand_back(run->registry, id, fence, err);
        snprintf(line, sizeof line, "stopped after a checkpoint; to be taken up again");
    } else if (outcome == -ERR_CANCELLED) {
        rc = registry_job_stopped(run->registry, id, fence, err);
        snprintf(line, sizeof line, "cancelled");
    } else {
        rc = registry_job_fail(run->registry, id, fence, cause->message, err);
        snprintf(line, sizeof line, "failed: %s", cause->message);
    }
    on_note(run, line);
    return rc == -ERR_CONFLICT ? 0 : rc;
}

int job_run(struct registry *registry, const struct settings *settings, const struct job_row *row,
            const atomic_bool *stop, struct err *err)
{
    struct err cause = {0};
    struct train_result result = {0};
    struct run *run = mem_calloc(1, sizeof *run);
    if (run == NULL) {
        return mem_err(err, sizeof *run);
    }
    run->registry = registry;
    run->settings = settings;
    run->row = row;
    run->stop = stop;
    run->progress = row->progress;
    run->val_loss_seen = NAN;
    arena_init(&run->arena, 0);
    open_log(run);
    const struct train_hooks hooks = {.ctx = run,
                                      .progress = on_progress,
                                      .checkpoint = on_checkpoint,
                                      .note = on_note,
                                      .poll = on_poll};
    int outcome;
    if (row->kind != JOB_TRAIN) {
        outcome = err_set(&cause, ERR_UNSUPPORTED, "this worker trains; it knows no other jobs");
    } else {
        outcome = gather(run, &cause);
    }
    if (outcome == 0) {
        outcome = train_run(&run->spec, &hooks, &result, &cause);
    }
    const int rc = settle(run, outcome, &cause, &result, err);
    if (run->log != NULL) {
        fclose(run->log);
    }
    arena_release(&run->arena);
    mem_free(run);
    return rc;
}
