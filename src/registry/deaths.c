/* What becomes of a job whose worker is gone.
 *
 *   asked to cancel ─────────────────────────────→ cancelled
 *   silent, and no checkpoint ───────────────────→ failed: "Job timed out (no heartbeat)"
 *   resumed too often without a new checkpoint ──→ failed
 *   else ────────────────────────────────────────→ queued; its seq puts it before all others
 *
 * idle_resumes counts the resumes since the last new checkpoint; resume_step is the checkpoint that
 * the present run began from (set by the claim), so progress is checkpoint_step > resume_step.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "registry/claims_int.h"
#include "registry/registry_int.h"

enum { HOST_BYTES = 256, WHY_BYTES = 512 };
#define LOOK_GAP_NS (60LL * 1000000000LL)

enum cause { DIED, SILENT, HANDED_BACK };

/* What is to be cleaned up once it is written that these are gone. */
struct remains {
    int n;
    struct {
        char id[UUID_BYTES];
        int64_t pid;
        bool is_over; /* nobody will go on with the job */
    } jobs[JOB_WATCHED_MAX];
};

static int requeue(struct db *db, const struct job_row *job, int64_t idle, struct err *err)
{
    int64_t changed = 0;
    int rc = job_row_release(db, job->id, job->fence, idle, &changed, err);

    if (rc == 0)
        rc = claims_held(changed, job->id, err);
    if (rc == 0)
        log_event(LOG_WARNING, "registry", "requeued", "job=%s checkpoint_step=%lld idle=%lld",
                  job->id, (long long)job->checkpoint_step, (long long)idle);
    return rc;
}

static int give_up(struct db *db, const struct job_row *job, enum cause cause, const char *why,
                   struct arena *arena, enum job_status *status, struct err *err)
{
    char message[WHY_BYTES];
    bool progress = job->checkpoint_step > job->resume_step;
    int64_t idle = (progress ? 0 : job->idle_resumes) + 1;

    *status = JOB_FAILED;
    if (job->cancel_requested) {
        *status = JOB_CANCELLED;
        return claims_finish(db, job, JOB_CANCELLED, NULL, NULL, arena, err);
    }
    if (cause == SILENT && job->checkpoint_step == 0)
        return claims_finish(db, job, JOB_FAILED, "Job timed out (no heartbeat)", NULL, arena, err);
    if (cause == HANDED_BACK)
        idle = progress ? 0 : job->idle_resumes;
    if (idle > JOB_IDLE_RESUMES_MAX) {
        snprintf(message, sizeof message,
                 "The worker ended %d times without reaching a new checkpoint (step %lld): %s",
                 (int)idle, (long long)job->checkpoint_step, why);
        return claims_finish(db, job, JOB_FAILED, message, NULL, arena, err);
    }
    *status = JOB_QUEUED;
    return requeue(db, job, idle, err);
}

/* The same for a process that surely is gone. */
static int bury(struct db *db, const struct job_row *job, const char *why, struct arena *arena,
                struct remains *remains, enum job_status *status, struct err *err)
{
    int rc = give_up(db, job, DIED, why, arena, status, err);

    if (rc == 0) {
        int i = remains->n++;

        snprintf(remains->jobs[i].id, sizeof remains->jobs[i].id, "%s", job->id);
        remains->jobs[i].pid = job->worker_pid;
        remains->jobs[i].is_over = *status != JOB_QUEUED;
    }
    return rc;
}

static void clean_up(const struct registry *registry, const struct remains *remains)
{
    for (int i = 0; i < remains->n; i++) {
        storage_sweep_process(&registry->storage, remains->jobs[i].pid);
        if (remains->jobs[i].is_over)
            storage_sweep_job(&registry->storage, remains->jobs[i].id);
    }
}

static int died(struct db *db, const char *id, int64_t fence, const char *why,
                struct remains *remains, enum job_status *status, struct err *err)
{
    struct arena arena;
    struct job_row job;
    int rc;

    arena_init(&arena, 0);
    rc = job_row_get(db, id, &arena, &job, err);
    if (rc == 0 && job.status == JOB_RUNNING && job.fence == fence)
        rc = bury(db, &job, why, &arena, remains, status, err);
    else if (rc == 0)
        *status = job.status;
    arena_release(&arena);
    return rc;
}

int registry_job_died(struct registry *registry, const char *id, int64_t fence, const char *why,
                      enum job_status *status, struct err *err)
{
    struct db *db = NULL;
    struct remains remains = {0};
    int rc = registry_begin_write(registry, &db, err);

    *status = JOB_RUNNING;
    if (rc == 0)
        rc = died(db, id, fence, why, &remains, status, err);
    rc = registry_end(db, rc, err);
    if (rc == 0)
        clean_up(registry, &remains);
    return rc;
}

int registry_job_hand_back(struct registry *registry, const char *id, int64_t fence,
                           struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    struct job_row job;
    enum job_status status;
    int rc = registry_begin_write(registry, &db, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = job_row_get(db, id, &arena, &job, err);
    if (rc == 0)
        rc = claims_held(job.status == JOB_RUNNING && job.fence == fence, id, err);
    if (rc == 0)
        rc = give_up(db, &job, HANDED_BACK, "stopped", &arena, &status, err);
    rc = registry_end(db, rc, err);
    arena_release(&arena);
    return rc;
}

static int list_running(struct db *db, struct arena *arena, struct job_row **rows, size_t *count,
                        struct err *err)
{
    struct job_filter filter = {
        .status = "running", .oldest_first = true, .limit = JOB_WATCHED_MAX};

    return job_row_list(db, &filter, arena, rows, count, err);
}

/* --- sweep --- */

static bool process_gone(const struct job_row *job, const char *host)
{
    if (!job->worker_host || !host[0] || strcmp(job->worker_host, host) != 0)
        return false;
    return job->worker_pid > 0 && kill((pid_t)job->worker_pid, 0) != 0 && errno == ESRCH;
}

/* A child of this very process: its death will be heard. */
static bool is_mine(const struct registry *registry, const struct job_row *job)
{
    return job->boot_id && strcmp(job->boot_id, registry->boot_id) == 0;
}

static bool surely_dead(const struct registry *registry, const struct job_row *job,
                        const char *host)
{
    bool child = job->owner && strcmp(job->owner, "child") == 0;

    return !is_mine(registry, job) && (child || process_gone(job, host));
}

static int sweep(const struct registry *registry, struct db *db, struct arena *arena,
                 struct remains *remains, struct err *err)
{
    char host[HOST_BYTES];
    struct job_row *rows = NULL;
    size_t count = 0;
    enum job_status status;
    int rc = list_running(db, arena, &rows, &count, err);

    claims_host(host);
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (!surely_dead(registry, &rows[i], host))
            continue;
        rc = bury(db, &rows[i], "the hub stopped while it ran", arena, remains, &status, err);
    }
    return rc;
}

int registry_sweep_jobs(struct registry *registry, int *swept, struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    struct remains remains = {0};
    int rc = registry_begin_write(registry, &db, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = sweep(registry, db, &arena, &remains, err);
    rc = registry_end(db, rc, err);
    if (rc == 0)
        clean_up(registry, &remains);
    if (swept)
        *swept = rc == 0 ? remains.n : 0;
    arena_release(&arena);
    return rc;
}

/* --- watch --- */

/* How long this run of the job has been silent, after a look `gap_ns` since the last one. */
static int64_t silence(const struct job_watch *watch, const struct job_row *job, int64_t gap_ns)
{
    const char *heartbeat = job->heartbeat_at ? job->heartbeat_at : "";

    for (int i = 0; i < watch->n; i++)
        if (strcmp(watch->seen[i].id, job->id) == 0 && watch->seen[i].fence == job->fence &&
            strcmp(watch->seen[i].heartbeat_at, heartbeat) == 0)
            return watch->seen[i].silent_ns + gap_ns;
    return 0;
}

static void note(struct job_watch *watch, const struct job_row *job, int64_t silent_ns)
{
    int i = watch->n++;

    snprintf(watch->seen[i].id, sizeof watch->seen[i].id, "%s", job->id);
    snprintf(watch->seen[i].heartbeat_at, sizeof watch->seen[i].heartbeat_at, "%s",
             job->heartbeat_at ? job->heartbeat_at : "");
    watch->seen[i].fence = job->fence;
    watch->seen[i].silent_ns = silent_ns;
}

static int look(const struct registry *registry, struct db *db, const struct job_watch *before,
                struct job_watch *after, int64_t gap_ns, struct arena *arena,
                struct remains *remains, struct err *err)
{
    char host[HOST_BYTES];
    struct job_row *rows = NULL;
    size_t count = 0;
    enum job_status status;
    int rc = list_running(db, arena, &rows, &count, err);

    claims_host(host);
    for (size_t i = 0; i < count && rc == 0; i++) {
        int64_t silent_ns = silence(before, &rows[i], gap_ns);

        if (!is_mine(registry, &rows[i]) && process_gone(&rows[i], host)) {
            rc = bury(db, &rows[i], "its process is gone", arena, remains, &status, err);
            after->n_given_up++;
        } else if (silent_ns < JOB_SILENCE_NS) {
            note(after, &rows[i], silent_ns);
        } else {
            rc =
                give_up(db, &rows[i], SILENT, "no heartbeat for five minutes", arena, &status, err);
            after->silent_pid[after->n_silent++] = rows[i].worker_pid;
            after->n_given_up++;
        }
    }
    return rc;
}

int registry_watch_jobs(struct registry *registry, struct job_watch *watch, int64_t now_ns,
                        int *given_up, struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    struct job_watch after = {.looked_ns = now_ns};
    struct remains remains = {0};
    int64_t gap_ns = watch->n > 0 ? now_ns - watch->looked_ns : 0;
    int rc = registry_begin_write(registry, &db, err);

    arena_init(&arena, 0);
    if (gap_ns > LOOK_GAP_NS)
        gap_ns = LOOK_GAP_NS;
    if (rc == 0)
        rc = look(registry, db, watch, &after, gap_ns, &arena, &remains, err);
    rc = registry_end(db, rc, err);
    if (rc == 0)
        *watch = after;
    if (rc == 0)
        clean_up(registry, &remains);
    if (given_up)
        *given_up = rc == 0 ? after.n_given_up : 0;
    arena_release(&arena);
    return rc;
}
