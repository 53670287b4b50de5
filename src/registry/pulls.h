/* Jobs that pull a model from a model hub. Threads, arenas and errors as registry.h says. */
#ifndef REGISTRY_PULLS_H
#define REGISTRY_PULLS_H

#include "registry/registry.h"
#include "registry/repo.h"
#include "store/jobs.h"

struct pull_draft {
    const struct repo_name *name;
    const char *as;           /* the base's id */
    const char *quantization; /* 4bit, 8bit or none; NULL as for an import */
    int64_t queue_max;
};
/* Adds a job, or gives back the one that pulls the very same already (*joined). ERR_UNPROCESSABLE
 * for `as`; ERR_CONFLICT when something else is being pulled under that id, or a preset has it;
 * ERR_BUSY. */
int registry_create_pull(struct registry *registry, const struct pull_draft *draft,
                         struct arena *arena, struct job_row *row, bool *joined,
                         struct err *err) MUST_CHECK;

/* What a pull's config says; texts are the tree's. ERR_UNPROCESSABLE. */
struct pull_config {
    struct repo_name name;
    const char *as, *quantization; /* quantization may be NULL */
};
int pull_config_read(const json_t *tree, struct pull_config *config, struct err *err) MUST_CHECK;

#endif
