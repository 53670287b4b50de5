/* Paths of other people's protocols. Their clients send what they like: members that are not known
 * pass, and so does any content type. Errors have each protocol's own shape. */
#include "api/routes.h"

#include <string.h>

#include "api/doc.h"
#include "api/handlers.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct http_route routes[] = {
    /* --- OpenAI --- */
    {.method = "POST",
     .pattern = "/v1/chat/completions",
     .handler = openai_chat,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "openai", .summary = "Answer messages; with stream, as events",
                .body = &openai_chat_body, .status = 200, ERRORS(400, 404, 409, 429, 503))},
    {.method = "POST",
     .pattern = "/v1/completions",
     .handler = openai_completions,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "openai", .summary = "Go on with texts or tokens; echo scores the prompt",
                .body = &openai_completions_body, .status = 200, ERRORS(400, 404, 409, 429, 503))},
    {.method = "POST",
     .pattern = "/v1/embeddings",
     .handler = openai_embeddings,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "openai", .summary = "Texts or tokens as vectors of length 1",
                .body = &openai_embeddings_body, .status = 200, ERRORS(400, 404, 409, 429, 503))},
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

    /* --- Ollama --- */
    {.method = "POST",
     .pattern = "/api/generate",
     .handler = ollama_generate,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "Go on with a prompt, as lines of JSON",
                .body = &ollama_generate_body, .status = 200, ERRORS(400, 404, 409, 429, 503))},
    {.method = "POST",
     .pattern = "/api/chat",
     .handler = ollama_chat,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "Answer messages, as lines of JSON",
                .body = &ollama_chat_body, .status = 200, ERRORS(400, 404, 409, 429, 503))},
    {.method = "POST",
     .pattern = "/api/embed",
     .handler = ollama_embed,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "Texts as vectors of length 1",
                .body = &ollama_embed_body, .status = 200, ERRORS(400, 404, 409, 429, 503))},
    {.method = "POST",
     .pattern = "/api/embeddings",
     .handler = ollama_embeddings,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "One text as a vector", .body = &ollama_embed_body,
                .status = 200, ERRORS(400, 404, 409, 429, 503))},
    {.method = "GET",
     .pattern = "/api/version",
     .handler = ollama_version,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "The hub's version", .status = 200)},
    {.method = "GET",
     .pattern = "/api/tags",
     .handler = ollama_tags,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "Models", .status = 200)},
    {.method = "GET",
     .pattern = "/api/ps",
     .handler = ollama_ps,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "Loaded models", .status = 200)},
    {.method = "POST",
     .pattern = "/api/show",
     .handler = ollama_show,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "One model in detail", .body = &ollama_name_body,
                .status = 200, ERRORS(400, 404))},
    {.method = "POST",
     .pattern = "/api/copy",
     .handler = ollama_copy,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "A name of its own for what another one is now",
                .body = &ollama_copy_body, .status = 200, ERRORS(400, 404, 409, 413))},
    {.method = "DELETE",
     .pattern = "/api/delete",
     .handler = ollama_delete,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "Delete a model, a created one, or a base",
                .body = &ollama_name_body, .status = 200, ERRORS(400, 404, 409))},
    {.method = "POST",
     .pattern = "/api/create",
     .handler = ollama_create,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama",
                .summary = "A model of a file that was sent or of another model, with an adapter, "
                           "texts and parameters of its own",
                .body = &ollama_create_body, .status = 200, ERRORS(400, 404, 409, 413))},
    {.method = "POST",
     .pattern = "/api/pull",
     .handler = ollama_pull,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama",
                .summary = "Fetch org/name or hf.co/org/name[:quantization], as lines of JSON",
                .body = &ollama_pull_body, .status = 200, ERRORS(400, 409, 429, 503))},
    {.method = "POST",
     .pattern = "/api/push",
     .handler = ollama_unserved,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "Not served", .status = 200, ERRORS(501))},
    {.method = "GET",
     .pattern = "/api/blobs/{digest}",
     .handler = ollama_blob_get,
     .flags = HTTP_ANY_MEDIA,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "Whether a file was sent", .status = 200,
                ERRORS(400, 404))},
    {.method = "POST",
     .pattern = "/api/blobs/{digest}",
     .handler = ollama_blob_put,
     .flags = HTTP_UPLOAD | HTTP_ANY_MEDIA,
     .body_bytes_max = (size_t)HUB_UPLOAD_GB_MAX << 30,
     .error_style = http_error_ollama,
     .doc = DOC(.tag = "ollama", .summary = "Send a file for /api/create",
                .body_type = "application/octet-stream", .status = 201, ERRORS(400, 413))},

    /* --- text, as llama.cpp's clients know it --- */
    {.method = "POST",
     .pattern = "/tokenize",
     .handler = text_tokenize,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "text", .summary = "From text to tokens", .body = &tokenize_body,
                .status = 200, .answer = "Tokens", ERRORS(400, 404, 409, 503))},
    {.method = "POST",
     .pattern = "/detokenize",
     .handler = text_detokenize,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "text", .summary = "From tokens to text", .body = &detokenize_body,
                .status = 200, .answer = "Content", ERRORS(400, 404, 409, 503))},
    {.method = "POST",
     .pattern = "/apply-template",
     .handler = text_apply_template,
     .flags = HTTP_ANY_MEDIA | HTTP_SLOW,
     .error_style = http_error_openai,
     .doc = DOC(.tag = "text", .summary = "From messages to the prompt the model sees",
                .body = &apply_template_body, .status = 200, .answer = "Prompt",
                ERRORS(400, 404, 409, 503))},

};

http_error_style api_style_of(const char *path)
{
    static const struct {
        const char *prefix;
        http_error_style style;
    } owners[] = {{"/v1/", http_error_openai},
                  {"/api/2.0/mlflow", http_error_mlflow},
                  {"/api/3.0/mlflow", http_error_mlflow},
                  {"/api/", http_error_ollama}};
    for (size_t i = 0; i < COUNT_OF(owners); i++) {
        if (strncmp(path, owners[i].prefix, strlen(owners[i].prefix)) == 0) {
            return owners[i].style;
        }
    }
    return http_error_hub;
}

const struct http_route *api_client_routes(size_t *n)
{
    *n = COUNT_OF(routes);
    return routes;
}
