/* Everything up to the first step, in an order that fails early and cheaply: checksums, memory,
 * rows, and only then what is large. A checkpoint is chosen before the rows are made, because its
 * date decides what some templates write. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "engine/adapter_files.h"
#include "formats/model_digest.h"
#include "train/merge.h"
#include "train/run.h"

/* --- what makes this run ---------------------------------------------------------------------- */

static int check_base(struct run *run, struct err *err)
{
    const struct train_spec *spec = run->spec;
    int rc = model_digest(spec->base_path, run->base_sha256, err);
    if (rc != 0) {
        err_prefix(err, "base model %s", spec->base_id);
        return rc;
    }
    if (spec->base_sha256 != NULL && strcmp(spec->base_sha256, run->base_sha256) != 0) {
        return err_set(err, ERR_CORRUPT,
                       "base model %s changed since it was imported: its checksum was %s and is "
                       "%s; import it again",
                       spec->base_id, spec->base_sha256, run->base_sha256);
    }
    return 0;
}

static int hash_file(const char *path, const char *expected, char out[SHA256_HEX_BYTES],
                     struct err *err)
{
    if (path == NULL) {
        return 0;
    }
    if (!fs_exists(path)) {
        return err_set(err, ERR_NOT_FOUND, "%s is gone: put the file back and resume the job",
                       path);
    }
    int rc = sha256_file_hex(path, out, err);
    if (rc == 0 && expected != NULL && strcmp(expected, out) != 0) {
        rc = err_set(err, ERR_CORRUPT,
                     "%s changed since it was registered: its checksum was %s and is %s; put the "
                     "old file back and resume the job, or register it again under a new name",
                     path, expected, out);
    }
    return rc;
}

/* The digest of all that decides the adapter's bytes, but for the date, which a checkpoint pins. */
static int make_digest(struct run *run, struct err *err)
{
    struct json_out out;
    struct buf text;
    buf_init(&text, CHECKPOINT_STATE_BYTES_MAX);
    const char *columns = run->spec->dataset_columns, *named = run->spec->validation_columns;
    buf_printf(&text, "%d %s %s %s %s %s %s ", ENGINE_NUMERICS_VERSION, run->base_sha256,
               run->dataset_sha256, columns != NULL ? columns : "", run->validation_sha256,
               named != NULL ? named : "", run->init_sha256);
    json_out_init(&out, &text);
    train_config_write(run->config, &out);
    int rc = buf_check(&text, "the run's digest", err);
    if (rc == 0) {
        rc = sha256_hex(text.data, text.len, run->digest, err);
    }
    buf_release(&text);
    return rc;
}

static int identify(struct run *run, struct err *err)
{
    const struct train_spec *spec = run->spec;
    int rc;
    if ((rc = check_base(run, err)) != 0 ||
        (rc = hash_file(spec->dataset_path, spec->dataset_sha256, run->dataset_sha256, err)) != 0 ||
        (rc = hash_file(spec->validation_path, spec->validation_sha256, run->validation_sha256,
                        err)) != 0 ||
        (rc = hash_file(spec->init_adapter_path, NULL, run->init_sha256, err)) != 0) {
        return rc;
    }
    return make_digest(run, err);
}

static void note_line(void *ctx, const char *line)
{
    run_note(ctx, "%s", line);
}

static int choose_checkpoint(struct run *run, struct err *err)
{
    int rc = fs_mkdirs(run->spec->checkpoint_dir, err);
    if (rc == 0) {
        rc = checkpoint_find(run->spec->checkpoint_dir, run->digest, run->resumed, &run->state,
                             note_line, run, err);
    }
    if (rc != 0) {
        return rc;
    }
    run->resumed_step = run->state.step;
    run->saved = run->state.step > 0;
    if (run->state.step == 0) {
        const char *date = run->spec->date != NULL ? run->spec->date : "";
        if (strlen(date) >= sizeof run->state.date) {
            return err_set(err, ERR_INVALID, "the date must be YYYY-MM-DD");
        }
        memcpy(run->state.date, date, strlen(date) + 1);
        run->state.first_loss = run->state.loss = (double)NAN;
        run->state.val_loss = run->state.best_val_loss = run->state.first_val_loss = (double)NAN;
    }
    return 0;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* The copy lies with the checkpoints, so a resumed run finds it; its bytes follow from the base's.
 */
static int quantize_base(struct run *run, struct err *err)
{
    const struct train_spec *spec = run->spec;
    struct engine_estimate estimate;
    struct merge_result unused;
    run->base_path = spec->base_path;
    int rc = engine_estimate_open(spec->base_path, spec->threads, &estimate, err);
    const int bits = rc == 0 ? run_quantized_bits(run->config, estimate.info.quantization) : 0;
    if (bits == 0) {
        return rc;
    }
    rc = fs_join(run->quantised, spec->checkpoint_dir, bits == 4 ? "base-4bit" : "base-8bit", err);
    run->base_path = run->quantised;
    if (rc != 0 || fs_exists(run->quantised)) {
        return rc;
    }
    const bool half = strcmp(estimate.info.quantization, "BF16") == 0;
    const struct merge_spec copy = {.base_id = spec->base_id,
                                    .base_path = spec->base_path,
                                    .dest = run->quantised,
                                    .type = half ? MERGE_BF16 : MERGE_F32,
                                    .bits = bits};
    /* Its progress is in megabytes, which are no steps. */
    const struct train_hooks asked = {.ctx = run->hooks != NULL ? run->hooks->ctx : NULL,
                                      .poll = run->hooks != NULL ? run->hooks->poll : NULL};
    run_note(run, "quantising the frozen base to %d bits", bits);
    return train_merge(&copy, &asked, &unused, err);
}

static int check_memory(struct run *run, struct err *err)
{
    const uint64_t most = run->spec->memory_bytes_max;
    uint64_t bytes = 0;
    int rc = run_memory(run->base_path, run->config, run->spec->threads, &bytes, err);
    bytes += train_rows_bytes(&run->rows) + train_rows_bytes(&run->validation_rows);
    run->planned_memory_bytes = bytes;
    if (rc == 0 && most > 0 && bytes > most) {
        rc = err_set(err, ERR_UNAVAILABLE,
                     "training needs %.0f MB and %.0f MB are allowed: lower max_seq_length or "
                     "lora_rank",
                     (double)bytes / 1e6, (double)most / 1e6);
    }
    return rc;
}

/* --- rows ------------------------------------------------------------------------------------- */

static int read_rows(struct run *run, struct err *err)
{
    const struct train_spec *spec = run->spec;
    struct train_config config = *run->config;
    int rc = row_maker_init(&run->maker, run->model, NULL,
                            run->state.date[0] != '\0' ? run->state.date : NULL, run->tokens_max,
                            config.mask_prompt, err);
    if (rc == 0) {
        rc = train_rows_read(&run->rows, &run->maker, spec->dataset_path, spec->dataset_columns,
                             run->dataset_sha256, run_poll, run, err);
    }
    if (rc == 0 && spec->validation_path != NULL) {
        rc = train_rows_read(&run->validation_rows, &run->maker, spec->validation_path,
                             spec->validation_columns, run->validation_sha256, run_poll, run, err);
        config.val_fraction = 0;
    }
    if (rc != 0) {
        return rc;
    }
    train_config_plan(&config, (int64_t)run->rows.n_rows, &run->plan);
    rc = row_lists_split(&run->rows, (uint64_t)config.seed, (uint32_t)run->plan.val_rows,
                         &run->train, &run->validation, err);
    if (rc == 0 && spec->validation_path != NULL) {
        struct row_list unused = {0};
        row_list_release(&run->validation);
        rc = row_lists_split(&run->validation_rows, 0, 0, &run->validation, &unused, err);
        row_list_release(&unused);
    }
    if (rc == 0) {
        rc = train_order_init(&run->order, &run->train, (uint64_t)config.seed,
                              config.batch_size * config.gradient_accumulation_steps, err);
    }
    return rc;
}

static void note_rows(struct run *run)
{
    const struct train_rows *rows = &run->rows;
    run_note(run, "%lld rows: %u to train on, %u to validate with; %llu targets in %zu tokens",
             (long long)rows->read, run->train.n, run->validation.n,
             (unsigned long long)rows->n_targets, rows->n_tokens);
    if (rows->truncated > 0 || rows->dropped > 0) {
        run_note(run,
                 "%lld rows are longer than %d tokens and were cut; %lld of them had no "
                 "target left and were dropped",
                 (long long)rows->truncated, run->tokens_max, (long long)rows->dropped);
    }
    if (run->config->early_stopping_patience > 0 && run->validation.n == 0) {
        run_note(run, "no rows to validate with: early_stopping_patience has no effect");
    }
    if (rows->last_turn_only > 0) {
        run_note(run,
                 "the chat template rewrites earlier turns: in %lld rows only the last answer is "
                 "learnt; to learn another too, add a row that ends with it",
                 (long long)rows->last_turn_only);
    }
}

/* --- what is trained -------------------------------------------------------------------------- */

static int open_model(struct run *run, struct err *err)
{
    const struct train_spec *spec = run->spec;
    struct engine_estimate estimate;
    int rc = engine_estimate_open(run->base_path, spec->threads, &estimate, err);
    if (rc != 0) {
        return rc;
    }
    run->tokens_max = run_tokens_max(run->config, &estimate.info);
    const struct engine_options options = {.threads = spec->threads,
                                           .isa = spec->isa,
                                           .context_length = run->tokens_max,
                                           .train_only = true};
    rc = engine_model_open(&run->model, run->base_path, &options, err);
    if (rc != 0) {
        err_prefix(err, "base model %s", spec->base_id);
    }
    return rc;
}

static int load_init(struct run *run, struct err *err)
{
    struct engine_adapter *from = NULL;
    if (run->spec->init_adapter_path == NULL) {
        return 0;
    }
    int rc =
        engine_adapter_load(&from, run->model, run->spec->init_adapter_path, run->lora.scale, err);
    if (rc == 0) {
        rc = adapter_copy(run->adapter, from, err);
    }
    engine_adapter_free(from);
    if (rc != 0) {
        err_prefix(err, "init_from");
    }
    return rc;
}

static int make_adapter(struct run *run, struct err *err)
{
    int rc = run_lora(run->config, engine_model_info(run->model), &run->lora, err);
    if (rc == 0) {
        rc = engine_adapter_new(&run->adapter, run->model, &run->lora, (uint64_t)run->config->seed,
                                err);
    }
    if (rc != 0) {
        return rc;
    }
    run->tensors = engine_adapter_tensors(run->adapter, &run->n_tensors);
    return load_init(run, err);
}

static int make_optimizer(struct run *run, struct err *err)
{
    const size_t n = tensors_values(run->tensors, run->n_tensors);
    const struct engine_train_plan plan = {.tokens_max = run->tokens_max,
                                           .dropout = (float)run->config->lora_dropout,
                                           .seed = (uint64_t)run->config->seed};
    int rc = adamw_init(&run->adamw, n, err);
    if (rc == 0 && run->config->publish == TRAIN_PUBLISH_BEST && run->validation.n > 0) {
        run->best = mem_calloc(n, sizeof *run->best);
        rc = run->best != NULL ? 0 : mem_err(err, n * sizeof *run->best);
    }
    if (rc == 0) {
        /* A row has a target and a token before it. */
        const size_t rows = (size_t)run->tokens_max / 2 + 1;
        run->micro = mem_calloc(rows, sizeof *run->micro);
        rc = run->micro != NULL ? 0 : mem_err(err, rows * sizeof *run->micro);
    }
    return rc == 0 ? engine_trainer_new(&run->trainer, run->model, run->adapter, &plan, err) : rc;
}

static int resume(struct run *run, struct err *err)
{
    const struct checkpoint_parts parts = {run->adapter, &run->adamw, run->best};
    uint32_t first, n;
    if (run->resumed[0] == '\0') {
        return 0;
    }
    int rc = checkpoint_read(run->resumed, run->model, run->lora.scale, &parts, err);
    train_order_step(&run->order, run->state.step, &first, &n);
    if (rc == 0 && (run->state.step > run->plan.steps || run->state.row != first ||
                    run->state.epoch != run->order.epoch_now)) {
        rc = err_set(err, ERR_CORRUPT, "%s is not a place in this run's data", run->resumed);
    }
    if (rc == 0) {
        run_note(run, "resumed from step %lld of %lld", (long long)run->state.step,
                 (long long)run->plan.steps);
    }
    return rc;
}

int run_open(struct run *run, struct err *err)
{
    int rc;
    if ((rc = identify(run, err)) != 0 || (rc = choose_checkpoint(run, err)) != 0 ||
        (rc = quantize_base(run, err)) != 0 || (rc = check_memory(run, err)) != 0 ||
        (rc = open_model(run, err)) != 0 || (rc = read_rows(run, err)) != 0 ||
        (rc = check_memory(run, err)) != 0 || (rc = make_adapter(run, err)) != 0 ||
        (rc = make_optimizer(run, err)) != 0 || (rc = resume(run, err)) != 0) {
        return rc;
    }
    note_rows(run);
    return 0;
}

void run_release(struct run *run)
{
    engine_trainer_free(run->trainer);
    engine_adapter_free(run->adapter);
    adamw_release(&run->adamw);
    mem_free(run->best);
    mem_free(run->micro);
    train_order_release(&run->order);
    row_list_release(&run->train);
    row_list_release(&run->validation);
    train_rows_release(&run->rows);
    train_rows_release(&run->validation_rows);
    row_maker_release(&run->maker);
    engine_model_free(run->model);
    memset(run, 0, sizeof *run);
}
