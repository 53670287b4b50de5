/* Requests on the wire between hub and runner: one place that writes and reads them. */
#ifndef INFER_SPEC_JSON_H
#define INFER_SPEC_JSON_H

#include <jansson.h>

#include "base/json.h"
#include "infer/infer.h"

/* Members {prompt | messages, tools, template, date, adapter, sampling} of an open object. Strings
 * that are not UTF-8 are refused before (ERR_UNPROCESSABLE in infer_submit). */
void spec_write(struct json_out *out, const struct infer_spec *spec);
void sampling_write(struct json_out *out, const struct infer_sampling *sampling);
/* Reads what sampling_write wrote; borrowed strings are copied into the struct. */
int sampling_read(const json_t *object, struct infer_sampling *sampling,
                  struct err *err) MUST_CHECK;

#endif
