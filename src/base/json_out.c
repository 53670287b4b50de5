/* How it works. The writer appends to the caller's buffer and leaves every failure to the buffer's
 * sticky error, so a builder checks once, at its end.
 *
 * 1. depth counts open objects and arrays; first[depth - 1] is true until the innermost one has a
 *    member, which is when a comma is due.
 * 2. after_key is true exactly between a key and its value.
 */
#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void json_out_init(struct json_out *out, struct buf *buf)
{
    *out = (struct json_out){.buf = buf};
}

/* Puts the comma that a value or key needs in front. */
static void separate(struct json_out *out)
{
    if (out->after_key) {
        out->after_key = false;
        return;
    }
    if (out->depth == 0)
        return;
    if (!out->first[out->depth - 1])
        buf_putc(out->buf, ',');
    out->first[out->depth - 1] = false;
}

static void open_nest(struct json_out *out, char bracket)
{
    assert(out->depth < JSON_OUT_DEPTH_MAX);
    separate(out);
    buf_putc(out->buf, bracket);
    out->first[out->depth++] = true;
}

static void close_nest(struct json_out *out, char bracket)
{
    assert(out->depth > 0 && !out->after_key);
    out->depth--;
    buf_putc(out->buf, bracket);
}

void json_out_object(struct json_out *out)
{
    open_nest(out, '{');
}

void json_out_object_end(struct json_out *out)
{
    close_nest(out, '}');
}

void json_out_array(struct json_out *out)
{
    open_nest(out, '[');
}

void json_out_array_end(struct json_out *out)
{
    close_nest(out, ']');
}

static void put_escape(struct buf *buf, unsigned char c)
{
    switch (c) {
    case '"':
        buf_append(buf, "\\\"", 2);
        break;
    case '\\':
        buf_append(buf, "\\\\", 2);
        break;
    case '\n':
        buf_append(buf, "\\n", 2);
        break;
    case '\r':
        buf_append(buf, "\\r", 2);
        break;
    case '\t':
        buf_append(buf, "\\t", 2);
        break;
    default:
        buf_printf(buf, "\\u%04x", c);
        break;
    }
}

/* Text in quotes. Runs that need no escape are appended whole; a byte that is not UTF-8 becomes
 * U+FFFD. */
static void put_string(struct buf *buf, const char *text, size_t length)
{
    size_t run = 0, at = 0;
    buf_putc(buf, '"');
    while (at < length) {
        unsigned char c = (unsigned char)text[at];
        uint32_t code_point;
        size_t n = 1;
        if (c >= 0x20 && c < 0x7F && c != '"' && c != '\\') {
            at++;
            continue;
        }
        if (c >= 0x80 && (n = utf8_decode(text + at, length - at, &code_point)) > 0) {
            at += n;
            continue;
        }
        buf_append(buf, text + run, at - run);
        if (c >= 0x80)
            buf_puts(buf, "\xEF\xBF\xBD");
        else
            put_escape(buf, c);
        run = ++at;
    }
    buf_append(buf, text + run, at - run);
    buf_putc(buf, '"');
}

void json_out_key(struct json_out *out, const char *key)
{
    assert(out->depth > 0 && !out->after_key);
    separate(out);
    put_string(out->buf, key, strlen(key));
    buf_putc(out->buf, ':');
    out->after_key = true;
}

void json_out_string_n(struct json_out *out, const char *text, size_t length)
{
    separate(out);
    put_string(out->buf, text, length);
}

void json_out_raw(struct json_out *out, const char *json)
{
    separate(out);
    buf_puts(out->buf, json);
}

void json_out_string(struct json_out *out, const char *text)
{
    if (text)
        json_out_string_n(out, text, strlen(text));
    else
        json_out_null(out);
}

void json_out_int(struct json_out *out, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    json_out_raw(out, text);
}

void json_out_uint(struct json_out *out, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, value);
    json_out_raw(out, text);
}

void json_format_real(double value, char out[32])
{
    if (!isfinite(value)) {
        memcpy(out, "null", 5);
        return;
    }
    if (value == rint(value) && fabs(value) < 1e15) {
        snprintf(out, 32, "%.0f", value);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            break;
    }
    /* A host program may have set a locale with another decimal point; JSON has only one. */
    char point = *localeconv()->decimal_point;
    char *comma = point == '.' ? NULL : strchr(out, point);
    if (comma)
        *comma = '.';
}

void json_out_real(struct json_out *out, double value)
{
    char text[32];
    json_format_real(value, text);
    json_out_raw(out, text);
}

void json_out_bool(struct json_out *out, bool value)
{
    json_out_raw(out, value ? "true" : "false");
}

void json_out_null(struct json_out *out)
{
    json_out_raw(out, "null");
}

static void put_members(struct json_out *out, const json_t *object)
{
    json_out_object(out);
    /* jansson's iterators take a mutable object but do not change it. */
    json_t *open = (json_t *)(uintptr_t)object;
    for (void *it = json_object_iter(open); it; it = json_object_iter_next(open, it)) {
        json_out_key(out, json_object_iter_key(it));
        json_out_tree(out, json_object_iter_value(it));
    }
    json_out_object_end(out);
}

void json_out_tree(struct json_out *out, const json_t *value)
{
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT:
        put_members(out, value);
        break;
    case JSON_ARRAY:
        json_out_array(out);
        for (size_t i = 0; i < json_array_size(value); i++)
            json_out_tree(out, json_array_get(value, i));
        json_out_array_end(out);
        break;
    case JSON_STRING:
        json_out_string_n(out, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        json_out_int(out, json_integer_value(value));
        break;
    case JSON_REAL:
        json_out_real(out, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        json_out_bool(out, json_is_true(value));
        break;
    default:
        json_out_null(out);
        break;
    }
}

void json_out_kv_string(struct json_out *out, const char *key, const char *text)
{
    json_out_key(out, key);
    json_out_string(out, text);
}

void json_out_kv_int(struct json_out *out, const char *key, int64_t value)
{
    json_out_key(out, key);
    json_out_int(out, value);
}

void json_out_kv_real(struct json_out *out, const char *key, double value)
{
    json_out_key(out, key);
    json_out_real(out, value);
}

void json_out_kv_bool(struct json_out *out, const char *key, bool value)
{
    json_out_key(out, key);
    json_out_bool(out, value);
}

void json_out_kv_null(struct json_out *out, const char *key)
{
    json_out_key(out, key);
    json_out_null(out);
}

void json_out_kv_raw(struct json_out *out, const char *key, const char *json)
{
    json_out_key(out, key);
    json_out_raw(out, json);
}

void json_out_kv_tree(struct json_out *out, const char *key, const json_t *value)
{
    json_out_key(out, key);
    json_out_tree(out, value);
}
