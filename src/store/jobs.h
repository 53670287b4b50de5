/* Table training_jobs: the queue and its history. See models.h for what row functions share.
 *
 * A running job belongs to the worker that holds its fence: every write of a worker names job and
 * fence, and touches no row when the job was given to another or has ended (*changed is 0). Rules
 * of the life of a job are in registry/jobs.h and registry/claims.h.
 */
#ifndef STORE_JOBS_H
#define STORE_JOBS_H

#include "store/db.h"
#include "store/enums.h"

struct job_progress {
    int64_t step, steps;
    double epoch, loss, val_loss, learning_rate, tokens_per_second; /* NaN = not known */
    int64_t memory_bytes;
    double eta_seconds;      /* NaN = not known */
    double bytes_per_second; /* of a pull, whose steps are bytes; NaN for any other job */
};

struct job_row {
    const char *id;
    int64_t seq; /* order of submission */
    enum job_kind kind;
    const char *model_id, *dataset_id, *val_dataset_id; /* each may be NULL */
    const char *dataset_checksum;                       /* kept when the dataset goes; or NULL */
    const char *model_version_id;                       /* may be NULL */
    enum job_status status;
    const char *config;        /* a JSON object, as it takes effect */
    const char *result;        /* JSON of the finished job, or NULL */
    const char *error_message; /* may be NULL, as the next two */
    const char *waiting_for;
    const char *resumed_from; /* a job's id */
    bool cancel_requested;
    /* who runs it */
    int64_t fence;           /* 0 = never claimed */
    const char *owner;       /* "child" of serve, "foreign", or NULL */
    const char *boot_id;     /* of the process that started the worker */
    const char *worker_host; /* may be NULL */
    int64_t worker_pid;
    /* what there is to go on from */
    int64_t checkpoint_step; /* 0 = no checkpoint */
    int64_t resume_step;     /* checkpoint_step when it was last taken up */
    int64_t resumes, idle_resumes;
    struct job_progress progress;
    const char *created_at;
    const char *started_at, *completed_at, *heartbeat_at; /* each may be NULL */
};

/* Two queues in one table: pulls wait for the network and hold no memory to speak of, so they run
 * beside whatever computes. */
enum job_lane { LANE_ALL, LANE_WORK, LANE_PULLS };

struct job_filter {
    const char *status;   /* word, or NULL */
    const char *model_id; /* or NULL */
    const char *kind;     /* word, or NULL */
    enum job_lane lane;
    bool oldest_first;
    int64_t limit, offset;
};

/* Writes the columns of a new queued job; seq is given by the database's highest plus one, so call
 * inside a write transaction. */
int job_row_insert(struct db *db, const struct job_row *row, struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND "Training job <id> not found". */
int job_row_get(struct db *db, const char *id, struct arena *arena, struct job_row *row,
                struct err *err) MUST_CHECK;
/* The job that made a version, if it is still there. */
int job_row_of_version(struct db *db, const char *version_id, struct arena *arena,
                       struct job_row *row, bool *found, struct err *err) MUST_CHECK;
int job_row_list(struct db *db, const struct job_filter *filter, struct arena *arena,
                 struct job_row **rows, size_t *count, struct err *err) MUST_CHECK;
int job_row_count(struct db *db, const struct job_filter *filter, int64_t *count,
                  struct err *err) MUST_CHECK;
/* Queued and running jobs that need a model, or a dataset (also for validation). */
int job_row_active_of_model(struct db *db, const char *model_id, int64_t *count,
                            struct err *err) MUST_CHECK;
int job_row_active_of_dataset(struct db *db, const char *dataset_id, int64_t *count,
                              struct err *err) MUST_CHECK;
/* A job and all that resume it, directly or not. */
struct job_line {
    int64_t n, active, completed; /* of them; active: queued or running */
    const char *last_ended_at;    /* "" = none has ended */
};
int job_row_line(struct db *db, const char *id, struct arena *arena, struct job_line *line,
                 struct err *err) MUST_CHECK;
/* The first of the lane's queue. */
int job_row_first(struct db *db, enum job_lane lane, struct arena *arena, struct job_row *row,
                  bool *found, struct err *err) MUST_CHECK;

/* --- changes; *changed says how many rows were in the state that the change asks for --- */

/* queued → running under a new fence; started_at is kept once set. */
struct job_claim {
    int64_t fence;
    const char *owner, *boot_id, *worker_host;
    int64_t worker_pid;
    const char *now;
};
int job_row_claim(struct db *db, const char *id, const struct job_claim *claim, int64_t *changed,
                  struct err *err) MUST_CHECK;
int job_row_touch(struct db *db, const char *id, int64_t fence, const char *now, int64_t *changed,
                  struct err *err) MUST_CHECK;
int job_row_progress(struct db *db, const char *id, int64_t fence,
                     const struct job_progress *progress, const char *now, int64_t *changed,
                     struct err *err) MUST_CHECK;
int job_row_checkpoint(struct db *db, const char *id, int64_t fence, int64_t step, int64_t *changed,
                       struct err *err) MUST_CHECK;
/* What is known of the result so far. */
int job_row_tell(struct db *db, const char *id, int64_t fence, const char *result, int64_t *changed,
                 struct err *err) MUST_CHECK;
int job_row_waiting(struct db *db, const char *id, const char *waiting_for,
                    struct err *err) MUST_CHECK;
int job_row_set_version(struct db *db, const char *id, int64_t fence, const char *version_id,
                        int64_t *changed, struct err *err) MUST_CHECK;
/* running under this fence → a final status. error and result may be NULL. */
int job_row_finish(struct db *db, const char *id, int64_t fence, enum job_status status,
                   const char *error, const char *result, const char *now, int64_t *changed,
                   struct err *err) MUST_CHECK;
/* running under this fence → queued, to be taken up again; the counts are the caller's. */
int job_row_release(struct db *db, const char *id, int64_t fence, int64_t idle_resumes,
                    int64_t *changed, struct err *err) MUST_CHECK;
/* queued → cancelled. */
int job_row_cancel_queued(struct db *db, const char *id, const char *now, int64_t *changed,
                          struct err *err) MUST_CHECK;
/* running: the worker is asked to stop. */
int job_row_ask_cancel(struct db *db, const char *id, int64_t *changed, struct err *err) MUST_CHECK;

#endif
