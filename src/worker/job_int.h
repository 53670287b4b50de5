/* What the kinds of jobs share while one runs. Private to worker; one thread's but for what the
 * pulse's thread hears.
 *
 *   job.c        from a claimed row to its end
 *   job_tell.c   progress, series, the log; pulse.c: when a heartbeat is due without them
 *   job_train.c, job_evaluate.c, job_reproduce.c   one kind each
 *   job_quantize.c       what writes weights: bases quantised, versions exported
 *   job_pull.c           bases fetched from a model hub
 */
#ifndef WORKER_JOB_INT_H
#define WORKER_JOB_INT_H

#include <stdio.h>

#include "base/buf.h"
#include "base/json.h"
#include "registry/datasets.h"
#include "train/train.h"
#include "worker/job.h"
#include "worker/pulse.h"

enum { JOB_METRICS_PENDING_MAX = 64, JOB_RESULT_BYTES_MAX = 1 << 20 };

struct job_run {
    struct registry *registry;
    const struct settings *settings;
    const struct job_row *row;
    const atomic_bool *stop;
    struct arena arena;
    FILE *log; /* may be NULL */
    uint64_t memory_bytes_max;
    /* what there is to tell since the last report */
    struct job_progress progress;
    struct metric_row metrics[JOB_METRICS_PENDING_MAX];
    char wall[JOB_METRICS_PENDING_MAX][CLOCK_ISO_BYTES];
    size_t n_metrics;
    int64_t reported_ns;
    /* what was heard, also by the pulse's thread */
    struct pulse pulse;
    atomic_bool cancel;
    atomic_bool lost; /* the job is no longer ours */
    /* how it ended */
    struct buf result;                   /* a JSON object */
    char checksum[SHA256_HEX_BYTES];     /* of what was published */
    char summary[256];                   /* for the log */
    char checkpoints[FS_PATH_BYTES_MAX]; /* of no use once the job is completed; "" = none */
};

/* --- job_tell.c --- */
void job_report(struct job_run *run);
void job_note(void *run, const char *line);
/* pulse_start's: a heartbeat without anything to tell. */
void job_beat(void *run);
/* Of a run: they report to the registry and hear from it. */
struct train_hooks job_hooks(struct job_run *run);

/* --- job.c --- */
/* A dataset by its id; ERR_NOT_FOUND also for none. */
int job_find_dataset(struct job_run *run, const char *id, struct dataset_record *record,
                     struct err *err) MUST_CHECK;
/* The base of a model, and where its weights lie. */
struct job_base {
    const char *id, *sha256, *path, *model_name;
};
int job_find_base(struct job_run *run, const char *model_id, struct job_base *base,
                  struct err *err) MUST_CHECK;

/* --- the kinds: each fills result (and checksum), or says why not --- */
int job_train(struct job_run *run, struct err *err) MUST_CHECK;
int job_evaluate(struct job_run *run, struct err *err) MUST_CHECK;
int job_reproduce(struct job_run *run, struct err *err) MUST_CHECK;
int job_quantize(struct job_run *run, struct err *err) MUST_CHECK;
int job_export(struct job_run *run, struct err *err) MUST_CHECK;
int job_pull(struct job_run *run, struct err *err) MUST_CHECK;

#endif
