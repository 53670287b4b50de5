/* The worker: takes jobs from the queue and trains, one at a time.
 *
 * A process of its own: a child of serve (is_child: it dies with serve, and takes the jobs that
 * serve grants through the control socket), or started by hand on a host that shares the storage. A
 * crash here interrupts a job, never the hub; the job is taken up again from its last checkpoint.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <stdbool.h>

#include "base/err.h"
#include "base/settings.h"

struct worker_options {
    bool is_child; /* descriptor PROC_CONTROL_FD is serve's socket */
    bool once;     /* return when the queue is empty */
    bool pulls;    /* a child's lane: pulls, and its end when there was none for WORKER_IDLE_MS */
};

enum { WORKER_IDLE_MS = 10000 };

/* Runs until serve is gone, or SIGTERM or SIGINT has come (a running job is checkpointed and handed
 * back), or, with once, nothing is queued. *n_jobs: how many were claimed, whatever became of them.
 */
int worker_run(const struct settings *settings, const struct worker_options *options, int *n_jobs,
               struct err *err) MUST_CHECK;

#endif
