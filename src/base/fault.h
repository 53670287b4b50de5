/* Faults on purpose: fail the Nth call of a kind, so tests can walk every failure path.
 *
 * Fallible places in base ask fault_hit(kind) first. Off (the default) it is one relaxed load.
 * Armed with fault_arm or the environment variable MLX_HUB_FAULT="malloc:17" ("kind:N", or
 * "kind:N+" for the Nth and all after, or "crash-KIND:N" to _exit(137) there), which children
 * inherit. Kinds that write (write, rename, fsync, mkdir) fail with ENOSPC.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum fault_kind {
    FAULT_MALLOC,
    FAULT_OPEN,
    FAULT_READ,
    FAULT_WRITE,
    FAULT_FSYNC,
    FAULT_RENAME,
    FAULT_MKDIR,
    FAULT_MMAP,
    FAULT_SPAWN,
    FAULT_KIND_COUNT
};

bool fault_hit(enum fault_kind kind); /* true: this call must fail */
void fault_arm(enum fault_kind kind, uint64_t nth, bool all_after);
void fault_disarm(void);
/* Calls of a kind counted while armed; arming starts at 0, disarming stops the count and keeps it.
 */
uint64_t fault_seen(enum fault_kind kind);
bool fault_fired(void); /* the armed fault has hit; kept until the next arming */
int fault_from_env(struct err *err) MUST_CHECK;

#endif
