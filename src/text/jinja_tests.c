/* The tests behind `is`, and finding filters and tests by name. */
#include <string.h>

#include "text/jinja_eval.h"

#define TEST(name)                                                                                 \
    static int name(struct jinja *j, struct jvalue in, const struct jvalue *p,                     \
                    const struct jargs *args, struct jvalue *out)

/* A test that looks at the value alone. */
#define SIMPLE(name, condition)                                                                    \
    TEST(name)                                                                                     \
    {                                                                                              \
        (void)j;                                                                                   \
        (void)p;                                                                                   \
        (void)args;                                                                                \
        *out = jv_bool(condition);                                                                 \
        return 0;                                                                                  \
    }

static bool is_callable(struct jvalue v)
{
    return v.type == J_MACRO || v.type == J_FUNCTION || v.type == J_METHOD || v.type == J_LOOP ||
           v.type == J_UNDEFINED;
}

static bool is_sequence(struct jvalue v)
{
    return jv_has_length(v) && v.type != J_VIEW && v.type != J_LOOP;
}

SIMPLE(t_defined, in.type != J_UNDEFINED)
SIMPLE(t_undefined, in.type == J_UNDEFINED)
SIMPLE(t_none, in.type == J_NONE)
SIMPLE(t_boolean, in.type == J_BOOL)
SIMPLE(t_true, in.type == J_BOOL && in.as.boolean)
SIMPLE(t_false, in.type == J_BOOL && !in.as.boolean)
SIMPLE(t_integer, in.type == J_INT)
SIMPLE(t_float, in.type == J_FLOAT)
SIMPLE(t_number, jv_is_number(in))
SIMPLE(t_string, in.type == J_STRING)
SIMPLE(t_mapping, in.type == J_DICT)
SIMPLE(t_iterable, jv_iterable(in))
SIMPLE(t_sequence, is_sequence(in))
SIMPLE(t_callable, is_callable(in))
SIMPLE(t_escaped, in.type == J_STRING && in.flag == JF_MARKUP)
SIMPLE(t_sameas, jv_same(in, p[0]))

/* in % by == remainder */
static int leaves(struct jinja *j, struct jvalue in, struct jvalue by, int64_t remainder,
                  struct jvalue *out)
{
    struct jvalue rest;
    bool equal = false;
    int rc = jv_arithmetic(j, T_MOD, in, by, &rest);
    if (rc == 0) {
        rc = jv_equal(j, rest, jv_int(remainder), &equal);
    }
    *out = jv_bool(equal);
    return rc;
}

TEST(t_odd)
{
    (void)p;
    (void)args;
    return leaves(j, in, jv_int(2), 1, out);
}

TEST(t_even)
{
    (void)p;
    (void)args;
    return leaves(j, in, jv_int(2), 0, out);
}

TEST(t_divisibleby)
{
    (void)args;
    return leaves(j, in, p[0], 0, out);
}

static int ask_text(struct jinja *j, struct jvalue in, const char *method, struct jvalue *out)
{
    const struct jargs none = {0};
    struct jvalue text;
    int rc = jv_to_string(j, in, &text);
    return rc == 0 ? builtin_run(j, text_method(method), text, &none, out) : rc;
}

TEST(t_lower)
{
    (void)p;
    (void)args;
    return ask_text(j, in, "islower", out);
}

TEST(t_upper)
{
    (void)p;
    (void)args;
    return ask_text(j, in, "isupper", out);
}

TEST(t_in)
{
    (void)args;
    bool found;
    int rc = jv_contains(j, p[0], in, &found);
    *out = jv_bool(found);
    return rc;
}

TEST(t_eq)
{
    (void)args;
    bool equal;
    int rc = jv_equal(j, in, p[0], &equal);
    *out = jv_bool(equal);
    return rc;
}

TEST(t_ne)
{
    (void)args;
    bool equal;
    int rc = jv_equal(j, in, p[0], &equal);
    *out = jv_bool(!equal);
    return rc;
}

#define COMPARING(name, op)                                                                        \
    TEST(name)                                                                                     \
    {                                                                                              \
        (void)args;                                                                                \
        bool holds = false;                                                                        \
        int rc = jv_compare(j, op, in, p[0], &holds);                                              \
        *out = jv_bool(holds);                                                                     \
        return rc;                                                                                 \
    }

COMPARING(t_lt, JC_LT)
COMPARING(t_le, JC_LE)
COMPARING(t_gt, JC_GT)
COMPARING(t_ge, JC_GE)

/* Is there a filter or test of this name? */
static int exists(struct jinja *j, struct jvalue in, bool filter, struct jvalue *out)
{
    struct jvalue name;
    *out = jv_bool(false);
    if (in.type != J_STRING) {
        return 0;
    }
    int rc = jv_copy(j, in.as.text, in.len, &name);
    if (rc == 0) {
        *out =
            jv_bool(filter ? filter_find(name.as.text) != NULL : test_find(name.as.text) != NULL);
    }
    return rc;
}

TEST(t_filter)
{
    (void)p;
    (void)args;
    return exists(j, in, true, out);
}

TEST(t_test)
{
    (void)p;
    (void)args;
    return exists(j, in, false, out);
}

static const struct builtin tests[] = {
    {"defined", t_defined, {NULL}, 0, false},
    {"undefined", t_undefined, {NULL}, 0, false},
    {"none", t_none, {NULL}, 0, false},
    {"string", t_string, {NULL}, 0, false},
    {"mapping", t_mapping, {NULL}, 0, false},
    {"iterable", t_iterable, {NULL}, 0, false},
    {"sequence", t_sequence, {NULL}, 0, false},
    {"boolean", t_boolean, {NULL}, 0, false},
    {"true", t_true, {NULL}, 0, false},
    {"false", t_false, {NULL}, 0, false},
    {"integer", t_integer, {NULL}, 0, false},
    {"float", t_float, {NULL}, 0, false},
    {"number", t_number, {NULL}, 0, false},
    {"odd", t_odd, {NULL}, 0, false},
    {"even", t_even, {NULL}, 0, false},
    {"divisibleby", t_divisibleby, {"num"}, 1, false},
    {"lower", t_lower, {NULL}, 0, false},
    {"upper", t_upper, {NULL}, 0, false},
    {"callable", t_callable, {NULL}, 0, false},
    {"sameas", t_sameas, {"other"}, 1, false},
    {"escaped", t_escaped, {NULL}, 0, false},
    {"filter", t_filter, {NULL}, 0, false},
    {"test", t_test, {NULL}, 0, false},
    {"in", t_in, {"seq"}, 1, false},
    {"eq", t_eq, {"/b"}, 1, false},
    {"equalto", t_eq, {"/b"}, 1, false},
    {"==", t_eq, {"/b"}, 1, false},
    {"ne", t_ne, {"/b"}, 1, false},
    {"!=", t_ne, {"/b"}, 1, false},
    {"lt", t_lt, {"/b"}, 1, false},
    {"lessthan", t_lt, {"/b"}, 1, false},
    {"<", t_lt, {"/b"}, 1, false},
    {"le", t_le, {"/b"}, 1, false},
    {"<=", t_le, {"/b"}, 1, false},
    {"gt", t_gt, {"/b"}, 1, false},
    {"greaterthan", t_gt, {"/b"}, 1, false},
    {">", t_gt, {"/b"}, 1, false},
    {"ge", t_ge, {"/b"}, 1, false},
    {">=", t_ge, {"/b"}, 1, false},
    {NULL, NULL, {NULL}, 0, false},
};

static const struct builtin *find(const struct builtin *table, const char *name)
{
    for (; table->name != NULL; table++) {
        if (strcmp(table->name, name) == 0) {
            return table;
        }
    }
    return NULL;
}

const struct builtin *test_find(const char *name)
{
    return find(tests, name);
}

const struct builtin *filter_find(const char *name)
{
    const struct builtin *filter = find(text_filters, name);
    filter = filter != NULL ? filter : find(sequence_filters, name);
    return filter != NULL ? filter : find(map_filters, name);
}

bool filter_is_unsupported(const char *name)
{
    static const char *const names[] = {"filesizeformat", "pprint", "random",   "striptags",
                                        "urlencode",      "urlize", "wordwrap", "xmlattr"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}
