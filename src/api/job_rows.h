/* What a job would see of its rows, found out by a child before the job waits for its turn with
 * them: rows that the chat template refuses, and rows that leave nothing. Blocking; any thread.
 */
#ifndef API_JOB_ROWS_H
#define API_JOB_ROWS_H

#include "api/hub.h"
#include "base/mem.h"
#include "train/check.h"

/* how: the model's side of it and the limits; the dataset's is filled in. dataset_id may be NULL or
 * "". purpose: what the rows are there to do, for the message ("learn"). ERR_INVALID names the
 * first bad row as file:line, or says that none has a target. Nothing is said of a dataset that is
 * not there or has changed, which is for the registry to say, nor of one so large that it is read
 * when the job starts. */
int job_check_rows(struct hub *hub, const char *dataset_id, const struct check_request *how,
                   const char *purpose, struct arena *arena, struct err *err) MUST_CHECK;

#endif
