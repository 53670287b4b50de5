/* Statements over presets. One select list serves find and list, read by read_row. */
#include "store/presets.h"

#include <math.h>

#include "store/rows.h"

#define COLUMNS                                                                                    \
    "name, base_model, source, adapter_sha256, adapter_scale, adapter_bytes, system, template, "   \
    "license, parameters, messages, digest, created_at"

static int read_row(struct db_stmt *stmt, struct arena *arena, void *out, struct err *err)
{
    struct preset_row *row = out;

    row->name = db_text(stmt, arena);
    row->base_model = db_text(stmt, arena);
    row->source = db_text(stmt, arena);
    row->adapter_sha256 = db_text(stmt, arena);
    row->adapter_scale = db_real(stmt);
    row->adapter_bytes = db_int(stmt);
    row->system = db_text(stmt, arena);
    row->template = db_text(stmt, arena);
    row->license = db_text(stmt, arena);
    row->parameters = db_text(stmt, arena);
    row->messages = db_text(stmt, arena);
    row->digest = db_text(stmt, arena);
    row->created_at = db_text(stmt, arena);
    return row->name && row->base_model && row->license && row->parameters && row->messages
               ? 0
               : mem_err(err, 0);
}

int preset_row_put(struct db *db, const struct preset_row *row, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = preset_row_delete(db, row->name, err);

    if (rc == 0)
        rc = db_query(db, "preset.insert",
                      "INSERT INTO presets (" COLUMNS ") "
                      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                      &stmt, err);
    if (rc < 0)
        return rc;
    db_bind_text(stmt, row->name);
    db_bind_text(stmt, row->base_model);
    db_bind_text(stmt, row->source);
    db_bind_text(stmt, row->adapter_sha256);
    db_bind_real(stmt, row->adapter_sha256 ? row->adapter_scale : NAN);
    db_bind_int(stmt, row->adapter_bytes);
    db_bind_text(stmt, row->system);
    db_bind_text(stmt, row->template);
    db_bind_text(stmt, row->license);
    db_bind_text(stmt, row->parameters);
    db_bind_text(stmt, row->messages);
    db_bind_text(stmt, row->digest);
    db_bind_text(stmt, row->created_at);
    return db_run(stmt, NULL, err);
}

int preset_row_find(struct db *db, const char *name, struct arena *arena, struct preset_row *row,
                    bool *found, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc =
        db_query(db, "preset.find", "SELECT " COLUMNS " FROM presets WHERE name = ?", &stmt, err);

    *found = false;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, name);
    return rows_one(stmt, arena, read_row, row, found, err);
}

int preset_row_list(struct db *db, struct arena *arena, struct preset_row **rows, size_t *count,
                    struct err *err)
{
    struct db_stmt *stmt = NULL;
    void *found = NULL;
    int rc =
        db_query(db, "preset.list", "SELECT " COLUMNS " FROM presets ORDER BY name", &stmt, err);

    *rows = NULL;
    *count = 0;
    if (rc < 0)
        return rc;
    rc = rows_all(stmt, arena, read_row, sizeof **rows, &found, count, err);
    *rows = found;
    return rc;
}

int preset_row_count(struct db *db, int64_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "preset.count", "SELECT COUNT(*) FROM presets", &stmt, err);

    return rc < 0 ? rc : rows_int(stmt, count, err);
}

int preset_row_delete(struct db *db, const char *name, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "preset.delete", "DELETE FROM presets WHERE name = ?", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, name);
    return db_run(stmt, NULL, err);
}

static int read_text(struct db_stmt *stmt, struct arena *arena, void *row, struct err *err)
{
    (void)err;
    *(const char **)row = db_text(stmt, arena);
    return 0;
}

int preset_row_using_base(struct db *db, const char *base_model, struct arena *arena,
                          const char **name, struct err *err)
{
    struct db_stmt *stmt = NULL;
    bool found = false;
    int rc =
        db_query(db, "preset.using_base",
                 "SELECT name FROM presets WHERE base_model = ? ORDER BY name LIMIT 1", &stmt, err);

    *name = NULL;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, base_model);
    return rows_one(stmt, arena, read_text, name, &found, err);
}

int preset_row_sharing(struct db *db, const char *sha256, int64_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "preset.sharing", "SELECT COUNT(*) FROM presets WHERE adapter_sha256 = ?",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, sha256);
    return rows_int(stmt, count, err);
}
