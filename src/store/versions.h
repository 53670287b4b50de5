/* Tables model_versions and version_aliases. See models.h for what row functions share. */
#ifndef STORE_VERSIONS_H
#define STORE_VERSIONS_H

#include "store/db.h"
#include "store/enums.h"

enum { VERSION_ALIASES_MAX = 64 };

struct version_row {
    const char *id, *model_id;
    const char *version; /* "1.2.0" */
    int64_t number;      /* 1, 2, 3 … within the model */
    enum version_status status;
    const char *metrics;     /* a JSON object */
    const char *evaluations; /* a JSON array */
    const char *notes;       /* may be NULL, as the next four */
    const char *artifact_path;
    const char *checksum; /* SHA-256 of adapter.safetensors */
    const char *mlflow_run_id;
    const char *created_at;
    const char **aliases; /* read only; sorted */
    size_t n_aliases;
};

int version_row_insert(struct db *db, const struct version_row *row, struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND "Version <id> not found". */
int version_row_get(struct db *db, const char *id, struct arena *arena, struct version_row *row,
                    struct err *err) MUST_CHECK;
/* By its text within a model. */
int version_row_find(struct db *db, const char *model_id, const char *version, struct arena *arena,
                     struct version_row *row, bool *found, struct err *err) MUST_CHECK;
int version_row_by_alias(struct db *db, const char *model_id, const char *alias,
                         struct arena *arena, struct version_row *row, bool *found,
                         struct err *err) MUST_CHECK;
/* The newest whose adapter has this checksum, ready or archived, of any model. */
int version_row_by_checksum(struct db *db, const char *checksum, struct arena *arena,
                            struct version_row *row, bool *found, struct err *err) MUST_CHECK;
int version_row_newest_ready(struct db *db, const char *model_id, struct arena *arena,
                             struct version_row *row, bool *found, struct err *err) MUST_CHECK;
/* Newest first. */
int version_row_list(struct db *db, const char *model_id, int64_t limit, int64_t offset,
                     struct arena *arena, struct version_row **rows, size_t *count,
                     struct err *err) MUST_CHECK;
int version_row_count(struct db *db, const char *model_id, int64_t *count,
                      struct err *err) MUST_CHECK;
/* Writes every column but id, model_id, version, number and created_at; not the aliases. */
int version_row_update(struct db *db, const struct version_row *row, struct err *err) MUST_CHECK;
int version_row_delete(struct db *db, const char *id, struct err *err) MUST_CHECK;

/* Points the alias at this version, away from any other of its model. */
int version_alias_set(struct db *db, const char *model_id, const char *alias,
                      const char *version_id, struct err *err) MUST_CHECK;
int version_alias_clear(struct db *db, const char *version_id, struct err *err) MUST_CHECK;

#endif
