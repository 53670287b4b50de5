/* The events of all choices end here; the last choice to be over ends the answer. */
#include "api/generation.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "telemetry/metrics.h"

enum {
    TEXT_BYTES_MAX = 32 << 20,
    EVENT_BYTES_MAX = HTTP_STREAM_BYTES_MAX,
    LOGPROBS_BYTES_MAX = 32 << 20,
    EARLY_BYTES_MAX = HTTP_STREAM_BYTES_MAX,
    EARLY_ENOUGH_BYTES = 1 << 20 /* the stream is opened, whoever has not begun yet */
};

static void free_now(struct generation *g)
{
    if (g->style->release != NULL) {
        g->style->release(g);
    }
    for (int i = 0; i < GENERATION_CHOICES_MAX; i++) {
        buf_release(&g->choices[i].text);
        buf_release(&g->choices[i].logprobs);
    }
    pthread_mutex_destroy(&g->events);
    pthread_mutex_destroy(&g->lock);
    buf_release(&g->event);
    buf_release(&g->early);
    mem_free(g->choices);
    mem_free(g);
}

void generation_free(struct generation *g)
{
    if (g != NULL) {
        free_now(g);
    }
}

static void drop(struct generation *g)
{
    pthread_mutex_lock(&g->lock);
    const int left = --g->holders;
    pthread_mutex_unlock(&g->lock);
    if (left == 0) {
        free_now(g);
    }
}

/* --- the client leaves --- */

/* On the ticker's thread. */
static void cancel(void *ctx)
{
    struct generation *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->client_gone = true;
    for (int i = 0; i < g->n_choices; i++) {
        if (g->choices[i].submitted && !g->choices[i].over) {
            infer_cancel(g->choices[i].request);
        }
    }
    pthread_mutex_unlock(&g->lock);
}

/* On a thread of the server, under its lock. */
static void on_closed(void *ctx)
{
    struct generation *g = ctx;
    ticker_post(g->hub->ticker, &g->cancel);
}

/* --- what is counted --- */

static void count_end(const struct generation *g, const char *outcome)
{
    const char *labels[] = {g->label, outcome};
    metric_add(metric_with(METRIC_INFERENCE_REQUESTS, labels), 1);
}

static void count_done(const struct generation *g, const struct infer_done *d)
{
    const char *labels[] = {g->style->operation, g->label, "input"};
    const double rest = d->total_time - d->time_to_first_token;
    metric_observe(metric_get(METRIC_INFERENCE_TTFT), d->time_to_first_token);
    metric_observe(metric_get(METRIC_INFERENCE_QUEUE_WAIT), d->queue_time);
    metric_observe(metric_get(METRIC_INFERENCE_TOKENS_PER_SECOND), d->tokens_per_second);
    metric_add(metric_get(METRIC_INFERENCE_TOKENS_GENERATED), (uint64_t)d->completion_tokens);
    metric_add(metric_get(METRIC_INFERENCE_PROMPT_TOKENS), (uint64_t)d->prompt_tokens);
    metric_observe(metric_get(METRIC_INFERENCE_BATCH_SIZE), d->batch_size);
    metric_add(
        metric_get(d->cached_tokens > 0 ? METRIC_PREFIX_CACHE_HITS : METRIC_PREFIX_CACHE_MISSES),
        1);
    if (d->completion_tokens > 1) {
        const double each = rest / (d->completion_tokens - 1);
        metric_observe(metric_get(METRIC_INFERENCE_TIME_PER_OUTPUT_TOKEN), each);
        metric_observe(metric_with(METRIC_GENAI_SERVER_TIME_PER_OUTPUT_TOKEN, labels), each);
    }
    metric_observe(metric_with(METRIC_GENAI_SERVER_REQUEST_DURATION, labels), d->total_time);
    metric_observe(metric_with(METRIC_GENAI_CLIENT_OPERATION_DURATION, labels), d->total_time);
    metric_observe(metric_with(METRIC_GENAI_SERVER_TIME_TO_FIRST_TOKEN, labels),
                   d->time_to_first_token);
    metric_observe(metric_with(METRIC_GENAI_CLIENT_TOKEN_USAGE, labels), d->prompt_tokens);
    labels[2] = "output";
    metric_observe(metric_with(METRIC_GENAI_CLIENT_TOKEN_USAGE, labels), d->completion_tokens);
}

struct generation_usage generation_usage(const struct generation *g)
{
    struct generation_usage usage = {0};
    for (int i = 0; i < g->n_choices; i++) {
        const struct infer_done *done = &g->choices[i].done;
        if (i % g->choices_per_prompt == 0) {
            usage.prompt += done->prompt_tokens;
            usage.cached += done->cached_tokens;
        }
        usage.completion += done->completion_tokens;
    }
    return usage;
}

/* --- the stream --- */

static void open_stream(struct generation *g);

static void send_or_break(struct generation *g, const struct buf *event)
{
    struct err err = {0};
    if (g->stream != NULL && !g->broken) {
        int rc = buf_check(event, "an event", &err);
        if (rc == 0 && event->len > 0) {
            rc = http_stream_write(g->stream, event->data, event->len, 0, &err);
        }
        if (rc != 0) {
            g->broken = true;
            if (rc != -ERR_CLOSED) {
                log_event(LOG_WARNING, "api", "stream_cut", "error=\"%s\"", err.message);
            }
            ticker_post(g->hub->ticker, &g->cancel);
        }
    }
}

void generation_send(struct generation *g)
{
    if (g->streams && g->stream == NULL) {
        buf_append(&g->early, g->event.data != NULL ? g->event.data : "", g->event.len);
        if (g->early.len > EARLY_ENOUGH_BYTES && g->failure.code == ERR_NONE) {
            open_stream(g);
        }
    } else {
        send_or_break(g, &g->event);
    }
    buf_clear(&g->event);
}

void generation_sse_begin(struct generation *g, struct json_out *out)
{
    buf_clear(&g->event);
    buf_puts(&g->event, "data: ");
    json_out_init(out, &g->event);
    json_out_object(out);
}

void generation_sse_end(struct generation *g, struct json_out *out)
{
    json_out_object_end(out);
    buf_puts(&g->event, "\n\n");
    generation_send(g);
}

static void open_stream(struct generation *g)
{
    struct err err = {0};
    struct http_response *response = http_request_response(g->request);
    response->status = 200;
    response->content_type = g->style->stream_type;
    if (http_stream_open(g->request, response, &g->stream, &err) != 0) {
        g->stream = NULL; /* no memory: answered by the last event */
        (void)err_set(&g->failure, ERR_NOMEM, "Out of memory for a stream");
        ticker_post(g->hub->ticker, &g->cancel);
        return;
    }
    http_stream_on_close(g->stream, on_closed, g);
    g->style->begin(g);
    send_or_break(g, &g->early);
    buf_release(&g->early);
}

/* --- the end --- */

static void end_stream(struct generation *g)
{
    if (g->failure.code == ERR_NONE) {
        g->style->end(g);
    } else if (g->failure.code != ERR_CANCELLED) {
        g->style->failed(g, &g->failure);
    }
    if (g->broken) {
        http_stream_abort(g->stream);
    } else {
        http_stream_end(g->stream);
    }
}

static void end_answer(struct generation *g)
{
    if (g->stream != NULL) {
        end_stream(g);
        return;
    }
    int rc = -(int)g->failure.code;
    if (rc == 0) {
        rc = g->style->answer(g, http_request_response(g->request), &g->failure);
    }
    http_request_finish(g->request, rc, &g->failure);
}

/* One choice more is over, `failure` being why it failed or NULL; under `events`. True when that
 * was the last: the caller then calls end_generation, without the lock. */
static bool choice_over(struct choice *c, const struct err *failure)
{
    struct generation *g = c->g;
    pthread_mutex_lock(&g->lock);
    c->over = true;
    pthread_mutex_unlock(&g->lock);
    if (failure != NULL && g->failure.code == ERR_NONE) {
        g->failure = *failure;
        if (g->n_over + 1 < g->n_choices) {
            ticker_post(g->hub->ticker, &g->cancel);
        }
    }
    return ++g->n_over == g->n_choices;
}

/* No answer is open afterwards, so on_closed is not called again. */
static void end_generation(struct generation *g)
{
    end_answer(g);
    ticker_forget(g->hub->ticker, &g->cancel);
    drop(g);
}

/* --- events of infer, on its threads --- */

static void on_accepted(void *ctx, const struct infer_accepted *accepted)
{
    struct choice *c = ctx;
    struct generation *g = c->g;
    pthread_mutex_lock(&g->events);
    c->accepted = *accepted;
    c->tool_format = tool_format_named(accepted->tool_format);
    c->thinks = accepted->thinking;
    if (g->style->accepted != NULL) {
        g->style->accepted(c, accepted);
    }
    c->accepted.tool_format = NULL;
    c->accepted.prompt_ids = NULL;
    g->n_ready += c->index % g->choices_per_prompt == 0;
    if (g->streams && g->stream == NULL && g->n_ready == g->n_prompts &&
        g->failure.code == ERR_NONE) {
        open_stream(g);
    }
    pthread_mutex_unlock(&g->events);
}

static void on_token(void *ctx, const struct infer_token *token)
{
    struct choice *c = ctx;
    struct generation *g = c->g;
    pthread_mutex_lock(&g->events);
    if (!g->streams && !g->style->keeps_text) {
        buf_append(&c->text, token->text, token->bytes);
    }
    if (g->style->token != NULL && !g->broken && g->failure.code == ERR_NONE) {
        g->style->token(c, token);
    }
    pthread_mutex_unlock(&g->events);
}

static void on_prompt_token(void *ctx, const struct infer_token *token)
{
    struct choice *c = ctx;
    struct generation *g = c->g;
    pthread_mutex_lock(&g->events);
    if (g->style->prompt_token != NULL && !g->broken && g->failure.code == ERR_NONE) {
        g->style->prompt_token(c, token);
    }
    pthread_mutex_unlock(&g->events);
}

static void on_done(void *ctx, const struct infer_done *done)
{
    struct choice *c = ctx;
    struct generation *g = c->g;
    pthread_mutex_lock(&g->events);
    c->done = *done;
    c->done.finish_reason = strcmp(done->finish_reason, "length") == 0 ? "length" : "stop";
    if (!g->streams && !g->style->keeps_text) {
        buf_append(&c->text, done->text, done->text_bytes);
    }
    if (g->style->done != NULL && !g->broken && g->failure.code == ERR_NONE) {
        g->style->done(c);
    }
    c->done.text = NULL;
    c->done.text_bytes = 0;
    count_end(g, "ok");
    count_done(g, done);
    const bool last = choice_over(c, NULL);
    pthread_mutex_unlock(&g->events);
    if (last) {
        end_generation(g);
    }
}

static void on_failed(void *ctx, const struct err *failure)
{
    struct choice *c = ctx;
    struct generation *g = c->g;
    pthread_mutex_lock(&g->events);
    count_end(g, failure->code == ERR_CANCELLED ? "cancelled" : "error");
    const bool last = choice_over(c, failure);
    pthread_mutex_unlock(&g->events);
    if (last) {
        end_generation(g);
    }
}

/* --- the handler's side --- */

int generation_new(struct generation **out, struct hub *hub, const struct resolved_model *model,
                   const struct answer_style *style, bool streams, struct err *err)
{
    struct generation *g = mem_calloc(1, sizeof *g);
    struct choice *choices = mem_calloc(GENERATION_CHOICES_MAX, sizeof *choices);
    if (g == NULL || choices == NULL) {
        mem_free(g);
        mem_free(choices);
        return mem_err(err, sizeof *g);
    }
    g->hub = hub;
    g->style = style;
    g->streams = streams;
    g->choices = choices;
    g->holders = 2;
    g->cancel.run = cancel;
    g->cancel.ctx = g;
    g->created_us = clock_wall_us();
    g->started_ns = clock_monotonic_ns();
    g->choices_per_prompt = 1;
    buf_init(&g->event, EVENT_BYTES_MAX);
    buf_init(&g->early, EARLY_BYTES_MAX);
    for (int i = 0; i < GENERATION_CHOICES_MAX; i++) {
        choices[i].g = g;
        choices[i].index = i;
        buf_init(&choices[i].text, TEXT_BYTES_MAX);
        buf_init(&choices[i].logprobs, LOGPROBS_BYTES_MAX);
    }
    pthread_mutex_init(&g->events, NULL);
    pthread_mutex_init(&g->lock, NULL);
    (void)snprintf(g->label, sizeof g->label, "%s",
                   model->is_registered ? model->model.name
                   : model->has_preset  ? model->preset.name
                                        : model->base_id);
    *out = g;
    return 0;
}

static int submit(struct choice *c, const struct infer_spec *spec, struct infer_places *places,
                  struct err *err)
{
    static const struct infer_events events = {.accepted = on_accepted,
                                               .token = on_token,
                                               .prompt_token = on_prompt_token,
                                               .done = on_done,
                                               .failed = on_failed};
    struct generation *g = c->g;
    struct infer_request *request = NULL;
    const int rc = infer_submit_reserved(g->hub->infer, places, spec, &events, c, &request, err);
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&g->lock);
    c->request = request;
    c->submitted = true;
    if (g->client_gone && !c->over) {
        infer_cancel(request);
    }
    pthread_mutex_unlock(&g->lock);
    return 0;
}

/* Choices draw from one seed, each its own numbers; without one the hub picks it. */
static int pick_seed(struct infer_spec *specs, int n_specs, struct err *err)
{
    uint64_t seed;
    if (specs[0].sampling.has_seed) {
        return 0;
    }
    if (rng_os_bytes(&seed, sizeof seed) != 0) {
        return err_set(err, ERR_IO, "no random seed is to be had");
    }
    for (int i = 0; i < n_specs; i++) {
        specs[i].sampling.seed = seed & INT32_MAX; /* one that every client can send back */
        specs[i].sampling.has_seed = true;
    }
    return 0;
}

int generation_run(struct generation *g, struct http_request *request, struct infer_spec *specs,
                   int n_specs, int n)
{
    struct err err = {0};
    struct infer_places places = {0};
    struct infer *infer = g->hub->infer;
    int rc = pick_seed(specs, n_specs, &err);
    g->request = request;
    g->n_choices = n_specs * n;
    g->n_prompts = n_specs;
    g->choices_per_prompt = n;
    http_request_defer(request);
    http_request_on_close(request, on_closed, g);
    rc = rc == 0 ? infer_keep_places(infer, g->n_choices, &places, &err) : rc;
    for (int i = 0; i < g->n_choices; i++) {
        struct infer_spec *spec = &specs[i / n];
        spec->choice = (uint32_t)(i % n);
        rc = rc == 0 ? submit(&g->choices[i], spec, &places, &err) : rc;
        if (rc == 0) {
            continue;
        }
        count_end(g, "refused");
        pthread_mutex_lock(&g->events);
        const bool last = choice_over(&g->choices[i], &err);
        pthread_mutex_unlock(&g->events);
        if (last) {
            end_generation(g);
        }
    }
    infer_release_places(infer, &places);
    drop(g);
    return 0;
}
