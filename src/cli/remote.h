/* A hub over HTTP: requests with a JSON answer, streams of events, uploads. One thread's at a time.
 */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/http_client.h"
#include "base/settings.h"

enum {
    REMOTE_URL_BYTES = 320,
    REMOTE_PATH_BYTES = 4096,
    REMOTE_PROBE_MS = 2000,          /* a hub that runs answers /health well within this */
    REMOTE_IDLE_SECONDS = 600,       /* a stream without a byte */
    REMOTE_ANSWER_BYTES = 256 << 20, /* lists, logs, series */
    REMOTE_WARNING_BYTES = 768,
};

struct remote {
    struct http_client *http;
    char url[REMOTE_URL_BYTES];         /* "http://127.0.0.1:8000" */
    char key[512];                      /* API_KEY, or "" */
    char warning[REMOTE_WARNING_BYTES]; /* of the last answer that had one, as a sentence; or "" */
};

/* host: as HOST is set; an address that means "all" is reached over loopback. */
int remote_init(struct remote *remote, const char *host, int port, const char *api_key,
                struct err *err) MUST_CHECK;
void remote_release(struct remote *remote); /* safe on a zeroed struct */

/* Whether a hub answers there: its /health does, in whatever state. A hub returns the request's id;
 * another program that happens to have a /health does not. */
bool remote_answers(struct remote *remote);
/* The hub that HOST and PORT name. *found false: none answers there, or PORT is 0; then there is
 * nothing to release. */
int remote_find(struct remote *remote, const struct settings *settings, bool *found,
                struct err *err) MUST_CHECK;

/* One request; body may be NULL. *answer (may be NULL) is the caller's tree, NULL for an empty
 * answer. A status that is no 2xx is an error with the server's sentence; Ctrl-C is
 * ERR_CANCELLED. */
int remote_call(struct remote *remote, const char *method, const char *path, const json_t *body,
                json_t **answer, struct err *err) MUST_CHECK;
/* The answer's body as it is. */
int remote_text(struct remote *remote, const char *path, struct buf *out,
                struct err *err) MUST_CHECK;
/* A file as the body. */
int remote_upload(struct remote *remote, const char *path, const char *file, json_t **answer,
                  struct err *err) MUST_CHECK;

/* Each event of an SSE answer but OpenAI's closing "[DONE]"; data is borrowed for the call. A
 * negative code ends the stream with that code. */
typedef int (*remote_event_fn)(void *ctx, const char *event, const json_t *data, struct err *err);
/* GET, or POST when there is a body. */
int remote_stream(struct remote *remote, const char *path, const json_t *body,
                  remote_event_fn on_event, void *ctx, struct err *err) MUST_CHECK;

/* All rows of a list that comes in pages ({items, total} or a bare array); path without a query or
 * with one. The caller's array. */
int remote_list(struct remote *remote, const char *path, json_t **rows, struct err *err) MUST_CHECK;

#endif
