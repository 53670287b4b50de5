/* POST /v1/embeddings, /api/embed and /api/embeddings: the mean of a text's hidden states, of
 * length 1, or of its first `dimensions` numbers, again of length 1. As many texts as there are
 * sessions are embedded together; what is too long for the context is refused, and cut only where
 * Ollama's clients ask to `truncate` or give a `num_ctx`. Where these send nothing to embed the
 * model is loaded, and the answer is a list of nothing. */
#include <math.h>
#include <string.h>

#include "api/handlers.h"
#include "api/members.h"
#include "api/ollama.h"
#include "base/clock.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { INPUTS_MAX = 2048 /* as OpenAI's */, VECTOR_BYTES_MAX = 1 << 20 };

#define DIMENSIONS_FIELD                                                                           \
    {                                                                                              \
        .name = "dimensions", .kind = HTTP_INT, .flags = HTTP_NULLABLE | HTTP_MIN | HTTP_MAX,      \
        .min = 0, .max = INT32_MAX                                                                 \
    }

static const struct http_field openai_fields[] = {
    {.name = "model",
     .kind = HTTP_STRING,
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = 800},
    {.name = "input", .kind = HTTP_ANY, .flags = HTTP_REQUIRED},
    {.name = "encoding_format", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
    DIMENSIONS_FIELD,
};
static const struct http_field ollama_fields[] = {
    {.name = "model", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "input", .kind = HTTP_ANY},
    {.name = "prompt", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
    {.name = "keep_alive", .kind = HTTP_ANY},
    {.name = "truncate", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
    {.name = "options", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
    DIMENSIONS_FIELD,
};
const struct api_body openai_embeddings_body = {openai_fields, COUNT_OF(openai_fields), true};
const struct api_body ollama_embed_body = {ollama_fields, COUNT_OF(ollama_fields), true};

struct inputs {
    const json_t *list; /* of texts or lists of tokens; or NULL: the one below */
    const json_t *one;
    size_t n;
    size_t dimensions; /* of each vector; 0: all */
};

static int read_inputs(const json_t *body, const char *name, struct inputs *out, struct err *err)
{
    const json_t *input = json_object_get(body, name);
    const json_t *first = json_array_get(input, 0);
    const bool many = json_is_string(first) || json_is_array(first);
    out->list = many ? input : NULL;
    out->one = input;
    out->dimensions = (size_t)json_integer_value(json_object_get(body, "dimensions"));
    out->n = many ? json_array_size(input) : 1;
    if (out->n > INPUTS_MAX) {
        return err_set(err, ERR_UNPROCESSABLE, "%zu texts; at most %d are embedded at once", out->n,
                       INPUTS_MAX);
    }
    return 0;
}

static int read_input(const struct inputs *inputs, size_t i, struct arena *arena,
                      struct infer_spec *spec, struct err *err)
{
    const json_t *input = inputs->list != NULL ? json_array_get(inputs->list, i) : inputs->one;
    const size_t n = json_array_size(input);
    spec->prompt = json_string_value(input);
    spec->prompt_bytes = json_string_length(input);
    spec->prompt_ids = NULL;
    if (json_is_string(input) && spec->prompt_bytes > 0) {
        return 0;
    }
    int32_t *ids = n > 0 ? arena_alloc(arena, n, sizeof *ids) : NULL;
    for (size_t k = 0; k < n && ids != NULL; k++) {
        const json_t *id = json_array_get(input, k);
        const int64_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value > INT32_MAX) {
            ids = NULL;
        } else {
            ids[k] = (int32_t)value;
        }
    }
    spec->prompt_ids = ids;
    spec->n_prompt_ids = n;
    return ids != NULL
               ? 0
               : err_set(err, ERR_UNPROCESSABLE, "'input' must be text or tokens, and not empty");
}

static void put_vector(struct json_out *out, const struct buf *vector, bool base64)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *bytes = (const unsigned char *)vector->data;
    if (!base64) {
        json_out_array(out);
        for (size_t i = 0; i < vector->len / sizeof(float); i++) {
            float value;
            memcpy(&value, vector->data + i * sizeof value, sizeof value);
            json_out_real(out, (double)value);
        }
        json_out_array_end(out);
        return;
    }
    struct buf text;
    buf_init(&text, 2 * VECTOR_BYTES_MAX);
    for (size_t i = 0; i < vector->len; i += 3) {
        const size_t left = vector->len - i;
        const unsigned value = (unsigned)bytes[i] << 16 |
                               (left > 1 ? (unsigned)bytes[i + 1] << 8 : 0u) |
                               (left > 2 ? (unsigned)bytes[i + 2] : 0u);
        buf_putc(&text, digits[value >> 18]);
        buf_putc(&text, digits[value >> 12 & 63]);
        buf_putc(&text, left > 1 ? digits[value >> 6 & 63] : '=');
        buf_putc(&text, left > 2 ? digits[value & 63] : '=');
    }
    json_out_string(out, text.data);
    buf_release(&text);
}

/* What is embedded together. */
struct batch {
    struct infer_spec specs[INFER_EMBED_MAX];
    struct buf vectors[INFER_EMBED_MAX];
};

/* Keeps the first n numbers; 0: all. */
static int shorten(struct buf *vector, size_t n, struct err *err)
{
    const size_t all = vector->len / sizeof(float);
    double sum = 0.0;
    float value;
    if (n > all) {
        return err_set(err, ERR_INVALID, "'dimensions' is %zu; the model's vectors have %zu", n,
                       all);
    }
    if (n == 0 || n == all) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(&value, vector->data + i * sizeof value, sizeof value);
        sum += (double)value * (double)value;
    }
    const double length = sqrt(sum);
    for (size_t i = 0; i < n && length > 0.0; i++) {
        memcpy(&value, vector->data + i * sizeof value, sizeof value);
        value = (float)((double)value / length);
        memcpy(vector->data + i * sizeof value, &value, sizeof value);
    }
    vector->len = n * sizeof value;
    return 0;
}

static bool is_gone(void *ctx)
{
    return http_request_closed(ctx);
}

static void on_closed(void *ctx)
{
    (void)ctx; /* to be watched is enough: is_gone asks */
}

static int embed_batch(struct hub *hub, const struct inputs *inputs, size_t first, size_t n,
                       const struct infer_spec *model, struct http_request *request,
                       struct batch *batch, int *tokens, struct err *err)
{
    const struct infer_client client = {.gone = is_gone, .ctx = request};
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        batch->specs[i] = *model;
        buf_clear(&batch->vectors[i]);
        rc = read_input(inputs, first + i, request->arena, &batch->specs[i], err);
    }
    return rc == 0
               ? infer_embed(hub->infer, batch->specs, (int)n, &client, batch->vectors, tokens, err)
               : rc;
}

/* Ollama's clients may send nothing: no member, no text, an empty list. */
static bool is_nothing(const json_t *input)
{
    return input == NULL || json_is_null(input) ||
           (json_is_string(input) && json_string_length(input) == 0) ||
           (json_is_array(input) && json_array_size(input) == 0);
}

/* Writes one vector per input through `put`; *tokens counts all of them. */
static int embed_all(struct hub *hub, const struct inputs *inputs, struct infer_spec *spec,
                     struct http_request *request, struct json_out *out,
                     void (*put)(struct json_out *out, size_t i, const struct buf *vector),
                     int *tokens, struct err *err)
{
    const int sessions = hub->settings.max_sessions;
    const size_t together = sessions < INFER_EMBED_MAX ? (size_t)sessions : INFER_EMBED_MAX;
    struct batch *batch = mem_calloc(1, sizeof *batch);
    int rc = batch != NULL ? 0 : mem_err(err, sizeof *batch);
    *tokens = 0;
    http_request_on_close(request, on_closed, NULL);
    for (size_t i = 0; batch != NULL && i < INFER_EMBED_MAX; i++) {
        buf_init(&batch->vectors[i], VECTOR_BYTES_MAX);
    }
    for (size_t first = 0; first < inputs->n && rc == 0; first += together) {
        const size_t n = inputs->n - first < together ? inputs->n - first : together;
        int more = 0;
        rc = embed_batch(hub, inputs, first, n, spec, request, batch, &more, err);
        for (size_t i = 0; i < n && rc == 0; i++) {
            rc = shorten(&batch->vectors[i], inputs->dimensions, err);
            if (rc == 0) {
                put(out, first + i, &batch->vectors[i]);
            }
        }
        *tokens += more;
    }
    for (size_t i = 0; batch != NULL && i < INFER_EMBED_MAX; i++) {
        buf_release(&batch->vectors[i]);
    }
    mem_free(batch);
    return rc;
}

static void put_openai(struct json_out *out, size_t i, const struct buf *vector, bool base64)
{
    json_out_object(out);
    json_out_kv_string(out, "object", "embedding");
    json_out_kv_int(out, "index", (int64_t)i);
    json_out_key(out, "embedding");
    put_vector(out, vector, base64);
    json_out_object_end(out);
}

static void put_float(struct json_out *out, size_t i, const struct buf *vector)
{
    put_openai(out, i, vector, false);
}

static void put_base64(struct json_out *out, size_t i, const struct buf *vector)
{
    put_openai(out, i, vector, true);
}

static void put_bare(struct json_out *out, size_t i, const struct buf *vector)
{
    (void)i;
    put_vector(out, vector, false);
}

/* The checked body; *body NULL with 0: the answer was given. */
static int read_body(struct http_request *request, struct http_response *response,
                     const struct api_body *table, const json_t **body, struct err *err)
{
    struct http_issues issues;
    http_issues_init(&issues);
    const int rc = body_read(request, table, &issues, body, err);
    if (rc == 0 && issues.count > 0) {
        *body = NULL;
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    return rc;
}

/* num_ctx, of Ollama's options, is what a text is cut to. */
static int find(struct hub *hub, const char *name, int num_ctx, struct arena *arena,
                struct infer_spec *spec, struct err *err)
{
    struct resolved_model model;
    int rc = registry_resolve_model(hub->registry, name, arena, &model, err);
    if (rc == 0) {
        rc = ollama_check_context(hub, &model, num_ctx, err);
    }
    if (rc == 0) {
        rc = spec_of(hub, &model, arena, spec, err);
        spec->context_tokens = num_ctx;
    }
    return rc;
}

HANDLER(openai_embeddings)
{
    struct hub *hub = ctx;
    struct infer_spec spec;
    struct inputs inputs;
    struct json_out out;
    const json_t *body = NULL;
    int tokens = 0;
    int rc = read_body(request, response, &openai_embeddings_body, &body, err);
    if (rc != 0 || body == NULL) {
        return rc;
    }
    const char *format = body_string(body, "encoding_format");
    const bool base64 = format != NULL && strcmp(format, "base64") == 0;
    if (format != NULL && !base64 && strcmp(format, "float") != 0) {
        return err_set(err, ERR_INVALID, "'encoding_format' must be float or base64");
    }
    rc = read_inputs(body, "input", &inputs, err);
    if (rc == 0) {
        rc = find(hub, body_string(body, "model"), 0, request->arena, &spec, err);
    }
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    json_out_object(&out);
    json_out_kv_string(&out, "object", "list");
    json_out_kv_string(&out, "model", body_string(body, "model"));
    json_out_key(&out, "data");
    json_out_array(&out);
    rc = embed_all(hub, &inputs, &spec, request, &out, base64 ? put_base64 : put_float, &tokens,
                   err);
    json_out_array_end(&out);
    json_out_key(&out, "usage");
    json_out_object(&out);
    json_out_kv_int(&out, "prompt_tokens", tokens);
    json_out_kv_int(&out, "total_tokens", tokens);
    json_out_object_end(&out);
    json_out_object_end(&out);
    return rc == 0 ? http_reply_json(response, 200, err) : rc;
}

/* old: /api/embeddings, of one prompt. */
static int ollama(struct hub *hub, bool old, struct http_request *request,
                  struct http_response *response, struct err *err)
{
    struct infer_spec spec;
    struct inputs inputs;
    struct json_out out;
    const json_t *body = NULL;
    const char *name = NULL;
    int tokens = 0;
    int num_ctx = 0;
    const int64_t started = clock_monotonic_ns();
    int rc = read_body(request, response, &ollama_embed_body, &body, err);
    if (rc != 0 || body == NULL) {
        return rc;
    }
    const char *member = old ? "prompt" : "input";
    const bool nothing = is_nothing(json_object_get(body, member));
    rc = ollama_model_name(body, &name, err);
    if (rc == 0) {
        rc = read_inputs(body, member, &inputs, err);
    }
    if (rc == 0) {
        rc = member_int(json_object_get(body, "options"), "num_ctx", &num_ctx, err);
    }
    if (rc == 0) {
        rc = find(hub, name, num_ctx, request->arena, &spec, err);
    }
    if (rc == 0) {
        rc = ollama_keep_alive(body, &spec.has_keep_alive, &spec.keep_alive_ms, err);
    }
    if (rc == 0) {
        spec.truncate = ollama_truncates(body, num_ctx);
    }
    if (rc == 0 && nothing) {
        inputs.n = 0;
        rc = ollama_load(hub, &spec, err);
    }
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    json_out_object(&out);
    if (!old) {
        json_out_kv_string(&out, "model", name);
    }
    json_out_key(&out, old ? "embedding" : "embeddings");
    if (!old || nothing) {
        json_out_array(&out);
    }
    rc = embed_all(hub, &inputs, &spec, request, &out, put_bare, &tokens, err);
    if (rc != 0) {
        return rc;
    }
    if (!old || nothing) {
        json_out_array_end(&out);
    }
    if (!old) {
        json_out_kv_int(&out, "total_duration", clock_monotonic_ns() - started);
        json_out_kv_int(&out, "load_duration", 0);
        json_out_kv_int(&out, "prompt_eval_count", tokens);
    }
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

HANDLER(ollama_embed)
{
    return ollama(ctx, false, request, response, err);
}

HANDLER(ollama_embeddings)
{
    return ollama(ctx, true, request, response, err);
}
