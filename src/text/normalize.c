/* utf8proc does the work, on stretches of text that no pinned-inert code point interrupts.
 *
 * The tokenizers package normalises by an older Unicode than a linked utf8proc may know. A code
 * point whose properties came later is, to the package, an unassigned one: it starts anew, takes
 * part in nothing and comes out as it is. So the text is cut at those, and the stretches between
 * are normalised alone; nothing can compose or reorder across them. Most text needs none of that:
 * only runs of characters that NFC may touch are handed to utf8proc.
 */
#include "text/normalize.h"

#include <stdint.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/unicode_class.h"

/* By its first byte, a character that NFC neither changes nor joins to what is before it: all below
 * U+0300, plain Cyrillic, U+4000–U+9FFF (ideographs). Bytes inside a character count as plain. */
static bool is_plain(unsigned char byte)
{
    return byte < 0xCC || byte == 0xD0 || byte == 0xD1 || (byte >= 0xE4 && byte <= 0xE9);
}

bool normalize_is_plain(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_plain((unsigned char)text[i]))
            return false;
    }
    return true;
}

static bool is_inert(uint32_t code_point)
{
    size_t low = 0;
    size_t high = unicode_n_nfc_inert;

    if (code_point < unicode_nfc_inert[0][0])
        return false;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (unicode_nfc_inert[mid][0] <= code_point)
            low = mid;
        else
            high = mid;
    }
    return code_point <= unicode_nfc_inert[low][1];
}

static int put_stretch(const char *text, size_t n, struct buf *out, struct err *err)
{
    const utf8proc_option_t decompose = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text;
    utf8proc_int32_t *points = NULL;
    utf8proc_ssize_t count;
    int rc = 0;

    count = utf8proc_decompose(bytes, (utf8proc_ssize_t)n, NULL, 0, decompose);
    if (count >= 0) {
        points = mem_realloc(NULL, (size_t)count + 1, sizeof(*points));
        if (points == NULL)
            return mem_err(err, ((size_t)count + 1) * sizeof(*points));
        count = utf8proc_decompose(bytes, (utf8proc_ssize_t)n, points, count, decompose);
    }
    if (count >= 0)
        count = utf8proc_normalize_utf32(points, count, decompose);
    if (count < 0)
        rc = err_set(err, ERR_INVALID, "text cannot be normalised: %s", utf8proc_errmsg(count));
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        char encoded[4];
        size_t length = utf8_encode((uint32_t)points[i], encoded);
        buf_append(out, encoded, length);
    }
    mem_free(points);
    return rc;
}

/* Normalises text that no inert code point interrupts: runs of characters that are not plain, each
 * with the plain one before it, which may be what they compose with. */
static int put_runs(const char *text, size_t n, struct buf *out, struct err *err)
{
    size_t done = 0;
    size_t last = 0; /* where the character before i begins */
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0;) {
        if (is_plain((unsigned char)text[i])) {
            last = ((unsigned char)text[i] & 0xC0) == 0x80 ? last : i;
            i++;
            continue;
        }
        buf_append(out, text + done, last - done);
        size_t end = i + 1;
        while (end < n &&
               (((unsigned char)text[end] & 0xC0) == 0x80 || !is_plain((unsigned char)text[end])))
            end++;
        rc = put_stretch(text + last, end - last, out, err);
        done = last = i = end;
    }
    buf_append(out, text + done, n - done);
    return rc;
}

int normalize_nfc(const char *text, size_t n, struct buf *out, struct err *err)
{
    size_t from = 0;
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0;) {
        uint32_t code_point = 0;
        size_t step = (unsigned char)text[i] < 128 ? 1 : utf8_decode(text + i, n - i, &code_point);
        if (step > 1 && is_inert(code_point)) {
            rc = put_runs(text + from, i - from, out, err);
            buf_append(out, text + i, step);
            from = i + step;
        }
        i += step;
    }
    if (rc == 0)
        rc = put_runs(text + from, n - from, out, err);
    return rc != 0 ? rc : buf_check(out, "normalised text", err);
}
