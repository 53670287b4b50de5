/* Statements over job_metrics. */
#include "store/job_metrics.h"

#include "store/rows.h"

int metric_row_put(struct db *db, const char *job_id, const struct metric_row *row, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "metric.put",
                      "INSERT INTO job_metrics (job_id, name, step, value, wall_time) "
                      "VALUES (?, ?, ?, ?, ?) ON CONFLICT (job_id, name, step) "
                      "DO UPDATE SET value = excluded.value, wall_time = excluded.wall_time",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, job_id);
    db_bind_text(stmt, row->name);
    db_bind_int(stmt, row->step);
    db_bind_real(stmt, row->value);
    db_bind_text(stmt, row->wall_time);
    return db_run(stmt, NULL, err);
}

static int read_row(struct db_stmt *stmt, struct arena *arena, void *out, struct err *err)
{
    struct metric_row *row = out;

    (void)err;
    row->name = db_text(stmt, arena);
    row->step = db_int(stmt);
    row->value = db_real(stmt);
    row->wall_time = db_text(stmt, arena);
    return 0;
}

int metric_row_list(struct db *db, const char *job_id, const char *name, int64_t after_step,
                    int64_t limit, struct arena *arena, struct metric_row **rows, size_t *count,
                    struct err *err)
{
    struct db_stmt *stmt = NULL;
    void *found = NULL;
    int rc = db_query(db, "metric.list",
                      "SELECT name, step, value, wall_time FROM job_metrics WHERE job_id = ? "
                      "AND (? = '' OR name = ?) AND step > ? ORDER BY step, name LIMIT ?",
                      &stmt, err);

    *rows = NULL;
    *count = 0;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, job_id);
    db_bind_text(stmt, name ? name : "");
    db_bind_text(stmt, name ? name : "");
    db_bind_int(stmt, after_step);
    db_bind_int(stmt, limit);
    rc = rows_all(stmt, arena, read_row, sizeof **rows, &found, count, err);
    *rows = found;
    return rc;
}
