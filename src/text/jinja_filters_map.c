/* map, select and their kin, and the attribute paths that filters take. They give generators that
 * work as they are read, as in Python: what is never read is never computed, and what was read is
 * gone. */
#include <string.h>

#include "text/jinja_eval.h"

#define FILTER(name)                                                                               \
    static int name(struct jinja *j, struct jvalue in, const struct jvalue *p,                     \
                    const struct jargs *args, struct jvalue *out)

static bool given(struct jvalue v)
{
    return !jv_is(v, J_MISSING) && !jv_is(v, J_NONE);
}

/* --- attribute paths ----------------------------------------------------------------------- */
static bool all_digits(struct jvalue text)
{
    for (uint32_t i = 0; i < text.len; i++) {
        if (text.as.text[i] < '0' || text.as.text[i] > '9') {
            return false;
        }
    }
    return text.len > 0;
}

int attribute_path(struct jinja *j, struct jvalue attribute, struct attribute_path *out)
{
    *out = (struct attribute_path){0};
    if (!given(attribute)) {
        return 0;
    }
    size_t n = 1;
    for (uint32_t i = 0; attribute.type == J_STRING && i < attribute.len; i++) {
        n += attribute.as.text[i] == '.';
    }
    out->parts = jinja_alloc(j, n, sizeof *out->parts);
    if (out->parts == NULL) {
        return j->failed;
    }
    out->n = (uint32_t)n;
    out->parts[0] = attribute;
    size_t start = 0;
    for (size_t i = 0, part = 0; attribute.type == J_STRING && i <= attribute.len; i++) {
        if (i < attribute.len && attribute.as.text[i] != '.') {
            continue;
        }
        struct jvalue text = jv_string(attribute.as.text + start, i - start);
        int64_t index;
        out->parts[part++] =
            all_digits(text) && jtext_to_int(text, 10, &index) == JP_OK ? jv_int(index) : text;
        start = i + 1;
    }
    return 0;
}

int attribute_get(struct jinja *j, const struct attribute_path *path, struct jvalue item,
                  struct jvalue fallback, struct jvalue *out)
{
    int rc = 0;
    for (uint32_t i = 0; i < path->n && rc == 0; i++) {
        rc = jv_item(j, item, path->parts[i], &item);
        if (rc == 0 && jv_is(item, J_UNDEFINED) && given(fallback)) {
            item = fallback;
        }
    }
    *out = item;
    return rc;
}

/* --- map and select ------------------------------------------------------------------------ */
/* One function over the items of a source. */
struct stage {
    struct jiter source;
    struct attribute_path path;
    struct jvalue fallback;
    const struct builtin *apply; /* filter of map, test of select; NULL: none */
    struct jargs args;
    bool map, keep;      /* select keeps what tests true, reject what tests false */
    const char *problem; /* why it can't work, told when the first item is taken */
};

static int pull_stage(struct jinja *j, struct jiter *it, struct jvalue *out, bool *done)
{
    struct stage *stage = it->data;
    if (stage->problem != NULL) {
        return jinja_fail(j, ERR_INVALID, "%s", stage->problem);
    }
    for (;;) {
        struct jvalue item;
        struct jvalue value;
        int rc = jiter_next(j, &stage->source, &item, done);
        if (rc != 0 || *done) {
            return rc;
        }
        rc = attribute_get(j, &stage->path, item, stage->fallback, &value);
        if (rc == 0 && stage->apply != NULL) {
            rc = builtin_run(j, stage->apply, value, &stage->args, &value);
        }
        if (rc != 0) {
            return rc;
        }
        if (stage->map || jv_truth(value) == stage->keep) {
            *out = stage->map ? value : item;
            return 0;
        }
    }
}

static int open_stage(struct jinja *j, struct jvalue in, struct stage **stage, struct jvalue *out)
{
    struct jiter *it = jinja_alloc(j, 1, sizeof *it);
    *stage = it == NULL ? NULL : jinja_alloc(j, 1, sizeof **stage);
    if (*stage == NULL) {
        return j->failed;
    }
    it->pull = pull_stage;
    it->data = *stage;
    *out = (struct jvalue){.type = J_ITERATOR, .as.iter = it};
    struct jvalue source = in;
    int rc = jv_truth(in) ? 0 : jv_list(j, J_LIST, 0, &source); /* falsy: nothing, of any type */
    return rc == 0 ? jiter_open(j, source, &(*stage)->source) : rc;
}

/* args[skip] names the filter or test, the rest are its arguments. */
static int stage_function(struct jinja *j, struct stage *stage, const struct jargs *args,
                          uint32_t skip, bool filter)
{
    struct jvalue name = args->at[skip];
    const char *what = filter ? "filter" : "test";
    if (name.type != J_STRING) {
        return jinja_fail(j, ERR_INVALID, "a %s is named by a string", what);
    }
    int rc = jv_copy(j, name.as.text, name.len, &name);
    if (rc != 0) {
        return rc;
    }
    stage->apply = filter ? filter_find(name.as.text) : test_find(name.as.text);
    if (stage->apply == NULL && filter && filter_is_unsupported(name.as.text)) {
        return jinja_fail(j, ERR_UNSUPPORTED, "the filter '%s' is not supported", name.as.text);
    }
    if (stage->apply == NULL) {
        struct jvalue problem;
        rc = jv_printf(j, &problem, "No %s named '%s'.", what, name.as.text);
        stage->problem = problem.as.text;
        return rc;
    }
    stage->args = (struct jargs){.at = args->at + skip + 1,
                                 .n = args->n - skip - 1,
                                 .keywords = args->keywords,
                                 .n_keywords = args->n_keywords};
    return 0;
}

FILTER(f_map)
{
    (void)p;
    struct stage *stage;
    int rc = open_stage(j, in, &stage, out);
    if (rc != 0) {
        return rc;
    }
    stage->map = true;
    stage->fallback = jv_none();
    if (args->n > 0) {
        return stage_function(j, stage, args, 0, true);
    }
    struct jvalue attribute = jv_missing();
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        const struct jkeyword *k = &args->keywords[i];
        if (strcmp(k->name, "attribute") == 0) {
            attribute = k->value;
        } else if (strcmp(k->name, "default") == 0) {
            stage->fallback = k->value;
        } else {
            stage->problem = "map takes the keyword arguments attribute and default";
        }
    }
    if (jv_is(attribute, J_MISSING)) {
        stage->problem = "map requires a filter argument";
    }
    return attribute_path(j, attribute, &stage->path);
}

static int choose(struct jinja *j, struct jvalue in, const struct jargs *args, bool by_attribute,
                  bool keep, struct jvalue *out)
{
    struct stage *stage;
    int rc = open_stage(j, in, &stage, out);
    if (rc != 0) {
        return rc;
    }
    stage->keep = keep;
    stage->fallback = jv_none();
    if (by_attribute && args->n == 0) {
        stage->problem = "Missing parameter for attribute name";
        return 0;
    }
    if (by_attribute) {
        rc = attribute_path(j, args->at[0], &stage->path);
    }
    if (rc == 0 && args->n > by_attribute) {
        rc = stage_function(j, stage, args, by_attribute, false);
    }
    return rc;
}

FILTER(f_select)
{
    (void)p;
    return choose(j, in, args, false, true, out);
}

FILTER(f_reject)
{
    (void)p;
    return choose(j, in, args, false, false, out);
}

FILTER(f_selectattr)
{
    (void)p;
    return choose(j, in, args, true, true, out);
}

FILTER(f_rejectattr)
{
    (void)p;
    return choose(j, in, args, true, false, out);
}

const struct builtin map_filters[] = {
    {"map", f_map, {NULL}, 0, true},
    {"select", f_select, {NULL}, 0, true},
    {"reject", f_reject, {NULL}, 0, true},
    {"selectattr", f_selectattr, {NULL}, 0, true},
    {"rejectattr", f_rejectattr, {NULL}, 0, true},
    {NULL, NULL, {NULL}, 0, false},
};
