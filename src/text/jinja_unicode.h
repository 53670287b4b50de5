/* Characters as Python's str sees them: code points, classes, case.
 *
 * Strings inside the interpreter are UTF-8 that was checked on its way in; a byte that is not
 * UTF-8 after all reads as one U+FFFD, so nothing here can run past an end or loop. Offsets and
 * lengths are in bytes unless a name says `points`. All functions are pure.
 */
#ifndef TEXT_JINJA_UNICODE_H
#define TEXT_JINJA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Decodes the character at text[0..length), length ≥ 1; its bytes are at least 1. */
size_t ju_decode(const char *text, size_t length, uint32_t *point);
/* Length in bytes of the last character of text[0..length), length ≥ 1. */
size_t ju_last(const char *text, size_t length, uint32_t *point);
/* Number of code points. */
size_t ju_points(const char *text, size_t length);
/* Byte offset of code point number `points`; length when there are fewer. */
size_t ju_offset(const char *text, size_t length, size_t points);
void ju_put(struct buf *buf, uint32_t point);
/* Where what[0..n), n ≥ 1, first occurs in text[0..length), or NULL; in time O(length). */
const char *ju_find(const char *text, size_t length, const char *what, size_t n);

/* Classes, as str.isspace and so on apply them to one character. */
bool ju_is_space(uint32_t point);
bool ju_is_line_break(uint32_t point);
bool ju_is_alpha(uint32_t point);
bool ju_is_decimal(uint32_t point);
bool ju_is_digit(uint32_t point);
bool ju_is_numeric(uint32_t point);
bool ju_is_lower(uint32_t point);
bool ju_is_upper(uint32_t point);
bool ju_is_title(uint32_t point);
bool ju_is_cased(uint32_t point);
bool ju_is_printable(uint32_t point);
bool ju_is_name_start(uint32_t point);
bool ju_is_name(uint32_t point);

/* Trims whitespace: sets *begin and *end to what is left of text[0..length). */
void ju_strip(const char *text, size_t length, bool left, bool right, size_t *begin, size_t *end);

/* Appends the text in another case: full mappings, so one character may become three. */
enum ju_case { JU_UPPER, JU_LOWER, JU_TITLE_WORDS, JU_CAPITAL, JU_SWAP, JU_FOLD };
void ju_put_case(struct buf *buf, enum ju_case how, const char *text, size_t length);

#endif
