/* Shared by datasets.c and uploads.c. Private to registry. */
#ifndef REGISTRY_DATASETS_INT_H
#define REGISTRY_DATASETS_INT_H

#include "registry/datasets.h"

/* Name, schema_info and columns of a draft, into row and *columns. */
int dataset_draft_check(const struct dataset_draft *draft, struct arena *arena,
                        struct dataset_record *row, struct dataset_columns *columns,
                        struct err *err) MUST_CHECK;
/* ERR_CONFLICT when the name is taken. */
int dataset_name_free(struct registry *registry, const char *name, struct err *err) MUST_CHECK;
/* Completes the row from path and report and inserts it. */
int dataset_insert(struct registry *registry, const char *path, const struct dataset_report *report,
                   struct arena *arena, struct dataset_record *row, struct err *err) MUST_CHECK;

/* dataset_check, or what the draft has instead of it. */
int dataset_draft_read(const struct dataset_draft *draft, const char *path, const char *name,
                       const struct dataset_columns *columns, struct dataset_report *report,
                       struct err *err) MUST_CHECK;

#endif
