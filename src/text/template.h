/* Chat templates: from messages to the exact text a model was trained on.
 *
 * A template is Jinja2 source as Hugging Face's chat templates use it, run by our own interpreter
 * with the semantics of transformers' apply_chat_template: trim_blocks and lstrip_blocks on, an
 * immutable sandbox, loop controls, {% generation %}, its own tojson, raise_exception and
 * strftime_now. The text that comes out is byte-equal to jinja2's.
 *
 * What a template can reach is the values handed to it and nothing else: no files, no clock, no
 * random numbers, no inheritance or includes, no mutation of what it was given. What it can spend
 * is bounded by the limits below, so a hostile template costs a bounded time and memory and ends
 * in an error, never in a crash.
 *
 * Errors. Bad syntax and a construct of Jinja2 that this interpreter does not run are found by
 * template_new (ERR_INVALID, ERR_UNSUPPORTED), so they are found at import. Rendering fails with
 * ERR_INVALID (raise_exception, undefined values, wrong types, bad input), ERR_TOO_LARGE (a limit)
 * or ERR_NOMEM. A message starts with "template line N: " where the template is at fault and names
 * "messages[i]" where one of the messages is.
 *
 * Threads. A template is immutable after template_new: any number of threads may render it at
 * once. A render keeps everything in memory of its own, released before it returns, and needs no
 * more than 512 KiB of stack.
 */
#ifndef TEXT_TEMPLATE_H
#define TEXT_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum {
    TEMPLATE_SOURCE_BYTES_MAX = 1 << 20,  /* of a template's source */
    TEMPLATE_STEPS_MAX = 10000000,        /* nodes evaluated, items looped over, 64 bytes moved */
    TEMPLATE_OUTPUT_BYTES_MAX = 16 << 20, /* of text under construction, so of the output too */
    TEMPLATE_DEPTH_MAX = 200,             /* nesting of source, of values, and of macro calls */
    TEMPLATE_MEMORY_BYTES_MAX = 128 << 20 /* of values made during one render */
};

struct template;

/* What a template sees. Every pointer is borrowed for the call; NULL means "not given". */
struct template_input {
    const json_t *messages; /* array of objects, each with a string "role"; required */
    const json_t *tools;    /* array of objects; the template sees none when NULL */
    bool add_generation_prompt;
    const char *bos_token; /* undefined in the template when NULL */
    const char *eos_token;
    const char *date;    /* "YYYY-MM-DD" that strftime_now tells, at midnight; when NULL the
                            function is undefined. The real clock is never read. */
    const json_t *extra; /* object: further variables (chat_template_kwargs); may set any name but
                            messages, tools and add_generation_prompt */
    bool fill_calls; /* a message that only calls tools has no content, as OpenAI writes it: where
                        a template that knows calls cannot do without (jinja2 fails), render it
                        with "" */
};

/* Compiles `length` bytes of UTF-8 source, which are copied. 0 and *out, or a negative code. */
int template_new(const char *source, size_t length, struct template **out,
                 struct err *err) MUST_CHECK;
void template_free(struct template *t);

/* The source as it was handed in (it is recorded with a version). Borrowed; NUL-terminated. */
const char *template_source(const struct template *t, size_t *length);

/* Renders into `out`, appending. On failure nothing is appended.
 * As transformers does, a message's reasoning is offered under reasoning_content and thinking,
 * whichever of reasoning_content, thinking and reasoning it came as. */
int template_render(const struct template *t, const struct template_input *input, struct buf *out,
                    struct err *err) MUST_CHECK;

/* Source of the template for a model that has none: per message "<|role|>\ncontent\n", and
 * "<|assistant|>\n" where a generation prompt is asked for. */
extern const char template_plain[];

#endif
