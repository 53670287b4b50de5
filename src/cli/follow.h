/* Watching a job until it ends: its events become a progress bar on stderr. */
#ifndef CLI_FOLLOW_H
#define CLI_FOLLOW_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "cli/hub.h"

/* Follows until the job is final, Ctrl-C comes (ERR_CANCELLED), or the hub is gone. *job is the row
 * as it ended, with the version that it made under "version" (null when none); the caller's. quiet
 * shows nothing. */
int follow_job(struct hub *hub, const char *id, bool quiet, json_t **job,
               struct err *err) MUST_CHECK;

/* The same for a job that is of no use without the command: Ctrl-C cancels it. */
int follow_or_cancel(struct hub *hub, const char *id, bool quiet, json_t **job,
                     struct err *err) MUST_CHECK;

/* The end of a command that follows a job: follows it, prints the result (as JSON when asked) and
 * what to do next. EXIT_DONE when the job completed; after Ctrl-C, EXIT_INTERRUPTED with a line
 * that says where the job is now. */
int follow_and_report(const struct args *args, struct hub *hub, const char *id, struct err *err);

/* Whether a job of this kind can be resumed: those that train or pull. */
bool job_can_resume(const json_t *job);

#endif
