/* Filters on single values: strings, numbers, JSON. Signatures are jinja2's; tojson is
 * transformers'. */
#include <math.h>
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

static int soft_case(struct jinja *j, struct jvalue in, int how, struct jvalue *out)
{
    int rc = jv_soft_string(j, in, &in);
    return rc == 0 ? text_case(j, in, how, out) : rc;
}

FILTER(f_upper)
{
    (void)p;
    (void)args;
    return soft_case(j, in, JU_UPPER, out);
}

FILTER(f_lower)
{
    (void)p;
    (void)args;
    return soft_case(j, in, JU_LOWER, out);
}

FILTER(f_capitalize)
{
    (void)p;
    (void)args;
    return soft_case(j, in, JU_CAPITAL, out);
}

/* Unlike str.title, words begin after white space and -({[< only. */
FILTER(f_title)
{
    (void)p;
    (void)args;
    int rc = jv_soft_string(j, in, &in);
    if (rc != 0) {
        return rc;
    }
    size_t mark = jtext_open(j);
    size_t start = 0;
    uint32_t point;
    jinja_charge(j, in.len);
    for (size_t at = 0, n; at <= in.len; at += n) {
        bool end = at == in.len;
        n = end ? 1 : ju_decode(in.as.text + at, in.len - at, &point);
        bool splits = !end && (ju_is_space(point) ||
                               (point < 128 && point != 0 && strchr("-({[<", (int)point) != NULL));
        if ((end || splits) && at > start) {
            size_t first = ju_decode(in.as.text + start, at - start, &point);
            ju_put_case(&j->scratch, JU_UPPER, in.as.text + start, first);
            ju_put_case(&j->scratch, JU_LOWER, in.as.text + start + first, at - start - first);
        }
        if (splits) {
            buf_append(&j->scratch, in.as.text + at, n);
        }
        start = end || splits ? at + n : start;
    }
    return jtext_close(j, mark, out);
}

FILTER(f_trim)
{
    (void)args;
    int rc = jv_soft_string(j, in, &in);
    return rc == 0 ? text_strip(j, in, p[0], true, true, out) : rc;
}

FILTER(f_replace)
{
    (void)args;
    struct jvalue text;
    struct jvalue old;
    struct jvalue new;
    int64_t count = -1;
    int rc = jv_to_string(j, in, &text);
    if (rc == 0) {
        rc = jv_to_string(j, p[0], &old);
    }
    if (rc == 0) {
        rc = jv_to_string(j, p[1], &new);
    }
    if (rc == 0 && given(p[2])) {
        rc = jv_as_int(j, p[2], "count", &count);
    }
    return rc == 0 ? text_replace(j, text, old, new, count < 0 ? -1 : count, out) : rc;
}

FILTER(f_string)
{
    (void)p;
    (void)args;
    return jv_soft_string(j, in, out);
}

FILTER(f_safe)
{
    (void)p;
    (void)args;
    int rc = jv_to_string(j, in, out);
    out->flag = JF_MARKUP;
    return rc;
}

FILTER(f_escape)
{
    (void)p;
    (void)args;
    return jv_escape(j, in, out);
}

FILTER(f_forceescape)
{
    (void)p;
    (void)args;
    int rc = jv_to_string(j, in, &in);
    return rc == 0 ? jv_escape(j, in, out) : rc;
}

FILTER(f_center)
{
    (void)args;
    int64_t width = 80;
    int rc = jv_soft_string(j, in, &in);
    if (rc == 0 && !jv_is(p[0], J_MISSING)) {
        rc = jv_as_int(j, p[0], "width", &width);
    }
    return rc == 0 ? text_center(j, in, width, jv_text(" "), 0, out) : rc;
}

FILTER(f_default)
{
    (void)j;
    (void)args;
    bool absent = jv_is(in, J_UNDEFINED) || (flag(p[1]) && !jv_truth(in));
    *out = !absent ? in : jv_is(p[0], J_MISSING) ? jv_text("") : p[0];
    return 0;
}

FILTER(f_format)
{
    (void)p;
    struct jvalue values;
    int rc = jv_soft_string(j, in, &in);
    if (rc != 0) {
        return rc;
    }
    if (args->n > 0 && args->n_keywords > 0) {
        return jinja_fail(j, ERR_INVALID,
                          "can't handle positional and keyword arguments at the same time");
    }
    if (args->n_keywords > 0) {
        rc = jv_dict(j, args->n_keywords, &values);
        for (uint32_t i = 0; i < args->n_keywords && rc == 0; i++) {
            rc = jdict_set(j, values.as.dict, jv_text(args->keywords[i].name),
                           args->keywords[i].value);
        }
    } else {
        rc = jv_list(j, J_TUPLE, 0, &values);
        if (rc == 0) {
            values.as.list->items = args->at;
            values.as.list->n = args->n;
        }
    }
    return rc == 0 ? jv_percent(j, in, values, out) : rc;
}

/* --- layout -------------------------------------------------------------------------------- */
static int indent_text(struct jinja *j, struct jvalue width, struct jvalue *out)
{
    if (width.type == J_STRING) {
        *out = width;
        return 0;
    }
    int64_t n = 4;
    int rc = jv_is(width, J_MISSING) ? 0 : jv_as_int(j, width, "indent", &n);
    if (rc == 0) {
        rc = jv_arithmetic(j, T_MUL, jv_text(" "), jv_int(n), out);
    }
    return rc;
}

FILTER(f_indent)
{
    (void)args;
    struct jvalue indent;
    struct jvalue lines;
    bool blank = flag(p[2]);
    int rc = jv_need_defined(j, in);
    if (rc == 0 && in.type != J_STRING) {
        rc = jinja_fail(j, ERR_INVALID, "indent needs a string, not '%s'", jv_type_name(&in));
    }
    if (rc == 0) {
        rc = indent_text(j, p[0], &indent);
    }
    if (rc == 0) {
        rc = jv_string_concat(j, in, jv_text("\n"), &lines);
    }
    if (rc == 0) {
        rc = text_lines(j, lines, false, &lines);
    }
    if (rc != 0) {
        return rc;
    }
    size_t mark = jtext_open(j);
    for (uint32_t i = 0; i < lines.as.list->n; i++) {
        struct jvalue line = lines.as.list->items[i];
        buf_puts(&j->scratch, i > 0 ? "\n" : "");
        if (i == 0 ? flag(p[1]) : blank || line.len > 0) {
            buf_append(&j->scratch, indent.as.text, indent.len);
            jinja_charge(j, indent.len);
        }
        buf_append(&j->scratch, line.as.text, line.len);
    }
    rc = jtext_close(j, mark, out);
    out->flag = in.flag;
    return rc;
}

FILTER(f_truncate)
{
    (void)args;
    int64_t length = 255;
    int64_t leeway = 5;
    int64_t points = 0;
    int64_t tail = 0;
    struct jvalue end = jv_is(p[2], J_MISSING) ? jv_text("...") : p[2];
    int rc = jv_is(p[0], J_MISSING) ? 0 : jv_as_int(j, p[0], "length", &length);
    if (rc == 0 && given(p[3])) {
        rc = jv_as_int(j, p[3], "leeway", &leeway);
    }
    if (rc == 0) {
        rc = jv_length(j, end, &tail);
    }
    if (rc == 0 && (length < tail || leeway < 0)) {
        rc = jinja_fail(j, ERR_INVALID, "expected length >= %lld, got %lld", (long long)tail,
                        (long long)length);
    }
    if (rc == 0) {
        rc = jv_length(j, in, &points);
    }
    if (rc != 0) {
        return rc;
    }
    if (length > points || points <= length + leeway) {
        *out = in;
        return 0;
    }
    if (in.type != J_STRING || end.type != J_STRING) {
        return jinja_fail(j, ERR_INVALID, "truncate needs strings");
    }
    size_t cut = ju_offset(in.as.text, in.len, (size_t)(length - tail));
    size_t space = cut;
    while (space > 0 && in.as.text[space - 1] != ' ') {
        space--;
    }
    cut = flag(p[1]) || space == 0 ? cut : space - 1;
    struct jvalue head = jv_string(in.as.text, cut);
    head.flag = in.flag;
    return jv_arithmetic(j, T_ADD, head, end, out);
}

FILTER(f_wordcount)
{
    (void)p;
    (void)args;
    int rc = jv_soft_string(j, in, &in);
    int64_t n = 0;
    bool in_word = false;
    uint32_t point;
    for (size_t at = 0; rc == 0 && at < in.len;) {
        at += ju_decode(in.as.text + at, in.len - at, &point);
        bool word = ju_is_alpha(point) || ju_is_numeric(point) || point == '_';
        n += word && !in_word;
        in_word = word;
    }
    jinja_charge(j, rc == 0 ? in.len : 0);
    *out = jv_int(n);
    return rc;
}

/* --- numbers ------------------------------------------------------------------------------- */
FILTER(f_abs)
{
    (void)p;
    (void)args;
    bool negative =
        (in.type == J_INT && in.as.integer < 0) || (in.type == J_FLOAT && signbit(in.as.real));
    return jv_sign(j, negative, in, out);
}

static int real_to_int(struct jinja *j, double d, struct jvalue *out)
{
    if (isinf(d)) {
        return jinja_fail(j, ERR_INVALID, "cannot convert float infinity to integer");
    }
    if (!(fabs(d) < 9223372036854775808.0)) {
        return jinja_fail(j, ERR_UNSUPPORTED, "integers beyond 64 bits are not supported");
    }
    *out = jv_int((int64_t)d);
    return 0;
}

FILTER(f_int)
{
    (void)args;
    int64_t base = 10;
    int64_t i;
    double d;
    int rc = jv_need_defined(j, in);
    if (rc == 0 && !jv_is(p[1], J_MISSING)) {
        rc = jv_as_int(j, p[1], "base", &base);
    }
    if (rc != 0) {
        return rc;
    }
    *out = jv_is(p[0], J_MISSING) ? jv_int(0) : p[0];
    if (in.type == J_BOOL || in.type == J_INT) {
        *out = jv_int(in.type == J_INT ? in.as.integer : in.as.boolean);
    } else if (in.type == J_FLOAT) {
        return isnan(in.as.real) ? 0 : real_to_int(j, in.as.real, out);
    } else if (in.type == J_STRING) {
        enum jparse parsed = jtext_to_int(in, base, &i);
        if (parsed == JP_OVERFLOW) {
            return jinja_fail(j, ERR_UNSUPPORTED, "integers beyond 64 bits are not supported");
        }
        if (parsed == JP_OK) {
            *out = jv_int(i);
        } else if (jtext_to_real(in, &d) && isfinite(d)) {
            return real_to_int(j, d, out);
        }
    }
    return 0;
}

FILTER(f_float)
{
    (void)args;
    double d;
    int rc = jv_need_defined(j, in);
    *out = jv_is(p[0], J_MISSING) ? jv_float(0.0) : p[0];
    if (in.type == J_FLOAT) {
        *out = in;
    } else if (in.type == J_INT || in.type == J_BOOL) {
        *out = jv_float(in.type == J_INT ? (double)in.as.integer : (double)in.as.boolean);
    } else if (in.type == J_STRING && jtext_to_real(in, &d)) {
        *out = jv_float(d);
    }
    return rc;
}

/* Integers keep their type; only a negative precision changes them. */
static int round_int(struct jinja *j, int64_t i, int64_t digits, struct jvalue *out)
{
    if (digits < -18) {
        *out = jv_int(0);
        return 0;
    }
    int64_t scale = 1;
    for (; digits < 0; digits++) {
        scale *= 10;
    }
    int64_t rest = i % scale;
    int64_t base = i - rest;
    int64_t size = rest < 0 ? -rest : rest;
    bool away = size > scale - size || (size == scale - size && (base / scale) % 2 != 0);
    int64_t step = !away ? 0 : rest < 0 ? -scale : scale;
    if (__builtin_add_overflow(base, step, &base)) {
        return jinja_fail(j, ERR_UNSUPPORTED, "integers beyond 64 bits are not supported");
    }
    *out = jv_int(base);
    return 0;
}

FILTER(f_round)
{
    (void)args;
    int64_t digits = 0;
    struct jvalue method = jv_is(p[1], J_MISSING) ? jv_text("common") : p[1];
    bool up = jv_is_text(method, "ceil");
    int rc = jv_need_defined(j, in);
    if (rc == 0 && !jv_is(p[0], J_MISSING)) {
        rc = jv_as_int(j, p[0], "precision", &digits);
    }
    if (rc == 0 && !up && !jv_is_text(method, "floor") && !jv_is_text(method, "common")) {
        rc = jinja_fail(j, ERR_INVALID, "method must be common, ceil or floor");
    }
    if (rc == 0 && !jv_is_number(in)) {
        rc = jinja_fail(j, ERR_INVALID, "type %s doesn't define __round__ method",
                        jv_type_name(&in));
    }
    if (rc != 0) {
        return rc;
    }
    int64_t i = in.type == J_INT ? in.as.integer : in.type == J_BOOL && in.as.boolean;
    double d = in.type == J_FLOAT ? in.as.real : (double)i;
    if (jv_is_text(method, "common")) {
        if (in.type != J_FLOAT) {
            return round_int(j, i, digits, out);
        }
        *out = jv_float(jreal_round(d, digits));
        return 0;
    }
    double scale = pow(10.0, (double)digits);
    if (!isfinite(d * scale)) {
        return jinja_fail(j, ERR_INVALID, "cannot round %g", d);
    }
    *out = jv_float((up ? ceil(d * scale) : floor(d * scale)) / scale);
    return 0;
}

/* --- JSON and attributes ------------------------------------------------------------------- */
static int json_separators(struct jinja *j, struct jvalue v, struct jjson *how)
{
    if (!given(v)) {
        return 0;
    }
    struct jvalue pair;
    int rc = jv_collect(j, v, J_LIST, &pair);
    if (rc == 0 && (pair.as.list->n != 2 || pair.as.list->items[0].type != J_STRING ||
                    pair.as.list->items[1].type != J_STRING)) {
        rc = jinja_fail(j, ERR_INVALID, "separators must be two strings");
    }
    if (rc == 0) {
        how->item_separator = pair.as.list->items[0];
        how->key_separator = pair.as.list->items[1];
    }
    return rc;
}

FILTER(f_tojson)
{
    (void)args;
    bool indented = given(p[1]);
    struct jjson how = {
        .ascii = flag(p[0]),
        .sort_keys = flag(p[3]),
        .indented = indented,
        .item_separator = jv_text(indented ? "," : ", "),
        .key_separator = jv_text(": "),
    };
    int rc = indented ? indent_text(j, p[1], &how.indent) : 0;
    if (rc == 0) {
        rc = json_separators(j, p[2], &how);
    }
    return rc == 0 ? jv_to_json(j, in, &how, out) : rc;
}

FILTER(f_attr)
{
    (void)args;
    if (p[0].type != J_STRING) {
        return jinja_fail(j, ERR_INVALID, "attribute name must be string, not '%s'",
                          jv_type_name(&p[0]));
    }
    struct jvalue name;
    int rc = jv_need_defined(j, in);
    if (rc == 0) {
        rc = jv_copy(j, p[0].as.text, p[0].len, &name);
    }
    if (rc == 0) {
        rc = python_attribute(j, in, name.as.text, out);
    }
    if (rc == 0 && jv_is(*out, J_MISSING)) {
        *out = jv_no_attribute(in, name.as.text);
    }
    return rc;
}

const struct builtin text_filters[] = {
    {"trim", f_trim, {"chars"}, 0, false},
    {"tojson", f_tojson, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0, false},
    {"default", f_default, {"default_value", "boolean"}, 0, false},
    {"d", f_default, {"default_value", "boolean"}, 0, false},
    {"replace", f_replace, {"old", "new", "count"}, 2, false},
    {"upper", f_upper, {NULL}, 0, false},
    {"lower", f_lower, {NULL}, 0, false},
    {"title", f_title, {NULL}, 0, false},
    {"capitalize", f_capitalize, {NULL}, 0, false},
    {"string", f_string, {NULL}, 0, false},
    {"safe", f_safe, {NULL}, 0, false},
    {"escape", f_escape, {NULL}, 0, false},
    {"e", f_escape, {NULL}, 0, false},
    {"forceescape", f_forceescape, {NULL}, 0, false},
    {"center", f_center, {"width"}, 0, false},
    {"format", f_format, {NULL}, 0, true},
    {"indent", f_indent, {"width", "first", "blank"}, 0, false},
    {"truncate", f_truncate, {"length", "killwords", "end", "leeway"}, 0, false},
    {"wordcount", f_wordcount, {NULL}, 0, false},
    {"abs", f_abs, {NULL}, 0, false},
    {"int", f_int, {"default", "base"}, 0, false},
    {"float", f_float, {"default"}, 0, false},
    {"round", f_round, {"precision", "method"}, 0, false},
    {"attr", f_attr, {"name"}, 1, false},
    {NULL, NULL, {NULL}, 0, false},
};
