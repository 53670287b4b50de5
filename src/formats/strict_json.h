/* JSON that comes with a model: one way to read it and to name what is wrong. Private to this room.
 *
 * base/json.h speaks of requests (ERR_UNPROCESSABLE); here malformed text means a malformed file:
 * ERR_CORRUPT, with `what` naming the file or header. Trees are jansson's: json_decref.
 */
#ifndef FORMATS_STRICT_JSON_H
#define FORMATS_STRICT_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* An object, from bytes. Invalid UTF-8, invalid JSON (duplicate keys included) and any value but an
 * object are ERR_CORRUPT. */
int strict_json_parse(const char *what, const char *text, size_t length, json_t **object,
                      struct err *err) MUST_CHECK;
/* As above from `<dir>/<name>`, of at most bytes_max. When the file is not there: *object = NULL
 * and 0 if `optional`, else ERR_NOT_FOUND. */
int strict_json_file(const char *dir, const char *name, size_t bytes_max, bool optional,
                     json_t **object, struct err *err) MUST_CHECK;

#endif
