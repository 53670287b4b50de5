/* mlx-hub export: a version's adapter as another tool's folder, or a base's weights as one. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/find_model.h"
#include "cli/interrupt.h"
#include "cli/merge.h"
#include "cli/print.h"
#include "train/train.h"

static const struct option_info options[] = {
    {"format", "FORMAT",
     "of a VERSION: mlx (mlx-lm's adapter folder) or peft (Hugging Face PEFT's); of a BASE: "
     "safetensors"},
    {"merge", "VERSION", "safetensors: fold this version's adapter into the base"},
    {"dtype", "TYPE", "safetensors: bf16 or f32 (bf16)"},
};

static int print_result(const struct args *args, const char *path,
                        const struct merge_result *weights, struct err *err)
{
    const char *format = args_get(args, "format");
    struct buf buf;
    struct json_out out;
    if (!args->json) {
        if (weights != NULL) {
            merge_print(weights);
        }
        printf("exported %s for %s to %s\n", args->positional[0], format, path);
        return EXIT_DONE;
    }
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_string(&out, weights != NULL ? "base" : "version", args->positional[0]);
    json_out_kv_string(&out, "format", format);
    json_out_kv_string(&out, "path", path);
    if (weights != NULL) {
        merge_write(weights, &out);
    }
    json_out_object_end(&out);
    return print_json(&buf, err);
}

/* --- adapters --- */

static int export_adapter(const struct args *args, const char *dest, struct err *err)
{
    const char *name = args->positional[0];
    struct found_model model = {0};
    int rc = find_model(&model, &args->settings, name, err);
    if (rc == 0 && model.version_dir == NULL) {
        rc = err_set(err, ERR_INVALID,
                     "'%s' is a base model, or has no version yet; name a version: MODEL@1.0.0",
                     name);
    }
    if (rc == 0) {
        rc = train_export(model.version_dir, args_get(args, "format"), dest, err);
    }
    found_model_release(&model);
    return rc == 0 ? print_result(args, dest, NULL, err) : EXIT_FAILED;
}

/* --- weights --- */

/* The base itself, or the version to merge, whose base it must be. */
static int find_weights(const struct args *args, struct found_model *model, struct err *err)
{
    const char *base = args->positional[0], *merge = args_get(args, "merge");
    int rc = find_model(model, &args->settings, merge != NULL ? merge : base, err);
    if (rc == 0 && merge != NULL && model->version_dir == NULL) {
        rc = err_set(err, ERR_INVALID, "'%s' is no version; name one: MODEL@1.0.0", merge);
    } else if (rc == 0 && merge != NULL && strcmp(model->spec.base_id, base) != 0) {
        rc = err_set(err, ERR_INVALID, "%s was trained on '%s', not on '%s'", merge,
                     model->spec.base_id, base);
    } else if (rc == 0 && merge == NULL) {
        model->version_dir = NULL; /* a model's name stands for its base here */
    }
    return rc;
}

static int export_weights(const struct args *args, const char *dest, struct err *err)
{
    struct found_model model = {0};
    struct merge_result result;
    interrupt_catch();
    int rc = find_weights(args, &model, err);
    rc = rc == 0 ? merge_into(args, &model, dest, &result, err) : rc;
    found_model_release(&model);
    return rc == 0 ? print_result(args, dest, &result, err) : EXIT_FAILED;
}

/* --- the command --- */

static int run(const struct args *args, struct err *err)
{
    const char *format = args_get(args, "format");
    const bool weights = format != NULL && strcmp(format, "safetensors") == 0;
    char dest[FS_PATH_BYTES_MAX];
    enum merge_type unused;
    if (format == NULL || (!weights && strcmp(format, "mlx") != 0 && strcmp(format, "peft") != 0)) {
        (void)err_set(err, ERR_INVALID, "say --format mlx, --format peft or --format safetensors");
        return EXIT_USAGE;
    }
    if (!weights && (args_get(args, "merge") != NULL || args_get(args, "dtype") != NULL)) {
        (void)err_set(err, ERR_INVALID, "--merge and --dtype go with --format safetensors");
        return EXIT_USAGE;
    }
    if (merge_type_of(args_get(args, "dtype"), &unused, err) != 0) {
        return EXIT_USAGE;
    }
    if (fs_absolute(dest, args->positional[1], err) != 0) {
        return EXIT_FAILED;
    }
    return weights ? export_weights(args, dest, err) : export_adapter(args, dest, err);
}

const struct command command_export = {
    .name = "export",
    .summary = "Write an adapter for mlx-lm or PEFT, or weights for transformers",
    .usage = "VERSION DEST --format mlx|peft | BASE DEST --format safetensors [--merge VERSION]\n"
             "       DEST: a folder that is not there yet",
    .examples = "  mlx-hub export facts@1.0.0 ./facts-peft --format peft\n"
                "  mlx-hub export facts:production ./facts-mlx --format mlx\n"
                "  mlx-hub export org/base ./facts-full --format safetensors --merge facts@1.0.0\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .positional_min = 2,
    .positional_max = 2,
    .run = run,
};
