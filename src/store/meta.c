/* One row per fact. A counter is a number written as text. */
#include "store/meta.h"

#include <stdlib.h>

#include "store/rows.h"

static int read_value(struct db_stmt *stmt, struct arena *arena, void *row, struct err *err)
{
    (void)err;
    *(const char **)row = db_text(stmt, arena);
    return 0;
}

int meta_get(struct db *db, const char *key, struct arena *arena, const char **value,
             struct err *err)
{
    struct db_stmt *stmt = NULL;
    bool found = false;
    int rc = db_query(db, "meta.get", "SELECT value FROM meta WHERE key = ?", &stmt, err);

    *value = NULL;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, key);
    return rows_one(stmt, arena, read_value, value, &found, err);
}

int meta_put(struct db *db, const char *key, const char *value, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "meta.put",
                      "INSERT INTO meta (key, value) VALUES (?, ?) "
                      "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, key);
    db_bind_text(stmt, value);
    return db_run(stmt, NULL, err);
}

int meta_count(struct db *db, const char *key, int64_t *value, struct err *err)
{
    struct arena arena;
    const char *text = NULL;
    char *next = NULL;
    int rc;

    arena_init(&arena, 0);
    rc = meta_get(db, key, &arena, &text, err);
    if (rc == 0) {
        *value = (text ? strtoll(text, NULL, 10) : 0) + 1;
        next = arena_printf(&arena, "%lld", (long long)*value);
        rc = next ? meta_put(db, key, next, err) : mem_err(err, 32);
    }
    arena_release(&arena);
    return rc;
}
