/* From what people write to rows of the hub: models, versions, datasets and jobs by name or id.
 * Rows are the API's JSON; *row is the caller's (json_decref). ERR_NOT_FOUND says which command
 * lists what there is.
 */
#ifndef CLI_LOOKUP_H
#define CLI_LOOKUP_H

#include <jansson.h>

#include "base/err.h"
#include "cli/remote.h"

int lookup_model(struct remote *remote, const char *name, json_t **row, struct err *err) MUST_CHECK;
int lookup_dataset(struct remote *remote, const char *name, json_t **row,
                   struct err *err) MUST_CHECK;
/* An id, the beginning of one (LOOKUP_PREFIX_MIN characters or more), or "last": the newest. */
enum { LOOKUP_PREFIX_MIN = 4 };
int lookup_job(struct remote *remote, const char *name, json_t **row, struct err *err) MUST_CHECK;
/* "model@1.2.0" or "model:alias" (also ":latest"); *model may be NULL when not wanted. */
int lookup_version(struct remote *remote, const char *name, json_t **model, json_t **version,
                   struct err *err) MUST_CHECK;
/* The same, or "model": its newest version that is ready. */
int lookup_latest(struct remote *remote, const char *name, json_t **model, json_t **version,
                  struct err *err) MUST_CHECK;
/* Whether name is written as a version is. */
bool is_version_name(const char *name);

/* A row's member as text; "" when it is missing or null. Borrowed. */
const char *row_text(const json_t *row, const char *key);
double row_real(const json_t *row, const char *key, double fallback);
int64_t row_int(const json_t *row, const char *key);

#endif
