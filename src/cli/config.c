/* mlx-hub config */
#include <stdio.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/print.h"

enum { VALUE_BYTES = FS_PATH_BYTES_MAX + 64 };

static int show_json(const struct settings *s, struct err *err)
{
    struct buf buf;
    struct json_out out;
    size_t n;
    char value[VALUE_BYTES];
    const struct setting_info *table = settings_table(&n);
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_array(&out);
    for (size_t i = 0; i < n; i++) {
        settings_show(s, i, value, sizeof value);
        json_out_object(&out);
        json_out_kv_string(&out, "name", table[i].name);
        json_out_kv_string(&out, "value", value);
        json_out_kv_string(&out, "source", setting_source_name(s->source[i]));
        json_out_kv_string(&out, "default", table[i].fallback);
        json_out_kv_string(&out, "allowed", table[i].allowed);
        json_out_kv_string(&out, "help", table[i].help);
        json_out_object_end(&out);
    }
    json_out_array_end(&out);
    return print_json(&buf, err);
}

static int run(const struct args *args, struct err *err)
{
    static const char *const headings[] = {"SETTING", "VALUE", "FROM", "MEANING"};
    struct table t;
    size_t n;
    char value[VALUE_BYTES];
    const struct setting_info *table = settings_table(&n);
    if (args->json) {
        return show_json(&args->settings, err);
    }
    table_init(&t, headings, 4);
    for (size_t i = 0; i < n; i++) {
        settings_show(&args->settings, i, value, sizeof value);
        table_cell(&t, table[i].name);
        table_cell(&t, value);
        table_cell(&t, setting_source_name(args->settings.source[i]));
        table_cell(&t, table[i].help);
    }
    table_print(&t);
    return EXIT_DONE;
}

const struct command command_config = {
    .name = "config",
    .summary = "Show every setting, its value and where the value came from",
    .usage = "",
    .examples = "  mlx-hub config\n"
                "  PORT=9000 mlx-hub config --json\n",
    .run = run,
};
