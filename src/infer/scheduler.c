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

#include "base/mem.h"
#include "infer/scheduler_private.h"

enum {
    TEXT_BYTES_MAX = 1 << 20,
    SCORE_TOKENS = 32, /* of a prompt that is scored, in one eval: each takes a row of logits */
    HIDDEN_TOKENS = SCHEDULER_CHUNK_TOKENS /* of a prompt that is embedded, in one eval */
};

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

static void request_free(struct scheduled *r)
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
        request_free(s->requests[i]);
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
    prefix_cache_init(&s->prefixes, s->info, bytes_max);
}

uint64_t scheduler_prefix_bytes(const struct scheduler *s)
{
    return prefix_cache_bytes(&s->prefixes);
}

int scheduler_cached_tokens(const struct scheduled *r)
{
    return r->n_cached;
}

int scheduler_active(const struct scheduler *s)
{
    return s->n;
}

/* Tokens delivered by a former runner pass through the detokeniser and the stop strings unheard, so
 * that what follows continues the same text. */
static int replay_text(struct scheduler *s, struct scheduled *r, struct err *err)
{
    for (int i = r->n_prompt; i < r->n_tokens; i++) {
        buf_clear(&s->text);
        int rc = detok_push(&r->detok, r->tokens[i], &s->text, err);
        if (rc == 0 && r->grammar != NULL) {
            rc = grammar_accept(r->grammar, r->tokens[i], err);
        }
        if (rc != 0) {
            return rc;
        }
        struct buf unheard;
        buf_init(&unheard, TEXT_BYTES_MAX);
        r->stopped = stops_push(&r->stops, s->text.data, s->text.len, &unheard);
        buf_release(&unheard);
    }
    return 0;
}

/* A session that begins as r's tokens do, or a fresh one. Scores and embeddings want every token
 * computed. */
static int find_session(struct scheduler *s, struct scheduled *r, const struct scheduled_spec *spec,
                        struct err *err)
{
    int n = 0;
    if (spec->adapter_key != NULL && strlen(spec->adapter_key) < sizeof r->adapter_key) {
        memcpy(r->adapter_key, spec->adapter_key, strlen(spec->adapter_key) + 1);
    }
    if (!spec->score_prompt && !spec->embed) {
        n = prefix_cache_take(&s->prefixes, r->adapter_key, r->tokens, r->n_tokens, &r->session);
    }
    r->n_cached = n < r->n_prompt ? n : r->n_prompt;
    return n > 0 ? 0 : engine_session_new(&r->session, s->model, err);
}

static int request_new(struct scheduler *s, const struct scheduled_spec *spec,
                       struct scheduled **out, struct err *err)
{
    const int room = spec->embed ? 0 : s->info->context_length - spec->n_prompt;
    struct scheduled *r = mem_calloc(1, sizeof *r);
    if (r == NULL) {
        return mem_err(err, sizeof *r);
    }
    r->n_prompt = spec->n_prompt;
    r->n_max =
        spec->n_prompt + (spec->sampling.max_tokens < room ? spec->sampling.max_tokens : room);
    r->sampling = spec->sampling;
    r->seed = spec->seed;
    r->adapter = spec->adapter;
    r->choice = spec->choice;
    r->score_prompt = spec->score_prompt;
    r->grammar = spec->grammar;
    detok_init(&r->detok, engine_model_tokenizer(s->model), true);
    stops_init(&r->stops, &r->sampling);
    r->tokens = mem_calloc((size_t)r->n_max + 1, sizeof *r->tokens);
    int rc = r->tokens == NULL ? mem_err(err, (size_t)r->n_max * sizeof *r->tokens) : 0;
    if (rc == 0 && spec->embed) {
        r->sum = mem_calloc((size_t)s->info->d_model, sizeof *r->sum);
        rc = r->sum != NULL ? 0 : mem_err(err, (size_t)s->info->d_model * sizeof *r->sum);
    }
    if (rc == 0) {
        memcpy(r->tokens, spec->prompt, (size_t)spec->n_prompt * sizeof *r->tokens);
        const int n_sent =
            spec->n_sent < r->n_max - r->n_prompt ? spec->n_sent : r->n_max - r->n_prompt;
        if (n_sent > 0) {
            memcpy(r->tokens + r->n_prompt, spec->sent, (size_t)n_sent * sizeof *r->tokens);
        }
        r->n_tokens = r->n_prompt + n_sent;
        rc = replay_text(s, r, err);
    }
    if (rc == 0) {
        rc = find_session(s, r, spec, err);
    }
    if (rc != 0) {
        request_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

/* Made when first wanted. */
static int make_buffer(float **buffer, size_t n, struct err *err)
{
    if (*buffer == NULL) {
        *buffer = mem_alloc_simd(n, sizeof **buffer);
    }
    return *buffer != NULL ? 0 : mem_err(err, n * sizeof **buffer);
}

int scheduler_add(struct scheduler *s, const struct scheduled_spec *spec,
                  const struct scheduled_events *events, void *ctx, struct scheduled **request,
                  struct err *err)
{
    if (engine_model_tokenizer(s->model) == NULL) {
        return err_set(err, ERR_INVALID, "the model has no tokenizer");
    }
    if (spec->n_prompt < 1) {
        return err_set(err, ERR_INVALID, "the prompt is empty");
    }
    if (spec->n_prompt >= s->info->context_length) {
        return err_set(err, ERR_INVALID, "the prompt is %d tokens; the context holds %d",
                       spec->n_prompt, s->info->context_length);
    }
    if (s->n == s->sessions_max) {
        return err_set(err, ERR_BUSY, "all %d sessions are in use", s->sessions_max);
    }
    int rc = spec->score_prompt
                 ? make_buffer(&s->rows, (size_t)SCORE_TOKENS * (size_t)s->info->vocab_size, err)
                 : 0;
    if (rc == 0 && spec->embed) {
        rc = make_buffer(&s->hidden, (size_t)HIDDEN_TOKENS * (size_t)s->info->d_model, err);
    }
    if (rc != 0) {
        return rc;
    }
    struct scheduled *r = NULL;
    rc = request_new(s, spec, &r, err);
    if (rc != 0) {
        return rc;
    }
    r->events = *events;
    r->ctx = ctx;
    s->requests[s->n++] = r;
    *request = r;
    return 0;
}

static void drop(struct scheduler *s, int at)
{
    struct scheduled *r = s->requests[at];
    memmove(&s->requests[at], &s->requests[at + 1], (size_t)(s->n - at - 1) * sizeof *s->requests);
    s->n--;
    request_free(r);
    for (int i = 0; i < s->n; i++) {
        s->requests[i]->resting = false;
    }
}

/* The same for a request whose session is sound: it is kept for the next. */
static void drop_and_keep(struct scheduler *s, int at)
{
    struct scheduled *r = s->requests[at];
    if (s->prefixes.bytes_max > 0) {
        prefix_cache_put(&s->prefixes, r->adapter_key, r->tokens, r->session);
        r->session = NULL;
    }
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

static int missing(const struct scheduled *r)
{
    return r->n_tokens - engine_session_length(r->session);
}

static bool decoding(const struct scheduled *r)
{
    return !r->resting && missing(r) == 1;
}

static bool scoring(const struct scheduled *r)
{
    return r->score_prompt && r->n_scored < r->n_prompt;
}

/* What of r goes into this eval, at most n_max tokens; 0 tokens when it has to wait. */
static struct engine_piece make_piece(struct scheduler *s, int at, int n_max)
{
    struct scheduled *r = s->requests[at];
    const size_t vocab = (size_t)s->info->vocab_size;
    struct engine_piece piece = {.session = r->session,
                                 .adapter = r->adapter,
                                 .tokens = r->tokens + engine_session_length(r->session),
                                 .n_tokens = missing(r) < n_max ? missing(r) : n_max};
    if (r->sum != NULL) {
        piece.n_tokens = s->hidden_taken                  ? 0
                         : piece.n_tokens > HIDDEN_TOKENS ? HIDDEN_TOKENS
                                                          : piece.n_tokens;
        piece.hidden = s->hidden;
        s->hidden_taken = true;
        r->n_rows = piece.n_tokens;
        return piece;
    }
    if (!scoring(r)) {
        r->logits = piece.n_tokens == missing(r) ? s->logits + (size_t)at * vocab : NULL;
        piece.logits = r->logits;
        return piece;
    }
    piece.n_tokens = s->rows_taken                   ? 0
                     : piece.n_tokens > SCORE_TOKENS ? SCORE_TOKENS
                                                     : piece.n_tokens;
    if (piece.n_tokens > 0) {
        s->rows_taken = true;
        piece.logits = s->rows;
        piece.all_logits = true;
        r->n_rows = piece.n_tokens;
        r->logits = piece.n_tokens == missing(r) ? s->rows + (size_t)(r->n_rows - 1) * vocab : NULL;
    }
    return piece;
}

/* Decoding requests first, one token each; then prompt chunks, oldest first. */
static int make_pieces(struct scheduler *s, struct engine_piece *pieces)
{
    int n_pieces = 0;
    int n_decoding = 0;
    s->rows_taken = false;
    s->hidden_taken = false;
    for (int i = 0; i < s->n; i++) {
        n_decoding += decoding(s->requests[i]);
        s->requests[i]->logits = NULL;
        s->requests[i]->n_rows = 0;
    }
    const int chunk = n_decoding > 0 ? SCHEDULER_CHUNK_TOKENS : ENGINE_EVAL_TOKENS_MAX;
    int budget =
        n_decoding + chunk < ENGINE_EVAL_TOKENS_MAX ? n_decoding + chunk : ENGINE_EVAL_TOKENS_MAX;
    for (int prompts = 0; prompts < 2; prompts++) {
        for (int i = 0; i < s->n && budget > 0; i++) {
            if (s->requests[i]->resting || decoding(s->requests[i]) == (prompts != 0)) {
                continue;
            }
            const struct engine_piece piece = make_piece(s, i, budget);
            if (piece.n_tokens > 0) {
                pieces[n_pieces++] = piece;
                budget -= piece.n_tokens;
            }
        }
    }
    return n_pieces;
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

/* Pages ran out: the youngest request gives its own back and rests. False when the oldest is alone
 * with them. */
static bool set_aside_youngest(struct scheduler *s)
{
    for (int i = s->n - 1; i > 0; i--) {
        struct scheduled *r = s->requests[i];
        if (!r->resting) {
            engine_session_truncate(r->session, 0);
            r->resting = true;
            return true;
        }
    }
    return false;
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

void scheduler_step(struct scheduler *s)
{
    struct engine_piece pieces[SCHEDULER_SESSIONS_MAX];
    struct err err = {0};
    if (s->n == 0) {
        return;
    }
    int n_pieces = make_pieces(s, pieces);
    int rc = engine_eval(s->model, pieces, n_pieces, &err);
    while (rc == -ERR_UNAVAILABLE && (prefix_cache_evict(&s->prefixes) || set_aside_youngest(s))) {
        n_pieces = make_pieces(s, pieces);
        err_clear(&err);
        rc = engine_eval(s->model, pieces, n_pieces, &err);
    }
    if (rc != 0) {
        eval_one_by_one(s, pieces, n_pieces);
    }
    for (int i = 0; i < s->n;) {
        struct scheduled *r = s->requests[i];
        bool over = false;
        err_clear(&err);
        if (r->sum != NULL) {
            over = r->n_rows > 0 && scheduler_embed(s, r);
        } else {
            scheduler_tell_prompt(s, r);
        }
        if (r->logits != NULL && advance(s, r, &over, &err) != 0) {
            fail(s, i, &err);
        } else if (over) {
            drop_and_keep(s, i);
        } else {
            i++;
        }
    }
}
