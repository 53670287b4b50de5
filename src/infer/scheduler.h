/* Continuous batching: many requests over one model, one engine_eval at a time.
 *
 *   add ─▶ WAITING ─▶ PREFILL (in chunks) ─▶ DECODE ─▶ finished (event) ─▶ freed
 *              ▲                               │
 *              └── set aside: pages ran out; its tokens are computed again, same bits
 *
 * Every step takes one token of each decoding request and fills up with chunks of prompts, a share
 * for each, so nobody starves and a long prompt does not stop the others. Prompts that begin alike
 * stand on the same pages, also while they are at work. What a request gets never depends on who
 * shares its steps and pages (numerics). Owned by the model's thread; events are called from
 * scheduler_step on that thread.
 */
#ifndef INFER_SCHEDULER_H
#define INFER_SCHEDULER_H

#include "engine/engine.h"
#include "infer/grammar.h"
#include "infer/sampling.h"
#include "infer/tool_format.h"

enum { SCHEDULER_SESSIONS_MAX = ENGINE_PIECES_MAX, SCHEDULER_CHUNK_TOKENS = 256 };

struct scheduler;
struct scheduled; /* one request inside */

enum finish { FINISH_STOP, FINISH_LENGTH };

struct token_score {
    int32_t id;
    float logprob; /* natural, of the model's own distribution: before bias and penalties */
};

struct scheduled_token {
    int index; /* in the answer, or in the prompt */
    int32_t id;
    const char
        *text; /* what is complete (perhaps empty), stop strings held back; not of a prompt */
    size_t bytes;
    bool is_end; /* the end token itself: told only where scores are wanted, without text */
    bool scored; /* the rest holds; never of a prompt's first token */
    float logprob;
    int n_top;
    struct token_score top[INFER_TOP_LOGPROBS_MAX]; /* likeliest first, lower ids first */
};

struct scheduled_events {
    void (*token)(void *ctx, const struct scheduled_token *token);
    /* With score_prompt, each token of the prompt in order, before the first of the answer. */
    void (*prompt_token)(void *ctx, const struct scheduled_token *token);
    /* After the last token. text: what was held back. The request is gone when it returns. */
    void (*finished)(void *ctx, enum finish finish, const char *text, size_t bytes, int n_tokens);
    void (*failed)(void *ctx, const struct err *err); /* the last event, too */
    /* Instead of an answer, with embed; the last event. n values, of length 1. */
    void (*embedded)(void *ctx, const float *vector, int n);
};

struct scheduled_spec {
    const int32_t *prompt; /* copied, as is all of this */
    int n_prompt;          /* ≥ 1 */
    const int32_t *sent;   /* tokens that a former runner had already chosen and delivered: taken as
                              they are, no event is sent for them */
    int n_sent;
    const struct engine_adapter *adapter; /* or NULL; must live until the request is gone */
    const char *adapter_key; /* a digest of what it does, below PREFIX_KEY_BYTES: kept pages are
                                found by it; NULL = the bare base */
    struct infer_sampling sampling;
    uint64_t seed;
    uint32_t choice;         /* among answers to one prompt */
    struct grammar *grammar; /* what the answer has to follow, or NULL; lives as the adapter does */
    bool embed;              /* no answer: the mean of the hidden states of the prompt */
    bool score_prompt;       /* the prompt's own tokens are told with their scores */
    bool cold;               /* stands on no page that was kept */
    const struct tool_format *tools; /* whose special tokens are part of the text, or NULL */
};

int scheduler_new(struct scheduler **scheduler, struct engine_model *model, int sessions_max,
                  struct err *err) MUST_CHECK;
/* Keeps pages of what was computed, at most so many bytes, for prompts that begin alike. Answers do
 * not change. */
void scheduler_keep_prefixes(struct scheduler *scheduler, uint64_t bytes_max);
/* Kept pages from and to the file of a base (prefix_file.h); saving writes nothing when nothing was
 * added since. */
int scheduler_load_prefixes(struct scheduler *scheduler, const char *path, const char *base_key,
                            struct err *err) MUST_CHECK;
int scheduler_save_prefixes(struct scheduler *scheduler, const char *path, const char *base_key,
                            struct err *err) MUST_CHECK;
/* Another ceiling of all keys and values, in bytes: kept pages go, then requests are set aside,
 * until no more are in use. Never less than the longest request inside takes alone. Returns the
 * ceiling. */
uint64_t scheduler_limit_kv(struct scheduler *scheduler, uint64_t bytes_max);
/* How often a request had to give its pages back so far. */
uint64_t scheduler_set_aside_count(const struct scheduler *scheduler);
/* Bytes of pages that are kept so. */
uint64_t scheduler_prefix_bytes(const struct scheduler *scheduler);
/* Tokens of the request's prompt that stand on pages of earlier ones; whole when it is finished. */
int scheduler_cached_tokens(const struct scheduled *request);
void scheduler_free(struct scheduler *scheduler); /* requests inside end without events */

/* ERR_INVALID "the prompt is N tokens; the context holds M" (or the memory for keys and values)
 * when there is never room for one new token (max_tokens is cut to what fits), or a biased token is
 * not in the vocabulary; ERR_BUSY when sessions_max requests are inside. */
int scheduler_add(struct scheduler *scheduler, const struct scheduled_spec *spec,
                  const struct scheduled_events *events, void *ctx, struct scheduled **request,
                  struct err *err) MUST_CHECK;
/* Frees the request at once; no event follows. Not from inside an event of the same request. */
void scheduler_cancel(struct scheduler *scheduler, struct scheduled *request);

int scheduler_active(const struct scheduler *scheduler); /* requests inside */
/* One engine_eval and its sampling; does nothing when no request is inside. A failure is the
 * `failed` event of the request that caused it; the others go on. */
void scheduler_step(struct scheduler *scheduler);

#endif
