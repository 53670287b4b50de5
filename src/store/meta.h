/* Small facts of the hub by name: its boot id, the last fence handed out. */
#ifndef STORE_META_H
#define STORE_META_H

#include "store/db.h"

/* *value NULL when the key is not there; else in the arena. */
int meta_get(struct db *db, const char *key, struct arena *arena, const char **value,
             struct err *err) MUST_CHECK;
int meta_put(struct db *db, const char *key, const char *value, struct err *err) MUST_CHECK;
/* Adds one to a counter that starts at 0 and gives the new value; inside a write transaction. */
int meta_count(struct db *db, const char *key, int64_t *value, struct err *err) MUST_CHECK;

#endif
