/* The one memory limit, seen from jobs: what a job would hold, whether that is free, and who must
 * go or wait.
 *
 *   submitted ─▶ can it ever fit?  no: refused (422, both numbers); a job that was queued before
 * the limit was lowered runs and fails by itself, and holds nobody up head of the queue ─▶
 * memory_take ─▶ free, after idle models were ended: it may be claimed └─▶ busy models are in the
 * way: it waits, and says so with both numbers; after JOB_PATIENCE they take nothing new until it
 * starts running ─▶ what it was estimated to hold counts when a model is loaded ended ─▶
 * memory_recheck, or the supervisor's next look, gives it back
 *
 * What a job would hold is asked of a child, which reads the headers of the weights. Blocking; any
 * thread of the pool, the supervisor's too.
 */
#ifndef API_MEMORY_H
#define API_MEMORY_H

#include <stdbool.h>

#include "base/settings.h"
#include "formats/train_config.h"
#include "infer/infer.h"
#include "registry/registry.h"
#include "store/jobs.h"

enum { MEMORY_TEXT_BYTES = 256 };

/* The program that is asked (NULL: this one), and for how many threads (MLX_HUB_THREADS; 0: all
 * cores). */
struct memory_asker {
    const char *program;
    int threads;
};

/* Bytes that a training job of this model on this dataset (NULL: without rows) would hold; 0 when
 * that cannot be told (weights missing or unreadable), which is for the job itself to say.
 * ERR_UNSUPPORTED when the weights are not what the config needs. */
int memory_of_training(struct registry *registry, const struct memory_asker *asker,
                       const char *model_id, const char *dataset_id,
                       const struct train_config *config, uint64_t *bytes,
                       struct err *err) MUST_CHECK;
/* The same for a job of any kind, as its row says: evaluations and reproductions by the version's
 * manifest, those that write weights by the weights that they read. */
uint64_t memory_of_job(struct registry *registry, const struct memory_asker *asker,
                       const struct job_row *row);

/* ERR_UNPROCESSABLE, with both numbers, for a job about a version or one that resumes which can
 * never fit. What writes weights holds as little as it must, and always may. */
int memory_check(struct registry *registry, const struct memory_asker *asker,
                 const struct job_row *row, double limit_gb, struct err *err) MUST_CHECK;

/* Whether `bytes` will not fit before busy models come to rest; with both numbers in text. */
bool memory_is_short(struct infer *infer, uint64_t bytes, char text[MEMORY_TEXT_BYTES]);
/* Takes the head's bytes out of the limit (infer_reserve; insist: it has waited for busy models as
 * long as JOB_PATIENCE says). True: it may start; else text says for what it waits. */
bool memory_take(struct infer *infer, const char *job_id, uint64_t bytes, bool insist,
                 char text[MEMORY_TEXT_BYTES]);
/* infer_on_short's: gives back what is held for a job that has ended. ctx: struct hub. */
void memory_recheck(void *hub);

#endif
