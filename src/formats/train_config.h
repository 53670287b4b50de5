/* The config of a training job: every key, its default, its bounds.
 *
 * One table (train_config.c) gives name, kind, default and range, so parsing, writing and the docs
 * cannot drift apart. Parsing takes a JSON object; a missing key or null takes the default; any key
 * that is not in the table is ERR_UNPROCESSABLE naming it, as is a value of the wrong type or out
 * of range. Writing gives every key, as it takes effect. The struct is plain data without owned
 * memory: copy it freely, any thread.
 */
#ifndef FORMATS_TRAIN_CONFIG_H
#define FORMATS_TRAIN_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"

enum train_quantization { TRAIN_LOADED, TRAIN_4BIT, TRAIN_8BIT, TRAIN_NO_QUANTIZATION };
enum train_schedule { TRAIN_CONSTANT, TRAIN_LINEAR, TRAIN_COSINE };
/* Which adapter becomes the version: the one of the lowest validation loss, where there are rows to
 * validate with, or the one after the last step. */
enum train_publish { TRAIN_PUBLISH_BEST, TRAIN_PUBLISH_LAST };

/* The linear layers of a block that may carry an adapter, as bits of lora_targets. */
enum train_target {
    TRAIN_Q_PROJ = 1 << 0,
    TRAIN_K_PROJ = 1 << 1,
    TRAIN_V_PROJ = 1 << 2,
    TRAIN_O_PROJ = 1 << 3,
    TRAIN_GATE_PROJ = 1 << 4,
    TRAIN_UP_PROJ = 1 << 5,
    TRAIN_DOWN_PROJ = 1 << 6,
    TRAIN_ALL_LINEAR = (1 << 7) - 1,
    TRAIN_TARGET_COUNT = 7
};

enum {
    TRAIN_INIT_FROM_BYTES = 320, /* a version id, or name@version */
    TRAIN_ROWS_FOR_VALIDATION = 20,
    TRAIN_WARMUP_SHARE = 10 /* warm-up is at most one part in this many of the run */
};

struct train_config {
    enum train_quantization quantization;
    int64_t lora_rank;
    double lora_alpha;
    double lora_dropout;
    bool use_rslora;
    unsigned lora_targets;                 /* bits of enum train_target, never 0 */
    int64_t num_layers;                    /* the last n blocks; -1 = all */
    char init_from[TRAIN_INIT_FROM_BYTES]; /* "" = a fresh adapter */
    double learning_rate;
    double weight_decay;
    enum train_schedule lr_schedule;
    int64_t warmup_steps;
    double max_grad_norm; /* 0 = no clipping */
    int64_t epochs;
    int64_t max_steps; /* 0 = null: the epochs decide */
    int64_t batch_size;
    int64_t gradient_accumulation_steps;
    int64_t max_seq_length;
    bool mask_prompt;
    bool packing;
    int64_t seed;
    double val_fraction;
    char val_dataset_id[UUID_BYTES]; /* "" = split by val_fraction */
    int64_t eval_every;              /* steps; 0 = once an epoch */
    int64_t early_stopping_patience; /* evaluations; 0 = null: never */
    enum train_publish publish;
    int64_t checkpoint_every;
    int64_t checkpoints_kept;
    int64_t log_every;
    double cooldown_seconds;
};

void train_config_defaults(struct train_config *config);

/* json NULL or a JSON null gives the defaults. ERR_UNPROCESSABLE names the key. */
int train_config_parse(struct train_config *config, const json_t *json, struct err *err) MUST_CHECK;
/* What train_config_write wrote, perhaps before `publish` was a key: then the best adapter was
 * published with early stopping alone, and such a run has to repeat as it was. */
int train_config_parse_stored(struct train_config *config, const json_t *json,
                              struct err *err) MUST_CHECK;
/* As train_config_parse_stored, from text (a database row). */
int train_config_parse_text(struct train_config *config, const char *text,
                            struct err *err) MUST_CHECK;

/* One JSON object with every key; null where a number or string is not set. */
void train_config_write(const struct train_config *config, struct json_out *out);

/* What factors are scaled by: alpha / rank, or alpha / sqrt(rank). */
double train_config_scale(const struct train_config *config);

/* Target names in the order of their bits: "q_proj" … "down_proj". Static. */
const char *train_target_name(int bit);
const char *train_quantization_name(enum train_quantization quantization);
const char *train_schedule_name(enum train_schedule schedule);

/* What a config means for a dataset of `rows` usable rows. */
struct train_plan {
    int64_t val_rows;   /* held out by val_fraction; 0 with a val_dataset_id */
    int64_t train_rows; /* the rest, at least 1 when rows ≥ 1 */
    int64_t steps_per_epoch;
    int64_t steps; /* optimizer steps of the whole run */
    int64_t warmup_steps;
    int64_t eval_every;
};
/* val_rows: ⌊rows × val_fraction⌋ but at least 1, none under TRAIN_ROWS_FOR_VALIDATION rows. A step
 * takes batch_size × gradient_accumulation_steps rows; the last short one of an epoch counts. */
void train_config_plan(const struct train_config *config, int64_t rows, struct train_plan *plan);

/* A sentence for the submitter when the run is too short or too slow to learn anything
 * (steps × learning_rate under 1e-3), else false and out untouched. */
bool train_config_warning(const struct train_config *config, const struct train_plan *plan,
                          char *out, size_t out_bytes);

#endif
