/* Members of clients' bodies that mean the same in several protocols, under whatever name.
 *
 * An absent or null member leaves what is there. Errors are ERR_UNPROCESSABLE naming the member,
 * ERR_INVALID for one that is known and not supported; styles without 422 make both a 400.
 */
#ifndef API_MEMBERS_H
#define API_MEMBERS_H

#include "base/json.h"
#include "base/mem.h"
#include "infer/infer.h"

int member_int(const json_t *body, const char *name, int *out, struct err *err) MUST_CHECK;
int member_float(const json_t *body, const char *name, float *out, struct err *err) MUST_CHECK;
int member_bool(const json_t *body, const char *name, bool *out, struct err *err) MUST_CHECK;
/* A count of tokens where -1 (and -2) mean as many as fit. */
int member_tokens(const json_t *body, const char *name, int *out, struct err *err) MUST_CHECK;
/* Any 64-bit number; -1 means "pick one", as llama.cpp and Ollama have it. */
int member_seed(const json_t *body, const char *name, struct infer_sampling *sampling,
                struct err *err) MUST_CHECK;
/* One text or a list of them. */
int member_stops(const json_t *body, const char *name, struct infer_sampling *sampling,
                 struct err *err) MUST_CHECK;
/* {"id": bias} or [[id, bias | false]]. */
int member_bias(const json_t *body, const char *name, struct infer_sampling *sampling,
                struct err *err) MUST_CHECK;

/* Variables of the template, from chat_template_kwargs and reasoning_effort. json_decref; *out
 * NULL: none. */
int member_kwargs(const json_t *body, json_t **out, struct err *err) MUST_CHECK;

/* A member that clients know and the hub does not serve. Passes when it is absent, null, false, 0,
 * empty, or the text `neutral` is its JSON. */
struct member_unsupported {
    const char *name;
    const char *neutral; /* or NULL */
};
int members_refuse(const json_t *body, const struct member_unsupported *rows, size_t n,
                   struct err *err) MUST_CHECK;

/* Messages as templates want them: `content` one text (parts of type text are joined), `arguments`
 * of earlier calls objects, role developer called system. json_decref. Other kinds of parts and
 * images are ERR_INVALID naming the message. NULL on error. */
json_t *messages_normal(const json_t *messages, struct err *err) MUST_CHECK;

/* What an answer must follow, as grammar_new takes it (json_decref), from a JSON schema, or from
 * true for any object. NULL for lack of memory. */
json_t *grammar_of_schema(json_t *schema, struct err *err) MUST_CHECK;
/* From tools, of which `name` (NULL: any) must be called, once or, where `parallel`, any number of
 * times. ERR_INVALID when there is none of that name. */
json_t *grammar_of_tools(const json_t *tools, const char *name, bool parallel,
                         struct err *err) MUST_CHECK;

#endif
