/* A whole fine-tuning run, as a job's worker would make it, driven step by step so that a peer can
 * take turns with it.
 *
 * usage: bench_finetune MODEL DATASET CONFIG INIT FOLDER threads isa      train, a step a line read
 *        bench_finetune rows MODEL DATASET CONFIG OUT                     what the steps hold
 *
 * CONFIG is a training config as JSON. INIT holds the factors before the first step; "-" draws
 * them. FOLDER, which must not exist, gets checkpoints and the version. Training prints one JSON
 * object a step, with its loss and seconds; the first line tells the memory foretold, and the
 * operations of a token in the longest row that the config allows; the last one what memory was,
 * and targets. rows writes one line a step: a JSON list of its rows, each {"tokens": […],
 * "targets": [0 or 1 …]}, so that a peer can be given the very same batches. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "flops.h"
#include "train/order.h"
#include "train/train.h"

enum { LINE_BYTES = 64 };

struct pace {
    int64_t resumed_ns; /* 0: since the first micro-step, before which the run is opened */
};

/* Waits until a line comes; false at the end of input. */
static bool wait_for_turn(struct pace *pace)
{
    char line[LINE_BYTES];
    const bool go_on = fgets(line, sizeof line, stdin) != NULL;
    pace->resumed_ns = clock_monotonic_ns();
    return go_on;
}

static enum train_stop poll_step(void *ctx)
{
    struct pace *pace = ctx;
    pace->resumed_ns = pace->resumed_ns == 0 ? clock_monotonic_ns() : pace->resumed_ns;
    return TRAIN_GO_ON;
}

static void tell_step(void *ctx, const struct train_progress *progress, bool log)
{
    struct pace *pace = ctx;
    (void)log;
    if (progress->step < 1) {
        return;
    }
    printf("{\"step\": %lld, \"steps\": %lld, \"loss\": %.6f, \"grad_norm\": %.6f, "
           "\"seconds\": %.4f}\n",
           (long long)progress->step, (long long)progress->steps, progress->loss,
           progress->grad_norm, (double)(clock_monotonic_ns() - pace->resumed_ns) * 1e-9);
    fflush(stdout);
    wait_for_turn(pace);
}

static int tell_plan(const char *path, const struct train_config *config, struct err *err)
{
    struct engine_estimate estimate;
    uint64_t foretold = 0;
    int rc = engine_estimate_open(path, 0, &estimate, err);
    rc = rc == 0 ? train_estimate(path, config, 0, &foretold, err) : rc;
    if (rc == 0) {
        const struct engine_lora lora = {.rank = (int)config->lora_rank,
                                         .targets = config->lora_targets};
        printf("{\"foretold_mb\": %.1f, \"layers\": %d, \"gflop_per_token\": %.6f}\n",
               (double)foretold * 1e-6, estimate.info.n_layers,
               1e-9 * flops_per_token(&estimate.info, &lora, (int)config->max_seq_length));
        fflush(stdout);
    }
    return rc;
}

static int train(char **argv, const struct train_config *config, struct err *err)
{
    char checkpoints[FS_PATH_BYTES_MAX], version[FS_PATH_BYTES_MAX];
    struct pace pace = {0};
    struct train_result result = {0};
    const struct train_hooks hooks = {.ctx = &pace, .progress = tell_step, .poll = poll_step};
    const struct train_spec spec = {.base_id = "bench",
                                    .base_path = argv[1],
                                    .dataset_path = argv[2],
                                    .init_adapter_path = strcmp(argv[4], "-") == 0 ? NULL : argv[4],
                                    .config = config,
                                    .checkpoint_dir = checkpoints,
                                    .output_dir = version,
                                    .model_name = "bench",
                                    .version = "1.0.0",
                                    .date = "2026-01-01",
                                    .source_revision = "bench",
                                    .threads = (int)strtol(argv[6], NULL, 10),
                                    .isa = argv[7]};
    int rc = fs_mkdirs(argv[5], err);
    rc = rc == 0 ? fs_join(checkpoints, argv[5], "checkpoints", err) : rc;
    rc = rc == 0 ? fs_join(version, argv[5], "version", err) : rc;
    rc = rc == 0 ? tell_plan(argv[1], config, err) : rc;
    if (rc == 0) {
        wait_for_turn(&pace);
        pace.resumed_ns = 0;
        rc = train_run(&spec, &hooks, &result, err);
    }
    if (rc == 0) {
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        printf("{\"peak_mb\": %.1f, \"heap_peak_mb\": %.1f, \"rss_peak_mb\": %.1f, "
               "\"targets\": %lld}\n",
               (double)result.peak_memory_bytes * 1e-6, (double)mem_peak() * 1e-6,
               (double)usage.ru_maxrss * 1.024e-3, (long long)result.targets);
    }
    return rc;
}

static void write_row(FILE *out, const struct train_rows *rows, const struct train_row *row)
{
    fputs("{\"tokens\": [", out);
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        fprintf(out, "%s%d", i > 0 ? ", " : "", (int)rows->tokens[row->at + i]);
    }
    fputs("], \"targets\": [", out);
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        fprintf(out, "%s%d", i > 0 ? ", " : "", rows->targets[row->at + i] != 0);
    }
    fputs("]}", out);
}

static int write_steps(FILE *out, const struct train_rows *rows, const struct train_config *config,
                       struct err *err)
{
    struct row_list list = {0}, validation = {0};
    struct train_order order = {0};
    const int64_t per_step = config->batch_size * config->gradient_accumulation_steps;
    int rc = row_lists_split(rows, (uint64_t)config->seed, 0, &list, &validation, err);
    rc = rc == 0 ? train_order_init(&order, &list, (uint64_t)config->seed, per_step, err) : rc;
    for (int64_t step = 0; rc == 0 && step < config->max_steps; step++) {
        uint32_t first, n;
        train_order_step(&order, step, &first, &n);
        for (uint32_t i = 0; i < n; i++) {
            fputs(i == 0 ? "[" : ", ", out);
            write_row(out, rows, row_list_row(&order.epoch, first + i));
        }
        fputs("]\n", out);
    }
    train_order_release(&order);
    row_list_release(&list);
    row_list_release(&validation);
    return rc;
}

static int rows(char **argv, const struct train_config *config, struct err *err)
{
    const struct engine_options options = {.threads = 1, .isa = "best"};
    struct engine_model *model = NULL;
    struct row_maker maker = {0};
    struct train_rows made = {0};
    FILE *out = fopen(argv[5], "w");
    int rc = out == NULL ? err_set(err, ERR_IO, "cannot write %s", argv[5]) : 0;
    rc = rc == 0 ? engine_model_open(&model, argv[2], &options, err) : rc;
    rc = rc == 0 ? row_maker_init(&maker, model, NULL, "2026-01-01", (int)config->max_seq_length,
                                  config->mask_prompt, err)
                 : rc;
    rc = rc == 0 ? train_rows_read(&made, &maker, argv[3], NULL, NULL, NULL, NULL, err) : rc;
    rc = rc == 0 ? write_steps(out, &made, config, err) : rc;
    if (out != NULL && fclose(out) != 0 && rc == 0) {
        rc = err_set(err, ERR_IO, "cannot write %s", argv[5]);
    }
    train_rows_release(&made);
    row_maker_release(&maker);
    engine_model_free(model);
    return rc;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    struct train_config config;
    const bool to_rows = argc == 6 && strcmp(argv[1], "rows") == 0;
    if (!to_rows && argc != 8) {
        fputs("usage: bench_finetune MODEL DATASET CONFIG INIT FOLDER THREADS ISA < LINES\n"
              "       bench_finetune rows MODEL DATASET CONFIG OUT\n",
              stderr);
        return 2;
    }
    int rc = train_config_parse_text(&config, argv[to_rows ? 4 : 3], &err);
    if (rc == 0) {
        rc = to_rows ? rows(argv, &config, &err) : train(argv, &config, &err);
    }
    if (rc != 0) {
        fprintf(stderr, "bench_finetune: %s\n", err.message);
    }
    return rc == 0 ? 0 : 1;
}
