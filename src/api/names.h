/* Everything that a client may name as `model`: registered models, their versions and aliases, and
 * base models.
 */
#ifndef API_NAMES_H
#define API_NAMES_H

#include "api/hub.h"
#include "registry/resolve.h"

enum { NAMES_MAX = 10000 };

struct model_name {
    const char *id; /* as it is named: "chat", "chat@1.0.0", "chat:production", "org/base" */
    const char *base_model;     /* id of the weights under it */
    struct base_row base;       /* id NULL: never imported */
    const char *adapter_sha256; /* of the version that answers, or NULL */
    const char *created_at;
};

/* In the arena: models with their ready versions and aliases by name, then bases. ERR_TOO_LARGE
 * over NAMES_MAX. */
int names_list(struct hub *hub, struct arena *arena, struct model_name **out, size_t *count,
               struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND when nothing has that name. */
int names_find(struct hub *hub, const char *id, struct arena *arena, struct model_name *out,
               struct err *err) MUST_CHECK;

#endif
