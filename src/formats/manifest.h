/* A version's manifest, config.json: all that is needed to serve it, to check it and to make it
 * again.
 *
 *   {"manifest": 1, "model", "version", "base_model", "base_model_sha256", "dataset_checksum",
 *    "dataset_columns", "validation_checksum", "validation_columns", "init_checksum",
 *    "adapter_checksum", "lora_rank", "lora_alpha",
 *    "lora_scale", "seed", "config": {every value as it took effect}, "engine",
 *    "numerics_version", "source_revision", "date", "chat_template", "eos_ids": […],
 *    "training": {steps, rows, …}}
 *
 * Nothing in it is a time of day, a host or a path, so training again writes it again byte for
 * byte. Strings are borrowed: from the caller when writing, from `json` after reading. Read-only
 * after reading: any thread.
 */
#ifndef FORMATS_MANIFEST_H
#define FORMATS_MANIFEST_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "formats/model_config.h"
#include "formats/train_config.h"

#define MANIFEST_FILE    "config.json"
#define MANIFEST_ADAPTER "adapter.safetensors"

enum { MANIFEST_VERSION = 1, MANIFEST_BYTES_MAX = 8 << 20 };

/* What the run was like. Losses are NaN when there is none. */
struct manifest_training {
    int64_t steps, best_step;
    double first_loss, final_loss;
    double first_val_loss, val_loss, best_val_loss; /* before the first step, after the last */
    int64_t rows, rows_dropped, rows_truncated, targets;
};

struct manifest {
    json_t *json; /* owner of the strings after reading; NULL in one made for writing */

    const char *model, *version;
    const char *base_model, *base_sha256;
    const char *dataset_sha256;
    const char *dataset_columns;    /* its own names of the keys, as JSON; NULL: the usual ones */
    const char *validation_sha256;  /* NULL: none, or split off */
    const char *validation_columns; /* as dataset_columns */
    const char *init_sha256;        /* of the adapter it went on from; NULL: none */
    const char *adapter_sha256;
    const char *engine, *source_revision, *date; /* the latter two may be NULL */
    const char *chat_template;
    int numerics_version;
    double lora_scale; /* alpha / rank, or alpha / sqrt(rank): the one that serves */
    struct train_config config;
    int32_t eos_ids[MODEL_EOS_MAX];
    int n_eos;
    struct manifest_training training;
};

int manifest_write(const struct manifest *manifest, const char *dir, struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND, ERR_UNSUPPORTED for a later manifest, ERR_CORRUPT naming what is missing or
 * wrong. */
int manifest_read(struct manifest *manifest, const char *dir, struct err *err) MUST_CHECK;
void manifest_release(struct manifest *manifest); /* safe on a zeroed struct */

#endif
