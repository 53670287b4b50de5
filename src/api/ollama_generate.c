/* POST /api/generate and /api/chat. An empty request loads the model, with keep_alive 0 unloads it.
 * A prompt of generate is a message of the user's unless it is raw. */
#include "api/handlers.h"
#include "api/ollama.h"
#include "api/openai.h"
#include "api/presets.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"

enum { THOUGHT_BYTES_MAX = 32 << 20, CONTEXT_BYTES_MAX = 16 << 20 };

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define COMMON_FIELDS                                                                              \
    {.name = "model", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},         \
        {.name = "stream", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},                             \
        {.name = "options", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},                          \
        {.name = "keep_alive", .kind = HTTP_ANY}, {.name = "format", .kind = HTTP_ANY},            \
        {.name = "think", .kind = HTTP_ANY},                                                       \
        {.name = "logprobs", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},                           \
        {.name = "truncate", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},                           \
    {                                                                                              \
        .name = "top_logprobs", .kind = HTTP_INT, .flags = HTTP_NULLABLE                           \
    }

static const struct http_field item = {.kind = HTTP_OBJECT};
static const struct http_field token_item = {.kind = HTTP_INT};
static const struct http_field generate_fields[] = {
    COMMON_FIELDS,
    {.name = "prompt", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
    {.name = "system", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
    {.name = "raw", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
    {.name = "template", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
    {.name = "context", .kind = HTTP_ARRAY, .flags = HTTP_NULLABLE, .items = &token_item},
};
static const struct http_field chat_fields[] = {
    COMMON_FIELDS,
    {.name = "messages", .kind = HTTP_ARRAY, .flags = HTTP_NULLABLE, .items = &item},
    {.name = "tools", .kind = HTTP_ARRAY, .flags = HTTP_NULLABLE, .items = &item},
};
const struct api_body ollama_generate_body = {generate_fields, COUNT_OF(generate_fields), true};
const struct api_body ollama_chat_body = {chat_fields, COUNT_OF(chat_fields), true};

struct ollama_answer {
    char model[GENERATION_NAME_BYTES * 2];
    bool chat, tools, logprobs, thinks;
    bool tells_context;
    struct tool_parser parser;
    struct think_parser thinking;
    struct buf thought; /* not yet told */
    struct buf context; /* ids of prompt and answer, members of a list */
    struct buf calls;   /* members of tool_calls, not yet told */
};

/* --- lines --- */

static void put_head(const char *model, struct json_out *out)
{
    char now[CLOCK_ISO_BYTES];
    clock_format_iso(clock_wall_us(), now);
    json_out_kv_string(out, "model", model);
    json_out_kv_string(out, "created_at", now);
}

static void put_thought(struct ollama_answer *answer, struct json_out *out)
{
    if (answer->thought.len > 0) {
        json_out_key(out, "thinking");
        json_out_string_n(out, answer->thought.data, answer->thought.len);
        buf_clear(&answer->thought);
    }
}

static void put_text(struct choice *c, const char *text, size_t n, struct json_out *out)
{
    struct ollama_answer *answer = c->g->own;
    if (!answer->chat) {
        json_out_key(out, "response");
        json_out_string_n(out, text != NULL ? text : "", n);
        put_thought(answer, out);
        return;
    }
    json_out_key(out, "message");
    json_out_object(out);
    json_out_kv_string(out, "role", "assistant");
    json_out_key(out, "content");
    json_out_string_n(out, text != NULL ? text : "", n);
    put_thought(answer, out);
    if (answer->calls.len > 0) {
        json_out_key(out, "tool_calls");
        json_out_array(out);
        json_out_raw(out, answer->calls.data);
        json_out_array_end(out);
        buf_clear(&answer->calls);
    }
    json_out_object_end(out);
}

static void put_logprobs(struct choice *c, struct json_out *out)
{
    if (c->logprobs.len > 0) {
        json_out_key(out, "logprobs");
        json_out_array(out);
        json_out_raw(out, c->logprobs.data);
        json_out_array_end(out);
        buf_clear(&c->logprobs);
    }
}

static int64_t nanoseconds(double seconds)
{
    return (int64_t)(seconds * 1e9);
}

static void put_end(const struct choice *c, struct json_out *out)
{
    const struct infer_done *d = &c->done;
    const struct ollama_answer *answer = c->g->own;
    char fingerprint[96];
    (void)snprintf(fingerprint, sizeof fingerprint, "seed-%" PRIu64 "-%s-numerics-%d", d->seed,
                   d->engine, d->numerics_version);
    json_out_kv_bool(out, "done", true);
    json_out_kv_string(out, "done_reason", d->finish_reason);
    if (answer->tells_context) {
        json_out_key(out, "context");
        json_out_array(out);
        json_out_raw(out, answer->context.data != NULL ? answer->context.data : "");
        json_out_array_end(out);
    }
    json_out_kv_int(out, "total_duration", nanoseconds(d->total_time));
    json_out_kv_int(out, "load_duration", nanoseconds(d->load_time));
    json_out_kv_int(out, "prompt_eval_count", d->prompt_tokens);
    json_out_kv_int(out, "prompt_eval_duration", nanoseconds(d->prompt_time));
    json_out_kv_int(out, "eval_count", d->completion_tokens);
    json_out_kv_int(out, "eval_duration", nanoseconds(d->decode_time));
    json_out_kv_string(out, "system_fingerprint", fingerprint);
}

static void begin_line(struct generation *g, struct json_out *out)
{
    const struct ollama_answer *answer = g->own;
    buf_clear(&g->event);
    json_out_init(out, &g->event);
    json_out_object(out);
    put_head(answer->model, out);
}

static void end_line(struct generation *g, struct json_out *out)
{
    json_out_object_end(out);
    buf_putc(&g->event, '\n');
    generation_send(g);
}

static void line(struct choice *c, const char *text, size_t n)
{
    struct json_out out;
    begin_line(c->g, &out);
    put_text(c, text, n, &out);
    json_out_kv_bool(&out, "done", false);
    put_logprobs(c, &out);
    end_line(c->g, &out);
}

/* --- events --- */

static void begin_stream(struct generation *g)
{
    (void)g; /* the first line is the first text's */
}

static void say(void *ctx, const char *text, size_t n)
{
    struct choice *c = ctx;
    if (c->g->streams) {
        line(c, text, n);
    } else {
        buf_append(&c->text, text, n);
    }
}

static void put_call(struct ollama_answer *answer, int index, const char *name,
                     const json_t *arguments)
{
    struct json_out out;
    uint64_t id = 0;
    char text[32];
    if (answer->calls.len > 0) {
        buf_putc(&answer->calls, ',');
    }
    json_out_init(&out, &answer->calls);
    json_out_object(&out);
    if (rng_os_bytes(&id, sizeof id) == 0) {
        (void)snprintf(text, sizeof text, "call_%016" PRIx64, id);
        json_out_kv_string(&out, "id", text);
    }
    json_out_key(&out, "function");
    json_out_object(&out);
    json_out_kv_int(&out, "index", index);
    json_out_kv_string(&out, "name", name);
    json_out_kv_tree(&out, "arguments", arguments);
    json_out_object_end(&out);
    json_out_object_end(&out);
}

/* Clients take whole calls whose arguments are objects; what is none is text. */
static void say_call(struct choice *c, const char *name, const char *arguments)
{
    struct buf text;
    buf_init(&text, 3 * TOOL_CALL_BYTES_MAX);
    buf_printf(&text, "{\"name\": \"%s\", \"arguments\": %s", name, arguments);
    say(c, text.data != NULL ? text.data : "", text.len);
    buf_release(&text);
}

static void call_end(void *ctx, int index, const char *name, const char *arguments)
{
    struct choice *c = ctx;
    struct err err = {0};
    json_t *tree = json_parse(arguments, strlen(arguments), &err);
    if (tree != NULL) {
        put_call(c->g->own, index, name, tree);
        if (c->g->streams) {
            line(c, "", 0);
        }
        json_decref(tree);
    } else {
        say_call(c, name, arguments);
    }
}

static void think(void *ctx, const char *text, size_t n)
{
    struct choice *c = ctx;
    struct ollama_answer *answer = c->g->own;
    buf_append(&answer->thought, text, n);
    if (c->g->streams) {
        line(c, "", 0);
    }
}

static void push_answer(void *ctx, const char *text, size_t n)
{
    struct choice *c = ctx;
    struct ollama_answer *answer = c->g->own;
    const struct tool_events events = {.text = say, .call_end = call_end, .ctx = c};
    if (answer->tools) {
        answer->parser.format = c->tool_format;
        tool_parser_push(&answer->parser, text, n, &events);
    } else {
        say(c, text, n);
    }
}

static void push(struct choice *c, const char *text, size_t n, bool last)
{
    struct ollama_answer *answer = c->g->own;
    const struct think_events thoughts = {.thought = think, .text = push_answer, .ctx = c};
    if (c->thinks && answer->thinks) {
        think_parser_open(&answer->thinking);
    }
    if (answer->thinks) {
        think_parser_push(&answer->thinking, text, n, last, &thoughts);
    } else if (n > 0) {
        push_answer(c, text, n);
    }
    if (last && answer->tools) {
        const struct tool_events events = {.text = say, .call_end = call_end, .ctx = c};
        tool_parser_end(&answer->parser, &events);
    }
}

static void add_context(struct ollama_answer *answer, int32_t id)
{
    buf_printf(&answer->context, "%s%d", answer->context.len > 0 ? "," : "", (int)id);
}

static void on_accepted(struct choice *c, const struct infer_accepted *how)
{
    struct ollama_answer *answer = c->g->own;
    size_t i;
    const json_t *id;
    json_array_foreach(how->prompt_ids, i, id)
    {
        add_context(answer, (int32_t)json_integer_value(id));
    }
}

static void on_token(struct choice *c, const struct infer_token *token)
{
    struct ollama_answer *answer = c->g->own;
    if (answer->tells_context && !token->is_end) {
        add_context(answer, token->token.id);
    }
    openai_add_chat_logprob(c, token);
    push(c, token->text, token->bytes, false);
}

static void on_done(struct choice *c)
{
    struct json_out out;
    push(c, c->done.text, c->done.text_bytes, true);
    if (c->g->streams) {
        begin_line(c->g, &out);
        put_text(c, "", 0, &out);
        put_end(c, &out);
        put_logprobs(c, &out);
        end_line(c->g, &out);
    }
}

static void end_stream(struct generation *g)
{
    (void)g; /* the last line said it all */
}

static void fail_stream(struct generation *g, const struct err *failure)
{
    struct json_out out;
    buf_clear(&g->event);
    json_out_init(&out, &g->event);
    json_out_object(&out);
    json_out_kv_string(&out, "error", failure->message);
    end_line(g, &out);
}

static int answer_plain(struct generation *g, struct http_response *response, struct err *err)
{
    struct ollama_answer *answer = g->own;
    struct choice *c = &g->choices[0];
    struct json_out out;
    const int rc = buf_check(&c->text, "the answer", err);
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    json_out_object(&out);
    put_head(answer->model, &out);
    put_text(c, c->text.data, c->text.len, &out);
    put_end(c, &out);
    put_logprobs(c, &out);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

static void release(struct generation *g)
{
    struct ollama_answer *answer = g->own;
    tool_parser_release(&answer->parser);
    think_parser_release(&answer->thinking);
    buf_release(&answer->thought);
    buf_release(&answer->context);
    buf_release(&answer->calls);
    mem_free(answer);
}

#define STYLE(name_of_operation)                                                                   \
    {                                                                                              \
        .stream_type = HTTP_NDJSON, .operation = (name_of_operation), .keeps_text = true,          \
        .begin = begin_stream, .accepted = on_accepted, .token = on_token, .done = on_done,        \
        .end = end_stream, .failed = fail_stream, .answer = answer_plain, .release = release       \
    }
static const struct answer_style chat_style = STYLE("chat");
static const struct answer_style generate_style = STYLE("text_completion");

/* --- the request --- */

/* Loads or unloads: there is nothing to generate. */
static int load(struct hub *hub, const struct ollama_request *asked, struct infer_spec *spec,
                bool chat, struct http_response *response, struct err *err)
{
    struct json_out out;
    const bool unload = asked->has_keep_alive && asked->keep_alive_ms == 0;
    struct err unneeded = {0};
    int rc = 0;
    if (unload) {
        rc = infer_unload(hub->infer, spec->base_key, &unneeded);
        if (rc == -ERR_NOT_FOUND) {
            rc = 0; /* it is not loaded: all the better */
        } else if (rc != 0) {
            rc = err_set(err, unneeded.code, "%s", unneeded.message);
        }
    } else {
        rc = ollama_load(hub, spec, err);
    }
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    json_out_object(&out);
    put_head(asked->model, &out);
    if (chat) {
        json_out_kv_raw(&out, "message", "{\"role\":\"assistant\",\"content\":\"\"}");
    } else {
        json_out_kv_string(&out, "response", "");
    }
    json_out_kv_bool(&out, "done", true);
    json_out_kv_string(&out, "done_reason", unload ? "unload" : "load");
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

static int begin(struct generation **g, struct hub *hub, const struct resolved_model *model,
                 const struct ollama_request *asked, bool chat, bool tools, struct err *err)
{
    struct ollama_answer *answer = mem_calloc(1, sizeof *answer);
    if (answer == NULL) {
        return mem_err(err, sizeof *answer);
    }
    const int rc =
        generation_new(g, hub, model, chat ? &chat_style : &generate_style, asked->stream, err);
    if (rc != 0) {
        mem_free(answer);
        return rc;
    }
    (void)snprintf(answer->model, sizeof answer->model, "%s", asked->model);
    answer->chat = chat;
    answer->tools = tools;
    buf_init(&answer->calls, TOOL_CALL_BYTES_MAX);
    buf_init(&answer->thought, THOUGHT_BYTES_MAX);
    buf_init(&answer->context, CONTEXT_BYTES_MAX);
    tool_parser_init(&answer->parser);
    think_parser_init(&answer->thinking);
    (*g)->own = answer;
    return 0;
}

/* What generate's prompt becomes: [system?, user]. json_decref. */
static json_t *as_messages(const json_t *body, struct err *err)
{
    json_t *system = json_object_get(body, "system");
    json_t *prompt = json_object_get(body, "prompt");
    json_t *messages = json_string_length(system) > 0
                           ? json_pack("[{s:s,s:O},{s:s,s:O}]", "role", "system", "content", system,
                                       "role", "user", "content", prompt)
                           : json_pack("[{s:s,s:O}]", "role", "user", "content", prompt);
    if (messages == NULL) {
        (void)mem_err(err, 0);
    }
    return messages;
}

/* Variables of the template. json_decref; *out NULL for none. */
static int read_think(const json_t *body, json_t **out, struct err *err)
{
    const json_t *think = json_object_get(body, "think");
    const char *effort = json_string_value(think);
    const bool known =
        effort != NULL && (strcmp(effort, "low") == 0 || strcmp(effort, "medium") == 0 ||
                           strcmp(effort, "high") == 0);
    *out = NULL;
    if (think == NULL || json_is_null(think)) {
        return 0;
    }
    if (!json_is_boolean(think) && !known) {
        return err_set(err, ERR_INVALID, "'think' must be true, false, low, medium or high");
    }
    *out = known ? json_pack("{s:b,s:s}", "enable_thinking", 1, "reasoning_effort", effort)
                 : json_pack("{s:b}", "enable_thinking", json_is_true(think));
    return *out != NULL ? 0 : mem_err(err, 0);
}

/* What a raw prompt cannot have, a context that is larger than ours, a template of Go's. */
static int check(const struct hub *hub, const struct ollama_request *asked, const json_t *body,
                 const struct resolved_model *model, bool raw, struct err *err)
{
    static const char *const words[] = {"template", "system", "context"};
    const char *template = body_string(body, "template");
    for (size_t i = 0; raw && i < COUNT_OF(words); i++) {
        const json_t *value = json_object_get(body, words[i]);
        if (json_string_length(value) > 0 || json_array_size(value) > 0) {
            return err_set(err, ERR_INVALID, "'raw' does not go with '%s'", words[i]);
        }
    }
    const int rc = ollama_check_context(hub, model, asked->num_ctx, err);
    return rc == 0 && template != NULL ? ollama_refuse_go("template", template, err) : rc;
}

/* "json" or a schema: json_decref; *grammar NULL: any text. */
static int read_format(const json_t *body, json_t **grammar, struct err *err)
{
    json_t *format = json_object_get(body, "format");
    const char *word = json_string_value(format);
    if (format == NULL || json_is_null(format) || (word != NULL && *word == '\0')) {
        return 0;
    }
    if (!json_is_object(format) && (word == NULL || strcmp(word, "json") != 0)) {
        return err_set(err, ERR_INVALID, "'format' must be \"json\" or a schema");
    }
    *grammar = grammar_of_schema(json_is_object(format) ? format : json_true(), err);
    return *grammar != NULL ? 0 : -(int)err->code;
}

static int run(struct hub *hub, struct http_request *request, struct http_response *response,
               const json_t *body, bool chat, struct err *err)
{
    struct ollama_request asked;
    struct resolved_model model;
    struct infer_spec spec;
    struct generation *g = NULL;
    const json_t *tools = json_object_get(body, "tools");
    const json_t *prompt = json_object_get(body, "prompt");
    const json_t *given = json_object_get(body, "messages");
    const bool raw = json_is_true(json_object_get(body, "raw"));
    const bool empty = chat ? json_array_size(given) == 0 : json_string_length(prompt) == 0;
    json_t *messages = NULL;
    json_t *kwargs = NULL;
    json_t *grammar = NULL;
    int rc = ollama_request_read(body, &asked, err);
    if (rc == 0) {
        rc = read_format(body, &grammar, err);
    }
    if (rc == 0) {
        rc = registry_resolve_model(hub->registry, asked.model, request->arena, &model, err);
    }
    if (rc == 0) {
        rc = spec_of(hub, &model, request->arena, &spec, err);
    }
    if (rc == 0) {
        rc = check(hub, &asked, body, &model, raw, err);
    }
    if (rc == 0) {
        rc = preset_sampling(&model, json_object_get(body, "options"), &asked.sampling,
                             &asked.num_ctx, err);
    }
    if (rc == 0) {
        rc = read_think(body, &kwargs, err);
    }
    if (rc == 0) {
        spec.has_keep_alive = asked.has_keep_alive;
        spec.keep_alive_ms = asked.keep_alive_ms;
    }
    if (rc == 0 && empty) {
        json_decref(grammar);
        json_decref(kwargs);
        return load(hub, &asked, &spec, chat, response, err);
    }
    if (rc == 0 && !raw) {
        messages = chat ? messages_normal(given, err) : as_messages(body, err);
        rc = messages != NULL ? 0 : -(int)err->code;
    }
    if (rc == 0 && json_array_size(json_object_get(body, "context")) == 0) {
        rc = preset_messages(&model, &messages, err); /* a context begins with them already */
    }
    if (rc == 0) {
        rc = begin(&g, hub, &model, &asked, chat, json_array_size(tools) > 0, err);
    }
    if (rc == 0) {
        struct ollama_answer *answer = g->own;
        answer->thinks = !raw;
        answer->tells_context = !chat && !raw;
        spec.tell_prompt = answer->tells_context;
        spec.context = json_object_get(body, "context");
        if (json_string_length(json_object_get(body, "template")) > 0) {
            spec.chat_template = body_string(body, "template");
        }
        spec.sampling = asked.sampling;
        spec.truncate = ollama_truncates(body, asked.num_ctx);
        spec.context_tokens = asked.num_ctx;
        spec.prompt = raw ? json_string_value(prompt) : NULL;
        spec.prompt_bytes = json_string_length(prompt);
        spec.messages = messages;
        spec.tools = json_array_size(tools) > 0 ? tools : NULL;
        spec.template_kwargs = kwargs;
        spec.grammar = grammar;
        spec.trace_id = request->request_id;
        rc = generation_run(g, request, &spec, 1, 1);
    }
    json_decref(messages);
    json_decref(kwargs);
    json_decref(grammar);
    return rc;
}

static int handle(struct hub *hub, const struct api_body *table, bool chat,
                  struct http_request *request, struct http_response *response, struct err *err)
{
    struct http_issues issues;
    const json_t *body = NULL;
    http_issues_init(&issues);
    const int rc = body_read(request, table, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    return rc == 0 ? run(hub, request, response, body, chat, err) : rc;
}

HANDLER(ollama_generate)
{
    return handle(ctx, &ollama_generate_body, false, request, response, err);
}

HANDLER(ollama_chat)
{
    return handle(ctx, &ollama_chat_body, true, request, response, err);
}
