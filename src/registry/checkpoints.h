/* The bound on checkpoints that nobody resumes. Threads, arenas and errors as registry.h says.
 *
 * A job that fails or is cancelled keeps its checkpoints, so that it can be resumed. They go with
 * the model that it belongs to, with a resume that completes, and otherwise here.
 */
#ifndef REGISTRY_CHECKPOINTS_H
#define REGISTRY_CHECKPOINTS_H

#include "registry/registry.h"

/* Removes the checkpoint folders whose job and every resume of it ended `days` or more before
 * now_us (clock_wall_us()), or completed, whenever that was, and folders as old whose job is not
 * there any more. days -1: only those of completed jobs. *removed (may be NULL) counts them. A
 * folder that cannot be removed is logged and left for the next time. */
int registry_expire_checkpoints(struct registry *registry, int days, int64_t now_us, int *removed,
                                struct err *err) MUST_CHECK;

#endif
