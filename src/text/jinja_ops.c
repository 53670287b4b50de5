/* Operators on values: arithmetic by Python's rules on 64-bit integers (leaving them is an error,
 * never a wrong number), attributes, items and slices by the sandbox's. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_unicode.h"
#include "text/template.h"

static const char *op_text(enum token_kind op)
{
    switch (op) {
    case T_ADD:
        return "+";
    case T_SUB:
        return "-";
    case T_MUL:
        return "*";
    case T_DIV:
        return "/";
    case T_FLOORDIV:
        return "//";
    case T_MOD:
        return "%";
    default:
        return "**";
    }
}

static int fail_types(struct jinja *j, enum token_kind op, struct jvalue a, struct jvalue b)
{
    return jinja_fail(j, ERR_INVALID, "unsupported operand type(s) for %s: '%s' and '%s'",
                      op_text(op), jv_type_name(&a), jv_type_name(&b));
}

static int fail_overflow(struct jinja *j)
{
    return jinja_fail(j, ERR_UNSUPPORTED, "integers beyond 64 bits are not supported");
}

static double to_real(struct jvalue v)
{
    return v.type == J_FLOAT ? v.as.real
           : v.type == J_INT ? (double)v.as.integer
                             : (double)v.as.boolean;
}

static int64_t to_int(struct jvalue v)
{
    return v.type == J_INT ? v.as.integer : v.as.boolean;
}

static int int_power(struct jinja *j, int64_t base, int64_t exponent, struct jvalue *out)
{
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) {
            return fail_overflow(j);
        }
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
            return fail_overflow(j);
        }
    }
    *out = jv_int(result);
    return 0;
}

static int real_arithmetic(struct jinja *j, enum token_kind op, double a, double b,
                           struct jvalue *out)
{
    double r;
    if (b == 0.0 && (op == T_DIV || op == T_FLOORDIV || op == T_MOD)) {
        return jinja_fail(j, ERR_INVALID, "float division by zero");
    }
    switch (op) {
    case T_ADD:
        r = a + b;
        break;
    case T_SUB:
        r = a - b;
        break;
    case T_MUL:
        r = a * b;
        break;
    case T_DIV:
        r = a / b;
        break;
    case T_POW:
        if (a == 0.0 && b < 0.0) {
            return jinja_fail(j, ERR_INVALID, "0.0 cannot be raised to a negative power");
        }
        if (a < 0.0 && b != floor(b) && isfinite(a) && isfinite(b)) {
            return jinja_fail(j, ERR_UNSUPPORTED, "complex numbers are not supported");
        }
        r = pow(a, b);
        if (isinf(r) && isfinite(a) && isfinite(b)) {
            return jinja_fail(j, ERR_INVALID, "(34, 'Numerical result out of range')");
        }
        break;
    default: { /* // and %, whose results have the sign of b */
        double rest = fmod(a, b);
        double quotient = (a - rest) / b;
        if (rest != 0.0 && (rest < 0.0) != (b < 0.0)) {
            rest += b;
            quotient -= 1.0;
        }
        if (op == T_MOD) {
            r = rest == 0.0 ? copysign(0.0, b) : rest;
        } else {
            double floored = floor(quotient);
            r = quotient == 0.0 ? copysign(0.0, a / b) : floored + (quotient - floored > 0.5);
        }
    }
    }
    *out = jv_float(r);
    return 0;
}

static int int_arithmetic(struct jinja *j, enum token_kind op, int64_t a, int64_t b,
                          struct jvalue *out)
{
    int64_t r = 0;
    bool over = false;
    if (b == 0 && op != T_ADD && op != T_SUB && op != T_MUL && op != T_POW) {
        return jinja_fail(j, ERR_INVALID, "division by zero");
    }
    switch (op) {
    case T_ADD:
        over = __builtin_add_overflow(a, b, &r);
        break;
    case T_SUB:
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case T_MUL:
        over = __builtin_mul_overflow(a, b, &r);
        break;
    case T_DIV:
        *out = jv_float((double)a / (double)b);
        return 0;
    case T_POW:
        return b < 0 ? real_arithmetic(j, op, (double)a, (double)b, out) : int_power(j, a, b, out);
    default: /* T_FLOORDIV, T_MOD */
        assert(b != 0);
        over = a == INT64_MIN && b == -1;
        if (!over) {
            int64_t rest = a % b;
            r = a / b;
            if (rest != 0 && (rest < 0) != (b < 0)) {
                rest += b;
                r--;
            }
            r = op == T_MOD ? rest : r;
        } else if (op == T_MOD) {
            over = false;
        }
    }
    if (over) {
        return fail_overflow(j);
    }
    *out = jv_int(r);
    return 0;
}

/* text or list × count. */
static int repeat(struct jinja *j, struct jvalue v, int64_t count, struct jvalue *out)
{
    size_t size = v.type == J_STRING ? v.len : v.as.list->n;
    size_t n = count <= 0 || size == 0 ? 0 : (size_t)count;
    size_t most = v.type == J_STRING ? TEMPLATE_OUTPUT_BYTES_MAX
                                     : TEMPLATE_MEMORY_BYTES_MAX / sizeof(struct jvalue);
    if (n > 0 && size > most / n) {
        return jinja_fail(j, ERR_TOO_LARGE, "a repetition of %zu items is too large", n);
    }
    if (v.type == J_STRING) {
        size_t mark = jtext_open(j);
        for (size_t i = 0; i < n; i++) {
            buf_append(&j->scratch, v.as.text, size);
        }
        jinja_charge(j, n * 16);
        int rc = jtext_close(j, mark, out);
        out->flag = v.flag;
        return rc;
    }
    int rc = jv_list(j, v.type, n * size, out);
    jinja_charge(j, n * size * sizeof(struct jvalue));
    for (size_t i = 0; rc == 0 && i < n * size; i++) {
        out->as.list->items[i] = v.as.list->items[i % size];
    }
    return rc;
}

/* Markup escapes what is joined to it, from either side. */
static int text_sum(struct jinja *j, struct jvalue a, struct jvalue b, struct jvalue *out)
{
    bool markup = a.flag == JF_MARKUP || b.flag == JF_MARKUP;
    int rc = 0;
    if (markup) {
        rc = jv_escape(j, a, &a);
        if (rc == 0) {
            rc = jv_escape(j, b, &b);
        }
    }
    if (rc == 0) {
        rc = jv_string_concat(j, a, b, out);
        out->flag = markup ? JF_MARKUP : JF_NONE;
    }
    return rc;
}

static bool is_sequence(struct jvalue v)
{
    return v.type == J_STRING || v.type == J_LIST || v.type == J_TUPLE;
}

int jv_arithmetic(struct jinja *j, enum token_kind op, struct jvalue a, struct jvalue b,
                  struct jvalue *out)
{
    if (op == T_MOD && a.type == J_STRING) {
        return jv_percent(j, a, b, out);
    }
    int rc = jv_need_defined(j, a);
    if (rc == 0) {
        rc = jv_need_defined(j, b);
    }
    if (rc != 0) {
        return rc;
    }
    if (jv_is_number(a) && jv_is_number(b)) {
        return a.type == J_FLOAT || b.type == J_FLOAT
                   ? real_arithmetic(j, op, to_real(a), to_real(b), out)
                   : int_arithmetic(j, op, to_int(a), to_int(b), out);
    }
    if (op == T_ADD && a.type == b.type && is_sequence(a)) {
        return a.type == J_STRING ? text_sum(j, a, b, out) : jv_list_concat(j, a, b, out);
    }
    if (op == T_MUL && is_sequence(a) && (b.type == J_INT || b.type == J_BOOL)) {
        return repeat(j, a, to_int(b), out);
    }
    if (op == T_MUL && is_sequence(b) && (a.type == J_INT || a.type == J_BOOL)) {
        return repeat(j, b, to_int(a), out);
    }
    return fail_types(j, op, a, b);
}

int jv_sign(struct jinja *j, bool negative, struct jvalue v, struct jvalue *out)
{
    int rc = jv_need_defined(j, v);
    if (rc != 0) {
        return rc;
    }
    if (!jv_is_number(v)) {
        return jinja_fail(j, ERR_INVALID, "bad operand type for unary %c: '%s'",
                          negative ? '-' : '+', jv_type_name(&v));
    }
    if (v.type == J_FLOAT) {
        *out = jv_float(negative ? -v.as.real : v.as.real);
        return 0;
    }
    int64_t i = to_int(v);
    if (negative && i == INT64_MIN) {
        return fail_overflow(j);
    }
    *out = jv_int(negative ? -i : i);
    return 0;
}

/* --- items --------------------------------------------------------------------------------- */
/* Python's obj[key]: missing where it raises TypeError or LookupError. */
static int python_item(struct jinja *j, struct jvalue object, struct jvalue key, struct jvalue *out)
{
    *out = jv_missing();
    if (object.type == J_DICT) {
        if (key.type == J_LIST || key.type == J_DICT) {
            return 0;
        }
        return jdict_get(j, object.as.dict, key, out);
    }
    if ((key.type != J_INT && key.type != J_BOOL) ||
        (!is_sequence(object) && object.type != J_RANGE)) {
        return 0;
    }
    int64_t n = 0;
    int64_t i = to_int(key);
    int rc = jv_length(j, object, &n);
    if (rc != 0) {
        return rc;
    }
    i += i < 0 ? n : 0;
    if (i < 0 || i >= n) {
        return 0;
    }
    if (object.type == J_RANGE) {
        *out = jv_int(jrange_item(object.as.range, (size_t)i));
    } else if (object.type == J_STRING) {
        size_t at = ju_offset(object.as.text, object.len, (size_t)i);
        uint32_t point;
        *out =
            jv_string(object.as.text + at, ju_decode(object.as.text + at, object.len - at, &point));
        out->flag = object.flag;
    } else {
        *out = object.as.list->items[i];
    }
    return 0;
}

int jv_attribute(struct jinja *j, struct jvalue object, const char *name, struct jvalue *out)
{
    int rc = python_attribute(j, object, name, out);
    if (rc == 0 && jv_is(*out, J_MISSING)) {
        rc = jv_need_defined(j, object);
    }
    if (rc == 0 && jv_is(*out, J_MISSING) && object.type == J_DICT) {
        *out = jdict_find(object.as.dict, name, strlen(name));
    }
    if (rc == 0 && jv_is(*out, J_MISSING)) {
        *out = jv_no_attribute(object, name);
    }
    return rc;
}

/* The text of a string key as a C string; NULL in *name when it can't name an attribute. */
static int key_name(struct jinja *j, struct jvalue key, const char **name)
{
    struct jvalue copy;
    *name = NULL;
    if (key.type != J_STRING || (key.len > 0 && memchr(key.as.text, '\0', key.len) != NULL)) {
        return 0;
    }
    int rc = jv_copy(j, key.as.text, key.len, &copy);
    if (rc == 0) {
        *name = copy.as.text;
    }
    return rc;
}

/* An undefined that tells which key was not there. */
static int no_item(struct jinja *j, struct jvalue object, struct jvalue key, struct jvalue *out)
{
    struct jvalue text;
    size_t mark = jtext_open(j);
    buf_printf(&j->scratch, "%s object has no element ", jv_type_name(&object));
    int rc = jv_is_number(key) ? jv_put_repr(j, key) : 0;
    if (rc == 0) {
        rc = jtext_close(j, mark, &text);
    }
    if (rc == 0) {
        *out = jv_undefined(text.as.text);
    }
    return rc;
}

int jv_item(struct jinja *j, struct jvalue object, struct jvalue key, struct jvalue *out)
{
    const char *name = NULL;
    int rc = jv_need_defined(j, object);
    if (rc == 0) {
        rc = python_item(j, object, key, out);
    }
    if (rc != 0 || !jv_is(*out, J_MISSING)) {
        return rc;
    }
    rc = key_name(j, key, &name);
    if (rc != 0) {
        return rc;
    }
    if (name == NULL) {
        return no_item(j, object, key, out);
    }
    rc = python_attribute(j, object, name, out);
    if (rc == 0 && jv_is(*out, J_MISSING)) {
        *out = jv_no_attribute(object, name);
    }
    return rc;
}

/* --- slices -------------------------------------------------------------------------------- */
struct span {
    int64_t start, stop, step;
    size_t n;
};

static int slice_bound(struct jinja *j, struct jvalue v, int64_t n, int64_t low, int64_t high,
                       int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (v.type == J_NONE) {
        return 0;
    }
    int rc = jv_as_int(j, v, "a slice index", out);
    if (rc == 0) {
        if (*out < 0) {
            *out = *out < -n ? low : *out + n;
        }
        *out = *out < low ? low : *out > high ? high : *out;
    }
    return rc;
}

/* Python's slice.indices over n items. */
static int slice_span(struct jinja *j, const struct jvalue part[3], int64_t n, struct span *out)
{
    int64_t step = 1;
    int64_t stop;
    int rc = part[2].type == J_NONE ? 0 : jv_as_int(j, part[2], "a slice index", &step);
    if (rc == 0 && step == 0) {
        rc = jinja_fail(j, ERR_INVALID, "slice step cannot be zero");
    }
    int64_t low = step < 0 ? -1 : 0;
    int64_t high = step < 0 ? n - 1 : n;
    if (rc == 0) {
        rc = slice_bound(j, part[0], n, low, high, step < 0 ? high : low, &out->start);
    }
    if (rc == 0) {
        rc = slice_bound(j, part[1], n, low, high, step < 0 ? low : high, &stop);
    }
    if (rc != 0) {
        return rc;
    }
    out->stop = stop;
    out->step = step;
    int64_t distance = step < 0 ? out->start - stop : stop - out->start;
    uint64_t stride = step < 0 ? (uint64_t)0 - (uint64_t)step : (uint64_t)step;
    out->n = distance <= 0 ? 0 : (size_t)(((uint64_t)distance - 1) / stride + 1);
    return 0;
}

static int slice_text(struct jinja *j, struct jvalue text, const struct span *span, size_t points,
                      struct jvalue *out)
{
    const char *s = text.as.text;
    jinja_charge(j, text.len);
    if (span->n == 0) {
        *out = jv_string("", 0);
    } else if (span->step == 1) {
        size_t from = ju_offset(s, text.len, (size_t)span->start);
        *out = jv_string(s + from, ju_offset(s + from, text.len - from, span->n));
    } else {
        uint32_t *offsets = jinja_alloc(j, points, sizeof *offsets);
        if (offsets == NULL) {
            return j->failed;
        }
        size_t k = 0;
        for (size_t at = 0; at < text.len && k < points; k++) {
            offsets[k] = (uint32_t)at;
            at += ju_offset(s + at, text.len - at, 1);
        }
        size_t mark = jtext_open(j);
        for (size_t i = 0; i < span->n; i++) {
            size_t at = offsets[span->start + (int64_t)i * span->step];
            uint32_t point;
            buf_append(&j->scratch, s + at, ju_decode(s + at, text.len - at, &point));
        }
        int rc = jtext_close(j, mark, out);
        if (rc != 0) {
            return rc;
        }
    }
    out->flag = text.flag;
    return 0;
}

/* Item number i of a range, also one that lies outside of it. */
static bool range_reach(const struct jrange *range, int64_t i, int64_t *out)
{
    return !__builtin_mul_overflow(i, range->step, out) &&
           !__builtin_add_overflow(*out, range->start, out);
}

static int slice_range(struct jinja *j, const struct jrange *range, const struct span *span,
                       struct jvalue *out)
{
    struct jrange *r = jinja_alloc(j, 1, sizeof *r);
    if (r == NULL) {
        return j->failed;
    }
    r->n = (uint32_t)span->n;
    if (!range_reach(range, span->start, &r->start) || !range_reach(range, span->stop, &r->stop) ||
        __builtin_mul_overflow(range->step, span->step, &r->step)) {
        return fail_overflow(j);
    }
    *out = (struct jvalue){.type = J_RANGE, .as.range = r};
    return 0;
}

int jv_slice(struct jinja *j, struct jvalue object, const struct jvalue part[3], struct jvalue *out)
{
    int rc = jv_need_defined(j, object);
    if (rc != 0) {
        return rc;
    }
    if (!is_sequence(object) && object.type != J_RANGE) {
        return object.type == J_DICT
                   ? jinja_fail(j, ERR_INVALID, "unhashable type: 'slice'")
                   : jinja_fail(j, ERR_INVALID, "'%s' object is not subscriptable",
                                jv_type_name(&object));
    }
    struct span span;
    int64_t n = 0;
    rc = jv_length(j, object, &n);
    if (rc == 0) {
        rc = slice_span(j, part, n, &span);
    }
    if (rc != 0) {
        return rc;
    }
    if (object.type == J_STRING) {
        return slice_text(j, object, &span, (size_t)n, out);
    }
    if (object.type == J_RANGE) {
        return slice_range(j, object.as.range, &span, out);
    }
    rc = jv_list(j, object.type, span.n, out);
    jinja_charge(j, span.n * sizeof(struct jvalue));
    for (size_t i = 0; rc == 0 && i < span.n; i++) {
        out->as.list->items[i] = object.as.list->items[span.start + (int64_t)i * span.step];
    }
    return rc;
}
