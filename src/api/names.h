/* Everything that a client may name as `model`: registered models, their versions and aliases,
 * presets, and base models.
 */
#ifndef API_NAMES_H
#define API_NAMES_H

#include "api/hub.h"
#include "registry/resolve.h"

enum { NAMES_MAX = 10000 };

struct model_name {
    const char *id; /* as it is named: "chat", "chat@1.0.0", "chat:production", "org/base" */
    /* As Ollama's clients have it, who take `chat` and `chat:latest` for one: with that tag where
     * there is none. It is id where the two are different versions. */
    const char *tagged;
    const char *base_model; /* id of the weights under it */
    struct base_row base;   /* id NULL: never imported */
    const char *source;     /* of a preset: what it was made of; else base_model */
    const char *parameters; /* of a preset, a JSON object; or NULL */
    const char *template;   /* of a version or preset; NULL: the base's own */
    const char *digest;     /* SHA-256 of what answers: adapter, preset or base; may be NULL */
    int64_t bytes;          /* of the weights and the adapter */
    const char *created_at;
};

/* In the arena: models with their ready versions and aliases by name (and `name:latest`, where
 * `name` is another version), then presets, then bases that no model and no preset of the same name
 * hides. Each is what a request of that id gets. ERR_TOO_LARGE over NAMES_MAX. */
int names_list(struct hub *hub, struct arena *arena, struct model_name **out, size_t *count,
               struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND when nothing has that name. */
int names_find(struct hub *hub, const char *id, struct arena *arena, struct model_name *out,
               struct err *err) MUST_CHECK;

#endif
