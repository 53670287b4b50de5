/* What training on a dataset would see: every row as tokens, counted, without weights and without
 * training.
 *
 * train_check reads a whole dataset with the tokenizer and the chat template of a base model's
 * files and writes one JSON object:
 *
 *   {"rows", "chat", "completion", "text", "bytes", "sha256", "base_model_template": bool,
 *    "max_seq_length", "mask_prompt",
 *    "tokens": {"total", "min", "max", "mean", "median", "p95"}, "targets",
 *    "histogram": [{"from", "to", "rows"}, …],        rows by tokens, equal widths
 *    "truncated", "dropped", "empty", "duplicates", "last_turn_only",
 *    "duplicate_of": [{"line", "first_line"}, …],     the first few
 *    "bad_rows", "bad": ["file:line: why", …],        the first few
 *    "samples": [{"row", "line", "shape", "n_tokens", "n_targets", "truncated",
 *                 "tokens": [{"id", "text", "trained"}, …]}, …]}
 *
 * Lengths are those before a row is cut. dropped: no target is left within max_seq_length, so
 * training leaves the row out; empty: nothing is to be learnt but the end of an answer. Two rows
 * are duplicates when they have the same tokens and targets.
 *
 * Dataset and model files are strangers': the hub has this done by a child with limits, which it
 * asks through train_inspect. Threads: any; nothing is shared.
 */
#ifndef TRAIN_CHECK_H
#define TRAIN_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "formats/dataset.h"
#include "formats/train_config.h"

enum {
    CHECK_SAMPLES = 3,
    CHECK_SAMPLE_TOKENS_MAX = 8192,
    CHECK_BUCKETS_MAX = 16,
    CHECK_BAD_SHOWN = 20,
    CHECK_DUPLICATES_SHOWN = 20,
    CHECK_ANSWER_BYTES_MAX = 16 << 20,
    CHECK_CPU_SECONDS_MAX = 1800
};

struct check_request {
    const char *dataset_path;
    const char *name;      /* what messages call the file; NULL = its own */
    const char *columns;   /* JSON as formats/dataset.h maps them, or NULL */
    const char *base_path; /* weights as files; only what describes text is read */
    const char *template;  /* chat template to render with, or NULL: the base's own */
    const char *date;      /* for templates that ask, or NULL */
    int64_t max_seq_length;
    bool mask_prompt;
    int64_t row; /* the only row to show, from 1; 0 = the first CHECK_SAMPLES */
};

/* Appends the object. ERR_NOT_FOUND for files and for a row beyond the last, else what the readers
 * say. Bad rows are no error here: they are in the object. */
int train_check(const struct check_request *request, struct json_out *out,
                struct err *err) MUST_CHECK;

/* --- the same in a child ------------------------------------------------------------------------
 */
/* program NULL: this one. Errors are the child's; ERR_CORRUPT when it ended without an answer. */
int train_inspect_check(const char *program, const struct check_request *request, struct buf *out,
                        struct err *err) MUST_CHECK;
/* dataset_check in a child. */
int train_inspect_rows(const char *program, const char *path, const char *name, const char *columns,
                       struct dataset_report *report, struct err *err) MUST_CHECK;
/* train_estimate in a child: bytes that a run would hold; with `evaluate`, an evaluation of rows as
 * long as the config says. */
int train_inspect_estimate(const char *program, const char *base_path,
                           const struct train_config *config, bool evaluate, int threads,
                           uint64_t *bytes, struct err *err) MUST_CHECK;
/* The child's main; its exit status. */
int train_inspect_main(int control_fd);

#endif
