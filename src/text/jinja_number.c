/* Numbers from text as Python's int() and float() read them, and Python's round(). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_unicode.h"

enum { REAL_TEXT_MAX = 512, ROUND_DIGITS_MAX = 330 };

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

enum jparse jtext_to_int(struct jvalue text, int64_t base, int64_t *out)
{
    size_t at;
    size_t end;
    ju_strip(text.as.text, text.len, true, true, &at, &end);
    const char *s = text.as.text;
    bool negative = at < end && s[at] == '-';
    at += at < end && (s[at] == '-' || s[at] == '+');
    char mark = end - at > 2 && s[at] == '0' ? (char)(s[at + 1] | 0x20) : '\0';
    int64_t named = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (named != 0 && (base == 0 || base == named)) {
        base = named;
        at += 2;
        at += s[at] == '_';
    } else if (base == 0) {
        base = 10;
    }
    if (base < 2 || base > 36) {
        return JP_INVALID;
    }
    bool digit = false;
    bool over = false;
    int64_t value = 0;
    for (; at < end; at++) {
        if (s[at] == '_' && digit) {
            digit = false;
            continue;
        }
        int d = digit_of(s[at]);
        if (d >= base) {
            return JP_INVALID;
        }
        digit = true;
        over = over || __builtin_mul_overflow(value, base, &value) ||
               __builtin_sub_overflow(value, d, &value); /* downwards: INT64_MIN fits too */
    }
    if (!digit) {
        return JP_INVALID;
    }
    if (over || (!negative && value == INT64_MIN)) {
        return JP_OVERFLOW;
    }
    *out = negative ? value : -value;
    return JP_OK;
}

static bool is_word(const char *s, const char *word)
{
    for (; *word != '\0'; s++, word++) {
        if ((*s | 0x20) != *word) {
            return false;
        }
    }
    return *s == '\0';
}

/* Digits with single underscores between them, copied without; true when there was one. */
static bool copy_digits(const char **s, char **to)
{
    bool any = false;
    for (;; (*s)++) {
        if (**s == '_' && any && (*s)[1] >= '0' && (*s)[1] <= '9') {
            continue;
        }
        if (**s < '0' || **s > '9') {
            return any;
        }
        *(*to)++ = **s;
        any = true;
    }
}

bool jtext_to_real(struct jvalue text, double *out)
{
    char raw[REAL_TEXT_MAX];
    char clean[REAL_TEXT_MAX];
    size_t begin;
    size_t end;
    ju_strip(text.as.text, text.len, true, true, &begin, &end);
    if (end - begin >= sizeof raw || end == begin ||
        memchr(text.as.text + begin, '\0', end - begin) != NULL) {
        return false;
    }
    memcpy(raw, text.as.text + begin, end - begin);
    raw[end - begin] = '\0';
    const char *s = raw;
    char *to = clean;
    bool negative = *s == '-';
    s += *s == '-' || *s == '+';
    if (is_word(s, "inf") || is_word(s, "infinity") || is_word(s, "nan")) {
        *out = (*s | 0x20) == 'n' ? NAN : negative ? -INFINITY : INFINITY;
        return true;
    }
    bool digits = copy_digits(&s, &to);
    if (*s == '.') {
        *to++ = *s++;
        digits = copy_digits(&s, &to) || digits;
    }
    if (!digits) {
        return false;
    }
    if ((*s | 0x20) == 'e') {
        *to++ = *s++;
        if (*s == '-' || *s == '+') {
            *to++ = *s++;
        }
        if (!copy_digits(&s, &to)) {
            return false;
        }
    }
    *to = '\0';
    *out = strtod(clean, NULL);
    *out = negative ? -*out : *out;
    return *s == '\0';
}

/* Half to even on the exact decimal value, which is what printf gives. */
double jreal_round(double value, int64_t digits)
{
    char text[2 * ROUND_DIGITS_MAX + 32];
    if (!isfinite(value) || digits > ROUND_DIGITS_MAX) {
        return value;
    }
    if (digits >= 0) {
        (void)snprintf(text, sizeof text, "%.*f", (int)digits, value);
        return strtod(text, NULL);
    }
    if (digits < -ROUND_DIGITS_MAX) {
        return copysign(0.0, value);
    }
    double scale = pow(10.0, (double)-digits);
    double scaled = value / scale;
    double rounded = round(scaled);
    if (fabs(scaled - rounded) == 0.5) {
        rounded = 2.0 * round(scaled / 2.0);
    }
    return rounded * scale;
}
