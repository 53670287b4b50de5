/* What tells the branches of a oneOf apart: types, values, a member that one demands and the other
 * never writes, a member of both whose schemas are apart. */
#include <string.h>

#include "infer/grammar_json.h"

enum { LOOK_MAX = 6 };

enum {
    TYPE_OBJECT = 1 << 0,
    TYPE_ARRAY = 1 << 1,
    TYPE_STRING = 1 << 2,
    TYPE_NUMBER = 1 << 3,
    TYPE_BOOLEAN = 1 << 4,
    TYPE_NULL = 1 << 5,
    TYPE_ANY = (1 << 6) - 1
};

static int type_of_word(const char *word)
{
    static const char *const words[] = {"object", "array", "string", "number", "boolean", "null"};
    for (int i = 0; i < 6; i++) {
        if (strcmp(words[i], word) == 0) {
            return 1 << i;
        }
    }
    return strcmp(word, "integer") == 0 ? TYPE_NUMBER : TYPE_ANY;
}

static int type_of_value(const json_t *value)
{
    return json_is_object(value)    ? TYPE_OBJECT
           : json_is_array(value)   ? TYPE_ARRAY
           : json_is_string(value)  ? TYPE_STRING
           : json_is_number(value)  ? TYPE_NUMBER
           : json_is_boolean(value) ? TYPE_BOOLEAN
                                    : TYPE_NULL;
}

/* The schema's values where it lists them: one, or a list. */
static size_t n_values(const json_t *schema)
{
    return json_object_get(schema, "const") != NULL
               ? 1
               : json_array_size(json_object_get(schema, "enum"));
}

static const json_t *value_of(const json_t *schema, size_t i)
{
    const json_t *constant = json_object_get(schema, "const");
    return constant != NULL ? constant : json_array_get(json_object_get(schema, "enum"), i);
}

static int types_of(const json_t *schema)
{
    const json_t *types = json_object_get(schema, "type");
    int set = 0;
    for (size_t i = 0; i < n_values(schema); i++) {
        set |= type_of_value(value_of(schema, i));
    }
    if (set != 0) {
        return set;
    }
    if (json_is_string(types)) {
        return type_of_word(json_string_value(types));
    }
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *word = json_string_value(json_array_get(types, i));
        set |= word != NULL ? type_of_word(word) : TYPE_ANY;
    }
    return set != 0 ? set : TYPE_ANY;
}

static bool same_value(const json_t *a, const json_t *b)
{
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b)
                                                  : json_equal(a, b);
}

static bool values_apart(const json_t *a, const json_t *b)
{
    for (size_t i = 0; i < n_values(a); i++) {
        for (size_t k = 0; k < n_values(b); k++) {
            if (same_value(value_of(a, i), value_of(b, k))) {
                return false;
            }
        }
    }
    return n_values(a) > 0 && n_values(b) > 0;
}

/* Whether `a` never writes a member that `b` demands. */
static bool misses(const json_t *a, const json_t *b)
{
    const json_t *own = json_object_get(a, "properties");
    const json_t *others = json_object_get(a, "additionalProperties");
    size_t i;
    const json_t *word;
    if (json_object_size(own) == 0 || json_is_true(others) || json_is_object(others) ||
        json_object_get(a, "allOf") != NULL || json_object_get(a, "anyOf") != NULL) {
        return false;
    }
    json_array_foreach(json_object_get(b, "required"), i, word)
    {
        const char *name = json_string_value(word);
        if (name != NULL && json_object_get(own, name) == NULL && !schema_requires(a, name)) {
            return true;
        }
    }
    return false;
}

static bool objects_apart(const struct compiler *c, const json_t *a, const json_t *b, int depth)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(a, "properties"), name, value)
    {
        const json_t *other = json_object_get(json_object_get(b, "properties"), name);
        if (other != NULL && (schema_requires(a, name) || schema_requires(b, name)) &&
            schemas_apart(c, value, other, depth + 1)) {
            return true;
        }
    }
    return misses(a, b) && misses(b, a);
}

/* Whether all of the branches of a's anyOf or oneOf are apart from b. */
static bool branches_apart(const struct compiler *c, const json_t *a, const json_t *b, int depth)
{
    const json_t *some = json_object_get(a, "anyOf");
    size_t i;
    const json_t *branch;
    some = some != NULL ? some : json_object_get(a, "oneOf");
    json_array_foreach(some, i, branch)
    {
        if (!schemas_apart(c, branch, b, depth + 1)) {
            return false;
        }
    }
    return json_array_size(some) > 0;
}

static const json_t *follow(const struct compiler *c, const json_t *schema)
{
    for (int i = 0; i < LOOK_MAX; i++) {
        const char *ref = json_string_value(json_object_get(schema, "$ref"));
        if (ref == NULL || ref[0] != '#') {
            return schema;
        }
        schema = json_follow(c->root, ref + 1);
    }
    return schema;
}

bool schemas_apart(const struct compiler *c, const json_t *a, const json_t *b, int depth)
{
    a = follow(c, a);
    b = follow(c, b);
    if (json_is_false(a) || json_is_false(b)) {
        return true;
    }
    if (depth > LOOK_MAX || !json_is_object(a) || !json_is_object(b)) {
        return false;
    }
    if ((types_of(a) & types_of(b)) == 0 || values_apart(a, b)) {
        return true;
    }
    return objects_apart(c, a, b, depth) || branches_apart(c, a, b, depth) ||
           branches_apart(c, b, a, depth);
}
