/* POST /inference and /inference/stream.
 *
 *   handler: check ─▶ defer the request ─▶ infer_submit, and the worker thread is free
 *   infer's thread: accepted ─▶ (stream) headers ─▶ token … ─▶ done | failed ─▶ the end of both
 *
 * Invariants
 *   1. A generation has two holders, the handler and infer's events; the last one frees it.
 *   2. Before `accepted` an error is a status of its own; after it, in a stream, an event.
 *   3. The client's leaving is heard under a lock of the server, where infer must not be called: a
 *      task of the ticker cancels. `lock` keeps that from meeting the last event. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/handlers.h"
#include "api/spec.h"
#include "api/ticker.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/stream.h"
#include "telemetry/metrics.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { ANSWER_BYTES_MAX = 32 << 20, EVENT_BYTES_MAX = 64 << 10, NAME_BYTES = 512 };

static const char *const roles[] = {"system", "user", "assistant", "tool", NULL};
static const struct http_field message_fields[] = {
    {.name = "role", .kind = HTTP_ENUM, .flags = HTTP_REQUIRED, .choices = roles},
    {.name = "content", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
};
static const struct http_field message_item = {.kind = HTTP_OBJECT,
                                               .flags = HTTP_OPEN,
                                               .fields = message_fields,
                                               .n_fields = COUNT_OF(message_fields)};
static const struct http_field stop_item = {
    .kind = HTTP_STRING, .flags = HTTP_MIN | HTTP_MAX, .min = 1, .max = INFER_STOP_BYTES_MAX - 1};
static const struct http_field fields[] = {
    {.name = "model_id", .kind = HTTP_UUID},
    {.name = "version_id", .kind = HTTP_UUID, .flags = HTTP_NULLABLE},
    {.name = "model", .kind = HTTP_STRING, .flags = HTTP_MIN | HTTP_MAX, .min = 1, .max = 800},
    {.name = "prompt",
     .kind = HTTP_STRING,
     .flags = HTTP_NULLABLE | HTTP_MAX,
     .max = INFER_PROMPT_BYTES_MAX},
    {.name = "messages",
     .kind = HTTP_ARRAY,
     .flags = HTTP_NULLABLE | HTTP_MIN,
     .min = 1,
     .items = &message_item},
    {.name = "max_tokens",
     .kind = HTTP_INT,
     .flags = HTTP_NULLABLE | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = INFER_TOKENS_MAX},
    {.name = "temperature",
     .kind = HTTP_REAL,
     .flags = HTTP_NULLABLE | HTTP_MIN | HTTP_MAX,
     .min = 0,
     .max = 100},
    {.name = "top_p",
     .kind = HTTP_REAL,
     .flags = HTTP_NULLABLE | HTTP_MIN | HTTP_MAX | HTTP_ABOVE,
     .min = 0,
     .max = 1},
    {.name = "top_k",
     .kind = HTTP_INT,
     .flags = HTTP_NULLABLE | HTTP_MIN | HTTP_MAX,
     .min = 0,
     .max = INT32_MAX},
    {.name = "repetition_penalty",
     .kind = HTTP_REAL,
     .flags = HTTP_NULLABLE | HTTP_MIN | HTTP_MAX,
     .min = 0.01,
     .max = 100},
    {.name = "stop_sequences",
     .kind = HTTP_ARRAY,
     .flags = HTTP_NULLABLE | HTTP_MAX,
     .max = INFER_STOPS_MAX,
     .items = &stop_item},
    {.name = "seed", .kind = HTTP_INT, .flags = HTTP_NULLABLE | HTTP_MIN, .min = 0},
};
const struct api_body inference_body = {fields, COUNT_OF(fields), false};

struct generation {
    struct hub *hub;
    struct http_request *request; /* until the answer has begun or was given */
    struct http_stream *stream;
    bool streams;
    bool chat;
    bool broken;     /* the stream took no more: nothing is sent any more */
    struct buf text; /* of a plain answer */
    struct buf event;
    char model_id[NAME_BYTES];
    char version_id[40]; /* "" = the base alone */
    char label[NAME_BYTES];
    int64_t submitted_ns;
    struct ticker_task cancel;
    pthread_mutex_t lock;
    /* under lock */
    struct infer_request *infer_request;
    int holders;
    bool submitted, finished, client_gone;
};

static void generation_drop(struct generation *g)
{
    pthread_mutex_lock(&g->lock);
    const int left = --g->holders;
    pthread_mutex_unlock(&g->lock);
    if (left > 0) {
        return;
    }
    pthread_mutex_destroy(&g->lock);
    buf_release(&g->text);
    buf_release(&g->event);
    mem_free(g);
}

/* --- the client leaves --- */

/* On the ticker's thread. */
static void cancel(void *ctx)
{
    struct generation *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->client_gone = true;
    if (g->submitted && !g->finished) {
        infer_cancel(g->infer_request);
    }
    pthread_mutex_unlock(&g->lock);
}

/* On a thread of the server, under its lock. */
static void on_closed(void *ctx)
{
    struct generation *g = ctx;
    ticker_post(g->hub->ticker, &g->cancel);
}

/* The last event: no answer is open any more, so on_closed is not called again. */
static void generation_end(struct generation *g)
{
    pthread_mutex_lock(&g->lock);
    g->finished = true;
    pthread_mutex_unlock(&g->lock);
    ticker_forget(g->hub->ticker, &g->cancel);
    generation_drop(g);
}

/* --- what is counted --- */

static void count_end(const struct generation *g, const char *outcome)
{
    const char *labels[] = {g->label, outcome};
    metric_add(metric_with(METRIC_INFERENCE_REQUESTS, labels), 1);
}

static void count_done(const struct generation *g, const struct infer_done *d)
{
    const char *labels[] = {g->chat ? "chat" : "text_completion", g->label, "input"};
    const double rest = d->total_time - d->time_to_first_token;
    metric_observe(metric_get(METRIC_INFERENCE_TTFT), d->time_to_first_token);
    metric_observe(metric_get(METRIC_INFERENCE_QUEUE_WAIT), d->queue_time);
    metric_observe(metric_get(METRIC_INFERENCE_TOKENS_PER_SECOND), d->tokens_per_second);
    metric_add(metric_get(METRIC_INFERENCE_TOKENS_GENERATED), (uint64_t)d->completion_tokens);
    metric_add(metric_get(METRIC_INFERENCE_PROMPT_TOKENS), (uint64_t)d->prompt_tokens);
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

/* --- events of infer, on its threads --- */

/* Sends g->event, which holds one whole event. A client that is a whole buffer behind is cut rather
 * than waited for: others share this thread. */
static void send_event(struct generation *g)
{
    struct err err = {0};
    int rc = buf_check(&g->event, "an event", &err);
    if (rc == 0) {
        rc = http_stream_write(g->stream, g->event.data, g->event.len, 0, &err);
    }
    if (rc != 0) {
        g->broken = true;
        if (rc != -ERR_CLOSED) {
            log_event(LOG_WARNING, "api", "stream_cut", "error=\"%s\"", err.message);
        }
        ticker_post(g->hub->ticker, &g->cancel);
    }
}

static void begin_event(struct generation *g, const char *name, struct json_out *out)
{
    buf_clear(&g->event);
    buf_printf(&g->event, "event: %s\ndata: ", name);
    json_out_init(out, &g->event);
    json_out_object(out);
}

static void end_event(struct generation *g, struct json_out *out)
{
    json_out_object_end(out);
    buf_puts(&g->event, "\n\n");
    send_event(g);
}

static void on_accepted(void *ctx, const struct infer_accepted *accepted)
{
    struct generation *g = ctx;
    struct err err = {0};
    (void)accepted;
    if (!g->streams) {
        return;
    }
    struct http_response *response = http_request_response(g->request);
    response->status = 200;
    response->content_type = HTTP_SSE;
    if (http_stream_open(g->request, response, &g->stream, &err) != 0) {
        g->stream = NULL; /* no memory: answered by the last event */
        ticker_post(g->hub->ticker, &g->cancel);
        return;
    }
    http_stream_on_close(g->stream, on_closed, g);
}

static void put_token(struct generation *g, int index, const char *text, size_t bytes)
{
    struct json_out out;
    begin_event(g, "token", &out);
    json_out_key(&out, "token");
    json_out_string_n(&out, text, bytes);
    json_out_kv_int(&out, "index", index);
    if (index == 0) {
        json_out_kv_real(&out, "ttft", (double)(clock_monotonic_ns() - g->submitted_ns) / 1e9);
    }
    end_event(g, &out);
}

static void on_token(void *ctx, int index, int32_t id, const char *text, size_t bytes)
{
    struct generation *g = ctx;
    (void)id;
    if (!g->streams) {
        buf_append(&g->text, text, bytes);
    } else if (g->stream != NULL && !g->broken) {
        put_token(g, index, text, bytes);
    }
}

static void put_ids(const struct generation *g, struct json_out *out)
{
    json_out_kv_string(out, "model_id", g->model_id);
    json_out_kv_string(out, "version_id", g->version_id[0] != '\0' ? g->version_id : NULL);
}

static void put_how(const struct infer_done *d, struct json_out *out)
{
    json_out_key(out, "seed");
    json_out_uint(out, d->seed);
    json_out_kv_string(out, "engine", d->engine);
    json_out_kv_int(out, "numerics_version", d->numerics_version);
}

static void answer_stream(struct generation *g, const struct infer_done *d)
{
    struct json_out out;
    if (!g->broken && d->text_bytes > 0) {
        put_token(g, d->completion_tokens, d->text, d->text_bytes);
    }
    if (!g->broken) {
        begin_event(g, "done", &out);
        json_out_kv_int(&out, "total_tokens", d->completion_tokens);
        json_out_kv_real(&out, "total_time", d->total_time);
        json_out_kv_real(&out, "tokens_per_second", d->tokens_per_second);
        put_ids(g, &out);
        put_how(d, &out);
        end_event(g, &out);
    }
    if (g->broken) {
        http_stream_abort(g->stream);
    } else {
        http_stream_end(g->stream);
    }
}

static void answer_plain(struct generation *g, const struct infer_done *d)
{
    struct err err = {0};
    struct json_out out;
    struct http_response *response = http_request_response(g->request);
    buf_append(&g->text, d->text, d->text_bytes);
    int rc = buf_check(&g->text, "the answer", &err);
    if (rc == 0) {
        http_json(response, &out);
        json_out_object(&out);
        json_out_key(&out, "text");
        json_out_string_n(&out, g->text.data != NULL ? g->text.data : "", g->text.len);
        put_ids(g, &out);
        json_out_kv_int(&out, "tokens_generated", d->completion_tokens);
        json_out_kv_real(&out, "time_to_first_token", d->time_to_first_token);
        json_out_kv_real(&out, "total_time", d->total_time);
        json_out_kv_real(&out, "tokens_per_second", d->tokens_per_second);
        put_how(d, &out);
        json_out_object_end(&out);
        rc = http_reply_json(response, 200, &err);
    }
    http_request_finish(g->request, rc, &err);
}

static void on_failed(void *ctx, const struct err *failure)
{
    struct generation *g = ctx;
    struct json_out out;
    struct err err = *failure;
    count_end(g, failure->code == ERR_CANCELLED ? "cancelled" : "error");
    if (g->stream == NULL) {
        http_request_finish(g->request, -(int)err.code, &err);
    } else {
        if (!g->broken && failure->code != ERR_CANCELLED) {
            begin_event(g, "error", &out);
            json_out_kv_string(&out, "detail", failure->message);
            end_event(g, &out);
        }
        if (g->broken) {
            http_stream_abort(g->stream);
        } else {
            http_stream_end(g->stream);
        }
    }
    generation_end(g);
}

static void on_done(void *ctx, const struct infer_done *d)
{
    struct generation *g = ctx;
    struct err err = {0};
    if (g->streams && g->stream == NULL) {
        (void)err_set(&err, ERR_NOMEM, "Out of memory for a stream");
        on_failed(g, &err);
        return;
    }
    count_end(g, "ok");
    count_done(g, d);
    if (g->streams) {
        answer_stream(g, d);
    } else {
        answer_plain(g, d);
    }
    generation_end(g);
}

/* --- the handler --- */

static void check_choice(const json_t *body, struct http_issues *issues)
{
    const bool prompt = body_string(body, "prompt") != NULL;
    const bool messages = json_is_array(json_object_get(body, "messages"));
    const bool id = json_object_get(body, "model_id") != NULL;
    const bool name = json_object_get(body, "model") != NULL;
    if (!json_is_object(body)) {
        return;
    }
    if (!id && !name) {
        http_issue(issues, "body", "model_id", "missing", "Field required");
    } else if (id && name) {
        http_issue(issues, "body", "model", "value_error", "Give either model_id or model");
    } else if (name && body_string(body, "version_id") != NULL) {
        http_issue(issues, "body", "version_id", "value_error",
                   "A model that is named says its version itself: name@version");
    }
    if (prompt == messages && issues->count == 0) {
        http_issue(issues, "body", prompt ? "messages" : "prompt",
                   prompt ? "value_error" : "missing", "Give either prompt or messages");
    }
}

static int read_stops(const json_t *body, struct infer_sampling *s, struct err *err)
{
    const json_t *stops = json_object_get(body, "stop_sequences");
    for (size_t i = 0; i < json_array_size(stops); i++) {
        const json_t *stop = json_array_get(stops, i);
        const size_t n = json_string_length(stop);
        if (n >= INFER_STOP_BYTES_MAX) {
            return err_set(err, ERR_UNPROCESSABLE,
                           "stop sequence %zu has %zu bytes, at most %d may", i, n,
                           INFER_STOP_BYTES_MAX - 1);
        }
        memcpy(s->stops[s->n_stops++], json_string_value(stop), n + 1);
    }
    return 0;
}

static int read_sampling(const json_t *body, struct infer_sampling *s, struct err *err)
{
    const json_t *seed = json_object_get(body, "seed");
    int64_t max_tokens;
    int64_t top_k;
    double temperature;
    double top_p;
    double penalty;
    int rc = json_get_int(body, "max_tokens", s->max_tokens, &max_tokens, err);
    if (rc == 0) {
        rc = json_get_int(body, "top_k", s->top_k, &top_k, err);
    }
    if (rc == 0) {
        rc = json_get_real(body, "temperature", (double)s->temperature, &temperature, err);
    }
    if (rc == 0) {
        rc = json_get_real(body, "top_p", (double)s->top_p, &top_p, err);
    }
    if (rc == 0) {
        rc =
            json_get_real(body, "repetition_penalty", (double)s->repetition_penalty, &penalty, err);
    }
    if (rc != 0) {
        return rc;
    }
    s->max_tokens = (int)max_tokens;
    s->top_k = (int)top_k;
    s->temperature = (float)temperature;
    s->top_p = (float)top_p;
    s->repetition_penalty = (float)penalty;
    s->has_seed = json_is_number(seed);
    s->seed = s->has_seed ? (uint64_t)json_number_value(seed) : 0;
    s->seed = json_is_integer(seed) ? (uint64_t)json_integer_value(seed) : s->seed;
    return read_stops(body, s, err);
}

static int find_model(struct hub *hub, const json_t *body, struct arena *arena,
                      struct resolved_model *model, struct infer_spec *spec, struct err *err)
{
    const char *name = body_string(body, "model");
    const char *id = lower_id(arena, body_string(body, "model_id"));
    const char *version = lower_id(arena, body_string(body, "version_id"));
    const int rc = name != NULL
                       ? registry_resolve_model(hub->registry, name, arena, model, err)
                       : registry_resolve_ids(hub->registry, id, version, arena, model, err);
    return rc == 0 ? spec_of(hub, model, arena, spec, err) : rc;
}

static int generation_new(struct generation **out, struct hub *hub,
                          const struct resolved_model *model, bool streams, struct err *err)
{
    struct generation *g = mem_calloc(1, sizeof *g);
    if (g == NULL) {
        return mem_err(err, sizeof *g);
    }
    g->hub = hub;
    g->streams = streams;
    g->holders = 2;
    g->cancel.run = cancel;
    g->cancel.ctx = g;
    g->submitted_ns = clock_monotonic_ns();
    buf_init(&g->text, ANSWER_BYTES_MAX);
    buf_init(&g->event, EVENT_BYTES_MAX);
    pthread_mutex_init(&g->lock, NULL);
    (void)snprintf(g->model_id, sizeof g->model_id, "%s",
                   model->is_registered ? model->model.id : model->base_id);
    (void)snprintf(g->version_id, sizeof g->version_id, "%s",
                   model->has_version ? model->version.id : "");
    (void)snprintf(g->label, sizeof g->label, "%s",
                   model->is_registered ? model->model.name : model->base_id);
    *out = g;
    return 0;
}

/* Hands the request over to infer; from here on the answer comes from its threads. */
static int submit(struct generation *g, struct http_request *request, const struct infer_spec *spec,
                  struct err *err)
{
    static const struct infer_events events = {on_accepted, on_token, on_done, on_failed};
    struct infer_request *infer_request = NULL;
    g->request = request;
    g->chat = spec->messages != NULL;
    http_request_defer(request);
    http_request_on_close(request, on_closed, g);
    const int rc = infer_submit(g->hub->infer, spec, &events, g, &infer_request, err);
    if (rc != 0) {
        count_end(g, "refused");
        http_request_finish(request, rc, err);
        generation_end(g);
        generation_drop(g);
        return 0;
    }
    pthread_mutex_lock(&g->lock);
    g->infer_request = infer_request;
    g->submitted = true;
    if (g->client_gone && !g->finished) {
        infer_cancel(infer_request);
    }
    pthread_mutex_unlock(&g->lock);
    generation_drop(g);
    return 0;
}

static int generate(struct hub *hub, struct http_request *request, struct http_response *response,
                    bool streams, struct err *err)
{
    struct http_issues issues;
    struct resolved_model model;
    struct infer_spec spec;
    struct infer_sampling sampling;
    struct generation *g = NULL;
    const json_t *body = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &inference_body, &issues, &body, err);
    if (rc == 0) {
        check_choice(body, &issues);
    }
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    infer_sampling_defaults(&sampling);
    if (rc == 0) {
        rc = read_sampling(body, &sampling, err);
    }
    if (rc == 0) {
        rc = find_model(hub, body, request->arena, &model, &spec, err);
    }
    if (rc == 0) {
        const json_t *prompt = json_object_get(body, "prompt");
        spec.sampling = sampling;
        spec.prompt = json_string_value(prompt);
        spec.prompt_bytes = json_string_length(prompt);
        spec.messages = spec.prompt == NULL ? json_object_get(body, "messages") : NULL;
        spec.trace_id = request->request_id;
        rc = generation_new(&g, hub, &model, streams, err);
    }
    return rc == 0 ? submit(g, request, &spec, err) : rc;
}

HANDLER(inference_create)
{
    return generate(ctx, request, response, false, err);
}

HANDLER(inference_stream)
{
    return generate(ctx, request, response, true, err);
}
