/* Typed access to the members of a JSON object. A missing or null member leaves *out alone; one of
 * another type is ERR_CORRUPT naming the key. Private to the readers of Hugging Face's files. */
#ifndef FORMATS_HF_FIELDS_H
#define FORMATS_HF_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* NULL when it is missing or null. */
const json_t *hf_member(const json_t *object, const char *key);
int hf_wrong_type(const char *key, const char *wanted, struct err *err) MUST_CHECK;
int hf_u32(const json_t *object, const char *key, uint32_t *out, struct err *err) MUST_CHECK;
/* The same, but a missing member is ERR_CORRUPT. */
int hf_require_u32(const json_t *object, const char *key, uint32_t *out,
                   struct err *err) MUST_CHECK;
int hf_real(const json_t *object, const char *key, double *out, struct err *err) MUST_CHECK;
int hf_bool(const json_t *object, const char *key, bool *out, struct err *err) MUST_CHECK;
/* Borrowed from the object. */
int hf_text(const json_t *object, const char *key, const char **out, struct err *err) MUST_CHECK;

#endif
