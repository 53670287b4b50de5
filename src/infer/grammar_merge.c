/* Schemas put together, word by word. What is made is kept in c->made, whose size bounds the work:
 * schemas that refer to each other could otherwise be put together for ever. */
#include <string.h>

#include "base/mem.h"
#include "infer/grammar.h"
#include "infer/grammar_json.h"

enum { MADE_MAX = 2000, BRANCHES_MAX = 256 };

static int no_memory(struct compiler *c)
{
    return err_set(c->err, ERR_NOMEM, "out of memory for a schema");
}

/* Takes the schema. */
static int keep(struct compiler *c, json_t *schema)
{
    if (json_array_size(c->made) >= MADE_MAX) {
        json_decref(schema);
        return err_set(c->err, ERR_TOO_LARGE,
                       "the schema puts more than %d schemas together ('allOf', '$ref' beside "
                       "other words)",
                       MADE_MAX);
    }
    return schema != NULL && json_array_append_new(c->made, schema) == 0 ? 0 : no_memory(c);
}

/* {"allOf": [a, b]}, or one of them where that says it all. NULL for lack of memory. */
static json_t *both(json_t *a, json_t *b)
{
    if (json_is_false(a) || json_is_true(b) || json_equal(a, b)) {
        return json_incref(a);
    }
    if (json_is_false(b) || json_is_true(a)) {
        return json_incref(b);
    }
    return json_pack("{s:[O,O]}", "allOf", a, b);
}

json_t *schema_target(struct compiler *c, const char *ref)
{
    json_t *schema = ref[0] == '#' ? json_follow(c->root, ref + 1) : NULL;
    if (schema == NULL) {
        (void)err_set(c->err, ERR_INVALID, "'$ref' \"%.100s\" leads nowhere in the schema", ref);
    }
    return schema;
}

/* --- words --- */

static bool in_list(const json_t *list, const json_t *value)
{
    size_t i;
    const json_t *one;
    json_array_foreach(list, i, one)
    {
        if (json_equal(one, value)) {
            return true;
        }
    }
    return false;
}

/* What two lists share, or two types, of which integer is a number, too. */
static json_t *shared(json_t *a, json_t *b, bool types)
{
    json_t *wrapped_a = json_is_array(a) ? json_incref(a) : json_pack("[O]", a);
    json_t *wrapped_b = json_is_array(b) ? json_incref(b) : json_pack("[O]", b);
    json_t *number = json_string("number");
    json_t *integer = json_string("integer");
    json_t *out = json_array();
    size_t i;
    json_t *one;
    for (int side = 0; side < 2; side++) {
        const json_t *other = side == 0 ? wrapped_b : wrapped_a;
        json_array_foreach(side == 0 ? wrapped_a : wrapped_b, i, one)
        {
            const bool fits = in_list(other, one) ||
                              (types && json_equal(one, integer) && in_list(other, number));
            if (fits && !in_list(out, one)) {
                (void)json_array_append(out, one);
            }
        }
    }
    json_decref(wrapped_a);
    json_decref(wrapped_b);
    json_decref(number);
    json_decref(integer);
    return out;
}

/* Properties of both; each side's additionalProperties are asked of names that it does not know. */
static int merge_properties(struct compiler *c, json_t *out, const json_t *a, const json_t *b)
{
    json_t *a_own = json_object_get(a, "properties");
    json_t *b_own = json_object_get(b, "properties");
    json_t *a_others = json_object_get(a, "additionalProperties");
    json_t *b_others = json_object_get(b, "additionalProperties");
    json_t *all = json_object();
    const char *name;
    json_t *value;
    int rc = all != NULL ? 0 : -1;
    json_object_foreach(a_own, name, value)
    {
        json_t *other = json_object_get(b_own, name);
        other = other != NULL ? other : b_others;
        rc |=
            json_object_set_new(all, name, other != NULL ? both(value, other) : json_incref(value));
    }
    json_object_foreach(b_own, name, value)
    {
        if (json_object_get(a_own, name) == NULL) {
            rc |= json_object_set_new(
                all, name, a_others != NULL ? both(value, a_others) : json_incref(value));
        }
    }
    if (a_others != NULL && b_others != NULL) {
        rc |= json_object_set_new(out, "additionalProperties", both(a_others, b_others));
    } else if (a_others != NULL || b_others != NULL) {
        rc |= json_object_set(out, "additionalProperties", a_others != NULL ? a_others : b_others);
    }
    if (json_object_size(all) > 0) {
        rc |= json_object_set(out, "properties", all);
    }
    json_decref(all);
    return rc == 0 ? 0 : no_memory(c);
}

/* The anyOf of every pair. */
static json_t *pairs(json_t *a, json_t *b)
{
    json_t *out = json_array();
    size_t i;
    size_t k;
    json_t *x;
    json_t *y;
    json_array_foreach(a, i, x)
    {
        json_array_foreach(b, k, y)
        {
            if (json_array_append_new(out, both(x, y)) != 0) {
                json_decref(out);
                return NULL;
            }
        }
    }
    return out;
}

enum merge_way {
    WAY_FIRST,
    WAY_TYPES,
    WAY_LISTS,
    WAY_UNION,
    WAY_MOST,
    WAY_LEAST,
    WAY_BOTH,
    WAY_PAIRS
};

static const struct {
    const char *word;
    enum merge_way way;
} ways[] = {
    {"type", WAY_TYPES},       {"enum", WAY_LISTS},         {"required", WAY_UNION},
    {"allOf", WAY_UNION},      {"minimum", WAY_MOST},       {"minLength", WAY_MOST},
    {"minItems", WAY_MOST},    {"minProperties", WAY_MOST}, {"maximum", WAY_LEAST},
    {"maxLength", WAY_LEAST},  {"maxItems", WAY_LEAST},     {"maxProperties", WAY_LEAST},
    {"items", WAY_BOTH},       {"propertyNames", WAY_BOTH}, {"anyOf", WAY_PAIRS},
    {"title", WAY_FIRST},      {"description", WAY_FIRST},  {"default", WAY_FIRST},
    {"examples", WAY_FIRST},   {"$schema", WAY_FIRST},      {"$id", WAY_FIRST},
    {"$comment", WAY_FIRST},   {"$defs", WAY_FIRST},        {"definitions", WAY_FIRST},
    {"deprecated", WAY_FIRST}, {"readOnly", WAY_FIRST},     {"writeOnly", WAY_FIRST},
};

bool schema_is_remark(const char *word)
{
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (strcmp(ways[i].word, word) == 0) {
            return ways[i].way == WAY_FIRST;
        }
    }
    return strcmp(word, "discriminator") == 0 || strcmp(word, "example") == 0;
}

static json_t *joined(json_t *a, json_t *b)
{
    json_t *out = json_array();
    if (json_array_extend(out, a) != 0 || json_array_extend(out, b) != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

/* The word that both have and that differs. */
static int merge_word(struct compiler *c, json_t *out, const char *word, json_t *a, json_t *b)
{
    json_t *value = NULL;
    size_t at = 0;
    while (at < sizeof ways / sizeof ways[0] && strcmp(ways[at].word, word) != 0) {
        at++;
    }
    if (at == sizeof ways / sizeof ways[0]) {
        return schema_is_remark(word)
                   ? 0
                   : err_set(c->err, ERR_INVALID,
                             "'allOf' in a schema with two different '%.60s' is not supported",
                             word);
    }
    const double order = json_number_value(a) - json_number_value(b);
    switch (ways[at].way) {
    case WAY_FIRST:
        return 0;
    case WAY_TYPES:
    case WAY_LISTS:
        value = shared(a, b, ways[at].way == WAY_TYPES);
        if (json_array_size(value) == 0) {
            json_decref(value);
            return err_set(c->err, ERR_INVALID, "'allOf' in a schema: no '%s' is left", word);
        }
        break;
    case WAY_UNION:
        value = joined(a, b);
        break;
    case WAY_MOST:
        value = json_incref(order >= 0.0 ? a : b);
        break;
    case WAY_LEAST:
        value = json_incref(order <= 0.0 ? a : b);
        break;
    case WAY_BOTH:
        value = both(a, b);
        break;
    case WAY_PAIRS:
        if (json_array_size(a) * json_array_size(b) > BRANCHES_MAX) {
            return err_set(c->err, ERR_TOO_LARGE, "'anyOf' within 'allOf' makes over %d branches",
                           BRANCHES_MAX);
        }
        value = pairs(a, b);
        break;
    }
    return value != NULL && json_object_set_new(out, word, value) == 0 ? 0 : no_memory(c);
}

/* The schema with what its $ref leads to in place of it. */
static int expand(struct compiler *c, json_t *schema, int depth, json_t **out)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    *out = schema;
    if (ref == NULL) {
        return 0;
    }
    json_t *target = schema_target(c, ref);
    json_t *rest = json_copy(schema);
    if (target == NULL || rest == NULL) {
        json_decref(rest);
        return target == NULL ? -(int)c->err->code : no_memory(c);
    }
    (void)json_object_del(rest, "$ref");
    const int rc = keep(c, rest);
    return rc == 0 ? schema_merge(c, rest, target, depth + 1, out) : rc;
}

int schema_merge(struct compiler *c, json_t *a, json_t *b, int depth, json_t **out)
{
    const char *word;
    json_t *value;
    if (depth > GRAMMAR_DEPTH_MAX) {
        return err_set(c->err, ERR_TOO_LARGE, "a schema may be nested %d deep", GRAMMAR_DEPTH_MAX);
    }
    if (json_is_boolean(a) || json_is_boolean(b)) {
        *out = json_is_false(a) || json_is_true(b) ? a : b;
        return 0;
    }
    if (!json_is_object(a) || !json_is_object(b)) {
        return err_set(c->err, ERR_INVALID, "a schema must be an object");
    }
    int rc = expand(c, a, depth, &a);
    rc = rc == 0 ? expand(c, b, depth, &b) : rc;
    if (rc != 0 || json_is_boolean(a) || json_is_boolean(b)) {
        return rc != 0 ? rc : schema_merge(c, a, b, depth + 1, out);
    }
    json_t *made = json_copy(a);
    rc = keep(c, made);
    json_object_foreach(b, word, value)
    {
        json_t *own = json_object_get(a, word);
        if (rc != 0 || strcmp(word, "properties") == 0 ||
            strcmp(word, "additionalProperties") == 0) {
            continue;
        }
        if (own == NULL) {
            rc = json_object_set(made, word, value) == 0 ? 0 : no_memory(c);
        } else if (!json_equal(own, value)) {
            rc = merge_word(c, made, word, own, value);
        }
    }
    *out = made;
    return rc == 0 ? merge_properties(c, made, a, b) : rc;
}
