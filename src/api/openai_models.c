/* GET /v1/models: whatever a client may name. */
#include "api/handlers.h"
#include "api/names.h"

#include <string.h>

#include "base/clock.h"

static int64_t seconds_of(const char *iso)
{
    int64_t us = 0;
    struct err err = {0};
    return iso != NULL && clock_parse_iso(iso, &us, &err) == 0 ? us / 1000000 : 0;
}

static bool is_loaded(const struct infer_cache *cache, const struct model_name *name)
{
    for (int i = 0; name->base.id != NULL && i < cache->n_models; i++) {
        if (strcmp(cache->models[i].base_key, name->base.sha256) == 0) {
            return true;
        }
    }
    return false;
}

static int64_t vocabulary(const struct base_row *base)
{
    struct err unknown = {0};
    int64_t n = 0;
    json_t *details = json_parse(base->details, strlen(base->details), &unknown);
    if (json_get_int(details, "vocab_size", 0, &n, &unknown) != 0) {
        n = 0;
    }
    json_decref(details);
    return n;
}

static void put_name(const struct model_name *name, const struct infer_cache *cache,
                     struct json_out *out)
{
    json_out_object(out);
    json_out_kv_string(out, "id", name->id);
    json_out_kv_string(out, "object", "model");
    json_out_kv_int(out, "created", seconds_of(name->created_at));
    json_out_kv_string(out, "owned_by", "mlx-hub");
    json_out_key(out, "aliases");
    json_out_array(out);
    json_out_array_end(out);
    json_out_key(out, "meta");
    json_out_object(out);
    if (name->base.id != NULL) {
        json_out_kv_int(out, "n_ctx_train", name->base.context_length);
        json_out_kv_int(out, "n_vocab", vocabulary(&name->base));
        json_out_kv_int(out, "n_params", name->base.parameters);
        json_out_kv_int(out, "size", name->base.bytes);
    }
    json_out_kv_string(out, "base_model", name->base_model);
    if (name->parameters != NULL) {
        json_out_kv_raw(out, "parameters", name->parameters);
    }
    json_out_object_end(out);
    json_out_key(out, "status");
    json_out_object(out);
    json_out_kv_string(out, "value", is_loaded(cache, name) ? "loaded" : "unloaded");
    json_out_object_end(out);
    json_out_object_end(out);
}

HANDLER(openai_models)
{
    struct hub *hub = ctx;
    struct model_name *names;
    size_t count;
    struct infer_cache cache;
    struct json_out out;
    int rc = names_list(hub, request->arena, &names, &count, err);
    rc = rc == 0 ? infer_list(hub->infer, &cache, err) : rc;
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    json_out_object(&out);
    json_out_kv_string(&out, "object", "list");
    json_out_key(&out, "data");
    json_out_array(&out);
    for (size_t i = 0; i < count; i++) {
        put_name(&names[i], &cache, &out);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    mem_free(cache.models);
    return http_reply_json(response, 200, err);
}

HANDLER(openai_model)
{
    struct hub *hub = ctx;
    struct model_name name;
    struct infer_cache cache;
    struct json_out out;
    int rc = names_find(hub, http_path_param(request, "model"), request->arena, &name, err);
    rc = rc == 0 ? infer_list(hub->infer, &cache, err) : rc;
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    put_name(&name, &cache, &out);
    mem_free(cache.models);
    return http_reply_json(response, 200, err);
}
