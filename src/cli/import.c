/* mlx-hub import: take a model's weights into the hub's storage. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "cli/base.h"
#include "cli/commands.h"
#include "cli/hub.h"
#include "cli/lookup.h"
#include "cli/print.h"

static const struct option_info options[] = {
    {"as", "ID", "what the hub calls it (the file's name); may hold one slash: org/name"},
    {"quantization", "BITS",
     "4bit, 8bit or none (as MLX_DEFAULT_QUANTIZATION says, for plain weights that do not fit or "
     "are "
     "larger than 4 GB)"},
};

/* "models/SmolLM2.Q4_1.gguf" → "SmolLM2.Q4_1" */
static void default_id(const char *path, char out[256])
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') {
        from--;
    }
    snprintf(out, 256, "%.*s", (int)(n - from), path + from);
    char *dot = strrchr(out, '.');
    if (dot != NULL && dot != out &&
        (strcmp(dot, ".gguf") == 0 || strcmp(dot, ".safetensors") == 0)) {
        *dot = '\0';
    }
}

static int run(const struct args *args, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    char id[256];
    struct hub hub = {0};
    json_t *body = NULL;
    json_t *base = NULL;
    default_id(args->positional[0], id);
    const char *as = args_get(args, "as") != NULL ? args_get(args, "as") : id;
    int rc = 0;
    if (!fs_exists(args->positional[0])) {
        rc = err_set(err, ERR_NOT_FOUND, "there is no file or folder '%s'", args->positional[0]);
    }
    rc = rc == 0 ? fs_absolute(path, args->positional[0], err) : rc;
    if (rc == 0) {
        body = json_pack("{s:s, s:s, s:s?}", "path", path, "as", as, "quantization",
                         args_get(args, "quantization"));
        rc = body != NULL ? 0 : err_set(err, ERR_INVALID, "the path is not UTF-8");
    }
    rc = rc == 0 ? hub_open(&hub, args, false, err) : rc;
    rc = rc == 0 ? remote_call(&hub.remote, "POST", "/base-models/import", body, &base, err) : rc;
    int status = rc == 0 ? EXIT_DONE : EXIT_FAILED;
    if (rc == 0 && args->json) {
        status = print_tree(base, err);
    } else if (rc == 0) {
        print_base(base, "imported");
    }
    hub_close(&hub);
    json_decref(body);
    json_decref(base);
    return status;
}

const struct command command_import = {
    .name = "import",
    .summary = "Take a model's weights into the hub",
    .usage = "PATH [--as ID] [--quantization 4bit|8bit|none]\n"
             "       PATH: a GGUF file, or a folder of safetensors, plain or in MLX's 4 or 8 bits",
    .examples = "  mlx-hub import SmolLM2-135M-Instruct.Q4_1.gguf --as smollm2\n"
                "  mlx-hub import ~/models/Llama-3.2-1B --as meta-llama/Llama-3.2-1B\n"
                "  mlx-hub import ~/models/Mistral-7B --as mistral --quantization 8bit\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .positional_min = 1,
    .positional_max = 1,
    .run = run,
};
