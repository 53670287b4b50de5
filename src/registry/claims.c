/* How it works: every call is one transaction whose first change names job, fence and status
 * running; when that touches no row the caller does not hold the job and nothing else happens.
 *
 * Invariants:
 *  1. Fences come from one counter, so a later claim has a higher one.
 *  2. At most one job of a lane is running: a claim looks and takes in one write transaction.
 *  3. A version with status training belongs to a job that is queued or running: whatever ends the
 *     job ends the version in the same transaction.
 */
#include "registry/claims.h"

#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/utf8.h"
#include "registry/claims_int.h"
#include "registry/registry_int.h"
#include "registry/versions.h"
#include "store/meta.h"
#include "store/models.h"

enum { HOST_BYTES = 256 };

int claims_held(int64_t changed, const char *id, struct err *err)
{
    if (changed > 0)
        return 0;
    return err_set(err, ERR_CONFLICT, "Training job %s is no longer held by this worker", id);
}

void claims_host(char host[256])
{
    if (gethostname(host, HOST_BYTES) != 0)
        host[0] = '\0';
    host[HOST_BYTES - 1] = '\0';
}

/* --- claim --- */

static int is_running(struct db *db, enum job_lane lane, bool *running, struct err *err)
{
    struct job_filter filter = {.status = "running", .lane = lane};
    int64_t count = 0;
    int rc = job_row_count(db, &filter, &count, err);

    *running = count > 0;
    return rc;
}

static int claim(struct db *db, const struct job_worker *worker, enum job_lane lane,
                 struct arena *arena, struct job_row *row, bool *claimed, struct err *err)
{
    char host[HOST_BYTES];
    struct job_claim as = {0};
    bool running = false, found = false;
    int64_t changed = 0;
    int rc = is_running(db, lane, &running, err);

    if (rc == 0 && !running)
        rc = job_row_first(db, lane, arena, row, &found, err);
    if (rc < 0 || running || !found || (worker->is_child && row->waiting_for))
        return rc;
    if (worker->job_id && strcmp(worker->job_id, row->id) != 0)
        return 0;
    claims_host(host);
    as.owner = worker->is_child ? "child" : "foreign";
    as.boot_id = worker->boot_id;
    as.worker_host = worker->host ? worker->host : host;
    as.worker_pid = worker->pid;
    as.now = registry_now(arena, err);
    if (!as.now)
        return mem_err(err, 0);
    const char *id = row->id;
    rc = meta_count(db, "fence", &as.fence, err);
    if (rc == 0)
        rc = job_row_claim(db, id, &as, &changed, err);
    if (rc == 0)
        rc = job_row_get(db, id, arena, row, err);
    *claimed = rc == 0;
    return rc;
}

int registry_claim_job(struct registry *registry, const struct job_worker *worker,
                       struct arena *arena, struct job_row *row, bool *claimed, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_write(registry, &db, err);

    *claimed = false;
    if (rc == 0)
        rc = claim(db, worker, worker->lane == LANE_PULLS ? LANE_PULLS : LANE_WORK, arena, row,
                   claimed, err);
    if (rc == 0 && !*claimed && worker->lane == LANE_ALL)
        rc = claim(db, worker, LANE_PULLS, arena, row, claimed, err);
    rc = registry_end(db, rc, err);
    *claimed = *claimed && rc == 0;
    if (*claimed)
        log_event(LOG_INFO, "registry", "claimed", "job=%s fence=%lld resumes=%lld", row->id,
                  (long long)row->fence, (long long)row->resumes);
    return rc;
}

/* --- while it runs --- */

static int report(struct db *db, const char *id, int64_t fence, const struct job_progress *progress,
                  const struct metric_row *metrics, size_t n_metrics, bool *cancel, struct err *err)
{
    struct arena arena;
    struct job_row row;
    int64_t changed = 0;
    char now[CLOCK_ISO_BYTES];
    int rc;

    clock_format_iso(clock_wall_us(), now);
    rc = progress ? job_row_progress(db, id, fence, progress, now, &changed, err)
                  : job_row_touch(db, id, fence, now, &changed, err);
    if (rc == 0)
        rc = claims_held(changed, id, err);
    for (size_t i = 0; i < n_metrics && rc == 0; i++)
        rc = metric_row_put(db, id, &metrics[i], err);
    if (rc < 0 || !cancel)
        return rc;
    arena_init(&arena, 0);
    rc = job_row_get(db, id, &arena, &row, err);
    *cancel = rc == 0 && row.cancel_requested;
    arena_release(&arena);
    return rc;
}

int registry_job_report(struct registry *registry, const char *id, int64_t fence,
                        const struct job_progress *progress, const struct metric_row *metrics,
                        size_t n_metrics, bool *cancel, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_write(registry, &db, err);

    if (rc == 0)
        rc = report(db, id, fence, progress, metrics, n_metrics, cancel, err);
    return registry_end(db, rc, err);
}

int registry_job_tell(struct registry *registry, const char *id, int64_t fence, const char *result,
                      struct err *err)
{
    struct db *db = NULL;
    int64_t changed = 0;
    int rc = registry_begin_write(registry, &db, err);

    if (rc == 0)
        rc = job_row_tell(db, id, fence, result, &changed, err);
    if (rc == 0)
        rc = claims_held(changed, id, err);
    return registry_end(db, rc, err);
}

int registry_job_checkpoint(struct registry *registry, const char *id, int64_t fence, int64_t step,
                            struct err *err)
{
    struct db *db = NULL;
    int64_t changed = 0;
    int rc = registry_begin_write(registry, &db, err);

    if (rc == 0)
        rc = job_row_checkpoint(db, id, fence, step, &changed, err);
    if (rc == 0)
        rc = claims_held(changed, id, err);
    return registry_end(db, rc, err);
}

/* --- the version --- */

static int make_version(struct db *db, const struct job_row *job, struct arena *arena,
                        struct version_row *row, struct err *err)
{
    char text[VERSION_TEXT_BYTES];
    int64_t changed = 0;
    int rc;

    memset(row, 0, sizeof *row);
    row->id = registry_uuid(arena, err);
    row->created_at = registry_now(arena, err);
    if (!row->id || !row->created_at)
        return mem_err(err, 0);
    row->model_id = job->model_id;
    row->status = VERSION_TRAINING;
    row->metrics = "{}";
    row->evaluations = "[]";
    rc = model_row_take_number(db, job->model_id, &row->number, err);
    if (rc < 0)
        return rc;
    version_text(row->number, text);
    row->version = arena_strdup(arena, text);
    if (!row->version)
        return mem_err(err, sizeof text);
    rc = version_row_insert(db, row, err);
    if (rc == 0)
        rc = job_row_set_version(db, job->id, job->fence, row->id, &changed, err);
    return rc < 0 ? rc : claims_held(changed, job->id, err);
}

/* The job as it stands, if this fence holds it. */
static int get_held(struct db *db, const char *id, int64_t fence, struct arena *arena,
                    struct job_row *job, struct err *err)
{
    int rc = job_row_get(db, id, arena, job, err);

    if (rc < 0)
        return rc;
    return claims_held(job->fence == fence && job->status == JOB_RUNNING, id, err);
}

static int version_of(struct registry *registry, struct db *db, const char *id, int64_t fence,
                      struct arena *arena, struct version_row *row, char path[FS_PATH_BYTES_MAX],
                      struct err *err)
{
    struct job_row job;
    struct model_row model;
    int rc = get_held(db, id, fence, arena, &job, err);

    if (rc == 0 && !job.model_id)
        rc = err_set(err, ERR_INTERNAL, "Training job %s has no model", id);
    if (rc == 0)
        rc = model_row_get(db, job.model_id, arena, &model, err);
    if (rc == 0)
        rc = job.model_version_id ? version_row_get(db, job.model_version_id, arena, row, err)
                                  : make_version(db, &job, arena, row, err);
    return rc < 0 ? rc : storage_version(&registry->storage, model.folder, row->version, path, err);
}

int registry_job_version(struct registry *registry, const char *id, int64_t fence,
                         struct arena *arena, struct version_row *row, char path[FS_PATH_BYTES_MAX],
                         struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_write(registry, &db, err);

    if (rc == 0)
        rc = version_of(registry, db, id, fence, arena, row, path, err);
    rc = registry_end(db, rc, err);
    if (rc == 0 && row->status == VERSION_TRAINING && fs_exists(path))
        rc = fs_remove_tree(path, err);
    return rc;
}

/* --- ends --- */

int claims_fail_version(struct db *db, const struct job_row *job, struct arena *arena,
                        struct err *err)
{
    struct version_row version;
    int rc;

    if (job->kind != JOB_TRAIN || !job->model_version_id)
        return 0;
    rc = version_row_get(db, job->model_version_id, arena, &version, err);
    if (rc < 0 || version.status != VERSION_TRAINING)
        return rc;
    version.status = VERSION_FAILED;
    return version_row_update(db, &version, err);
}

/* At most n characters of text, in the arena. */
static const char *cut(const char *text, size_t n, struct arena *arena)
{
    size_t length = strlen(text), at = 0;
    uint32_t code_point;

    for (size_t characters = 0; at < length && characters < n; characters++) {
        size_t bytes = utf8_decode(text + at, length - at, &code_point);

        at += bytes ? bytes : 1;
    }
    return arena_strndup(arena, text, at);
}

int claims_finish(struct db *db, const struct job_row *job, enum job_status status,
                  const char *message, const char *result, struct arena *arena, struct err *err)
{
    int64_t changed = 0;
    const char *now = registry_now(arena, err);
    const char *shown = message ? cut(message, JOB_ERROR_CHARACTERS_MAX, arena) : NULL;
    int rc;

    if (!now || (message && !shown))
        return mem_err(err, 0);
    rc = job_row_finish(db, job->id, job->fence, status, shown, result, now, &changed, err);
    if (rc == 0)
        rc = claims_held(changed, job->id, err);
    if (rc == 0 && status != JOB_COMPLETED)
        rc = claims_fail_version(db, job, arena, err);
    if (rc == 0)
        log_event(LOG_INFO, "registry", "job", "job=%s status=%s", job->id,
                  job_status_name(status));
    return rc;
}

static int end_job(struct registry *registry, const char *id, int64_t fence, enum job_status status,
                   const char *message, const char *result, struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    struct job_row job = {0};
    int rc;

    arena_init(&arena, 0);
    rc = result ? registry_json_object("result", result, "{}", &arena, &result, err) : 0;
    if (rc == 0)
        rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = get_held(db, id, fence, &arena, &job, err);
    if (rc == 0 && status == JOB_COMPLETED && result && job.model_version_id &&
        (job.kind == JOB_EVALUATE || job.kind == JOB_REPRODUCE || job.kind == JOB_EXPORT))
        rc = versions_evaluated(db, job.model_version_id, result, &arena, err);
    if (rc == 0)
        rc = claims_finish(db, &job, status, message, result, &arena, err);
    rc = registry_end(db, rc, err);
    arena_release(&arena);
    return rc;
}

int registry_job_complete(struct registry *registry, const char *id, int64_t fence,
                          const char *result, struct err *err)
{
    return end_job(registry, id, fence, JOB_COMPLETED, NULL, result, err);
}

int registry_job_fail(struct registry *registry, const char *id, int64_t fence, const char *message,
                      struct err *err)
{
    return end_job(registry, id, fence, JOB_FAILED, message, NULL, err);
}

int registry_job_stopped(struct registry *registry, const char *id, int64_t fence, struct err *err)
{
    return end_job(registry, id, fence, JOB_CANCELLED, NULL, NULL, err);
}

/* --- publication --- */

static int make_ready(struct registry *registry, struct db *db, const struct job_row *job,
                      const struct version_result *result, const char *metrics, struct arena *arena,
                      struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    struct version_row version;
    struct model_row model;
    int rc = job->model_version_id
                 ? version_row_get(db, job->model_version_id, arena, &version, err)
                 : err_set(err, ERR_INTERNAL, "Training job %s has no version", job->id);

    if (rc == 0)
        rc = model_row_get(db, version.model_id, arena, &model, err);
    if (rc == 0)
        rc = storage_version(&registry->storage, model.folder, version.version, path, err);
    if (rc == 0 && !fs_is_dir(path))
        rc = err_set(err, ERR_CORRUPT, "The folder of version %s is not there: %s", version.version,
                     path);
    if (rc < 0)
        return rc;
    version.status = VERSION_READY;
    version.metrics = metrics;
    version.checksum = result->checksum;
    version.artifact_path = path;
    return version_row_update(db, &version, err);
}

static int publish(struct registry *registry, struct db *db, const char *id, int64_t fence,
                   const struct version_result *result, struct arena *arena, struct err *err)
{
    struct job_row job = {0};
    const char *metrics = NULL;
    int rc = registry_json_object("metrics", result->metrics, "{}", arena, &metrics, err);

    if (rc == 0)
        rc = get_held(db, id, fence, arena, &job, err);
    if (rc == 0)
        rc = make_ready(registry, db, &job, result, metrics, arena, err);
    return rc < 0 ? rc : claims_finish(db, &job, JOB_COMPLETED, NULL, NULL, arena, err);
}

int registry_job_publish(struct registry *registry, const char *id, int64_t fence,
                         const struct version_result *result, struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    int rc = registry_begin_write(registry, &db, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = publish(registry, db, id, fence, result, &arena, err);
    rc = registry_end(db, rc, err);
    arena_release(&arena);
    return rc;
}
