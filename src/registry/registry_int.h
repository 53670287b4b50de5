/* What the files of the registry share. Private to registry.
 *
 * Pattern of a call:
 *     rc = registry_begin_write(registry, &db, err);
 *     if (rc == 0)
 *         rc = …(db, …);
 *     return registry_end(db, rc, err);
 */
#ifndef REGISTRY_REGISTRY_INT_H
#define REGISTRY_REGISTRY_INT_H

#include "base/clock.h"
#include "base/hash.h"
#include "registry/registry.h"

struct registry {
    struct db_pool *pool;
    struct storage storage;
    char boot_id[UUID_BYTES];
};

int registry_begin_read(struct registry *registry, struct db **db, struct err *err) MUST_CHECK;
int registry_begin_write(struct registry *registry, struct db **db, struct err *err) MUST_CHECK;
/* Commits when rc is 0, else rolls back; gives the connection back. db NULL: returns rc. */
int registry_end(struct db *db, int rc, struct err *err) MUST_CHECK;

/* Into the arena; NULL with err set. */
const char *registry_now(struct arena *arena, struct err *err);
const char *registry_uuid(struct arena *arena, struct err *err);

/* ERR_UNPROCESSABLE unless text (NULL gives `fallback`) is one JSON object of a bounded size; the
 * compact form goes to the arena. */
int registry_json_object(const char *field, const char *text, const char *fallback,
                         struct arena *arena, const char **out, struct err *err) MUST_CHECK;

/* The lock of blobs/, of all processes on this storage: held from the moment that a blob is in
 * place until its row is committed, and from the moment that a row is gone until its blob is. Else
 * an import could adopt a blob that a delete is about to remove. Both are a rename or an unlink and
 * one commit; copying goes on outside. */
int registry_lock_blobs(struct registry *registry, int *lock, struct err *err) MUST_CHECK;
/* Removes a blob that no row has; the lock is held. What cannot be removed is logged. */
void registry_drop_unused_blob(struct registry *registry, const char *sha256);
/* ERR_CONFLICT when a preset has that name. */
int registry_check_no_preset(struct db *db, const char *name, struct arena *arena,
                             struct err *err) MUST_CHECK;

struct model_row;
struct version_row;
/* A model's version by its text or id. ERR_NOT_FOUND for either. */
int versions_find(struct db *db, const char *model_id, const char *version, struct arena *arena,
                  struct model_row *model, struct version_row *row, struct err *err) MUST_CHECK;
/* Appends a JSON object to the version's evaluations. */
int versions_evaluated(struct db *db, const char *version_id, const char *evaluation,
                       struct arena *arena, struct err *err) MUST_CHECK;

#endif
