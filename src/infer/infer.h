/* Inference as the hub sees it: requests in, tokens out, models in child processes.
 *
 * `struct infer` owns the runners: one child process per loaded base model, started when first
 * needed, evicted when idle past keep_alive or when another model needs its memory. Nothing here
 * touches a tensor; it speaks frames (runner.h) with the children. Files of a model are read only
 * on the far side.
 *
 *   submit ─▶ waiting for a runner ─▶ sent ─▶ accepted ─▶ token … ─▶ done
 *                      │                │         │           └─ runner dies: replayed in a fresh
 * one └────────────────┴─────────┴─▶ failed (also: present at two crashes)
 *
 * Threads: infer_submit and infer_cancel may be called from any thread. Events are called on
 * infer's own threads, one request's events never at once and in order; they must not block and
 * must not call back into infer except infer_cancel. After `done` or `failed` no event follows.
 * Bounds: max_queue requests wait in all (ERR_BUSY beyond), max_models runners, memory_bytes_max
 * over all runners and the running job (ERR_UNAVAILABLE with both numbers; ERR_UNPROCESSABLE for
 * what can never fit).
 */
#ifndef INFER_INFER_H
#define INFER_INFER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/settings.h"
#include "infer/sampling.h"

enum {
    INFER_PROMPT_BYTES_MAX = 16 << 20,
    INFER_KEY_BYTES = 80,
    INFER_ID_BYTES = 64,
    INFER_EMBED_MAX = 32
};

struct infer;
struct infer_request; /* a running request: opaque, freed by infer after its last event */

/* What to generate with. All strings are copied by infer_submit. */
struct infer_spec {
    const char *base_id;   /* for messages and metrics */
    const char *base_key;  /* sha256 of the base's blob: names the runner */
    const char *base_path; /* file or folder of the weights */
    uint64_t memory_bytes; /* what the base is expected to take: from its inspection at import */
    uint64_t kv_bytes; /* of that, for keys and values of one session of full length, which is the
                          least; more is taken where the limit leaves it. 0 = not known */
    const char *adapter_key;   /* sha256 of the adapter file, or NULL for the bare base */
    const char *adapter_path;  /* adapter.safetensors, or NULL */
    float adapter_scale;       /* alpha / rank as the version's manifest says */
    const char *chat_template; /* the version's own, or NULL for the model's (or the plain one) */
    const char *prompt;        /* either a prompt, taken as it is … */
    size_t prompt_bytes;
    const int32_t *prompt_ids; /* … or one of tokens … */
    size_t n_prompt_ids;
    const json_t *context;  /* tokens that come before the prompt, or NULL */
    const json_t *messages; /* … or messages, rendered by the template; borrowed for the call */
    const json_t *tools;    /* or NULL */
    const json_t *template_kwargs; /* further variables of the template, or NULL */
    const char *date;              /* "YYYY-MM-DD" for templates that ask, or NULL: today */
    const json_t *grammar;         /* what answers must follow, as grammar_new takes it; or NULL */
    struct infer_sampling sampling;
    uint32_t choice; /* among answers to one prompt with one seed */
    /* What is too long is cut: of messages the oldest go, system messages stay; a text to embed
     * loses its end. Nothing else is cut. */
    bool truncate;
    /* What is too long, fewer than the context holds; 0: what that does not hold. A prompt that is
     * cut may be longer even so, one that is not to be cut is refused. */
    int context_tokens;
    bool score_prompt; /* the prompt's own tokens come with their log-probabilities */
    bool tell_prompt;  /* `accepted` brings the prompt's tokens */
    bool cold;         /* all of the prompt is computed, whatever is kept of it */
    bool embed;        /* infer_embed's own */
    bool has_keep_alive;
    int64_t keep_alive_ms; /* how long the base stays loaded after this request: -1 for ever */
    const char *trace_id;  /* for logs and spans, or NULL */
};

struct infer_accepted {
    int prompt_tokens;
    uint64_t seed; /* the one in use, chosen by the hub when none was given */
    char engine[16];
    int numerics_version;
    const char *tool_format;  /* how this model writes calls of tools: tool_format.h; or NULL */
    bool thinking;            /* the prompt ends with an opened thought: "<think>" */
    const json_t *prompt_ids; /* with tell_prompt, during the call; else NULL */
};

struct infer_piece {
    int32_t id;
    float logprob;
    const char *bytes; /* the token's own, perhaps half a character */
    size_t n;
};

struct infer_token {
    int index;
    const char *text; /* whole characters that this token completed, perhaps none */
    size_t bytes;
    bool is_end; /* the end token itself: told only where log-probabilities are wanted */
    bool scored; /* token.logprob and top hold */
    struct infer_piece token;
    int n_top;
    struct infer_piece top[INFER_TOP_LOGPROBS_MAX];
};

struct infer_done {
    const char *finish_reason; /* "stop" (end token or stop string), "length" */
    const char *text; /* what was still held back: the answer's last characters, perhaps none */
    size_t text_bytes;
    int prompt_tokens;
    int cached_tokens; /* of the prompt, taken over from an earlier request */
    int completion_tokens;
    int batch_size; /* sessions in the evaluation that gave the last token */
    double load_time, prompt_time, decode_time;         /* seconds: of the base, of each phase */
    double time_to_first_token, total_time, queue_time; /* seconds */
    double tokens_per_second;                           /* of decoding */
    uint64_t seed;
    char engine[16];
    int numerics_version;
};

struct infer_events {
    /* The prompt fits and work has begun; a stream may send its 200 now. */
    void (*accepted)(void *ctx, const struct infer_accepted *accepted);
    /* One more token of the answer; stop strings are held back. */
    void (*token)(void *ctx, const struct infer_token *token);
    /* With score_prompt: one token of the prompt, before any of the answer. May be NULL. */
    void (*prompt_token)(void *ctx, const struct infer_token *token);
    void (*done)(void *ctx, const struct infer_done *done);
    void (*failed)(void *ctx, const struct err *err);
};

/* settings: memory_limit, max_models, max_queue, max_sessions, keep_alive, threads, isa,
 * context_length, storage (for cache/). `program` is argv[0] of the children: this executable. */
int infer_new(struct infer **infer, const struct settings *settings, const char *program,
              struct err *err) MUST_CHECK;
/* Stops taking requests, lets running ones finish for at most drain_ms, then ends the runners. */
void infer_free(struct infer *infer, int drain_ms);

/* Errors known at once (bad sampling, queue full) come back here; all others by `failed`. */
int infer_submit(struct infer *infer, const struct infer_spec *spec,
                 const struct infer_events *events, void *ctx, struct infer_request **request,
                 struct err *err) MUST_CHECK;
/* Places in the queue for n requests that are submitted next: all of them or none. ERR_BUSY now,
 * ERR_INVALID when there can never be as many. */
struct infer_places {
    int left;
};
int infer_keep_places(struct infer *infer, int n, struct infer_places *places,
                      struct err *err) MUST_CHECK;
/* infer_submit into one of the places. */
int infer_submit_reserved(struct infer *infer, struct infer_places *places,
                          const struct infer_spec *spec, const struct infer_events *events,
                          void *ctx, struct infer_request **request, struct err *err) MUST_CHECK;
/* Gives back those that are left. */
void infer_release_places(struct infer *infer, struct infer_places *places);
/* The client is gone: work on it stops, `failed` with ERR_CANCELLED comes as the last event. Safe
 * until that last event has returned. */
void infer_cancel(struct infer_request *request);

/* Text without generation, through the model's runner; blocking, for handlers. Results in `out` as
 * JSON: {"tokens":[…],"pieces":[…]} · {"text":…} · {"prompt":…}. */
enum infer_text_op { INFER_TOKENIZE, INFER_DETOKENIZE, INFER_APPLY_TEMPLATE };
int infer_text(struct infer *infer, enum infer_text_op op, const struct infer_spec *spec,
               const json_t *arguments, struct buf *out, struct err *err) MUST_CHECK;

/* Whoever waits for a blocking call: `gone` is asked now and then, with no lock held. */
struct infer_client {
    bool (*gone)(void *ctx);
    void *ctx;
};

/* Of each prompt the mean of its hidden states after the last norm, scaled to length 1, appended to
 * its buffer as floats; blocking, for handlers. All n (at most INFER_EMBED_MAX) are in the queue at
 * once or none is; *prompt_tokens counts all of them. Of a spec base, adapter and prompt count.
 * When the client is gone the work stops: ERR_CANCELLED. */
int infer_embed(struct infer *infer, const struct infer_spec *specs, int n,
                const struct infer_client *client, struct buf *outs, int *prompt_tokens,
                struct err *err) MUST_CHECK;

/* --- loaded models --- */
struct infer_model {
    char base_id[512];
    char base_key[INFER_KEY_BYTES];
    int pid;
    uint64_t memory_bytes; /* what the ledger counts for it */
    uint64_t kv_bytes;     /* of that, for keys and values of all its sessions */
    int active_requests;
    int64_t loaded_at_us, last_used_us;
    int64_t keep_alive_ms; /* from last_used_us; -1 = for ever */
};
struct infer_cache {
    struct infer_model *models; /* mem_free */
    int n_models;
    int max_models;
    uint64_t memory_bytes, memory_bytes_max;
    uint64_t prefix_bytes; /* of that, kept for prompts that begin alike */
    int queued;
};
int infer_list(struct infer *infer, struct infer_cache *cache, struct err *err) MUST_CHECK;
/* Ends the runner of base_key (NULL: all idle ones). ERR_NOT_FOUND, ERR_CONFLICT while in use. */
int infer_unload(struct infer *infer, const char *base_key, struct err *err) MUST_CHECK;

/* --- one limit for models and jobs ---
 * A job of the hub's worker takes its memory out of the same limit: at most one at a time. */
struct infer_memory {
    uint64_t bytes_max;
    uint64_t models, busy; /* by loaded models; of that, by those that are at work */
    uint64_t held;         /* by the job */
    int n_busy;
    bool insisted; /* those at work take nothing new */
};
void infer_memory(struct infer *infer, struct infer_memory *memory);
/* Takes `bytes` for the job `holder`, in the place of whatever was held, and ends idle models for
 * it when that makes room. True: it may start. False: models end still (held is `bytes`; ask
 * again), or busy ones are in the way (held is 0). *memory is what was seen.
 * insist: where busy ones are in the way, nothing new begins (infer_submit and the others say
 * ERR_UNAVAILABLE) until they are idle and the job has its memory, or until it is asked again
 * without insisting, or given back. */
bool infer_reserve(struct infer *infer, const char *holder, uint64_t bytes, bool insist,
                   struct infer_memory *memory);
/* The same for a job that runs already: without asking. Models give back what they can. */
void infer_hold(struct infer *infer, const char *holder, uint64_t bytes);
/* Whether a job holds memory, and which. */
bool infer_holder(struct infer *infer, char holder[INFER_ID_BYTES]);
/* Nothing is held any more by `holder` (NULL: by anyone). */
void infer_give_back(struct infer *infer, const char *holder);
/* `ask` is called, no lock held, before a model is refused because of what a job holds: it may find
 * that the job has ended, and give back. Set before the first request. */
void infer_on_short(struct infer *infer, void (*ask)(void *ctx), void *ctx);

#endif
