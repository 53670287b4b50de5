/* Statements over base models. A row never changes: another blob is another import. */
#include "store/base_models.h"

#include "store/rows.h"

#define COLUMNS                                                                                    \
    "id, format, architecture, parameters, quantisation, context_length, bytes, sha256, "          \
    "is_folder, source, details, created_at"
#define SELECT_BASES "SELECT " COLUMNS " FROM base_models "

static int read_row(struct db_stmt *stmt, struct arena *arena, void *out, struct err *err)
{
    struct base_row *row = out;

    (void)err;
    row->id = db_text(stmt, arena);
    row->format = db_text(stmt, arena);
    row->architecture = db_text(stmt, arena);
    row->parameters = db_int(stmt);
    row->quantisation = db_text(stmt, arena);
    row->context_length = db_int(stmt);
    row->bytes = db_int(stmt);
    row->sha256 = db_text(stmt, arena);
    row->is_folder = db_int(stmt) != 0;
    row->source = db_text(stmt, arena);
    row->details = db_text(stmt, arena);
    row->created_at = db_text(stmt, arena);
    return 0;
}

int base_row_insert(struct db *db, const struct base_row *row, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "base.insert",
                      "INSERT INTO base_models (" COLUMNS ") "
                      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, row->id);
    db_bind_text(stmt, row->format);
    db_bind_text(stmt, row->architecture);
    db_bind_int(stmt, row->parameters);
    db_bind_text(stmt, row->quantisation);
    db_bind_int(stmt, row->context_length);
    db_bind_int(stmt, row->bytes);
    db_bind_text(stmt, row->sha256);
    db_bind_int(stmt, row->is_folder);
    db_bind_text(stmt, row->source);
    db_bind_text(stmt, row->details);
    db_bind_text(stmt, row->created_at);
    return db_run(stmt, NULL, err);
}

int base_row_find(struct db *db, const char *id, struct arena *arena, struct base_row *row,
                  bool *found, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "base.find", SELECT_BASES "WHERE id = ?", &stmt, err);

    *found = false;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    return rows_one(stmt, arena, read_row, row, found, err);
}

int base_row_list(struct db *db, int64_t limit, int64_t offset, struct arena *arena,
                  struct base_row **rows, size_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    void *found = NULL;
    int rc = db_query(db, "base.list", SELECT_BASES "ORDER BY id LIMIT ? OFFSET ?", &stmt, err);

    *rows = NULL;
    *count = 0;
    if (rc < 0)
        return rc;
    db_bind_int(stmt, limit);
    db_bind_int(stmt, offset);
    rc = rows_all(stmt, arena, read_row, sizeof **rows, &found, count, err);
    *rows = found;
    return rc;
}

int base_row_count(struct db *db, int64_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "base.count", "SELECT COUNT(*) FROM base_models", &stmt, err);

    return rc < 0 ? rc : rows_int(stmt, count, err);
}

int base_row_sharing(struct db *db, const char *sha256, int64_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "base.sharing", "SELECT COUNT(*) FROM base_models WHERE sha256 = ?",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, sha256);
    return rows_int(stmt, count, err);
}

int base_row_delete(struct db *db, const char *id, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "base.delete", "DELETE FROM base_models WHERE id = ?", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    return db_run(stmt, NULL, err);
}
