/* Registered models. Threads, arenas and errors as registry.h says. */
#ifndef REGISTRY_MODELS_H
#define REGISTRY_MODELS_H

#include "registry/registry.h"
#include "store/models.h"

enum { MODEL_DESCRIPTION_CHARACTERS_MAX = 2000, MODEL_BASE_CHARACTERS_MAX = 500 };

struct model_draft {
    const char *name;
    const char *task_type;   /* NULL = text-generation */
    const char *description; /* may be NULL */
    const char *base_model;  /* any id: the weights may come later */
    const char *tags;        /* JSON text, NULL = {} */
};
/* ERR_UNPROCESSABLE; ERR_CONFLICT "Model with name '…' already exists". */
int registry_create_model(struct registry *registry, const struct model_draft *draft,
                          struct arena *arena, struct model_row *row, struct err *err) MUST_CHECK;

/* ERR_NOT_FOUND "Model … not found". */
int registry_get_model(struct registry *registry, const char *id, struct arena *arena,
                       struct model_row *row, struct err *err) MUST_CHECK;
/* One page and the total of the filter, from one snapshot. */
int registry_list_models(struct registry *registry, const struct model_filter *filter,
                         struct arena *arena, struct model_row **rows, size_t *count,
                         int64_t *total, struct err *err) MUST_CHECK;

/* NULL leaves a field as it is. The folder stays through a new name. */
struct model_patch {
    const char *name, *task_type, *description, *base_model, *tags;
    bool clear_description;
};
/* Also ERR_CONFLICT when the base would change under versions. */
int registry_patch_model(struct registry *registry, const char *id, const struct model_patch *patch,
                         struct arena *arena, struct model_row *row, struct err *err) MUST_CHECK;
int registry_set_experiment(struct registry *registry, const char *id, const char *experiment_id,
                            struct err *err) MUST_CHECK;

/* Removes the model, its versions and their folder, and its finished jobs with their checkpoints.
 * ERR_CONFLICT while a job is queued or running. */
int registry_delete_model(struct registry *registry, const char *id, struct err *err) MUST_CHECK;

#endif
