/* Training one adapter: from a base, a dataset and a config to a version folder.
 *
 * train_run is a pure function of its spec: the same base, dataset bytes, config, seed and pinned
 * date give the same adapter.safetensors, byte for byte, whatever the threads, the instruction set,
 * and however often it was stopped and run again with the same checkpoint folder.
 *
 *   rows ─▶ tokens and targets ─▶ shuffled rows ─▶ micro-steps ─▶ engine_train_step
 *                                       ▲                                   │
 *                                       └── checkpoint? ◀─ evaluation? ◀─ clip, AdamW
 *
 * One thread; compute threads are the engine's. Memory is planned before step 1.
 */
#ifndef TRAIN_TRAIN_H
#define TRAIN_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "formats/train_config.h"

struct train_spec {
    const char *base_id, *base_path, *base_sha256;
    const char *dataset_path, *dataset_sha256;
    const char *dataset_columns; /* names as formats/dataset.h maps them (JSON), or NULL */
    const char *validation_path, *validation_sha256; /* val_dataset_id's file, or NULL */
    const char *validation_columns;                  /* or NULL */
    const char *init_adapter_path;                   /* init_from's adapter.safetensors, or NULL */
    const struct train_config *config;
    const char
        *checkpoint_dir;    /* checkpoints/{job}; made when missing; resumed from if it holds any */
    const char *output_dir; /* the version folder to publish; must not exist */
    const char *model_name, *version;
    const char *date; /* pinned, "YYYY-MM-DD" */
    const char *source_revision;
    int threads;
    const char *isa;
    uint64_t memory_bytes_max; /* refuse beyond, naming both numbers; 0 = no limit */
};

struct train_progress {
    int64_t step, steps;
    double epoch;    /* 1.5 = half way through the second */
    double loss;     /* of this optimizer step; NaN before the first */
    double val_loss; /* latest; NaN when there is none */
    bool validated;  /* it is of this very step */
    double learning_rate;
    double grad_norm;
    double tokens_per_second; /* tokens of rows trained on, targets or not */
    uint64_t memory_bytes;
    double eta_seconds;
};

/* The two that stop leave a checkpoint of the steps that were done. TRAIN_ABANDON: the job is
 * another's by now, whose files are left alone. */
enum train_stop { TRAIN_GO_ON, TRAIN_CANCEL, TRAIN_CHECKPOINT_AND_STOP, TRAIN_ABANDON };

struct train_hooks {
    void *ctx;
    /* After every optimizer step, and before the first when there is a validation loss to tell of
     * (step 0); `log` marks the steps that log_every asks for. */
    void (*progress)(void *ctx, const struct train_progress *progress, bool log);
    void (*checkpoint)(void *ctx, int64_t step); /* one of this step is in place; may be NULL */
    void (*note)(void *ctx, const char *line);   /* one line for the job's log; may be NULL */
    enum train_stop (*poll)(void *ctx);          /* asked between micro-steps */
};

struct train_result {
    int64_t steps;
    int64_t best_step; /* whose validation loss is the lowest; 0 when there was none */
    double first_loss, final_loss;
    /* Before the first step, after the last, and the lowest; NaN when there was none. */
    double first_val_loss, val_loss, best_val_loss;
    double first_val_perplexity, val_perplexity, best_val_perplexity; /* e to the power of these */
    int64_t rows, rows_dropped, rows_truncated, targets;
    double seconds;
    int64_t resumed_from_step; /* 0 = from the start */
    /* Of the process: what was planned before the first step, and the most that was resident after
     * a step. */
    uint64_t planned_memory_bytes, peak_memory_bytes;
    char checksum[SHA256_HEX_BYTES]; /* of adapter.safetensors */
};

/* The adapter that is published is the one of the best validation loss; without rows to validate
 * with, or with `publish` "last", the one after the last step. ERR_CANCELLED after TRAIN_CANCEL
 * and TRAIN_ABANDON; ERR_CLOSED after TRAIN_CHECKPOINT_AND_STOP; ERR_CORRUPT when the dataset or
 * base no longer has its checksum; ERR_INVALID "NaN/Inf loss detected at step N"; ERR_UNAVAILABLE
 * when it would not fit; ERR_CONFLICT when output_dir holds something else. On any error output_dir
 * is not there, or is whole and lacks only the flush of its parent folder: running again then finds
 * it and returns its result, as it does for any version that this very run has published. */
int train_run(const struct train_spec *spec, const struct train_hooks *hooks,
              struct train_result *result, struct err *err) MUST_CHECK;

/* Bytes a run would hold, without its rows (five bytes a token): weights, trainer, adapter,
 * optimizer. threads 0: all cores. Reads only headers. */
int train_estimate(const char *base_path, const struct train_config *config, int threads,
                   uint64_t *bytes, struct err *err) MUST_CHECK;
/* About what the rows of a file of so many bytes are held in, read with a tokenizer as most are. */
uint64_t train_rows_estimate(int64_t rows, int64_t file_bytes, int64_t max_seq_length);
/* The step of the newest valid checkpoint in the folder, 0 when there is none. */
int64_t train_checkpoint_step(const char *checkpoint_dir);

/* Writes a published version's adapter as another tool's folder. format: "mlx" or "peft".
 * base_path: the weights it was trained on, for what other tools keep fused; NULL: nothing. dest
 * must not exist. */
int train_export(const char *version_dir, const char *base_path, const char *format,
                 const char *dest, struct err *err) MUST_CHECK;

#endif
