/* What api/tool_calls looks for in a text: tags, the head of a call up to its arguments, the end of
 * an object. Functions of bytes alone; no NUL ends a text. */
#ifndef API_TOOL_HEAD_H
#define API_TOOL_HEAD_H

#include <stdbool.h>
#include <stddef.h>

#define TOOL_SPACE " \t\r\n"

bool tool_is_space(char c);
/* 0 for NULL. */
size_t tool_tag_bytes(const char *tag);
/* How many bytes of the tag the text begins with: all of it, or all that there is of the text, or
 * none. */
size_t tool_tag_prefix(const char *text, size_t n, const char *tag);

/* The text was it, ended before it was known, is something else. */
enum tool_head_kind { TOOL_HEAD_WHOLE, TOOL_HEAD_CUT, TOOL_HEAD_OTHER };

struct tool_head {
    const char *name; /* in the text */
    size_t name_bytes;
    size_t bytes; /* of all that stands before the arguments' brace */
};

/* {"name": "f", "arguments": { with a name that has no escapes and any white space; or
 * "parameters". bare: f{ or f[ARGS]{ or f[CALL_ID]id[ARGS]{, *head is set with TOOL_HEAD_WHOLE. */
enum tool_head_kind tool_head_read(const char *text, size_t n, bool bare, struct tool_head *head);

/* Where in an object the text is; zeroed: before its brace. */
struct brace_scan {
    size_t depth;
    bool quoted, escaped;
};

/* Whether this byte ends the object. Braces in strings are none. */
bool brace_scan_byte(struct brace_scan *scan, char c);
/* Of the object that text begins with; 0 while it is open. */
size_t tool_object_bytes(const char *text, size_t n);

#endif
