/* Tools where a chat template does not know of them. */
#ifndef INFER_PROMPT_TOOLS_H
#define INFER_PROMPT_TOOLS_H

#include <jansson.h>

#include "base/err.h"

/* How a model with this template writes calls: "hermes" (<tool_call> around JSON) or "llama3" (bare
 * JSON); NULL when there are no tools. Static. */
const char *tools_format(const char *source, const json_t *tools);
/* Messages that say in plain text what `source` would leave out: the tools in the system's message,
 * earlier calls in their author's. *out (json_decref) stays NULL when the template does it all. */
int tools_tell(const char *source, const json_t *messages, const json_t *tools, json_t **out,
               struct err *err) MUST_CHECK;

#endif
