/* One answer of a model, for generate and chat: from the running hub where one answers and MODEL is
 * a name, else from a runner that is a child of this command. The bits are the same.
 *
 * One thread's. Ctrl-C is ERR_CANCELLED and stops the work wherever it is done.
 */
#ifndef CLI_ANSWER_H
#define CLI_ANSWER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/command.h"
#include "cli/find_model.h"
#include "cli/remote.h"
#include "infer/infer.h"

struct answer {
    bool stream; /* print the text as it comes */
    struct buf text;
    struct infer_done done; /* numbers; its strings are not set */
    char finish_reason[16];
};
void answer_init(struct answer *answer, bool stream);
void answer_release(struct answer *answer);
/* Adds text to the answer and, where it streams, to standard output. */
void answer_take(struct answer *answer, const char *text, size_t n);

/* A model and where it runs. What a created name brings (system prompt, messages, parameters) holds
 * both ways. */
struct source {
    bool served; /* by the hub behind remote */
    struct remote remote;
    const char *name;    /* the MODEL argument */
    const json_t *given; /* the caller's */
    json_t *parameters;  /* of a created name that is served; or NULL */
    struct infer *infer;
    struct infer_spec spec; /* its sampling is what holds */
    struct found_model model;
};

/* MODEL is the first positional argument. `given` has a member for each part of `sampling` that the
 * user gave, called as in OpenAI's protocol: a created name's parameters give way to these alone.
 * It must outlive the source. */
int source_open(struct source *source, const struct args *args,
                const struct infer_sampling *sampling, const json_t *given,
                struct err *err) MUST_CHECK;
void source_close(struct source *source); /* safe on a zeroed struct */

/* Either messages, or prompt when messages is NULL. */
int source_ask(struct source *source, const json_t *messages, const struct buf *prompt,
               struct answer *answer, struct err *err) MUST_CHECK;

/* --- answer_remote.c: the same over HTTP, in OpenAI's protocol --- */
/* 0 when the hub knows the name, whose parameters it tells: before anything is asked. */
int answer_find_remote(struct source *source, struct err *err) MUST_CHECK;
int answer_remote(struct source *source, const json_t *messages, const struct buf *prompt,
                  struct answer *answer, struct err *err) MUST_CHECK;

#endif
