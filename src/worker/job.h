/* One claimed job, from its row to a published version or a reason why not. */
#ifndef WORKER_JOB_H
#define WORKER_JOB_H

#include <stdatomic.h>

#include "base/settings.h"
#include "registry/claims.h"

/* Runs `row`, which was just claimed, to its end and writes that end to the registry. *stop set
 * from a signal handler makes it checkpoint and hand the job back. An error means that the registry
 * could not be told; what went wrong with the job itself is in the job. */
int job_run(struct registry *registry, const struct settings *settings, const struct job_row *row,
            const atomic_bool *stop, struct err *err) MUST_CHECK;

#endif
