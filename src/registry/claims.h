/* Running jobs: who holds one, that it lives, how it ends. Threads, arenas and errors as registry.h
 * says.
 *
 *   queued ──claim──→ running ──publish / complete / fail / stopped──→ final
 *     ↑                  │
 *     └──hand_back, died─┘
 *
 * One job runs at a time, and one pull beside it: each lane (store/jobs.h) has its own head and its
 * own running job. A claim hands out a fence, a number that only goes up; every later call
 * of the worker names it, and is ERR_CONFLICT once the job was given to another or has ended: a
 * worker that hears this must stop and publish nothing. Final states are final.
 *
 * Death. The parent that saw waitpid calls registry_job_died; a start of serve calls
 * registry_sweep_jobs for what the last one left; a worker of another process or host is judged by
 * its silence, with struct job_watch. A dead worker's job goes back to the head of the queue and is
 * taken up from its last checkpoint, or from its start, where the bits come out the same; after
 * JOB_IDLE_RESUMES_MAX resumes without a new checkpoint it fails. One that was silent for
 * JOB_SILENCE_NS without any checkpoint fails with "Job timed out (no heartbeat)".
 */
#ifndef REGISTRY_CLAIMS_H
#define REGISTRY_CLAIMS_H

#include "base/clock.h"
#include "base/hash.h"
#include "registry/registry.h"
#include "store/job_metrics.h"
#include "store/jobs.h"
#include "store/versions.h"

enum {
    JOB_IDLE_RESUMES_MAX = 3,
    JOB_ERROR_CHARACTERS_MAX = 5000,
    JOB_HEARTBEAT_SECONDS = 30,
    JOB_WATCHED_MAX = 64
};
#define JOB_SILENCE_NS (300LL * 1000000000LL)

struct job_worker {
    bool is_child;       /* of serve: dies with it, and serve hears of its death */
    const char *boot_id; /* of the serve that started it, or of the worker's own registry */
    const char *host;    /* NULL = this one's name */
    int64_t pid;
    const char *job_id; /* takes this one only, if it is the head; NULL: whatever is */
    enum job_lane lane; /* LANE_ALL: a pull when there is nothing else */
};

/* Takes the head of the lane's queue unless a job of the lane is running, or serve found that the
 * head must wait for memory (which its children heed). *claimed false: nothing to do. */
int registry_claim_job(struct registry *registry, const struct job_worker *worker,
                       struct arena *arena, struct job_row *row, bool *claimed,
                       struct err *err) MUST_CHECK;

/* Heartbeat, and with it what there is to tell; progress may be NULL, n_metrics 0. *cancel (may be
 * NULL) says that the job shall stop. */
int registry_job_report(struct registry *registry, const char *id, int64_t fence,
                        const struct job_progress *progress, const struct metric_row *metrics,
                        size_t n_metrics, bool *cancel, struct err *err) MUST_CHECK;
/* What is known of the result so far, as JSON text; the end of the job writes over it. */
int registry_job_tell(struct registry *registry, const char *id, int64_t fence, const char *result,
                      struct err *err) MUST_CHECK;
/* A checkpoint of this step is in place. */
int registry_job_checkpoint(struct registry *registry, const char *id, int64_t fence, int64_t step,
                            struct err *err) MUST_CHECK;

/* The job's version row, made with status training the first time, and where its folder will be
 * published. A folder that lies there although the row says training is the leftover of a crash
 * between rename and commit: it is removed, so call this at the start, not after publishing. */
int registry_job_version(struct registry *registry, const char *id, int64_t fence,
                         struct arena *arena, struct version_row *row, char path[FS_PATH_BYTES_MAX],
                         struct err *err) MUST_CHECK;

struct version_result {
    const char *metrics;  /* JSON text, NULL = {} */
    const char *checksum; /* SHA-256 of adapter.safetensors */
};
/* After the folder is in place: version ready and job completed, in one transaction. ERR_CORRUPT
 * when the folder is not there. */
int registry_job_publish(struct registry *registry, const char *id, int64_t fence,
                         const struct version_result *result, struct err *err) MUST_CHECK;
/* A job of another kind is done; result is JSON text or NULL. That of an evaluate, reproduce or
 * export job joins its version's evaluations in the same transaction. */
int registry_job_complete(struct registry *registry, const char *id, int64_t fence,
                          const char *result, struct err *err) MUST_CHECK;
/* The message is cut, not refused, past JOB_ERROR_CHARACTERS_MAX. */
int registry_job_fail(struct registry *registry, const char *id, int64_t fence, const char *message,
                      struct err *err) MUST_CHECK;
/* The worker stopped because it was asked to: cancelled. */
int registry_job_stopped(struct registry *registry, const char *id, int64_t fence,
                         struct err *err) MUST_CHECK;
/* The worker stops for its own reasons (SIGTERM) and may be resumed without counting against it. */
int registry_job_hand_back(struct registry *registry, const char *id, int64_t fence,
                           struct err *err) MUST_CHECK;

/* The worker is dead for certain; why ("killed by signal 9") goes into the message should the job
 * fail. *status is what became of it: queued, failed or cancelled; a job that had ended before is
 * left alone and *status tells how. */
int registry_job_died(struct registry *registry, const char *id, int64_t fence, const char *why,
                      enum job_status *status, struct err *err) MUST_CHECK;

/* At the start of serve, under the storage lock: every running job whose worker was a child of an
 * earlier serve, or whose process on this host is gone. *swept (may be NULL) counts them. */
int registry_sweep_jobs(struct registry *registry, int *swept, struct err *err) MUST_CHECK;

/* What one observer has heard of running jobs, on its own monotonic clock. One thread; zero it. A
 * gap of more than a minute between two looks (a closed lid, a stopped process) counts as one. */
struct job_watch {
    int64_t looked_ns;
    int n;
    struct {
        char id[UUID_BYTES];
        int64_t fence, silent_ns;
        char heartbeat_at[CLOCK_ISO_BYTES];
    } seen[JOB_WATCHED_MAX];
    int n_given_up;                      /* at this look; */
    int n_silent;                        /* of these for their silence: */
    int64_t silent_pid[JOB_WATCHED_MAX]; /* their processes may hang still */
};
/* Looks once at now_ns (clock_monotonic_ns()); jobs whose worker was silent too long, or whose
 * process on this host is gone without a parent of this boot to hear of it, are given up as the
 * header says. *given_up (may be NULL) counts them. */
int registry_watch_jobs(struct registry *registry, struct job_watch *watch, int64_t now_ns,
                        int *given_up, struct err *err) MUST_CHECK;

#endif
