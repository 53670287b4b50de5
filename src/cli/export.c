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
     "of a VERSION: mlx (mlx-lm's adapter folder) or peft (Hugging Face PEFT's); of a BASE: gguf "
     "(one file for llama.cpp), mlx (for mlx-lm) or safetensors (for transformers)"},
    {"merge", "VERSION", "of a BASE: fold this version's adapter into it"},
    {"type", "TYPE",
     "of weights: keep, f16, bf16, f32, and of gguf q8_0 and q4_0 (keep: as the base has them)"},
    {"bits", "BITS", "mlx: quantise to 4 or 8 bits (as plain as --type says)"},
    {"group-size", "N",
     "mlx: 32, 64 or 128 weights share a scale (32 where the base has blocks of "
     "32, else 64)"},
    {"out", "DIR", "where to (the base's name, here); of gguf also a file: name.gguf"},
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
        merge_result_write(weights, &out);
    }
    json_out_object_end(&out);
    return print_json(&buf, err);
}

/* --- adapters --- */

static int export_adapter(const struct args *args, const struct found_model *model,
                          const char *dest, struct err *err)
{
    if (model->version_dir == NULL) {
        (void)err_set(err, ERR_INVALID,
                      "'%s' is a base model, or has no version yet; name a version: MODEL@1.0.0",
                      args->positional[0]);
        return EXIT_FAILED;
    }
    const int rc = train_export(model->version_dir, model->spec.base_path, args_get(args, "format"),
                                dest, err);
    return rc == 0 ? print_result(args, dest, NULL, err) : EXIT_FAILED;
}

/* --- weights --- */

/* The model that is meant: the version to merge, whose base must be the one that was named, or the
 * one that was named. */
static int find(const struct args *args, struct found_model *model, struct err *err)
{
    const char *base = args->positional[0], *merge = args_get(args, "merge");
    int rc = find_model(model, &args->settings, merge != NULL ? merge : base, err);
    if (rc == 0 && merge != NULL && model->version_dir == NULL) {
        rc = err_set(err, ERR_INVALID, "'%s' is no version; name one: MODEL@1.0.0", merge);
    } else if (rc == 0 && merge != NULL && strcmp(model->spec.base_id, base) != 0) {
        rc = err_set(err, ERR_INVALID, "%s was trained on '%s', not on '%s'", merge,
                     model->spec.base_id, base);
    }
    return rc;
}

static int export_weights(const struct args *args, struct found_model *model,
                          struct merge_spec *spec, struct err *err)
{
    struct merge_result result;
    if (args_get(args, "merge") == NULL) {
        model->version_dir = NULL; /* a model's name stands for its base here */
    }
    interrupt_catch();
    const int rc = merge_into(args, model, spec, &result, err);
    return rc == 0 ? print_result(args, spec->dest, &result, err) : EXIT_FAILED;
}

/* --- the command --- */

static int format_of(const char *text, enum merge_format *format, bool *adapter)
{
    static const char *const names[] = {"safetensors", "mlx", "gguf"};
    *adapter = text != NULL && strcmp(text, "peft") == 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (text != NULL && strcmp(text, names[i]) == 0) {
            *format = (enum merge_format)i;
            return 0;
        }
    }
    return *adapter ? 0 : -1;
}

static int read_numbers(const struct args *args, struct merge_spec *spec, struct err *err)
{
    long bits = 0, group = 0;
    int rc = args_get_int(args, "bits", 0, &bits, err);
    rc = rc == 0 ? args_get_int(args, "group-size", 0, &group, err) : rc;
    rc = rc == 0
             ? merge_type_of(args_get(args, "type"), spec->format == MERGE_GGUF, &spec->type, err)
             : rc;
    if (rc == 0 && ((bits != 0 && bits != 4 && bits != 8) ||
                    (group != 0 && group != 32 && group != 64 && group != 128))) {
        return err_set(err, ERR_INVALID, "--bits takes 4 or 8, --group-size 32, 64 or 128");
    }
    if (rc == 0 && spec->format != MERGE_MLX && (bits != 0 || group != 0)) {
        return err_set(err, ERR_INVALID, "--bits and --group-size go with --format mlx");
    }
    spec->bits = (int)bits;
    spec->group = (uint32_t)group;
    return rc;
}

/* Where it goes: as said, or the last part of the base's name, here. */
static int dest_of(const struct args *args, enum merge_format format, char dest[FS_PATH_BYTES_MAX],
                   struct err *err)
{
    static const char *const endings[] = {"-safetensors", "-mlx", ".gguf"};
    const char *name = args->positional[0], *out = args_get(args, "out");
    const char *slash = strrchr(name, '/');
    char made[512];
    if (args->n_positional > 1) {
        out = args->positional[1];
    }
    snprintf(made, sizeof made, "%.400s%s", slash != NULL ? slash + 1 : name, endings[format]);
    return fs_absolute(dest, out != NULL ? out : made, err);
}

static int run(const struct args *args, struct err *err)
{
    struct merge_spec spec = {.type = MERGE_KEEP};
    struct found_model model = {0};
    char dest[FS_PATH_BYTES_MAX];
    bool adapter;
    int status = EXIT_FAILED;
    const bool weights = args_get(args, "merge") != NULL || args_get(args, "type") != NULL ||
                         args_get(args, "bits") != NULL || args_get(args, "group-size") != NULL;
    if (format_of(args_get(args, "format"), &spec.format, &adapter) != 0) {
        (void)err_set(err, ERR_INVALID,
                      "say --format gguf, mlx or safetensors of a base, mlx or peft of a version");
        return EXIT_USAGE;
    }
    if (adapter && weights) {
        (void)err_set(err, ERR_INVALID, "--format peft is of adapters alone");
        return EXIT_USAGE;
    }
    if (read_numbers(args, &spec, err) != 0) {
        return EXIT_USAGE;
    }
    spec.dest = dest;
    int rc = dest_of(args, spec.format, dest, err);
    rc = rc == 0 ? find(args, &model, err) : rc;
    if (rc == 0) {
        adapter = adapter || (spec.format == MERGE_MLX && !weights && model.version_dir != NULL);
        status = adapter ? export_adapter(args, &model, dest, err)
                         : export_weights(args, &model, &spec, err);
    }
    found_model_release(&model);
    return status;
}

const struct command command_export = {
    .name = "export",
    .summary = "Write weights for llama.cpp, mlx-lm or transformers, or an adapter",
    .usage = "BASE --format gguf|mlx|safetensors [--merge VERSION] [--type T] [--out DIR]\n"
             "       export VERSION --format mlx|peft [--out DIR]        DIR: not there yet",
    .examples = "  mlx-hub export org/base --format gguf --out base.gguf\n"
                "  mlx-hub export org/base --format gguf --type q8_0\n"
                "  mlx-hub export org/base --format mlx --bits 4 --out ./base-4bit\n"
                "  mlx-hub export org/base --format safetensors --merge facts@1.0.0\n"
                "  mlx-hub export facts@1.0.0 --format peft --out ./facts-peft\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .positional_min = 1,
    .positional_max = 2,
    .run = run,
};
