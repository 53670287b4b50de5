/* Calls of tools in a model's text, found while it streams, written as its family writes them
 * (infer/tool_format.h) or nearly so: a list between any tags or none, several bare objects, more
 * members than asked for.
 *
 * Text goes on at once unless it may be the beginning of a call. What turns out not to be a call,
 * or is cut off before its arguments, is text.
 *
 * Where a name is followed by its arguments' opening brace, there is no way back: the call is told,
 * its arguments follow piece by piece as the model writes them, and they are whatever stands there
 * up to the closing brace, the closing tag or the end of the answer, valid JSON or not. A call
 * that is written in another order is told when it is whole. Owned by one thread.
 */
#ifndef API_TOOL_CALLS_H
#define API_TOOL_CALLS_H

#include <stdbool.h>
#include <stddef.h>

#include "api/tool_head.h"
#include "base/buf.h"
#include "infer/tool_format.h"

/* More calls are left out, longer arguments cut off. */
enum { TOOL_CALLS_MAX = 64, TOOL_CALL_BYTES_MAX = 1 << 20 };

/* A call is call, any number of arguments, call_end; all but text may be NULL. Texts are borrowed.
 */
struct tool_events {
    void (*text)(void *ctx, const char *text, size_t n);
    void (*call)(void *ctx, int index, const char *name);
    void (*arguments)(void *ctx, int index, const char *text, size_t n);
    /* arguments: all its pieces together. */
    void (*call_end)(void *ctx, int index, const char *name, const char *arguments);
    void *ctx;
};

enum tool_place {
    TOOLS_OUTSIDE,
    TOOLS_BEFORE,
    TOOLS_ARGUMENTS,
    TOOLS_BEHIND,
    TOOLS_REST,
    TOOLS_OVER
};

struct tool_parser {
    const struct tool_format *format; /* init: hermes; another one before the first push */
    bool cut;                         /* the answer ended within the last call's arguments */
    int n_calls;
    /* tool_calls.c's */
    enum tool_place place;
    bool tagged; /* `held` begins with the opening tag: nothing since was a call */
    bool bare;   /* no object is around the last call's name and arguments */
    struct brace_scan scan;
    struct buf held, name, arguments;
};

void tool_parser_init(struct tool_parser *parser);
void tool_parser_release(struct tool_parser *parser);
void tool_parser_push(struct tool_parser *parser, const char *text, size_t n,
                      const struct tool_events *events);
/* The end of the answer. */
void tool_parser_end(struct tool_parser *parser, const struct tool_events *events);

#endif
