/* Reading jobs, and adding one. Changes of a job's state are in job_changes.c. */
#include "store/jobs.h"

#include "store/jobs_int.h"
#include "store/rows.h"

#define SELECT_JOBS "SELECT " JOB_COLUMNS " FROM training_jobs "
#define WHERE_FILTER                                                                               \
    "WHERE (? = '' OR status = ?) AND (? = '' OR model_id = ?) AND (? = '' OR kind = ?) "          \
    "AND (? <> 'work' OR kind <> 'pull') AND (? <> 'pulls' OR kind = 'pull') "

static void read_progress(struct db_stmt *stmt, struct job_progress *progress)
{
    progress->step = db_int(stmt);
    progress->steps = db_int(stmt);
    progress->epoch = db_real(stmt);
    progress->loss = db_real(stmt);
    progress->val_loss = db_real(stmt);
    progress->learning_rate = db_real(stmt);
    progress->tokens_per_second = db_real(stmt);
    progress->memory_bytes = db_int(stmt);
    progress->eta_seconds = db_real(stmt);
    progress->bytes_per_second = db_real(stmt);
}

int job_row_read(struct db_stmt *stmt, struct arena *arena, void *out, struct err *err)
{
    struct job_row *row = out;

    row->id = db_text(stmt, arena);
    row->seq = db_int(stmt);
    const char *kind = db_text(stmt, arena);
    row->model_id = db_text(stmt, arena);
    row->dataset_id = db_text(stmt, arena);
    row->val_dataset_id = db_text(stmt, arena);
    row->dataset_checksum = db_text(stmt, arena);
    row->model_version_id = db_text(stmt, arena);
    const char *status = db_text(stmt, arena);
    row->config = db_text(stmt, arena);
    row->result = db_text(stmt, arena);
    row->error_message = db_text(stmt, arena);
    row->waiting_for = db_text(stmt, arena);
    row->resumed_from = db_text(stmt, arena);
    row->cancel_requested = db_int(stmt) != 0;
    row->fence = db_int(stmt);
    row->owner = db_text(stmt, arena);
    row->boot_id = db_text(stmt, arena);
    row->worker_host = db_text(stmt, arena);
    row->worker_pid = db_int(stmt);
    row->checkpoint_step = db_int(stmt);
    row->resume_step = db_int(stmt);
    row->resumes = db_int(stmt);
    row->idle_resumes = db_int(stmt);
    read_progress(stmt, &row->progress);
    row->created_at = db_text(stmt, arena);
    row->started_at = db_text(stmt, arena);
    row->completed_at = db_text(stmt, arena);
    row->heartbeat_at = db_text(stmt, arena);
    if (!job_kind_parse(kind, &row->kind))
        return rows_bad_word("kind", kind, err);
    return job_status_parse(status, &row->status) ? 0 : rows_bad_word("status", status, err);
}

int job_row_insert(struct db *db, const struct job_row *row, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.insert",
                      "INSERT INTO training_jobs (id, seq, kind, model_id, dataset_id, "
                      "val_dataset_id, dataset_checksum, model_version_id, status, config, "
                      "waiting_for, resumed_from, created_at) "
                      "SELECT ?, COALESCE(MAX(seq), 0) + 1, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, "
                      "? "
                      "FROM training_jobs",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, row->id);
    db_bind_text(stmt, job_kind_name(row->kind));
    db_bind_text(stmt, row->model_id);
    db_bind_text(stmt, row->dataset_id);
    db_bind_text(stmt, row->val_dataset_id);
    db_bind_text(stmt, row->dataset_checksum);
    db_bind_text(stmt, row->model_version_id);
    db_bind_text(stmt, row->config);
    db_bind_text(stmt, row->waiting_for);
    db_bind_text(stmt, row->resumed_from);
    db_bind_text(stmt, row->created_at);
    return db_run(stmt, NULL, err);
}

int job_row_get(struct db *db, const char *id, struct arena *arena, struct job_row *row,
                struct err *err)
{
    struct db_stmt *stmt = NULL;
    bool found = false;
    int rc = db_query(db, "job.get", SELECT_JOBS "WHERE id = ?", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    rc = rows_one(stmt, arena, job_row_read, row, &found, err);
    if (rc == 0 && !found)
        rc = err_set(err, ERR_NOT_FOUND, "Training job %s not found", id);
    return rc;
}

int job_row_of_version(struct db *db, const char *version_id, struct arena *arena,
                       struct job_row *row, bool *found, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.of_version",
                      SELECT_JOBS "WHERE model_version_id = ? AND kind = 'train' "
                                  "ORDER BY seq DESC LIMIT 1",
                      &stmt, err);

    *found = false;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, version_id);
    return rows_one(stmt, arena, job_row_read, row, found, err);
}

static void bind_filter(struct db_stmt *stmt, const struct job_filter *filter)
{
    static const char *const lanes[] = {
        [LANE_ALL] = "", [LANE_WORK] = "work", [LANE_PULLS] = "pulls"};
    const char *const values[] = {filter->status, filter->model_id, filter->kind,
                                  lanes[filter->lane]};

    for (int i = 0; i < 4; i++) {
        db_bind_text(stmt, values[i] ? values[i] : "");
        db_bind_text(stmt, values[i] ? values[i] : "");
    }
}

int job_row_list(struct db *db, const struct job_filter *filter, struct arena *arena,
                 struct job_row **rows, size_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    void *found = NULL;
    int rc = db_query(db, "job.list",
                      filter->oldest_first
                          ? SELECT_JOBS WHERE_FILTER "ORDER BY seq LIMIT ? OFFSET ?"
                          : SELECT_JOBS WHERE_FILTER "ORDER BY seq DESC LIMIT ? OFFSET ?",
                      &stmt, err);

    *rows = NULL;
    *count = 0;
    if (rc < 0)
        return rc;
    bind_filter(stmt, filter);
    db_bind_int(stmt, filter->limit);
    db_bind_int(stmt, filter->offset);
    rc = rows_all(stmt, arena, job_row_read, sizeof **rows, &found, count, err);
    *rows = found;
    return rc;
}

int job_row_count(struct db *db, const struct job_filter *filter, int64_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc =
        db_query(db, "job.count", "SELECT COUNT(*) FROM training_jobs " WHERE_FILTER, &stmt, err);

    if (rc < 0)
        return rc;
    bind_filter(stmt, filter);
    return rows_int(stmt, count, err);
}

int job_row_active_of_model(struct db *db, const char *model_id, int64_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.active_of_model",
                      "SELECT COUNT(*) FROM training_jobs "
                      "WHERE status IN ('queued', 'running') AND model_id = ?",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, model_id);
    return rows_int(stmt, count, err);
}

int job_row_active_of_dataset(struct db *db, const char *dataset_id, int64_t *count,
                              struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "job.active_of_dataset",
                      "SELECT COUNT(*) FROM training_jobs WHERE status IN ('queued', 'running') "
                      "AND (dataset_id = ? OR val_dataset_id = ?)",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, dataset_id);
    db_bind_text(stmt, dataset_id);
    return rows_int(stmt, count, err);
}

static int read_line(struct db_stmt *stmt, struct arena *arena, void *out, struct err *err)
{
    struct job_line *line = out;

    (void)err;
    line->n = db_int(stmt);
    line->active = db_int(stmt);
    line->completed = db_int(stmt);
    line->last_ended_at = db_text(stmt, arena);
    return 0;
}

int job_row_line(struct db *db, const char *id, struct arena *arena, struct job_line *line,
                 struct err *err)
{
    struct db_stmt *stmt = NULL;
    bool found = false;
    int rc = db_query(db, "job.line",
                      "WITH RECURSIVE line (id) AS (SELECT id FROM training_jobs WHERE id = ? "
                      "UNION SELECT j.id FROM training_jobs j JOIN line ON j.resumed_from = "
                      "line.id) SELECT COUNT(*), "
                      "COALESCE(SUM(CASE WHEN status IN ('queued', 'running') THEN 1 ELSE 0 END), "
                      "0), COALESCE(SUM(CASE WHEN status = 'completed' THEN 1 ELSE 0 END), 0), "
                      "COALESCE(MAX(completed_at), '') "
                      "FROM training_jobs WHERE id IN (SELECT id FROM line)",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    return rows_one(stmt, arena, read_line, line, &found, err);
}

int job_row_first(struct db *db, enum job_lane lane, struct arena *arena, struct job_row *row,
                  bool *found, struct err *err)
{
    struct job_filter filter = {.status = "queued", .lane = lane, .oldest_first = true, .limit = 1};
    struct job_row *rows = NULL;
    size_t count = 0;
    int rc = job_row_list(db, &filter, arena, &rows, &count, err);

    *found = rc == 0 && count > 0;
    if (*found)
        *row = rows[0];
    return rc;
}
