/* Commands speak HTTP with a hub: the running one that the settings name or, where none runs, one
 * that this command hosts in its own process for as long as it takes. One mechanism, the same
 * answers.
 */
#ifndef CLI_HUB_H
#define CLI_HUB_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "cli/command.h"
#include "infer/infer.h"

struct hub; /* a connection to a hub, perhaps a hub of our own behind it */

/* Finds the hub at HOST:PORT of the settings (its /health must answer), else starts one in this
 * process on a free port over the same storage, with workers when the command needs them.
 * ERR_CONFLICT names the holder when another process has the storage and no server answers. */
int hub_open(struct hub **hub, const struct args *args, bool with_workers,
             struct err *err) MUST_CHECK;
void hub_close(struct hub *hub); /* NULL is fine; a hub of our own is drained and stopped */
bool hub_is_remote(const struct hub *hub);  /* a server that was running before */
const char *hub_url(const struct hub *hub); /* "http://127.0.0.1:8000" */

/* One request; body may be NULL. The answer's tree is the caller's (json_decref); *answer may be
 * NULL for 204. A status that is no 2xx is an error with the server's sentence. */
int hub_call(struct hub *hub, const char *method, const char *path, const json_t *body,
             json_t **answer, struct err *err) MUST_CHECK;
/* A stream: each event of an SSE answer; a negative code from on_event ends it with that code. */
int hub_stream(struct hub *hub, const char *method, const char *path, const json_t *body,
               int (*on_event)(void *ctx, const char *event, const json_t *data, struct err *err),
               void *ctx, struct err *err) MUST_CHECK;

/* What a MODEL argument means to generate, chat, tokenize and template: a path to weights (opened
 * in a child of this command; no storage, no server), else a name that the registry knows, read
 * from the storage. */
struct hub_model {
    struct infer_spec spec; /* base, adapter and template filled in; strings live in arena */
    struct arena arena;
};
int hub_find_model(struct hub_model *model, const struct args *args, const char *name,
                   struct err *err) MUST_CHECK;
void hub_model_release(struct hub_model *model); /* safe on a zeroed struct */

/* Ctrl-C asks a command to stop in an orderly way; a second one kills it. */
void hub_catch_interrupt(void);
bool hub_interrupted(void);

#endif
