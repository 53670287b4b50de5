/* Adapters on disk: safetensors with mlx-lm's names and shapes.
 *
 * lora_a is (in, rank) and lora_b (rank, out): the transposes of the engine's own factors. The
 * bytes that are written depend on the factors alone (sorted keys, no time, no host).
 */
#ifndef ENGINE_ADAPTER_FILES_H
#define ENGINE_ADAPTER_FILES_H

#include "engine/engine.h"
#include "formats/tensor_view.h"

enum { ADAPTER_ERRORS_SHOWN_MAX = 4 }; /* wrong names or shapes listed in one message */

/* Reads an adapter for this base. Rank, targets and first layer are taken from the file; scale
 * comes from the version's manifest. ERR_INVALID lists what does not fit the base: unknown names,
 * wrong shapes, missing partners, gaps. */
int engine_adapter_load(struct engine_adapter **adapter, struct engine_model *model,
                        const char *path, float scale, struct err *err) MUST_CHECK;
/* The same of tensors that are at hand, sorted by name; messages begin with `what`. */
int engine_adapter_of(struct engine_adapter **adapter, struct engine_model *model,
                      const struct tensor_view *views, size_t n, const char *what, float scale,
                      struct err *err) MUST_CHECK;
/* Publishes the factors at path by one rename. */
int engine_adapter_save(struct engine_adapter *adapter, const char *path,
                        struct err *err) MUST_CHECK;

#endif
