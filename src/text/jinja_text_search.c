/* Splitting and searching strings. Positions count code points. */
#include "text/jinja_text.h"

#include <string.h>

#include "text/jinja_unicode.h"

int text_need(struct jinja *j, struct jvalue v)
{
    int rc = jv_need_defined(j, v);
    if (rc == 0 && v.type != J_STRING) {
        rc = jinja_fail(j, ERR_INVALID, "must be str, not %s", jv_type_name(&v));
    }
    return rc;
}

int text_optional_int(struct jinja *j, struct jvalue v, int64_t fallback, int64_t *out)
{
    *out = fallback;
    return jv_is(v, J_MISSING) || jv_is(v, J_NONE) ? 0 : jv_as_int(j, v, "an index", out);
}

struct jvalue text_part(struct jvalue text, size_t from, size_t to)
{
    struct jvalue v = jv_string(text.as.text + from, to - from);
    v.flag = text.flag;
    return v;
}

/* --- splitting ----------------------------------------------------------------------------- */
struct pieces {
    struct jvalue *at;
    size_t n, cap;
};

static int add_piece(struct jinja *j, struct pieces *pieces, struct jvalue v)
{
    int rc = jinja_step(j);
    if (rc != 0) {
        return rc;
    }
    if (pieces->n == pieces->cap) {
        size_t cap = pieces->cap == 0 ? 4 : 2 * pieces->cap;
        struct jvalue *at = jinja_alloc(j, cap, sizeof *at);
        if (at == NULL) {
            return j->failed;
        }
        if (pieces->n > 0) {
            memcpy(at, pieces->at, pieces->n * sizeof *at);
        }
        pieces->at = at;
        pieces->cap = cap;
    }
    pieces->at[pieces->n++] = v;
    return 0;
}

static int close_pieces(struct jinja *j, struct pieces *pieces, bool backwards, struct jvalue *out)
{
    for (size_t i = 0; backwards && i < pieces->n / 2; i++) {
        struct jvalue swap = pieces->at[i];
        pieces->at[i] = pieces->at[pieces->n - 1 - i];
        pieces->at[pieces->n - 1 - i] = swap;
    }
    int rc = jv_list(j, J_LIST, 0, out);
    if (rc == 0) {
        out->as.list->items = pieces->at;
        out->as.list->n = (uint32_t)pieces->n;
    }
    return rc;
}

/* Where `what` (not empty) last occurs in text[0..end), or NULL. Gives up once the steps are spent,
 * which the next step reports. */
static const char *find_last(struct jinja *j, const char *text, size_t end, struct jvalue what)
{
    const char *tail = what.as.text + what.len - 1;
    for (size_t at = end; at >= what.len && j->steps <= j->steps_max; at--) {
        if (text[at - 1] != *tail) {
            continue;
        }
        jinja_charge(j, what.len);
        if (memcmp(text + at - what.len, what.as.text, what.len) == 0) {
            return text + at - what.len;
        }
    }
    return NULL;
}

static int split_at(struct jinja *j, struct jvalue in, struct jvalue by, int64_t most, bool right,
                    struct jvalue *out)
{
    struct pieces pieces = {0};
    size_t from = 0;
    size_t to = in.len;
    int rc = text_need(j, by);
    if (rc == 0 && by.len == 0) {
        rc = jinja_fail(j, ERR_INVALID, "empty separator");
    }
    jinja_charge(j, in.len);
    for (; rc == 0 && most != 0; most--) {
        const char *found = right ? find_last(j, in.as.text, to, by)
                            : from >= in.len
                                ? NULL
                                : ju_find(in.as.text + from, in.len - from, by.as.text, by.len);
        if (found == NULL) {
            break;
        }
        size_t at = (size_t)(found - in.as.text);
        rc =
            add_piece(j, &pieces, right ? text_part(in, at + by.len, to) : text_part(in, from, at));
        from = right ? 0 : at + by.len;
        to = right ? at : in.len;
    }
    if (rc == 0) {
        rc = add_piece(j, &pieces, text_part(in, from, to));
    }
    return rc == 0 ? close_pieces(j, &pieces, right, out) : rc;
}

/* At runs of white space, which is dropped at both ends too. */
static int split_words(struct jinja *j, struct jvalue in, int64_t most, bool right,
                       struct jvalue *out)
{
    struct pieces pieces = {0};
    size_t from = 0;
    size_t to = in.len;
    int rc = 0;
    jinja_charge(j, in.len);
    while (rc == 0) {
        size_t a;
        size_t b;
        uint32_t point;
        ju_strip(in.as.text + from, to - from, !right, right, &a, &b);
        to = from + b;
        from += a;
        if (from >= to) {
            break;
        }
        if (most-- == 0) {
            rc = add_piece(j, &pieces, text_part(in, from, to));
            break;
        }
        size_t edge = right ? to : from;
        while (right ? edge > from : edge < to) {
            size_t n = right ? ju_last(in.as.text + from, edge - from, &point)
                             : ju_decode(in.as.text + edge, to - edge, &point);
            if (ju_is_space(point)) {
                break;
            }
            edge = right ? edge - n : edge + n;
        }
        rc = add_piece(j, &pieces, right ? text_part(in, edge, to) : text_part(in, from, edge));
        from = right ? from : edge;
        to = right ? edge : to;
    }
    return rc == 0 ? close_pieces(j, &pieces, right, out) : rc;
}

static int split(struct jinja *j, struct jvalue in, const struct jvalue *p, bool right,
                 struct jvalue *out)
{
    int64_t most;
    int rc = text_optional_int(j, p[1], -1, &most);
    if (rc != 0) {
        return rc;
    }
    most = most < 0 ? -1 : most;
    return jv_is(p[0], J_MISSING) || jv_is(p[0], J_NONE) ? split_words(j, in, most, right, out)
                                                         : split_at(j, in, p[0], most, right, out);
}

METHOD(m_split)
{
    (void)args;
    return split(j, in, p, false, out);
}

METHOD(m_rsplit)
{
    (void)args;
    return split(j, in, p, true, out);
}

METHOD(m_splitlines)
{
    (void)args;
    return text_lines(j, in, !jv_is(p[0], J_MISSING) && jv_truth(p[0]), out);
}

static int partition(struct jinja *j, struct jvalue in, struct jvalue by, bool right,
                     struct jvalue *out)
{
    int rc = text_need(j, by);
    if (rc == 0 && by.len == 0) {
        rc = jinja_fail(j, ERR_INVALID, "empty separator");
    }
    if (rc == 0) {
        rc = jv_list(j, J_TUPLE, 3, out);
    }
    if (rc != 0) {
        return rc;
    }
    jinja_charge(j, in.len);
    const char *found = in.len < by.len ? NULL
                        : right         ? find_last(j, in.as.text, in.len, by)
                                        : ju_find(in.as.text, in.len, by.as.text, by.len);
    size_t at = found != NULL ? (size_t)(found - in.as.text) : right ? 0 : in.len;
    size_t end = found != NULL ? at + by.len : at;
    out->as.list->items[0] = text_part(in, 0, at);
    out->as.list->items[1] = text_part(in, at, end);
    out->as.list->items[2] = text_part(in, end, in.len);
    return 0;
}

METHOD(m_partition)
{
    (void)args;
    return partition(j, in, p[0], false, out);
}

METHOD(m_rpartition)
{
    (void)args;
    return partition(j, in, p[0], true, out);
}

/* --- searching ----------------------------------------------------------------------------- */
/* The piece between optional start and end; *valid is false when start is behind the text. */
static int window(struct jinja *j, struct jvalue in, const struct jvalue bounds[2],
                  struct jvalue *out, int64_t *start, bool *valid)
{
    *start = 0;
    *valid = true;
    *out = in;
    if (jv_is(bounds[0], J_MISSING)) {
        return 0;
    }
    int64_t n = (int64_t)ju_points(in.as.text, in.len);
    int64_t end;
    jinja_charge(j, in.len);
    int rc = text_optional_int(j, bounds[0], 0, start);
    if (rc == 0) {
        rc = text_optional_int(j, bounds[1], n, &end);
    }
    if (rc != 0) {
        return rc;
    }
    *start = *start < -n ? 0 : *start < 0 ? *start + n : *start;
    end = end < -n ? 0 : end < 0 ? end + n : end > n ? n : end;
    *valid = *start <= n && *start <= end;
    if (*valid) {
        size_t from = ju_offset(in.as.text, in.len, (size_t)*start);
        size_t to = ju_offset(in.as.text, in.len, (size_t)end);
        *out = text_part(in, from, to);
    }
    return 0;
}

static int search(struct jinja *j, struct jvalue in, const struct jvalue *p, bool last, bool must,
                  struct jvalue *out)
{
    struct jvalue text;
    int64_t start;
    bool valid;
    int rc = text_need(j, p[0]);
    if (rc == 0) {
        rc = window(j, in, p + 1, &text, &start, &valid);
    }
    if (rc != 0) {
        return rc;
    }
    const char *found = NULL;
    jinja_charge(j, text.len);
    if (valid && p[0].len <= text.len) {
        found = p[0].len == 0 ? text.as.text + (last ? text.len : 0)
                : last        ? find_last(j, text.as.text, text.len, p[0])
                              : ju_find(text.as.text, text.len, p[0].as.text, p[0].len);
    }
    if (found == NULL && must) {
        return jinja_fail(j, ERR_INVALID, "substring not found");
    }
    *out = jv_int(found == NULL
                      ? -1
                      : start + (int64_t)ju_points(text.as.text, (size_t)(found - text.as.text)));
    return 0;
}

METHOD(m_find)
{
    (void)args;
    return search(j, in, p, false, false, out);
}

METHOD(m_rfind)
{
    (void)args;
    return search(j, in, p, true, false, out);
}

METHOD(m_index)
{
    (void)args;
    return search(j, in, p, false, true, out);
}

METHOD(m_rindex)
{
    (void)args;
    return search(j, in, p, true, true, out);
}

METHOD(m_count)
{
    (void)args;
    struct jvalue text;
    int64_t start;
    int64_t n = 0;
    bool valid;
    int rc = text_need(j, p[0]);
    if (rc == 0) {
        rc = window(j, in, p + 1, &text, &start, &valid);
    }
    if (rc != 0) {
        return rc;
    }
    jinja_charge(j, text.len);
    if (valid && p[0].len == 0) {
        n = (int64_t)ju_points(text.as.text, text.len) + 1;
    }
    for (size_t at = 0; valid && p[0].len > 0 && at < text.len; n++) {
        const char *found = ju_find(text.as.text + at, text.len - at, p[0].as.text, p[0].len);
        if (found == NULL) {
            break;
        }
        at = (size_t)(found - text.as.text) + p[0].len;
    }
    *out = jv_int(n);
    return 0;
}

static int edge_is(struct jinja *j, struct jvalue text, struct jvalue what, bool end, bool *out)
{
    int rc = text_need(j, what);
    *out = rc == 0 && what.len <= text.len &&
           memcmp(text.as.text + (end ? text.len - what.len : 0), what.as.text, what.len) == 0;
    return rc;
}

static int edge(struct jinja *j, struct jvalue in, const struct jvalue *p, bool end,
                struct jvalue *out)
{
    struct jvalue text;
    int64_t start;
    bool valid;
    bool found = false;
    int rc = window(j, in, p + 1, &text, &start, &valid);
    if (rc == 0 && p[0].type == J_TUPLE) {
        for (uint32_t i = 0; i < p[0].as.list->n && rc == 0 && !found; i++) {
            rc = edge_is(j, text, p[0].as.list->items[i], end, &found);
        }
    } else if (rc == 0) {
        rc = edge_is(j, text, p[0], end, &found);
    }
    *out = jv_bool(found && valid);
    return rc;
}

METHOD(m_startswith)
{
    (void)args;
    return edge(j, in, p, false, out);
}

METHOD(m_endswith)
{
    (void)args;
    return edge(j, in, p, true, out);
}
