/* How good a model is at a dataset: loss and perplexity of its answers, how many of them it would
 * give word for word, and what it says instead.
 *
 * Loss and perplexity are the trainer's arithmetic (fp32 on de-quantised weights), summed over all
 * targets of all rows. Exact match and the sample answers are what serving would say: a row matches
 * when at every target the model's first choice is that target, which is when greedy decoding gives
 * exactly this answer. Same model, adapter, dataset and config: same numbers, whatever the threads.
 *
 * One thread; compute threads are the engine's.
 */
#ifndef TRAIN_EVALUATE_H
#define TRAIN_EVALUATE_H

#include "base/json.h"
#include "train/train.h"

enum {
    EVALUATE_PIECE_TOKENS = 32, /* whose logits are held at once */
    EVALUATE_SAMPLES_MAX = 16,
    EVALUATE_ANSWER_TOKENS_MAX = 128,
    EVALUATE_TEXT_BYTES_MAX = 4 << 10 /* of a sample's prompt, expected and given answer */
};

struct evaluate_spec {
    const char *base_id, *base_path, *base_sha256; /* the last NULL: not checked */
    const char *adapter_path;                      /* NULL: the bare base */
    float adapter_scale;
    const char *chat_template; /* the version's, or NULL: the base's */
    const char *dataset_path, *dataset_sha256, *dataset_columns; /* the last two may be NULL */
    const char *date;                                            /* or NULL */
    int64_t max_seq_length;
    bool mask_prompt;
    int n_samples; /* rows to answer in full, the first ones; at most EVALUATE_SAMPLES_MAX */
    int threads;
    const char *isa;
    uint64_t memory_bytes_max; /* 0 = no limit */
};

struct evaluate_sample {
    int64_t row;                      /* of the file, from 1 */
    char *prompt, *expected, *answer; /* cut to EVALUATE_TEXT_BYTES_MAX */
    bool match;
};

struct evaluate_result {
    int64_t max_seq_length; /* where rows were cut: the spec's, or the model's context */
    bool mask_prompt;
    int64_t rows, dropped, truncated, targets, matches; /* rows: with a target left */
    double loss, perplexity, exact_match;               /* exact_match: a share of rows */
    double seconds;
    int n_samples;
    struct evaluate_sample samples[EVALUATE_SAMPLES_MAX];
};

/* hooks (or NULL): progress (step of steps are rows of rows, loss so far), note and poll are used.
 * Errors as train_run's. On failure nothing is owned. */
int train_evaluate(const struct evaluate_spec *spec, const struct train_hooks *hooks,
                   struct evaluate_result *result, struct err *err) MUST_CHECK;
/* Bytes an evaluation would hold, without its rows: a trainer over the file's weights, and a
 * session over packed ones. threads 0: all cores. Reads only headers. */
int train_evaluate_estimate(const char *base_path, int64_t max_seq_length, int threads,
                            uint64_t *bytes, struct err *err) MUST_CHECK;
/* The limits of an evaluate job's config (JSON text): max_seq_length and mask_prompt of *config
 * become what it says, and stay where it says nothing. */
int train_evaluate_limits(const char *text, struct train_config *config,
                          struct err *err) MUST_CHECK;
void evaluate_result_release(struct evaluate_result *result); /* safe on a zeroed struct */
/* The members of an object that the caller has opened: "max_seq_length", "rows", "targets", "loss",
 * "perplexity", "exact_match", "samples": [{"row", "prompt", "expected", "answer", "match"}, …], ….
 */
void evaluate_result_write(const struct evaluate_result *result, struct json_out *out);

#endif
