/* Names that people give, and the folders that they become.
 *
 * A name has 1–255 characters, none of them a control character or one of / \ : @, is not "." or
 * "..", and has no space at either end. Two names are the same when their bytes are.
 *
 * A folder is made of bytes that every file system keeps apart: ASCII letters, digits, space and
 * . _ - + = , ( ) [ ] only; everything else, a dot or a space at an edge included, is %XX. Longer
 * than NAME_FOLDER_BYTES_MAX, or with `salted` set because only case tells it from another, it is
 * cut and ends in ~ and sixteen digits of the name's SHA-256.
 */
#ifndef REGISTRY_NAMES_H
#define REGISTRY_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum { NAME_CHARACTERS_MAX = 255, NAME_FOLDER_BYTES_MAX = 200, NAME_FOLDER_BYTES = 201 };

/* ERR_UNPROCESSABLE as "<field> …"; field is "name", "alias" and the like. NULL is refused too. */
int name_check(const char *field, const char *name, struct err *err) MUST_CHECK;
/* The same for a base model's id, which may hold one slash between two such names. */
int name_check_base(const char *field, const char *id, struct err *err) MUST_CHECK;
/* The same, with a tag behind a colon if there is one. */
int name_check_tagged(const char *field, const char *name, struct err *err) MUST_CHECK;
/* ERR_UNPROCESSABLE when text is not UTF-8 or has more characters; NULL is fine. */
int name_check_length(const char *field, const char *text, size_t characters_max,
                      struct err *err) MUST_CHECK;

int name_folder(const char *name, bool salted, char out[NAME_FOLDER_BYTES],
                struct err *err) MUST_CHECK;

#endif
