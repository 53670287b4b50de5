/* Training jobs as people see them: submit, look, cancel, resume. Threads, arenas and errors as
 * registry.h says. Running them is claims.h.
 */
#ifndef REGISTRY_JOBS_H
#define REGISTRY_JOBS_H

#include "base/json.h"
#include "registry/registry.h"
#include "store/job_metrics.h"
#include "store/jobs.h"

enum { JOB_WARNING_BYTES = 512, JOB_METRICS_MAX = 100000 };

struct job_draft {
    const char *model_id, *dataset_id;
    const json_t *config;    /* an object, or NULL for the defaults */
    int64_t queue_max;       /* queued jobs allowed before this one is ERR_BUSY; 0 = no limit */
    const char *waiting_for; /* why it cannot run yet, or NULL */
};

/* Adds a job of kind train to the queue. Checked in this order: config (ERR_UNPROCESSABLE), model,
 * dataset, val_dataset_id and init_from (ERR_NOT_FOUND), the dataset's file, which is read
 * (ERR_INVALID when it is gone, ERR_CONFLICT when it has changed), base weights and a version to
 * start from that is not ready (ERR_CONFLICT) or has factors of another rank, on other matrices or
 * on other layers (ERR_UNPROCESSABLE), queue (ERR_BUSY). The config is
 * stored as it takes effect: every key, warm-up capped, num_layers and max_seq_length what the base
 * has, init_from as an id. warning gets a sentence when a number was lowered, too little would be
 * learnt or factors are scaled otherwise than where they come from, else "".
 */
int registry_create_job(struct registry *registry, const struct job_draft *draft,
                        struct arena *arena, struct job_row *row, char warning[JOB_WARNING_BYTES],
                        struct err *err) MUST_CHECK;

/* A job of another kind (evaluate, reproduce, export, quantize, pull). Any of the texts may be
 * NULL; the config is the caller's, checked by the caller, as JSON text. */
struct task_draft {
    enum job_kind kind;
    const char *model_id;
    const char *version; /* of the model: its text or id, which the job is about */
    const char *dataset_id;
    const char *config;
    int64_t queue_max;
};
/* ERR_NOT_FOUND for model, version and dataset; ERR_CONFLICT for a version that is not ready or
 * archived, or whose base's weights are missing; for the dataset's file as registry_create_job;
 * ERR_BUSY. */
int registry_create_task(struct registry *registry, const struct task_draft *draft,
                         struct arena *arena, struct job_row *row, struct err *err) MUST_CHECK;

/* ERR_NOT_FOUND "Training job … not found". */
int registry_get_job(struct registry *registry, const char *id, struct arena *arena,
                     struct job_row *row, struct err *err) MUST_CHECK;
/* One page and the total of the filter, from one snapshot. */
int registry_list_jobs(struct registry *registry, const struct job_filter *filter,
                       struct arena *arena, struct job_row **rows, size_t *count, int64_t *total,
                       struct err *err) MUST_CHECK;
/* Queued jobs in the order in which they will run. */
int registry_job_queue(struct registry *registry, struct arena *arena, struct job_row **rows,
                       size_t *count, struct err *err) MUST_CHECK;
/* The one that computes; a pull runs beside it and is none. */
int registry_active_job(struct registry *registry, struct arena *arena, struct job_row *row,
                        bool *found, struct err *err) MUST_CHECK;
/* The job's series, by name, then step: name NULL = all; only steps after after_step (-1 = all).
 * *more (may be NULL): the step after which to ask again, since this answer is full
 * (JOB_METRICS_MAX); -1: it is all. */
int registry_job_metrics(struct registry *registry, const char *id, const char *name,
                         int64_t after_step, struct arena *arena, struct metric_row **rows,
                         size_t *count, int64_t *more, struct err *err) MUST_CHECK;

/* A queued job is cancelled at once; a running one is asked to stop and is still running in the
 * answer. ERR_CONFLICT when it is final. */
int registry_cancel_job(struct registry *registry, const char *id, struct arena *arena,
                        struct job_row *row, struct err *err) MUST_CHECK;
/* A new job with the same model, dataset and config that goes on from the other's last checkpoint,
 * or from what was fetched. ERR_CONFLICT unless the other failed or was cancelled, or when its
 * dataset is gone or changed. */
int registry_resume_job(struct registry *registry, const char *id, int64_t queue_max,
                        struct arena *arena, struct job_row *row, struct err *err) MUST_CHECK;
/* What a queued job waits for ("memory: …", NULL = nothing but its turn). While it waits for
 * something no child of serve claims it, nor what is queued behind it. */
int registry_job_waiting(struct registry *registry, const char *id, const char *waiting_for,
                         struct err *err) MUST_CHECK;

#endif
