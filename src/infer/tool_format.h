/* How families of models write calls of tools: one table for what they are told of earlier calls,
 * what a forced answer must follow and what is looked for in an answer.
 *
 *   hermes        <tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>: Qwen, SmolLM, Granite 4
 *   llama3        {"name": …, "parameters": {…}}, one only
 *   mistral       [TOOL_CALLS][{"name": …, "arguments": {…}}, …] up to the end: v3, Nemo
 *   mistral_args  [TOOL_CALLS]name[ARGS]{…}[TOOL_CALLS]…: Small 3.2, Devstral
 *   granite       <|tool_call|>[{"name": …, "arguments": {…}}, …] up to the end: Granite 3
 */
#ifndef INFER_TOOL_FORMAT_H
#define INFER_TOOL_FORMAT_H

#include <stdbool.h>

enum { TOOL_FORMAT_TOKENS_MAX = 3 };

struct tool_format {
    const char *name;
    const char *open, *close; /* tags around calls; NULL: none */
    /* A text of two calls: begin, call_begin NAME middle ARGUMENTS call_end, between, the second,
     * end. `between` is NULL where there is one call only. */
    const char *begin, *call_begin, *middle, *call_end, *between, *end;
    bool bare_name; /* it stands there as it is, and no object is around name and arguments */
    bool short_ids; /* templates refuse ids of calls that are not nine letters and digits */
    /* Tokens that may be special and yet belong to an answer's text. */
    const char *tokens[TOOL_FORMAT_TOKENS_MAX];
};

/* NULL, or a name that is none: hermes. Static. */
const struct tool_format *tool_format_named(const char *name);
/* What a chat template writes. */
const struct tool_format *tool_format_of_template(const char *source);

#endif
