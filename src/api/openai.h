/* OpenAI's protocol as its SDKs and llama.cpp's clients speak it: what the files openai_*.c share.
 *
 *   openai_request.c   bodies: tables, sampling, what is refused
 *   openai_answer.c    what every answer and chunk begins and ends with
 *   openai_chat.c      POST /v1/chat/completions
 *   openai_completions.c  POST /v1/completions
 *   openai_logprobs.c  both shapes of log-probabilities
 *   openai_models.c    GET /v1/models
 */
#ifndef API_OPENAI_H
#define API_OPENAI_H

#include "api/generation.h"
#include "api/members.h"
#include "api/support.h"
#include "api/thinking.h"
#include "api/tool_calls.h"

enum { OPENAI_ID_BYTES = 40, OPENAI_CHOICES_MAX = GENERATION_CHOICES_MAX };

/* Rows that chat and completions share. Numbers may be null, and -1 where clients say so. */
#define OPENAI_COMMON_FIELDS                                                                       \
    {.name = "model",                                                                              \
     .kind = HTTP_STRING,                                                                          \
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,                                                 \
     .min = 1,                                                                                     \
     .max = 800},                                                                                  \
        {.name = "stream", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},                             \
        {.name = "max_tokens", .kind = HTTP_INT, .flags = HTTP_NULLABLE},                          \
        {.name = "temperature", .kind = HTTP_REAL, .flags = HTTP_NULLABLE},                        \
        {.name = "top_p", .kind = HTTP_REAL, .flags = HTTP_NULLABLE},                              \
        {.name = "top_k", .kind = HTTP_INT, .flags = HTTP_NULLABLE},                               \
        {.name = "min_p", .kind = HTTP_REAL, .flags = HTTP_NULLABLE},                              \
        {.name = "presence_penalty", .kind = HTTP_REAL, .flags = HTTP_NULLABLE},                   \
        {.name = "frequency_penalty", .kind = HTTP_REAL, .flags = HTTP_NULLABLE},                  \
        {.name = "repeat_penalty", .kind = HTTP_REAL, .flags = HTTP_NULLABLE},                     \
        {.name = "repeat_last_n", .kind = HTTP_INT, .flags = HTTP_NULLABLE},                       \
        {.name = "ignore_eos", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},                         \
        {.name = "seed", .kind = HTTP_INT, .flags = HTTP_NULLABLE},                                \
        {.name = "n", .kind = HTTP_INT, .flags = HTTP_NULLABLE},                                   \
        {.name = "stop", .kind = HTTP_ANY},                                                        \
    {                                                                                              \
        .name = "logit_bias", .kind = HTTP_ANY                                                     \
    }

struct openai_request {
    const json_t *body;
    bool stream, include_usage;
    bool echo;
    bool cold; /* cache_prompt false */
    int n;
    struct infer_sampling sampling;
};

/* What one answer names, and its choices' own state. */
struct openai_answer {
    char id[OPENAI_ID_BYTES];
    char model[GENERATION_NAME_BYTES * 2]; /* as the client named it */
    const char *chunk_object;              /* static */
    bool include_usage, logprobs, echo, tools, thinks;
    bool one_call; /* parallel_tool_calls false: later ones are left out */
};

struct openai_choice {
    struct tool_parser parser;
    struct think_parser thinking;
    struct buf thought; /* of a plain answer */
    struct buf calls;   /* plain answer: the members of tool_calls */
    /* legacy log-probabilities, members of four arrays */
    struct buf tokens, values, tops, offsets;
};

/* --- openai_request.c --- */
/* Everything but model, prompt and messages; `chat` says which names are used. */
int openai_request_read(const json_t *body, bool chat, struct openai_request *out,
                        struct err *err) MUST_CHECK;
/* The grammar of the schema that response_format or json_schema asks for (json_decref); *grammar
 * stays as it is when any text will do, and must be NULL when not. */
int openai_read_format(const json_t *body, json_t **grammar, struct err *err) MUST_CHECK;
int openai_find_model(struct hub *hub, const json_t *body, struct arena *arena,
                      struct resolved_model *model, struct infer_spec *spec,
                      struct err *err) MUST_CHECK;

/* --- openai_answer.c --- */
/* Makes the generation with its own states; prefix is that of ids. */
int openai_begin(struct generation **out, struct hub *hub, const struct resolved_model *model,
                 const struct answer_style *style, const struct openai_request *request,
                 const char *prefix, struct err *err) MUST_CHECK;
void openai_release(struct generation *g);
/* id, object, created, model, system_fingerprint: members of an open object. */
void openai_put_head(const struct generation *g, const char *object, struct json_out *out);
/* Appends usage and timings as members. */
void openai_put_usage(const struct generation *g, struct json_out *out);
/* The stream's last chunks: usage where asked for, then [DONE]. */
void openai_end_stream(struct generation *g);
void openai_fail_stream(struct generation *g, const struct err *failure);

/* --- openai_logprobs.c --- */
/* Appends one member of chat's logprobs.content to c->logprobs. */
void openai_add_chat_logprob(struct choice *c, const struct infer_token *token);
/* Adds a token to the legacy arrays. */
void openai_add_legacy_logprob(struct choice *c, const struct infer_token *token);
/* Writes what was added as the member `logprobs`, null when there is nothing, and forgets it. */
void openai_put_chat_logprobs(struct choice *c, struct json_out *out);
void openai_put_legacy_logprobs(struct choice *c, struct json_out *out);

#endif
