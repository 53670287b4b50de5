/* Objects. Members come in the order of `properties`, then those that `required` names without a
 * property, then others where additionalProperties says which. */
#include <string.h>

#include "base/mem.h"
#include "infer/grammar_json.h"
#include "infer/grammar_regex.h"

enum { PROPERTIES_MAX = 1000, NAME_LENGTH_MAX = 40 };

#define NAME_CHARACTERS "--09AZ__az"

bool schema_requires(const json_t *schema, const char *name)
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

/* --- objects whose members have any name --- */

/* Names by propertyNames or the one pattern of patternProperties. */
static int name_rule(struct compiler *c, json_t *names, const char *pattern, int depth,
                     uint32_t *rule)
{
    json_t *schema = NULL;
    if (pattern == NULL && names == NULL) {
        *rule = json_string_rule(c, 0, -1);
        return 0;
    }
    json_t *string = pattern != NULL ? json_pack("{s:s,s:s}", "type", "string", "pattern", pattern)
                                     : json_pack("{s:s}", "type", "string");
    if (string == NULL || json_array_append_new(c->made, string) != 0) {
        return mem_err(c->err, 0);
    }
    int rc = names != NULL ? schema_merge(c, string, names, depth + 1, &schema) : 0;
    schema = names != NULL ? schema : string;
    return rc == 0 ? schema_rule(c, schema, depth + 1, rule) : rc;
}

static int map_rule(struct compiler *c, const json_t *schema, int depth, uint32_t *rule)
{
    json_t *patterns = json_object_get(schema, "patternProperties");
    json_t *names = json_object_get(schema, "propertyNames");
    json_t *value = json_object_get(schema, "additionalProperties");
    const char *pattern = json_object_iter_key(json_object_iter(patterns));
    uint32_t name = 0;
    uint32_t member = 0;
    int low;
    int high;
    int rc = schema_counts(c, schema, "minProperties", "maxProperties", &low, &high);
    if (rc == 0 && low > 1) {
        rc = schema_refuse(c, "minProperties of more than required names");
    }
    if (rc == 0 && json_object_size(patterns) > 1) {
        rc = schema_refuse(c, "more than one of patternProperties");
    }
    if (rc == 0 && pattern == NULL && json_is_false(value)) {
        high = 0;
        if (low > 0) {
            rc = err_set(c->err, ERR_INVALID, "'minProperties' in a schema leaves nothing");
        }
    }
    if (rc == 0 && high != 0) {
        value = pattern != NULL ? json_object_get(patterns, pattern) : value;
        rc = name_rule(c, names, pattern, depth, &name);
        if (rc == 0) {
            rc = value != NULL ? schema_rule(c, value, depth + 1, &member) : 0;
        }
    }
    if (rc == 0) {
        member = high == 0 ? 0 : value != NULL ? member : json_value_rule(c);
        member = high == 0 ? json_space_rule(c) : json_member_rule(c, name, member);
        *rule = json_list_rule(c, "{", member, "}", low, high);
    }
    return rc;
}

/* --- objects with names of their own --- */

/* Two rules for what follows property i: `first` while nothing was written yet, `later` after. */
struct tail {
    uint32_t first, later;
};

static int put_property(struct compiler *c, const char *name, uint32_t value, bool required,
                        struct tail *tail)
{
    json_t *text = json_string(name);
    const uint32_t quoted = rules_new(c->r);
    const int rc = text != NULL ? schema_literal(c, text, quoted)
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

/* The members that required names and properties do not know. */
static int put_unknown(struct compiler *c, const json_t *schema, int depth, struct tail *tail)
{
    const json_t *properties = json_object_get(schema, "properties");
    json_t *additional = json_object_get(schema, "additionalProperties");
    size_t i;
    const json_t *word;
    json_array_foreach(json_object_get(schema, "required"), i, word)
    {
        const char *name = json_string_value(word);
        uint32_t value = 0;
        if (name == NULL || json_object_get(properties, name) != NULL) {
            continue;
        }
        if (json_is_false(additional)) {
            return schema_refuse(c, "required of a member that properties do not have");
        }
        int rc = json_is_object(additional) ? schema_rule(c, additional, depth + 1, &value) : 0;
        if (rc == 0) {
            value = json_is_object(additional) ? value : json_value_rule(c);
            rc = put_property(c, name, value, true, tail);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static bool name_is_known(const json_t *schema, const char *name)
{
    return json_object_get(json_object_get(schema, "properties"), name) != NULL ||
           schema_requires(schema, name);
}

/* Which characters known names have behind prefix[0 … at). */
static void mark_next(const char *name, const char *prefix, size_t at, bool next[128])
{
    if (strncmp(name, prefix, at) == 0 && (unsigned char)name[at] < 128) {
        next[(unsigned char)name[at]] = true;
    }
}

/* The rest of a name, behind prefix[0 … at), that makes it none of the known ones. */
static uint32_t other_name(struct compiler *c, const json_t *schema, char *prefix, size_t at,
                           uint32_t letter)
{
    static const char letters[] =
        "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    bool next[128] = {false};
    char free_letters[2 * sizeof letters];
    size_t n_free = 0;
    const char *name;
    json_t *value;
    size_t i;
    json_object_foreach(json_object_get(schema, "properties"), name, value)
    {
        mark_next(name, prefix, at, next);
    }
    json_array_foreach(json_object_get(schema, "required"), i, value)
    {
        mark_next(json_is_string(value) ? json_string_value(value) : "", prefix, at, next);
    }
    const uint32_t rule = rules_new(c->r);
    prefix[at] = '\0';
    if (at > 0 && !name_is_known(schema, prefix)) {
        json_text(c, rule, "");
    }
    if (at == NAME_LENGTH_MAX) {
        return rule;
    }
    for (const char *l = letters; *l != '\0'; l++) {
        if (!next[(unsigned char)*l]) {
            free_letters[n_free++] = *l;
            free_letters[n_free++] = *l;
            continue;
        }
        prefix[at] = *l;
        const uint32_t behind = other_name(c, schema, prefix, at + 1, letter);
        rules_begin(c->r, rule);
        rules_bytes(c->r, l, 1);
        rules_ref(c->r, behind);
        rules_end(c->r);
    }
    const uint32_t rest = rules_repeat(c->r, letter, 0, NAME_LENGTH_MAX - 1 - (int)at);
    rules_begin(c->r, rule);
    rules_class(c->r, free_letters, n_free);
    rules_ref(c->r, rest);
    rules_end(c->r);
    return rule;
}

/* Members of other names, by additionalProperties: at most `most` (negative: any number). */
static int put_others(struct compiler *c, const json_t *schema, int depth, int most,
                      struct tail *tail)
{
    json_t *additional = json_object_get(schema, "additionalProperties");
    char prefix[NAME_LENGTH_MAX + 1] = "";
    uint32_t value = 0;
    const int rc = schema_rule(c, additional, depth + 1, &value);
    if (rc != 0) {
        return rc;
    }
    const uint32_t letter = rules_new(c->r);
    rules_begin(c->r, letter);
    rules_class(c->r, NAME_CHARACTERS, sizeof NAME_CHARACTERS - 1);
    rules_end(c->r);
    const uint32_t rest = other_name(c, schema, prefix, 0, letter);
    const uint32_t name = rules_new(c->r);
    rules_begin(c->r, name);
    rules_text(c->r, "\"");
    rules_ref(c->r, rest);
    rules_text(c->r, "\"");
    rules_end(c->r);
    const uint32_t member = json_member_rule(c, name, value);
    const uint32_t space = json_space_rule(c);
    const uint32_t next = rules_new(c->r);
    rules_begin(c->r, next);
    rules_text(c->r, ",");
    rules_ref(c->r, space);
    rules_ref(c->r, member);
    rules_end(c->r);
    const uint32_t more = rules_repeat(c->r, next, 0, most < 0 ? -1 : most - 1);
    tail->later = rules_repeat(c->r, next, 0, most);
    tail->first = rules_new(c->r);
    json_text(c, tail->first, "");
    rules_begin(c->r, tail->first);
    rules_ref(c->r, member);
    rules_ref(c->r, more);
    rules_end(c->r);
    return 0;
}

static int check_names(struct compiler *c, const json_t *schema, size_t n, int *most)
{
    const size_t n_required = json_array_size(json_object_get(schema, "required"));
    int low;
    int high;
    const int rc = schema_counts(c, schema, "minProperties", "maxProperties", &low, &high);
    const int left = high - (int)(n + n_required);
    *most = high < 0 ? -1 : left > 0 ? left : 0;
    if (rc == 0 && json_object_size(json_object_get(schema, "patternProperties")) > 0) {
        return schema_refuse(c, "patternProperties beside properties");
    }
    if (rc == 0 && json_object_get(schema, "propertyNames") != NULL) {
        return schema_refuse(c, "propertyNames beside properties");
    }
    if (rc == 0 && low > (int)n_required) {
        return schema_refuse(c, "minProperties of more than required names");
    }
    if (rc == 0 && high >= 0 && high < (int)n) {
        return schema_refuse(c, "maxProperties of less than properties names");
    }
    return rc;
}

static int named_rule(struct compiler *c, const json_t *schema, uint32_t *values, int depth,
                      int most, uint32_t *rule)
{
    json_t *properties = json_object_get(schema, "properties");
    json_t *additional = json_object_get(schema, "additionalProperties");
    struct tail tail = {0, 0};
    const char *name;
    json_t *property;
    const char **names = NULL;
    size_t i = 0;
    int rc = 0;
    names = mem_calloc(json_object_size(properties) + 1, sizeof *names);
    if (names == NULL) {
        return mem_err(c->err, 0);
    }
    json_object_foreach(properties, name, property)
    {
        rc = rc == 0 ? schema_rule(c, property, depth + 1, &values[i]) : rc;
        names[i++] = name;
    }
    if (rc == 0 && (json_is_true(additional) || json_is_object(additional)) && most != 0) {
        rc = put_others(c, schema, depth, most, &tail);
    } else {
        tail.first = tail.later = rules_new(c->r);
        json_text(c, tail.first, "");
    }
    rc = rc == 0 ? put_unknown(c, schema, depth, &tail) : rc;
    while (rc == 0 && i-- > 0) {
        rc = put_property(c, names[i], values[i], schema_requires(schema, names[i]), &tail);
    }
    mem_free(names);
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

int object_rule(struct compiler *c, const json_t *schema, int depth, uint32_t *rule)
{
    const size_t n = json_object_size(json_object_get(schema, "properties"));
    int most = -1;
    if (n == 0 && json_array_size(json_object_get(schema, "required")) == 0) {
        return map_rule(c, schema, depth, rule);
    }
    if (n > PROPERTIES_MAX) {
        return err_set(c->err, ERR_TOO_LARGE, "a schema may have %d properties", PROPERTIES_MAX);
    }
    int rc = check_names(c, schema, n, &most);
    uint32_t *values = rc == 0 ? mem_calloc(n + 1, sizeof *values) : NULL;
    if (rc == 0 && values == NULL) {
        rc = mem_err(c->err, n * sizeof *values);
    }
    if (rc == 0) {
        rc = named_rule(c, schema, values, depth, most, rule);
    }
    mem_free(values);
    return rc;
}
