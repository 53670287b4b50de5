/* text.format(…): replacement fields {name.attribute[key]!conversion:spec}, and the mini language
 * of format specs for strings, integers and floats. Attributes and items go through the sandbox. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_unicode.h"
#include "text/template.h"

enum { SPEC_PRECISION_MAX = 1000, SPEC_NESTING_MAX = 2 };

struct spec {
    struct jvalue fill;
    char align, sign, grouping, kind; /* '\0' where not given */
    bool alternate;
    int64_t width, precision; /* -1: not given */
};

struct fields {
    struct jinja *j;
    const struct jargs *args;
    bool markup;
    int64_t next; /* of {}; -1 once {0} was used */
    bool counted; /* {} was used */
};

static int put_fields(struct fields *f, const char *s, size_t length, int nesting);

/* --- specs --------------------------------------------------------------------------------- */
static bool is_align(char c)
{
    return c != '\0' && strchr("<>=^", c) != NULL;
}

static size_t read_digits(const char *s, size_t n, size_t at, int64_t *out)
{
    for (int64_t value = 0; at < n && s[at] >= '0' && s[at] <= '9'; at++) {
        value = value > TEMPLATE_OUTPUT_BYTES_MAX ? value : value * 10 + (s[at] - '0');
        *out = value;
    }
    return at;
}

static int parse_spec(struct jinja *j, struct jvalue text, struct spec *out)
{
    const char *s = text.as.text;
    size_t n = text.len;
    size_t at = 0;
    uint32_t point;
    *out = (struct spec){.fill = jv_text(" "), .width = -1, .precision = -1};
    size_t first = n > 0 ? ju_decode(s, n, &point) : 0;
    if (first < n && is_align(s[first])) {
        out->fill = jv_string(s, first);
        out->align = s[first];
        at = first + 1;
    } else if (n > 0 && is_align(s[0])) {
        out->align = s[at++];
    }
    if (at < n && (s[at] == '+' || s[at] == '-' || s[at] == ' ')) {
        out->sign = s[at++];
    }
    if (at < n && s[at] == '#') {
        out->alternate = true;
        at++;
    }
    if (at < n && s[at] == '0') {
        at++;
        if (out->align == '\0' || first == 0 || s[first] != out->align) {
            out->fill = jv_text("0"); /* no fill was given */
        }
        out->align = out->align == '\0' ? '=' : out->align;
    }
    at = read_digits(s, n, at, &out->width);
    if (at < n && (s[at] == ',' || s[at] == '_')) {
        out->grouping = s[at++];
    }
    if (at < n && s[at] == '.') {
        size_t from = at + 1;
        at = read_digits(s, n, from, &out->precision);
        if (at == from) {
            return jinja_fail(j, ERR_INVALID, "Format specifier missing precision");
        }
    }
    out->kind = at < n ? s[at++] : '\0';
    if (at < n) {
        return jinja_fail(j, ERR_INVALID, "Invalid format specifier");
    }
    if (out->width > TEMPLATE_OUTPUT_BYTES_MAX) {
        return jinja_fail(j, ERR_TOO_LARGE, "format width too big");
    }
    return 0;
}

static void put_fill(struct jinja *j, const struct spec *spec, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        buf_append(&j->scratch, spec->fill.as.text, spec->fill.len);
    }
    jinja_charge(j, n > 0 ? (size_t)n * 16 : 0);
}

static void put_padded(struct jinja *j, const struct spec *spec, const char *prefix,
                       struct jvalue body, char align)
{
    int64_t length = (int64_t)(strlen(prefix) + ju_points(body.as.text, body.len));
    int64_t room = spec->width > length ? spec->width - length : 0;
    align = spec->align != '\0' ? spec->align : align;
    int64_t before = align == '>' ? room : align == '^' ? room / 2 : 0;
    put_fill(j, spec, before);
    buf_puts(&j->scratch, prefix);
    put_fill(j, spec, align == '=' ? room : 0);
    buf_append(&j->scratch, body.as.text, body.len);
    put_fill(j, spec, align == '=' ? 0 : room - before);
}

/* Sets a separator between groups of digits before the point. */
static int group_digits(struct jinja *j, const struct spec *spec, int size, struct jvalue *body)
{
    if (spec->grouping == '\0') {
        return 0;
    }
    if (spec->align == '=') {
        return jinja_fail(j, ERR_UNSUPPORTED, "grouping with zero padding is not supported");
    }
    size_t whole = 0;
    while (whole < body->len && strchr(".e", body->as.text[whole]) == NULL) {
        whole++;
    }
    size_t mark = jtext_open(j);
    for (size_t i = 0; i < body->len; i++) {
        if (i > 0 && i < whole && (whole - i) % (size_t)size == 0) {
            buf_putc(&j->scratch, spec->grouping);
        }
        buf_putc(&j->scratch, body->as.text[i]);
    }
    return jtext_close(j, mark, body);
}

static const char *sign_text(const struct spec *spec, bool negative)
{
    return negative ? "-" : spec->sign == '+' ? "+" : spec->sign == ' ' ? " " : "";
}

static int format_real(struct jinja *j, const struct spec *spec, double d)
{
    bool percent = spec->kind == '%';
    char kind = percent ? 'f' : spec->kind == '\0' || spec->kind == 'n' ? 'g' : spec->kind;
    int precision = spec->precision < 0 ? 6 : (int)spec->precision;
    struct jvalue body;
    size_t mark = jtext_open(j);
    if (spec->kind == '\0' && spec->precision < 0) {
        char text[JREAL_TEXT_BYTES];
        jreal_text(isnan(d) ? d : fabs(d), text);
        buf_puts(&j->scratch, text);
    } else {
        jreal_format(&j->scratch, percent ? d * 100 : d, kind, precision, spec->alternate);
        buf_puts(&j->scratch, percent ? "%" : "");
    }
    int rc = jtext_close(j, mark, &body);
    if (rc == 0 && spec->kind == '\0' && spec->precision >= 0 && isfinite(d) &&
        memchr(body.as.text, '.', body.len) == NULL &&
        memchr(body.as.text, 'e', body.len) == NULL) {
        rc = jv_string_concat(j, body, jv_text(".0"), &body);
    }
    if (rc == 0) {
        rc = group_digits(j, spec, 3, &body);
    }
    if (rc == 0) {
        put_padded(j, spec, sign_text(spec, !isnan(d) && signbit(d)), body, '>');
    }
    return rc;
}

static void put_digits(struct buf *out, unsigned long long value, unsigned base, bool upper)
{
    char digits[64];
    size_t n = 0;
    do {
        digits[n++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[value % base];
        value /= base;
    } while (value > 0);
    while (n > 0) {
        buf_putc(out, digits[--n]);
    }
}

static int format_int(struct jinja *j, const struct spec *spec, int64_t i)
{
    unsigned base = spec->kind == 'b'                        ? 2
                    : spec->kind == 'o'                      ? 8
                    : spec->kind == 'x' || spec->kind == 'X' ? 16
                                                             : 10;
    char prefix[4];
    struct jvalue body;
    if (spec->precision >= 0) {
        return jinja_fail(j, ERR_INVALID, "Precision not allowed in integer format specifier");
    }
    size_t mark = jtext_open(j);
    put_digits(&j->scratch, i < 0 ? 0ULL - (unsigned long long)i : (unsigned long long)i, base,
               spec->kind == 'X');
    int rc = jtext_close(j, mark, &body);
    (void)snprintf(prefix, sizeof prefix, "%s%s%.1s", sign_text(spec, i < 0),
                   spec->alternate && base != 10 ? "0" : "",
                   spec->alternate && base != 10 ? &spec->kind : "");
    if (rc == 0) {
        rc = group_digits(j, spec, base == 10 ? 3 : 4, &body);
    }
    if (rc == 0) {
        put_padded(j, spec, prefix, body, '>');
    }
    return rc;
}

static int format_number(struct jinja *j, const struct spec *spec, struct jvalue v)
{
    if (spec->precision > SPEC_PRECISION_MAX) {
        return jinja_fail(j, ERR_TOO_LARGE, "precision too big");
    }
    bool real = spec->kind != '\0' && strchr("eEfFgG%", spec->kind) != NULL;
    if (v.type == J_FLOAT) {
        if (!real && spec->kind != '\0' && spec->kind != 'n') {
            return jinja_fail(j, ERR_INVALID, "Unknown format code '%c' for object of type 'float'",
                              spec->kind);
        }
        return format_real(j, spec, v.as.real);
    }
    int64_t i = v.type == J_INT ? v.as.integer : v.as.boolean;
    if (real) {
        return format_real(j, spec, (double)i);
    }
    if (spec->kind != '\0' && strchr("dboxXn", spec->kind) == NULL) {
        return jinja_fail(j, spec->kind == 'c' ? ERR_UNSUPPORTED : ERR_INVALID,
                          "format code '%c' for an integer", spec->kind);
    }
    return format_int(j, spec, i);
}

/* Python's format(v, spec). */
static int put_formatted(struct jinja *j, struct jvalue v, struct jvalue text)
{
    struct spec spec;
    if (text.len == 0) {
        return jv_put_str(j, v);
    }
    int rc = parse_spec(j, text, &spec);
    if (rc != 0) {
        return rc;
    }
    if (jv_is_number(v)) {
        return format_number(j, &spec, v);
    }
    if (v.type != J_STRING) {
        return jinja_fail(j, ERR_INVALID, "unsupported format string passed to %s.__format__",
                          jv_type_name(&v));
    }
    if ((spec.kind != '\0' && spec.kind != 's') || spec.sign != '\0' || spec.alternate ||
        spec.grouping != '\0' || (spec.align == '=' && !jv_is_text(spec.fill, "0"))) {
        return jinja_fail(j, ERR_INVALID, "format specifier not allowed for a string");
    }
    if (spec.align == '=') {
        spec.align = '<';
    }
    if (spec.precision >= 0) {
        v = jv_string(v.as.text, ju_offset(v.as.text, v.len, (size_t)spec.precision));
    }
    put_padded(j, &spec, "", v, '<');
    return 0;
}

/* --- fields -------------------------------------------------------------------------------- */
static int first_value(struct fields *f, const char *s, size_t n, struct jvalue *out)
{
    struct jinja *j = f->j;
    int64_t index = -1;
    bool digits = n > 0 && read_digits(s, n, 0, &index) == n;
    if (n == 0 || digits) {
        if (n == 0 ? f->next < 0 : f->counted) {
            return jinja_fail(j, ERR_INVALID,
                              "cannot switch between manual and automatic field numbering");
        }
        index = n == 0 ? f->next++ : index;
        f->counted = n == 0 || f->counted;
        f->next = n == 0 ? f->next : -1;
        if (index >= f->args->n) {
            return jinja_fail(j, ERR_INVALID, "Replacement index %lld out of range",
                              (long long)index);
        }
        *out = f->args->at[index];
        return 0;
    }
    for (uint32_t i = 0; i < f->args->n_keywords; i++) {
        const char *name = f->args->keywords[i].name;
        if (strlen(name) == n && memcmp(name, s, n) == 0) {
            *out = f->args->keywords[i].value;
            return 0;
        }
    }
    return jinja_fail(j, ERR_INVALID, "KeyError in a format: '%.*s'", (int)n, s);
}

/* name.attribute[key]… */
static int field_value(struct fields *f, const char *s, size_t n, struct jvalue *out)
{
    size_t at = 0;
    while (at < n && s[at] != '.' && s[at] != '[') {
        at++;
    }
    int rc = first_value(f, s, at, out);
    while (rc == 0 && at < n) {
        bool attribute = s[at] == '.';
        size_t from = ++at;
        while (at < n && (attribute ? s[at] != '.' && s[at] != '[' : s[at] != ']')) {
            at++;
        }
        if (at == from || (!attribute && at == n)) {
            return jinja_fail(f->j, ERR_INVALID, "Empty attribute in format string");
        }
        struct jvalue key;
        rc = jv_copy(f->j, s + from, at - from, &key);
        int64_t index = -1;
        if (rc == 0 && !attribute && read_digits(s + from, at - from, 0, &index) == at - from) {
            key = jv_int(index);
        }
        if (rc == 0) {
            rc = attribute ? jv_attribute(f->j, *out, key.as.text, out)
                           : jv_item(f->j, *out, key, out);
        }
        at += !attribute;
        if (rc == 0 && at < n && s[at] != '.' && s[at] != '[') {
            rc = jinja_fail(f->j, ERR_INVALID,
                            "Only '.' or '[' may follow ']' in format field specifier");
        }
    }
    return rc;
}

static int convert(struct jinja *j, char how, struct jvalue *v)
{
    if (how == 's') {
        return jv_to_string(j, *v, v);
    }
    if (how != 'r') {
        return jinja_fail(j, how == 'a' ? ERR_UNSUPPORTED : ERR_INVALID,
                          "Unknown conversion specifier in a format");
    }
    size_t mark = jtext_open(j);
    int rc = jv_put_repr(j, *v);
    return rc != 0 ? rc : jtext_close(j, mark, v);
}

/* What stands between the braces. */
static int put_field(struct fields *f, const char *s, size_t n, int nesting)
{
    struct jinja *j = f->j;
    struct jvalue value = jv_missing();
    struct jvalue spec;
    size_t at = 0;
    int brackets = 0;
    while (at < n && (brackets > 0 || (s[at] != '!' && s[at] != ':'))) {
        brackets += s[at] == '[' ? 1 : s[at] == ']' && brackets > 0 ? -1 : 0;
        at++;
    }
    int rc = field_value(f, s, at, &value);
    if (rc == 0 && at < n && s[at] == '!') {
        if (at + 1 >= n || (at + 2 < n && s[at + 2] != ':')) {
            return jinja_fail(j, ERR_INVALID, "expected ':' after conversion specifier");
        }
        rc = convert(j, s[at + 1], &value);
        at += 2;
    }
    size_t mark = jtext_open(j);
    if (rc == 0 && at < n) {
        rc = put_fields(f, s + at + 1, n - at - 1, nesting + 1);
    }
    if (rc == 0) {
        rc = jtext_close(j, mark, &spec);
    }
    if (rc == 0 && f->markup) {
        size_t inner = jtext_open(j);
        bool safe = value.type == J_STRING && value.flag == JF_MARKUP;
        rc = put_formatted(j, value, spec);
        if (rc == 0) {
            rc = jtext_close(j, inner, &value);
        }
        value.flag = safe ? JF_MARKUP : JF_NONE;
        if (rc == 0) {
            rc = jv_escape(j, value, &value);
        }
        return rc == 0 ? jv_put_str(j, value) : rc;
    }
    return rc == 0 ? put_formatted(j, value, spec) : rc;
}

static int put_fields(struct fields *f, const char *s, size_t length, int nesting)
{
    struct jinja *j = f->j;
    int rc = jinja_step(j);
    if (rc == 0 && nesting > SPEC_NESTING_MAX) {
        return jinja_fail(j, ERR_INVALID, "Max string recursion exceeded");
    }
    for (size_t at = 0; at < length && rc == 0; at++) {
        char c = s[at];
        if (c != '{' && c != '}') {
            buf_putc(&j->scratch, c);
            continue;
        }
        if (at + 1 < length && s[at + 1] == c) {
            buf_putc(&j->scratch, c);
            at++;
            continue;
        }
        size_t end = at + 1;
        for (int depth = 1; c == '{' && end < length; end++) {
            depth += s[end] == '{' ? 1 : s[end] == '}' ? -1 : 0;
            if (depth == 0) {
                break;
            }
        }
        if (c == '}' || end >= length) {
            return jinja_fail(j, ERR_INVALID, "Single '%c' encountered in format string", c);
        }
        rc = put_field(f, s + at + 1, end - at - 1, nesting);
        at = end;
        if (rc == 0) {
            rc = jtext_check(j);
        }
    }
    return rc;
}

int jv_format(struct jinja *j, struct jvalue format, const struct jargs *args, struct jvalue *out)
{
    struct fields f = {.j = j, .args = args, .markup = format.flag == JF_MARKUP};
    size_t mark = jtext_open(j);
    jinja_charge(j, format.len);
    int rc = put_fields(&f, format.as.text, format.len, 0);
    if (rc == 0) {
        rc = jtext_close(j, mark, out);
        out->flag = format.flag;
    }
    return rc;
}
