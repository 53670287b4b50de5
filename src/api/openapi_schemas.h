/* The shapes of answers, for the OpenAPI document. */
#ifndef API_OPENAPI_SCHEMAS_H
#define API_OPENAPI_SCHEMAS_H

#include "base/json.h"

/* Writes "components": {"schemas": …} without its braces: the members of `schemas`. */
void openapi_schemas(struct json_out *out);
/* Writes {"$ref": …} of a schema. */
void openapi_ref(struct json_out *out, const char *name);

#endif
