/* Asking for a pull, for whoever's route it is. */
#ifndef API_PULLS_H
#define API_PULLS_H

#include "api/hub.h"
#include "registry/bases.h"
#include "registry/pulls.h"

/* Queues it, or joins the job that pulls the same; as NULL: the id. Errors as registry_create_pull,
 * and ERR_UNAVAILABLE where no worker is. */
int pull_create(struct hub *hub, const struct repo_name *name, const char *as,
                const char *quantization, struct arena *arena, struct job_row *row,
                struct err *err) MUST_CHECK;

#endif
