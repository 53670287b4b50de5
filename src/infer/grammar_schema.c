/* Every schema becomes one rule, its parts first. A `$ref` is looked up by its pointer, so that a
 * schema that refers to itself finds the rule that is being written. */
#include "infer/grammar_schema.h"

#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "infer/grammar.h"
#include "infer/grammar_json.h"

enum { LITERAL_BYTES_MAX = 1 << 16 };

static int refuse(struct compiler *c, const char *what)
{
    return err_set(c->err, ERR_INVALID, "'%s' in a schema is not supported", what);
}

static int compile(struct compiler *c, const json_t *schema, int depth, uint32_t *rule);

/* A value written out. */
static int literal(struct compiler *c, const json_t *value, uint32_t rule)
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

static int compile_values(struct compiler *c, const json_t *values, uint32_t *rule)
{
    size_t i;
    const json_t *value;
    if (json_array_size(values) == 0) {
        return err_set(c->err, ERR_INVALID, "'enum' in a schema must list at least one value");
    }
    *rule = rules_new(c->r);
    json_array_foreach(values, i, value)
    {
        const int rc = literal(c, value, *rule);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int compile_any(struct compiler *c, const json_t *schemas, const char *name, int depth,
                       uint32_t *rule)
{
    size_t i;
    const json_t *schema;
    if (json_array_size(schemas) == 0) {
        return err_set(c->err, ERR_INVALID, "'%s' in a schema must list at least one schema", name);
    }
    *rule = rules_new(c->r);
    json_array_foreach(schemas, i, schema)
    {
        uint32_t part;
        const int rc = compile(c, schema, depth + 1, &part);
        if (rc != 0) {
            return rc;
        }
        rules_begin(c->r, *rule);
        rules_ref(c->r, part);
        rules_end(c->r);
    }
    return 0;
}

static int compile_ref(struct compiler *c, const char *ref, int depth, uint32_t *rule)
{
    uint32_t target;
    for (size_t i = 0; i < c->n_refs; i++) {
        if (strcmp(c->refs[i].pointer, ref) == 0) {
            *rule = c->refs[i].rule;
            return 0;
        }
    }
    const json_t *schema = ref[0] == '#' ? json_follow(c->root, ref + 1) : NULL;
    if (schema == NULL) {
        return err_set(c->err, ERR_INVALID, "'$ref' \"%.100s\" leads nowhere in the schema", ref);
    }
    if (c->n_refs == REFS_MAX) {
        return err_set(c->err, ERR_TOO_LARGE, "a schema may have %d different references",
                       REFS_MAX);
    }
    *rule = rules_new(c->r);
    c->refs[c->n_refs].pointer = ref;
    c->refs[c->n_refs++].rule = *rule;
    const int rc = compile(c, schema, depth + 1, &target);
    if (rc == 0) {
        rules_begin(c->r, *rule);
        rules_ref(c->r, target);
        rules_end(c->r);
    }
    return rc;
}

/* A count that a schema gives; `fallback` when it does not. */
static int count(struct compiler *c, const json_t *schema, const char *name, int fallback, int *out)
{
    int64_t value = fallback;
    const int rc = json_get_int(schema, name, fallback, &value, c->err);
    if (rc == 0 && (value < -1 || value > GRAMMAR_REPEATS_MAX)) {
        return err_set(c->err, ERR_INVALID, "'%s' in a schema may be at most %d", name,
                       GRAMMAR_REPEATS_MAX);
    }
    *out = (int)value;
    return rc;
}

static int counts(struct compiler *c, const json_t *schema, const char *low_name,
                  const char *high_name, int *low, int *high)
{
    int rc = count(c, schema, low_name, 0, low);
    if (rc == 0) {
        rc = count(c, schema, high_name, -1, high);
    }
    if (rc == 0 && (*low < 0 || (*high >= 0 && *high < *low))) {
        rc = err_set(c->err, ERR_INVALID, "'%s' and '%s' in a schema leave nothing", low_name,
                     high_name);
    }
    return rc;
}

static int compile_string(struct compiler *c, const json_t *schema, uint32_t *rule)
{
    const char *format = json_string_value(json_object_get(schema, "format"));
    int low;
    int high;
    if (json_object_get(schema, "pattern") != NULL) {
        return refuse(c, "pattern");
    }
    if (format != NULL) {
        return json_format(c, format, rule);
    }
    const int rc = counts(c, schema, "minLength", "maxLength", &low, &high);
    if (rc == 0) {
        *rule = json_string_rule(c, low, high);
    }
    return rc;
}

static int compile_number(struct compiler *c, const json_t *schema, bool whole, uint32_t *rule)
{
    static const char *const bounds[] = {"maximum", "exclusiveMinimum", "exclusiveMaximum",
                                         "multipleOf"};
    const json_t *minimum = json_object_get(schema, "minimum");
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (json_object_get(schema, bounds[i]) != NULL) {
            return refuse(c, bounds[i]);
        }
    }
    if (minimum != NULL && (!json_is_number(minimum) || json_number_value(minimum) != 0.0)) {
        return refuse(c, "minimum other than 0");
    }
    *rule = whole ? json_integer_rule(c, minimum == NULL) : json_number_rule(c, minimum == NULL);
    return 0;
}

/* [a, b, … items]: the first ones by prefixItems. */
static int compile_tuple(struct compiler *c, const json_t *prefix, int depth, uint32_t *rule)
{
    const size_t n = json_array_size(prefix);
    uint32_t tail = rules_new(c->r);
    rules_begin(c->r, tail);
    rules_end(c->r);
    for (size_t i = n; i-- > 0;) {
        uint32_t item;
        const int rc = compile(c, json_array_get(prefix, i), depth + 1, &item);
        if (rc != 0) {
            return rc;
        }
        const uint32_t space = json_space_rule(c);
        const uint32_t part = rules_new(c->r);
        rules_begin(c->r, part);
        rules_text(c->r, i > 0 ? "," : "[");
        rules_ref(c->r, space);
        rules_ref(c->r, item);
        rules_ref(c->r, tail);
        rules_end(c->r);
        tail = part;
    }
    *rule = rules_new(c->r);
    rules_begin(c->r, *rule);
    rules_ref(c->r, tail);
    rules_text(c->r, "]");
    rules_end(c->r);
    return 0;
}

static int compile_array(struct compiler *c, const json_t *schema, int depth, uint32_t *rule)
{
    const json_t *items = json_object_get(schema, "items");
    const json_t *prefix = json_object_get(schema, "prefixItems");
    int low;
    int high;
    int rc = counts(c, schema, "minItems", "maxItems", &low, &high);
    if (rc == 0 && json_is_true(json_object_get(schema, "uniqueItems"))) {
        rc = refuse(c, "uniqueItems");
    }
    if (rc == 0 && json_array_size(prefix) > 0) {
        const int n = (int)json_array_size(prefix);
        return low > n || (high >= 0 && high < n) ? refuse(c, "minItems or maxItems of a tuple")
                                                  : compile_tuple(c, prefix, depth, rule);
    }
    uint32_t item = 0;
    if (rc == 0) {
        rc = items != NULL ? compile(c, items, depth + 1, &item) : 0;
    }
    if (rc == 0) {
        item = items != NULL ? item : json_value_rule(c);
        *rule = json_list_rule(c, "[", item, "]", low, high);
    }
    return rc;
}

static bool is_required(const json_t *schema, const char *name)
{
    size_t i;
    const json_t *word;
    json_array_foreach(json_object_get(schema, "required"), i, word)
    {
        if (json_is_string(word) && strcmp(json_string_value(word), name) == 0) {
            return true;
        }
    }
    return false;
}

/* Two rules for what follows property i: `first` while nothing was written yet, `later` after. */
struct tail {
    uint32_t first, later;
};

static int put_property(struct compiler *c, const char *name, uint32_t value, bool required,
                        struct tail *tail)
{
    json_t *text = json_string(name);
    const uint32_t quoted = rules_new(c->r);
    const int rc = text != NULL ? literal(c, text, quoted)
                                : err_set(c->err, ERR_NOMEM, "out of memory for a schema");
    json_decref(text);
    if (rc != 0) {
        return rc;
    }
    const uint32_t member = json_member_rule(c, quoted, value);
    const struct tail made = {rules_new(c->r), rules_new(c->r)};
    rules_begin(c->r, made.first);
    rules_ref(c->r, member);
    rules_ref(c->r, tail->later);
    rules_end(c->r);
    rules_begin(c->r, made.later);
    rules_text(c->r, ",");
    rules_ref(c->r, json_space_rule(c));
    rules_ref(c->r, member);
    rules_ref(c->r, tail->later);
    rules_end(c->r);
    if (!required) {
        rules_begin(c->r, made.first);
        rules_ref(c->r, tail->first);
        rules_end(c->r);
        rules_begin(c->r, made.later);
        rules_ref(c->r, tail->later);
        rules_end(c->r);
    }
    *tail = made;
    return 0;
}

/* Members of required that properties do not know: of any value. */
static int put_unknown(struct compiler *c, const json_t *schema, struct tail *tail)
{
    const json_t *properties = json_object_get(schema, "properties");
    const json_t *additional = json_object_get(schema, "additionalProperties");
    size_t i;
    const json_t *word;
    int rc = 0;
    json_array_foreach(json_object_get(schema, "required"), i, word)
    {
        const char *name = json_string_value(word);
        if (rc == 0 && name != NULL && json_object_get(properties, name) == NULL) {
            rc = json_is_false(additional) || json_is_object(additional)
                     ? refuse(c, "required of a member that properties do not have")
                     : put_property(c, name, json_value_rule(c), true, tail);
        }
    }
    return rc;
}

static int compile_map(struct compiler *c, const json_t *schema, int depth, uint32_t *rule)
{
    const json_t *additional = json_object_get(schema, "additionalProperties");
    uint32_t value = 0;
    int rc = json_is_object(additional) ? compile(c, additional, depth + 1, &value) : 0;
    if (rc == 0 && json_is_false(additional)) {
        *rule = rules_new(c->r);
        json_text(c, *rule, "{}");
    } else if (rc == 0) {
        value = json_is_object(additional) ? value : json_value_rule(c);
        *rule = json_list_rule(c, "{", json_member_rule(c, json_string_rule(c, 0, -1), value), "}",
                               0, -1);
    }
    return rc;
}

static int compile_object(struct compiler *c, const json_t *schema, int depth, uint32_t *rule)
{
    enum { PROPERTIES_MAX = 1000 };
    json_t *properties = json_object_get(schema, "properties");
    const size_t n = json_object_size(properties);
    const char *names[PROPERTIES_MAX];
    uint32_t values[PROPERTIES_MAX];
    const char *name;
    const json_t *property;
    size_t i = 0;
    if (n == 0 && json_array_size(json_object_get(schema, "required")) == 0) {
        return compile_map(c, schema, depth, rule);
    }
    if (n > PROPERTIES_MAX) {
        return err_set(c->err, ERR_TOO_LARGE, "a schema may have %d properties", PROPERTIES_MAX);
    }
    json_object_foreach(properties, name, property)
    {
        const int rc = compile(c, property, depth + 1, &values[i]);
        if (rc != 0) {
            return rc;
        }
        names[i++] = name;
    }
    struct tail tail = {rules_new(c->r), 0};
    tail.later = tail.first;
    json_text(c, tail.first, "");
    int rc = put_unknown(c, schema, &tail);
    while (rc == 0 && i-- > 0) {
        rc = put_property(c, names[i], values[i], is_required(schema, names[i]), &tail);
    }
    *rule = rules_new(c->r);
    rules_begin(c->r, *rule);
    rules_text(c->r, "{");
    rules_ref(c->r, json_space_rule(c));
    rules_ref(c->r, tail.first);
    rules_ref(c->r, json_space_rule(c));
    rules_text(c->r, "}");
    rules_end(c->r);
    return rc;
}

static int compile_type(struct compiler *c, const json_t *schema, const char *type, int depth,
                        uint32_t *rule)
{
    if (strcmp(type, "object") == 0) {
        return compile_object(c, schema, depth, rule);
    }
    if (strcmp(type, "array") == 0) {
        return compile_array(c, schema, depth, rule);
    }
    if (strcmp(type, "string") == 0) {
        return compile_string(c, schema, rule);
    }
    if (strcmp(type, "number") == 0 || strcmp(type, "integer") == 0) {
        return compile_number(c, schema, type[0] == 'i', rule);
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

static int compile_types(struct compiler *c, const json_t *schema, const json_t *types, int depth,
                         uint32_t *rule)
{
    size_t i;
    const json_t *type;
    if (json_is_string(types)) {
        return compile_type(c, schema, json_string_value(types), depth, rule);
    }
    *rule = rules_new(c->r);
    json_array_foreach(types, i, type)
    {
        uint32_t part;
        const char *word = json_string_value(type);
        const int rc = compile_type(c, schema, word != NULL ? word : "?", depth, &part);
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
        {"properties", "object"}, {"required", "object"},   {"additionalProperties", "object"},
        {"items", "array"},       {"prefixItems", "array"}, {"minItems", "array"},
        {"maxItems", "array"},    {"minLength", "string"},  {"maxLength", "string"},
        {"pattern", "string"},    {"format", "string"},     {"minimum", "number"},
        {"maximum", "number"},    {"multipleOf", "number"},
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
        "not",
        "if",
        "then",
        "else",
        "dependentSchemas",
        "dependentRequired",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "contains",
        "minContains",
        "maxContains",
        "unevaluatedProperties",
        "unevaluatedItems",
        "$dynamicRef",
        "additionalItems",
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const json_t *value = json_object_get(schema, words[i]);
        if (value != NULL && !json_is_false(value)) {
            return refuse(c, words[i]);
        }
    }
    return 0;
}

static int compile_words(struct compiler *c, const json_t *schema, int depth, uint32_t *rule)
{
    const json_t *constant = json_object_get(schema, "const");
    const json_t *values = json_object_get(schema, "enum");
    const json_t *all = json_object_get(schema, "allOf");
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    const json_t *types = json_object_get(schema, "type");
    if (ref != NULL) {
        return compile_ref(c, ref, depth, rule);
    }
    if (constant != NULL) {
        *rule = rules_new(c->r);
        return literal(c, constant, *rule);
    }
    if (values != NULL) {
        return compile_values(c, values, rule);
    }
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "anyOf" : "oneOf";
        const json_t *some = json_object_get(schema, name);
        if (some != NULL) {
            return implied_type(schema) != NULL
                       ? refuse(c, "anyOf or oneOf beside other restrictions")
                       : compile_any(c, some, name, depth, rule);
        }
    }
    if (all != NULL) {
        return json_array_size(all) == 1 && implied_type(schema) == NULL
                   ? compile(c, json_array_get(all, 0), depth + 1, rule)
                   : refuse(c, "allOf of several");
    }
    if (types != NULL) {
        return compile_types(c, schema, types, depth, rule);
    }
    if (implied_type(schema) != NULL) {
        return compile_type(c, schema, implied_type(schema), depth, rule);
    }
    *rule = json_value_rule(c);
    return 0;
}

static int compile(struct compiler *c, const json_t *schema, int depth, uint32_t *rule)
{
    *rule = 0;
    if (depth > GRAMMAR_DEPTH_MAX) {
        return err_set(c->err, ERR_TOO_LARGE, "a schema may be nested %d deep", GRAMMAR_DEPTH_MAX);
    }
    if (json_is_true(schema)) {
        *rule = json_value_rule(c);
        return 0;
    }
    if (!json_is_object(schema)) {
        return err_set(c->err, ERR_INVALID, "a schema must be an object");
    }
    int rc = refuse_unknown(c, schema);
    if (rc == 0) {
        rc = compile_words(c, schema, depth, rule);
    }
    return rc == 0 ? rules_check(c->r, c->err) : rc;
}

/* --- the root --- */

static void compiler_init(struct compiler *c, struct rules *rules, const json_t *root,
                          struct err *err)
{
    memset(c, 0, sizeof *c);
    c->r = rules;
    c->root = root;
    c->err = err;
    c->space = c->character = c->string = c->integer = NONE;
    c->number = c->value = c->object = c->array = NONE;
}

/* One alternative per tool: {"name": "f", "arguments": …}. */
static int compile_calls(struct rules *rules, const json_t *calls, bool llama3, uint32_t *root,
                         struct err *err)
{
    size_t i;
    const json_t *call;
    *root = rules_new(rules);
    json_array_foreach(calls, i, call)
    {
        struct compiler c;
        uint32_t arguments;
        const json_t *parameters = json_object_get(call, "parameters");
        compiler_init(&c, rules, parameters, err);
        int rc = 0;
        if (json_object_size(parameters) > 0) {
            rc = compile(&c, parameters, 0, &arguments);
        } else {
            (void)json_value_rule(&c);
            arguments = (uint32_t)c.object;
        }
        const uint32_t name = rules_new(rules);
        rc = rc == 0 ? literal(&c, json_object_get(call, "name"), name) : rc;
        if (rc != 0) {
            return rc;
        }
        rules_begin(rules, *root);
        rules_text(rules, llama3 ? "{\"name\": " : "<tool_call>\n{\"name\": ");
        rules_ref(rules, name);
        rules_text(rules, llama3 ? ", \"parameters\": " : ", \"arguments\": ");
        rules_ref(rules, arguments);
        rules_text(rules, llama3 ? "}" : "}\n</tool_call>");
        rules_end(rules);
    }
    return 0;
}

int grammar_compile(struct rules *rules, const json_t *source, const char *tool_format,
                    uint32_t *root, struct err *err)
{
    const json_t *schema = json_object_get(source, "schema");
    const json_t *calls = json_object_get(source, "calls");
    const bool llama3 = tool_format != NULL && strcmp(tool_format, "llama3") == 0;
    struct compiler c;
    int rc = 0;
    compiler_init(&c, rules, schema, err);
    if (calls != NULL) {
        rc = compile_calls(rules, calls, llama3, root, err);
    } else if (json_is_true(schema)) {
        (void)json_value_rule(&c);
        *root = (uint32_t)c.object;
    } else {
        rc = compile(&c, schema, 0, root);
    }
    if (rc == 0) {
        rc = rules_check(rules, err);
    }
    return rc == 0 ? rules_check_left(rules, err) : rc;
}
