/* strftime over the pinned date at midnight, in the C locale, whatever the process's is. */
#include <stdio.h>
#include <string.h>

#include "text/jinja_eval.h"

static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                   "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int year, int month)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return lengths[month - 1] + (month == 2 && is_leap(year));
}

static int day_of_year(const struct jdate *d)
{
    int day = d->day;
    for (int m = 1; m < d->month; m++) {
        day += days_in_month(d->year, m);
    }
    return day;
}

/* 0 = Sunday; Sakamoto's method. */
static int day_of_week(const struct jdate *d)
{
    static const int shift[] = {0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4};
    int y = d->year - (d->month < 3);
    return (y + y / 4 - y / 100 + y / 400 + shift[d->month - 1] + d->day) % 7;
}

bool jdate_parse(const char *text, struct jdate *out)
{
    int part[3] = {0};
    static const int widths[] = {4, 2, 2};
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < widths[i]; k++, text++) {
            if (*text < '0' || *text > '9') {
                return false;
            }
            part[i] = part[i] * 10 + (*text - '0');
        }
        if (*text != (i < 2 ? '-' : '\0')) {
            return false;
        }
        text += i < 2;
    }
    if (part[0] < 1 || part[1] < 1 || part[1] > 12 || part[2] < 1 ||
        part[2] > days_in_month(part[0], part[1])) {
        return false;
    }
    *out = (struct jdate){.set = true, .year = part[0], .month = part[1], .day = part[2]};
    return true;
}

/* A number in `width` places; `bare` is glibc's "%-d". */
static void put_number(struct jinja *j, int value, int width, char pad, bool bare)
{
    if (bare) {
        buf_printf(&j->scratch, "%d", value);
    } else {
        buf_printf(&j->scratch, pad == ' ' ? "%*d" : "%0*d", width, value);
    }
}

/* One directive; false when it is not known. */
static bool put_directive(struct jinja *j, const struct jdate *d, char c, bool bare)
{
    int weekday = day_of_week(d);
    int year_day = day_of_year(d);
    switch (c) {
    case 'Y':
        put_number(j, d->year, 1, '0', bare);
        return true;
    case 'y':
        put_number(j, d->year % 100, 2, '0', bare);
        return true;
    case 'm':
        put_number(j, d->month, 2, '0', bare);
        return true;
    case 'd':
        put_number(j, d->day, 2, '0', bare);
        return true;
    case 'e':
        put_number(j, d->day, 2, ' ', bare);
        return true;
    case 'j':
        put_number(j, year_day, 3, '0', bare);
        return true;
    case 'H':
    case 'M':
    case 'S':
        put_number(j, 0, 2, '0', bare);
        return true;
    case 'I':
        put_number(j, 12, 2, '0', bare);
        return true;
    case 'u':
        put_number(j, weekday == 0 ? 7 : weekday, 1, '0', bare);
        return true;
    case 'w':
        put_number(j, weekday, 1, '0', bare);
        return true;
    case 'U':
        put_number(j, (year_day + 6 - weekday) / 7, 2, '0', bare);
        return true;
    case 'W':
        put_number(j, (year_day + 6 - (weekday + 6) % 7) / 7, 2, '0', bare);
        return true;
    default:
        return false;
    }
}

static bool put_words(struct jinja *j, const struct jdate *d, char c)
{
    const char *day = days[day_of_week(d)];
    const char *month = months[d->month - 1];
    switch (c) {
    case 'a':
        buf_append(&j->scratch, day, 3);
        return true;
    case 'A':
        buf_puts(&j->scratch, day);
        return true;
    case 'b':
    case 'h':
        buf_append(&j->scratch, month, 3);
        return true;
    case 'B':
        buf_puts(&j->scratch, month);
        return true;
    case 'p':
        buf_puts(&j->scratch, "AM");
        return true;
    case 'f':
        buf_puts(&j->scratch, "000000");
        return true;
    case 'F':
        buf_printf(&j->scratch, "%d-%02d-%02d", d->year, d->month, d->day);
        return true;
    case 'D':
    case 'x':
        buf_printf(&j->scratch, "%02d/%02d/%02d", d->month, d->day, d->year % 100);
        return true;
    case 'T':
    case 'X':
        buf_puts(&j->scratch, "00:00:00");
        return true;
    case 'R':
        buf_puts(&j->scratch, "00:00");
        return true;
    case 'c':
        buf_printf(&j->scratch, "%.3s %.3s %2d 00:00:00 %d", day, month, d->day, d->year);
        return true;
    case 'z': /* a time without a zone: Python prints nothing */
    case 'Z':
        return true;
    case 'n':
    case 't':
        buf_putc(&j->scratch, c == 'n' ? '\n' : '\t');
        return true;
    case '%':
        buf_putc(&j->scratch, '%');
        return true;
    default:
        return false;
    }
}

int jdate_format(struct jinja *j, const struct jdate *d, struct jvalue format)
{
    for (uint32_t i = 0; i < format.len; i++) {
        if (format.as.text[i] != '%') {
            buf_putc(&j->scratch, format.as.text[i]);
            continue;
        }
        bool bare = i + 1 < format.len && format.as.text[i + 1] == '-';
        i += 1 + bare;
        char c = i < format.len ? format.as.text[i] : '\0';
        if (!put_directive(j, d, c, bare) && !put_words(j, d, c)) {
            return jinja_fail(j, ERR_UNSUPPORTED, "strftime_now: %%%c is not supported",
                              c > ' ' && c < 127 ? c : '?');
        }
    }
    return jtext_check(j);
}
