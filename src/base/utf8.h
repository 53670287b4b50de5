/* UTF-8: validate, decode, encode, and cut at a character's edge. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool utf8_valid(const char *text, size_t length);
/* Decodes one code point; returns its byte length, or 0 when the bytes there are not UTF-8. */
size_t utf8_decode(const char *text, size_t length, uint32_t *code_point);
/* Writes up to 4 bytes, returns how many; 0 for a surrogate or > U+10FFFF. */
size_t utf8_encode(uint32_t code_point, char out[4]);
/* Length of the longest prefix that does not end inside a character that could still be completed:
 * what a stream may send now. Bytes that can never become UTF-8 count as complete. */
size_t utf8_complete_prefix(const char *text, size_t length);

#endif
