/* Models as Ollama's clients list them: names carry a tag, `latest` where they have none. */
#include "api/handlers.h"
#include "api/ollama.h"

#include <stdio.h>
#include <string.h>

#include "api/rows_json.h"
#include "base/clock.h"
#include "base/log.h"
#include "registry/bases.h"
#include "registry/models.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct http_field name_fields[] = {
    {.name = "model", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "name", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "verbose", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
};
const struct api_body ollama_name_body = {name_fields, COUNT_OF(name_fields), true};
static const struct http_field copy_fields[] = {
    {.name = "source", .kind = HTTP_STRING, .flags = HTTP_REQUIRED | HTTP_MIN, .min = 1},
    {.name = "destination", .kind = HTTP_STRING, .flags = HTTP_REQUIRED | HTTP_MIN, .min = 1},
};
const struct api_body ollama_copy_body = {copy_fields, COUNT_OF(copy_fields), true};

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

static void put_details(const struct model_name *name, struct json_out *out)
{
    const struct base_row *base = &name->base;
    char size[32];
    parameter_size(base->parameters, size);
    json_out_key(out, "details");
    json_out_object(out);
    json_out_kv_string(out, "parent_model",
                       strcmp(name->id, name->base_model) == 0 ? "" : name->base_model);
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

static void put_tag(const char *id, struct arena *arena, struct json_out *out)
{
    const char *tagged = strpbrk(id, ":@") != NULL ? id : arena_printf(arena, "%s:latest", id);
    json_out_kv_string(out, "name", tagged);
    json_out_kv_string(out, "model", tagged);
}

static void put_capabilities(struct json_out *out)
{
    json_out_kv_raw(out, "capabilities", "[\"completion\",\"tools\"]");
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
        const char *digest =
            name->adapter_sha256 != NULL ? name->adapter_sha256 : name->base.sha256;
        json_out_object(&out);
        put_tag(name->id, request->arena, &out);
        json_out_kv_string(&out, "modified_at", name->created_at);
        json_out_kv_int(&out, "size", name->base.bytes);
        json_out_kv_string(&out, "digest", digest != NULL ? digest : "");
        put_details(name, &out);
        put_capabilities(&out);
        json_out_object_end(&out);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

static void put_loaded(struct hub *hub, const struct infer_model *loaded, struct arena *arena,
                       struct json_out *out)
{
    struct model_name name;
    struct err gone = {0};
    char until[CLOCK_ISO_BYTES];
    const int64_t ten_years_us = INT64_C(315360000) * 1000000;
    clock_format_iso(loaded->keep_alive_ms < 0
                         ? clock_wall_us() + ten_years_us
                         : loaded->last_used_us + loaded->keep_alive_ms * 1000,
                     until);
    json_out_object(out);
    put_tag(loaded->base_id, arena, out);
    json_out_kv_int(out, "size", (int64_t)loaded->memory_bytes);
    json_out_kv_string(out, "digest", loaded->base_key);
    if (names_find(hub, loaded->base_id, arena, &name, &gone) == 0) {
        put_details(&name, out);
        json_out_kv_int(out, "context_length",
                        hub->settings.context_length > 0 ? hub->settings.context_length
                                                         : name.base.context_length);
    }
    json_out_kv_string(out, "expires_at", until);
    json_out_kv_int(out, "size_vram", 0);
    json_out_object_end(out);
}

HANDLER(ollama_ps)
{
    struct hub *hub = ctx;
    struct infer_cache cache;
    struct json_out out;
    const int rc = infer_list(hub->infer, &cache, err);
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    json_out_object(&out);
    json_out_key(&out, "models");
    json_out_array(&out);
    for (int i = 0; i < cache.n_models; i++) {
        put_loaded(hub, &cache.models[i], request->arena, &out);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    mem_free(cache.models);
    return http_reply_json(response, 200, err);
}

/* The body's model; *name NULL with 0: the answer was given. */
static int read_name(struct http_request *request, struct http_response *response,
                     const char **name, struct err *err)
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
    return rc == 0 ? ollama_model_name(body, name, err) : rc;
}

static void put_info(const struct model_name *name, struct json_out *out)
{
    const char *family = name->base.architecture != NULL ? name->base.architecture : "unknown";
    char key[128];
    json_out_key(out, "model_info");
    json_out_object(out);
    json_out_kv_string(out, "general.architecture", family);
    json_out_kv_int(out, "general.parameter_count", name->base.parameters);
    (void)snprintf(key, sizeof key, "%.100s.context_length", family);
    json_out_kv_int(out, key, name->base.context_length);
    json_out_object_end(out);
}

HANDLER(ollama_show)
{
    struct hub *hub = ctx;
    struct resolved_model model;
    struct infer_spec spec = {0};
    struct model_name name;
    struct err missing = {0};
    struct json_out out;
    const char *id = NULL;
    int rc = read_name(request, response, &id, err);
    if (rc != 0 || id == NULL) {
        return rc;
    }
    rc = names_find(hub, id, request->arena, &name, err);
    if (rc == 0) {
        rc = registry_resolve_model(hub->registry, id, request->arena, &model, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (spec_of(hub, &model, request->arena, &spec, &missing) != 0) {
        spec.chat_template = NULL; /* of weights that were never imported nothing is known */
    }
    http_json(response, &out);
    json_out_object(&out);
    json_out_kv_string(&out, "license", "");
    json_out_kv_string(&out, "modelfile",
                       arena_printf(request->arena, "FROM %s\n", name.base_model));
    json_out_kv_string(&out, "parameters", "");
    json_out_kv_string(&out, "template", spec.chat_template != NULL ? spec.chat_template : "");
    json_out_kv_string(&out, "system", "");
    put_details(&name, &out);
    put_info(&name, &out);
    put_capabilities(&out);
    json_out_kv_string(&out, "modified_at", name.created_at);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

char *ollama_without_latest(const char *name, struct arena *arena)
{
    const size_t n = strlen(name);
    const size_t tag = sizeof ":latest" - 1;
    return n > tag && strcmp(name + n - tag, ":latest") == 0 ? arena_strndup(arena, name, n - tag)
                                                             : arena_strdup(arena, name);
}

HANDLER(ollama_copy)
{
    struct http_issues issues;
    const json_t *body = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &ollama_copy_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    if (rc == 0) {
        const char *name = ollama_without_latest(body_string(body, "destination"), request->arena);
        rc = ollama_second_name(ctx, request, body_string(body, "source"), name, err);
    }
    return rc == 0 ? http_reply_empty(response, 200, err) : rc;
}

HANDLER(ollama_delete)
{
    struct hub *hub = ctx;
    struct resolved_model model;
    const char *id = NULL;
    int rc = read_name(request, response, &id, err);
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
    rc = model.is_registered ? registry_delete_model(hub->registry, model.model.id, err)
                             : registry_delete_base(hub->registry, model.base_id, err);
    if (rc == 0 && !model.is_registered && model.has_weights) {
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
