/* Statements over models. One select list serves get, find and list, read by read_row. */
#include "store/models.h"

#include <string.h>

#include "store/rows.h"

#define SELECT_MODELS                                                                              \
    "SELECT id, name, folder, task_type, description, base_model, tags, mlflow_experiment_id, "    \
    "next_number, created_at, updated_at, "                                                        \
    "(SELECT COUNT(*) FROM model_versions v WHERE v.model_id = models.id) FROM models "
#define WHERE_FILTER                                                                               \
    "WHERE (? = '' OR task_type = ?) AND (? = '%%' OR LOWER(name) LIKE ? ESCAPE '\\' "             \
    "OR LOWER(COALESCE(description, '')) LIKE ? ESCAPE '\\') "
#define PAGE "LIMIT ? OFFSET ?"

static const char *const sorts[] = {"-created_at", "created_at",  "name",
                                    "-name",       "-updated_at", "updated_at"};

bool model_sort_parse(const char *text, enum model_sort *sort)
{
    for (int i = 0; i < (int)(sizeof sorts / sizeof sorts[0]); i++)
        if (strcmp(sorts[i], text) == 0) {
            *sort = (enum model_sort)i;
            return true;
        }
    return false;
}

static int read_row(struct db_stmt *stmt, struct arena *arena, void *out, struct err *err)
{
    struct model_row *row = out;

    row->id = db_text(stmt, arena);
    row->name = db_text(stmt, arena);
    row->folder = db_text(stmt, arena);
    const char *task = db_text(stmt, arena);
    row->description = db_text(stmt, arena);
    row->base_model = db_text(stmt, arena);
    row->tags = db_text(stmt, arena);
    row->mlflow_experiment_id = db_text(stmt, arena);
    row->next_number = db_int(stmt);
    row->created_at = db_text(stmt, arena);
    row->updated_at = db_text(stmt, arena);
    row->version_count = db_int(stmt);
    return task_type_parse(task, &row->task_type) ? 0 : rows_bad_word("task_type", task, err);
}

int model_row_insert(struct db *db, const struct model_row *row, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "model.insert",
                      "INSERT INTO models (id, name, folder, task_type, description, base_model, "
                      "tags, mlflow_experiment_id, next_number, created_at, updated_at) "
                      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, row->id);
    db_bind_text(stmt, row->name);
    db_bind_text(stmt, row->folder);
    db_bind_text(stmt, task_type_name(row->task_type));
    db_bind_text(stmt, row->description);
    db_bind_text(stmt, row->base_model);
    db_bind_text(stmt, row->tags);
    db_bind_text(stmt, row->mlflow_experiment_id);
    db_bind_int(stmt, row->next_number);
    db_bind_text(stmt, row->created_at);
    db_bind_text(stmt, row->updated_at);
    return db_run(stmt, NULL, err);
}

int model_row_get(struct db *db, const char *id, struct arena *arena, struct model_row *row,
                  struct err *err)
{
    struct db_stmt *stmt = NULL;
    bool found = false;
    int rc = db_query(db, "model.get", SELECT_MODELS "WHERE id = ?", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    rc = rows_one(stmt, arena, read_row, row, &found, err);
    if (rc == 0 && !found)
        rc = err_set(err, ERR_NOT_FOUND, "Model %s not found", id);
    return rc;
}

int model_row_find(struct db *db, const char *name, struct arena *arena, struct model_row *row,
                   bool *found, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "model.find", SELECT_MODELS "WHERE name = ?", &stmt, err);

    *found = false;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, name);
    return rows_one(stmt, arena, read_row, row, found, err);
}

static int bind_filter(struct db_stmt *stmt, const struct model_filter *filter, struct arena *arena,
                       struct err *err)
{
    const char *task = filter->task_type ? filter->task_type : "";
    const char *like = rows_like(arena, filter->q ? filter->q : "");

    if (!like)
        return mem_err(err, 0);
    db_bind_text(stmt, task);
    db_bind_text(stmt, task);
    db_bind_text(stmt, like);
    db_bind_text(stmt, like);
    db_bind_text(stmt, like);
    return 0;
}

int model_row_list(struct db *db, const struct model_filter *filter, struct arena *arena,
                   struct model_row **rows, size_t *count, struct err *err)
{
    static const char *const texts[] = {
        SELECT_MODELS WHERE_FILTER "ORDER BY created_at DESC, id DESC " PAGE,
        SELECT_MODELS WHERE_FILTER "ORDER BY created_at, id " PAGE,
        SELECT_MODELS WHERE_FILTER "ORDER BY name " PAGE,
        SELECT_MODELS WHERE_FILTER "ORDER BY name DESC " PAGE,
        SELECT_MODELS WHERE_FILTER "ORDER BY updated_at DESC, id DESC " PAGE,
        SELECT_MODELS WHERE_FILTER "ORDER BY updated_at, id " PAGE,
    };
    struct db_stmt *stmt = NULL;
    void *found = NULL;
    int rc = db_query(db, "model.list", texts[filter->sort], &stmt, err);

    *rows = NULL;
    *count = 0;
    if (rc < 0)
        return rc;
    rc = bind_filter(stmt, filter, arena, err);
    if (rc < 0)
        return db_finish(stmt, rc, err);
    db_bind_int(stmt, filter->limit);
    db_bind_int(stmt, filter->offset);
    rc = rows_all(stmt, arena, read_row, sizeof **rows, &found, count, err);
    *rows = found;
    return rc;
}

int model_row_count(struct db *db, const struct model_filter *filter, int64_t *count,
                    struct err *err)
{
    struct db_stmt *stmt = NULL;
    struct arena arena;
    int rc = db_query(db, "model.count", "SELECT COUNT(*) FROM models " WHERE_FILTER, &stmt, err);

    if (rc < 0)
        return rc;
    arena_init(&arena, 0);
    rc = bind_filter(stmt, filter, &arena, err);
    rc = rc < 0 ? db_finish(stmt, rc, err) : rows_int(stmt, count, err);
    arena_release(&arena);
    return rc;
}

int model_row_update(struct db *db, const struct model_row *row, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "model.update",
                      "UPDATE models SET name = ?, task_type = ?, description = ?, base_model = ?, "
                      "tags = ?, mlflow_experiment_id = ?, updated_at = ? WHERE id = ?",
                      &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, row->name);
    db_bind_text(stmt, task_type_name(row->task_type));
    db_bind_text(stmt, row->description);
    db_bind_text(stmt, row->base_model);
    db_bind_text(stmt, row->tags);
    db_bind_text(stmt, row->mlflow_experiment_id);
    db_bind_text(stmt, row->updated_at);
    db_bind_text(stmt, row->id);
    return db_run(stmt, NULL, err);
}

int model_row_delete(struct db *db, const char *id, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = db_query(db, "model.delete", "DELETE FROM models WHERE id = ?", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    return db_run(stmt, NULL, err);
}

int model_row_folder_taken(struct db *db, const char *folder, bool *taken, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int64_t count = 0;
    int rc = db_query(db, "model.folder",
                      "SELECT COUNT(*) FROM models WHERE LOWER(folder) = LOWER(?)", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, folder);
    rc = rows_int(stmt, &count, err);
    *taken = count > 0;
    return rc;
}

static int read_text(struct db_stmt *stmt, struct arena *arena, void *row, struct err *err)
{
    (void)err;
    *(const char **)row = db_text(stmt, arena);
    return 0;
}

int model_row_using_base(struct db *db, const char *base_model, struct arena *arena,
                         const char **name, struct err *err)
{
    struct db_stmt *stmt = NULL;
    bool found = false;
    int rc =
        db_query(db, "model.using_base",
                 "SELECT name FROM models WHERE base_model = ? ORDER BY name LIMIT 1", &stmt, err);

    *name = NULL;
    if (rc < 0)
        return rc;
    db_bind_text(stmt, base_model);
    return rows_one(stmt, arena, read_text, name, &found, err);
}

int model_row_take_number(struct db *db, const char *id, int64_t *number, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc =
        db_query(db, "model.number", "SELECT next_number FROM models WHERE id = ?", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    rc = rows_int(stmt, number, err);
    if (rc == 0 && *number < 1)
        rc = err_set(err, ERR_NOT_FOUND, "Model %s not found", id);
    if (rc == 0)
        rc = db_query(db, "model.take_number",
                      "UPDATE models SET next_number = next_number + 1 WHERE id = ?", &stmt, err);
    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    return db_run(stmt, NULL, err);
}
