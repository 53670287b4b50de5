/* Models as Ollama's clients list them: names carry a tag, `latest` where they have none. */
#include "api/handlers.h"
#include "api/ollama.h"

#include <stdio.h>
#include <string.h>

#include "api/rows_json.h"
#include "base/clock.h"
#include "base/log.h"
#include "infer/capabilities.h"
#include "registry/bases.h"
#include "registry/models.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct http_field name_fields[] = {
    {.name = "model", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "name", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "verbose", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
};
const struct api_body ollama_name_body = {name_fields, COUNT_OF(name_fields), true};
HANDLER(ollama_version)
{
    struct json_out out;
    (void)ctx;
    (void)request;
    http_json(response, &out);
    json_out_object(&out);
    json_out_kv_string(&out, "version", MLX_HUB_VERSION);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

/* "135M", "7.0B". */
static void parameter_size(int64_t n, char out[32])
{
    if (n >= 1000000000) {
        (void)snprintf(out, 32, "%.1fB", (double)n / 1e9);
    } else {
        (void)snprintf(out, 32, "%.0fM", (double)n / 1e6);
    }
}

/* Whether id is `source`, tagged or not. */
static bool is_itself(const char *id, const char *source)
{
    const size_t n = strlen(source);
    return strncmp(id, source, n) == 0 && (id[n] == '\0' || strcmp(id + n, ":latest") == 0);
}

void ollama_put_details(const struct model_name *name, struct json_out *out)
{
    const struct base_row *base = &name->base;
    char size[32];
    parameter_size(base->parameters, size);
    json_out_key(out, "details");
    json_out_object(out);
    json_out_kv_string(out, "parent_model", is_itself(name->id, name->source) ? "" : name->source);
    json_out_kv_string(out, "format", base->format != NULL ? base->format : "");
    json_out_kv_string(out, "family", base->architecture != NULL ? base->architecture : "");
    json_out_key(out, "families");
    json_out_array(out);
    if (base->architecture != NULL) {
        json_out_string(out, base->architecture);
    }
    json_out_array_end(out);
    json_out_kv_string(out, "parameter_size", size);
    json_out_kv_string(out, "quantization_level",
                       base->quantisation != NULL ? base->quantisation : "");
    json_out_kv_int(out, "context_length", base->context_length);
    json_out_object_end(out);
}

static void put_tag(const char *tagged, struct json_out *out)
{
    json_out_kv_string(out, "name", tagged);
    json_out_kv_string(out, "model", tagged);
}

/* As inspection saw the base's own templates. */
static struct capabilities capabilities_of_base(const struct base_row *base)
{
    struct capabilities c = {0};
    struct err unknown = {0};
    size_t i;
    const json_t *one;
    json_t *details =
        base->id != NULL ? json_parse(base->details, strlen(base->details), &unknown) : NULL;
    json_array_foreach(json_object_get(details, "capabilities"), i, one)
    {
        const char *word = json_string_value(one);
        c.tools = c.tools || (word != NULL && strcmp(word, "tools") == 0);
        c.thinking = c.thinking || (word != NULL && strcmp(word, "thinking") == 0);
    }
    json_decref(details);
    return c;
}

/* Every model answers; none takes a suffix (insert), and none was made to embed alone. */
void ollama_put_capabilities(const struct model_name *name, struct json_out *out)
{
    const struct capabilities c = name->template != NULL ? capabilities_of_template(name->template)
                                                         : capabilities_of_base(&name->base);
    json_out_key(out, "capabilities");
    json_out_array(out);
    json_out_string(out, "completion");
    if (c.tools) {
        json_out_string(out, "tools");
    }
    if (c.thinking) {
        json_out_string(out, "thinking");
    }
    json_out_array_end(out);
}

HANDLER(ollama_tags)
{
    struct hub *hub = ctx;
    struct model_name *names;
    size_t count;
    struct json_out out;
    const int rc = names_list(hub, request->arena, &names, &count, err);
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    json_out_object(&out);
    json_out_key(&out, "models");
    json_out_array(&out);
    for (size_t i = 0; i < count; i++) {
        const struct model_name *name = &names[i];
        json_out_object(&out);
        put_tag(name->tagged, &out);
        json_out_kv_string(&out, "modified_at", name->created_at);
        json_out_kv_int(&out, "size", name->bytes);
        json_out_kv_string(&out, "digest", name->digest != NULL ? name->digest : "");
        ollama_put_details(name, &out);
        ollama_put_capabilities(name, &out);
        json_out_object_end(&out);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

/* One name that is answered by what is loaded. */
static void put_loaded(struct hub *hub, const struct infer_model *loaded,
                       const struct model_name *name, struct json_out *out)
{
    char until[CLOCK_ISO_BYTES];
    const int64_t ten_years_us = INT64_C(315360000) * 1000000;
    clock_format_iso(loaded->keep_alive_ms < 0
                         ? clock_wall_us() + ten_years_us
                         : loaded->last_used_us + loaded->keep_alive_ms * 1000,
                     until);
    json_out_object(out);
    put_tag(name->tagged, out);
    json_out_kv_int(out, "size", (int64_t)loaded->memory_bytes + (name->bytes - name->base.bytes));
    json_out_kv_string(out, "digest", name->digest != NULL ? name->digest : loaded->base_key);
    if (name->base.id != NULL) {
        ollama_put_details(name, out);
        json_out_kv_int(out, "context_length",
                        hub->settings.context_length > 0 ? hub->settings.context_length
                                                         : name->base.context_length);
    }
    json_out_kv_string(out, "expires_at", until);
    json_out_kv_int(out, "size_vram", 0);
    json_out_object_end(out);
}

/* All names over the weights: none of them has to be loaded any more. They share the memory, so
 * each one's size is what is held while it answers, and sizes do not add up. */
static void put_loaded_names(struct hub *hub, const struct infer_model *loaded,
                             const struct model_name *names, size_t count, struct json_out *out)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        if (names[i].base.id != NULL && strcmp(names[i].base.sha256, loaded->base_key) == 0) {
            put_loaded(hub, loaded, &names[i], out);
            any = true;
        }
    }
    if (!any) { /* its last name was taken away while it answered */
        const struct model_name gone = {.tagged = loaded->base_id};
        put_loaded(hub, loaded, &gone, out);
    }
}

HANDLER(ollama_ps)
{
    struct hub *hub = ctx;
    struct infer_cache cache;
    struct model_name *names = NULL;
    size_t count = 0;
    struct json_out out;
    int rc = infer_list(hub->infer, &cache, err);
    if (rc != 0) {
        return rc;
    }
    rc = cache.n_models > 0 ? names_list(hub, request->arena, &names, &count, err) : 0;
    http_json(response, &out);
    json_out_object(&out);
    json_out_key(&out, "models");
    json_out_array(&out);
    for (int i = 0; i < cache.n_models && rc == 0; i++) {
        put_loaded_names(hub, &cache.models[i], names, count, &out);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    mem_free(cache.models);
    return rc == 0 ? http_reply_json(response, 200, err) : rc;
}

int ollama_read_name(struct http_request *request, struct http_response *response,
                     const json_t **out, const char **name, struct err *err)
{
    struct http_issues issues;
    const json_t *body = NULL;
    *name = NULL;
    http_issues_init(&issues);
    const int rc = body_read(request, &ollama_name_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    *out = body;
    return rc == 0 ? ollama_model_name(body, name, err) : rc;
}

char *ollama_without_latest(const char *name, struct arena *arena)
{
    const size_t n = strlen(name);
    const size_t tag = sizeof ":latest" - 1;
    return n > tag && strcmp(name + n - tag, ":latest") == 0 ? arena_strndup(arena, name, n - tag)
                                                             : arena_strdup(arena, name);
}

HANDLER(ollama_delete)
{
    struct hub *hub = ctx;
    struct resolved_model model;
    const json_t *body = NULL;
    const char *id = NULL;
    int rc = ollama_read_name(request, response, &body, &id, err);
    if (rc != 0 || id == NULL) {
        return rc;
    }
    const char *plain = ollama_without_latest(id, request->arena);
    rc = registry_resolve_model(hub->registry, id, request->arena, &model, err);
    if (rc != 0) {
        return rc;
    }
    if (model.is_registered && strcmp(model.model.name, plain) != 0) {
        return err_set(err, ERR_INVALID, "'%s' is one version of '%s'; name the model", id,
                       model.model.name);
    }
    const bool own_base = !model.is_registered &&
                          (!model.has_preset || strcmp(model.preset.name, model.base_id) == 0);
    rc = model.is_registered ? registry_delete_model(hub->registry, model.model.id, err)
         : model.has_preset  ? registry_delete_preset(hub->registry, model.preset.name, err)
                             : registry_delete_base(hub->registry, model.base_id, err);
    if (rc == 0 && own_base && model.has_weights) {
        struct err unneeded = {0};
        if (infer_unload(hub->infer, model.base.sha256, &unneeded) != 0) {
            log_event(LOG_DEBUG, "api", "not_unloaded", "error=\"%s\"", unneeded.message);
        }
    }
    return rc == 0 ? http_reply_empty(response, 200, err) : rc;
}

HANDLER(ollama_unserved)
{
    (void)ctx;
    (void)response;
    return err_set(err, ERR_UNSUPPORTED,
                   "%s is not served: weights come in by 'mlx-hub import' or POST "
                   "/base-models/import",
                   request->path);
}
