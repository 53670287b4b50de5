/* Naming a model: what a client's `model` means. Threads, arenas and errors as registry.h says.
 *
 * In this order, exact names before parsed ones:
 *   a registered model's name   its version with alias production, else its newest ready version,
 *                               else its base alone
 *   a preset's name             its base and what is the preset's own
 *   a base model's id           that base
 *   name@1.2.0                  that version of the registered model
 *   name:alias                  the version with that alias; name:latest is the newest ready one,
 *                               else the base alone; <preset>:latest is that preset and
 *                               <base id>:latest that base
 *   org/name:Q4_K_M             that base, when the file that it was made of is called so
 *   hf.co/<any of these>        the same, as Ollama's clients go on calling what they pulled
 */
#ifndef REGISTRY_RESOLVE_H
#define REGISTRY_RESOLVE_H

#include "registry/registry.h"
#include "store/base_models.h"
#include "store/models.h"
#include "store/presets.h"
#include "store/versions.h"

struct resolved_model {
    bool is_registered; /* else only base_id says something */
    struct model_row model;
    bool has_version; /* else the base alone answers */
    struct version_row version;
    bool has_preset; /* then it is not registered */
    struct preset_row preset;
    const char *base_id;  /* in the arena, as the texts of the rows */
    bool has_weights;     /* the base was imported */
    struct base_row base; /* when has_weights */
};

/* ERR_NOT_FOUND "Model … not found"; ERR_CONFLICT when the version named is not ready. Weights may
 * be missing: registry_base_path says so with the command to run. */
int registry_resolve_model(struct registry *registry, const char *name, struct arena *arena,
                           struct resolved_model *out, struct err *err) MUST_CHECK;
/* By ids, as POST /inference names it: version_id NULL = production alias, newest ready, base. */
int registry_resolve_ids(struct registry *registry, const char *model_id, const char *version_id,
                         struct arena *arena, struct resolved_model *out,
                         struct err *err) MUST_CHECK;

#endif
