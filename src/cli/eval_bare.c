/* Names and columns come from the registry beside a server that may be running; nothing is written.
 */
#include "cli/eval_bare.h"

#include <string.h>

#include "base/json.h"
#include "cli/find_model.h"
#include "cli/interrupt.h"
#include "cli/lookup.h"
#include "cli/print.h"
#include "formats/manifest.h"
#include "formats/train_config.h"
#include "registry/datasets.h"
#include "train/evaluate.h"

enum { SAMPLES = 8, RESULT_BYTES_MAX = 1 << 20 };

bool eval_is_bare(const struct settings *settings, const char *name)
{
    struct found_model model;
    struct err unknown = {0};
    const bool bare =
        find_model(&model, settings, name, &unknown) == 0 && model.version_dir == NULL;
    found_model_release(&model);
    return bare;
}

/* The hub's answer says nothing of columns. */
static int find_dataset(const struct settings *settings, const char *id, struct arena *arena,
                        struct dataset_record *record, struct err *err)
{
    const struct registry_options options = {.database_url = settings->database_url,
                                             .base_path = settings->storage_base_path,
                                             .models_path = settings->storage_models_path,
                                             .datasets_path = settings->storage_datasets_path};
    struct registry *registry = NULL;
    int rc = registry_open(&registry, &options, err);
    if (rc == 0) {
        rc = registry_get_dataset(registry, id, arena, record, err);
    }
    registry_close(registry);
    return rc;
}

static void show(void *ctx, const struct train_progress *p, bool log)
{
    (void)log;
    if (ctx != NULL) {
        progress_show(ctx, (double)p->step / (double)p->steps, "evaluating");
    }
}

static enum train_stop poll(void *ctx)
{
    (void)ctx;
    return interrupted() ? TRAIN_CANCEL : TRAIN_GO_ON;
}

int eval_limits_read(const struct settings *settings, const char *name, struct eval_limits *limits,
                     bool *known, struct err *err)
{
    struct found_model model;
    struct manifest manifest = {0};
    struct err unknown = {0};
    int rc = 0;
    *known = find_model(&model, settings, name, &unknown) == 0 && model.version_dir != NULL;
    if (*known) {
        rc = manifest_read(&manifest, model.version_dir, err);
        limits->max_seq_length = manifest.config.max_seq_length;
        limits->mask_prompt = manifest.config.mask_prompt;
    }
    manifest_release(&manifest);
    found_model_release(&model);
    return rc;
}

/* What models and jobs of a running hub hold of the limit. */
static int held_by_hub(struct hub *hub, uint64_t *bytes, struct err *err)
{
    json_t *health = NULL;
    *bytes = 0;
    if (!hub_is_remote(hub)) {
        return 0;
    }
    const int rc = remote_call(&hub->remote, "GET", "/health/detailed", NULL, &health, err);
    const json_t *part = json_object_get(json_object_get(health, "parts"), "inference");
    *bytes = (uint64_t)(row_int(part, "memory_bytes") + row_int(part, "memory_bytes_job"));
    json_decref(health);
    return rc;
}

static int measure(const struct settings *settings, uint64_t held, const struct infer_spec *model,
                   const struct eval_limits *limits, const struct dataset_record *data, bool quiet,
                   struct evaluate_result *result, struct err *err)
{
    const uint64_t limit = (uint64_t)(settings->memory_limit_gb * 1073741824.0);
    struct progress progress;
    const struct evaluate_spec spec = {.base_id = model->base_id,
                                       .base_path = model->base_path,
                                       .adapter_path = model->adapter_path,
                                       .adapter_scale = model->adapter_scale,
                                       .chat_template = model->chat_template,
                                       .dataset_path = data->path,
                                       .dataset_sha256 = data->checksum,
                                       .dataset_columns = data->columns,
                                       .max_seq_length = limits->max_seq_length,
                                       .mask_prompt = limits->mask_prompt,
                                       .n_samples = SAMPLES,
                                       .threads = settings->threads,
                                       .isa = settings->isa,
                                       .memory_bytes_max = held < limit ? limit - held : 1};
    const struct train_hooks hooks = {
        .ctx = quiet ? NULL : &progress, .progress = show, .poll = poll};
    progress_init(&progress);
    const int rc = train_evaluate(&spec, &hooks, result, err);
    if (!quiet) {
        progress_end(&progress);
    }
    if (rc == -ERR_UNAVAILABLE && held > 0) {
        err_prefix(err,
                   "the running hub's models and job hold %.0f MB of the limit of %.0f MB (idle "
                   "models go with DELETE /inference/cache)",
                   (double)held / 1e6, (double)limit / 1e6);
    }
    return rc;
}

static int write_result(const struct dataset_record *data, const char *name,
                        const struct evaluate_result *result, json_t **tree, struct err *err)
{
    struct buf text;
    struct json_out out;
    buf_init(&text, RESULT_BYTES_MAX);
    json_out_init(&out, &text);
    json_out_object(&out);
    json_out_kv_string(&out, "kind", "evaluate");
    json_out_kv_string(&out, "model", name);
    json_out_kv_string(&out, "dataset_id", data->id);
    json_out_kv_string(&out, "dataset_name", data->name);
    json_out_kv_string(&out, "dataset_checksum", data->checksum);
    evaluate_result_write(result, &out);
    json_out_object_end(&out);
    int rc = buf_check(&text, "the result", err);
    if (rc == 0) {
        *tree = json_parse(text.data, text.len, err);
        rc = *tree != NULL ? 0 : -(int)err->code;
    }
    buf_release(&text);
    return rc;
}

int eval_bare(struct hub *hub, const struct settings *settings, const char *name,
              const struct eval_limits *limits, const json_t *dataset, bool quiet, json_t **result,
              struct err *err)
{
    uint64_t held = 0;
    struct train_config usual;
    struct found_model model;
    struct dataset_record data;
    struct evaluate_result measured = {0};
    struct arena arena;
    *result = NULL;
    train_config_defaults(&usual);
    const struct eval_limits as_usual = {usual.max_seq_length, usual.mask_prompt};
    limits = limits != NULL ? limits : &as_usual;
    arena_init(&arena, 0);
    interrupt_catch();
    int rc = find_model(&model, settings, name, err);
    rc = rc == 0 ? find_dataset(settings, row_text(dataset, "id"), &arena, &data, err) : rc;
    rc = rc == 0 ? held_by_hub(hub, &held, err) : rc;
    rc = rc == 0 ? measure(settings, held, &model.spec, limits, &data, quiet, &measured, err) : rc;
    rc = rc == 0 ? write_result(&data, name, &measured, result, err) : rc;
    evaluate_result_release(&measured);
    found_model_release(&model);
    arena_release(&arena);
    return rc;
}
