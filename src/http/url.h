/* Percent-decoding of paths and queries. Private to http/. */
#ifndef HTTP_URL_H
#define HTTP_URL_H

#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"

/* Decodes n bytes into the arena, NUL-terminated. ERR_INVALID for a broken escape or %00,
 * ERR_UNPROCESSABLE when the result is not UTF-8, ERR_NOMEM. */
int http_url_decode(const char *text, size_t n, struct arena *arena, char **out,
                    struct err *err) MUST_CHECK;

#endif
