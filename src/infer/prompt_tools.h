/* Tools where a chat template does not know of them. */
#ifndef INFER_PROMPT_TOOLS_H
#define INFER_PROMPT_TOOLS_H

#include <jansson.h>

#include "base/err.h"

/* Messages that say in plain text what `source` would leave out: the tools in the system's message,
 * earlier calls in their author's. *out (json_decref) stays NULL when the template does it all. */
int tools_tell(const char *source, const json_t *messages, const json_t *tools, json_t **out,
               struct err *err) MUST_CHECK;
/* Messages whose calls, and the answers to them, have ids that `source` takes: others, and those
 * that are missing, become numbers. *out (json_decref) stays NULL where any id will do. */
int tools_number(const char *source, const json_t *messages, json_t **out,
                 struct err *err) MUST_CHECK;

#endif
