/* Rows of the registry as the API shows them: one object each, exactly the fields of the API. */
#ifndef API_ROWS_JSON_H
#define API_ROWS_JSON_H

#include "base/json.h"
#include "store/base_models.h"
#include "store/datasets.h"
#include "store/jobs.h"
#include "store/models.h"
#include "store/versions.h"

void json_model(struct json_out *out, const struct model_row *row);
void json_version(struct json_out *out, const struct version_row *row);
void json_dataset(struct json_out *out, const struct dataset_record *row);
void json_job(struct json_out *out, const struct job_row *row);
void json_job_progress(struct json_out *out, const struct job_progress *progress);
/* memory_max: what models may use, to say whether this one fits. */
void json_base(struct json_out *out, const struct base_row *row, uint64_t memory_max);

/* What the base needs in memory, from its inspection; its size when that is not known. */
uint64_t base_memory_bytes(const struct base_row *row);

#endif
