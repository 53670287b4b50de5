/* /config: what `mlx-hub config --json` prints, as the running hub has it. */
#include "api/handlers.h"

enum { VALUE_BYTES = FS_PATH_BYTES_MAX + 64 };

HANDLER(config_get)
{
    const struct hub *hub = ctx;
    struct json_out out;
    size_t n;
    const struct setting_info *table = settings_table(&n);
    char *value = arena_alloc(request->arena, 1, VALUE_BYTES);
    if (value == NULL) {
        return mem_err(err, VALUE_BYTES);
    }
    http_json(response, &out);
    json_out_array(&out);
    for (size_t i = 0; i < n; i++) {
        settings_show(&hub->settings, i, value, VALUE_BYTES);
        json_out_object(&out);
        json_out_kv_string(&out, "name", table[i].name);
        json_out_kv_string(&out, "value", value);
        json_out_kv_string(&out, "source", setting_source_name(hub->settings.source[i]));
        json_out_kv_string(&out, "default", table[i].fallback);
        json_out_kv_string(&out, "allowed", table[i].allowed);
        json_out_kv_string(&out, "help", table[i].help);
        json_out_object_end(&out);
    }
    json_out_array_end(&out);
    return http_reply_json(response, 200, err);
}
