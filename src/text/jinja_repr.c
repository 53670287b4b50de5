/* Python's str() and repr() of values, and HTML escaping.
 *
 * A double prints as the shortest decimal that reads back to it, in Python's shape: at least one
 * digit after the point, an exponent below 1e-4 and from 1e16 on. Values whose text holds a memory
 * address in Python (generators, functions, methods) can't be printed: there is no right answer.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_unicode.h"

enum { REAL_DIGITS_MAX = 17, REAL_EXPONENT_LOW = -4, REAL_EXPONENT_HIGH = 16 };

/* The fewest significant digits that read back, as digits without point; returns the exponent of
 * the first. */
static int shortest(double value, char digits[REAL_DIGITS_MAX + 1])
{
    char text[40];
    for (int precision = 0; precision < REAL_DIGITS_MAX; precision++) {
        (void)snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    size_t n = 0;
    const char *p = text;
    for (; *p != 'e'; p++) {
        if (*p != '.' && *p != '-') {
            digits[n++] = *p;
        }
    }
    while (n > 1 && digits[n - 1] == '0') {
        n--;
    }
    digits[n] = '\0';
    return (int)strtol(p + 1, NULL, 10);
}

void jreal_text(double value, char out[JREAL_TEXT_BYTES])
{
    if (isnan(value) || isinf(value)) {
        (void)snprintf(out, JREAL_TEXT_BYTES, "%s",
                       isnan(value) ? "nan"
                       : value < 0  ? "-inf"
                                    : "inf");
        return;
    }
    char digits[REAL_DIGITS_MAX + 1];
    const char *sign = signbit(value) ? "-" : "";
    int exponent = shortest(fabs(value), digits);
    int n = (int)strlen(digits);
    if (exponent < REAL_EXPONENT_LOW || exponent >= REAL_EXPONENT_HIGH) {
        (void)snprintf(out, JREAL_TEXT_BYTES, "%s%.1s%s%se%c%02d", sign, digits, n > 1 ? "." : "",
                       digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        (void)snprintf(out, JREAL_TEXT_BYTES, "%s0.%.*s%s", sign, -exponent - 1, "0000", digits);
    } else if (n <= exponent + 1) {
        (void)snprintf(out, JREAL_TEXT_BYTES, "%s%s%.*s.0", sign, digits, exponent + 1 - n,
                       "0000000000000000");
    } else {
        (void)snprintf(out, JREAL_TEXT_BYTES, "%s%.*s.%s", sign, exponent + 1, digits,
                       digits + exponent + 1);
    }
}

static void put_text_repr(struct jinja *j, struct jvalue v)
{
    struct buf *b = &j->scratch;
    bool single = v.len > 0 && memchr(v.as.text, '\'', v.len) != NULL;
    bool twofold = v.len > 0 && memchr(v.as.text, '"', v.len) != NULL;
    char quote = single && !twofold ? '"' : '\'';
    uint32_t point;
    buf_putc(b, quote);
    for (size_t at = 0, n; at < v.len; at += n) {
        n = ju_decode(v.as.text + at, v.len - at, &point);
        if (point == (uint32_t)quote || point == '\\') {
            buf_printf(b, "\\%c", (int)point);
        } else if (point == '\n' || point == '\r' || point == '\t') {
            buf_puts(b, point == '\n' ? "\\n" : point == '\r' ? "\\r" : "\\t");
        } else if (ju_is_printable(point)) {
            buf_append(b, v.as.text + at, n);
        } else if (point < 0x100) {
            buf_printf(b, "\\x%02x", (unsigned)point);
        } else if (point < 0x10000) {
            buf_printf(b, "\\u%04x", (unsigned)point);
        } else {
            buf_printf(b, "\\U%08x", (unsigned)point);
        }
    }
    buf_putc(b, quote);
}

static int put_items_repr(struct jinja *j, struct jvalue v)
{
    const struct jlist *list = v.as.list;
    bool tuple = v.type == J_TUPLE;
    buf_putc(&j->scratch, tuple ? '(' : '[');
    for (uint32_t i = 0; i < list->n; i++) {
        buf_puts(&j->scratch, i > 0 ? ", " : "");
        int rc = jv_put_repr(j, list->items[i]);
        if (rc != 0) {
            return rc;
        }
    }
    buf_puts(&j->scratch, !tuple ? "]" : list->n == 1 ? ",)" : ")");
    return 0;
}

static int put_dict_repr(struct jinja *j, const struct jdict *d)
{
    buf_putc(&j->scratch, '{');
    for (uint32_t i = 0; i < d->n; i++) {
        buf_puts(&j->scratch, i > 0 ? ", " : "");
        int rc = jv_put_repr(j, d->pairs[i].key);
        buf_puts(&j->scratch, ": ");
        if (rc == 0) {
            rc = jv_put_repr(j, d->pairs[i].value);
        }
        if (rc != 0) {
            return rc;
        }
    }
    buf_putc(&j->scratch, '}');
    return 0;
}

static int put_view_repr(struct jinja *j, struct jvalue v)
{
    static const char *const names[] = {"dict_keys(", "dict_values(", "dict_items("};
    buf_puts(&j->scratch, names[v.as.view->kind]);
    struct jvalue items;
    int rc = jv_collect(j, v, J_LIST, &items);
    if (rc == 0) {
        rc = jv_put_repr(j, items);
    }
    buf_putc(&j->scratch, ')');
    return rc;
}

static void put_range_repr(struct jinja *j, const struct jrange *r)
{
    buf_printf(&j->scratch, "range(%lld, %lld", (long long)r->start, (long long)r->stop);
    if (r->step != 1) {
        buf_printf(&j->scratch, ", %lld", (long long)r->step);
    }
    buf_putc(&j->scratch, ')');
}

static int put_nested_repr(struct jinja *j, struct jvalue v)
{
    int rc = jinja_enter(j);
    if (rc != 0) {
        return rc;
    }
    if (v.type == J_DICT) {
        rc = put_dict_repr(j, v.as.dict);
    } else if (v.type == J_NAMESPACE) {
        buf_puts(&j->scratch, "<Namespace ");
        rc = put_dict_repr(j, v.as.dict);
        buf_putc(&j->scratch, '>');
    } else if (v.type == J_VIEW) {
        rc = put_view_repr(j, v);
    } else {
        rc = put_items_repr(j, v);
    }
    jinja_leave(j);
    return rc != 0 ? rc : jtext_check(j);
}

static int put_loop_repr(struct jinja *j, struct jloop *loop)
{
    int64_t length;
    int rc = loop_length(j, loop, &length);
    if (rc == 0) {
        buf_printf(&j->scratch, "<LoopContext %lld/%lld>", (long long)loop->index0 + 1,
                   (long long)length);
    }
    return rc;
}

int jv_put_repr(struct jinja *j, struct jvalue v)
{
    char text[JREAL_TEXT_BYTES];
    switch ((enum jtype)v.type) {
    case J_MISSING:
    case J_UNDEFINED:
        buf_puts(&j->scratch, "Undefined");
        return 0;
    case J_NONE:
        buf_puts(&j->scratch, "None");
        return 0;
    case J_BOOL:
        buf_puts(&j->scratch, v.as.boolean ? "True" : "False");
        return 0;
    case J_INT:
        buf_printf(&j->scratch, "%lld", (long long)v.as.integer);
        return 0;
    case J_FLOAT:
        jreal_text(v.as.real, text);
        buf_puts(&j->scratch, text);
        return 0;
    case J_STRING:
        jinja_charge(j, v.len);
        buf_puts(&j->scratch, v.flag == JF_MARKUP ? "Markup(" : "");
        put_text_repr(j, v);
        buf_puts(&j->scratch, v.flag == JF_MARKUP ? ")" : "");
        return jtext_check(j);
    case J_LIST:
    case J_TUPLE:
    case J_DICT:
    case J_NAMESPACE:
    case J_VIEW:
        return put_nested_repr(j, v);
    case J_RANGE:
        put_range_repr(j, v.as.range);
        return 0;
    case J_LOOP:
        return put_loop_repr(j, v.as.loop);
    case J_ITERATOR:
    case J_MACRO:
    case J_FUNCTION:
    case J_METHOD:
        break;
    }
    return jinja_fail(j, ERR_INVALID, "a %s can't be printed", jv_type_name(&v));
}

int jv_put_str(struct jinja *j, struct jvalue v)
{
    if (v.type == J_STRING) {
        jinja_charge(j, v.len);
        buf_append(&j->scratch, v.as.text, v.len);
        return jtext_check(j);
    }
    return v.type == J_UNDEFINED ? 0 : jv_put_repr(j, v);
}

int jv_to_string(struct jinja *j, struct jvalue v, struct jvalue *out)
{
    if (v.type == J_STRING) {
        *out = jv_string(v.as.text, v.len);
        return 0;
    }
    size_t mark = jtext_open(j);
    int rc = jv_put_str(j, v);
    return rc != 0 ? rc : jtext_close(j, mark, out);
}

int jv_soft_string(struct jinja *j, struct jvalue v, struct jvalue *out)
{
    if (v.type == J_STRING) {
        *out = v;
        return 0;
    }
    return jv_to_string(j, v, out);
}

int jv_escape(struct jinja *j, struct jvalue v, struct jvalue *out)
{
    if (v.type == J_STRING && v.flag == JF_MARKUP) {
        *out = v;
        return 0;
    }
    struct jvalue text;
    int rc = jv_to_string(j, v, &text);
    if (rc != 0) {
        return rc;
    }
    size_t mark = jtext_open(j);
    for (uint32_t i = 0; i < text.len; i++) {
        char c = text.as.text[i];
        switch (c) {
        case '&':
            buf_puts(&j->scratch, "&amp;");
            break;
        case '<':
            buf_puts(&j->scratch, "&lt;");
            break;
        case '>':
            buf_puts(&j->scratch, "&gt;");
            break;
        case '\'':
            buf_puts(&j->scratch, "&#39;");
            break;
        case '"':
            buf_puts(&j->scratch, "&#34;");
            break;
        default:
            buf_putc(&j->scratch, c);
        }
    }
    rc = jtext_close(j, mark, out);
    if (rc == 0) {
        out->flag = JF_MARKUP;
    }
    return rc;
}
