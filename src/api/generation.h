/* One request for generated text, whoever's protocol it came in: from its submission to the end of
 * its answer. What goes over the wire is a style's business.
 *
 *   handler: check ─▶ generation_new ─▶ generation_run, the thread is free
 *   infer's threads: accepted ─▶ (stream) headers ─▶ token … ─▶ done | failed ─▶ the end of both
 *
 * Invariants
 *   1. A generation has two holders, the handler and the events; the last one frees it.
 *   2. Until each prompt was `accepted` an error is a status of its own; after that, in a stream,
 * the style's `failed`. What a stream has to say before goes into `early`; where that becomes much
 * the stream is opened all the same. The first error ends all choices; whether there is room for
 * all of them is settled before the first is submitted.
 *   3. The client's leaving is heard under a lock of the server, where infer must not be called: a
 *      task of the ticker cancels. `lock` keeps that from meeting the last event.
 *   4. Style functions are called one at a time, `events` held; they never block. */
#ifndef API_GENERATION_H
#define API_GENERATION_H

#include "api/spec.h"
#include "api/ticker.h"
#include "http/stream.h"
#include "infer/infer.h"
#include "infer/tool_format.h"

enum { GENERATION_CHOICES_MAX = 64, GENERATION_NAME_BYTES = 512 };

struct generation;

/* One answer: a prompt's n-th. */
struct choice {
    struct generation *g;
    int index;
    struct infer_accepted accepted;
    bool thinks;                           /* the prompt has opened a thought */
    const struct tool_format *tool_format; /* how the model writes calls of tools */
    struct buf text;                       /* of a plain answer; else the style's */
    struct buf logprobs;                   /* the style's, as the rest */
    size_t text_offset;
    int n_scored;
    void *own;
    /* set by the last event: */
    struct infer_done done; /* its text only during `done` */
    /* generation.c's */
    struct infer_request *request;
    bool submitted, over;
};

struct answer_style {
    const char *stream_type;             /* HTTP_SSE, HTTP_NDJSON */
    const char *operation;               /* "chat", "text_completion": for metrics */
    bool keeps_text;                     /* a plain answer\'s text is put together by the style */
    void (*begin)(struct generation *g); /* stream */
    void (*accepted)(struct choice *c, const struct infer_accepted *how);    /* may be NULL */
    void (*token)(struct choice *c, const struct infer_token *token);        /* may be NULL */
    void (*prompt_token)(struct choice *c, const struct infer_token *token); /* may be NULL */
    void (*done)(struct choice *c);                                          /* may be NULL */
    void (*end)(struct generation *g);                                       /* stream */
    void (*failed)(struct generation *g, const struct err *err);             /* stream */
    int (*answer)(struct generation *g, struct http_response *response,
                  struct err *err);        /* plain */
    void (*release)(struct generation *g); /* of `own`s; may be NULL */
};

struct generation {
    struct hub *hub;
    const struct answer_style *style;
    bool streams;
    struct buf event;                  /* what generation_send sends */
    void *own;                         /* the style's */
    char label[GENERATION_NAME_BYTES]; /* what metrics call the model */
    int64_t created_us, started_ns;
    int n_choices, choices_per_prompt;
    struct choice *choices; /* GENERATION_CHOICES_MAX */

    /* generation.c's */
    struct http_request *request; /* until the answer has begun or was given */
    struct http_stream *stream;
    struct buf early; /* until the stream is opened */
    int n_prompts, n_ready;
    bool broken; /* the stream took no more: nothing is sent any more */
    struct ticker_task cancel;
    pthread_mutex_t events; /* holds the style's state */
    struct err failure;
    int n_over;
    pthread_mutex_t lock;
    int holders;
    bool client_gone;
};

/* Fails before anything was answered: the handler returns the error. */
int generation_new(struct generation **out, struct hub *hub, const struct resolved_model *model,
                   const struct answer_style *style, bool streams, struct err *err) MUST_CHECK;
/* Never run: gives it up. NULL is fine. */
void generation_free(struct generation *g);
/* Submits n × n_specs requests: choice k of spec i has index i × n + k. Takes g; the answer, also
 * that it cannot be done, is given through `request`. Always returns 0. */
int generation_run(struct generation *g, struct http_request *request, struct infer_spec *specs,
                   int n_specs, int n);
/* Sends g->event and clears it. A client that is a whole buffer behind is cut rather than waited
 * for: others share this thread. */
void generation_send(struct generation *g);
/* "data: " … "\n\n" around one JSON object. */
void generation_sse_begin(struct generation *g, struct json_out *out);
void generation_sse_end(struct generation *g, struct json_out *out);

/* Tokens of all choices; a prompt shared by several counts once. */
struct generation_usage {
    int prompt, completion, cached;
};
struct generation_usage generation_usage(const struct generation *g);

#endif
