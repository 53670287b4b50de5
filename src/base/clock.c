/* How it works. Plain clock_gettime, and dates through gmtime_r/timegm, which know no time zone.
 * The monotonic clock is the one that stands still while the machine sleeps: CLOCK_MONOTONIC does
 * on Linux and goes on under macOS. MLX_HUB_NOW_US is read once, at the first question for the wall
 * clock.
 */
#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef __APPLE__
#define AWAKE_CLOCK CLOCK_UPTIME_RAW
#else
#define AWAKE_CLOCK CLOCK_MONOTONIC
#endif

enum { US_PER_SECOND = 1000000, NS_PER_US = 1000 };

static const int64_t ISO_SECONDS_MIN = -62135596800; /* 0001-01-01T00:00:00Z */
static const int64_t ISO_SECONDS_MAX = 253402300799; /* 9999-12-31T23:59:59Z */
static const int64_t DURATION_MS_MAX = INT64_C(1000) * 60 * 60 * 24 * 3650;

static _Atomic(int64_t) frozen_us; /* 0 = the real clock */

static void read_override(void)
{
    const char *text = getenv("MLX_HUB_NOW_US");
    if (!text || !*text)
        return;
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno == 0 && *end == '\0')
        atomic_store(&frozen_us, value);
}

int64_t clock_wall_us(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, read_override);
    int64_t frozen = atomic_load_explicit(&frozen_us, memory_order_relaxed);
    if (frozen)
        return frozen;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * US_PER_SECOND + now.tv_nsec / NS_PER_US;
}

void clock_freeze_us(int64_t wall_us)
{
    (void)clock_wall_us(); /* so that the environment cannot override later */
    atomic_store(&frozen_us, wall_us);
}

int64_t clock_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(AWAKE_CLOCK, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void clock_format_iso(int64_t wall_us, char out[CLOCK_ISO_BYTES])
{
    int64_t seconds = wall_us / US_PER_SECOND, us = wall_us % US_PER_SECOND;
    if (us < 0) {
        us += US_PER_SECOND;
        seconds--;
    }
    if (seconds < ISO_SECONDS_MIN)
        seconds = ISO_SECONDS_MIN;
    if (seconds > ISO_SECONDS_MAX)
        seconds = ISO_SECONDS_MAX;
    time_t when = (time_t)seconds;
    struct tm tm = {0};
    gmtime_r(&when, &tm);
    snprintf(out, CLOCK_ISO_BYTES, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ",
             (unsigned)(tm.tm_year + 1900) % 10000u, (unsigned)(tm.tm_mon + 1) % 100u,
             (unsigned)tm.tm_mday % 100u, (unsigned)tm.tm_hour % 100u, (unsigned)tm.tm_min % 100u,
             (unsigned)tm.tm_sec % 100u, (unsigned)us % US_PER_SECOND);
}

/* Reads exactly n digits and moves on. */
static bool take_digits(const char **at, int n, int *value)
{
    *value = 0;
    for (int i = 0; i < n; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return false;
        *value = *value * 10 + (**at - '0');
    }
    return true;
}

static bool take_char(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

static bool take_fraction(const char **at, int64_t *us)
{
    *us = 0;
    if (!take_char(at, '.'))
        return true;
    if (!isdigit((unsigned char)**at))
        return false;
    int64_t scale = US_PER_SECOND / 10;
    for (; isdigit((unsigned char)**at); (*at)++, scale /= 10)
        *us += (**at - '0') * scale;
    return true;
}

/* "Z" or "+hh:mm" or "-hh:mm", the end of the text. */
static bool take_zone(const char **at, int64_t *offset_seconds)
{
    *offset_seconds = 0;
    if (take_char(at, 'Z') || take_char(at, 'z'))
        return **at == '\0';
    int sign = **at == '-' ? -1 : 1, hours, minutes;
    if (!take_char(at, '+') && !take_char(at, '-'))
        return false;
    if (!take_digits(at, 2, &hours) || !take_char(at, ':') || !take_digits(at, 2, &minutes))
        return false;
    *offset_seconds = sign * (hours * 3600 + minutes * 60);
    return hours < 24 && minutes < 60 && **at == '\0';
}

static bool real_date(const struct tm *tm)
{
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = tm->tm_year + 1900;
    if (tm->tm_mon < 0 || tm->tm_mon > 11 || tm->tm_mday < 1 || year < 1)
        return false;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    int days = DAYS[tm->tm_mon] + (tm->tm_mon == 1 && leap);
    return tm->tm_mday <= days && tm->tm_hour < 24 && tm->tm_min < 60 && tm->tm_sec < 60;
}

int clock_parse_iso(const char *text, int64_t *wall_us, struct err *err)
{
    const char *at = text;
    struct tm tm = {0};
    int64_t us = 0, offset = 0;
    bool ok = take_digits(&at, 4, &tm.tm_year) && take_char(&at, '-') &&
              take_digits(&at, 2, &tm.tm_mon) && take_char(&at, '-') &&
              take_digits(&at, 2, &tm.tm_mday) &&
              (take_char(&at, 'T') || take_char(&at, 't') || take_char(&at, ' ')) &&
              take_digits(&at, 2, &tm.tm_hour) && take_char(&at, ':') &&
              take_digits(&at, 2, &tm.tm_min) && take_char(&at, ':') &&
              take_digits(&at, 2, &tm.tm_sec) && take_fraction(&at, &us) && take_zone(&at, &offset);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    if (!ok || !real_date(&tm))
        return err_set(err, ERR_INVALID,
                       "\"%.40s\" is not a time like 2026-01-31T12:00:00Z or …T12:00:00+01:00",
                       text);
    *wall_us = ((int64_t)timegm(&tm) - offset) * US_PER_SECOND + us;
    return 0;
}

static int64_t unit_ms(const char *unit, size_t length)
{
    static const struct {
        const char *name;
        int64_t ms;
    } UNITS[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++)
        if (strlen(UNITS[i].name) == length && strncmp(UNITS[i].name, unit, length) == 0)
            return UNITS[i].ms;
    return 0;
}

/* Sums "1h30m" into *ms; false on anything else. */
static bool sum_parts(const char *text, int64_t *ms)
{
    const char *at = text;
    *ms = 0;
    if (!*at)
        return false;
    while (*at) {
        int64_t value = 0;
        bool only = at == text; /* a bare number stands alone */
        if (!isdigit((unsigned char)*at))
            return false;
        for (; isdigit((unsigned char)*at); at++) {
            value = value * 10 + (*at - '0');
            if (value > DURATION_MS_MAX)
                return false;
        }
        size_t length = 0;
        while (isalpha((unsigned char)at[length]))
            length++;
        int64_t unit = length ? unit_ms(at, length) : only && !*at ? 1000 : 0;
        if (unit == 0 || value > DURATION_MS_MAX / unit)
            return false;
        *ms += value * unit;
        if (*ms > DURATION_MS_MAX)
            return false;
        at += length;
    }
    return true;
}

int clock_parse_duration(const char *text, int64_t *ms, struct err *err)
{
    bool negative = text[0] == '-';
    if (!sum_parts(text + negative, ms))
        return err_set(err, ERR_INVALID,
                       "\"%.40s\" is not a duration like 300, 5m or 1h30m; -1 means for ever",
                       text);
    if (negative && *ms != 0)
        *ms = -1;
    return 0;
}

void clock_sleep_ms(int ms)
{
    if (ms <= 0)
        return;
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}
