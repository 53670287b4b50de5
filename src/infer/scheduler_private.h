/* The scheduler's inside: scheduler.c takes steps, scheduler_add.c takes requests in,
 * scheduler_plan.c says what a step evaluates on which pages, scheduler_score.c what its rows told
 * beside the next token. */
#ifndef INFER_SCHEDULER_PRIVATE_H
#define INFER_SCHEDULER_PRIVATE_H

#include "infer/prefix_cache.h"
#include "infer/sampler.h"
#include "infer/scheduler.h"
#include "infer/stops.h"

enum {
    TEXT_BYTES_MAX = 1 << 20,
    SCORE_TOKENS = 32, /* of a prompt that is scored, in one eval: each takes a row of logits */
    HIDDEN_TOKENS = SCHEDULER_CHUNK_TOKENS /* of a prompt that is embedded, in one eval */
};

struct scheduled {
    struct engine_session *session;
    const struct engine_adapter *adapter;
    char adapter_key[PREFIX_KEY_BYTES];
    int n_cached; /* tokens of the prompt that stand on kept pages */
    int n_taken;  /* tokens of this step */
    int32_t *tokens;
    int n_tokens, n_prompt, n_max; /* n_max: prompt and answer together */
    struct infer_sampling sampling;
    uint64_t seed;
    uint32_t choice;
    struct grammar *grammar;
    float *sum; /* (d_model) of the hidden states so far, when an embedding is wanted */
    int n_summed;
    bool score_prompt, cold;
    int n_scored; /* tokens of the prompt that were told */
    bool stopped; /* a former runner delivered the stop string, but not the end */
    struct detok detok;
    struct stops stops;
    struct scheduled_events events;
    void *ctx;
    bool waiting;       /* holds no page: not begun yet, or set aside */
    bool was_set_aside; /* once: what it finds kept may be its own */
    bool whole_blocks;  /* kept pages only as a whole: there is no page for a copy */
    float *logits;      /* where the eval under way puts its row; NULL: no row this time */
    int n_rows;         /* rows of s->rows that are this request's */
};

struct scheduler {
    struct engine_model *model;
    const struct engine_info *info;
    struct sampler sampler;
    struct prefix_cache prefixes;
    uint64_t n_saved; /* changes of it that its file knows */
    struct scheduled *requests[SCHEDULER_SESSIONS_MAX];
    int n, sessions_max;
    float *logits; /* (sessions_max, vocab) */
    float *raw;    /* (vocab) as the model made them, for scores */
    float
        *rows; /* (SCORE_TOKENS, vocab) of the one prompt that is scored; made when first wanted */
    float *hidden; /* (HIDDEN_TOKENS, d_model) of the one prompt that is embedded */
    bool rows_taken, hidden_taken;
    uint64_t n_set_aside; /* how often somebody was */
    bool may_start;       /* something has changed for those that wait */
    /* of prompts, on this machine, in steps without and with others that decode; 0 = not known yet
     */
    int64_t ns_per_token[2];
    struct buf text;
};

/* Tokens that r's session lacks: at least one. */
static inline int scheduler_missing(const struct scheduled *r)
{
    return r->n_tokens - engine_session_length(r->session);
}

void scheduler_request_free(struct scheduled *r);
/* Keeps the pages of r's session for others, with `last` the one that is not full too. */
void scheduler_keep(struct scheduler *s, const struct scheduled *r, bool last);
/* The pieces of the next eval, at most one of each request; their pages are free. r->logits and
 * r->n_rows say where each finds its rows. */
int scheduler_plan(struct scheduler *s, struct engine_piece *pieces);
/* Steps of prompts tell how many tokens of them the next ones should take. */
void scheduler_measure(struct scheduler *s, const struct engine_piece *pieces, int n_pieces,
                       int64_t ns);

/* The log-probability of token->id under a row, and of the n_top likeliest. */
void scheduler_score(const struct scheduler *s, const float *row, int n_top,
                     struct scheduled_token *token);
/* Tells of the prompt's tokens that the rows of this eval, the last of which stands at the end of
 * the session, say something about. */
void scheduler_tell_prompt(struct scheduler *s, struct scheduled *r);
/* Adds this eval's hidden states, each once also when the prompt is computed again. True when that
 * was the last, and the embedding is told: their mean, scaled to length 1. */
bool scheduler_embed(const struct scheduler *s, struct scheduled *r);

#endif
