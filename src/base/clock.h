/* Time: wall clock for people, monotonic for durations, ISO 8601 for both ends of the wire. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#include "base/err.h"

enum { CLOCK_ISO_BYTES = 32 };

int64_t clock_wall_us(void);      /* µs since 1970 UTC; MLX_HUB_NOW_US in tests overrides */
void clock_freeze_us(int64_t us); /* for tests: the wall clock stands at us; 0 lets it go */
int64_t clock_monotonic_ns(void); /* only differences mean anything; stops while asleep */
/* "2026-01-31T12:00:00.123456Z" */
void clock_format_iso(int64_t wall_us, char out[CLOCK_ISO_BYTES]);
/* RFC 3339; the zone (Z or an offset) is required, digits after the sixth of a second are dropped.
 * ERR_INVALID quoting the text. */
int clock_parse_iso(const char *text, int64_t *wall_us, struct err *err) MUST_CHECK;
/* "300" (seconds), "500ms", "5m", "1h30m"; anything negative gives -1, for ever. ERR_INVALID. At
 * most ten years. */
int clock_parse_duration(const char *text, int64_t *ms, struct err *err) MUST_CHECK;
void clock_sleep_ms(int ms);

#endif
