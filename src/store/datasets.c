/* Statements over datasets. A dataset never changes: another content is another dataset. */
#include "store/datasets.h"

#include "store/rows.h"

#define COLUMNS                                                                                    \
    "id, name, path, checksum, schema_info, columns_map, shape, row_count, bytes, created_at"
#define SELECT_DATASETS "SELECT " COLUMNS " FROM datasets "

static int read_row(struct db_stmt *stmt, struct arena *arena, void *out, struct err *err)
{
    struct dataset_record *row = out;

    (void)err;
    row->id = db_text(stmt, arena);
    row->name = db_text(stmt, arena);
    row->path = db_text(stmt, arena);
    row->checksum = db_text(stmt, arena);
    row->schema_info = db_text(stmt, arena);
    row->columns = db_text(stmt, arena);
    row->shape = db_text(stmt, arena);
    row->rows = db_int(stmt);
    row->bytes = db_int(stmt);
    row->created_at = db_text(stmt, arena);
    return 0;
}

int dataset_record_insert(struct db *db, const struct dataset_record *row, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "dataset.insert",
                      "INSERT INTO datasets (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, row->id);
    db_bind_text(stmt, row->name);
    db_bind_text(stmt, row->path);
    db_bind_text(stmt, row->checksum);
    db_bind_text(stmt, row->schema_info);
    db_bind_text(stmt, row->columns);
    db_bind_text(stmt, row->shape);
    db_bind_int(stmt, row->rows);
    db_bind_int(stmt, row->bytes);
    db_bind_text(stmt, row->created_at);
    return db_run(stmt, NULL, err);
}

static int by(struct db *db, const char *name, const char *sql, const char *value,
              struct arena *arena, struct dataset_record *row, bool *found, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, name, sql, &stmt, err);

    *found = false;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, value);
    return rows_one(stmt, arena, read_row, row, found, err);
}

int dataset_record_get(struct db *db, const char *id, struct arena *arena,
                       struct dataset_record *row, struct err *err)
{
    bool found = false;
    int rc = by(db, "dataset.get", SELECT_DATASETS "WHERE id = ?", id, arena, row, &found, err);

    if (rc == 0 && !found)
        rc = err_set(err, ERR_NOT_FOUND, "Dataset %s not found", id);
    return rc;
}

int dataset_record_find(struct db *db, const char *name, struct arena *arena,
                        struct dataset_record *row, bool *found, struct err *err)
{
    return by(db, "dataset.find", SELECT_DATASETS "WHERE name = ?", name, arena, row, found, err);
}

int dataset_record_by_checksum(struct db *db, const char *checksum, struct arena *arena,
                               struct dataset_record *row, bool *found, struct err *err)
{
    return by(db, "dataset.by_checksum", SELECT_DATASETS "WHERE checksum = ?", checksum, arena, row,
              found, err);
}

int dataset_record_list(struct db *db, int64_t limit, int64_t offset, struct arena *arena,
                        struct dataset_record **rows, size_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    void *found = NULL;
    int rc =
        db_query(db, "dataset.list",
                 SELECT_DATASETS "ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?", &stmt, err);

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

int dataset_record_count(struct db *db, int64_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "dataset.count", "SELECT COUNT(*) FROM datasets", &stmt, err);

    return rc < 0 ? rc : rows_int(stmt, count, err);
}

int dataset_record_delete(struct db *db, const char *id, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "dataset.delete", "DELETE FROM datasets WHERE id = ?", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    return db_run(stmt, NULL, err);
}
