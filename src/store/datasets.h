/* Table datasets. See models.h for what row functions share. */
#ifndef STORE_DATASETS_H
#define STORE_DATASETS_H

#include "store/db.h"

struct dataset_record {
    const char *id, *name;
    const char *path;        /* absolute */
    const char *checksum;    /* SHA-256 of the file */
    const char *schema_info; /* a JSON object */
    const char *columns;     /* a JSON object as formats/dataset.h reads it, or NULL */
    const char *shape;       /* of its first kind of row: chat, completion, text */
    int64_t rows;
    int64_t bytes;
    const char *created_at;
};

int dataset_record_insert(struct db *db, const struct dataset_record *row,
                          struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND "Dataset <id> not found". */
int dataset_record_get(struct db *db, const char *id, struct arena *arena,
                       struct dataset_record *row, struct err *err) MUST_CHECK;
int dataset_record_find(struct db *db, const char *name, struct arena *arena,
                        struct dataset_record *row, bool *found, struct err *err) MUST_CHECK;
int dataset_record_by_checksum(struct db *db, const char *checksum, struct arena *arena,
                               struct dataset_record *row, bool *found, struct err *err) MUST_CHECK;
/* Newest first. */
int dataset_record_list(struct db *db, int64_t limit, int64_t offset, struct arena *arena,
                        struct dataset_record **rows, size_t *count, struct err *err) MUST_CHECK;
int dataset_record_count(struct db *db, int64_t *count, struct err *err) MUST_CHECK;
int dataset_record_delete(struct db *db, const char *id, struct err *err) MUST_CHECK;

#endif
