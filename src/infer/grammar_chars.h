/* Sets of characters, and how one of a set is written inside of a JSON string. Private to the
 * grammar's files.
 */
#ifndef INFER_GRAMMAR_CHARS_H
#define INFER_GRAMMAR_CHARS_H

#include "infer/grammar_json.h"

enum { CHAR_RANGES_MAX = 128, CHAR_LAST = 0x10FFFF };

struct char_range {
    uint32_t first, last;
};

struct char_set {
    struct char_range ranges[CHAR_RANGES_MAX];
    size_t n;
    bool full; /* more ranges than there is room for were added */
};

void char_set_add(struct char_set *set, uint32_t first, uint32_t last);
void char_set_add_set(struct char_set *set, const struct char_set *more);
/* All other characters. */
void char_set_negate(struct char_set *set);
/* A rule of one character of the set, escaped where JSON asks for it; halves of surrogate pairs are
 * left out. */
uint32_t char_set_rule(struct compiler *c, const struct char_set *set);

#endif
