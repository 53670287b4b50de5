#include "http/url.h"

#include <string.h>

#include "base/utf8.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int http_url_decode(const char *text, size_t n, struct arena *arena, char **out, struct err *err)
{
    char *at = arena_alloc(arena, n + 1, 1);
    size_t length;

    *out = at;
    if (!at)
        return mem_err(err, n + 1);
    for (size_t i = 0; i < n; i++) {
        int high, low;
        if (text[i] != '%') {
            *at++ = text[i];
            continue;
        }
        if (n - i < 3 || (high = hex_value(text[i + 1])) < 0 || (low = hex_value(text[i + 2])) < 0)
            return err_set(err, ERR_INVALID, "Broken percent-encoding in the URL");
        if (high == 0 && low == 0)
            return err_set(err, ERR_INVALID, "The URL holds a NUL character");
        *at++ = (char)(high << 4 | low);
        i += 2;
    }
    *at = 0;
    length = (size_t)(at - *out);
    if (!utf8_valid(*out, length))
        return err_set(err, ERR_UNPROCESSABLE, "The URL is not UTF-8");
    return 0;
}
