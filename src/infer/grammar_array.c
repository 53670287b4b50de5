/* Arrays: items of one schema, behind as many as prefixItems (draft 7: a list of items) names. */
#include "infer/grammar_json.h"

/* What follows the first i items of prefix; a tail may be nothing, too, where enough were written.
 */
static uint32_t put_item(struct compiler *c, size_t i, uint32_t item, bool may_end, uint32_t tail)
{
    const uint32_t space = json_space_rule(c);
    const uint32_t rule = rules_new(c->r);
    if (may_end) {
        json_text(c, rule, "");
    }
    rules_begin(c->r, rule);
    rules_text(c->r, i > 0 ? "," : "");
    rules_ref(c->r, space);
    rules_ref(c->r, item);
    rules_ref(c->r, tail);
    rules_end(c->r);
    return rule;
}

static int tuple_rule(struct compiler *c, json_t *prefix, json_t *items, int low, int high,
                      int depth, uint32_t *rule)
{
    const int n = (int)json_array_size(prefix);
    const int named = high >= 0 && high < n ? high : n;
    uint32_t item = 0;
    uint32_t tail = rules_new(c->r);
    json_text(c, tail, "");
    if (items != NULL && !json_is_false(items) && named == n) {
        const int rc = schema_rule(c, items, depth + 1, &item);
        if (rc != 0) {
            return rc;
        }
        const uint32_t next = put_item(c, 1, item, false, tail);
        tail = rules_repeat(c->r, next, low > n ? low - n : 0, high < 0 ? -1 : high - n);
    } else if (low > n) {
        return items == NULL ? schema_refuse(c, "minItems beyond prefixItems without items")
                             : err_set(c->err, ERR_INVALID,
                                       "'minItems' in a schema asks for more than prefixItems has");
    }
    for (int i = named; i-- > 0;) {
        const int rc = schema_rule(c, json_array_get(prefix, (size_t)i), depth + 1, &item);
        if (rc != 0) {
            return rc;
        }
        tail = put_item(c, (size_t)i, item, i >= low && i > 0, tail);
    }
    *rule = rules_new(c->r);
    rules_begin(c->r, *rule);
    rules_text(c->r, "[");
    rules_ref(c->r, tail);
    rules_text(c->r, "]");
    rules_end(c->r);
    return 0;
}

int array_rule(struct compiler *c, const json_t *schema, int depth, uint32_t *rule)
{
    json_t *items = json_object_get(schema, "items");
    json_t *prefix = json_object_get(schema, "prefixItems");
    int low;
    int high;
    int rc = schema_counts(c, schema, "minItems", "maxItems", &low, &high);
    if (rc == 0 && json_is_true(json_object_get(schema, "uniqueItems")) && (high < 0 || high > 1)) {
        rc = schema_refuse(c, "uniqueItems");
    }
    if (json_is_array(items)) {
        prefix = items;
        items = json_object_get(schema, "additionalItems");
    }
    if (rc == 0 && json_array_size(prefix) > 0) {
        return tuple_rule(c, prefix, items, low, high, depth, rule);
    }
    if (rc == 0 && json_is_false(items) && low == 0) {
        high = 0;
        items = NULL;
    }
    uint32_t item = 0;
    if (rc == 0) {
        rc = items != NULL ? schema_rule(c, items, depth + 1, &item) : 0;
    }
    if (rc == 0) {
        item = items != NULL ? item : json_value_rule(c);
        *rule = json_list_rule(c, "[", item, "]", low, high);
    }
    return rc;
}
