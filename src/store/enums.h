/* The closed vocabularies of the database, and their words. */
#ifndef STORE_ENUMS_H
#define STORE_ENUMS_H

#include <stdbool.h>

enum task_type {
    TASK_TEXT_GENERATION,
    TASK_CLASSIFICATION,
    TASK_SUMMARIZATION,
    TASK_QUESTION_ANSWERING,
    TASK_CHAT
};
enum version_status { VERSION_TRAINING, VERSION_READY, VERSION_ARCHIVED, VERSION_FAILED };
enum job_status { JOB_QUEUED, JOB_RUNNING, JOB_COMPLETED, JOB_FAILED, JOB_CANCELLED };
enum job_kind { JOB_TRAIN, JOB_EVALUATE, JOB_REPRODUCE, JOB_EXPORT, JOB_QUANTIZE, JOB_PULL };

/* The word of a value ("text-generation", "queued"); static. */
const char *task_type_name(enum task_type type);
const char *version_status_name(enum version_status status);
const char *job_status_name(enum job_status status);
const char *job_kind_name(enum job_kind kind);

/* False, with *out untouched, when the word is not one of them; text may be NULL. */
bool task_type_parse(const char *text, enum task_type *out);
bool version_status_parse(const char *text, enum version_status *out);
bool job_status_parse(const char *text, enum job_status *out);
bool job_kind_parse(const char *text, enum job_kind *out);

/* "text-generation, classification, …", for messages; static. */
const char *task_type_choices(void);
const char *version_status_choices(void);
const char *job_status_choices(void);

bool job_status_final(enum job_status status);

#endif
