/* How it works. A line is put together on the stack and written with one write(2), so lines of
 * several threads never mix. In JSON form the "key=value" text of the caller is taken apart again.
 *
 * 1. No control character reaches the output: they are written as escapes, so a value cannot forge
 *    a second line.
 * 2. The levels are set by log_init while the program has one thread, and only read afterwards.
 */
#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

enum { FIELDS_BYTES_MAX = 4096, LINE_BYTES_MAX = 16384, KEY_BYTES_MAX = 64, TRACE_BYTES_MAX = 80 };

static const char *const LEVEL_NAMES[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
static const char *const ROOMS[] = {"base",   "formats", "text",   "kernels",  "telemetry",
                                    "engine", "store",   "http",   "registry", "infer",
                                    "train",  "api",     "worker", "cli"};
enum { ROOM_COUNT = sizeof ROOMS / sizeof *ROOMS };

struct levels {
    enum log_level general;
    enum log_level room[ROOM_COUNT];
};

static struct levels levels = {.general = LOG_INFO,
                               .room = {LOG_INFO, LOG_INFO, LOG_INFO, LOG_INFO, LOG_INFO, LOG_INFO,
                                        LOG_INFO, LOG_INFO, LOG_INFO, LOG_INFO, LOG_INFO, LOG_INFO,
                                        LOG_INFO, LOG_INFO}};
static bool as_json;
static _Thread_local char trace[TRACE_BYTES_MAX];

/* --- levels ----------------------------------------------------------------------------------- */

static int room_index(const char *room, size_t length)
{
    for (int i = 0; i < ROOM_COUNT; i++)
        if (strlen(ROOMS[i]) == length && strncasecmp(ROOMS[i], room, length) == 0)
            return i;
    return -1;
}

static int level_index(const char *name, size_t length)
{
    for (int i = 0; i <= LOG_ERROR; i++)
        if (strlen(LEVEL_NAMES[i]) == length && strncasecmp(LEVEL_NAMES[i], name, length) == 0)
            return i;
    return -1;
}

/* One part of a spec, "LEVEL" or "room=LEVEL", into `to`. */
static bool parse_part(const char *part, size_t length, struct levels *to, bool set[ROOM_COUNT])
{
    const char *equals = memchr(part, '=', length);
    const char *name = equals ? equals + 1 : part;
    int level = level_index(name, length - (size_t)(name - part));
    if (level < 0)
        return false;
    if (!equals) {
        to->general = (enum log_level)level;
        return true;
    }
    int room = room_index(part, (size_t)(equals - part));
    if (room < 0)
        return false;
    to->room[room] = (enum log_level)level;
    set[room] = true;
    return true;
}

static int parse_spec(const char *spec, struct levels *to, struct err *err)
{
    bool set[ROOM_COUNT] = {false};
    to->general = LOG_INFO;
    for (const char *at = spec;;) {
        size_t length = strcspn(at, ",");
        if (!parse_part(at, length, to, set))
            return err_set(err, ERR_INVALID,
                           "log level \"%.*s\" is not DEBUG, INFO, WARNING or ERROR, or ROOM=LEVEL "
                           "with a room of src/",
                           (int)(length < 64 ? length : 64), at);
        if (at[length] == '\0')
            break;
        at += length + 1;
    }
    for (int i = 0; i < ROOM_COUNT; i++)
        if (!set[i])
            to->room[i] = to->general;
    return 0;
}

int log_check_spec(const char *spec, struct err *err)
{
    struct levels ignored = {0};
    return parse_spec(spec, &ignored, err);
}

int log_init(const char *spec, bool json, struct err *err)
{
    struct levels parsed = {0};
    int rc = parse_spec(spec, &parsed, err);
    if (rc != 0)
        return rc;
    levels = parsed;
    as_json = json;
    return 0;
}

bool log_enabled(const char *room, enum log_level level)
{
    int index = room_index(room, strlen(room));
    return level >= (index < 0 ? levels.general : levels.room[index]);
}

void log_set_trace(const char *trace_id)
{
    snprintf(trace, sizeof trace, "%s", trace_id ? trace_id : "");
}

/* --- one line --------------------------------------------------------------------------------- */

struct line {
    char text[LINE_BYTES_MAX];
    size_t length;
};

/* Room is kept for the closing brace and newline. */
static void put(struct line *line, const char *bytes, size_t n)
{
    size_t room = sizeof line->text - 3 - line->length;
    if (n > room)
        n = utf8_complete_prefix(bytes, room);
    memcpy(line->text + line->length, bytes, n);
    line->length += n;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Text with control characters escaped; in JSON also quotes and backslashes, and bad bytes. */
static void put_safe(struct line *line, const char *text, size_t length, bool json)
{
    for (size_t at = 0; at < length;) {
        uint32_t code_point = 0;
        size_t n = utf8_decode(text + at, length - at, &code_point);
        char escape[8];
        if (n == 0) {
            put_text(line, "\xEF\xBF\xBD");
            at++;
            continue;
        }
        if (code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0)) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)code_point);
            put_text(line, escape);
        } else {
            if (json && (code_point == '"' || code_point == '\\'))
                put(line, "\\", 1);
            put(line, text + at, n);
        }
        at += n;
    }
}

static void put_pair(struct line *line, const char *key, size_t key_length, const char *value,
                     size_t value_length)
{
    put(line, ",\"", 2);
    put_safe(line, key, key_length, true);
    put(line, "\":\"", 3);
    put_safe(line, value, value_length, true);
    put(line, "\"", 1);
}

static size_t key_length_at(const char *at)
{
    size_t n = 0;
    while (isalnum((unsigned char)at[n]) || at[n] == '_' || at[n] == '.' || at[n] == '-')
        n++;
    return n > 0 && n <= KEY_BYTES_MAX && at[n] == '=' ? n : 0;
}

/* "key=value key=\"a b\"" as JSON members; text that is no pair is gathered under "message". */
static void put_fields_json(struct line *line, const char *fields)
{
    const char *at = fields;
    while (*at == ' ')
        at++;
    while (*at) {
        size_t key = key_length_at(at);
        if (key == 0) {
            put_pair(line, "message", 7, at, strlen(at));
            return;
        }
        const char *value = at + key + 1;
        size_t length = strcspn(value, " "), skip = length;
        if (*value == '"') {
            size_t inside = 1;
            while (value[inside] && value[inside] != '"')
                inside++;
            skip = inside + (value[inside] == '"');
            value++;
            length = inside - 1;
            put_pair(line, at, key, value, length);
            at = value - 1 + skip;
        } else {
            put_pair(line, at, key, value, length);
            at = value + skip;
        }
        while (*at == ' ')
            at++;
    }
}

static void build_json(struct line *line, const char *when, enum log_level level, const char *room,
                       const char *event, const char *fields)
{
    put_text(line, "{\"time\":\"");
    put_text(line, when);
    put(line, "\"", 1);
    put_pair(line, "level", 5, LEVEL_NAMES[level], strlen(LEVEL_NAMES[level]));
    put_pair(line, "room", 4, room, strlen(room));
    put_pair(line, "event", 5, event, strlen(event));
    put_fields_json(line, fields);
    if (trace[0])
        put_pair(line, "trace_id", 8, trace, strlen(trace));
    line->text[line->length++] = '}';
}

static void build_human(struct line *line, const char *when, enum log_level level, const char *room,
                        const char *event, const char *fields)
{
    const char *parts[] = {when, LEVEL_NAMES[level], room, event};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (i)
            put(line, " ", 1);
        put_safe(line, parts[i], strlen(parts[i]), false);
    }
    if (fields[0]) {
        put(line, " ", 1);
        put_safe(line, fields, strlen(fields), false);
    }
    if (trace[0]) {
        put_text(line, " trace_id=");
        put_safe(line, trace, strlen(trace), false);
    }
}

void log_event(enum log_level level, const char *room, const char *event, const char *fmt, ...)
{
    if (!log_enabled(room, level))
        return;
    int saved = errno;
    char when[CLOCK_ISO_BYTES], fields[FIELDS_BYTES_MAX];
    struct line line;
    line.length = 0;
    clock_format_iso(clock_wall_us(), when);
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(fields, sizeof fields, fmt, args) < 0)
        fields[0] = '\0';
    va_end(args);
    fields[utf8_complete_prefix(fields, strlen(fields))] = '\0';
    if (as_json)
        build_json(&line, when, level, room, event, fields);
    else
        build_human(&line, when, level, room, event, fields);
    line.text[line.length++] = '\n';
    ssize_t put_bytes;
    do
        put_bytes = write(STDERR_FILENO, line.text, line.length);
    while (put_bytes < 0 && errno == EINTR);
    errno = saved;
}
