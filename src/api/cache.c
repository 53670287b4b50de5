/* /inference/cache: models that are loaded. A key is the SHA-256 of a base's weights; its id will
 * do, too. */
#include <string.h>

#include "api/handlers.h"
#include "base/clock.h"

#define GB 1073741824.0

static void put_time(struct json_out *out, const char *name, int64_t us)
{
    char text[CLOCK_ISO_BYTES];
    clock_format_iso(us, text);
    json_out_kv_string(out, name, us > 0 ? text : NULL);
}

static void put_model(struct json_out *out, const struct infer_model *model)
{
    json_out_object(out);
    json_out_kv_string(out, "key", model->base_key);
    json_out_kv_string(out, "base_model", model->base_id);
    json_out_kv_int(out, "pid", model->pid);
    json_out_kv_real(out, "memory_gb", (double)model->memory_bytes / GB);
    json_out_kv_real(out, "kv_memory_gb", (double)model->kv_bytes / GB);
    json_out_kv_int(out, "active_requests", model->active_requests);
    put_time(out, "loaded_at", model->loaded_at_us);
    put_time(out, "last_used_at", model->last_used_us);
    json_out_object_end(out);
}

HANDLER(cache_list)
{
    struct hub *hub = ctx;
    struct infer_cache cache;
    struct json_out out;
    (void)request;
    const int rc = infer_list(hub->infer, &cache, err);
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    json_out_object(&out);
    json_out_kv_int(&out, "cached_models", cache.n_models);
    json_out_kv_int(&out, "max_models", cache.max_models);
    json_out_kv_real(&out, "total_memory_gb", (double)cache.memory_bytes / GB);
    json_out_kv_real(&out, "max_memory_gb", (double)cache.memory_bytes_max / GB);
    json_out_key(&out, "models");
    json_out_array(&out);
    for (int i = 0; i < cache.n_models; i++) {
        put_model(&out, &cache.models[i]);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    mem_free(cache.models);
    return http_reply_json(response, 200, err);
}

HANDLER(cache_clear)
{
    struct hub *hub = ctx;
    (void)request;
    const int rc = infer_unload(hub->infer, NULL, err);
    return rc == 0 ? http_reply_empty(response, 204, err) : rc;
}

HANDLER(cache_unload)
{
    struct hub *hub = ctx;
    struct infer_cache cache;
    const char *key = http_path_param(request, "key");
    int rc = infer_list(hub->infer, &cache, err);
    if (rc != 0) {
        return rc;
    }
    for (int i = 0; i < cache.n_models; i++) {
        if (strcmp(cache.models[i].base_id, key) == 0) {
            key = arena_strdup(request->arena, cache.models[i].base_key);
            break;
        }
    }
    mem_free(cache.models);
    rc = key != NULL ? infer_unload(hub->infer, key, err) : mem_err(err, 0);
    return rc == 0 ? http_reply_empty(response, 204, err) : rc;
}
