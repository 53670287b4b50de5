/* mlx-hub export: a version's adapter as another tool's folder. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/find_model.h"
#include "cli/print.h"
#include "train/train.h"

static const struct option_info options[] = {
    {"format", "FORMAT", "mlx (mlx-lm's adapter folder) or peft (Hugging Face PEFT's)"},
};

static int print_result(const struct args *args, const char *format, const char *path,
                        struct err *err)
{
    struct buf buf;
    struct json_out out;
    if (!args->json) {
        printf("exported %s for %s to %s\n", args->positional[0], format, path);
        return EXIT_DONE;
    }
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_string(&out, "version", args->positional[0]);
    json_out_kv_string(&out, "format", format);
    json_out_kv_string(&out, "path", path);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

static int run(const struct args *args, struct err *err)
{
    const char *format = args_get(args, "format");
    const char *name = args->positional[0];
    char dest[FS_PATH_BYTES_MAX];
    struct found_model model = {0};
    if (format == NULL || (strcmp(format, "mlx") != 0 && strcmp(format, "peft") != 0)) {
        (void)err_set(err, ERR_INVALID, "say --format mlx or --format peft");
        return EXIT_USAGE;
    }
    int rc = fs_absolute(dest, args->positional[1], err);
    if (rc == 0) {
        rc = find_model(&model, &args->settings, name, err);
    }
    if (rc == 0 && model.version_dir == NULL) {
        rc = err_set(err, ERR_INVALID,
                     "'%s' is a base model, or has no version yet; name a version: MODEL@1.0.0",
                     name);
    }
    if (rc == 0) {
        rc = train_export(model.version_dir, format, dest, err);
    }
    const int status = rc == 0 ? print_result(args, format, dest, err) : EXIT_FAILED;
    found_model_release(&model);
    return status;
}

const struct command command_export = {
    .name = "export",
    .summary = "Write a version's adapter for mlx-lm or PEFT",
    .usage = "VERSION DEST --format mlx|peft        DEST: a folder that is not there yet",
    .examples = "  mlx-hub export facts@1.0.0 ./facts-peft --format peft\n"
                "  mlx-hub export facts:production ./facts-mlx --format mlx\n",
    .options = options,
    .n_options = 1,
    .positional_min = 2,
    .positional_max = 2,
    .run = run,
};
