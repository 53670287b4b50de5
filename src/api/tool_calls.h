/* Calls of tools in a model's text, found while it streams.
 *
 *   hermes   <tool_call>{"name": …, "arguments": {…}}</tool_call>, a list of them between the tags
 *            too (Qwen, SmolLM2)
 *   llama3   the answer is one or more bare objects {"name": …, "parameters": {…}}
 *
 * Text goes on at once unless it may be the beginning of a call. What turns out not to be a call,
 * or is cut off in the middle, is text. Owned by one thread.
 */
#ifndef API_TOOL_CALLS_H
#define API_TOOL_CALLS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"

enum { TOOL_CALLS_MAX = 64, TOOL_CALL_BYTES_MAX = 1 << 20 };

struct tool_events {
    void (*text)(void *ctx, const char *text, size_t n);
    /* arguments is borrowed: an object. */
    void (*call)(void *ctx, int index, const char *name, const json_t *arguments);
    void *ctx;
};

struct tool_parser {
    bool llama3;
    bool inside; /* hermes: after an opening tag */
    bool plain;  /* nothing is looked for any more */
    int n_calls;
    struct buf held;
};

void tool_parser_init(struct tool_parser *parser, bool llama3);
void tool_parser_release(struct tool_parser *parser);
void tool_parser_push(struct tool_parser *parser, const char *text, size_t n,
                      const struct tool_events *events);
/* The end of the answer. */
void tool_parser_end(struct tool_parser *parser, const struct tool_events *events);

#endif
