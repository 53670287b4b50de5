/* Whether a training job fits: into the limit at all, and beside the models that are loaded now.
 *
 * The limit is one for runners and the training job together. What a job would hold is asked of a
 * child, which reads the headers of the weights. Blocking; any thread of the pool, the supervisor's
 * too.
 */
#ifndef API_MEMORY_H
#define API_MEMORY_H

#include <stdbool.h>

#include "base/settings.h"
#include "formats/train_config.h"
#include "infer/infer.h"
#include "registry/registry.h"

enum { MEMORY_TEXT_BYTES = 256 };

/* Bytes that a training job of this model would hold; 0 when that cannot be told (weights missing
 * or unreadable), which is for the job itself to say. */
uint64_t memory_of_training(struct registry *registry, const char *program, const char *model_id,
                            const struct train_config *config);
/* True when `bytes` do not fit beside the loaded models, with both numbers in text. */
bool memory_is_short(struct infer *infer, const struct settings *settings, uint64_t bytes,
                     char text[MEMORY_TEXT_BYTES]);

#endif
