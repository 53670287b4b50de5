/* A request comes in: refused at once when it can never be served, else copied whole. It waits
 * until a step has room for it. */
#include <string.h>

#include "base/mem.h"
#include "infer/scheduler_private.h"

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

/* Prompt and answer of one request, at most: what the context holds, and the pool. */
static int tokens_max(const struct scheduler *s)
{
    const size_t pages = engine_pages_max(s->model);
    const size_t context = (size_t)s->info->context_length;
    return (int)(pages * PREFIX_BLOCK < context ? pages * PREFIX_BLOCK : context);
}

static int request_new(struct scheduler *s, const struct scheduled_spec *spec,
                       struct scheduled **out, struct err *err)
{
    const int room = spec->embed ? 0 : tokens_max(s) - spec->n_prompt;
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
    r->cold = spec->cold;
    r->grammar = spec->grammar;
    r->waiting = true;
    if (spec->adapter_key != NULL) {
        memcpy(r->adapter_key, spec->adapter_key, strlen(spec->adapter_key) + 1);
    }
    detok_init_within(&r->detok, engine_model_tokenizer(s->model), true);
    for (int i = 0; spec->tools != NULL && i < TOOL_FORMAT_TOKENS_MAX; i++) {
        if (spec->tools->tokens[i] != NULL) {
            detok_show(&r->detok, spec->tools->tokens[i]);
        }
    }
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
        rc = engine_session_new(&r->session, s->model, err);
    }
    if (rc != 0) {
        scheduler_request_free(r);
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

static int check_bias(const struct scheduler *s, const struct infer_sampling *sampling,
                      struct err *err)
{
    for (int i = 0; i < sampling->n_bias; i++) {
        const int id = (int)sampling->bias[i].id;
        if (id < 0 || id >= s->info->vocab_size) {
            return err_set(err, ERR_INVALID, "logit_bias: token %d; the vocabulary holds %d", id,
                           s->info->vocab_size);
        }
    }
    return 0;
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
    if (spec->n_prompt >= tokens_max(s)) {
        return err_set(err, ERR_INVALID,
                       "the prompt is %d tokens; the memory for keys and values holds %d",
                       spec->n_prompt, tokens_max(s));
    }
    if (spec->adapter_key != NULL && strlen(spec->adapter_key) >= PREFIX_KEY_BYTES) {
        return err_set(err, ERR_INTERNAL, "the adapter's key is longer than %d bytes",
                       PREFIX_KEY_BYTES - 1);
    }
    if (s->n == s->sessions_max) {
        return err_set(err, ERR_BUSY, "all %d sessions are in use", s->sessions_max);
    }
    int rc = check_bias(s, &spec->sampling, err);
    if (rc != 0) {
        return rc;
    }
    rc = spec->score_prompt
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
    s->may_start = true;
    *request = r;
    return 0;
}
