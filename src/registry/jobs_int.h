/* Shared by jobs.c, pulls.c and bases.c. Private to registry. */
#ifndef REGISTRY_JOBS_INT_H
#define REGISTRY_JOBS_INT_H

#include "base/mem.h"
#include "store/jobs.h"

/* An empty row of this kind, with an id and the time. */
int jobs_new_row(enum job_kind kind, struct arena *arena, struct job_row *row,
                 struct err *err) MUST_CHECK;
/* Into the queue, unless that holds queue_max jobs (ERR_BUSY); row is then as it is stored. */
int jobs_insert(struct db *db, int64_t queue_max, struct arena *arena, struct job_row *row,
                struct err *err) MUST_CHECK;
/* Whether a job's config says that it makes a base model of this name. */
bool jobs_make_base(const char *config, const char *as);

#endif
