/* POST /v1/chat/completions. */
#include "api/handlers.h"
#include "api/openai.h"
#include "api/presets.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct http_field message_fields[] = {
    {.name = "role", .kind = HTTP_STRING, .flags = HTTP_REQUIRED},
    {.name = "content", .kind = HTTP_ANY},
    {.name = "tool_calls", .kind = HTTP_ARRAY, .flags = HTTP_NULLABLE},
    {.name = "tool_call_id", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
};
static const struct http_field message_item = {.kind = HTTP_OBJECT,
                                               .flags = HTTP_OPEN,
                                               .fields = message_fields,
                                               .n_fields = COUNT_OF(message_fields)};
static const struct http_field tool_item = {.kind = HTTP_OBJECT};
static const struct http_field usage_field[] = {
    {.name = "include_usage", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE}};

static const struct http_field fields[] = {
    OPENAI_COMMON_FIELDS,
    {.name = "messages",
     .kind = HTTP_ARRAY,
     .flags = HTTP_REQUIRED | HTTP_MIN,
     .min = 1,
     .items = &message_item},
    {.name = "stream_options",
     .kind = HTTP_OBJECT,
     .flags = HTTP_NULLABLE | HTTP_OPEN,
     .fields = usage_field,
     .n_fields = COUNT_OF(usage_field)},
    {.name = "max_completion_tokens", .kind = HTTP_INT, .flags = HTTP_NULLABLE},
    {.name = "logprobs", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
    {.name = "top_logprobs", .kind = HTTP_INT, .flags = HTTP_NULLABLE},
    {.name = "tools", .kind = HTTP_ARRAY, .flags = HTTP_NULLABLE, .items = &tool_item},
    {.name = "tool_choice", .kind = HTTP_ANY},
    {.name = "parallel_tool_calls", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
    {.name = "response_format", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
    {.name = "chat_template_kwargs", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
    {.name = "reasoning_format", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
    {.name = "reasoning_effort", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
};
const struct api_body openai_chat_body = {fields, COUNT_OF(fields), true};

static const char object_name[] = "chat.completion";
static const char chunk_name[] = "chat.completion.chunk";

/* --- chunks --- */

/* Begins a chunk with one choice and leaves its delta open. */
static void begin_chunk(struct choice *c, struct json_out *out)
{
    generation_sse_begin(c->g, out);
    openai_put_head(c->g, chunk_name, out);
    json_out_key(out, "choices");
    json_out_array(out);
    json_out_object(out);
    json_out_kv_int(out, "index", c->index);
    json_out_key(out, "delta");
    json_out_object(out);
}

static void end_chunk(struct choice *c, const char *finish_reason, struct json_out *out)
{
    json_out_object_end(out);
    openai_put_chat_logprobs(c, out);
    json_out_kv_string(out, "finish_reason", finish_reason);
    json_out_object_end(out);
    json_out_array_end(out);
    generation_sse_end(c->g, out);
}

static void begin_stream(struct generation *g)
{
    struct json_out out;
    for (int i = 0; i < g->n_choices; i++) {
        begin_chunk(&g->choices[i], &out);
        json_out_kv_string(&out, "role", "assistant");
        json_out_kv_null(&out, "content");
        end_chunk(&g->choices[i], NULL, &out);
    }
}

static void say(void *ctx, const char *text, size_t n)
{
    struct choice *c = ctx;
    struct json_out out;
    if (!c->g->streams) {
        buf_append(&c->text, text, n);
        return;
    }
    begin_chunk(c, &out);
    json_out_key(&out, "content");
    json_out_string_n(&out, text, n);
    end_chunk(c, NULL, &out);
}

/* The members of one entry of tool_calls. */
static void put_call(struct json_out *out, const char *name, const char *arguments)
{
    uint64_t id = 0;
    char text[32];
    if (rng_os_bytes(&id, sizeof id) == 0) {
        (void)snprintf(text, sizeof text, "call_%016" PRIx64, id);
        json_out_kv_string(out, "id", text);
    }
    json_out_kv_string(out, "type", "function");
    json_out_key(out, "function");
    json_out_object(out);
    json_out_kv_string(out, "name", name);
    json_out_kv_string(out, "arguments", arguments);
    json_out_object_end(out);
}

static void begin_calls(struct choice *c, int index, struct json_out *out)
{
    begin_chunk(c, out);
    json_out_key(out, "tool_calls");
    json_out_array(out);
    json_out_object(out);
    json_out_kv_int(out, "index", index);
}

static void end_calls(struct choice *c, struct json_out *out)
{
    json_out_object_end(out);
    json_out_array_end(out);
    end_chunk(c, NULL, out);
}

static bool is_told(const struct choice *c, int index)
{
    const struct openai_answer *how = c->g->own;
    return index == 0 || !how->one_call;
}

static void call(void *ctx, int index, const char *name)
{
    struct choice *c = ctx;
    struct json_out out;
    if (c->g->streams && is_told(c, index)) {
        begin_calls(c, index, &out);
        put_call(&out, name, "");
        end_calls(c, &out);
    }
}

static void call_arguments(void *ctx, int index, const char *text, size_t n)
{
    struct choice *c = ctx;
    struct json_out out;
    if (c->g->streams && is_told(c, index)) {
        begin_calls(c, index, &out);
        json_out_key(&out, "function");
        json_out_object(&out);
        json_out_key(&out, "arguments");
        json_out_string_n(&out, text, n);
        json_out_object_end(&out);
        end_calls(c, &out);
    }
}

static void call_end(void *ctx, int index, const char *name, const char *arguments)
{
    struct choice *c = ctx;
    struct openai_choice *own = c->own;
    struct json_out out;
    if (!c->g->streams && is_told(c, index)) {
        if (index > 0) {
            buf_putc(&own->calls, ',');
        }
        json_out_init(&out, &own->calls);
        json_out_object(&out);
        put_call(&out, name, arguments);
        json_out_object_end(&out);
    }
}

static void think(void *ctx, const char *text, size_t n)
{
    struct choice *c = ctx;
    struct openai_choice *own = c->own;
    struct json_out out;
    if (!c->g->streams) {
        buf_append(&own->thought, text, n);
        return;
    }
    begin_chunk(c, &out);
    json_out_key(&out, "reasoning_content");
    json_out_string_n(&out, text, n);
    end_chunk(c, NULL, &out);
}

/* --- events: from thoughts to calls to text --- */

static struct tool_events tool_events_of(struct choice *c)
{
    return (struct tool_events){
        .text = say, .call = call, .arguments = call_arguments, .call_end = call_end, .ctx = c};
}

static void push_answer(void *ctx, const char *text, size_t n)
{
    struct choice *c = ctx;
    struct openai_choice *own = c->own;
    const struct openai_answer *answer = c->g->own;
    const struct tool_events events = tool_events_of(c);
    if (answer->tools) {
        own->parser.format = c->tool_format;
        tool_parser_push(&own->parser, text, n, &events);
    } else {
        say(c, text, n);
    }
}

static void push(struct choice *c, const char *text, size_t n, bool last)
{
    struct openai_choice *own = c->own;
    const struct openai_answer *answer = c->g->own;
    const struct think_events thoughts = {.thought = think, .text = push_answer, .ctx = c};
    if (c->thinks && answer->thinks) {
        think_parser_open(&own->thinking);
    }
    if (answer->thinks) {
        think_parser_push(&own->thinking, text, n, last, &thoughts);
    } else if (n > 0) {
        push_answer(c, text, n);
    }
    if (last && answer->tools) {
        const struct tool_events events = tool_events_of(c);
        tool_parser_end(&own->parser, &events);
    }
}

static void on_token(struct choice *c, const struct infer_token *token)
{
    openai_add_chat_logprob(c, token);
    push(c, token->text, token->bytes, false);
}

static const char *finish_reason(const struct choice *c)
{
    const struct openai_choice *own = c->own;
    const bool cut = own->parser.cut && strcmp(c->done.finish_reason, "length") == 0;
    return own->parser.n_calls > 0 && !cut ? "tool_calls" : c->done.finish_reason;
}

static void on_done(struct choice *c)
{
    struct json_out out;
    push(c, c->done.text, c->done.text_bytes, true);
    if (c->g->streams) {
        begin_chunk(c, &out);
        end_chunk(c, finish_reason(c), &out);
    }
}

static void put_choice(struct choice *c, struct json_out *out)
{
    const struct openai_choice *own = c->own;
    json_out_object(out);
    json_out_kv_int(out, "index", c->index);
    json_out_key(out, "message");
    json_out_object(out);
    json_out_kv_string(out, "role", "assistant");
    json_out_key(out, "content");
    if (c->text.len == 0 && own->parser.n_calls > 0) {
        json_out_null(out);
    } else {
        json_out_string_n(out, c->text.data != NULL ? c->text.data : "", c->text.len);
    }
    json_out_kv_null(out, "refusal");
    if (own->thought.len > 0) {
        json_out_key(out, "reasoning_content");
        json_out_string_n(out, own->thought.data, own->thought.len);
    }
    if (own->parser.n_calls > 0) {
        json_out_key(out, "tool_calls");
        json_out_array(out);
        json_out_raw(out, own->calls.data);
        json_out_array_end(out);
    }
    json_out_object_end(out);
    openai_put_chat_logprobs(c, out);
    json_out_kv_string(out, "finish_reason", finish_reason(c));
    json_out_object_end(out);
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
        const struct openai_choice *own = g->choices[i].own;
        int rc = buf_check(&g->choices[i].text, "the answer", err);
        rc = rc == 0 ? buf_check(&own->calls, "the answer", err) : rc;
        if (rc != 0) {
            return rc;
        }
        put_choice(&g->choices[i], &out);
    }
    json_out_array_end(&out);
    openai_put_usage(g, &out);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

static const struct answer_style style = {.stream_type = HTTP_SSE,
                                          .operation = "chat",
                                          .keeps_text = true,
                                          .begin = begin_stream,
                                          .token = on_token,
                                          .done = on_done,
                                          .end = openai_end_stream,
                                          .failed = openai_fail_stream,
                                          .answer = answer,
                                          .release = openai_release};

/* --- the request --- */

static int check_tools(const json_t *tools, struct err *err)
{
    size_t i;
    const json_t *tool;
    json_array_foreach(tools, i, tool)
    {
        const char *type = json_string_value(json_object_get(tool, "type"));
        const json_t *name = json_object_get(json_object_get(tool, "function"), "name");
        if (type == NULL || strcmp(type, "function") != 0 || !json_is_string(name)) {
            return err_set(err, ERR_INVALID, "tools[%zu]: only functions with a name are supported",
                           i);
        }
    }
    return 0;
}

/* Whether the model may call tools, or must: *tools NULL when it may not, and is not even told of
 * them; *grammar (json_decref) when it must. */
static int read_tools(const json_t *body, const json_t **tools, json_t **grammar, struct err *err)
{
    const json_t *given = json_object_get(body, "tools");
    const json_t *choice = json_object_get(body, "tool_choice");
    const char *word = json_string_value(choice);
    const char *name =
        json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
    const int rc = check_tools(given, err);
    if (rc != 0) {
        return rc;
    }
    *tools = json_array_size(given) > 0 ? given : NULL;
    if (choice == NULL || json_is_null(choice) || (word != NULL && strcmp(word, "auto") == 0)) {
        return 0;
    }
    if (word != NULL && strcmp(word, "none") == 0) {
        *tools = NULL;
        return 0;
    }
    if (name == NULL && (word == NULL || strcmp(word, "required") != 0)) {
        return err_set(err, ERR_INVALID,
                       "'tool_choice' must be \"auto\", \"none\", \"required\" or a function");
    }
    const bool parallel =
        name == NULL && !json_is_false(json_object_get(body, "parallel_tool_calls"));
    *grammar = grammar_of_tools(given, name, parallel, err);
    return *grammar != NULL ? 0 : -(int)err->code;
}

/* Whether thoughts are told apart from the answer. */
static int read_reasoning(const json_t *body, bool *apart, struct err *err)
{
    const char *format = body_string(body, "reasoning_format");
    *apart = format == NULL || strcmp(format, "none") != 0;
    if (format != NULL && *apart && strcmp(format, "auto") != 0 &&
        strcmp(format, "deepseek") != 0) {
        return err_set(err, ERR_INVALID,
                       "'reasoning_format' \"%.60s\" is not supported; none, auto and deepseek are",
                       format);
    }
    return 0;
}

static int run(struct hub *hub, struct http_request *request, const json_t *body, struct err *err)
{
    struct openai_request asked;
    struct resolved_model model;
    struct infer_spec spec;
    struct generation *g = NULL;
    const json_t *tools = NULL;
    json_t *messages = NULL;
    json_t *kwargs = NULL;
    json_t *grammar = NULL;
    bool thinks = true;
    int ignored = 0;
    int rc = openai_request_read(body, true, &asked, err);
    if (rc == 0) {
        rc = read_reasoning(body, &thinks, err);
    }
    if (rc == 0) {
        rc = read_tools(body, &tools, &grammar, err);
    }
    if (rc == 0) {
        rc = openai_read_format(body, &grammar, err);
    }
    if (rc == 0) {
        rc = member_kwargs(body, &kwargs, err);
    }
    if (rc == 0) {
        messages = messages_normal(json_object_get(body, "messages"), err);
        rc = messages != NULL ? 0 : -(int)err->code;
    }
    if (rc == 0) {
        rc = openai_find_model(hub, body, request->arena, &model, &spec, err);
    }
    if (rc == 0) {
        rc = preset_sampling(&model, body, &asked.sampling, &ignored, err);
    }
    if (rc == 0) {
        rc = preset_messages(&model, &messages, err);
    }
    if (rc == 0) {
        rc = openai_begin(&g, hub, &model, &style, &asked, "chatcmpl", err);
    }
    if (rc == 0) {
        struct openai_answer *answer_own = g->own;
        answer_own->chunk_object = chunk_name;
        answer_own->tools = tools != NULL;
        answer_own->thinks = thinks;
        answer_own->one_call = json_is_false(json_object_get(body, "parallel_tool_calls"));
        spec.sampling = asked.sampling;
        spec.cold = asked.cold;
        spec.messages = messages;
        spec.tools = tools;
        spec.template_kwargs = kwargs;
        spec.grammar = grammar;
        spec.trace_id = request->request_id;
        rc = generation_run(g, request, &spec, 1, asked.n);
    }
    json_decref(messages);
    json_decref(kwargs);
    json_decref(grammar);
    return rc;
}

HANDLER(openai_chat)
{
    struct http_issues issues;
    const json_t *body = NULL;
    http_issues_init(&issues);
    const int rc = body_read(request, &openai_chat_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    return rc == 0 ? run(ctx, request, body, err) : rc;
}
