/* mlx-hub merge: fold a version's adapter into its base and keep the result as a base of its own.
 *
 * The weights are made in the storage's cache folder, compared there with base and adapter, taken
 * in as any other base is, and removed again. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/find_model.h"
#include "cli/hub.h"
#include "cli/interrupt.h"
#include "cli/lookup.h"
#include "cli/merge.h"
#include "cli/print.h"

static const struct option_info options[] = {
    {"as", "BASE_ID", "what the merged base is called"},
    {"type", "TYPE", "f16, or bf16 (as large, an eighth as fine), or f32 (f16)"},
};

static enum train_stop on_poll(void *ctx)
{
    (void)ctx;
    return interrupted() ? TRAIN_CANCEL : TRAIN_GO_ON;
}

static void on_progress(void *ctx, const struct train_progress *p, bool log)
{
    char text[PROGRESS_LINE_BYTES];
    (void)log;
    snprintf(text, sizeof text, "%lld of %lld MB", (long long)p->step, (long long)p->steps);
    progress_show(ctx, (double)p->step / (double)p->steps, text);
}

int merge_type_of(const char *text, bool blocks, enum merge_type *type, struct err *err)
{
    if (text != NULL && (!merge_type_parse(text, type) ||
                         (!blocks && (*type == MERGE_Q8_0 || *type == MERGE_Q4_0)))) {
        return err_set(err, ERR_INVALID, "--type takes %skeep, f16, bf16 or f32",
                       blocks ? "q4_0, q8_0, " : "");
    }
    return 0;
}

int merge_into(const struct args *args, const struct found_model *model, struct merge_spec *spec,
               struct merge_result *result, struct err *err)
{
    struct progress bar;
    const struct train_hooks hooks = {.ctx = &bar, .poll = on_poll, .progress = on_progress};
    spec->base_id = model->spec.base_id;
    spec->base_path = model->spec.base_path;
    spec->version_dir = model->version_dir;
    spec->threads = args->settings.threads;
    spec->isa = args->settings.isa;
    progress_init(&bar);
    const int rc = train_merge(spec, &hooks, result, err);
    progress_end(&bar);
    return rc;
}

void merge_print(const struct merge_result *result)
{
    char bytes[32];
    format_bytes((double)result->bytes, bytes);
    printf("%lld tensors, %s", (long long)result->tensors, bytes);
    if (result->merged > 0) {
        printf(", %lld with factors folded in", (long long)result->merged);
    }
    if (result->exact == result->tensors) {
        printf(": lossless\n");
    } else {
        printf(": %lld carried over exactly, %lld rounded, %lld quantised, %lld quantised again\n",
               (long long)result->exact, (long long)result->rounded, (long long)result->quantised,
               (long long)result->requantised);
    }
    printf("compared %lld log-probabilities with the base%s: they differ by %.2g on average and "
           "%.2g at most",
           (long long)result->probed, result->merged > 0 ? " and its adapter" : "",
           result->mean_difference, result->largest_difference);
    if (result->merged > 0) {
        printf("; the adapter itself changes them by %.2g", result->adapter_effect);
    }
    printf("\n");
}

/* A folder of the cache that nobody else has. */
static int temp_folder(const struct args *args, char out[FS_PATH_BYTES_MAX], struct err *err)
{
    char uuid[UUID_BYTES], name[UUID_BYTES + 16];
    int rc = uuid_make(uuid, err);
    if (rc == 0) {
        snprintf(name, sizeof name, "cache/merge-%s", uuid);
        rc = fs_join(out, args->settings.storage_base_path, name, err);
    }
    return rc;
}

static int take_in(const struct args *args, const char *folder, const char *id, json_t **base,
                   struct err *err)
{
    struct hub hub = {0};
    char path[FS_PATH_BYTES_MAX];
    int rc = fs_absolute(path, folder, err);
    json_t *body = json_pack("{s:s, s:s}", "path", path, "as", id);
    if (rc == 0 && body == NULL) {
        rc = err_set(err, ERR_INVALID, "the id is not UTF-8");
    }
    rc = rc == 0 ? hub_open(&hub, args, false, err) : rc;
    rc = rc == 0 ? remote_call(&hub.remote, "POST", "/base-models/import", body, base, err) : rc;
    hub_close(&hub);
    json_decref(body);
    return rc;
}

static int print_result(const struct args *args, const struct merge_result *result,
                        const json_t *base, struct err *err)
{
    struct buf buf;
    struct json_out out;
    if (!args->json) {
        merge_print(result);
        printf("merged %s into %s, sha256 %.16s…\nnext: mlx-hub chat %s\n", args->positional[0],
               row_text(base, "id"), row_text(base, "sha256"), row_text(base, "id"));
        return EXIT_DONE;
    }
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_string(&out, "version", args->positional[0]);
    merge_result_write(result, &out);
    json_out_kv_tree(&out, "base", base);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

static int run(const struct args *args, struct err *err)
{
    const char *id = args_get(args, "as");
    struct found_model model = {0};
    struct merge_result result;
    struct merge_spec spec = {.type = MERGE_F16};
    char folder[FS_PATH_BYTES_MAX] = "";
    json_t *base = NULL;
    if (id == NULL) {
        (void)err_set(err, ERR_INVALID, "say what the merged base is called: --as BASE_ID");
        return EXIT_USAGE;
    }
    if (merge_type_of(args_get(args, "type"), false, &spec.type, err) != 0) {
        return EXIT_USAGE;
    }
    interrupt_catch();
    int rc = find_model(&model, &args->settings, args->positional[0], err);
    if (rc == 0 && model.version_dir == NULL) {
        rc = err_set(err, ERR_INVALID, "'%s' is no version; name one: MODEL@1.0.0",
                     args->positional[0]);
    }
    rc = rc == 0 ? check_new_base(&args->settings, id, err) : rc;
    rc = rc == 0 ? temp_folder(args, folder, err) : rc;
    spec.dest = folder;
    rc = rc == 0 ? merge_into(args, &model, &spec, &result, err) : rc;
    rc = rc == 0 ? take_in(args, folder, id, &base, err) : rc;
    if (folder[0] != '\0' && fs_exists(folder)) {
        (void)!fs_remove_tree(folder, NULL);
    }
    const int status = rc == 0 ? print_result(args, &result, base, err) : EXIT_FAILED;
    json_decref(base);
    found_model_release(&model);
    return status;
}

const struct command command_merge = {
    .name = "merge",
    .summary = "Fold a version's adapter into its base, as a base of its own",
    .usage = "VERSION --as BASE_ID [--type f16|bf16|f32]",
    .examples = "  mlx-hub merge facts@1.0.0 --as facts-merged\n"
                "to a folder for transformers or mlx-lm instead:\n"
                "  mlx-hub export BASE --format safetensors --out ./folder --merge facts@1.0.0\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .positional_min = 1,
    .positional_max = 1,
    .run = run,
};
