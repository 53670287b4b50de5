/* How it works. One table-free decoder that accepts exactly the well-formed sequences of the
 * Unicode standard (table 3-7): no overlong forms, no surrogates, nothing above U+10FFFF. The
 * limits on the second byte are what keeps those out; everything else is built on the decoder.
 */
#include "base/utf8.h"

/* Length that a lead byte promises, 0 when the byte cannot lead; the range of its second byte. */
static size_t lead_length(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF) {
        if (lead == 0xE0)
            *low = 0xA0;
        if (lead == 0xED)
            *high = 0x9F;
        return 3;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        if (lead == 0xF0)
            *low = 0x90;
        if (lead == 0xF4)
            *high = 0x8F;
        return 4;
    }
    return 0;
}

size_t utf8_decode(const char *text, size_t length, uint32_t *code_point)
{
    if (length == 0)
        return 0;
    const unsigned char *s = (const unsigned char *)text;
    unsigned char low, high;
    size_t n = lead_length(s[0], &low, &high);
    if (n == 0 || n > length)
        return 0;
    if (n == 1) {
        *code_point = s[0];
        return 1;
    }
    if (s[1] < low || s[1] > high)
        return 0;
    uint32_t value = s[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        value = (value << 6) | (s[i] & 0x3Fu);
    }
    *code_point = value;
    return n;
}

bool utf8_valid(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        uint32_t code_point;
        size_t n = utf8_decode(text + at, length - at, &code_point);
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

size_t utf8_encode(uint32_t code_point, char out[4])
{
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xC0 | code_point >> 6);
        out[1] = (char)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point >= 0xD800 && code_point <= 0xDFFF)
        return 0;
    if (code_point < 0x10000) {
        out[0] = (char)(0xE0 | code_point >> 12);
        out[1] = (char)(0x80 | (code_point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code_point & 0x3F));
        return 3;
    }
    if (code_point > 0x10FFFF)
        return 0;
    out[0] = (char)(0xF0 | code_point >> 18);
    out[1] = (char)(0x80 | (code_point >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code_point >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code_point & 0x3F));
    return 4;
}

/* True when the k bytes at s start a well-formed character that needs more than k bytes. */
static bool may_be_completed(const unsigned char *s, size_t k)
{
    unsigned char low, high;
    size_t n = lead_length(s[0], &low, &high);
    if (n <= k)
        return false;
    if (k > 1 && (s[1] < low || s[1] > high))
        return false;
    return k < 3 || (s[2] & 0xC0) == 0x80;
}

size_t utf8_complete_prefix(const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t k = 1; k <= 3 && k <= length; k++) {
        if (may_be_completed(s + length - k, k))
            return length - k;
        if ((s[length - k] & 0xC0) != 0x80)
            break;
    }
    return length;
}
