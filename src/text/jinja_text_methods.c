/* The methods of Python's str. Positions in arguments and results count code points. */
#include "text/jinja_text.h"

#include <string.h>

#include "text/jinja_unicode.h"

/* --- case and stripping -------------------------------------------------------------------- */
static METHOD(m_upper)
{
    (void)p;
    (void)args;
    return text_case(j, in, JU_UPPER, out);
}

static METHOD(m_lower)
{
    (void)p;
    (void)args;
    return text_case(j, in, JU_LOWER, out);
}

static METHOD(m_title)
{
    (void)p;
    (void)args;
    return text_case(j, in, JU_TITLE_WORDS, out);
}

static METHOD(m_capitalize)
{
    (void)p;
    (void)args;
    return text_case(j, in, JU_CAPITAL, out);
}

static METHOD(m_swapcase)
{
    (void)p;
    (void)args;
    return text_case(j, in, JU_SWAP, out);
}

static METHOD(m_casefold)
{
    (void)p;
    (void)args;
    return text_case(j, in, JU_FOLD, out);
}

static METHOD(m_strip)
{
    (void)args;
    return text_strip(j, in, p[0], true, true, out);
}

static METHOD(m_lstrip)
{
    (void)args;
    return text_strip(j, in, p[0], true, false, out);
}

static METHOD(m_rstrip)
{
    (void)args;
    return text_strip(j, in, p[0], false, true, out);
}

static METHOD(m_removeprefix)
{
    (void)args;
    int rc = text_need(j, p[0]);
    bool has = rc == 0 && p[0].len <= in.len && memcmp(in.as.text, p[0].as.text, p[0].len) == 0;
    *out = text_part(in, has ? p[0].len : 0, in.len);
    return rc;
}

static METHOD(m_removesuffix)
{
    (void)args;
    int rc = text_need(j, p[0]);
    bool has = rc == 0 && p[0].len <= in.len &&
               memcmp(in.as.text + in.len - p[0].len, p[0].as.text, p[0].len) == 0;
    *out = text_part(in, 0, in.len - (has ? p[0].len : 0));
    return rc;
}

/* --- building ------------------------------------------------------------------------------ */
static METHOD(m_replace)
{
    (void)args;
    int64_t count;
    struct jvalue new = p[1];
    int rc = text_need(j, p[0]);
    if (rc == 0) {
        rc = text_need(j, p[1]);
    }
    if (rc == 0) {
        rc = text_optional_int(j, p[2], -1, &count);
    }
    if (rc == 0 && in.flag == JF_MARKUP) {
        rc = jv_escape(j, new, &new);
    }
    return rc == 0 ? text_replace(j, in, p[0], new, count < 0 ? -1 : count, out) : rc;
}

static METHOD(m_join)
{
    (void)args;
    return text_join(j, in, p[0], false, out);
}

static METHOD(m_format)
{
    (void)p;
    return jv_format(j, in, args, out);
}

static int pad(struct jinja *j, struct jvalue in, const struct jvalue *p, int where,
               struct jvalue *out)
{
    int64_t width;
    struct jvalue fill = jv_is(p[1], J_MISSING) ? jv_text(" ") : p[1];
    int rc = jv_as_int(j, p[0], "a width", &width);
    if (rc == 0) {
        rc = text_need(j, fill);
    }
    return rc == 0 ? text_center(j, in, width, fill, where, out) : rc;
}

static METHOD(m_center)
{
    (void)args;
    return pad(j, in, p, 0, out);
}

static METHOD(m_ljust)
{
    (void)args;
    return pad(j, in, p, -1, out);
}

static METHOD(m_rjust)
{
    (void)args;
    return pad(j, in, p, 1, out);
}

static METHOD(m_zfill)
{
    (void)args;
    int64_t width;
    int rc = jv_as_int(j, p[0], "a width", &width);
    bool sign = in.len > 0 && (in.as.text[0] == '-' || in.as.text[0] == '+');
    struct jvalue digits = text_part(in, sign, in.len);
    if (rc == 0) {
        rc = text_center(j, digits, width - sign, jv_text("0"), 1, out);
    }
    return rc == 0 && sign ? jv_string_concat(j, text_part(in, 0, 1), *out, out) : rc;
}

static METHOD(m_expandtabs)
{
    (void)args;
    int64_t size;
    int64_t column = 0;
    int rc = text_optional_int(j, p[0], 8, &size);
    if (rc != 0) {
        return rc;
    }
    size = size > 4096 ? 4096 : size;
    size_t mark = jtext_open(j);
    for (uint32_t i = 0; i < in.len && rc == 0; i++) {
        char c = in.as.text[i];
        if (c == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            for (int64_t k = 0; k < n; k++) {
                buf_putc(&j->scratch, ' ');
            }
            column += n;
            jinja_charge(j, (size_t)n);
            rc = jtext_check(j);
        } else {
            buf_putc(&j->scratch, c);
            column += ((unsigned char)c & 0xC0) != 0x80;
            column = c == '\n' || c == '\r' ? 0 : column;
        }
    }
    if (rc == 0) {
        rc = jtext_close(j, mark, out);
        out->flag = in.flag;
    }
    return rc;
}

/* --- asking -------------------------------------------------------------------------------- */
static bool is_ascii(uint32_t point)
{
    return point < 128;
}

static bool is_alnum(uint32_t point)
{
    return ju_is_alpha(point) || ju_is_numeric(point);
}

/* True when there are characters and all are of the class; `empty` is the answer for none. */
static void all_are(struct jinja *j, struct jvalue in, bool (*is)(uint32_t), bool empty,
                    struct jvalue *out)
{
    bool all = in.len > 0 || empty;
    uint32_t point;
    jinja_charge(j, in.len);
    for (size_t at = 0; at < in.len && all;) {
        at += ju_decode(in.as.text + at, in.len - at, &point);
        all = is(point);
    }
    *out = jv_bool(all);
}

#define ASKING(name, is, empty)                                                                    \
    static METHOD(name)                                                                            \
    {                                                                                              \
        (void)p;                                                                                   \
        (void)args;                                                                                \
        all_are(j, in, is, empty, out);                                                            \
        return 0;                                                                                  \
    }

ASKING(m_isalpha, ju_is_alpha, false)
ASKING(m_isalnum, is_alnum, false)
ASKING(m_isdecimal, ju_is_decimal, false)
ASKING(m_isdigit, ju_is_digit, false)
ASKING(m_isnumeric, ju_is_numeric, false)
ASKING(m_isspace, ju_is_space, false)
ASKING(m_isprintable, ju_is_printable, true)
ASKING(m_isascii, is_ascii, true)

/* Some cased character, and none of the wrong case. */
static void cased_are(struct jinja *j, struct jvalue in, bool upper, struct jvalue *out)
{
    bool any = false;
    bool wrong = false;
    uint32_t point;
    jinja_charge(j, in.len);
    for (size_t at = 0; at < in.len;) {
        at += ju_decode(in.as.text + at, in.len - at, &point);
        any |= upper ? ju_is_upper(point) : ju_is_lower(point);
        wrong |= ju_is_title(point) || (upper ? ju_is_lower(point) : ju_is_upper(point));
    }
    *out = jv_bool(any && !wrong);
}

static METHOD(m_isupper)
{
    (void)p;
    (void)args;
    cased_are(j, in, true, out);
    return 0;
}

static METHOD(m_islower)
{
    (void)p;
    (void)args;
    cased_are(j, in, false, out);
    return 0;
}

static METHOD(m_istitle)
{
    (void)p;
    (void)args;
    bool any = false;
    bool wrong = false;
    bool in_word = false;
    uint32_t point;
    jinja_charge(j, in.len);
    for (size_t at = 0; at < in.len;) {
        at += ju_decode(in.as.text + at, in.len - at, &point);
        bool head = ju_is_upper(point) || ju_is_title(point);
        bool tail = ju_is_lower(point);
        wrong |= (head && in_word) || (tail && !in_word);
        any |= head || tail;
        in_word = head || tail;
    }
    *out = jv_bool(any && !wrong);
    return 0;
}

static METHOD(m_isidentifier)
{
    (void)p;
    (void)args;
    uint32_t point = 0;
    if (in.len > 0) {
        (void)ju_decode(in.as.text, in.len, &point);
    }
    all_are(j, in, ju_is_name, false, out);
    out->as.boolean = out->as.boolean && ju_is_name_start(point);
    return 0;
}

static const struct builtin methods[] = {
    {"strip", m_strip, {"/chars"}, 0, false},
    {"split", m_split, {"sep", "maxsplit"}, 0, false},
    {"startswith", m_startswith, {"/prefix", "/start", "/end"}, 1, false},
    {"endswith", m_endswith, {"/suffix", "/start", "/end"}, 1, false},
    {"replace", m_replace, {"/old", "/new", "/count"}, 2, false},
    {"lstrip", m_lstrip, {"/chars"}, 0, false},
    {"rstrip", m_rstrip, {"/chars"}, 0, false},
    {"join", m_join, {"/iterable"}, 1, false},
    {"upper", m_upper, {NULL}, 0, false},
    {"lower", m_lower, {NULL}, 0, false},
    {"title", m_title, {NULL}, 0, false},
    {"capitalize", m_capitalize, {NULL}, 0, false},
    {"swapcase", m_swapcase, {NULL}, 0, false},
    {"casefold", m_casefold, {NULL}, 0, false},
    {"rsplit", m_rsplit, {"sep", "maxsplit"}, 0, false},
    {"splitlines", m_splitlines, {"keepends"}, 0, false},
    {"partition", m_partition, {"/sep"}, 1, false},
    {"rpartition", m_rpartition, {"/sep"}, 1, false},
    {"find", m_find, {"/sub", "/start", "/end"}, 1, false},
    {"rfind", m_rfind, {"/sub", "/start", "/end"}, 1, false},
    {"index", m_index, {"/sub", "/start", "/end"}, 1, false},
    {"rindex", m_rindex, {"/sub", "/start", "/end"}, 1, false},
    {"count", m_count, {"/sub", "/start", "/end"}, 1, false},
    {"removeprefix", m_removeprefix, {"/prefix"}, 1, false},
    {"removesuffix", m_removesuffix, {"/suffix"}, 1, false},
    {"format", m_format, {NULL}, 0, true},
    {"center", m_center, {"/width", "/fillchar"}, 1, false},
    {"ljust", m_ljust, {"/width", "/fillchar"}, 1, false},
    {"rjust", m_rjust, {"/width", "/fillchar"}, 1, false},
    {"zfill", m_zfill, {"/width"}, 1, false},
    {"expandtabs", m_expandtabs, {"tabsize"}, 0, false},
    {"isalpha", m_isalpha, {NULL}, 0, false},
    {"isalnum", m_isalnum, {NULL}, 0, false},
    {"isdecimal", m_isdecimal, {NULL}, 0, false},
    {"isdigit", m_isdigit, {NULL}, 0, false},
    {"isnumeric", m_isnumeric, {NULL}, 0, false},
    {"isspace", m_isspace, {NULL}, 0, false},
    {"isprintable", m_isprintable, {NULL}, 0, false},
    {"isascii", m_isascii, {NULL}, 0, false},
    {"isupper", m_isupper, {NULL}, 0, false},
    {"islower", m_islower, {NULL}, 0, false},
    {"istitle", m_istitle, {NULL}, 0, false},
    {"isidentifier", m_isidentifier, {NULL}, 0, false},
};

const struct builtin *text_method(const char *name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strcmp(methods[i].name, name) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}
