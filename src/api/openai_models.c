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

static void put_name(const struct model_name *name, struct json_out *out)
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
        json_out_kv_int(out, "n_params", name->base.parameters);
        json_out_kv_int(out, "size", name->base.bytes);
    }
    json_out_kv_string(out, "base_model", name->base_model);
    json_out_object_end(out);
    json_out_object_end(out);
}

HANDLER(openai_models)
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
    json_out_kv_string(&out, "object", "list");
    json_out_key(&out, "data");
    json_out_array(&out);
    for (size_t i = 0; i < count; i++) {
        put_name(&names[i], &out);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

HANDLER(openai_model)
{
    struct hub *hub = ctx;
    struct model_name name;
    struct json_out out;
    const int rc = names_find(hub, http_path_param(request, "model"), request->arena, &name, err);
    if (rc != 0) {
        return rc;
    }
    http_json(response, &out);
    put_name(&name, &out);
    return http_reply_json(response, 200, err);
}
