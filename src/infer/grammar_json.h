/* What the compiler of schemas carries, and the rules that JSON itself is made of. Private to the
 * grammar's files. Rules are made when first asked for; none may be asked for while an alternative
 * is open.
 */
#ifndef INFER_GRAMMAR_JSON_H
#define INFER_GRAMMAR_JSON_H

#include <jansson.h>

#include "infer/grammar_rules.h"

enum { REFS_MAX = 256, NONE = -1 };

struct compiler {
    struct rules *r;
    const json_t *root;
    struct err *err;
    struct {
        const char *pointer;
        uint32_t rule;
    } refs[REFS_MAX];
    size_t n_refs;
    int space, character, string, integer, number, value, object,
        array; /* rules, NONE until made */
};

void json_text(struct compiler *c, uint32_t rule, const char *text); /* one alternative */
/* Nothing, one blank, or a new line and its indent. */
uint32_t json_space_rule(struct compiler *c);
/* Of low to high characters (high < 0: any number). */
uint32_t json_string_rule(struct compiler *c, int low, int high);
uint32_t json_integer_rule(struct compiler *c, bool negative);
uint32_t json_number_rule(struct compiler *c, bool negative);
/* open (item ("," item)*)? close with low to high items (high < 0: any number). */
uint32_t json_list_rule(struct compiler *c, const char *open, uint32_t item, const char *close,
                        int low, int high);
uint32_t json_member_rule(struct compiler *c, uint32_t name, uint32_t value); /* name: value */
/* Any value; c->object and c->array are made on the way. */
uint32_t json_value_rule(struct compiler *c);
/* A string of one of the formats served; ERR_INVALID for others. */
int json_format(struct compiler *c, const char *format, uint32_t *rule) MUST_CHECK;

/* What the pointer "/a/b" leads to, or NULL. */
const json_t *json_follow(const json_t *root, const char *pointer);

#endif
