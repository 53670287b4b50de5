/* Ollama's protocol: lines of JSON, durations in nanoseconds, names with tags.
 *
 *   ollama_request.c   options, keep_alive, what is refused
 *   ollama_generate.c  POST /api/generate and /api/chat
 *   ollama_models.c    what there is, is loaded, is deleted
 *   ollama_show.c      one of them in detail
 *   ollama_blobs.c     files that are sent for new models
 *   ollama_create.c    new models: of files that were sent, of other models
 *   ollama_draft.c     the texts and parameters that a new model is given
 *   ollama_pull.c      POST /api/pull
 */
#ifndef API_OLLAMA_H
#define API_OLLAMA_H

#include "api/generation.h"
#include "api/members.h"
#include "api/names.h"
#include "api/support.h"
#include "registry/presets.h"

struct ollama_request {
    const char *model; /* as the client named it */
    bool stream;
    bool has_keep_alive;
    int64_t keep_alive_ms;
    int num_ctx; /* 0: not given */
    struct infer_sampling sampling;
};

/* Settings of sampling, over what is there; *num_ctx where it is given. */
int ollama_options_read(const json_t *options, struct infer_sampling *sampling, int *num_ctx,
                        struct err *err) MUST_CHECK;
/* ERR_INVALID naming `field` when text is a template of Go's, as Ollama's are. */
int ollama_refuse_go(const char *field, const char *text, struct err *err) MUST_CHECK;
/* The most tokens that a session over these weights has; ERR_INVALID when num_ctx wants more. */
int ollama_check_context(const struct hub *hub, const struct resolved_model *model, int num_ctx,
                         struct err *err) MUST_CHECK;
/* Members that generate and chat share. */
int ollama_request_read(const json_t *body, struct ollama_request *out, struct err *err) MUST_CHECK;
/* Whether what is too long is cut: as the body says, and else where num_ctx, of the request or of
 * its model, says what too long is. What the model's own context does not hold is refused. */
bool ollama_truncates(const json_t *body, int num_ctx);
/* Opens the model's base, if it is not open; it stays for as long as the spec says. */
int ollama_load(struct hub *hub, const struct infer_spec *spec, struct err *err) MUST_CHECK;
/* keep_alive: seconds, or a duration like "5m"; negative for ever. */
int ollama_keep_alive(const json_t *body, bool *given, int64_t *ms, struct err *err) MUST_CHECK;
/* `x:latest` is x, when that is what is registered. In the arena; NULL for lack of memory. */
char *ollama_without_latest(const char *name, struct arena *arena);
/* `model`, or `name` of old clients; ERR_UNPROCESSABLE when there is neither. */
int ollama_model_name(const json_t *body, const char **out, struct err *err) MUST_CHECK;

/* --- ollama_models.c --- */
/* The checked body and its model; *name NULL with 0: the answer was given. */
int ollama_read_name(struct http_request *request, struct http_response *response,
                     const json_t **body, const char **name, struct err *err) MUST_CHECK;
/* Members that lists and details share. */
void ollama_put_details(const struct model_name *name, struct json_out *out);
void ollama_put_capabilities(const struct model_name *name, struct json_out *out);

/* --- ollama_blobs.c --- */
/* Where the file of "sha256:<hex>" lies, which was sent. ERR_INVALID. */
int ollama_blob_find(struct hub *hub, const char *digest, char path[FS_PATH_BYTES_MAX],
                     struct err *err) MUST_CHECK;
/* It was used: what was made of it has its own copy. */
void ollama_blob_forget(const char *path);

/* --- ollama_draft.c --- */
/* Fills in what the body gives: system, template, license, parameters, messages, checked; texts in
 * the arena. *given: there is any. *num_ctx: as among the parameters, or 0. */
int ollama_draft_read(struct hub *hub, const json_t *body, struct arena *arena,
                      struct preset_draft *draft, bool *given, int *num_ctx,
                      struct err *err) MUST_CHECK;
/* What the draft does not say it has from the preset that it is made of: parameters one by one,
 * licenses besides its own. */
int ollama_draft_inherit(struct preset_draft *draft, const struct preset_row *from,
                         struct arena *arena, struct err *err) MUST_CHECK;

#endif
