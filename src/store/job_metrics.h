/* Table job_metrics: the series of a job. See models.h for what row functions share.
 *
 * A point is (job, name, step): written again after a resume it replaces the old one, which had the
 * same bits anyway.
 */
#ifndef STORE_JOB_METRICS_H
#define STORE_JOB_METRICS_H

#include "store/db.h"

struct metric_row {
    const char *name; /* loss, val_loss, learning_rate … */
    int64_t step;
    double value; /* NaN is kept as NULL */
    const char *wall_time;
};

/* Inside a write transaction, so that a batch is one commit. */
int metric_row_put(struct db *db, const char *job_id, const struct metric_row *row,
                   struct err *err) MUST_CHECK;
/* By step, then name; name NULL = all; only steps > after_step (-1 for all), at most limit. */
int metric_row_list(struct db *db, const char *job_id, const char *name, int64_t after_step,
                    int64_t limit, struct arena *arena, struct metric_row **rows, size_t *count,
                    struct err *err) MUST_CHECK;

#endif
