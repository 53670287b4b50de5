/* Paths of other people's protocols. Their clients send what they like: members that are not known
 * pass, and so does any content type. Errors have each protocol's own shape. */
#include "api/routes.h"

#include "api/doc.h"
#include "api/handlers.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct http_route routes[] = {
    /* --- OpenAI --- */
    {.method = "POST",
     .pattern = "/v1/chat/completions",
     .handler = openai_chat,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "openai", .summary = "Answer messages; with stream, as events",
                .body = &openai_chat_body, .status = 200, ERRORS(400, 404, 409, 429, 503))},
    {.method = "POST",
     .pattern = "/v1/completions",
     .handler = openai_completions,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "openai", .summary = "Go on with texts or tokens; echo scores the prompt",
                .body = &openai_completions_body, .status = 200, ERRORS(400, 404, 409, 429, 503))},
    {.method = "GET",
     .pattern = "/v1/models",
     .handler = openai_models,
     .error_style = http_error_openai,
     .doc =
         DOC(.tag = "openai", .summary = "Everything that may be named as a model", .status = 200)},
    {.method = "GET",
     .pattern = "/v1/models/{model...}",
     .handler = openai_model,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "openai", .summary = "One model, by any of its names", .status = 200,
                ERRORS(404))},

    /* --- text, as llama.cpp's clients know it --- */
    {.method = "POST",
     .pattern = "/tokenize",
     .handler = text_tokenize,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "text", .summary = "From text to tokens", .body = &tokenize_body,
                .status = 200, .answer = "Tokens", ERRORS(400, 404, 409, 503))},
    {.method = "POST",
     .pattern = "/detokenize",
     .handler = text_detokenize,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "text", .summary = "From tokens to text", .body = &detokenize_body,
                .status = 200, .answer = "Content", ERRORS(400, 404, 409, 503))},
    {.method = "POST",
     .pattern = "/apply-template",
     .handler = text_apply_template,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "text", .summary = "From messages to the prompt the model sees",
                .body = &apply_template_body, .status = 200, .answer = "Prompt",
                ERRORS(400, 404, 409, 503))},

};

const struct http_route *api_client_routes(size_t *n)
{
    *n = COUNT_OF(routes);
    return routes;
}
