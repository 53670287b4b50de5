/* Time: wall clock for people, monotonic for durations, ISO 8601 for both ends of the wire. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#include "base/err.h"

enum { CLOCK_ISO_BYTES = 32 };

int64_t clock_wall_us(void);      /* µs since 1970 UTC; MLX_HUB_NOW_US in tests overrides */
int64_t clock_monotonic_ns(void); /* only differences mean anything; stops while asleep on macOS */
/* "2026-01-31T12:00:00.123456Z" */
void clock_format_iso(int64_t wall_us, char out[CLOCK_ISO_BYTES]);
int clock_parse_iso(const char *text, int64_t *wall_us, struct err *err) MUST_CHECK;
void clock_sleep_ms(int ms);

#endif
