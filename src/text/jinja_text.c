/* Pieces of Python's str that methods and filters share: case, stripping, replacing, splitting into
 * lines, joining, padding. Results of markup are markup. */
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_unicode.h"
#include "text/template.h"

static int close_like(struct jinja *j, size_t mark, struct jvalue text, struct jvalue *out)
{
    int rc = jtext_close(j, mark, out);
    if (rc == 0) {
        out->flag = text.flag;
    }
    return rc;
}

int text_case(struct jinja *j, struct jvalue text, int how, struct jvalue *out)
{
    size_t mark = jtext_open(j);
    jinja_charge(j, text.len);
    ju_put_case(&j->scratch, (enum ju_case)how, text.as.text, text.len);
    return close_like(j, mark, text, out);
}

static bool has_point(struct jvalue set, uint32_t point)
{
    uint32_t other;
    for (size_t at = 0; at < set.len;) {
        at += ju_decode(set.as.text + at, set.len - at, &other);
        if (other == point) {
            return true;
        }
    }
    return false;
}

int text_strip(struct jinja *j, struct jvalue text, struct jvalue chars, bool left, bool right,
               struct jvalue *out)
{
    const char *s = text.as.text;
    size_t begin = 0;
    size_t end = text.len;
    uint32_t point;
    if (jv_is(chars, J_MISSING) || jv_is(chars, J_NONE)) {
        ju_strip(s, text.len, left, right, &begin, &end);
        jinja_charge(j, text.len - (end - begin));
    } else if (!jv_is(chars, J_STRING)) {
        return jinja_fail(j, ERR_INVALID, "strip arg must be None or str");
    } else {
        while (left && begin < end) {
            size_t n = ju_decode(s + begin, end - begin, &point);
            if (!has_point(chars, point)) {
                break;
            }
            begin += n;
            jinja_charge(j, chars.len + n);
        }
        while (right && end > begin) {
            size_t n = ju_last(s + begin, end - begin, &point);
            if (!has_point(chars, point)) {
                break;
            }
            end -= n;
            jinja_charge(j, chars.len + n);
        }
    }
    *out = jv_string(s + begin, end - begin);
    out->flag = text.flag;
    return 0;
}

/* Replacing the empty string puts `new` before every character and at the end. */
static void replace_empty(struct jinja *j, struct jvalue text, struct jvalue new, int64_t count)
{
    uint32_t point;
    size_t at = 0;
    for (; count != 0; count--) {
        buf_append(&j->scratch, new.as.text, new.len);
        if (at >= text.len) {
            break;
        }
        size_t n = ju_decode(text.as.text + at, text.len - at, &point);
        buf_append(&j->scratch, text.as.text + at, n);
        at += n;
    }
    buf_append(&j->scratch, text.as.text + at, text.len - at);
}

int text_replace(struct jinja *j, struct jvalue text, struct jvalue old, struct jvalue new,
                 int64_t count, struct jvalue *out)
{
    size_t mark = jtext_open(j);
    size_t at = 0;
    jinja_charge(j, text.len);
    if (old.len == 0) {
        replace_empty(j, text, new, count);
        return close_like(j, mark, text, out);
    }
    for (; count != 0 && at < text.len; count--) {
        const char *found = ju_find(text.as.text + at, text.len - at, old.as.text, old.len);
        if (found == NULL) {
            break;
        }
        size_t to = (size_t)(found - text.as.text);
        buf_append(&j->scratch, text.as.text + at, to - at);
        buf_append(&j->scratch, new.as.text, new.len);
        at = to + old.len;
    }
    buf_append(&j->scratch, text.as.text + at, text.len - at);
    return close_like(j, mark, text, out);
}

/* Appends to a list that is still being made. */
static int push(struct jinja *j, struct jvalue *list, struct jvalue item)
{
    struct jvalue one;
    int rc = jinja_step(j);
    if (rc == 0) {
        rc = jv_list(j, J_LIST, 1, &one);
    }
    if (rc != 0) {
        return rc;
    }
    one.as.list->items[0] = item;
    return jv_list_concat(j, *list, one, list);
}

int text_lines(struct jinja *j, struct jvalue text, bool keep_ends, struct jvalue *out)
{
    int rc = jv_list(j, J_LIST, 0, out);
    size_t start = 0;
    uint32_t point;
    jinja_charge(j, text.len);
    for (size_t at = 0; at < text.len && rc == 0;) {
        size_t line_end = at;
        at += ju_decode(text.as.text + at, text.len - at, &point);
        bool is_break = ju_is_line_break(point);
        if (point == '\r' && at < text.len && text.as.text[at] == '\n') {
            at++;
        }
        if (is_break || at >= text.len) {
            size_t end = keep_ends || !is_break ? at : line_end;
            struct jvalue line = jv_string(text.as.text + start, end - start);
            line.flag = text.flag;
            rc = push(j, out, line);
            start = at;
        }
    }
    return rc;
}

int text_join(struct jinja *j, struct jvalue glue, struct jvalue items, bool convert,
              struct jvalue *out)
{
    struct jiter it;
    bool done = false;
    bool first = true;
    size_t mark = jtext_open(j);
    int rc = jiter_open(j, items, &it);
    while (rc == 0) {
        struct jvalue item;
        struct jvalue text;
        rc = jiter_next(j, &it, &item, &done);
        if (rc != 0 || done) {
            break;
        }
        if (!convert && item.type != J_STRING) {
            return jinja_fail(j, ERR_INVALID, "sequence item: expected str instance, %s found",
                              jv_type_name(&item));
        }
        rc = glue.flag == JF_MARKUP ? jv_escape(j, item, &text) : jv_to_string(j, item, &text);
        if (rc == 0) {
            buf_append(&j->scratch, glue.as.text, first ? 0 : glue.len);
            buf_append(&j->scratch, text.as.text, text.len);
            first = false;
            rc = jtext_check(j);
        }
    }
    return rc != 0 ? rc : close_like(j, mark, glue, out);
}

/* where: -1 pads on the right (ljust), 1 on the left (rjust), 0 on both sides. */
int text_center(struct jinja *j, struct jvalue text, int64_t width, struct jvalue fill, int where,
                struct jvalue *out)
{
    int64_t points = (int64_t)ju_points(text.as.text, text.len);
    if (ju_points(fill.as.text, fill.len) != 1) {
        return jinja_fail(j, ERR_INVALID, "The fill character must be exactly one character long");
    }
    if (width <= points) {
        *out = text;
        return 0;
    }
    if (width > TEMPLATE_OUTPUT_BYTES_MAX) {
        return jinja_fail(j, ERR_TOO_LARGE, "text of more than %d bytes",
                          TEMPLATE_OUTPUT_BYTES_MAX);
    }
    int64_t pad = width - points;
    int64_t left = where < 0 ? 0 : where > 0 ? pad : pad / 2 + (pad & width & 1);
    size_t mark = jtext_open(j);
    jinja_charge(j, (size_t)width * 16);
    for (int64_t i = 0; i < left; i++) {
        buf_append(&j->scratch, fill.as.text, fill.len);
    }
    buf_append(&j->scratch, text.as.text, text.len);
    for (int64_t i = left; i < pad; i++) {
        buf_append(&j->scratch, fill.as.text, fill.len);
    }
    return close_like(j, mark, text, out);
}
