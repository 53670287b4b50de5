/* mlx-hub eval VERSION --dataset D: an evaluation that joins the version, and two side by side. */
#ifndef CLI_EVAL_DATASET_H
#define CLI_EVAL_DATASET_H

#include "cli/command.h"
#include "cli/hub.h"

/* EXIT_*. The command's options are dataset and against. */
int eval_dataset_run(const struct args *args, struct err *err);

/* Queues a job about a version ("evaluate", "reproduce") and follows it. *result is what it found,
 * from the version's evaluations; the caller's. ERR_INVALID with the job's reason when it failed.
 */
int version_task(struct hub *hub, const char *version, const char *what, const json_t *body,
                 bool quiet, json_t **result, struct err *err) MUST_CHECK;

#endif
