/* POST /inference and /inference/stream: the hub's own way to ask. */
#include <stdio.h>
#include <string.h>

#include "api/generation.h"
#include "api/handlers.h"
#include "api/presets.h"
#include "base/clock.h"
#include "base/mem.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

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

/* The hub's own style: what its answers name beside the text. */
struct named {
    char model_id[GENERATION_NAME_BYTES];
    char version_id[40]; /* "" = the base alone */
};

static void begin_event(struct generation *g, const char *name, struct json_out *out)
{
    buf_clear(&g->event);
    buf_printf(&g->event, "event: %s\ndata: ", name);
    json_out_init(out, &g->event);
    json_out_object(out);
}

static void begin_stream(struct generation *g)
{
    (void)g; /* the first event is the first token's */
}

static void put_token(struct generation *g, int index, const char *text, size_t bytes)
{
    struct json_out out;
    begin_event(g, "token", &out);
    json_out_key(&out, "token");
    json_out_string_n(&out, text, bytes);
    json_out_kv_int(&out, "index", index);
    if (index == 0) {
        json_out_kv_real(&out, "ttft", (double)(clock_monotonic_ns() - g->started_ns) / 1e9);
    }
    generation_sse_end(g, &out);
}

static void on_token(struct choice *c, const struct infer_token *token)
{
    if (c->g->streams) {
        put_token(c->g, token->index, token->text, token->bytes);
    }
}

static void put_ids(const struct generation *g, struct json_out *out)
{
    const struct named *named = g->own;
    json_out_kv_string(out, "model_id", named->model_id);
    json_out_kv_string(out, "version_id", named->version_id[0] != '\0' ? named->version_id : NULL);
}

static void put_how(const struct infer_done *d, struct json_out *out)
{
    json_out_key(out, "seed");
    json_out_uint(out, d->seed);
    json_out_kv_string(out, "engine", d->engine);
    json_out_kv_int(out, "numerics_version", d->numerics_version);
}

static void on_done(struct choice *c)
{
    if (c->g->streams && c->done.text_bytes > 0) {
        put_token(c->g, c->done.completion_tokens, c->done.text, c->done.text_bytes);
    }
}

static void end_stream(struct generation *g)
{
    const struct infer_done *d = &g->choices[0].done;
    struct json_out out;
    begin_event(g, "done", &out);
    json_out_kv_int(&out, "total_tokens", d->completion_tokens);
    json_out_kv_real(&out, "total_time", d->total_time);
    json_out_kv_real(&out, "tokens_per_second", d->tokens_per_second);
    put_ids(g, &out);
    put_how(d, &out);
    generation_sse_end(g, &out);
}

static void fail_stream(struct generation *g, const struct err *failure)
{
    struct json_out out;
    begin_event(g, "error", &out);
    json_out_kv_string(&out, "detail", failure->message);
    generation_sse_end(g, &out);
}

static int answer(struct generation *g, struct http_response *response, struct err *err)
{
    const struct choice *c = &g->choices[0];
    const struct infer_done *d = &c->done;
    struct json_out out;
    const int rc = buf_check(&c->text, "the answer", err);
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    json_out_object(&out);
    json_out_key(&out, "text");
    json_out_string_n(&out, c->text.data != NULL ? c->text.data : "", c->text.len);
    put_ids(g, &out);
    json_out_kv_int(&out, "tokens_generated", d->completion_tokens);
    json_out_kv_real(&out, "time_to_first_token", d->time_to_first_token);
    json_out_kv_real(&out, "total_time", d->total_time);
    json_out_kv_real(&out, "tokens_per_second", d->tokens_per_second);
    put_how(d, &out);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

static void release(struct generation *g)
{
    mem_free(g->own);
}

static const struct answer_style chat_style = {.stream_type = HTTP_SSE,
                                               .operation = "chat",
                                               .begin = begin_stream,
                                               .token = on_token,
                                               .done = on_done,
                                               .end = end_stream,
                                               .failed = fail_stream,
                                               .answer = answer,
                                               .release = release};
static const struct answer_style prompt_style = {.stream_type = HTTP_SSE,
                                                 .operation = "text_completion",
                                                 .begin = begin_stream,
                                                 .token = on_token,
                                                 .done = on_done,
                                                 .end = end_stream,
                                                 .failed = fail_stream,
                                                 .answer = answer,
                                                 .release = release};

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

static int begin(struct generation **out, struct hub *hub, const struct resolved_model *model,
                 const struct answer_style *style, bool streams, struct err *err)
{
    struct named *named = mem_calloc(1, sizeof *named);
    if (named == NULL) {
        return mem_err(err, sizeof *named);
    }
    const int rc = generation_new(out, hub, model, style, streams, err);
    if (rc != 0) {
        mem_free(named);
        return rc;
    }
    (void)snprintf(named->model_id, sizeof named->model_id, "%s",
                   model->is_registered ? model->model.id
                   : model->has_preset  ? model->preset.name
                                        : model->base_id);
    (void)snprintf(named->version_id, sizeof named->version_id, "%s",
                   model->has_version ? model->version.id : "");
    (*out)->own = named;
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
    json_t *messages = NULL;
    int ignored = 0;
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
        rc = preset_sampling(&model, body, &sampling, &ignored, err);
    }
    if (rc == 0 && body_string(body, "prompt") == NULL) {
        messages = json_incref(json_object_get(body, "messages"));
        rc = preset_messages(&model, &messages, err);
    }
    if (rc == 0) {
        const json_t *prompt = json_object_get(body, "prompt");
        spec.sampling = sampling;
        spec.prompt = json_string_value(prompt);
        spec.prompt_bytes = json_string_length(prompt);
        spec.messages = messages;
        spec.trace_id = request->request_id;
        rc = begin(&g, hub, &model, spec.messages != NULL ? &chat_style : &prompt_style, streams,
                   err);
    }
    rc = rc == 0 ? generation_run(g, request, &spec, 1, 1) : rc;
    json_decref(messages);
    return rc;
}

HANDLER(inference_create)
{
    return generate(ctx, request, response, false, err);
}

HANDLER(inference_stream)
{
    return generate(ctx, request, response, true, err);
}
