/* A growing byte buffer with a ceiling and a sticky error.
 *
 * Appending never fails loudly: the first failure (ceiling reached, out of memory) is remembered,
 * later appends do nothing, and buf_check reports it once at the end. `data` is always
 * NUL-terminated when not NULL, the NUL not counted in `len`. Owned by one thread.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct buf {
    char *data;
    size_t len;
    size_t cap;
    size_t bytes_max; /* ceiling on len; set at init, never 0 */
    enum err_code failed;
};

void buf_init(struct buf *buf, size_t bytes_max);
void buf_release(struct buf *buf);
void buf_clear(struct buf *buf); /* len = 0, error forgotten, storage kept */
void buf_append(struct buf *buf, const void *bytes, size_t n);
void buf_puts(struct buf *buf, const char *text);
void buf_putc(struct buf *buf, char c);
void buf_printf(struct buf *buf, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *buf, const char *fmt, va_list args) PRINTF_LIKE(2, 0);
/* Makes room for n more bytes and returns where they go, or NULL; the caller then adds to len. The
 * NUL is placed after all n; a caller that adds fewer gets it back with the next append or take. */
char *buf_reserve(struct buf *buf, size_t n);
/* 0, or the sticky error with `what` naming the thing that was being built. */
int buf_check(const struct buf *buf, const char *what, struct err *err) MUST_CHECK;
/* Hands the bytes to the caller (mem_free) and leaves the buffer empty; "" when nothing was put,
 * NULL when the buffer has failed. */
char *buf_take(struct buf *buf);

#endif
