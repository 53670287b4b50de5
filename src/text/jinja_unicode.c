/* Classes and case come from utf8proc; three things are ours:
 * 1. Python's whitespace and line breaks, which are short lists.
 * 2. Case mappings that turn one character into several (ß → SS): utf8proc maps one to one, and
 *    agrees with Python on everything else, so these are all there are.
 * 3. The final sigma, the one mapping that looks at its neighbours.
 * isdigit and isnumeric know the categories N* and the common superscripts and circles, not the
 * numeric values of ideographs.
 */
#include "text/jinja_unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

enum { NEEDLE_SHORT = 32 };

struct expansion {
    uint16_t from;
    uint16_t upper[3];
    uint16_t title[3]; /* empty: the one-to-one mapping */
};

/* clang-format off */
static const struct expansion expansions[] = {
    {0xDF, {0x53, 0x53}, {0x53, 0x73}}, {0x149, {0x2BC, 0x4E}, {0x2BC, 0x4E}},
    {0x1F0, {0x4A, 0x30C}, {0x4A, 0x30C}}, {0x390, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
    {0x3B0, {0x3A5, 0x308, 0x301}, {0x3A5, 0x308, 0x301}}, {0x587, {0x535, 0x552}, {0x535, 0x582}},
    {0x1E96, {0x48, 0x331}, {0x48, 0x331}}, {0x1E97, {0x54, 0x308}, {0x54, 0x308}},
    {0x1E98, {0x57, 0x30A}, {0x57, 0x30A}}, {0x1E99, {0x59, 0x30A}, {0x59, 0x30A}},
    {0x1E9A, {0x41, 0x2BE}, {0x41, 0x2BE}}, {0x1F50, {0x3A5, 0x313}, {0x3A5, 0x313}},
    {0x1F52, {0x3A5, 0x313, 0x300}, {0x3A5, 0x313, 0x300}},
    {0x1F54, {0x3A5, 0x313, 0x301}, {0x3A5, 0x313, 0x301}},
    {0x1F56, {0x3A5, 0x313, 0x342}, {0x3A5, 0x313, 0x342}}, {0x1F80, {0x1F08, 0x399}, {0}},
    {0x1F81, {0x1F09, 0x399}, {0}}, {0x1F82, {0x1F0A, 0x399}, {0}}, {0x1F83, {0x1F0B, 0x399}, {0}},
    {0x1F84, {0x1F0C, 0x399}, {0}}, {0x1F85, {0x1F0D, 0x399}, {0}}, {0x1F86, {0x1F0E, 0x399}, {0}},
    {0x1F87, {0x1F0F, 0x399}, {0}}, {0x1F88, {0x1F08, 0x399}, {0}}, {0x1F89, {0x1F09, 0x399}, {0}},
    {0x1F8A, {0x1F0A, 0x399}, {0}}, {0x1F8B, {0x1F0B, 0x399}, {0}}, {0x1F8C, {0x1F0C, 0x399}, {0}},
    {0x1F8D, {0x1F0D, 0x399}, {0}}, {0x1F8E, {0x1F0E, 0x399}, {0}}, {0x1F8F, {0x1F0F, 0x399}, {0}},
    {0x1F90, {0x1F28, 0x399}, {0}}, {0x1F91, {0x1F29, 0x399}, {0}}, {0x1F92, {0x1F2A, 0x399}, {0}},
    {0x1F93, {0x1F2B, 0x399}, {0}}, {0x1F94, {0x1F2C, 0x399}, {0}}, {0x1F95, {0x1F2D, 0x399}, {0}},
    {0x1F96, {0x1F2E, 0x399}, {0}}, {0x1F97, {0x1F2F, 0x399}, {0}}, {0x1F98, {0x1F28, 0x399}, {0}},
    {0x1F99, {0x1F29, 0x399}, {0}}, {0x1F9A, {0x1F2A, 0x399}, {0}}, {0x1F9B, {0x1F2B, 0x399}, {0}},
    {0x1F9C, {0x1F2C, 0x399}, {0}}, {0x1F9D, {0x1F2D, 0x399}, {0}}, {0x1F9E, {0x1F2E, 0x399}, {0}},
    {0x1F9F, {0x1F2F, 0x399}, {0}}, {0x1FA0, {0x1F68, 0x399}, {0}}, {0x1FA1, {0x1F69, 0x399}, {0}},
    {0x1FA2, {0x1F6A, 0x399}, {0}}, {0x1FA3, {0x1F6B, 0x399}, {0}}, {0x1FA4, {0x1F6C, 0x399}, {0}},
    {0x1FA5, {0x1F6D, 0x399}, {0}}, {0x1FA6, {0x1F6E, 0x399}, {0}}, {0x1FA7, {0x1F6F, 0x399}, {0}},
    {0x1FA8, {0x1F68, 0x399}, {0}}, {0x1FA9, {0x1F69, 0x399}, {0}}, {0x1FAA, {0x1F6A, 0x399}, {0}},
    {0x1FAB, {0x1F6B, 0x399}, {0}}, {0x1FAC, {0x1F6C, 0x399}, {0}}, {0x1FAD, {0x1F6D, 0x399}, {0}},
    {0x1FAE, {0x1F6E, 0x399}, {0}}, {0x1FAF, {0x1F6F, 0x399}, {0}},
    {0x1FB2, {0x1FBA, 0x399}, {0x1FBA, 0x345}}, {0x1FB3, {0x391, 0x399}, {0}},
    {0x1FB4, {0x386, 0x399}, {0x386, 0x345}}, {0x1FB6, {0x391, 0x342}, {0x391, 0x342}},
    {0x1FB7, {0x391, 0x342, 0x399}, {0x391, 0x342, 0x345}}, {0x1FBC, {0x391, 0x399}, {0}},
    {0x1FC2, {0x1FCA, 0x399}, {0x1FCA, 0x345}}, {0x1FC3, {0x397, 0x399}, {0}},
    {0x1FC4, {0x389, 0x399}, {0x389, 0x345}}, {0x1FC6, {0x397, 0x342}, {0x397, 0x342}},
    {0x1FC7, {0x397, 0x342, 0x399}, {0x397, 0x342, 0x345}}, {0x1FCC, {0x397, 0x399}, {0}},
    {0x1FD2, {0x399, 0x308, 0x300}, {0x399, 0x308, 0x300}},
    {0x1FD3, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
    {0x1FD6, {0x399, 0x342}, {0x399, 0x342}},
    {0x1FD7, {0x399, 0x308, 0x342}, {0x399, 0x308, 0x342}},
    {0x1FE2, {0x3A5, 0x308, 0x300}, {0x3A5, 0x308, 0x300}},
    {0x1FE3, {0x3A5, 0x308, 0x301}, {0x3A5, 0x308, 0x301}},
    {0x1FE4, {0x3A1, 0x313}, {0x3A1, 0x313}}, {0x1FE6, {0x3A5, 0x342}, {0x3A5, 0x342}},
    {0x1FE7, {0x3A5, 0x308, 0x342}, {0x3A5, 0x308, 0x342}},
    {0x1FF2, {0x1FFA, 0x399}, {0x1FFA, 0x345}}, {0x1FF3, {0x3A9, 0x399}, {0}},
    {0x1FF4, {0x38F, 0x399}, {0x38F, 0x345}}, {0x1FF6, {0x3A9, 0x342}, {0x3A9, 0x342}},
    {0x1FF7, {0x3A9, 0x342, 0x399}, {0x3A9, 0x342, 0x345}}, {0x1FFC, {0x3A9, 0x399}, {0}},
    {0xFB00, {0x46, 0x46}, {0x46, 0x66}}, {0xFB01, {0x46, 0x49}, {0x46, 0x69}},
    {0xFB02, {0x46, 0x4C}, {0x46, 0x6C}}, {0xFB03, {0x46, 0x46, 0x49}, {0x46, 0x66, 0x69}},
    {0xFB04, {0x46, 0x46, 0x4C}, {0x46, 0x66, 0x6C}}, {0xFB05, {0x53, 0x54}, {0x53, 0x74}},
    {0xFB06, {0x53, 0x54}, {0x53, 0x74}}, {0xFB13, {0x544, 0x546}, {0x544, 0x576}},
    {0xFB14, {0x544, 0x535}, {0x544, 0x565}}, {0xFB15, {0x544, 0x53B}, {0x544, 0x56B}},
    {0xFB16, {0x54E, 0x546}, {0x54E, 0x576}}, {0xFB17, {0x544, 0x53D}, {0x544, 0x56D}},
};
/* clang-format on */

size_t ju_decode(const char *text, size_t length, uint32_t *point)
{
    unsigned char c = (unsigned char)text[0];
    if (c < 0x80) {
        *point = c;
        return 1;
    }
    size_t n = utf8_decode(text, length, point);
    if (n == 0) {
        *point = 0xFFFD;
        return 1;
    }
    return n;
}

size_t ju_last(const char *text, size_t length, uint32_t *point)
{
    size_t start = length - 1;
    while (start > 0 && length - start < 4 && ((unsigned char)text[start] & 0xC0) == 0x80) {
        start--;
    }
    if (ju_decode(text + start, length - start, point) != length - start) {
        *point = 0xFFFD;
        return 1;
    }
    return length - start;
}

size_t ju_points(const char *text, size_t length)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return n;
}

size_t ju_offset(const char *text, size_t length, size_t points)
{
    size_t i = 0;
    while (i < length && points > 0) {
        i++;
        while (i < length && ((unsigned char)text[i] & 0xC0) == 0x80) {
            i++;
        }
        points--;
    }
    return i;
}

/* Short needles are found by their first byte, so that many hits in a row cost no set-up each. */
const char *ju_find(const char *text, size_t length, const char *what, size_t n)
{
    if (n > NEEDLE_SHORT) {
        return memmem(text, length, what, n);
    }
    while (length >= n) {
        const char *at = memchr(text, what[0], length - n + 1);
        if (at == NULL) {
            return NULL;
        }
        if (memcmp(at, what, n) == 0) {
            return at;
        }
        length -= (size_t)(at + 1 - text);
        text = at + 1;
    }
    return NULL;
}

void ju_put(struct buf *buf, uint32_t point)
{
    char bytes[4];
    buf_append(buf, bytes, utf8_encode(point, bytes));
}

bool ju_is_space(uint32_t p)
{
    return (p >= 9 && p <= 13) || (p >= 28 && p <= 32) || p == 0x85 || p == 0xA0 || p == 0x1680 ||
           (p >= 0x2000 && p <= 0x200A) || p == 0x2028 || p == 0x2029 || p == 0x202F ||
           p == 0x205F || p == 0x3000;
}

bool ju_is_line_break(uint32_t p)
{
    return (p >= 10 && p <= 13) || (p >= 28 && p <= 30) || p == 0x85 || p == 0x2028 || p == 0x2029;
}

static utf8proc_category_t category(uint32_t point)
{
    return utf8proc_category((utf8proc_int32_t)point);
}

bool ju_is_alpha(uint32_t point)
{
    utf8proc_category_t c = category(point);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool ju_is_decimal(uint32_t point)
{
    return category(point) == UTF8PROC_CATEGORY_ND;
}

bool ju_is_digit(uint32_t p)
{
    return ju_is_decimal(p) || p == 0xB2 || p == 0xB3 || p == 0xB9 || p == 0x2070 ||
           (p >= 0x2074 && p <= 0x2079) || (p >= 0x2080 && p <= 0x2089) ||
           (p >= 0x2460 && p <= 0x2468) || (p >= 0x2474 && p <= 0x247C);
}

bool ju_is_numeric(uint32_t point)
{
    utf8proc_category_t c = category(point);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool ju_is_lower(uint32_t point)
{
    return category(point) == UTF8PROC_CATEGORY_LL || point == 0xAA || point == 0xBA;
}

bool ju_is_upper(uint32_t point)
{
    return category(point) == UTF8PROC_CATEGORY_LU;
}

bool ju_is_title(uint32_t point)
{
    return category(point) == UTF8PROC_CATEGORY_LT;
}

bool ju_is_cased(uint32_t point)
{
    return ju_is_lower(point) || ju_is_upper(point) || ju_is_title(point);
}

bool ju_is_printable(uint32_t point)
{
    if (point == ' ') {
        return true;
    }
    utf8proc_category_t c = category(point);
    return c != UTF8PROC_CATEGORY_CN && c < UTF8PROC_CATEGORY_ZS;
}

bool ju_is_name_start(uint32_t point)
{
    return point == '_' || ju_is_alpha(point) || category(point) == UTF8PROC_CATEGORY_NL;
}

bool ju_is_name(uint32_t point)
{
    utf8proc_category_t c = category(point);
    return ju_is_name_start(point) || ju_is_numeric(point) || c == UTF8PROC_CATEGORY_MN ||
           c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_PC;
}

void ju_strip(const char *text, size_t length, bool left, bool right, size_t *begin, size_t *end)
{
    size_t a = 0;
    size_t b = length;
    uint32_t point;
    while (left && a < b) {
        size_t n = ju_decode(text + a, b - a, &point);
        if (!ju_is_space(point)) {
            break;
        }
        a += n;
    }
    while (right && b > a) {
        size_t n = ju_last(text + a, b - a, &point);
        if (!ju_is_space(point)) {
            break;
        }
        b -= n;
    }
    *begin = a;
    *end = b;
}

static const struct expansion *find_expansion(uint32_t point)
{
    size_t low = 0;
    size_t high = sizeof expansions / sizeof *expansions;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (expansions[middle].from == point) {
            return &expansions[middle];
        }
        if (expansions[middle].from < point) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static void put_expanded(struct buf *buf, const uint16_t points[3])
{
    for (int i = 0; i < 3 && points[i] != 0; i++) {
        ju_put(buf, points[i]);
    }
}

static void put_upper(struct buf *buf, uint32_t point)
{
    const struct expansion *e = point < 0x80 ? NULL : find_expansion(point);
    if (e != NULL) {
        put_expanded(buf, e->upper);
    } else {
        ju_put(buf, (uint32_t)utf8proc_toupper((utf8proc_int32_t)point));
    }
}

static void put_title(struct buf *buf, uint32_t point)
{
    const struct expansion *e = point < 0x80 ? NULL : find_expansion(point);
    if (e != NULL && e->title[0] != 0) {
        put_expanded(buf, e->title);
    } else {
        ju_put(buf, (uint32_t)utf8proc_totitle((utf8proc_int32_t)point));
    }
}

/* Characters that the search for a final sigma's neighbours skips (Unicode's Case_Ignorable). */
static bool is_case_ignorable(uint32_t p)
{
    utf8proc_category_t c = category(p);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK || p == '\'' || p == '.' ||
           p == ':' || p == 0xB7 || p == 0x2019;
}

/* True for the Σ at text[at]: a letter before it in its word, none after. */
static bool is_final_sigma(const char *text, size_t length, size_t at)
{
    uint32_t point = 0;
    size_t before = at;
    while (before > 0) {
        before -= ju_last(text, before, &point);
        if (!is_case_ignorable(point)) {
            break;
        }
        point = 0;
    }
    if (!ju_is_cased(point)) {
        return false;
    }
    point = 0;
    for (size_t after = at + 2; after < length;) {
        after += ju_decode(text + after, length - after, &point);
        if (!is_case_ignorable(point)) {
            break;
        }
        point = 0;
    }
    return !ju_is_cased(point);
}

static void put_lower(struct buf *buf, const char *text, size_t length, size_t at, uint32_t point)
{
    if (point == 0x130) {
        ju_put(buf, 'i');
        ju_put(buf, 0x307);
    } else if (point == 0x3A3) {
        ju_put(buf, is_final_sigma(text, length, at) ? 0x3C2 : 0x3C3);
    } else {
        ju_put(buf, (uint32_t)utf8proc_tolower((utf8proc_int32_t)point));
    }
}

static void put_folded(struct buf *buf, uint32_t point)
{
    utf8proc_int32_t folded[8];
    int last = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)point, folded, 8, UTF8PROC_CASEFOLD, &last);
    for (utf8proc_ssize_t i = 0; i < n && i < 8; i++) {
        ju_put(buf, (uint32_t)folded[i]);
    }
}

void ju_put_case(struct buf *buf, enum ju_case how, const char *text, size_t length)
{
    bool in_word = false;
    uint32_t point;
    for (size_t at = 0, n; at < length; at += n) {
        n = ju_decode(text + at, length - at, &point);
        bool first = how == JU_TITLE_WORDS ? !in_word : at == 0;
        if (how == JU_FOLD) {
            put_folded(buf, point);
        } else if (how == JU_UPPER || (how == JU_SWAP && ju_is_lower(point))) {
            put_upper(buf, point);
        } else if ((how == JU_TITLE_WORDS || how == JU_CAPITAL) && first) {
            put_title(buf, point);
        } else if (how == JU_SWAP && !ju_is_upper(point)) {
            buf_append(buf, text + at, n);
        } else {
            put_lower(buf, text, length, at, point);
        }
        in_word = ju_is_cased(point);
    }
}
