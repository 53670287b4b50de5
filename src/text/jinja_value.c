/* Making values and asking about them, by Python's rules.
 *
 * Equality, order and hash follow Python: 1 == 1.0 == True and all three are one key of a dict;
 * strings order by code point, which for UTF-8 is the order of bytes; lists and tuples compare
 * item by item. Walks into nested values go through jinja_enter, since a namespace lets a template
 * nest values without bound.
 */
#include "text/jinja_value.h"

#include <math.h>
#include <string.h>

#include "text/jinja_unicode.h"
#include "text/template.h"

enum { STORE_MIN = 8 };

/* Items laid out with room behind them; see struct jlist. */
struct jstore {
    uint32_t used, cap;
    struct jvalue items[];
};

struct jvalue jv_missing(void)
{
    return (struct jvalue){.type = J_MISSING};
}

struct jvalue jv_none(void)
{
    return (struct jvalue){.type = J_NONE};
}

struct jvalue jv_bool(bool b)
{
    return (struct jvalue){.type = J_BOOL, .as.boolean = b};
}

struct jvalue jv_int(int64_t i)
{
    return (struct jvalue){.type = J_INT, .as.integer = i};
}

struct jvalue jv_float(double d)
{
    return (struct jvalue){.type = J_FLOAT, .as.real = d};
}

struct jvalue jv_string(const char *text, size_t length)
{
    return (struct jvalue){.type = J_STRING, .len = (uint32_t)length, .as.text = text};
}

struct jvalue jv_text(const char *text)
{
    return jv_string(text, strlen(text));
}

struct jvalue jv_undefined(const char *hint)
{
    return (struct jvalue){.type = J_UNDEFINED, .flag = JF_HINT, .as.text = hint};
}

struct jvalue jv_no_attribute(struct jvalue object, const char *name)
{
    return (struct jvalue){
        .type = J_UNDEFINED, .flag = JF_ATTRIBUTE, .len = object.type, .as.text = name};
}

int jv_list(struct jinja *j, enum jtype type, size_t n, struct jvalue *out)
{
    if (n > UINT32_MAX) {
        return jinja_fail(j, ERR_TOO_LARGE, "list too long");
    }
    struct jlist *list = jinja_alloc(j, 1, sizeof *list);
    struct jvalue *items = list == NULL ? NULL : jinja_alloc(j, n, sizeof *items);
    if (items == NULL) {
        return j->failed;
    }
    list->n = (uint32_t)n;
    list->items = items;
    *out = (struct jvalue){.type = (uint8_t)type, .as.list = list};
    return 0;
}

int jv_pair(struct jinja *j, struct jvalue a, struct jvalue b, struct jvalue *out)
{
    int rc = jv_list(j, J_TUPLE, 2, out);
    if (rc == 0) {
        out->as.list->items[0] = a;
        out->as.list->items[1] = b;
    }
    return rc;
}

int jv_list_concat(struct jinja *j, struct jvalue a, struct jvalue b, struct jvalue *out)
{
    const struct jlist *left = a.as.list;
    const struct jlist *right = b.as.list;
    size_t total = (size_t)left->n + right->n;
    struct jlist *list = jinja_alloc(j, 1, sizeof *list);
    if (list == NULL) {
        return j->failed;
    }
    struct jstore *store = left->store;
    if (store == NULL || left->items + left->n != store->items + store->used ||
        store->cap - store->used < right->n) {
        size_t cap = total < STORE_MIN ? STORE_MIN : 2 * total;
        store = jinja_alloc(j, 1, sizeof *store + cap * sizeof *store->items);
        if (store == NULL) {
            return j->failed;
        }
        jinja_charge(j, left->n * sizeof *left->items);
        if (left->n > 0) {
            memcpy(store->items, left->items, left->n * sizeof *left->items);
        }
        store->cap = (uint32_t)cap;
        store->used = left->n;
        list->items = store->items;
    } else {
        list->items = left->items;
    }
    jinja_charge(j, right->n * sizeof *right->items);
    if (right->n > 0) {
        memcpy(store->items + store->used, right->items, right->n * sizeof *right->items);
    }
    store->used += right->n;
    list->n = (uint32_t)total;
    list->store = store;
    *out = (struct jvalue){.type = a.type, .as.list = list};
    return 0;
}

const char *jv_type_name(const struct jvalue *v)
{
    static const char *const names[] = {
        [J_MISSING] = "Undefined",
        [J_UNDEFINED] = "Undefined",
        [J_NONE] = "NoneType",
        [J_BOOL] = "bool",
        [J_INT] = "int",
        [J_FLOAT] = "float",
        [J_STRING] = "str",
        [J_LIST] = "list",
        [J_TUPLE] = "tuple",
        [J_DICT] = "dict",
        [J_NAMESPACE] = "Namespace",
        [J_RANGE] = "range",
        [J_VIEW] = "dict_view",
        [J_ITERATOR] = "generator",
        [J_LOOP] = "LoopContext",
        [J_MACRO] = "Macro",
        [J_FUNCTION] = "function",
        [J_METHOD] = "method",
    };
    return names[v->type];
}

bool jv_is(struct jvalue v, enum jtype type)
{
    return v.type == type;
}

bool jv_is_number(struct jvalue v)
{
    return v.type == J_BOOL || v.type == J_INT || v.type == J_FLOAT;
}

bool jv_is_text(struct jvalue v, const char *text)
{
    return v.type == J_STRING && v.len == strlen(text) && memcmp(v.as.text, text, v.len) == 0;
}

bool jv_truth(struct jvalue v)
{
    int64_t n;
    switch ((enum jtype)v.type) {
    case J_MISSING:
    case J_UNDEFINED:
    case J_NONE:
        return false;
    case J_BOOL:
        return v.as.boolean;
    case J_INT:
        return v.as.integer != 0;
    case J_FLOAT:
        return v.as.real != 0.0;
    case J_STRING:
        return v.len > 0;
    case J_LIST:
    case J_TUPLE:
        return v.as.list->n > 0;
    case J_DICT:
        return v.as.dict->n > 0;
    case J_RANGE:
        n = v.as.range->n;
        return n > 0;
    case J_VIEW:
        return v.as.view->dict->n > 0;
    case J_NAMESPACE:
    case J_ITERATOR:
    case J_LOOP:
    case J_MACRO:
    case J_FUNCTION:
    case J_METHOD:
        break;
    }
    return true;
}

bool jv_same(struct jvalue a, struct jvalue b)
{
    if (a.type != b.type) {
        return false;
    }
    switch ((enum jtype)a.type) {
    case J_NONE:
        return true;
    case J_BOOL:
        return a.as.boolean == b.as.boolean;
    case J_INT:
        return a.as.integer == b.as.integer;
    case J_STRING:
        return a.as.text == b.as.text && a.len == b.len;
    case J_UNDEFINED:
    case J_FLOAT:
        return false;
    default:
        return a.as.list == b.as.list;
    }
}

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ (h >> 29);
}

uint64_t jv_hash_text(const char *text, size_t length)
{
    uint64_t h = UINT64_C(1469598103934665603);
    for (size_t i = 0; i < length; i++) {
        h = (h ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    }
    return mix(h, length);
}

/* True when the double is a whole number that int64 holds. */
static bool whole(double d, int64_t *out)
{
    if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0) || d != floor(d)) {
        return false;
    }
    *out = (int64_t)d;
    return true;
}

int jv_hash(struct jinja *j, struct jvalue v, uint64_t *out)
{
    int64_t i;
    uint64_t bits;
    switch ((enum jtype)v.type) {
    case J_STRING:
        *out = jv_hash_text(v.as.text, v.len);
        return 0;
    case J_BOOL:
        *out = mix(1, v.as.boolean);
        return 0;
    case J_INT:
        *out = mix(1, (uint64_t)v.as.integer);
        return 0;
    case J_FLOAT:
        if (whole(v.as.real, &i)) {
            *out = mix(1, (uint64_t)i);
        } else {
            memcpy(&bits, &v.as.real, sizeof bits);
            *out = mix(2, bits);
        }
        return 0;
    case J_TUPLE: {
        int rc = jinja_enter(j);
        if (rc != 0) {
            return rc;
        }
        uint64_t h = 3;
        for (uint32_t k = 0; k < v.as.list->n && rc == 0; k++) {
            uint64_t item = 0;
            rc = jv_hash(j, v.as.list->items[k], &item);
            h = mix(h, item);
        }
        jinja_leave(j);
        *out = h;
        return rc;
    }
    case J_LIST:
    case J_DICT:
        return jinja_fail(j, ERR_INVALID, "unhashable type: '%s'", jv_type_name(&v));
    case J_UNDEFINED:
    case J_NONE:
        *out = mix(4, v.type);
        return 0;
    default:
        *out = mix(5, (uint64_t)(uintptr_t)v.as.list);
        return 0;
    }
}

/* -1, 0, 1, or 2 when one of them is NaN. Exact: no int is rounded to a double. */
static int number_order(struct jvalue a, struct jvalue b)
{
    if (a.type != J_FLOAT && b.type != J_FLOAT) {
        int64_t x = a.type == J_BOOL ? a.as.boolean : a.as.integer;
        int64_t y = b.type == J_BOOL ? b.as.boolean : b.as.integer;
        return (x > y) - (x < y);
    }
    if (a.type == J_FLOAT && b.type == J_FLOAT) {
        double x = a.as.real;
        double y = b.as.real;
        return x != x || y != y ? 2 : (x > y) - (x < y);
    }
    if (a.type != J_FLOAT) {
        int order = number_order(b, a);
        return order == 2 ? 2 : -order;
    }
    double x = a.as.real;
    int64_t y = b.type == J_BOOL ? b.as.boolean : b.as.integer;
    if (x != x) {
        return 2;
    }
    if (x >= 9223372036854775808.0) {
        return 1;
    }
    if (x < -9223372036854775808.0) {
        return -1;
    }
    int64_t floor_x = (int64_t)floor(x);
    if (floor_x != y) {
        return floor_x > y ? 1 : -1;
    }
    return x > floor(x) ? 1 : 0;
}

static int text_order(struct jvalue a, struct jvalue b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n == 0 ? 0 : memcmp(a.as.text, b.as.text, n);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int lists_equal(struct jinja *j, const struct jlist *a, const struct jlist *b, bool *out)
{
    *out = a->n == b->n;
    for (uint32_t i = 0; i < a->n && *out; i++) {
        int rc = jv_equal(j, a->items[i], b->items[i], out);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int dicts_equal(struct jinja *j, const struct jdict *a, const struct jdict *b, bool *out)
{
    *out = a->n == b->n;
    for (uint32_t i = 0; i < a->n && *out; i++) {
        struct jvalue other;
        int rc = jdict_get(j, b, a->pairs[i].key, &other);
        if (rc != 0) {
            return rc;
        }
        if (jv_is(other, J_MISSING)) {
            *out = false;
        } else {
            rc = jv_equal(j, a->pairs[i].value, other, out);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

static bool ranges_equal(const struct jrange *a, const struct jrange *b)
{
    return a->n == b->n && (a->n == 0 || a->start == b->start) && (a->n <= 1 || a->step == b->step);
}

int jv_equal(struct jinja *j, struct jvalue a, struct jvalue b, bool *out)
{
    *out = false;
    if (jv_is_number(a) && jv_is_number(b)) {
        *out = number_order(a, b) == 0;
        return 0;
    }
    if (a.type != b.type) {
        return 0;
    }
    int rc;
    switch ((enum jtype)a.type) {
    case J_MISSING:
    case J_UNDEFINED:
    case J_NONE:
        *out = true;
        return 0;
    case J_STRING:
        jinja_charge(j, a.len);
        *out = a.len == b.len && (a.len == 0 || memcmp(a.as.text, b.as.text, a.len) == 0);
        return 0;
    case J_LIST:
    case J_TUPLE:
    case J_DICT:
        if (a.as.list == b.as.list) {
            *out = true;
            return 0;
        }
        rc = jinja_enter(j);
        if (rc != 0) {
            return rc;
        }
        rc = a.type == J_DICT ? dicts_equal(j, a.as.dict, b.as.dict, out)
                              : lists_equal(j, a.as.list, b.as.list, out);
        jinja_leave(j);
        return rc;
    case J_RANGE:
        *out = ranges_equal(a.as.range, b.as.range);
        return 0;
    default:
        *out = jv_same(a, b);
        return 0;
    }
}

static bool order_holds(enum jcompare op, int order)
{
    switch (op) {
    case JC_LT:
        return order < 0;
    case JC_LE:
        return order <= 0;
    case JC_GT:
        return order > 0 && order != 2;
    case JC_GE:
        return order >= 0 && order != 2;
    }
    return false;
}

/* The first pair of items that differ decides; if none does, the lengths. */
static int compare_lists(struct jinja *j, enum jcompare op, const struct jlist *a,
                         const struct jlist *b, bool *out)
{
    int rc = jinja_enter(j);
    if (rc != 0) {
        return rc;
    }
    uint32_t i = 0;
    bool equal = true;
    while (rc == 0 && i < a->n && i < b->n) {
        rc = jv_equal(j, a->items[i], b->items[i], &equal);
        if (!equal) {
            break;
        }
        i++;
    }
    if (rc == 0 && i < a->n && i < b->n) {
        rc = jv_compare(j, op, a->items[i], b->items[i], out);
    } else if (rc == 0) {
        *out = order_holds(op, (a->n > b->n) - (a->n < b->n));
    }
    jinja_leave(j);
    return rc;
}

int jv_compare(struct jinja *j, enum jcompare op, struct jvalue a, struct jvalue b, bool *out)
{
    static const char *const signs[] = {"<", "<=", ">", ">="};
    int rc = jv_need_defined(j, a);
    if (rc == 0) {
        rc = jv_need_defined(j, b);
    }
    if (rc != 0) {
        return rc;
    }
    if (jv_is_number(a) && jv_is_number(b)) {
        *out = order_holds(op, number_order(a, b));
        return 0;
    }
    if (a.type == J_STRING && b.type == J_STRING) {
        jinja_charge(j, a.len < b.len ? a.len : b.len);
        int order = text_order(a, b);
        *out = order_holds(op, (order > 0) - (order < 0));
        return 0;
    }
    if (a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) {
        return compare_lists(j, op, a.as.list, b.as.list, out);
    }
    return jinja_fail(j, ERR_INVALID, "'%s' not supported between instances of '%s' and '%s'",
                      signs[op], jv_type_name(&a), jv_type_name(&b));
}

int jv_need_defined(struct jinja *j, struct jvalue v)
{
    if (v.type != J_UNDEFINED) {
        return 0;
    }
    struct jvalue object = {.type = (uint8_t)v.len};
    switch (v.flag) {
    case JF_NAME:
        return jinja_fail(j, ERR_INVALID, "'%s' is undefined", v.as.text);
    case JF_ATTRIBUTE:
        if (object.type == J_NONE) {
            return jinja_fail(j, ERR_INVALID, "'None' has no attribute '%s'", v.as.text);
        }
        return jinja_fail(j, ERR_INVALID, "'%s object' has no attribute '%s'",
                          jv_type_name(&object), v.as.text);
    default:
        return jinja_fail(j, ERR_INVALID, "%s", v.as.text);
    }
}

bool jv_has_length(struct jvalue v)
{
    return v.type == J_UNDEFINED || v.type == J_STRING || v.type == J_LIST || v.type == J_TUPLE ||
           v.type == J_DICT || v.type == J_RANGE || v.type == J_VIEW || v.type == J_LOOP;
}

int jv_length(struct jinja *j, struct jvalue v, int64_t *out)
{
    switch ((enum jtype)v.type) {
    case J_UNDEFINED:
        *out = 0;
        return 0;
    case J_STRING:
        jinja_charge(j, v.len);
        *out = (int64_t)ju_points(v.as.text, v.len);
        return 0;
    case J_LIST:
    case J_TUPLE:
        *out = v.as.list->n;
        return 0;
    case J_DICT:
        *out = v.as.dict->n;
        return 0;
    case J_RANGE:
        *out = v.as.range->n;
        return 0;
    case J_VIEW:
        *out = v.as.view->dict->n;
        return 0;
    default:
        return jinja_fail(j, ERR_INVALID, "object of type '%s' has no len()", jv_type_name(&v));
    }
}

int jv_as_int(struct jinja *j, struct jvalue v, const char *what, int64_t *out)
{
    int rc = jv_need_defined(j, v);
    if (rc != 0) {
        return rc;
    }
    if (v.type != J_INT && v.type != J_BOOL) {
        return jinja_fail(j, ERR_INVALID, "%s must be an integer, not '%s'", what,
                          jv_type_name(&v));
    }
    *out = v.type == J_BOOL ? v.as.boolean : v.as.integer;
    return 0;
}
