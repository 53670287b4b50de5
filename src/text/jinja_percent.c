/* text % values: Python's printf-style formatting, and the number formatting under it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_unicode.h"
#include "text/template.h"

enum { PRECISION_MAX = 1000 };

struct conversion {
    bool left, plus, space, alternate, zero;
    int64_t width, precision; /* precision -1: not given */
    char kind;
};

struct formatter {
    struct jinja *j;
    struct jvalue format;
    size_t at;
    struct jvalue values; /* tuple, or the one value */
    uint32_t used;
};

void jreal_format(struct buf *out, double value, char kind, int precision, bool alternate)
{
    bool upper = kind == 'E' || kind == 'F' || kind == 'G';
    if (isnan(value) || isinf(value)) {
        buf_puts(out, isnan(value) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf"));
        return;
    }
    value = fabs(value);
    switch (kind) {
    case 'e':
        buf_printf(out, alternate ? "%#.*e" : "%.*e", precision, value);
        break;
    case 'E':
        buf_printf(out, alternate ? "%#.*E" : "%.*E", precision, value);
        break;
    case 'g':
        buf_printf(out, alternate ? "%#.*g" : "%.*g", precision, value);
        break;
    case 'G':
        buf_printf(out, alternate ? "%#.*G" : "%.*G", precision, value);
        break;
    default:
        buf_printf(out, alternate ? "%#.*f" : "%.*f", precision, value);
        break;
    }
}

/* The next value; a single value counts as a tuple of one. */
static int next_value(struct formatter *f, struct jvalue *out)
{
    bool tuple = f->values.type == J_TUPLE;
    uint32_t n = tuple ? f->values.as.list->n : 1;
    if (f->used >= n) {
        return jinja_fail(f->j, ERR_INVALID, "not enough arguments for format string");
    }
    *out = tuple ? f->values.as.list->items[f->used] : f->values;
    f->used++;
    return 0;
}

static char peek(const struct formatter *f)
{
    return f->at < f->format.len ? f->format.as.text[f->at] : '\0';
}

/* A number or '*'; *out stays when there is neither. */
static int read_number(struct formatter *f, int64_t *out)
{
    if (peek(f) == '*') {
        struct jvalue v = jv_missing();
        f->at++;
        int rc = next_value(f, &v);
        return rc != 0 ? rc : jv_as_int(f->j, v, "* in a format", out);
    }
    for (bool first = true; peek(f) >= '0' && peek(f) <= '9'; f->at++, first = false) {
        *out = (first ? 0 : *out * 10) + (peek(f) - '0');
        if (*out > TEMPLATE_OUTPUT_BYTES_MAX) {
            return jinja_fail(f->j, ERR_TOO_LARGE, "width too big");
        }
    }
    return 0;
}

static int read_conversion(struct formatter *f, struct conversion *c)
{
    *c = (struct conversion){.precision = -1};
    for (;; f->at++) {
        char flag = peek(f);
        if (flag == '-') {
            c->left = true;
        } else if (flag == '+') {
            c->plus = true;
        } else if (flag == ' ') {
            c->space = true;
        } else if (flag == '#') {
            c->alternate = true;
        } else if (flag == '0') {
            c->zero = true;
        } else {
            break;
        }
    }
    int rc = read_number(f, &c->width);
    if (rc == 0 && c->width < 0) {
        c->left = true;
        c->width = -c->width;
    }
    if (rc == 0 && peek(f) == '.') {
        f->at++;
        c->precision = 0;
        rc = read_number(f, &c->precision);
        c->precision = c->precision < 0 ? 0 : c->precision;
    }
    while (peek(f) == 'h' || peek(f) == 'l' || peek(f) == 'L') {
        f->at++;
    }
    if (rc == 0 && f->at >= f->format.len) {
        rc = jinja_fail(f->j, ERR_INVALID, "incomplete format");
    }
    c->kind = peek(f);
    f->at++;
    if (rc == 0 && (c->width > TEMPLATE_OUTPUT_BYTES_MAX ||
                    (c->precision > PRECISION_MAX && strchr("sra", c->kind) == NULL))) {
        rc = jinja_fail(f->j, ERR_TOO_LARGE, "width or precision too big");
    }
    return rc;
}

static void pad(struct jinja *j, char c, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        buf_putc(&j->scratch, c);
    }
    jinja_charge(j, n > 0 ? (size_t)n * 16 : 0);
}

/* Puts sign, prefix and body into the width. */
static void put_field(struct jinja *j, const struct conversion *c, const char *prefix,
                      struct jvalue body, bool number)
{
    int64_t length = (int64_t)(strlen(prefix) + ju_points(body.as.text, body.len));
    int64_t room = c->width > length ? c->width - length : 0;
    bool zeros = number && c->zero && !c->left;
    pad(j, ' ', c->left || zeros ? 0 : room);
    buf_puts(&j->scratch, prefix);
    pad(j, '0', zeros ? room : 0);
    buf_append(&j->scratch, body.as.text, body.len);
    pad(j, ' ', c->left ? room : 0);
}

static const char *sign_of(const struct conversion *c, bool negative)
{
    return negative ? "-" : c->plus ? "+" : c->space ? " " : "";
}

static int put_real(struct formatter *f, const struct conversion *c, struct jvalue v)
{
    struct jinja *j = f->j;
    if (!jv_is_number(v)) {
        return jinja_fail(j, ERR_INVALID, "must be real number, not %s", jv_type_name(&v));
    }
    double d = v.type == J_FLOAT ? v.as.real
               : v.type == J_INT ? (double)v.as.integer
                                 : (double)v.as.boolean;
    int precision = c->precision < 0 ? 6 : (int)c->precision;
    struct jvalue body;
    size_t mark = jtext_open(j);
    jreal_format(&j->scratch, d, c->kind, precision, c->alternate);
    int rc = jtext_close(j, mark, &body);
    if (rc == 0) {
        put_field(j, c, sign_of(c, !isnan(d) && signbit(d)), body, true);
    }
    return rc;
}

static int put_int(struct formatter *f, const struct conversion *c, struct jvalue v)
{
    struct jinja *j = f->j;
    bool decimal = c->kind == 'd' || c->kind == 'i' || c->kind == 'u';
    if (v.type == J_FLOAT && decimal) {
        if (!(fabs(v.as.real) < 9223372036854775808.0)) {
            return jinja_fail(j, ERR_INVALID, "cannot convert %g to an integer", v.as.real);
        }
        v = jv_int((int64_t)v.as.real);
    }
    if (v.type != J_INT && v.type != J_BOOL) {
        return jinja_fail(j, ERR_INVALID, "%%%c format: a number is required, not %s", c->kind,
                          jv_type_name(&v));
    }
    int64_t i = v.type == J_INT ? v.as.integer : v.as.boolean;
    unsigned long long size = i < 0 ? 0ULL - (unsigned long long)i : (unsigned long long)i;
    char digits[32];
    char prefix[4] = "";
    (void)snprintf(digits, sizeof digits,
                   decimal          ? "%llu"
                   : c->kind == 'o' ? "%llo"
                   : c->kind == 'x' ? "%llx"
                                    : "%llX",
                   size);
    (void)snprintf(prefix, sizeof prefix, "%s%s", sign_of(c, i < 0),
                   !c->alternate || decimal ? ""
                   : c->kind == 'o'         ? "0o"
                   : c->kind == 'x'         ? "0x"
                                            : "0X");
    struct jvalue body;
    size_t mark = jtext_open(j);
    pad(j, '0', c->precision - (int64_t)strlen(digits));
    buf_puts(&j->scratch, digits);
    int rc = jtext_close(j, mark, &body);
    if (rc == 0) {
        put_field(j, c, prefix, body, true);
    }
    return rc;
}

static int put_text(struct formatter *f, const struct conversion *c, struct jvalue v)
{
    struct jinja *j = f->j;
    struct jvalue body = v;
    int rc = 0;
    if (c->kind == 'r') {
        size_t mark = jtext_open(j);
        rc = jv_put_repr(j, v);
        if (rc == 0) {
            rc = jtext_close(j, mark, &body);
        }
    }
    if (rc == 0) {
        rc = f->format.flag == JF_MARKUP ? jv_escape(j, body, &body) : jv_to_string(j, body, &body);
    }
    if (rc == 0) {
        if (c->precision >= 0) {
            body = jv_string(body.as.text, ju_offset(body.as.text, body.len, (size_t)c->precision));
        }
        put_field(j, c, "", body, false);
    }
    return rc;
}

static int put_char(struct formatter *f, const struct conversion *c, struct jvalue v)
{
    struct jvalue body = v;
    if (v.type == J_INT) {
        if (v.as.integer < 0 || v.as.integer > 0x10FFFF ||
            (v.as.integer >= 0xD800 && v.as.integer < 0xE000)) {
            return jinja_fail(f->j, ERR_INVALID, "%%c arg not in range(0x110000)");
        }
        size_t mark = jtext_open(f->j);
        ju_put(&f->j->scratch, (uint32_t)v.as.integer);
        int rc = jtext_close(f->j, mark, &body);
        if (rc != 0) {
            return rc;
        }
    } else if (v.type != J_STRING || ju_points(v.as.text, v.len) != 1) {
        return jinja_fail(f->j, ERR_INVALID, "%%c requires int or char");
    }
    put_field(f->j, c, "", body, false);
    return 0;
}

/* %(name)…: f->at is behind the parenthesis. */
static int named_value(struct formatter *f, struct jvalue *out)
{
    size_t start = f->at;
    int depth = 1;
    for (; f->at < f->format.len; f->at++) {
        char c = f->format.as.text[f->at];
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
        if (depth == 0) {
            break;
        }
    }
    if (f->at >= f->format.len) {
        return jinja_fail(f->j, ERR_INVALID, "incomplete format key");
    }
    if (f->values.type != J_DICT) {
        return jinja_fail(f->j, ERR_INVALID, "format requires a mapping");
    }
    *out = jdict_find(f->values.as.dict, f->format.as.text + start, f->at - start);
    f->at++;
    f->used = 1;
    return jv_is(*out, J_MISSING) ? jinja_fail(f->j, ERR_INVALID, "KeyError in a format") : 0;
}

/* One conversion; f->at is behind the percent sign. */
static int put_conversion(struct formatter *f)
{
    struct conversion c;
    struct jvalue v = jv_missing();
    int rc = 0;
    if (peek(f) == '(') {
        f->at++;
        rc = named_value(f, &v);
    }
    if (rc == 0) {
        rc = read_conversion(f, &c);
    }
    if (rc != 0 || c.kind == '%') {
        buf_putc(&f->j->scratch, '%');
        return rc;
    }
    if (c.kind == '\0' || strchr("diuoxXeEfFgGcrs", c.kind) == NULL) {
        return jinja_fail(f->j, c.kind == 'a' ? ERR_UNSUPPORTED : ERR_INVALID,
                          "unsupported format character '%c'",
                          c.kind > ' ' && c.kind < 127 ? c.kind : '?');
    }
    if (jv_is(v, J_MISSING)) {
        rc = next_value(f, &v);
    }
    if (rc == 0 && c.kind != 's' && c.kind != 'r') {
        rc = jv_need_defined(f->j, v);
    }
    if (rc != 0) {
        return rc;
    }
    if (c.kind == 's' || c.kind == 'r') {
        rc = put_text(f, &c, v);
    } else if (c.kind == 'c') {
        rc = put_char(f, &c, v);
    } else {
        rc = strchr("eEfFgG", c.kind) != NULL ? put_real(f, &c, v) : put_int(f, &c, v);
    }
    return rc != 0 ? rc : jtext_check(f->j);
}

int jv_percent(struct jinja *j, struct jvalue format, struct jvalue values, struct jvalue *out)
{
    struct formatter f = {.j = j, .format = format, .values = values};
    size_t mark = jtext_open(j);
    int rc = 0;
    jinja_charge(j, format.len);
    while (rc == 0 && f.at < format.len) {
        char c = format.as.text[f.at++];
        if (c == '%') {
            rc = jinja_step(j);
            if (rc == 0) {
                rc = put_conversion(&f);
            }
        } else {
            buf_putc(&j->scratch, c);
        }
    }
    bool mapping = values.type == J_DICT || values.type == J_LIST || values.type == J_RANGE ||
                   values.type == J_UNDEFINED;
    uint32_t given = values.type == J_TUPLE ? values.as.list->n : mapping ? 0 : 1;
    if (rc == 0 && f.used < given) {
        rc = jinja_fail(j, ERR_INVALID, "not all arguments converted during string formatting");
    }
    if (rc == 0) {
        rc = jtext_close(j, mark, out);
        out->flag = format.flag;
    }
    return rc;
}
