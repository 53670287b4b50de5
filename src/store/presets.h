/* Table presets: one row per name that was created over a base. See models.h for what row functions
 * share. */
#ifndef STORE_PRESETS_H
#define STORE_PRESETS_H

#include "store/db.h"

struct preset_row {
    const char *name;           /* without the tag that means none, :latest */
    const char *base_model;     /* id of the weights */
    const char *source;         /* what it was made of, as it was named then */
    const char *adapter_sha256; /* of its blob, or NULL: the base alone */
    double adapter_scale;       /* with an adapter */
    int64_t adapter_bytes;      /* 0 without */
    const char *system;         /* may be NULL */
    const char *template;       /* may be NULL: the base's own */
    const char *license;        /* a JSON list of texts */
    const char *parameters;     /* a JSON object */
    const char *messages;       /* a JSON list */
    const char *digest;         /* SHA-256 of what it is */
    const char *created_at;
};

/* Inserts, or takes the place of the row of that name. */
int preset_row_put(struct db *db, const struct preset_row *row, struct err *err) MUST_CHECK;
int preset_row_find(struct db *db, const char *name, struct arena *arena, struct preset_row *row,
                    bool *found, struct err *err) MUST_CHECK;
/* All of them by name. */
int preset_row_list(struct db *db, struct arena *arena, struct preset_row **rows, size_t *count,
                    struct err *err) MUST_CHECK;
int preset_row_count(struct db *db, int64_t *count, struct err *err) MUST_CHECK;
int preset_row_delete(struct db *db, const char *name, struct err *err) MUST_CHECK;
/* A preset on this base: its name in the arena, or NULL. */
int preset_row_using_base(struct db *db, const char *base_model, struct arena *arena,
                          const char **name, struct err *err) MUST_CHECK;
/* Rows whose adapter is this blob. */
int preset_row_sharing(struct db *db, const char *sha256, int64_t *count,
                       struct err *err) MUST_CHECK;

#endif
