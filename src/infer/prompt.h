/* From a request's text to prompt tokens: the template, then the tokenizer. Runs in the runner, on
 * the thread that reads frames; holds the compiled templates that recent requests used. */
#ifndef INFER_PROMPT_H
#define INFER_PROMPT_H

#include <jansson.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "infer/tool_format.h"
#include "text/template.h"
#include "text/tokenizer.h"

enum { PROMPT_TEMPLATES_MAX = 8 };

struct prompter {
    const struct engine_model *model;
    struct template *templates[PROMPT_TEMPLATES_MAX]; /* most recently used first */
};

void prompter_init(struct prompter *prompter, const struct engine_model *model);
void prompter_release(struct prompter *prompter);

/* The text that messages become: request {messages, tools?, template?, date?,
 * add_generation_prompt?, template_kwargs?}. Without a template of its own the model's is used, and
 * without that the plain one. A template that does not know of tools has them described in the
 * system message, and one that does not know of calls gets them as text. Appends to out. */
int prompter_render(struct prompter *prompter, const json_t *request, struct buf *out,
                    struct err *err) MUST_CHECK;
/* Appends the tokens of {prompt}, text or ids, or {messages …}. A bare prompt gets the tokens that
 * the model puts before a text; a rendered one is taken as it is, since templates write those
 * themselves. {context}, a list of ids, comes before; what follows it begins no text of its own. */
int prompter_tokens(struct prompter *prompter, const json_t *request, struct token_ids *out,
                    struct err *err) MUST_CHECK;

/* The same where the request says {truncate}, within the context or {context_tokens} if those are
 * fewer, with room for an answer of one token: the oldest messages are left out, up to one of the
 * user's, until the rest fits; system messages stay, and what begins with the user's last one. A
 * text to {embed} loses its end. What does not fit even so comes as it is, for the scheduler to
 * refuse if the context does not hold it. Where the request does not say {truncate}, ERR_INVALID
 * when it is too long for {context_tokens}. */
int prompter_fit(struct prompter *prompter, const json_t *request, struct token_ids *out,
                 struct err *err) MUST_CHECK;

/* How calls of tools are written in answers to this request, as its template says; NULL without
 * tools. Static. */
const struct tool_format *prompter_tool_format(const struct prompter *prompter,
                                               const json_t *request);

#endif
