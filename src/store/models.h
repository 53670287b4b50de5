/* Table models: one row per registered model.
 *
 * Functions run on the caller's connection, in its transaction if it has one. Texts of a row that
 * was read live in the arena; times are ISO 8601 UTC. Rules (names, conflicts) are registry's.
 */
#ifndef STORE_MODELS_H
#define STORE_MODELS_H

#include "store/db.h"
#include "store/enums.h"

struct model_row {
    const char *id, *name;
    const char *folder; /* under models/; kept through renames */
    enum task_type task_type;
    const char *description; /* may be NULL */
    const char *base_model;
    const char *tags;                 /* a JSON object */
    const char *mlflow_experiment_id; /* may be NULL */
    int64_t next_number;              /* of the next version; never goes back */
    const char *created_at, *updated_at;
    int64_t version_count; /* read only */
};

enum model_sort {
    MODELS_NEWEST,
    MODELS_OLDEST,
    MODELS_BY_NAME,
    MODELS_BY_NAME_DOWN,
    MODELS_BY_UPDATE,
    MODELS_BY_UPDATE_UP
};
/* "-created_at" (newest), "created_at", "name", "-name", "-updated_at", "updated_at". */
bool model_sort_parse(const char *text, enum model_sort *sort);

struct model_filter {
    const char *task_type; /* word, or NULL */
    const char *q;         /* in name or description, case of ASCII ignored; or NULL */
    enum model_sort sort;
    int64_t limit, offset;
};

int model_row_insert(struct db *db, const struct model_row *row, struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND "Model <id> not found". */
int model_row_get(struct db *db, const char *id, struct arena *arena, struct model_row *row,
                  struct err *err) MUST_CHECK;
int model_row_find(struct db *db, const char *name, struct arena *arena, struct model_row *row,
                   bool *found, struct err *err) MUST_CHECK;
int model_row_list(struct db *db, const struct model_filter *filter, struct arena *arena,
                   struct model_row **rows, size_t *count, struct err *err) MUST_CHECK;
int model_row_count(struct db *db, const struct model_filter *filter, int64_t *count,
                    struct err *err) MUST_CHECK;
/* Writes every column but id, folder, next_number and created_at. */
int model_row_update(struct db *db, const struct model_row *row, struct err *err) MUST_CHECK;
int model_row_delete(struct db *db, const char *id, struct err *err) MUST_CHECK;
/* Whether a model has this folder, case of ASCII ignored. */
int model_row_folder_taken(struct db *db, const char *folder, bool *taken,
                           struct err *err) MUST_CHECK;
/* A model whose base_model is this id: its name in the arena, or NULL. */
int model_row_using_base(struct db *db, const char *base_model, struct arena *arena,
                         const char **name, struct err *err) MUST_CHECK;
/* Hands out the next version number; inside a write transaction. */
int model_row_take_number(struct db *db, const char *id, int64_t *number,
                          struct err *err) MUST_CHECK;

#endif
