/* From a registered model, a version, a preset or a base to what inference needs to be told. */
#ifndef API_SPEC_H
#define API_SPEC_H

#include "api/hub.h"
#include "registry/resolve.h"

/* Fills in what names the model: base, adapter, template; the rest is zero but for the sampling's
 * defaults. Texts live in the arena. ERR_CONFLICT naming the command to run when the base's weights
 * are missing; ERR_CORRUPT when the version's folder is not what was published. */
int spec_of(struct hub *hub, const struct resolved_model *model, struct arena *arena,
            struct infer_spec *spec, struct err *err) MUST_CHECK;

#endif
