/* How it works. Storage doubles; the ceiling is on len, and one byte more is kept for the NUL.
 *
 * 1. len <= bytes_max, and cap > len whenever data is not NULL.
 * 2. Once `failed` is set nothing changes until buf_clear, buf_take or buf_release.
 */
#include "base/buf.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { CAP_MIN = 64 };

void buf_init(struct buf *buf, size_t bytes_max)
{
    assert(bytes_max > 0);
    *buf = (struct buf){.bytes_max = bytes_max};
}

void buf_release(struct buf *buf)
{
    mem_free(buf->data);
    *buf = (struct buf){.bytes_max = buf->bytes_max};
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
    buf->failed = ERR_NONE;
    if (buf->data)
        buf->data[0] = '\0';
}

char *buf_reserve(struct buf *buf, size_t n)
{
    if (buf->failed)
        return NULL;
    if (n > buf->bytes_max - buf->len) {
        buf->failed = ERR_TOO_LARGE;
        return NULL;
    }
    size_t need = buf->len + n;
    if (!buf->data || need >= buf->cap) {
        size_t cap = buf->cap > SIZE_MAX / 2 ? SIZE_MAX : buf->cap * 2;
        if (cap < CAP_MIN)
            cap = CAP_MIN;
        if (cap > buf->bytes_max && buf->bytes_max < SIZE_MAX)
            cap = buf->bytes_max + 1;
        if (cap <= need)
            cap = need + 1;
        char *data = cap > need ? mem_realloc(buf->data, cap, 1) : NULL;
        if (!data) {
            buf->failed = ERR_NOMEM;
            return NULL;
        }
        buf->data = data;
        buf->cap = cap;
    }
    buf->data[need] = '\0';
    return buf->data + buf->len;
}

void buf_append(struct buf *buf, const void *bytes, size_t n)
{
    char *to = buf_reserve(buf, n);
    if (!to)
        return;
    if (n)
        memcpy(to, bytes, n);
    buf->len += n;
}

void buf_puts(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_putc(struct buf *buf, char c)
{
    buf_append(buf, &c, 1);
}

void buf_vprintf(struct buf *buf, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (length < 0) {
        if (!buf->failed)
            buf->failed = ERR_INTERNAL;
        return;
    }
    char *to = buf_reserve(buf, (size_t)length);
    if (!to)
        return;
    vsnprintf(to, (size_t)length + 1, fmt, args);
    buf->len += (size_t)length;
}

void buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    buf_vprintf(buf, fmt, args);
    va_end(args);
}

int buf_check(const struct buf *buf, const char *what, struct err *err)
{
    switch (buf->failed) {
    case ERR_NONE:
        return 0;
    case ERR_TOO_LARGE:
        return err_set(err, ERR_TOO_LARGE, "%s is larger than the %zu bytes allowed", what,
                       buf->bytes_max);
    case ERR_NOMEM:
        return err_set(err, ERR_NOMEM, "out of memory while building %s", what);
    default:
        return err_set(err, buf->failed, "%s could not be built", what);
    }
}

char *buf_take(struct buf *buf)
{
    char *data = NULL;
    if (!buf->failed && buf_reserve(buf, 0)) {
        data = buf->data;
        data[buf->len] = '\0';
        buf->data = NULL;
    }
    buf_release(buf);
    return data;
}
