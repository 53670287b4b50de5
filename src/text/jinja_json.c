/* json.dumps as transformers' tojson filter calls it. */
#include <math.h>
#include <string.h>

#include "text/jinja_unicode.h"
#include "text/jinja_value.h"

struct writer {
    struct jinja *j;
    const struct jjson *how;
    size_t depth;
};

static int put_value(struct writer *w, struct jvalue v);

static void put_line(struct writer *w)
{
    buf_putc(&w->j->scratch, '\n');
    for (size_t i = 0; i < w->depth; i++) {
        buf_append(&w->j->scratch, w->how->indent.as.text, w->how->indent.len);
    }
}

static void put_escaped(struct writer *w, uint32_t point)
{
    struct buf *b = &w->j->scratch;
    if (point >= 0x10000) {
        point -= 0x10000;
        buf_printf(b, "\\u%04x\\u%04x", 0xD800 + (unsigned)(point >> 10),
                   0xDC00 + (unsigned)(point & 0x3FF));
    } else {
        buf_printf(b, "\\u%04x", (unsigned)point);
    }
}

static void put_text(struct writer *w, struct jvalue v)
{
    static const char shorts[32] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    struct buf *b = &w->j->scratch;
    uint32_t point;
    jinja_charge(w->j, v.len);
    buf_putc(b, '"');
    for (size_t at = 0, n; at < v.len; at += n) {
        n = ju_decode(v.as.text + at, v.len - at, &point);
        if (point == '"' || point == '\\') {
            buf_printf(b, "\\%c", (int)point);
        } else if (point < 32 && shorts[point] != 0) {
            buf_printf(b, "\\%c", shorts[point]);
        } else if (point < 32 || (w->how->ascii && point >= 127)) {
            put_escaped(w, point);
        } else {
            buf_append(b, v.as.text + at, n);
        }
    }
    buf_putc(b, '"');
}

static void put_real(struct writer *w, double value)
{
    char text[JREAL_TEXT_BYTES];
    jreal_text(value, text);
    if (isnan(value)) {
        buf_puts(&w->j->scratch, "NaN");
    } else if (isinf(value)) {
        buf_puts(&w->j->scratch, value < 0 ? "-Infinity" : "Infinity");
    } else {
        buf_puts(&w->j->scratch, text);
    }
}

static bool put_scalar(struct writer *w, struct jvalue v)
{
    switch ((enum jtype)v.type) {
    case J_NONE:
        buf_puts(&w->j->scratch, "null");
        return true;
    case J_BOOL:
        buf_puts(&w->j->scratch, v.as.boolean ? "true" : "false");
        return true;
    case J_INT:
        buf_printf(&w->j->scratch, "%lld", (long long)v.as.integer);
        return true;
    case J_FLOAT:
        put_real(w, v.as.real);
        return true;
    case J_STRING:
        put_text(w, v);
        return true;
    default:
        return false;
    }
}

static void put_separator(struct writer *w, bool first)
{
    if (!first) {
        buf_append(&w->j->scratch, w->how->item_separator.as.text, w->how->item_separator.len);
    }
    if (w->how->indented) {
        put_line(w);
    }
}

static int put_list(struct writer *w, const struct jlist *list)
{
    buf_putc(&w->j->scratch, '[');
    w->depth++;
    int rc = 0;
    for (uint32_t i = 0; i < list->n && rc == 0; i++) {
        put_separator(w, i == 0);
        rc = put_value(w, list->items[i]);
    }
    w->depth--;
    if (w->how->indented && list->n > 0) {
        put_line(w);
    }
    buf_putc(&w->j->scratch, ']');
    return rc;
}

static int put_pair(struct writer *w, const struct jpair *pair)
{
    if (pair->key.type == J_STRING) {
        put_text(w, pair->key);
    } else {
        buf_putc(&w->j->scratch, '"');
        if (!put_scalar(w, pair->key)) {
            return jinja_fail(w->j, ERR_INVALID,
                              "keys must be str, int, float, bool or None, not %s",
                              jv_type_name(&pair->key));
        }
        buf_putc(&w->j->scratch, '"');
    }
    buf_append(&w->j->scratch, w->how->key_separator.as.text, w->how->key_separator.len);
    return put_value(w, pair->value);
}

static int put_dict(struct writer *w, const struct jdict *d)
{
    uint32_t *order = NULL;
    if (w->how->sort_keys && d->n > 1) {
        struct jvalue *keys = jinja_alloc(w->j, d->n, sizeof *keys);
        order = keys == NULL ? NULL : jinja_alloc(w->j, d->n, sizeof *order);
        if (order == NULL) {
            return w->j->failed;
        }
        for (uint32_t i = 0; i < d->n; i++) {
            keys[i] = d->pairs[i].key;
        }
        int rc = jv_sort(w->j, keys, order, d->n, false);
        if (rc != 0) {
            return rc;
        }
    }
    buf_putc(&w->j->scratch, '{');
    w->depth++;
    int rc = 0;
    for (uint32_t i = 0; i < d->n && rc == 0; i++) {
        put_separator(w, i == 0);
        rc = put_pair(w, &d->pairs[order == NULL ? i : order[i]]);
    }
    w->depth--;
    if (w->how->indented && d->n > 0) {
        put_line(w);
    }
    buf_putc(&w->j->scratch, '}');
    return rc;
}

static int put_value(struct writer *w, struct jvalue v)
{
    if (put_scalar(w, v)) {
        return jtext_check(w->j);
    }
    if (v.type != J_LIST && v.type != J_TUPLE && v.type != J_DICT) {
        return jinja_fail(w->j, ERR_INVALID, "Object of type %s is not JSON serializable",
                          jv_type_name(&v));
    }
    int rc = jinja_enter(w->j);
    if (rc != 0) {
        return rc;
    }
    rc = v.type == J_DICT ? put_dict(w, v.as.dict) : put_list(w, v.as.list);
    jinja_leave(w->j);
    return rc != 0 ? rc : jtext_check(w->j);
}

int jv_to_json(struct jinja *j, struct jvalue v, const struct jjson *how, struct jvalue *out)
{
    struct writer w = {.j = j, .how = how};
    size_t mark = jtext_open(j);
    int rc = put_value(&w, v);
    return rc != 0 ? rc : jtext_close(j, mark, out);
}
