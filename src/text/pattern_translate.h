/* From a pre-tokenizer's pattern to a PCRE2 pattern over an alphabet's letters; used by pattern.c.
 *
 * With `collect` set and `alphabet` NULL it only notes the pattern's non-ASCII literals in collect
 * (what lands in out means nothing); with `alphabet` set it appends the translation to out.
 * ERR_UNSUPPORTED quotes what is not served, ERR_INVALID is bad UTF-8.
 */
#ifndef TEXT_PATTERN_TRANSLATE_H
#define TEXT_PATTERN_TRANSLATE_H

#include "base/buf.h"
#include "text/pattern.h"

int pattern_translate(struct alphabet *collect, const struct alphabet *alphabet, const char *text,
                      size_t n, struct buf *out, struct err *err) MUST_CHECK;

#endif
