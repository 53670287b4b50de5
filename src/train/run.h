/* A run's inside: what train_run puts together and its parts work on. One thread. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "base/fs.h"
#include "formats/manifest.h"
#include "train/adamw.h"
#include "train/checkpoint.h"
#include "train/order.h"
#include "train/rows.h"
#include "train/train.h"

enum { TRAIN_SEQUENCE_MAX = 1 << 16 /* tokens of a micro-step, whatever the config says */ };

struct run {
    const struct train_spec *spec;
    const struct train_config *config;
    const struct train_hooks *hooks;

    const char *base_path;             /* the spec's, or the quantised copy of it */
    char quantised[FS_PATH_BYTES_MAX]; /* "" = none was made */
    char base_sha256[SHA256_HEX_BYTES];
    char dataset_sha256[SHA256_HEX_BYTES];
    char validation_sha256[SHA256_HEX_BYTES]; /* "" = none */
    char init_sha256[SHA256_HEX_BYTES];       /* "" = none */
    char digest[SHA256_HEX_BYTES];            /* of all that makes this run */

    struct engine_model *model;
    struct engine_lora lora;
    int tokens_max;
    struct row_maker maker;
    struct train_rows rows, validation_rows;
    struct row_list train, validation;
    struct train_plan plan;
    struct train_order order;

    struct engine_adapter *adapter;
    struct engine_tensor *tensors; /* of the adapter */
    int n_tensors;
    struct engine_trainer *trainer;
    struct adamw adamw;
    float *best; /* the factors of the best validation loss, to be published; or NULL */
    struct engine_row *micro; /* room for a micro-step's rows */

    struct train_state state;
    char resumed[FS_PATH_BYTES_MAX]; /* the checkpoint to go on from, "" = none */
    int64_t resumed_step;
    bool saved;     /* a checkpoint holds state */
    bool abandoned; /* checkpoint_dir is another's */

    double grad_norm; /* NaN until a step was taken */
    bool validated;   /* at state.step, by this process */
    int64_t started_ns;
    uint64_t tokens;    /* of rows trained on since started_ns */
    int64_t first_step; /* state.step at started_ns */
    uint64_t planned_memory_bytes, peak_memory_bytes;
};

/* --- run.c --- */
bool run_same_config(const struct train_config *a, const struct train_config *b);

/* --- run_shape.c: what a config means for a model --- */
/* 4 or 8 when the config asks to quantise a base whose weights are `have`; 0: take it as it is. */
int run_quantized_bits(const struct train_config *config, const char *have);
int run_lora(const struct train_config *config, const struct engine_info *info,
             struct engine_lora *lora, struct err *err) MUST_CHECK;
/* Tokens of a micro-step and of the longest row: max_seq_length, or the model's context. */
int run_tokens_max(const struct train_config *config, const struct engine_info *info);
/* Without rows. threads 0: all cores. */
int run_memory(const char *base_path, const struct train_config *config, int threads,
               uint64_t *bytes, struct err *err) MUST_CHECK;

/* --- run_open.c: everything up to the first step --- */
int run_open(struct run *run, struct err *err) MUST_CHECK;
void run_release(struct run *run); /* safe on a zeroed struct */

/* --- run_steps.c: from state.step to the end --- */
int run_steps(struct run *run, struct err *err) MUST_CHECK;
/* ERR_CANCELLED or ERR_CLOSED when the caller wants the run to end; a train_rows_read poll too. */
int run_poll(void *run, struct err *err) MUST_CHECK;
void run_note(struct run *run, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* --- version.c --- */
/* Saves the adapter and all that belongs to it, and publishes the folder. adapter_sha256 of the
 * manifest is set here, into checksum. */
int version_publish(const char *dir, struct engine_adapter *adapter, int n_layers,
                    struct manifest *manifest, char checksum[SHA256_HEX_BYTES],
                    struct err *err) MUST_CHECK;

#endif
