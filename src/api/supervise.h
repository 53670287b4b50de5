/* The workers of this hub: children that train, started when the first job comes, restarted when
 * they die; and one that pulls, as long as there is something to pull.
 *
 * One thread does it all. It hears of a child's death from waitpid, tells the registry at once, so
 * that the job is taken up from its last checkpoint, and starts another worker: immediately after a
 * single death, later and later while they die young. It also looks at the heartbeats of workers
 * that are nobody's children, and it keeps the job's side of the memory limit (memory.h): the head
 * of the queue is granted to a worker once its memory is free. Now and then it removes checkpoints
 * that nobody has resumed for CHECKPOINT_DAYS.
 */
#ifndef API_SUPERVISE_H
#define API_SUPERVISE_H

#include "base/err.h"
#include "base/settings.h"
#include "registry/registry.h"

enum {
    SUPERVISE_WORKERS_MAX = 64,
    SUPERVISE_WATCH_MS = 10000,    /* between looks at heartbeats */
    SUPERVISE_EXPIRE_MS = 3600000, /* between looks for checkpoints that nobody resumed */
    SUPERVISE_MEMORY_MS = 500,     /* between looks at memory, while a job waits for it */
    SUPERVISE_BUSY_MS = 200,       /* between looks at the queue, while a job runs or may start */
    SUPERVISE_GRANT_MS = 2000,     /* a job is granted again when nobody has taken it for so long */
    SUPERVISE_BACK_OFF_MAX_MS = 30000,
    SUPERVISE_YOUNG_MS = 60000, /* who lived longer died of something else */
    SUPERVISE_STOP_MS = 30000   /* for a checkpoint, when asked to stop */
};

struct infer;
struct supervisor;

/* n_workers of `program` (NULL = this one), and one for pulls; settings, registry and infer are
 * borrowed. */
int supervisor_new(struct supervisor **supervisor, const struct settings *settings,
                   const char *program, int n_workers, struct registry *registry,
                   struct infer *infer, struct err *err) MUST_CHECK;
/* There may be work. From any thread, never blocks; NULL is fine. */
void supervisor_poke(struct supervisor *supervisor);
/* Asks the workers to checkpoint and end, without waiting. NULL is fine. */
void supervisor_ask_to_stop(struct supervisor *supervisor);
/* Children that train and are alive. */
int supervisor_alive(struct supervisor *supervisor);
/* Waits for them, then ends who is left. NULL is fine. */
void supervisor_free(struct supervisor *supervisor);

#endif
