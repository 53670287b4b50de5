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
    json_t *root;
    json_t *made; /* schemas that were put together while compiling: a list that keeps them */
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
/* One character inside of quotes: UTF-8, or an escape that stands for no half of a pair. */
uint32_t json_character_rule(struct compiler *c);
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
/* What the pointer "/a/b" leads to, or NULL. */
json_t *json_follow(json_t *root, const char *pointer);

/* --- grammar_schema.c --- */
/* The rule of one schema, `depth` levels down. ERR_INVALID naming what cannot be kept. */
int schema_rule(struct compiler *c, json_t *schema, int depth, uint32_t *rule) MUST_CHECK;
/* "'what' in a schema is not supported". */
int schema_refuse(struct compiler *c, const char *what);
/* Two counts that a schema gives; 0 and -1 (any number) unless it does. */
int schema_counts(struct compiler *c, const json_t *schema, const char *low_name,
                  const char *high_name, int *low, int *high) MUST_CHECK;
/* Adds a value written out as one alternative of the rule. */
int schema_literal(struct compiler *c, const json_t *value, uint32_t rule) MUST_CHECK;

/* --- grammar_string.c: type string; grammar_object.c; grammar_array.c --- */
int string_rule(struct compiler *c, const json_t *schema, uint32_t *rule) MUST_CHECK;
int object_rule(struct compiler *c, const json_t *schema, int depth, uint32_t *rule) MUST_CHECK;
/* Whether "required" lists the name. */
bool schema_requires(const json_t *schema, const char *name);
int array_rule(struct compiler *c, const json_t *schema, int depth, uint32_t *rule) MUST_CHECK;

/* --- grammar_merge.c --- */
/* One schema that asks for what both ask for. ERR_INVALID naming the word that cannot be put
 * together. *out belongs to c->made. */
int schema_merge(struct compiler *c, json_t *a, json_t *b, int depth, json_t **out) MUST_CHECK;
/* The schema that a "$ref" leads to; NULL with the error set. */
json_t *schema_target(struct compiler *c, const char *ref);
/* Whether a word of a schema restricts nothing. */
bool schema_is_remark(const char *word);
/* --- grammar_apart.c --- */
/* Whether no text that is written by one of them satisfies the other; false, too, where that cannot
 * be told. */
bool schemas_apart(const struct compiler *c, const json_t *a, const json_t *b, int depth);
#endif
