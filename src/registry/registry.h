/* The registry: what exists in the hub, and the rules that keep it true.
 *
 *   models.h    models            versions.h   their versions, publication
 *   datasets.h  datasets          bases.h      base weights
 *   jobs.h      submitting jobs   claims.h     running them: claim, heartbeat, finish, sweep
 *   checkpoints.h   how long what they left is kept
 *   resolve.h   naming a model    lineage.h    what came from what
 *
 * One `struct registry` per process, shared by all threads of its bounded pool; every call takes a
 * database connection, does its work in one transaction and gives it back, so calls block and must
 * stay off event threads. Two processes (serve and a worker) each open their own on the same
 * storage. Texts of rows live in the arena that the caller gives. Checks that reach the user carry
 * the sentences of the API: existence first (ERR_NOT_FOUND), then conflicts (ERR_CONFLICT).
 */
#ifndef REGISTRY_REGISTRY_H
#define REGISTRY_REGISTRY_H

#include "base/err.h"
#include "base/mem.h"
#include "registry/storage.h"
#include "store/db.h"

enum { REGISTRY_PAGE_MAX = 100, REGISTRY_JSON_BYTES_MAX = 1 << 20 };

struct registry;

struct registry_options {
    const char *database_url;
    const char *base_path, *models_path, *datasets_path; /* the last two may be NULL or "" */
    bool migrate; /* run missing migrations; else a database that lacks some is ERR_CONFLICT */
};

int registry_open(struct registry **registry, const struct registry_options *options,
                  struct err *err) MUST_CHECK;
void registry_close(struct registry *registry); /* NULL is fine; no call may be under way */

const struct storage *registry_storage(const struct registry *registry);
/* For health checks, `db status`, and timing hooks. */
struct db_pool *registry_pool(struct registry *registry);
/* A new UUID per registry_open: which start of which process wrote something. */
const char *registry_boot_id(const struct registry *registry);
/* One cheap query: 0, or why the database cannot be used. */
int registry_ping(struct registry *registry, struct err *err) MUST_CHECK;

#endif
