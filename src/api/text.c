/* /tokenize, /detokenize, /apply-template, as llama.cpp serves them: its clients send what they
 * like, so members that are not known pass. `model` is any name that the hub resolves; they often
 * send none, since their server has one model: then it is the one that is loaded, or where none is,
 * the only one there is. */
#include <string.h>

#include "api/handlers.h"
#include "api/members.h"
#include "api/presets.h"
#include "api/spec.h"
#include "registry/bases.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { ANSWER_BYTES_MAX = 64 << 20 };

#define MODEL_FIELD                                                                                \
    {                                                                                              \
        .name = "model", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MIN | HTTP_MAX,        \
        .min = 1, .max = 800                                                                       \
    }

static const struct http_field token_item = {
    .kind = HTTP_INT, .flags = HTTP_MIN | HTTP_MAX, .min = 0, .max = INT32_MAX};
static const struct http_field message_item = {.kind = HTTP_OBJECT};

static const struct http_field tokenize_fields[] = {
    MODEL_FIELD,
    {.name = "content", .kind = HTTP_STRING, .flags = HTTP_REQUIRED},
    {.name = "add_special", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
    {.name = "parse_special", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
    {.name = "with_pieces", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
};
const struct api_body tokenize_body = {tokenize_fields, COUNT_OF(tokenize_fields), true};

static const struct http_field detokenize_fields[] = {
    MODEL_FIELD,
    {.name = "tokens", .kind = HTTP_ARRAY, .flags = HTTP_REQUIRED, .items = &token_item},
};
const struct api_body detokenize_body = {detokenize_fields, COUNT_OF(detokenize_fields), true};

static const struct http_field template_fields[] = {
    MODEL_FIELD,
    {.name = "messages", .kind = HTTP_ARRAY, .flags = HTTP_REQUIRED, .items = &message_item},
    {.name = "tools", .kind = HTTP_ARRAY, .flags = HTTP_NULLABLE, .items = &message_item},
    {.name = "add_generation_prompt", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
    {.name = "chat_template_kwargs", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
    {.name = "reasoning_effort", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
};
const struct api_body apply_template_body = {template_fields, COUNT_OF(template_fields), true};

/* The members of a body that the runner is told. */
static json_t *pick(const json_t *body, const char *const *names, struct err *err)
{
    json_t *picked = json_object();
    for (size_t i = 0; picked != NULL && names[i] != NULL; i++) {
        json_t *value = json_object_get(body, names[i]);
        if (value != NULL && !json_is_null(value) &&
            json_object_set(picked, names[i], value) != 0) {
            json_decref(picked);
            picked = NULL;
        }
    }
    if (picked == NULL) {
        (void)mem_err(err, 0);
    }
    return picked;
}

/* Messages become a prompt as a request for an answer would make them one. */
static int put_messages(const struct resolved_model *model, const json_t *body, json_t *arguments,
                        struct err *err)
{
    json_t *kwargs = NULL;
    json_t *messages = messages_normal(json_object_get(body, "messages"), err);
    int rc = messages != NULL ? preset_messages(model, &messages, err) : -(int)err->code;
    rc = rc == 0 ? member_kwargs(body, &kwargs, err) : rc;
    if (rc == 0 && (json_object_set(arguments, "messages", messages) != 0 ||
                    (kwargs != NULL && json_object_set(arguments, "template_kwargs", kwargs)))) {
        rc = mem_err(err, 0);
    }
    json_decref(messages);
    json_decref(kwargs);
    return rc;
}

/* What is meant where nothing is named. */
static int only_model(struct hub *hub, struct arena *arena, const char **name, struct err *err)
{
    struct infer_cache cache;
    struct base_row *rows = NULL;
    size_t count = 0;
    int64_t total = 0;
    int rc = infer_list(hub->infer, &cache, err);
    if (rc != 0) {
        return rc;
    }
    const int n = cache.n_models;
    *name = n == 1 ? arena_strdup(arena, cache.models[0].base_id) : NULL;
    rc = n != 1 || *name != NULL ? 0 : mem_err(err, 0);
    mem_free(cache.models);
    if (rc == 0 && n == 0) {
        rc = registry_list_bases(hub->registry, 1, 0, arena, &rows, &count, &total, err);
        *name = rc == 0 && total == 1 && count == 1 ? rows[0].id : NULL;
    }
    if (rc == 0 && *name == NULL) {
        rc = n > 0 ? err_set(err, ERR_UNPROCESSABLE, "'model' is required: %d are loaded", n)
                   : err_set(err, ERR_UNPROCESSABLE,
                             "'model' is required: none is loaded, and there are %lld",
                             (long long)total);
    }
    return rc;
}

/* Runs one operation; *result is the caller's. *result NULL with 0: the answer was given. */
static int run(struct hub *hub, enum infer_text_op op, const struct api_body *table,
               const char *const *names, struct http_request *request,
               struct http_response *response, const json_t **body, json_t **result,
               struct err *err)
{
    struct http_issues issues;
    struct resolved_model model;
    struct infer_spec spec;
    struct buf answer;
    const char *name = NULL;
    json_t *arguments = NULL;
    *result = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, table, &issues, body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    buf_init(&answer, ANSWER_BYTES_MAX);
    if (rc == 0) {
        name = body_string(*body, "model");
        rc = name == NULL ? only_model(hub, request->arena, &name, err) : 0;
    }
    if (rc == 0) {
        rc = registry_resolve_model(hub->registry, name, request->arena, &model, err);
    }
    if (rc == 0) {
        rc = spec_of(hub, &model, request->arena, &spec, err);
    }
    if (rc == 0) {
        arguments = pick(*body, names, err);
        rc = arguments != NULL ? 0 : -ERR_NOMEM;
    }
    if (rc == 0 && op == INFER_APPLY_TEMPLATE) {
        rc = put_messages(&model, *body, arguments, err);
    }
    if (rc == 0) {
        rc = infer_text(hub->infer, op, &spec, arguments, &answer, err);
    }
    if (rc == 0) {
        *result = json_parse(answer.data, answer.len, err);
        rc = *result != NULL ? 0 : -(int)err->code;
    }
    json_decref(arguments);
    buf_release(&answer);
    return rc;
}

HANDLER(text_tokenize)
{
    static const char *const names[] = {"content", "add_special", "parse_special", NULL};
    const json_t *body = NULL;
    json_t *result = NULL;
    struct json_out out;
    const int rc =
        run(ctx, INFER_TOKENIZE, &tokenize_body, names, request, response, &body, &result, err);
    if (rc != 0 || result == NULL) {
        return rc;
    }
    const json_t *tokens = json_object_get(result, "tokens");
    const json_t *pieces = json_object_get(result, "pieces");
    const bool with_pieces = json_is_true(json_object_get(body, "with_pieces"));
    http_json(response, &out);
    json_out_object(&out);
    json_out_key(&out, "tokens");
    json_out_array(&out);
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        if (!with_pieces) {
            json_out_tree(&out, json_array_get(tokens, i));
            continue;
        }
        json_out_object(&out);
        json_out_kv_tree(&out, "id", json_array_get(tokens, i));
        json_out_kv_tree(&out, "piece", json_array_get(pieces, i));
        json_out_object_end(&out);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    json_decref(result);
    return http_reply_json(response, 200, err);
}

/* Answers {name: the member `from` of the result}. */
static int reply_member(struct http_response *response, const char *name, json_t *result,
                        const char *from, struct err *err)
{
    struct json_out out;
    http_json(response, &out);
    json_out_object(&out);
    json_out_kv_tree(&out, name, json_object_get(result, from));
    json_out_object_end(&out);
    json_decref(result);
    return http_reply_json(response, 200, err);
}

HANDLER(text_detokenize)
{
    static const char *const names[] = {"tokens", NULL};
    const json_t *body = NULL;
    json_t *result = NULL;
    const int rc =
        run(ctx, INFER_DETOKENIZE, &detokenize_body, names, request, response, &body, &result, err);
    return rc != 0 || result == NULL ? rc : reply_member(response, "content", result, "text", err);
}

HANDLER(text_apply_template)
{
    static const char *const names[] = {"tools", "add_generation_prompt", NULL};
    const json_t *body = NULL;
    json_t *result = NULL;
    const int rc = run(ctx, INFER_APPLY_TEMPLATE, &apply_template_body, names, request, response,
                       &body, &result, err);
    return rc != 0 || result == NULL ? rc : reply_member(response, "prompt", result, "prompt", err);
}
