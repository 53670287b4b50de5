/* The shape of the database, moved forward in numbered steps.
 *
 * Each step is a script in store/migrations/, run once in its own transaction and noted in
 * schema_migrations with its SHA-256. Steps only go forward and are never edited: a step whose text
 * differs from the one that was run is ERR_CORRUPT naming it, and a database that a newer program
 * has moved on is ERR_CONFLICT naming both numbers. Two programs may migrate at once: the write
 * lock orders them and the second finds nothing to do.
 */
#ifndef STORE_MIGRATIONS_H
#define STORE_MIGRATIONS_H

#include "store/db.h"

enum { MIGRATIONS_MAX = 512 };

struct migration {
    int number; /* 1, 2, 3 … without a gap */
    const char *name;
    const char *sql;
};

/* All steps that this program knows, in order. */
const struct migration *migrations_all(size_t *count);

/* Runs what is missing; *applied (may be NULL) says how many. */
int migrations_run(struct db *db, int *applied, struct err *err) MUST_CHECK;
/* The same with steps of the caller's choice. */
int migrations_run_list(struct db *db, const struct migration *steps, size_t n, int *applied,
                        struct err *err) MUST_CHECK;

struct migration_state {
    int number;
    const char *name;
    const char *applied_at; /* NULL = pending */
};
/* Every known step and whether it was run; the rows live in the arena. Changes nothing, so it works
 * on an empty database too. Fails like migrations_run on a newer or differing one. */
int migrations_status(struct db *db, struct arena *arena, struct migration_state **states,
                      size_t *count, struct err *err) MUST_CHECK;

#endif
