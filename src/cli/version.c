/* mlx-hub version */
#include <stdio.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "engine/engine.h"
#include "kernels/kernels.h"

static int run(const struct args *args, struct err *err)
{
    if (!args->json) {
        printf("mlx-hub %s (numerics %d, %s)\n", MLX_HUB_VERSION, ENGINE_NUMERICS_VERSION,
               kernels_get("best")->isa);
        return EXIT_DONE;
    }
    struct buf buf;
    struct json_out out;
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_string(&out, "version", MLX_HUB_VERSION);
    json_out_kv_int(&out, "numerics_version", ENGINE_NUMERICS_VERSION);
    json_out_kv_string(&out, "isa", kernels_get("best")->isa);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

const struct command command_version = {
    .name = "version",
    .summary = "Print the version",
    .usage = "",
    .examples = "  mlx-hub version --json\n",
    .run = run,
};
