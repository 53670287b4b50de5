/* POST /v1/completions: a text goes on. Prompts are one text, one list of tokens, or a list of
 * either; choices stand in the order of prompts. */
#include "api/handlers.h"
#include "api/openai.h"
#include "api/presets.h"

#include <string.h>

#include "base/utf8.h"

enum { ECHO_BYTES = 512 << 10 };

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct http_field usage_field[] = {
    {.name = "include_usage", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE}};
static const struct http_field fields[] = {
    OPENAI_COMMON_FIELDS,
    {.name = "prompt", .kind = HTTP_ANY, .flags = HTTP_REQUIRED},
    {.name = "echo", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
    {.name = "logprobs", .kind = HTTP_ANY},
    {.name = "stream_options",
     .kind = HTTP_OBJECT,
     .flags = HTTP_NULLABLE | HTTP_OPEN,
     .fields = usage_field,
     .n_fields = COUNT_OF(usage_field)},
};
const struct api_body openai_completions_body = {fields, COUNT_OF(fields), true};

static const char object_name[] = "text_completion";

static void put_choice(struct choice *c, const char *text, size_t n, const char *finish_reason,
                       struct json_out *out)
{
    json_out_object(out);
    json_out_kv_int(out, "index", c->index);
    json_out_key(out, "text");
    json_out_string_n(out, text != NULL ? text : "", n);
    openai_put_legacy_logprobs(c, out);
    json_out_kv_string(out, "finish_reason", finish_reason);
    json_out_object_end(out);
}

static void chunk(struct choice *c, const char *text, size_t n, const char *finish_reason)
{
    struct json_out out;
    generation_sse_begin(c->g, &out);
    openai_put_head(c->g, object_name, &out);
    json_out_key(&out, "choices");
    json_out_array(&out);
    put_choice(c, text, n, finish_reason, &out);
    json_out_array_end(&out);
    generation_sse_end(c->g, &out);
}

static void begin_stream(struct generation *g)
{
    (void)g; /* the first chunk is the first text's */
}

/* The first n bytes of the prompt's text, with all scores that there are. */
static void send_echo(struct choice *c, size_t n)
{
    if (n > 0) {
        chunk(c, c->text.data, n, NULL);
        memmove(c->text.data, c->text.data + n, c->text.len - n);
        c->text.len -= n;
    }
}

static void flush_echo(struct choice *c)
{
    if (c->g->streams) {
        send_echo(c, c->text.len);
    }
}

/* With echo the prompt's text is put together from its tokens: sent before the answer's first, in
 * parts where there is much of it. */
static void on_prompt_token(struct choice *c, const struct infer_token *token)
{
    const struct openai_answer *answer = c->g->own;
    const struct openai_choice *own = c->own;
    buf_append(&c->text, token->token.bytes, token->token.n);
    if (answer->logprobs) {
        openai_add_legacy_logprob(c, token);
    }
    if (c->g->streams && c->text.len + own->tops.len > ECHO_BYTES) {
        send_echo(c, utf8_complete_prefix(c->text.data, c->text.len));
    }
}

static void on_token(struct choice *c, const struct infer_token *token)
{
    flush_echo(c);
    if (token->scored) {
        openai_add_legacy_logprob(c, token);
    }
    if (!c->g->streams) {
        buf_append(&c->text, token->text, token->bytes);
    } else if (token->bytes > 0) {
        chunk(c, token->text, token->bytes, NULL);
    }
}

static void on_done(struct choice *c)
{
    flush_echo(c);
    if (!c->g->streams) {
        buf_append(&c->text, c->done.text, c->done.text_bytes);
        return;
    }
    if (c->done.text_bytes > 0) {
        chunk(c, c->done.text, c->done.text_bytes, NULL);
    }
    chunk(c, "", 0, c->done.finish_reason);
}

static int answer(struct generation *g, struct http_response *response, struct err *err)
{
    struct json_out out;
    http_json(response, &out);
    json_out_object(&out);
    openai_put_head(g, object_name, &out);
    json_out_key(&out, "choices");
    json_out_array(&out);
    for (int i = 0; i < g->n_choices; i++) {
        struct choice *c = &g->choices[i];
        const int rc = buf_check(&c->text, "the answer", err);
        if (rc != 0) {
            return rc;
        }
        put_choice(c, c->text.data, c->text.len, c->done.finish_reason, &out);
    }
    json_out_array_end(&out);
    openai_put_usage(g, &out);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

static const struct answer_style style = {.stream_type = HTTP_SSE,
                                          .operation = "text_completion",
                                          .keeps_text = true,
                                          .begin = begin_stream,
                                          .token = on_token,
                                          .prompt_token = on_prompt_token,
                                          .done = on_done,
                                          .end = openai_end_stream,
                                          .failed = openai_fail_stream,
                                          .answer = answer,
                                          .release = openai_release};

/* --- prompts --- */

static int read_ids(const json_t *list, struct arena *arena, struct infer_spec *spec,
                    struct err *err)
{
    const size_t n = json_array_size(list);
    int32_t *ids = arena_alloc(arena, n, sizeof *ids);
    if (ids == NULL) {
        return mem_err(err, n * sizeof *ids);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(list, i);
        const int64_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value > INT32_MAX) {
            return err_set(err, ERR_UNPROCESSABLE, "'prompt' must be text or tokens");
        }
        ids[i] = (int32_t)value;
    }
    spec->prompt_ids = ids;
    spec->n_prompt_ids = n;
    return 0;
}

static int read_prompt(const json_t *prompt, struct arena *arena, struct infer_spec *spec,
                       struct err *err)
{
    if (json_is_array(prompt) && json_array_size(prompt) > 0) {
        return read_ids(prompt, arena, spec, err);
    }
    if (!json_is_string(prompt)) {
        return err_set(err, ERR_UNPROCESSABLE, "'prompt' must be text or tokens");
    }
    spec->prompt = json_string_value(prompt);
    spec->prompt_bytes = json_string_length(prompt);
    return 0;
}

static int read_prompts(const json_t *prompt, const struct openai_request *asked,
                        struct arena *arena, const struct infer_spec *model,
                        struct infer_spec **specs, int *n_specs, struct err *err)
{
    const json_t *first = json_array_get(prompt, 0);
    const bool many = first != NULL && !json_is_integer(first);
    const size_t n = many ? json_array_size(prompt) : 1;
    if (n * (size_t)asked->n > OPENAI_CHOICES_MAX) {
        return err_set(err, ERR_UNPROCESSABLE,
                       "%zu prompts with %d answers each; at most %d in all", n, asked->n,
                       OPENAI_CHOICES_MAX);
    }
    *specs = arena_alloc(arena, n, sizeof **specs);
    if (*specs == NULL) {
        return mem_err(err, n * sizeof **specs);
    }
    for (size_t i = 0; i < n; i++) {
        struct infer_spec *spec = &(*specs)[i];
        *spec = *model;
        spec->sampling = asked->sampling;
        spec->score_prompt = asked->echo;
        spec->cold = asked->cold;
        const int rc = read_prompt(many ? json_array_get(prompt, i) : prompt, arena, spec, err);
        if (rc != 0) {
            return rc;
        }
    }
    *n_specs = (int)n;
    return 0;
}

HANDLER(openai_completions)
{
    struct http_issues issues;
    struct openai_request asked;
    struct resolved_model model;
    struct infer_spec spec;
    struct infer_spec *specs = NULL;
    struct generation *g = NULL;
    const json_t *body = NULL;
    json_t *grammar = NULL;
    int n_specs = 0;
    int ignored = 0;
    http_issues_init(&issues);
    int rc = body_read(request, &openai_completions_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    if (rc == 0) {
        rc = openai_request_read(body, false, &asked, err);
    }
    if (rc == 0) {
        rc = openai_find_model(ctx, body, request->arena, &model, &spec, err);
    }
    if (rc == 0) {
        rc = openai_read_format(body, &grammar, err);
    }
    if (rc == 0) {
        rc = preset_sampling(&model, body, &asked.sampling, &ignored, err);
    }
    if (rc == 0) {
        spec.trace_id = request->request_id;
        spec.grammar = grammar;
        rc = read_prompts(json_object_get(body, "prompt"), &asked, request->arena, &spec, &specs,
                          &n_specs, err);
    }
    if (rc == 0) {
        rc = openai_begin(&g, ctx, &model, &style, &asked, "cmpl", err);
    }
    if (rc == 0) {
        ((struct openai_answer *)g->own)->chunk_object = object_name;
        rc = generation_run(g, request, specs, n_specs, asked.n);
    }
    json_decref(grammar);
    return rc;
}
