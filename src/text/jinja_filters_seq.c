/* Filters on whole sequences: order, groups, rows, sums. Signatures are jinja2's. */
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_unicode.h"
#include "text/template.h"

#define FILTER(name)                                                                               \
    static int name(struct jinja *j, struct jvalue in, const struct jvalue *p,                     \
                    const struct jargs *args, struct jvalue *out)

static bool given(struct jvalue v)
{
    return !jv_is(v, J_MISSING) && !jv_is(v, J_NONE);
}

static bool flag(struct jvalue v)
{
    return !jv_is(v, J_MISSING) && jv_truth(v);
}

/* What items are ordered or told apart by: an attribute, strings in lower case unless told. */
static int sort_key(struct jinja *j, const struct attribute_path *path, struct jvalue item,
                    bool case_sensitive, struct jvalue *out)
{
    int rc = attribute_get(j, path, item, jv_none(), out);
    if (rc == 0 && !case_sensitive && out->type == J_STRING) {
        rc = text_case(j, *out, JU_LOWER, out);
    }
    return rc;
}

/* --- whole sequences ----------------------------------------------------------------------- */
FILTER(f_length)
{
    (void)p;
    (void)args;
    int64_t n = 0;
    int rc = in.type == J_LOOP ? loop_length(j, in.as.loop, &n) : jv_length(j, in, &n);
    *out = jv_int(n);
    return rc;
}

FILTER(f_list)
{
    (void)p;
    (void)args;
    return jv_collect(j, in, J_LIST, out);
}

FILTER(f_first)
{
    (void)p;
    (void)args;
    struct jiter it;
    bool done = false;
    int rc = jiter_open(j, in, &it);
    if (rc == 0) {
        rc = jiter_next(j, &it, out, &done);
    }
    if (done) {
        *out = jv_undefined("No first item, sequence was empty.");
    }
    return rc;
}

FILTER(f_last)
{
    (void)p;
    (void)args;
    struct jvalue list;
    if (in.type == J_ITERATOR) {
        return jinja_fail(j, ERR_INVALID, "'generator' object is not reversible");
    }
    int rc = jv_collect(j, in, J_LIST, &list);
    if (rc == 0) {
        *out = list.as.list->n > 0 ? list.as.list->items[list.as.list->n - 1]
                                   : jv_undefined("No last item, sequence was empty.");
        out->flag = in.type == J_STRING && in.len > 0 ? in.flag : out->flag;
    }
    return rc;
}

FILTER(f_reverse)
{
    (void)p;
    (void)args;
    const struct jvalue part[3] = {jv_none(), jv_none(), jv_int(-1)};
    if (in.type == J_STRING) {
        return jv_slice(j, in, part, out);
    }
    struct jvalue list;
    int rc = jv_collect(j, in, J_LIST, &list);
    if (rc == 0) {
        rc = jv_slice(j, list, part, &list);
    }
    if (rc == 0 && in.type == J_ITERATOR) {
        *out = list;
        return 0;
    }
    return rc == 0 ? jv_generator(j, list, out) : rc;
}

FILTER(f_items)
{
    (void)p;
    (void)args;
    struct jvalue list;
    if (in.type != J_DICT && in.type != J_UNDEFINED) {
        return jinja_fail(j, ERR_INVALID, "Can only get item pairs from a mapping.");
    }
    struct jview view = {.kind = JVIEW_ITEMS, .dict = in.as.dict};
    struct jvalue items = {.type = J_VIEW, .as.view = &view};
    int rc = jv_collect(j, in.type == J_DICT ? items : in, J_LIST, &list);
    return rc == 0 ? jv_generator(j, list, out) : rc;
}

FILTER(f_join)
{
    (void)args;
    struct jvalue glue = jv_text("");
    struct attribute_path path;
    int rc = jv_is(p[0], J_MISSING) ? 0 : jv_to_string(j, p[0], &glue);
    if (rc == 0 && given(p[1])) {
        struct jvalue list;
        rc = attribute_path(j, p[1], &path);
        if (rc == 0) {
            rc = jv_collect(j, in, J_LIST, &in);
        }
        if (rc == 0) {
            rc = jv_list(j, J_LIST, in.as.list->n, &list);
        }
        for (uint32_t i = 0; rc == 0 && i < in.as.list->n; i++) {
            rc = attribute_get(j, &path, in.as.list->items[i], jv_none(), &list.as.list->items[i]);
        }
        in = list;
    }
    return rc == 0 ? text_join(j, glue, in, true, out) : rc;
}

FILTER(f_sum)
{
    (void)args;
    struct attribute_path path;
    struct jiter it;
    bool done = false;
    struct jvalue total = jv_is(p[1], J_MISSING) ? jv_int(0) : p[1];
    int rc = attribute_path(j, p[0], &path);
    if (rc == 0 && total.type == J_STRING) {
        rc = jinja_fail(j, ERR_INVALID, "sum() can't sum strings [use ''.join(seq) instead]");
    }
    if (rc == 0) {
        rc = jiter_open(j, in, &it);
    }
    while (rc == 0) {
        struct jvalue item;
        rc = jiter_next(j, &it, &item, &done);
        if (rc != 0 || done) {
            break;
        }
        rc = attribute_get(j, &path, item, jv_none(), &item);
        if (rc == 0) {
            rc = jv_arithmetic(j, T_ADD, total, item, &total);
        }
    }
    *out = total;
    return rc;
}

static int extreme(struct jinja *j, struct jvalue in, const struct jvalue *p, enum jcompare op,
                   struct jvalue *out)
{
    struct attribute_path path;
    struct jiter it;
    struct jvalue best_key = jv_missing();
    bool done = false;
    int rc = attribute_path(j, p[1], &path);
    if (rc == 0) {
        rc = jiter_open(j, in, &it);
    }
    *out = jv_undefined("No aggregated item, sequence was empty.");
    while (rc == 0) {
        struct jvalue item;
        struct jvalue key;
        bool better = jv_is(best_key, J_MISSING);
        rc = jiter_next(j, &it, &item, &done);
        if (rc != 0 || done) {
            break;
        }
        rc = sort_key(j, &path, item, flag(p[0]), &key);
        if (rc == 0 && !better) {
            rc = jv_compare(j, op, key, best_key, &better);
        }
        if (rc == 0 && better) {
            best_key = key;
            *out = item;
        }
    }
    return rc;
}

FILTER(f_min)
{
    (void)args;
    return extreme(j, in, p, JC_LT, out);
}

FILTER(f_max)
{
    (void)args;
    return extreme(j, in, p, JC_GT, out);
}

/* --- order --------------------------------------------------------------------------------- */
/* A list of items in the order of their keys. */
static int sorted(struct jinja *j, const struct jlist *items, const struct jvalue *keys,
                  bool reverse, struct jvalue *out)
{
    uint32_t *order = jinja_alloc(j, items->n, sizeof *order);
    if (order == NULL) {
        return j->failed;
    }
    int rc = jv_sort(j, keys, order, items->n, reverse);
    if (rc == 0) {
        rc = jv_list(j, J_LIST, items->n, out);
    }
    for (uint32_t i = 0; rc == 0 && i < items->n; i++) {
        out->as.list->items[i] = items->items[order[i]];
    }
    return rc;
}

/* The comma-separated attributes of sort: one path each. */
static int sort_paths(struct jinja *j, struct jvalue attribute, struct attribute_path **out,
                      uint32_t *n)
{
    *n = 1;
    for (uint32_t i = 0; attribute.type == J_STRING && i < attribute.len; i++) {
        *n += attribute.as.text[i] == ',';
    }
    *out = jinja_alloc(j, *n, sizeof **out);
    if (*out == NULL) {
        return j->failed;
    }
    if (*n == 1) {
        return attribute_path(j, attribute, *out);
    }
    int rc = 0;
    size_t start = 0;
    for (size_t i = 0, k = 0; i <= attribute.len && rc == 0; i++) {
        if (i == attribute.len || attribute.as.text[i] == ',') {
            rc = attribute_path(j, jv_string(attribute.as.text + start, i - start), &(*out)[k++]);
            start = i + 1;
        }
    }
    return rc;
}

FILTER(f_sort)
{
    (void)args;
    struct attribute_path *paths;
    uint32_t n;
    int rc = sort_paths(j, p[2], &paths, &n);
    if (rc == 0) {
        rc = jv_collect(j, in, J_LIST, &in);
    }
    struct jvalue *keys = rc != 0 ? NULL : jinja_alloc(j, in.as.list->n, sizeof *keys);
    if (keys == NULL) {
        return j->failed;
    }
    for (uint32_t i = 0; rc == 0 && i < in.as.list->n; i++) {
        rc = jv_list(j, J_LIST, n, &keys[i]);
        for (uint32_t k = 0; rc == 0 && k < n; k++) {
            rc = sort_key(j, &paths[k], in.as.list->items[i], flag(p[1]),
                          &keys[i].as.list->items[k]);
        }
    }
    return rc == 0 ? sorted(j, in.as.list, keys, flag(p[0]), out) : rc;
}

FILTER(f_dictsort)
{
    (void)args;
    struct jvalue by = jv_is(p[1], J_MISSING) ? jv_text("key") : p[1];
    bool value = jv_is_text(by, "value");
    struct jvalue items;
    const struct attribute_path none = {0};
    if (!value && !jv_is_text(by, "key")) {
        return jinja_fail(j, ERR_INVALID, "You can only sort by either \"key\" or \"value\"");
    }
    int rc = jv_need_defined(j, in);
    if (rc == 0 && in.type != J_DICT) {
        rc = jinja_fail(j, ERR_INVALID, "'%s' object has no attribute 'items'", jv_type_name(&in));
    }
    if (rc != 0) {
        return rc;
    }
    struct jview view = {.kind = JVIEW_ITEMS, .dict = in.as.dict};
    rc = jv_collect(j, (struct jvalue){.type = J_VIEW, .as.view = &view}, J_LIST, &items);
    struct jvalue *keys = rc != 0 ? NULL : jinja_alloc(j, items.as.list->n, sizeof *keys);
    if (keys == NULL) {
        return j->failed;
    }
    for (uint32_t i = 0; rc == 0 && i < items.as.list->n; i++) {
        rc =
            sort_key(j, &none, items.as.list->items[i].as.list->items[value], flag(p[0]), &keys[i]);
    }
    return rc == 0 ? sorted(j, items.as.list, keys, flag(p[2]), out) : rc;
}

FILTER(f_unique)
{
    (void)args;
    struct attribute_path path;
    struct jvalue seen;
    struct jvalue list;
    uint32_t n = 0;
    int rc = attribute_path(j, p[1], &path);
    if (rc == 0) {
        rc = jv_collect(j, in, J_LIST, &in);
    }
    if (rc == 0) {
        rc = jv_dict(j, 0, &seen);
    }
    if (rc == 0) {
        rc = jv_list(j, J_LIST, in.as.list->n, &list);
    }
    for (uint32_t i = 0; rc == 0 && i < in.as.list->n; i++) {
        struct jvalue key;
        uint32_t before = seen.as.dict->n;
        rc = sort_key(j, &path, in.as.list->items[i], flag(p[0]), &key);
        if (rc == 0) {
            rc = jdict_set(j, seen.as.dict, key, jv_none());
        }
        if (rc == 0 && seen.as.dict->n > before) {
            list.as.list->items[n++] = in.as.list->items[i];
        }
    }
    if (rc == 0) {
        list.as.list->n = n;
        rc = jv_generator(j, list, out);
    }
    return rc;
}

/* One (grouper, list) for items[from, to) of a sorted list. */
static int make_group(struct jinja *j, const struct jlist *items, uint32_t from, uint32_t to,
                      struct jvalue key, struct jvalue *out)
{
    struct jvalue members;
    int rc = jv_list(j, J_LIST, 0, &members);
    if (rc == 0) {
        members.as.list->items = items->items + from;
        members.as.list->n = to - from;
        rc = jv_pair(j, key, members, out);
        out->flag = JF_GROUP;
    }
    return rc;
}

FILTER(f_groupby)
{
    (void)args;
    struct attribute_path path;
    struct jvalue list;
    bool sensitive = flag(p[2]);
    uint32_t n = 0;
    int rc = attribute_path(j, p[0], &path);
    if (rc == 0) {
        rc = jv_collect(j, in, J_LIST, &in);
    }
    struct jvalue *keys = rc != 0 ? NULL : jinja_alloc(j, in.as.list->n, sizeof *keys);
    if (keys == NULL) {
        return j->failed;
    }
    /* twice the same loop: keys to sort by, then keys of the sorted items to group by */
    for (int pass = 0; rc == 0 && pass < 2; pass++) {
        for (uint32_t i = 0; rc == 0 && i < in.as.list->n; i++) {
            rc = attribute_get(j, &path, in.as.list->items[i], p[1], &keys[i]);
            if (rc == 0 && !sensitive && keys[i].type == J_STRING) {
                rc = text_case(j, keys[i], JU_LOWER, &keys[i]);
            }
        }
        if (rc == 0 && pass == 0) {
            rc = sorted(j, in.as.list, keys, false, &in);
        }
    }
    if (rc == 0) {
        rc = jv_list(j, J_LIST, in.as.list->n, &list);
    }
    for (uint32_t from = 0, to; rc == 0 && from < in.as.list->n; from = to) {
        bool equal = true;
        struct jvalue key;
        for (to = from + 1; rc == 0 && to < in.as.list->n; to++) {
            rc = jv_equal(j, keys[from], keys[to], &equal);
            if (!equal) {
                break;
            }
        }
        if (rc == 0) {
            rc = attribute_get(j, &path, in.as.list->items[from], p[1], &key);
        }
        if (rc == 0) {
            rc = make_group(j, in.as.list, from, to, key, &list.as.list->items[n++]);
        }
    }
    if (rc == 0) {
        list.as.list->n = n;
        *out = list;
    }
    return rc;
}

/* --- rows ---------------------------------------------------------------------------------- */
static int row(struct jinja *j, const struct jlist *from, size_t start, size_t n, size_t filled,
               struct jvalue fill, struct jvalue *out)
{
    int rc = jv_list(j, J_LIST, n + filled, out);
    for (size_t i = 0; rc == 0 && i < n + filled; i++) {
        out->as.list->items[i] = i < n ? from->items[start + i] : fill;
    }
    return rc;
}

FILTER(f_batch)
{
    (void)args;
    int64_t size;
    struct jvalue rows;
    int rc = jv_as_int(j, p[0], "linecount", &size);
    if (rc == 0) {
        rc = jv_collect(j, in, J_LIST, &in);
    }
    if (rc == 0 && size < 1) {
        return jinja_fail(j, ERR_UNSUPPORTED, "batch of less than one item");
    }
    if (rc != 0) {
        return rc;
    }
    size_t n = in.as.list->n;
    size_t width = (size_t)size;
    size_t n_rows = n / width + (n % width != 0);
    rc = jv_list(j, J_LIST, n_rows, &rows);
    for (size_t r = 0; rc == 0 && r < n_rows; r++) {
        size_t count = n - r * width < width ? n - r * width : width;
        size_t filled = given(p[1]) ? width - count : 0;
        rc = filled > TEMPLATE_MEMORY_BYTES_MAX / sizeof(struct jvalue)
                 ? jinja_fail(j, ERR_TOO_LARGE, "batch too large")
                 : row(j, in.as.list, r * width, count, filled, p[1], &rows.as.list->items[r]);
    }
    return rc == 0 ? jv_generator(j, rows, out) : rc;
}

FILTER(f_slice)
{
    (void)args;
    int64_t slices;
    struct jvalue rows;
    int rc = jv_as_int(j, p[0], "slices", &slices);
    if (rc == 0) {
        rc = jv_collect(j, in, J_LIST, &in);
    }
    if (rc == 0 && (slices == 0 || slices > TEMPLATE_STEPS_MAX)) {
        rc = jinja_fail(j, slices == 0 ? ERR_INVALID : ERR_TOO_LARGE, "can't cut into %lld slices",
                        (long long)slices);
    }
    if (rc != 0) {
        return rc;
    }
    size_t n_rows = slices < 0 ? 0 : (size_t)slices;
    size_t each = n_rows == 0 ? 0 : in.as.list->n / n_rows;
    size_t extra = n_rows == 0 ? 0 : in.as.list->n % n_rows;
    size_t start = 0;
    rc = jv_list(j, J_LIST, n_rows, &rows);
    for (size_t r = 0; rc == 0 && r < n_rows; r++) {
        size_t count = each + (r < extra);
        rc = row(j, in.as.list, start, count, given(p[1]) && r >= extra, p[1],
                 &rows.as.list->items[r]);
        start += count;
    }
    return rc == 0 ? jv_generator(j, rows, out) : rc;
}

const struct builtin sequence_filters[] = {
    {"length", f_length, {NULL}, 0, false},
    {"count", f_length, {NULL}, 0, false},
    {"join", f_join, {"d", "attribute"}, 0, false},
    {"list", f_list, {NULL}, 0, false},
    {"first", f_first, {NULL}, 0, false},
    {"last", f_last, {NULL}, 0, false},
    {"items", f_items, {NULL}, 0, false},
    {"dictsort", f_dictsort, {"case_sensitive", "by", "reverse"}, 0, false},
    {"sort", f_sort, {"reverse", "case_sensitive", "attribute"}, 0, false},
    {"unique", f_unique, {"case_sensitive", "attribute"}, 0, false},
    {"reverse", f_reverse, {NULL}, 0, false},
    {"sum", f_sum, {"attribute", "start"}, 0, false},
    {"min", f_min, {"case_sensitive", "attribute"}, 0, false},
    {"max", f_max, {"case_sensitive", "attribute"}, 0, false},
    {"batch", f_batch, {"linecount", "fill_with"}, 1, false},
    {"slice", f_slice, {"slices", "fill_with"}, 1, false},
    {"groupby", f_groupby, {"attribute", "default", "case_sensitive"}, 1, false},
    {NULL, NULL, {NULL}, 0, false},
};
