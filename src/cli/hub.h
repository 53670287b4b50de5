/* Commands speak HTTP with a hub: the running one that the settings name or, where none runs, one
 * that this command hosts in its own process for as long as it takes. One mechanism, the same
 * answers. One thread's.
 */
#ifndef CLI_HUB_H
#define CLI_HUB_H

#include <stdbool.h>

#include "base/err.h"
#include "cli/command.h"
#include "cli/remote.h"

struct serve;

struct hub {
    struct remote remote;
    struct serve *own; /* NULL: a server that was running before */
};

/* Finds the hub at HOST:PORT of the settings, else starts one in this process on a free port over
 * the same storage, with workers when the command needs them. ERR_CONFLICT names the holder when
 * another process has the storage and no server answers. From here on Ctrl-C is the command's to
 * handle (interrupt.h). */
int hub_open(struct hub *hub, const struct args *args, bool with_workers,
             struct err *err) MUST_CHECK;
/* Safe on a zeroed struct. A hub of our own is drained and stopped: a job that it trains is
 * checkpointed and queued again. */
void hub_close(struct hub *hub);
bool hub_is_remote(const struct hub *hub);

#endif
