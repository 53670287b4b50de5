/* Ollama's protocol: lines of JSON, durations in nanoseconds, names with tags.
 *
 *   ollama_request.c   options, keep_alive, what is refused
 *   ollama_generate.c  POST /api/generate and /api/chat
 *   ollama_models.c    what there is, is loaded, is copied and deleted
 *   ollama_create.c    new models: of files that were sent, of other models
 *   ollama_pull.c      POST /api/pull
 */
#ifndef API_OLLAMA_H
#define API_OLLAMA_H

#include "api/generation.h"
#include "api/members.h"
#include "api/names.h"
#include "api/support.h"

struct ollama_request {
    const char *model; /* as the client named it */
    bool stream;
    bool has_keep_alive;
    int64_t keep_alive_ms;
    int num_ctx; /* 0: not given */
    struct infer_sampling sampling;
};

/* Members that generate and chat share. */
int ollama_request_read(const json_t *body, struct ollama_request *out, struct err *err) MUST_CHECK;
/* keep_alive: seconds, or a duration like "5m"; negative for ever. */
int ollama_keep_alive(const json_t *body, bool *given, int64_t *ms, struct err *err) MUST_CHECK;
/* `x:latest` is x, when that is what is registered. In the arena; NULL for lack of memory. */
char *ollama_without_latest(const char *name, struct arena *arena);
/* Registers `name` on the base of `from`. ERR_UNSUPPORTED for a trained version, which is not
 * copied. */
int ollama_second_name(struct hub *hub, struct http_request *request, const char *from,
                       const char *name, struct err *err) MUST_CHECK;
/* `model`, or `name` of old clients; ERR_UNPROCESSABLE when there is neither. */
int ollama_model_name(const json_t *body, const char **out, struct err *err) MUST_CHECK;

#endif
