/* mlx-hub dataset check: a file before it is added, and what a model would learn from it. */
#ifndef CLI_DATASET_CHECK_H
#define CLI_DATASET_CHECK_H

#include "cli/command.h"

/* The action of mlx-hub dataset; EXIT_*. Its options are columns, model, row, max-seq-length and
 * mask-prompt. */
int dataset_check_run(const struct args *args, struct err *err);

#endif
