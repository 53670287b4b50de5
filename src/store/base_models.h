/* Table base_models: weights that were imported or pulled, by id. Several ids may share one blob.
 * See models.h for what row functions share. */
#ifndef STORE_BASE_MODELS_H
#define STORE_BASE_MODELS_H

#include "store/db.h"

struct base_row {
    const char *id;           /* may hold one slash */
    const char *format;       /* gguf, safetensors, mlx */
    const char *architecture; /* llama, … */
    int64_t parameters;
    const char *quantisation; /* Q4_1, F16, … */
    int64_t context_length;   /* 0 = unknown */
    int64_t bytes;
    const char *sha256; /* of the file, or of the folder's manifest */
    bool is_folder;
    const char *source;  /* the path or address it came from */
    const char *details; /* a JSON object */
    const char *created_at;
};

int base_row_insert(struct db *db, const struct base_row *row, struct err *err) MUST_CHECK;
int base_row_find(struct db *db, const char *id, struct arena *arena, struct base_row *row,
                  bool *found, struct err *err) MUST_CHECK;
/* By id. */
int base_row_list(struct db *db, int64_t limit, int64_t offset, struct arena *arena,
                  struct base_row **rows, size_t *count, struct err *err) MUST_CHECK;
int base_row_count(struct db *db, int64_t *count, struct err *err) MUST_CHECK;
/* Rows that share this blob. */
int base_row_sharing(struct db *db, const char *sha256, int64_t *count, struct err *err) MUST_CHECK;
int base_row_delete(struct db *db, const char *id, struct err *err) MUST_CHECK;

#endif
