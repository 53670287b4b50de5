/* One structured line per event, on stderr: time, level, room, event, key=value …, trace id.
 *
 * Library rooms log through here and never print. Prompts and secrets stay out. Thread safe; a line
 * is written with one write(2). The format (human or json) and the level per room are set once at
 * start, while there is one thread. A line is cut near 4 KB of fields. Before log_init, lines of
 * level INFO and above go out in human form.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

/* spec: "INFO" or "INFO,store=DEBUG". ERR_INVALID naming the part that is wrong. */
int log_init(const char *spec, bool json, struct err *err) MUST_CHECK;
/* As log_init says of a spec, without setting anything. */
int log_check_spec(const char *spec, struct err *err) MUST_CHECK;
bool log_enabled(const char *room, enum log_level level);

/* room and event are short static names; fmt gives the rest as "key=value key=\"a b\"". */
void log_event(enum log_level level, const char *room, const char *event, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* The trace id put on every line this thread writes until cleared with NULL; copied. */
void log_set_trace(const char *trace_id);

#endif
