/* From a claimed row to its end: the kind's work, then one transaction that says how it ended. */
#include "worker/job.h"

#include <math.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "registry/bases.h"
#include "registry/models.h"
#include "worker/job_int.h"

enum { ADVICE_BYTES = 128 };

int job_find_dataset(struct job_run *run, const char *id, struct dataset_record *record,
                     struct err *err)
{
    if (id == NULL || id[0] == '\0') {
        return err_set(err, ERR_NOT_FOUND, "the job's dataset is gone; submit it with another one");
    }
    return registry_get_dataset(run->registry, id, &run->arena, record, err);
}

int job_find_base(struct job_run *run, const char *model_id, struct job_base *base, struct err *err)
{
    struct model_row model;
    struct base_row row;
    char path[FS_PATH_BYTES_MAX];
    int rc = registry_get_model(run->registry, model_id, &run->arena, &model, err);
    if (rc == 0) {
        rc = registry_base_path(run->registry, model.base_model, &run->arena, &row, path, err);
    }
    if (rc == 0) {
        *base = (struct job_base){.id = row.id,
                                  .sha256 = row.sha256,
                                  .path = arena_strdup(&run->arena, path),
                                  .model_name = model.name};
        rc = base->path != NULL ? 0 : mem_err(err, sizeof path);
    }
    return rc;
}

static void open_log(struct job_run *run)
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

static int work(struct job_run *run, struct err *err)
{
    switch (run->row->kind) {
    case JOB_TRAIN:
        return job_train(run, err);
    case JOB_EVALUATE:
        return job_evaluate(run, err);
    case JOB_REPRODUCE:
        return job_reproduce(run, err);
    case JOB_EXPORT:
        return job_export(run, err);
    case JOB_QUANTIZE:
        return job_quantize(run, err);
    case JOB_PULL:
        return job_pull(run, err);
    }
    return err_set(err, ERR_UNSUPPORTED, "this worker knows no jobs of kind %s",
                   job_kind_name(run->row->kind));
}

static int complete(struct job_run *run, struct err *err)
{
    const char *id = run->row->id;
    const int64_t fence = run->row->fence;
    if (run->row->kind != JOB_TRAIN) {
        return registry_job_complete(run->registry, id, fence, run->result.data, err);
    }
    const struct version_result version = {run->result.data, run->checksum};
    return registry_job_publish(run->registry, id, fence, &version, err);
}

/* What to do about a failure that says only what happened. Only training resumes. */
static const char *advice(const struct err *cause, bool resumes)
{
    switch (cause->code) {
    case ERR_NOSPACE:
        return resumes ? "; free some space and resume the job"
                       : "; free some space and submit it again";
    case ERR_NOMEM:
        return resumes ? "; lower max_seq_length or lora_rank, or end other programs, and submit "
                         "it again"
                       : "; end other programs and submit it again";
    case ERR_IO:
        return resumes ? "; see whether the disk is well, then resume the job"
                       : "; see whether the disk is well, then submit it again";
    default:
        return "";
    }
}

/* Nothing goes on from a job that is completed. */
static void drop_checkpoints(const struct job_run *run)
{
    struct err err = {0};
    if (run->checkpoints[0] != '\0' && fs_exists(run->checkpoints) &&
        fs_remove_tree(run->checkpoints, &err) != 0) {
        log_event(LOG_WARNING, "worker", "leftover", "path=%s error=\"%s\"", run->checkpoints,
                  err.message);
    }
}

/* Writes to the registry how it ended; an answer of ERR_CONFLICT means that it was no longer ours.
 */
static int settle(struct job_run *run, int outcome, const struct err *cause, struct err *err)
{
    const char *id = run->row->id;
    const int64_t fence = run->row->fence;
    char line[ERR_MESSAGE_BYTES_MAX + ADVICE_BYTES + 16];
    int rc;
    if (run->lost) {
        return 0;
    }
    job_report(run);
    if (outcome == 0) {
        rc = complete(run, err);
        if (rc == 0) {
            drop_checkpoints(run);
        }
        (void)snprintf(line, sizeof line, "%s", run->summary);
    } else if (outcome == -ERR_CLOSED) {
        rc = registry_job_hand_back(run->registry, id, fence, err);
        (void)snprintf(line, sizeof line, "stopped after a checkpoint; to be taken up again");
    } else if (outcome == -ERR_CANCELLED) {
        rc = registry_job_stopped(run->registry, id, fence, err);
        (void)snprintf(line, sizeof line, "%s", cause->message);
    } else {
        char reason[ERR_MESSAGE_BYTES_MAX + ADVICE_BYTES];
        (void)snprintf(reason, sizeof reason, "%s%s", cause->message,
                       advice(cause, run->row->kind == JOB_TRAIN));
        rc = registry_job_fail(run->registry, id, fence, reason, err);
        (void)snprintf(line, sizeof line, "failed: %s", reason);
    }
    job_note(run, line);
    return rc == -ERR_CONFLICT ? 0 : rc;
}

int job_run(struct registry *registry, const struct settings *settings, const struct job_row *row,
            const atomic_bool *stop, struct err *err)
{
    struct err cause = {0};
    struct job_run *run = mem_calloc(1, sizeof *run);
    if (run == NULL) {
        return mem_err(err, sizeof *run);
    }
    run->registry = registry;
    run->settings = settings;
    run->row = row;
    run->stop = stop;
    run->progress = row->progress;
    run->memory_bytes_max = (uint64_t)(settings->memory_limit_gb * 1073741824.0);
    arena_init(&run->arena, 0);
    buf_init(&run->result, JOB_RESULT_BYTES_MAX);
    open_log(run);
    int outcome = pulse_start(&run->pulse, job_beat, run, PULSE_MS, &cause);
    outcome = outcome == 0 ? work(run, &cause) : outcome;
    pulse_stop(&run->pulse);
    if (outcome == 0) {
        outcome = buf_check(&run->result, "the job's result", &cause);
    }
    const int rc = settle(run, outcome, &cause, err);
    if (run->log != NULL) {
        fclose(run->log);
    }
    buf_release(&run->result);
    arena_release(&run->arena);
    mem_free(run);
    return rc;
}
