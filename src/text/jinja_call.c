/* Calls: binding arguments, the functions every template has, and the methods of dicts, lists and
 * loops. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/template.h"

enum { RANGE_MAX = 100000 };

/* Puts arguments in the order of b->params. */
static int bind_args(struct jinja *j, const struct builtin *b, const struct jargs *args,
                     struct jvalue p[PARAMS_MAX])
{
    uint32_t n_params = 0;
    while (n_params < PARAMS_MAX && b->params[n_params] != NULL) {
        p[n_params++] = jv_missing();
    }
    assert(b->required <= n_params);
    if (args->n > n_params) {
        return jinja_fail(j, ERR_INVALID, "%s() takes at most %u arguments (%u given)", b->name,
                          n_params, args->n);
    }
    for (uint32_t i = 0; i < args->n; i++) {
        p[i] = args->at[i];
    }
    for (uint32_t k = 0; k < args->n_keywords; k++) {
        uint32_t i = 0;
        while (i < n_params && strcmp(b->params[i], args->keywords[k].name) != 0) {
            i++;
        }
        if (i == n_params || !jv_is(p[i], J_MISSING)) {
            return jinja_fail(j, ERR_INVALID,
                              i == n_params ? "%s() got an unexpected keyword argument '%s'"
                                            : "%s() got multiple values for argument '%s'",
                              b->name, args->keywords[k].name);
        }
        p[i] = args->keywords[k].value;
    }
    for (uint32_t i = 0; i < b->required; i++) {
        if (jv_is(p[i], J_MISSING)) {
            return jinja_fail(j, ERR_INVALID, "%s() is missing its argument '%s'", b->name,
                              b->params[i] + (b->params[i][0] == '/'));
        }
    }
    return 0;
}

int builtin_run(struct jinja *j, const struct builtin *b, struct jvalue in,
                const struct jargs *args, struct jvalue *out)
{
    struct jvalue p[PARAMS_MAX] = {{0}};
    int rc = b->any_args ? 0 : bind_args(j, b, args, p);
    return rc == 0 ? b->run(j, in, p, args, out) : rc;
}

int jinja_call(struct jinja *j, struct jvalue callee, const struct jargs *args, struct jvalue *out)
{
    int rc = jv_need_defined(j, callee);
    if (rc != 0) {
        return rc;
    }
    switch ((enum jtype)callee.type) {
    case J_MACRO:
        return macro_call(j, callee.as.macro, args, out);
    case J_FUNCTION:
        return builtin_run(j, callee.as.function, jv_none(), args, out);
    case J_METHOD:
        return builtin_run(j, callee.as.bound->method, callee.as.bound->self, args, out);
    case J_LOOP:
        if (args->n != 1 || args->n_keywords != 0) {
            return jinja_fail(j, ERR_INVALID, "loop() takes one argument");
        }
        return loop_recurse(j, callee.as.loop, args->at[0], out);
    default:
        return jinja_fail(j, ERR_INVALID, "'%s' object is not callable", jv_type_name(&callee));
    }
}

/* --- functions ----------------------------------------------------------------------------- */
static int call_range(struct jinja *j, struct jvalue in, const struct jvalue *p,
                      const struct jargs *args, struct jvalue *out)
{
    (void)in;
    int64_t a = 0;
    int64_t b = 0;
    int64_t step = 1;
    int rc = jv_as_int(j, p[0], "range()'s argument", &b);
    if (rc == 0 && args->n > 1) {
        a = b;
        rc = jv_as_int(j, p[1], "range()'s argument", &b);
    }
    if (rc == 0 && args->n > 2) {
        rc = jv_as_int(j, p[2], "range()'s argument", &step);
    }
    if (rc == 0 && step == 0) {
        rc = jinja_fail(j, ERR_INVALID, "range() arg 3 must not be zero");
    }
    struct jrange *range = rc != 0 ? NULL : jinja_alloc(j, 1, sizeof *range);
    if (range == NULL) {
        return j->failed;
    }
    bool any = step > 0 ? a < b : a > b;
    uint64_t distance = step > 0 ? (uint64_t)b - (uint64_t)a : (uint64_t)a - (uint64_t)b;
    uint64_t stride = step > 0 ? (uint64_t)step : (uint64_t)0 - (uint64_t)step;
    uint64_t n = any ? (distance - 1) / stride + 1 : 0;
    if (n > RANGE_MAX) {
        return jinja_fail(j, ERR_TOO_LARGE,
                          "Range too big. The sandbox blocks ranges larger than %d.", RANGE_MAX);
    }
    *range = (struct jrange){.start = a, .stop = b, .step = step, .n = (uint32_t)n};
    *out = (struct jvalue){.type = J_RANGE, .as.range = range};
    return 0;
}

/* Adds a mapping's pairs, or pairs as an iterable yields them. */
static int dict_update(struct jinja *j, struct jdict *d, struct jvalue from)
{
    bool done = false;
    struct jiter it;
    int rc = 0;
    if (from.type == J_DICT) {
        for (uint32_t i = 0; i < from.as.dict->n && rc == 0; i++) {
            rc = jdict_set(j, d, from.as.dict->pairs[i].key, from.as.dict->pairs[i].value);
        }
        jinja_charge(j, from.as.dict->n * sizeof(struct jpair));
        return rc;
    }
    rc = jiter_open(j, from, &it);
    while (rc == 0) {
        struct jvalue item;
        struct jvalue pair;
        rc = jiter_next(j, &it, &item, &done);
        if (rc != 0 || done) {
            break;
        }
        rc = jv_collect(j, item, J_LIST, &pair);
        if (rc == 0 && pair.as.list->n != 2) {
            rc = jinja_fail(j, ERR_INVALID, "dictionary update sequence needs pairs");
        }
        if (rc == 0) {
            rc = jdict_set(j, d, pair.as.list->items[0], pair.as.list->items[1]);
        }
    }
    return rc;
}

static int call_dict(struct jinja *j, struct jvalue in, const struct jvalue *p,
                     const struct jargs *args, struct jvalue *out)
{
    (void)in;
    (void)p;
    if (args->n > 1) {
        return jinja_fail(j, ERR_INVALID, "dict expected at most 1 argument, got %u", args->n);
    }
    int rc = jv_dict(j, args->n_keywords, out);
    if (rc == 0 && args->n == 1) {
        rc = dict_update(j, out->as.dict, args->at[0]);
    }
    for (uint32_t i = 0; i < args->n_keywords && rc == 0; i++) {
        rc = jdict_set(j, out->as.dict, jv_text(args->keywords[i].name), args->keywords[i].value);
    }
    return rc;
}

static int call_namespace(struct jinja *j, struct jvalue in, const struct jvalue *p,
                          const struct jargs *args, struct jvalue *out)
{
    int rc = call_dict(j, in, p, args, out);
    for (uint32_t i = 0; rc == 0 && i < out->as.dict->n; i++) {
        struct jvalue key = out->as.dict->pairs[i].key;
        if (key.type == J_STRING && key.len > 0 && key.as.text[0] == '_') {
            rc = jinja_fail(j, ERR_INVALID, "a namespace can't have the attribute '%.*s'",
                            (int)key.len, key.as.text);
        }
    }
    out->type = J_NAMESPACE;
    return rc;
}

static int call_raise(struct jinja *j, struct jvalue in, const struct jvalue *p,
                      const struct jargs *args, struct jvalue *out)
{
    (void)in;
    (void)args;
    struct jvalue text;
    (void)out;
    int rc = jv_to_string(j, p[0], &text);
    return rc != 0 ? rc : jinja_fail(j, ERR_INVALID, "%.*s", (int)text.len, text.as.text);
}

static int call_strftime(struct jinja *j, struct jvalue in, const struct jvalue *p,
                         const struct jargs *args, struct jvalue *out)
{
    (void)in;
    (void)args;
    if (p[0].type != J_STRING) {
        return jinja_fail(j, ERR_INVALID, "strftime_now() needs a format string");
    }
    size_t mark = jtext_open(j);
    int rc = jdate_format(j, &j->date, p[0]);
    return rc != 0 ? rc : jtext_close(j, mark, out);
}

static int call_unsupported(struct jinja *j, struct jvalue in, const struct jvalue *p,
                            const struct jargs *args, struct jvalue *out)
{
    (void)in;
    (void)p;
    (void)args;
    (void)out;
    return jinja_fail(j, ERR_UNSUPPORTED, "lipsum, cycler and joiner are not supported");
}

static const struct builtin functions[] = {
    {"range", call_range, {"/start", "/stop", "/step"}, 1, false},
    {"dict", call_dict, {NULL}, 0, true},
    {"namespace", call_namespace, {NULL}, 0, true},
    {"raise_exception", call_raise, {"message"}, 1, false},
    {"lipsum", call_unsupported, {NULL}, 0, true},
    {"cycler", call_unsupported, {NULL}, 0, true},
    {"joiner", call_unsupported, {NULL}, 0, true},
    {"strftime_now", call_strftime, {"format"}, 1, false},
};

struct jvalue global_find(const struct jinja *j, const char *name)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (strcmp(functions[i].name, name) == 0 &&
            (j->date.set || functions[i].run != call_strftime)) {
            return (struct jvalue){.type = J_FUNCTION, .as.function = &functions[i]};
        }
    }
    return jv_missing();
}

/* --- methods of dicts ---------------------------------------------------------------------- */
static int make_view(struct jinja *j, struct jvalue in, enum jview_kind kind, struct jvalue *out)
{
    struct jview *view = jinja_alloc(j, 1, sizeof *view);
    if (view == NULL) {
        return j->failed;
    }
    view->kind = kind;
    view->dict = in.as.dict;
    *out = (struct jvalue){.type = J_VIEW, .as.view = view};
    return 0;
}

static int dict_keys(struct jinja *j, struct jvalue in, const struct jvalue *p,
                     const struct jargs *args, struct jvalue *out)
{
    (void)p;
    (void)args;
    return make_view(j, in, JVIEW_KEYS, out);
}

static int dict_values(struct jinja *j, struct jvalue in, const struct jvalue *p,
                       const struct jargs *args, struct jvalue *out)
{
    (void)p;
    (void)args;
    return make_view(j, in, JVIEW_VALUES, out);
}

static int dict_items(struct jinja *j, struct jvalue in, const struct jvalue *p,
                      const struct jargs *args, struct jvalue *out)
{
    (void)p;
    (void)args;
    return make_view(j, in, JVIEW_ITEMS, out);
}

static int dict_get(struct jinja *j, struct jvalue in, const struct jvalue *p,
                    const struct jargs *args, struct jvalue *out)
{
    (void)args;
    int rc = jdict_get(j, in.as.dict, p[0], out);
    if (rc == 0 && jv_is(*out, J_MISSING)) {
        *out = jv_is(p[1], J_MISSING) ? jv_none() : p[1];
    }
    return rc;
}

static int same_value(struct jinja *j, struct jvalue in, const struct jvalue *p,
                      const struct jargs *args, struct jvalue *out)
{
    (void)j;
    (void)p;
    (void)args;
    *out = in; /* values never change, so a copy is the value */
    return 0;
}

static const struct builtin dict_methods[] = {
    {"keys", dict_keys, {NULL}, 0, false},   {"values", dict_values, {NULL}, 0, false},
    {"items", dict_items, {NULL}, 0, false}, {"get", dict_get, {"/key", "/default"}, 1, false},
    {"copy", same_value, {NULL}, 0, false},
};

static const struct builtin *find(const struct builtin *table, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

const struct builtin *dict_method(const char *name)
{
    return find(dict_methods, sizeof dict_methods / sizeof *dict_methods, name);
}

/* --- methods of lists ---------------------------------------------------------------------- */
static int list_count(struct jinja *j, struct jvalue in, const struct jvalue *p,
                      const struct jargs *args, struct jvalue *out)
{
    (void)args;
    int64_t n = 0;
    int rc = 0;
    for (uint32_t i = 0; i < in.as.list->n && rc == 0; i++) {
        bool equal = false;
        rc = jinja_step(j);
        if (rc == 0) {
            rc = jv_equal(j, in.as.list->items[i], p[0], &equal);
        }
        n += equal;
    }
    *out = jv_int(n);
    return rc;
}

static int list_index(struct jinja *j, struct jvalue in, const struct jvalue *p,
                      const struct jargs *args, struct jvalue *out)
{
    int64_t n = in.as.list->n;
    int64_t bound[2] = {0, n};
    int rc = 0;
    for (uint32_t k = 1; k < args->n && rc == 0; k++) {
        rc = jv_as_int(j, p[k], "an index", &bound[k - 1]);
        bound[k - 1] += bound[k - 1] < 0 ? n : 0;
    }
    for (int64_t i = bound[0] < 0 ? 0 : bound[0]; i < bound[1] && i < n && rc == 0; i++) {
        bool equal = false;
        rc = jinja_step(j);
        if (rc == 0) {
            rc = jv_equal(j, in.as.list->items[i], p[0], &equal);
        }
        if (equal) {
            *out = jv_int(i);
            return rc;
        }
    }
    return rc != 0 ? rc : jinja_fail(j, ERR_INVALID, "the value is not in the list");
}

static const struct builtin list_methods[] = {
    {"count", list_count, {"/value"}, 1, false},
    {"index", list_index, {"/value", "/start", "/stop"}, 1, false},
    {"copy", same_value, {NULL}, 0, false}, /* last: tuples don't have it */
};

const struct builtin *list_method(const char *name, bool tuple)
{
    return find(list_methods, sizeof list_methods / sizeof *list_methods - tuple, name);
}

/* --- methods of the loop variable ---------------------------------------------------------- */
static int loop_cycle(struct jinja *j, struct jvalue in, const struct jvalue *p,
                      const struct jargs *args, struct jvalue *out)
{
    (void)p;
    if (args->n == 0 || args->n_keywords != 0) {
        return jinja_fail(j, ERR_INVALID, "no items for cycling given");
    }
    *out = args->at[in.as.loop->index0 % (int64_t)args->n];
    return 0;
}

static int loop_changed(struct jinja *j, struct jvalue in, const struct jvalue *p,
                        const struct jargs *args, struct jvalue *out)
{
    (void)p;
    struct jvalue now;
    bool same = false;
    int rc = jv_list(j, J_TUPLE, args->n, &now);
    for (uint32_t i = 0; i < args->n && rc == 0; i++) {
        now.as.list->items[i] = args->at[i];
    }
    if (rc == 0 && !jv_is(in.as.loop->changed, J_MISSING)) {
        rc = jv_equal(j, in.as.loop->changed, now, &same);
    }
    if (!same) {
        in.as.loop->changed = now;
    }
    *out = jv_bool(!same);
    return rc;
}

static const struct builtin loop_methods[] = {
    {"cycle", loop_cycle, {NULL}, 0, true},
    {"changed", loop_changed, {NULL}, 0, true},
};

const struct builtin *loop_method(const char *name)
{
    return find(loop_methods, sizeof loop_methods / sizeof *loop_methods, name);
}
