/* Datasets: files of rows that were read to the end and found good before they got a row.
 * Threads, arenas and errors as registry.h says; the file format is formats/dataset.h.
 *
 * A file is registered where it lies, inside the datasets folder (symlinks are followed before that
 * is judged), or it is uploaded into that folder. Registering reads it once: SHA-256 and rows come
 * from the same bytes. Deleting a dataset leaves its file.
 */
#ifndef REGISTRY_DATASETS_H
#define REGISTRY_DATASETS_H

#include "formats/dataset.h"
#include "registry/registry.h"
#include "store/datasets.h"

enum { DATASET_PATH_CHARACTERS_MAX = 1000 };

struct dataset_draft {
    const char *name;
    const char *path;        /* relative ones start at the datasets folder; unused by uploads */
    const char *file;        /* what messages call an upload; NULL: as name */
    const char *schema_info; /* JSON text, NULL = {} */
    const char *columns;     /* JSON text as dataset_columns_parse reads it, or NULL */
    /* Does what dataset_check does, in another process; NULL: it is done here. */
    int (*check)(void *ctx, const char *path, const char *name, const char *columns,
                 struct dataset_report *report, struct err *err);
    void *check_ctx;
};

/* Resolves a draft's path: ERR_INVALID "Dataset path must be within …", "Dataset file not found:
 * …", "Not a file: …". */
int registry_dataset_path(const struct registry *registry, const char *path,
                          char out[FS_PATH_BYTES_MAX], struct err *err) MUST_CHECK;

/* ERR_UNPROCESSABLE; ERR_INVALID for the path or the first bad rows; ERR_CONFLICT "Dataset with
 * name '…' already exists", "Dataset with same content already exists: '…'". */
int registry_create_dataset(struct registry *registry, const struct dataset_draft *draft,
                            struct arena *arena, struct dataset_record *row,
                            struct err *err) MUST_CHECK;

int registry_get_dataset(struct registry *registry, const char *id, struct arena *arena,
                         struct dataset_record *row, struct err *err) MUST_CHECK;
/* By the SHA-256 of its file. */
int registry_find_dataset_checksum(struct registry *registry, const char *checksum,
                                   struct arena *arena, struct dataset_record *row, bool *found,
                                   struct err *err) MUST_CHECK;
int registry_list_datasets(struct registry *registry, int64_t limit, int64_t offset,
                           struct arena *arena, struct dataset_record **rows, size_t *count,
                           int64_t *total, struct err *err) MUST_CHECK;
/* ERR_CONFLICT while a queued or running job needs it. */
int registry_delete_dataset(struct registry *registry, const char *id, struct err *err) MUST_CHECK;

struct dataset_verdict {
    bool valid;
    char expected[SHA256_HEX_BYTES];
    char actual[SHA256_HEX_BYTES]; /* "" when the file is gone */
};
int registry_verify_dataset(struct registry *registry, const char *id,
                            struct dataset_verdict *verdict, struct err *err) MUST_CHECK;

/* --- upload: begin, write …, then finish or abandon; one thread at a time --- */
struct dataset_upload;

/* Refuses a bad or taken name before the first byte. bytes_max bounds the body. */
int registry_upload_begin(struct registry *registry, const struct dataset_draft *draft,
                          uint64_t bytes_max, struct dataset_upload **upload,
                          struct err *err) MUST_CHECK;
/* ERR_TOO_LARGE past bytes_max, ERR_NOSPACE when the disk is full. */
int registry_upload_write(struct dataset_upload *upload, const void *bytes, size_t n,
                          struct err *err) MUST_CHECK;
/* Checks the rows, publishes the file as <datasets>/<name>-<sha256 begin>.jsonl, adds the row.
 * Nothing is left when it fails. The upload is freed either way. */
int registry_upload_finish(struct dataset_upload *upload, struct arena *arena,
                           struct dataset_record *row, struct err *err) MUST_CHECK;
void registry_upload_abandon(struct dataset_upload *upload); /* NULL is fine */

#endif
