/* Iterating, containment and sorting.
 *
 * A jiter walks any iterable by position, so opening one costs nothing. A generator value is a
 * jiter that lives in the arena: opening it gives a jiter that draws from it, so what one reader
 * takes the next does not see, as in Python.
 */
#include <string.h>

#include "text/jinja_unicode.h"
#include "text/jinja_value.h"

bool jv_iterable(struct jvalue v)
{
    return jv_has_length(v) || v.type == J_ITERATOR;
}

int64_t jrange_item(const struct jrange *range, size_t i)
{
    return range->start + (int64_t)i * range->step;
}

int jview_item(struct jinja *j, const struct jview *view, size_t i, struct jvalue *out)
{
    const struct jpair *pair = &view->dict->pairs[i];
    switch (view->kind) {
    case JVIEW_KEYS:
        *out = pair->key;
        return 0;
    case JVIEW_VALUES:
        *out = pair->value;
        return 0;
    case JVIEW_ITEMS:
        break;
    }
    return jv_pair(j, pair->key, pair->value, out);
}

static int pull_shared(struct jinja *j, struct jiter *it, struct jvalue *out, bool *done)
{
    return jiter_next(j, it->data, out, done);
}

int jiter_open(struct jinja *j, struct jvalue v, struct jiter *it)
{
    *it = (struct jiter){.over = v};
    if (v.type == J_ITERATOR) {
        it->pull = pull_shared;
        it->data = v.as.iter;
        return 0;
    }
    if (!jv_iterable(v)) {
        return jinja_fail(j, ERR_INVALID, "'%s' object is not iterable", jv_type_name(&v));
    }
    if (v.type == J_LOOP) {
        return jinja_fail(j, ERR_UNSUPPORTED, "iterating over `loop` is not supported");
    }
    return 0;
}

/* Is there an item at it->at? For strings `at` is a byte offset, else an index. */
static bool has_next(const struct jiter *it)
{
    switch ((enum jtype)it->over.type) {
    case J_STRING:
        return it->at < it->over.len;
    case J_LIST:
    case J_TUPLE:
        return it->at < it->over.as.list->n;
    case J_DICT:
        return it->at < it->over.as.dict->n;
    case J_RANGE:
        return it->at < it->over.as.range->n;
    case J_VIEW:
        return it->at < it->over.as.view->dict->n;
    default:
        return false;
    }
}

int jiter_next(struct jinja *j, struct jiter *it, struct jvalue *out, bool *done)
{
    *done = false;
    int rc = jinja_step(j);
    if (rc == 0 && it->pull != NULL) {
        rc = jinja_enter(j); /* generators over generators nest */
        if (rc == 0) {
            rc = it->pull(j, it, out, done);
            jinja_leave(j);
        }
        return rc;
    }
    if (rc != 0) {
        return rc;
    }
    if (!has_next(it)) {
        *done = true;
        return 0;
    }
    size_t at = it->at++;
    uint32_t point;
    switch ((enum jtype)it->over.type) {
    case J_STRING:
        it->at = at + ju_decode(it->over.as.text + at, it->over.len - at, &point);
        *out = jv_string(it->over.as.text + at, it->at - at);
        return 0;
    case J_LIST:
    case J_TUPLE:
        *out = it->over.as.list->items[at];
        return 0;
    case J_DICT:
        *out = it->over.as.dict->pairs[at].key;
        return 0;
    case J_RANGE:
        *out = jv_int(jrange_item(it->over.as.range, at));
        return 0;
    default:
        return jview_item(j, it->over.as.view, at, out);
    }
}

int jv_generator(struct jinja *j, struct jvalue list, struct jvalue *out)
{
    struct jiter *it = jinja_alloc(j, 1, sizeof *it);
    if (it == NULL) {
        return j->failed;
    }
    *out = (struct jvalue){.type = J_ITERATOR, .as.iter = it};
    return jiter_open(j, list, it);
}

int jv_collect(struct jinja *j, struct jvalue v, enum jtype type, struct jvalue *out)
{
    struct jiter it;
    int rc = jiter_open(j, v, &it);
    if (rc != 0) {
        return rc;
    }
    if (v.type == J_LIST || v.type == J_TUPLE) {
        *out = (struct jvalue){.type = (uint8_t)type, .as.list = v.as.list};
        return 0;
    }
    struct jvalue *items = NULL;
    size_t n = 0;
    size_t cap = 0;
    bool done = false;
    while (rc == 0) {
        struct jvalue item;
        rc = jiter_next(j, &it, &item, &done);
        if (rc != 0 || done) {
            break;
        }
        if (n == cap) {
            cap = cap == 0 ? 8 : 2 * cap;
            struct jvalue *more = jinja_alloc(j, cap, sizeof *more);
            if (more == NULL) {
                return j->failed;
            }
            if (n > 0) {
                memcpy(more, items, n * sizeof *more);
            }
            items = more;
        }
        items[n++] = item;
    }
    if (rc == 0) {
        rc = jv_list(j, type, 0, out);
    }
    if (rc == 0) {
        out->as.list->items = items;
        out->as.list->n = (uint32_t)n;
    }
    return rc;
}

static int text_contains(struct jinja *j, struct jvalue text, struct jvalue part, bool *out)
{
    if (part.type != J_STRING) {
        return jinja_fail(j, ERR_INVALID, "'in <string>' requires string as left operand, not '%s'",
                          jv_type_name(&part));
    }
    jinja_charge(j, text.len);
    *out = part.len == 0 || ju_find(text.as.text, text.len, part.as.text, part.len) != NULL;
    return 0;
}

int jv_contains(struct jinja *j, struct jvalue container, struct jvalue item, bool *out)
{
    *out = false;
    if (container.type == J_STRING) {
        return text_contains(j, container, item, out);
    }
    if (container.type == J_DICT ||
        (container.type == J_VIEW && container.as.view->kind == JVIEW_KEYS)) {
        struct jdict *d = container.type == J_DICT ? container.as.dict : container.as.view->dict;
        struct jvalue found;
        int rc = jdict_get(j, d, item, &found);
        *out = !jv_is(found, J_MISSING);
        return rc;
    }
    if (!jv_iterable(container)) {
        return jinja_fail(j, ERR_INVALID, "argument of type '%s' is not iterable",
                          jv_type_name(&container));
    }
    struct jiter it;
    int rc = jiter_open(j, container, &it);
    bool done = false;
    while (rc == 0 && !*out) {
        struct jvalue v;
        rc = jiter_next(j, &it, &v, &done);
        if (rc != 0 || done) {
            break;
        }
        rc = jv_equal(j, v, item, out);
    }
    return rc;
}

/* Merges order[0..half) and order[half..n) through `spare`, taking left first among equals. */
static int merge(struct jinja *j, const struct jvalue *keys, uint32_t *order, size_t half, size_t n,
                 bool reverse, uint32_t *spare)
{
    memcpy(spare, order, half * sizeof *spare);
    size_t left = 0;
    size_t right = half;
    for (size_t to = 0; left < half; to++) {
        bool take_right = false;
        if (right < n) {
            int rc = jinja_step(j);
            struct jvalue a = keys[spare[left]];
            struct jvalue b = keys[order[right]];
            if (rc == 0) {
                rc = reverse ? jv_compare(j, JC_LT, a, b, &take_right)
                             : jv_compare(j, JC_LT, b, a, &take_right);
            }
            if (rc != 0) {
                return rc;
            }
        }
        order[to] = take_right ? order[right++] : spare[left++];
    }
    return 0;
}

static int sort_part(struct jinja *j, const struct jvalue *keys, uint32_t *order, size_t n,
                     bool reverse, uint32_t *spare)
{
    if (n < 2) {
        return 0;
    }
    size_t half = n / 2;
    int rc = sort_part(j, keys, order, half, reverse, spare);
    if (rc == 0) {
        rc = sort_part(j, keys, order + half, n - half, reverse, spare);
    }
    return rc == 0 ? merge(j, keys, order, half, n, reverse, spare) : rc;
}

int jv_sort(struct jinja *j, const struct jvalue *keys, uint32_t *order, size_t n, bool reverse)
{
    uint32_t *spare = jinja_alloc(j, n, sizeof *spare);
    if (spare == NULL) {
        return j->failed;
    }
    for (size_t i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
    }
    return sort_part(j, keys, order, n, reverse, spare);
}
