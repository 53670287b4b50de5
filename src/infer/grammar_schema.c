/* Every schema becomes one rule, its parts first. A `$ref` is looked up by its pointer, so that a
 * schema that refers to itself finds the rule that is being written. Words that stand beside others
 * and restrict, too, are put together first (grammar_merge.c). */
#include "infer/grammar_schema.h"

#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "infer/grammar.h"
#include "infer/grammar_json.h"
#include "infer/grammar_number.h"

enum { LITERAL_BYTES_MAX = 1 << 16 };

int schema_refuse(struct compiler *c, const char *what)
{
    return err_set(c->err, ERR_INVALID, "'%s' in a schema is not supported", what);
}

/* A value written out. */
int schema_literal(struct compiler *c, const json_t *value, uint32_t rule)
{
    struct buf text;
    struct json_out out;
    buf_init(&text, LITERAL_BYTES_MAX);
    json_out_init(&out, &text);
    json_out_tree(&out, value);
    const int rc = buf_check(&text, "a value of the schema", c->err);
    if (rc == 0) {
        rules_begin(c->r, rule);
        rules_bytes(c->r, text.data, text.len);
        rules_end(c->r);
    }
    buf_release(&text);
    return rc;
}

static int ref_rule(struct compiler *c, const char *ref, int depth, uint32_t *rule)
{
    uint32_t target;
    for (size_t i = 0; i < c->n_refs; i++) {
        if (strcmp(c->refs[i].pointer, ref) == 0) {
            *rule = c->refs[i].rule;
            return 0;
        }
    }
    json_t *schema = schema_target(c, ref);
    if (schema == NULL) {
        return -(int)c->err->code;
    }
    if (c->n_refs == REFS_MAX) {
        return err_set(c->err, ERR_TOO_LARGE, "a schema may have %d different references",
                       REFS_MAX);
    }
    *rule = rules_new(c->r);
    c->refs[c->n_refs].pointer = ref;
    c->refs[c->n_refs++].rule = *rule;
    const int rc = schema_rule(c, schema, depth + 1, &target);
    if (rc == 0) {
        rules_begin(c->r, *rule);
        rules_ref(c->r, target);
        rules_end(c->r);
    }
    return rc;
}

/* A count that a schema gives; `fallback` when it does not. Fewer than may be is what may be, too:
 * an upper bound beyond ours becomes ours. */
static int count(struct compiler *c, const json_t *schema, const char *name, int fallback, int *out)
{
    int64_t value = fallback;
    const bool most = fallback < 0;
    const int rc = json_get_int(schema, name, fallback, &value, c->err);
    if (rc == 0 && value < 0 && json_is_number(json_object_get(schema, name))) {
        return err_set(c->err, ERR_INVALID, "'%s' in a schema must not be negative", name);
    }
    if (rc == 0 && value > GRAMMAR_REPEATS_MAX && !most) {
        return err_set(c->err, ERR_INVALID, "'%s' in a schema may be at most %d", name,
                       GRAMMAR_REPEATS_MAX);
    }
    *out = value > GRAMMAR_REPEATS_MAX ? GRAMMAR_REPEATS_MAX : (int)value;
    return rc;
}

int schema_counts(struct compiler *c, const json_t *schema, const char *low_name,
                  const char *high_name, int *low, int *high)
{
    int rc = count(c, schema, low_name, 0, low);
    if (rc == 0) {
        rc = count(c, schema, high_name, -1, high);
    }
    if (rc == 0 && *high >= 0 && *high < *low) {
        rc = err_set(c->err, ERR_INVALID, "'%s' and '%s' in a schema leave nothing", low_name,
                     high_name);
    }
    return rc;
}

static int type_rule(struct compiler *c, json_t *schema, const char *type, int depth,
                     uint32_t *rule)
{
    if (strcmp(type, "object") == 0) {
        return object_rule(c, schema, depth, rule);
    }
    if (strcmp(type, "array") == 0) {
        return array_rule(c, schema, depth, rule);
    }
    if (strcmp(type, "string") == 0) {
        return string_rule(c, schema, rule);
    }
    if (strcmp(type, "number") == 0 || strcmp(type, "integer") == 0) {
        return number_rule(c, schema, type[0] == 'i', rule);
    }
    const bool boolean = strcmp(type, "boolean") == 0;
    if (!boolean && strcmp(type, "null") != 0) {
        return err_set(c->err, ERR_INVALID, "'type' \"%.60s\" in a schema is unknown", type);
    }
    *rule = rules_new(c->r);
    json_text(c, *rule, boolean ? "true" : "null");
    if (boolean) {
        json_text(c, *rule, "false");
    }
    return 0;
}

static int types_rule(struct compiler *c, json_t *schema, const json_t *types, int depth,
                      uint32_t *rule)
{
    size_t i;
    const json_t *type;
    if (json_is_string(types)) {
        return type_rule(c, schema, json_string_value(types), depth, rule);
    }
    *rule = rules_new(c->r);
    json_array_foreach(types, i, type)
    {
        uint32_t part;
        const char *word = json_string_value(type);
        const int rc = type_rule(c, schema, word != NULL ? word : "?", depth, &part);
        if (rc != 0) {
            return rc;
        }
        rules_begin(c->r, *rule);
        rules_ref(c->r, part);
        rules_end(c->r);
    }
    return json_array_size(types) > 0
               ? 0
               : err_set(c->err, ERR_INVALID,
                         "'type' in a schema must be a word or a list of some");
}

/* What a schema without `type` is about. */
static const char *implied_type(const json_t *schema)
{
    static const char *const words[][2] = {
        {"properties", "object"},
        {"required", "object"},
        {"additionalProperties", "object"},
        {"patternProperties", "object"},
        {"propertyNames", "object"},
        {"minProperties", "object"},
        {"maxProperties", "object"},
        {"items", "array"},
        {"prefixItems", "array"},
        {"minItems", "array"},
        {"maxItems", "array"},
        {"uniqueItems", "array"},
        {"minLength", "string"},
        {"maxLength", "string"},
        {"pattern", "string"},
        {"format", "string"},
        {"minimum", "number"},
        {"maximum", "number"},
        {"exclusiveMinimum", "number"},
        {"exclusiveMaximum", "number"},
        {"multipleOf", "number"},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (json_object_get(schema, words[i][0]) != NULL) {
            return words[i][1];
        }
    }
    return NULL;
}

/* Words that restrict and that no rule here stands for. */
static int refuse_unknown(struct compiler *c, const json_t *schema)
{
    static const char *const words[] = {
        "not",          "if",       "dependentSchemas", "dependentRequired",
        "dependencies", "contains", "$dynamicRef",      "$recursiveRef",
    };
    /* nothing is ever written that these would be asked about */
    static const char *const flags[] = {"unevaluatedProperties", "unevaluatedItems"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (json_object_get(schema, words[i]) != NULL) {
            return schema_refuse(c, words[i]);
        }
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        const json_t *value = json_object_get(schema, flags[i]);
        if (value != NULL && !json_is_boolean(value)) {
            return schema_refuse(c, flags[i]);
        }
    }
    return 0;
}

/* Whether the schema says anything but `word` and remarks. */
static bool says_more(json_t *schema, const char *word)
{
    const char *name;
    json_t *value;
    json_object_foreach(schema, name, value)
    {
        if (strcmp(name, word) != 0 && !schema_is_remark(name)) {
            return true;
        }
    }
    return false;
}

/* The schema without one of its words. */
static int without(struct compiler *c, json_t *schema, const char *word, json_t **out)
{
    *out = json_copy(schema);
    if (*out == NULL || json_object_del(*out, word) != 0 ||
        json_array_append_new(c->made, *out) != 0) {
        return err_set(c->err, ERR_NOMEM, "out of memory for a schema");
    }
    return 0;
}

static int all_rule(struct compiler *c, json_t *schema, json_t *all, int depth, uint32_t *rule)
{
    json_t *merged = NULL;
    if (json_array_size(all) == 1 && !says_more(schema, "allOf")) {
        return schema_rule(c, json_array_get(all, 0), depth + 1, rule);
    }
    int rc = json_array_size(all) > 0
                 ? without(c, schema, "allOf", &merged)
                 : err_set(c->err, ERR_INVALID, "'allOf' in a schema must list some schemas");
    for (size_t i = 0; rc == 0 && i < json_array_size(all); i++) {
        rc = schema_merge(c, merged, json_array_get(all, i), depth + 1, &merged);
    }
    return rc == 0 ? schema_rule(c, merged, depth + 1, rule) : rc;
}

/* Exactly one is kept by writing one that no other takes. */
static int check_apart(struct compiler *c, const json_t *some)
{
    const size_t n = json_array_size(some);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            if (!schemas_apart(c, json_array_get(some, i), json_array_get(some, k), 0)) {
                return err_set(c->err, ERR_INVALID,
                               "'oneOf' in a schema: its branches %zu and %zu may both fit; "
                               "'anyOf' is supported",
                               k, i);
            }
        }
    }
    return 0;
}

static int any_rule(struct compiler *c, json_t *schema, const char *word, int depth, uint32_t *rule)
{
    enum { BRANCHES_MAX = 1000 };
    const json_t *some = json_object_get(schema, word);
    const bool more = says_more(schema, word);
    json_t *rest = NULL;
    size_t i;
    json_t *branch;
    if (json_array_size(some) == 0 || json_array_size(some) > BRANCHES_MAX) {
        return err_set(c->err, ERR_INVALID, "'%s' in a schema must list 1 to %d schemas", word,
                       BRANCHES_MAX);
    }
    int rc = strcmp(word, "oneOf") == 0 ? check_apart(c, some) : 0;
    rc = rc == 0 && more ? without(c, schema, word, &rest) : rc;
    *rule = rules_new(c->r);
    json_array_foreach(some, i, branch)
    {
        uint32_t part = 0;
        if (rc == 0 && more) {
            rc = schema_merge(c, rest, branch, depth + 1, &branch);
        }
        rc = rc == 0 ? schema_rule(c, branch, depth + 1, &part) : rc;
        if (rc != 0) {
            return rc;
        }
        rules_begin(c->r, *rule);
        rules_ref(c->r, part);
        rules_end(c->r);
    }
    return 0;
}

static bool is_of_type(const json_t *value, const json_t *types)
{
    const char *type = json_string_value(types);
    const double number = json_number_value(value);
    for (size_t i = 0; i < json_array_size(types); i++) {
        if (is_of_type(value, json_array_get(types, i))) {
            return true;
        }
    }
    return type != NULL && ((json_is_string(value) && strcmp(type, "string") == 0) ||
                            (json_is_object(value) && strcmp(type, "object") == 0) ||
                            (json_is_array(value) && strcmp(type, "array") == 0) ||
                            (json_is_boolean(value) && strcmp(type, "boolean") == 0) ||
                            (json_is_null(value) && strcmp(type, "null") == 0) ||
                            (json_is_number(value) &&
                             (strcmp(type, "number") == 0 ||
                              (strcmp(type, "integer") == 0 &&
                               (json_is_integer(value) || number == (double)(int64_t)number)))));
}

/* const and enum: those of their values that have the type. */
static int values_rule(struct compiler *c, const json_t *schema, uint32_t *rule)
{
    const json_t *constant = json_object_get(schema, "const");
    const json_t *values = json_object_get(schema, "enum");
    const json_t *types = json_object_get(schema, "type");
    const size_t n = constant != NULL ? 1 : json_array_size(values);
    bool some = false;
    if (n == 0) {
        return err_set(c->err, ERR_INVALID, "'enum' in a schema must list at least one value");
    }
    if (implied_type(schema) != NULL || (constant != NULL && values != NULL)) {
        return schema_refuse(c, constant != NULL ? "const beside other restrictions"
                                                 : "enum beside other restrictions");
    }
    *rule = rules_new(c->r);
    for (size_t i = 0; i < n; i++) {
        const json_t *value = constant != NULL ? constant : json_array_get(values, i);
        if (types == NULL || is_of_type(value, types)) {
            const int rc = schema_literal(c, value, *rule);
            if (rc != 0) {
                return rc;
            }
            some = true;
        }
    }
    return some ? 0
                : err_set(c->err, ERR_INVALID, "'%s' in a schema holds no value of its 'type'",
                          constant != NULL ? "const" : "enum");
}

static int words_rule(struct compiler *c, json_t *schema, int depth, uint32_t *rule)
{
    json_t *all = json_object_get(schema, "allOf");
    json_t *types = json_object_get(schema, "type");
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    json_t *merged = NULL;
    if (ref != NULL && !says_more(schema, "$ref")) {
        return ref_rule(c, ref, depth, rule);
    }
    if (ref != NULL) {
        json_t *target = schema_target(c, ref);
        int rc = target != NULL ? without(c, schema, "$ref", &merged) : -(int)c->err->code;
        rc = rc == 0 ? schema_merge(c, merged, target, depth + 1, &merged) : rc;
        return rc == 0 ? schema_rule(c, merged, depth + 1, rule) : rc;
    }
    if (all != NULL) {
        return all_rule(c, schema, all, depth, rule);
    }
    for (int i = 0; i < 2; i++) {
        const char *word = i == 0 ? "anyOf" : "oneOf";
        if (json_object_get(schema, word) != NULL) {
            return any_rule(c, schema, word, depth, rule);
        }
    }
    if (json_object_get(schema, "const") != NULL || json_object_get(schema, "enum") != NULL) {
        return values_rule(c, schema, rule);
    }
    if (types != NULL) {
        return types_rule(c, schema, types, depth, rule);
    }
    if (implied_type(schema) != NULL) {
        return type_rule(c, schema, implied_type(schema), depth, rule);
    }
    *rule = json_value_rule(c);
    return 0;
}

int schema_rule(struct compiler *c, json_t *schema, int depth, uint32_t *rule)
{
    *rule = 0;
    if (depth > GRAMMAR_DEPTH_MAX) {
        return err_set(c->err, ERR_TOO_LARGE, "a schema may be nested %d deep", GRAMMAR_DEPTH_MAX);
    }
    if (json_is_boolean(schema)) { /* false: a rule that matches nothing */
        *rule = json_is_true(schema) ? json_value_rule(c) : rules_new(c->r);
        return 0;
    }
    if (!json_is_object(schema)) {
        return err_set(c->err, ERR_INVALID, "a schema must be an object");
    }
    int rc = refuse_unknown(c, schema);
    if (rc == 0) {
        rc = words_rule(c, schema, depth, rule);
    }
    return rc == 0 ? rules_check(c->r, c->err) : rc;
}

/* --- the root --- */

static int compiler_init(struct compiler *c, struct rules *rules, json_t *root, struct err *err)
{
    memset(c, 0, sizeof *c);
    c->r = rules;
    c->root = root;
    c->made = json_array();
    c->err = err;
    c->space = c->character = c->string = c->integer = NONE;
    c->number = c->value = c->object = c->array = NONE;
    return c->made != NULL ? 0 : mem_err(err, 0);
}

static void compiler_release(struct compiler *c)
{
    json_decref(c->made);
}

/* A function's name as a call has it. */
static int name_rule(struct compiler *c, const json_t *name, const struct tool_format *format,
                     uint32_t *rule)
{
    *rule = rules_new(c->r);
    if (!format->bare_name) {
        return schema_literal(c, name, *rule);
    }
    rules_begin(c->r, *rule);
    rules_bytes(c->r, json_string_value(name), json_string_length(name));
    rules_end(c->r);
    return 0;
}

/* One alternative of `one`: {"name": "f", "arguments": …}. */
static int put_call(struct compiler *c, const json_t *call, const struct tool_format *format,
                    uint32_t one)
{
    uint32_t arguments = 0;
    uint32_t name = 0;
    int rc = 0;
    if (json_object_size(c->root) > 0) {
        rc = schema_rule(c, c->root, 0, &arguments);
    } else {
        (void)json_value_rule(c);
        arguments = (uint32_t)c->object;
    }
    rc = rc == 0 ? name_rule(c, json_object_get(call, "name"), format, &name) : rc;
    if (rc == 0) {
        rules_begin(c->r, one);
        rules_text(c->r, format->call_begin);
        rules_ref(c->r, name);
        rules_text(c->r, format->middle);
        rules_ref(c->r, arguments);
        rules_text(c->r, format->call_end);
        rules_end(c->r);
    }
    return rc;
}

/* One, or more where `between` is what stands between two. */
static uint32_t whole_rule(struct rules *rules, uint32_t one, const char *between,
                           const struct tool_format *format)
{
    uint32_t rest = 0;
    if (between != NULL) {
        const uint32_t more = rules_new(rules);
        rules_begin(rules, more);
        rules_text(rules, between);
        rules_ref(rules, one);
        rules_end(rules);
        rest = rules_repeat(rules, more, 0, -1);
    }
    const uint32_t whole = rules_new(rules);
    rules_begin(rules, whole);
    rules_text(rules, format->begin);
    rules_ref(rules, one);
    if (between != NULL) {
        rules_ref(rules, rest);
    }
    rules_text(rules, format->end);
    rules_end(rules);
    return whole;
}

static int compile_calls(struct rules *rules, const json_t *source,
                         const struct tool_format *format, uint32_t *root, struct err *err)
{
    const json_t *calls = json_object_get(source, "calls");
    const bool parallel = json_is_true(json_object_get(source, "parallel"));
    const uint32_t one = rules_new(rules);
    size_t i;
    const json_t *call;
    int rc = 0;
    json_array_foreach(calls, i, call)
    {
        struct compiler c;
        rc = rc == 0 ? compiler_init(&c, rules, json_object_get(call, "parameters"), err) : rc;
        if (rc == 0) {
            rc = put_call(&c, call, format, one);
            compiler_release(&c);
        }
    }
    *root = whole_rule(rules, one, parallel ? format->between : NULL, format);
    return rc;
}

static int compile_schema(struct rules *rules, json_t *schema, uint32_t *root, struct err *err)
{
    struct compiler c;
    int rc = compiler_init(&c, rules, schema, err);
    if (rc == 0 && json_is_true(schema)) {
        (void)json_value_rule(&c);
        *root = (uint32_t)c.object;
    } else if (rc == 0) {
        rc = schema_rule(&c, schema, 0, root);
    }
    compiler_release(&c);
    return rc;
}

int grammar_compile(struct rules *rules, const json_t *source, const struct tool_format *format,
                    uint32_t *root, struct err *err)
{
    const json_t *calls = json_object_get(source, "calls");
    int rc = calls != NULL
                 ? compile_calls(rules, source, format != NULL ? format : tool_format_named(NULL),
                                 root, err)
                 : compile_schema(rules, json_object_get(source, "schema"), root, err);
    if (rc == 0) {
        rc = rules_check(rules, err);
    }
    if (rc == 0) {
        rc = rules_order(rules, err);
    }
    return rc == 0 ? rules_prune(rules, *root, err) : rc;
}
