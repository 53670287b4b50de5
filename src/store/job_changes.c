/* Changes of a job's state, each one UPDATE whose WHERE names the state that it starts from, so a
 * change that comes too late touches nothing.
 *
 *   queued ──claim──→ running ──finish──→ completed | failed | cancelled
 *     ↑  └cancel_queued──────────────────────────────────────↗
 *     └──────release─────┘  (the worker died; a new claim gets a new fence)
 */
#include "store/jobs.h"

#include "store/rows.h"

#define HELD "WHERE id = ? AND fence = ? AND status = 'running'"

static int run_held(struct db_stmt *stmt, const char *id, int64_t fence, int64_t *changed,
                    struct err *err)
{
    db_bind_text(stmt, id);
    db_bind_int(stmt, fence);
    return db_run(stmt, changed, err);
}

int job_row_claim(struct db *db, const char *id, const struct job_claim *claim, int64_t *changed,
                  struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.claim",
                      "UPDATE training_jobs SET status = 'running', fence = ?, owner = ?, "
                      "boot_id = ?, worker_host = ?, worker_pid = ?, heartbeat_at = ?, "
                      "started_at = COALESCE(started_at, ?), waiting_for = NULL, "
                      "resume_step = checkpoint_step "
                      "WHERE id = ? AND status = 'queued'",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_int(stmt, claim->fence);
    db_bind_text(stmt, claim->owner);
    db_bind_text(stmt, claim->boot_id);
    db_bind_text(stmt, claim->worker_host);
    db_bind_int(stmt, claim->worker_pid);
    db_bind_text(stmt, claim->now);
    db_bind_text(stmt, claim->now);
    db_bind_text(stmt, id);
    return db_run(stmt, changed, err);
}

int job_row_touch(struct db *db, const char *id, int64_t fence, const char *now, int64_t *changed,
                  struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc =
        db_query(db, "job.touch", "UPDATE training_jobs SET heartbeat_at = ? " HELD, &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, now);
    return run_held(stmt, id, fence, changed, err);
}

int job_row_progress(struct db *db, const char *id, int64_t fence,
                     const struct job_progress *progress, const char *now, int64_t *changed,
                     struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.progress",
                      "UPDATE training_jobs SET step = ?, steps = ?, epoch = ?, loss = ?, "
                      "val_loss = ?, learning_rate = ?, tokens_per_second = ?, memory_bytes = ?, "
                      "eta_seconds = ?, bytes_per_second = ?, heartbeat_at = ? " HELD,
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_int(stmt, progress->step);
    db_bind_int(stmt, progress->steps);
    db_bind_real(stmt, progress->epoch);
    db_bind_real(stmt, progress->loss);
    db_bind_real(stmt, progress->val_loss);
    db_bind_real(stmt, progress->learning_rate);
    db_bind_real(stmt, progress->tokens_per_second);
    db_bind_int(stmt, progress->memory_bytes);
    db_bind_real(stmt, progress->eta_seconds);
    db_bind_real(stmt, progress->bytes_per_second);
    db_bind_text(stmt, now);
    return run_held(stmt, id, fence, changed, err);
}

int job_row_checkpoint(struct db *db, const char *id, int64_t fence, int64_t step, int64_t *changed,
                       struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.checkpoint", "UPDATE training_jobs SET checkpoint_step = ? " HELD,
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_int(stmt, step);
    return run_held(stmt, id, fence, changed, err);
}

int job_row_tell(struct db *db, const char *id, int64_t fence, const char *result, int64_t *changed,
                 struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.tell", "UPDATE training_jobs SET result = ? " HELD, &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, result);
    return run_held(stmt, id, fence, changed, err);
}

int job_row_waiting(struct db *db, const char *id, const char *waiting_for, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.waiting",
                      "UPDATE training_jobs SET waiting_for = ? WHERE id = ? AND status = 'queued'",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, waiting_for);
    db_bind_text(stmt, id);
    return db_run(stmt, NULL, err);
}

int job_row_set_version(struct db *db, const char *id, int64_t fence, const char *version_id,
                        int64_t *changed, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.set_version", "UPDATE training_jobs SET model_version_id = ? " HELD,
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, version_id);
    return run_held(stmt, id, fence, changed, err);
}

int job_row_finish(struct db *db, const char *id, int64_t fence, enum job_status status,
                   const char *error, const char *result, const char *now, int64_t *changed,
                   struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.finish",
                      "UPDATE training_jobs SET status = ?, error_message = ?, result = ?, "
                      "completed_at = ?, eta_seconds = NULL " HELD,
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, job_status_name(status));
    db_bind_text(stmt, error);
    db_bind_text(stmt, result);
    db_bind_text(stmt, now);
    return run_held(stmt, id, fence, changed, err);
}

int job_row_release(struct db *db, const char *id, int64_t fence, int64_t idle_resumes,
                    int64_t *changed, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.release",
                      "UPDATE training_jobs SET status = 'queued', idle_resumes = ?, "
                      "resumes = resumes + 1, owner = NULL, worker_pid = 0 " HELD,
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_int(stmt, idle_resumes);
    return run_held(stmt, id, fence, changed, err);
}

int job_row_cancel_queued(struct db *db, const char *id, const char *now, int64_t *changed,
                          struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.cancel_queued",
                      "UPDATE training_jobs SET status = 'cancelled', completed_at = ?, "
                      "waiting_for = NULL WHERE id = ? AND status = 'queued'",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, now);
    db_bind_text(stmt, id);
    return db_run(stmt, changed, err);
}

int job_row_ask_cancel(struct db *db, const char *id, int64_t *changed, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.ask_cancel",
                      "UPDATE training_jobs SET cancel_requested = 1 "
                      "WHERE id = ? AND status = 'running'",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    return db_run(stmt, changed, err);
}
