/* Statements over versions. A version is read first and its aliases after, when the first statement
 * is finished; lists are short (a page), so one small query each is cheap. */
#include "store/versions.h"

#include "store/rows.h"

#define COLUMNS                                                                                    \
    "id, model_id, version, number, status, metrics, evaluations, notes, artifact_path, "          \
    "checksum, mlflow_run_id, created_at"
#define SELECT_VERSIONS "SELECT " COLUMNS " FROM model_versions "

static int read_row(struct db_stmt *stmt, struct arena *arena, void *out, struct err *err)
{
    struct version_row *row = out;

    row->id = db_text(stmt, arena);
    row->model_id = db_text(stmt, arena);
    row->version = db_text(stmt, arena);
    row->number = db_int(stmt);
    const char *status = db_text(stmt, arena);
    row->metrics = db_text(stmt, arena);
    row->evaluations = db_text(stmt, arena);
    row->notes = db_text(stmt, arena);
    row->artifact_path = db_text(stmt, arena);
    row->checksum = db_text(stmt, arena);
    row->mlflow_run_id = db_text(stmt, arena);
    row->created_at = db_text(stmt, arena);
    row->aliases = NULL;
    row->n_aliases = 0;
    if (!row->id)
        return mem_err(err, 0);
    return version_status_parse(status, &row->status) ? 0 : rows_bad_word("status", status, err);
}

static int read_alias(struct db_stmt *stmt, struct arena *arena, void *row, struct err *err)
{
    (void)err;
    *(const char **)row = db_text(stmt, arena);
    return 0;
}

static int add_aliases(struct db *db, struct arena *arena, struct version_row *row, struct err *err)
{
    struct db_stmt *stmt = NULL;
    void *aliases = NULL;
    int rc = db_query(db, "version.aliases",
                      "SELECT alias FROM version_aliases WHERE version_id = ? ORDER BY alias",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, row->id);
    rc = rows_all(stmt, arena, read_alias, sizeof(const char *), &aliases, &row->n_aliases, err);
    row->aliases = aliases;
    return rc;
}

static int one(struct db *db, struct db_stmt *stmt, struct arena *arena, struct version_row *row,
               bool *found, struct err *err)
{
    int rc = rows_one(stmt, arena, read_row, row, found, err);

    return rc == 0 && *found ? add_aliases(db, arena, row, err) : rc;
}

int version_row_insert(struct db *db, const struct version_row *row, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "version.insert",
                      "INSERT INTO model_versions (" COLUMNS ") "
                      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, row->id);
    db_bind_text(stmt, row->model_id);
    db_bind_text(stmt, row->version);
    db_bind_int(stmt, row->number);
    db_bind_text(stmt, version_status_name(row->status));
    db_bind_text(stmt, row->metrics);
    db_bind_text(stmt, row->evaluations);
    db_bind_text(stmt, row->notes);
    db_bind_text(stmt, row->artifact_path);
    db_bind_text(stmt, row->checksum);
    db_bind_text(stmt, row->mlflow_run_id);
    db_bind_text(stmt, row->created_at);
    return db_run(stmt, NULL, err);
}

int version_row_get(struct db *db, const char *id, struct arena *arena, struct version_row *row,
                    struct err *err)
{
    struct db_stmt *stmt = NULL;
    bool found = false;
    int rc = db_query(db, "version.get", SELECT_VERSIONS "WHERE id = ?", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    rc = one(db, stmt, arena, row, &found, err);
    if (rc == 0 && !found)
        rc = err_set(err, ERR_NOT_FOUND, "Version %s not found", id);
    return rc;
}

int version_row_find(struct db *db, const char *model_id, const char *version, struct arena *arena,
                     struct version_row *row, bool *found, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "version.find", SELECT_VERSIONS "WHERE model_id = ? AND version = ?",
                      &stmt, err);

    *found = false;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, model_id);
    db_bind_text(stmt, version);
    return one(db, stmt, arena, row, found, err);
}

int version_row_by_alias(struct db *db, const char *model_id, const char *alias,
                         struct arena *arena, struct version_row *row, bool *found, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "version.by_alias",
                      SELECT_VERSIONS "WHERE id = (SELECT version_id FROM version_aliases "
                                      "WHERE model_id = ? AND alias = ?)",
                      &stmt, err);

    *found = false;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, model_id);
    db_bind_text(stmt, alias);
    return one(db, stmt, arena, row, found, err);
}

int version_row_by_checksum(struct db *db, const char *checksum, struct arena *arena,
                            struct version_row *row, bool *found, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "version.by_checksum",
                      SELECT_VERSIONS "WHERE checksum = ? AND status IN ('ready', 'archived') "
                                      "ORDER BY created_at DESC, id LIMIT 1",
                      &stmt, err);

    *found = false;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, checksum);
    return one(db, stmt, arena, row, found, err);
}

int version_row_newest_ready(struct db *db, const char *model_id, struct arena *arena,
                             struct version_row *row, bool *found, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "version.newest_ready",
                      SELECT_VERSIONS "WHERE model_id = ? AND status = 'ready' "
                                      "ORDER BY number DESC LIMIT 1",
                      &stmt, err);

    *found = false;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, model_id);
    return one(db, stmt, arena, row, found, err);
}

int version_row_list(struct db *db, const char *model_id, int64_t limit, int64_t offset,
                     struct arena *arena, struct version_row **rows, size_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    void *found = NULL;
    int rc = db_query(db, "version.list",
                      SELECT_VERSIONS "WHERE model_id = ? ORDER BY number DESC LIMIT ? OFFSET ?",
                      &stmt, err);

    *rows = NULL;
    *count = 0;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, model_id);
    db_bind_int(stmt, limit);
    db_bind_int(stmt, offset);
    rc = rows_all(stmt, arena, read_row, sizeof **rows, &found, count, err);
    *rows = found;
    for (size_t i = 0; i < *count && rc == 0; i++)
        rc = add_aliases(db, arena, &(*rows)[i], err);
    return rc;
}

int version_row_count(struct db *db, const char *model_id, int64_t *count, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "version.count", "SELECT COUNT(*) FROM model_versions WHERE model_id = ?",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, model_id);
    return rows_int(stmt, count, err);
}

int version_row_update(struct db *db, const struct version_row *row, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "version.update",
                      "UPDATE model_versions SET status = ?, metrics = ?, evaluations = ?, "
                      "notes = ?, artifact_path = ?, checksum = ?, mlflow_run_id = ? WHERE id = ?",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, version_status_name(row->status));
    db_bind_text(stmt, row->metrics);
    db_bind_text(stmt, row->evaluations);
    db_bind_text(stmt, row->notes);
    db_bind_text(stmt, row->artifact_path);
    db_bind_text(stmt, row->checksum);
    db_bind_text(stmt, row->mlflow_run_id);
    db_bind_text(stmt, row->id);
    return db_run(stmt, NULL, err);
}

int version_row_delete(struct db *db, const char *id, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "version.delete", "DELETE FROM model_versions WHERE id = ?", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    return db_run(stmt, NULL, err);
}

int version_alias_set(struct db *db, const char *model_id, const char *alias,
                      const char *version_id, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "version.alias_set",
                      "INSERT INTO version_aliases (model_id, alias, version_id) VALUES (?, ?, ?) "
                      "ON CONFLICT (model_id, alias) DO UPDATE SET version_id = "
                      "excluded.version_id",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, model_id);
    db_bind_text(stmt, alias);
    db_bind_text(stmt, version_id);
    return db_run(stmt, NULL, err);
}

int version_alias_clear(struct db *db, const char *version_id, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "version.alias_clear", "DELETE FROM version_aliases WHERE version_id = ?",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, version_id);
    return db_run(stmt, NULL, err);
}
