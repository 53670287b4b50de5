/* Regular expressions as JSON schemas use them (ECMA-262), inside of a JSON string. Private to the
 * grammar's files.
 *
 * Served: characters, `.`, classes, \d \w \s and their opposites, escapes of characters, groups,
 * `|`, all quantifiers (lazy ones match the same texts), `^` and `$` at the ends of the pattern's
 * own alternatives; without them anything may stand before or behind. Look-around, back-references,
 * \b, \p and flags are ERR_INVALID naming them: they are no regular languages of characters, or ask
 * for tables that are not here.
 */
#ifndef INFER_GRAMMAR_REGEX_H
#define INFER_GRAMMAR_REGEX_H

#include "infer/grammar_json.h"

/* Texts that the pattern finds something in, of low to high characters (high < 0: any number).
 * *rule is what stands between the quotes. ERR_INVALID when the lengths cannot be kept: each of the
 * pattern's alternatives must keep them by itself or have one part to stretch. `word` is how
 * messages call the pattern. */
int regex_rule(struct compiler *c, const char *word, const char *pattern, size_t n, int low,
               int high, uint32_t *rule) MUST_CHECK;

#endif
