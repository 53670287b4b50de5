/* What a preset puts into requests, whichever protocol they came by. Its adapter and template come
 * with spec_of; here are its parameters, system prompt and messages. Any other model changes
 * nothing.
 */
#ifndef API_PRESETS_H
#define API_PRESETS_H

#include <jansson.h>

#include "infer/infer.h"
#include "registry/resolve.h"

/* Sets what the preset's parameters say and `given`, the object of the request's own settings under
 * any protocol's names, does not. num_ctx is set if it is 0. */
int preset_sampling(const struct resolved_model *model, const json_t *given,
                    struct infer_sampling *sampling, int *num_ctx, struct err *err) MUST_CHECK;
/* Puts the preset's messages before the request's, behind a system message that these begin with,
 * and its system prompt before all where neither brings one. A request that brings one leaves out
 * the preset's. *messages is the caller's and replaced; NULL stays. */
int preset_messages(const struct resolved_model *model, json_t **messages,
                    struct err *err) MUST_CHECK;

#endif
