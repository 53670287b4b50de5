/* A request's tokens are one array: prompt, then what was chosen. `session` holds a prefix of it;
 * the request is prefilling while more than one token is missing there, and decoding when just the
 * last one is. Setting a request aside is truncating its session: it is then prefilling again, and
 * the logits it comes back with are the ones it would have had.
 *
 * Invariants
 *   1. n_tokens − session length ≥ 1 for every request inside: there is always a token to feed.
 *   2. Requests stand in the order of their arrival; the youngest is last.
 *   3. Only a request whose last token was just evaluated is sampled. */
#include "infer/scheduler.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "infer/prefix_file.h"
#include "infer/scheduler_private.h"

int scheduler_new(struct scheduler **out, struct engine_model *model, int sessions_max,
                  struct err *err)
{
    struct scheduler *s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return mem_err(err, sizeof *s);
    }
    s->model = model;
    s->info = engine_model_info(model);
    s->sessions_max = sessions_max < 1                        ? 1
                      : sessions_max > SCHEDULER_SESSIONS_MAX ? SCHEDULER_SESSIONS_MAX
                                                              : sessions_max;
    buf_init(&s->text, TEXT_BYTES_MAX);
    const size_t n = (size_t)s->sessions_max * (size_t)s->info->vocab_size;
    s->logits = mem_alloc_simd(n, sizeof(float));
    s->raw = mem_alloc_simd((size_t)s->info->vocab_size, sizeof(float));
    const int rc = s->logits == NULL || s->raw == NULL ? mem_err(err, n * sizeof(float))
                                                       : sampler_init(&s->sampler, model, err);
    if (rc != 0) {
        scheduler_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void scheduler_request_free(struct scheduled *r)
{
    engine_session_free(r->session);
    stops_release(&r->stops);
    mem_free(r->tokens);
    mem_free(r->sum);
    mem_free(r);
}

void scheduler_free(struct scheduler *s)
{
    if (s == NULL) {
        return;
    }
    for (int i = 0; i < s->n; i++) {
        scheduler_request_free(s->requests[i]);
    }
    prefix_cache_release(&s->prefixes);
    sampler_release(&s->sampler);
    buf_release(&s->text);
    mem_free(s->logits);
    mem_free(s->raw);
    mem_free(s->rows);
    mem_free(s->hidden);
    mem_free(s);
}

void scheduler_keep_prefixes(struct scheduler *s, uint64_t bytes_max)
{
    prefix_cache_release(&s->prefixes);
    prefix_cache_init(&s->prefixes, s->model, bytes_max);
}

int scheduler_load_prefixes(struct scheduler *s, const char *path, const char *base_key,
                            struct err *err)
{
    const int rc = prefix_file_load(&s->prefixes, path, base_key, err);
    s->n_saved = s->prefixes.n_changes;
    return rc;
}

int scheduler_save_prefixes(struct scheduler *s, const char *path, const char *base_key,
                            struct err *err)
{
    const bool changed = s->prefixes.n_changes != s->n_saved;
    const int rc =
        changed ? prefix_file_save(&s->prefixes, path, base_key, s->prefixes.bytes_max, err) : 0;
    s->n_saved = rc == 0 ? s->prefixes.n_changes : s->n_saved;
    return rc;
}

uint64_t scheduler_prefix_bytes(const struct scheduler *s)
{
    return prefix_cache_bytes(&s->prefixes);
}

uint64_t scheduler_set_aside_count(const struct scheduler *s)
{
    return s->n_set_aside;
}

int scheduler_cached_tokens(const struct scheduled *r)
{
    return r->n_cached;
}

int scheduler_active(const struct scheduler *s)
{
    return s->n;
}

static void drop(struct scheduler *s, int at)
{
    struct scheduled *r = s->requests[at];
    memmove(&s->requests[at], &s->requests[at + 1], (size_t)(s->n - at - 1) * sizeof *s->requests);
    s->n--;
    scheduler_request_free(r);
    s->may_start = true;
}

void scheduler_keep(struct scheduler *s, const struct scheduled *r, bool last)
{
    if (s->prefixes.bytes_max > 0) {
        prefix_cache_keep(&s->prefixes, r->adapter_key, r->tokens, r->session, last);
    }
}

/* The same for a request whose session is sound. */
static void drop_and_keep(struct scheduler *s, int at)
{
    scheduler_keep(s, s->requests[at], true);
    drop(s, at);
}

void scheduler_cancel(struct scheduler *s, struct scheduled *request)
{
    for (int i = 0; i < s->n; i++) {
        if (s->requests[i] == request) {
            drop_and_keep(s, i);
            return;
        }
    }
}

static bool is_eos(const struct engine_info *info, int32_t token)
{
    for (int i = 0; i < info->n_eos; i++) {
        if (info->eos[i] == token) {
            return true;
        }
    }
    return false;
}

/* The answer is over. What the detokeniser and the stop strings still hold goes out with the last
 * event, unless a stop string ended it. */
static int finish(struct scheduler *s, struct scheduled *r, enum finish reason, bool stopped,
                  struct err *err)
{
    struct buf rest;
    buf_init(&rest, TEXT_BYTES_MAX);
    buf_clear(&s->text);
    int rc = stopped ? 0 : detok_flush(&r->detok, &s->text, err);
    if (rc == 0 && !stopped && !stops_push(&r->stops, s->text.data, s->text.len, &rest)) {
        stops_flush(&r->stops, &rest);
    }
    if (rc == 0) {
        rc = buf_check(&rest, "the answer's text", err);
    }
    if (rc == 0) {
        r->events.finished(r->ctx, reason, rest.data, rest.len, r->n_tokens - r->n_prompt);
    }
    buf_release(&rest);
    return rc;
}

/* Takes `token` as the next of r and tells of its text. *stopped: a stop string is complete. */
static int accept(struct scheduler *s, struct scheduled *r, struct scheduled_token *token,
                  bool *stopped, struct err *err)
{
    struct buf out;
    buf_init(&out, TEXT_BYTES_MAX);
    buf_clear(&s->text);
    r->tokens[r->n_tokens++] = token->id;
    int rc = detok_push(&r->detok, token->id, &s->text, err);
    if (rc == 0) {
        *stopped = stops_push(&r->stops, s->text.data, s->text.len, &out);
        rc = buf_check(&out, "the answer's text", err);
    }
    if (rc == 0) {
        token->text = out.data;
        token->bytes = out.len;
        r->events.token(r->ctx, token);
    }
    buf_release(&out);
    return rc;
}

/* The next token of r, with its score where that is wanted. */
static int choose(struct scheduler *s, struct scheduled *r, struct scheduled_token *token,
                  struct err *err)
{
    const size_t vocab = (size_t)s->info->vocab_size;
    memset(token, 0, sizeof *token);
    token->index = r->n_tokens - r->n_prompt;
    const uint64_t *mask = NULL;
    int rc = r->grammar != NULL ? grammar_mask(r->grammar, &mask, err) : 0;
    if (r->sampling.logprobs) {
        memcpy(s->raw, r->logits, vocab * sizeof *s->raw);
    }
    if (rc == 0) {
        rc = sampler_pick(&s->sampler, &r->sampling, r->seed, r->choice, r->tokens, r->n_tokens,
                          r->logits, mask, &token->id, err);
    }
    if (rc == 0 && r->sampling.logprobs) {
        scheduler_score(s, s->raw, r->sampling.top_logprobs, token);
    }
    return rc;
}

/* Chooses r's next token. *over: its last event has been sent. */
static int advance(struct scheduler *s, struct scheduled *r, bool *over, struct err *err)
{
    struct scheduled_token token;
    bool stopped = r->stopped;
    bool complete = r->grammar != NULL && grammar_done(r->grammar);
    if (stopped || complete || r->n_tokens == r->n_max) {
        *over = true;
        return finish(s, r, stopped || complete ? FINISH_STOP : FINISH_LENGTH, stopped, err);
    }
    int rc = choose(s, r, &token, err);
    if (rc == 0 && (!r->sampling.ignore_eos || r->grammar != NULL) && is_eos(s->info, token.id)) {
        *over = true;
        token.is_end = true;
        if (token.scored) {
            r->events.token(r->ctx, &token);
        }
        return finish(s, r, FINISH_STOP, false, err);
    }
    if (rc == 0) {
        rc = accept(s, r, &token, &stopped, err);
    }
    if (rc == 0 && r->grammar != NULL) {
        rc = grammar_accept(r->grammar, token.id, err);
        complete = rc == 0 && grammar_done(r->grammar);
    }
    *over = stopped || complete || r->n_tokens == r->n_max;
    if (rc == 0 && *over) {
        rc = finish(s, r, stopped || complete ? FINISH_STOP : FINISH_LENGTH, stopped, err);
    }
    return rc;
}

static void fail(struct scheduler *s, int at, const struct err *err)
{
    s->requests[at]->events.failed(s->requests[at]->ctx, err);
    drop(s, at);
}

/* Something in the batch is broken: each piece alone shows whose fault it is. */
static void eval_one_by_one(struct scheduler *s, struct engine_piece *pieces, int n_pieces)
{
    for (int p = 0; p < n_pieces; p++) {
        struct err err = {0};
        if (engine_eval(s->model, &pieces[p], 1, &err) == 0) {
            continue;
        }
        for (int i = 0; i < s->n; i++) {
            if (s->requests[i]->session == pieces[p].session) {
                fail(s, i, &err);
                break;
            }
        }
    }
}

/* What the eval told request `at`: false when that was the last, and it is gone. */
static bool take_rows(struct scheduler *s, int at)
{
    struct scheduled *r = s->requests[at];
    struct err err = {0};
    bool over = false;
    if (r->sum != NULL) {
        over = r->n_rows > 0 && scheduler_embed(s, r);
    } else {
        scheduler_tell_prompt(s, r);
    }
    if (r->logits != NULL && advance(s, r, &over, &err) != 0) {
        fail(s, at, &err);
        return false;
    }
    if (over) {
        drop_and_keep(s, at);
        return false;
    }
    /* whole blocks serve others while this one goes on */
    if (r->n_taken > engine_session_length(r->session) % PREFIX_BLOCK) {
        scheduler_keep(s, r, false);
    }
    return true;
}

void scheduler_step(struct scheduler *s)
{
    struct engine_piece pieces[SCHEDULER_SESSIONS_MAX];
    struct err err = {0};
    if (s->n == 0) {
        return;
    }
    const int n_pieces = scheduler_plan(s, pieces);
    const int64_t begin = clock_monotonic_ns();
    if (engine_eval(s->model, pieces, n_pieces, &err) != 0) {
        eval_one_by_one(s, pieces, n_pieces);
    } else {
        scheduler_measure(s, pieces, n_pieces, clock_monotonic_ns() - begin);
    }
    for (int i = 0; i < s->n;) {
        i += take_rows(s, i);
    }
}
