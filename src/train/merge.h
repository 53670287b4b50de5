/* A base's weights written out as another tool loads them, with or without an adapter folded in.
 *
 *   W' = W + scale · (B·A)      for every matrix that the adapter sits on; W de-quantised, fp32
 *
 * Three formats, from any base to any of them:
 *
 *   safetensors   a folder that transformers loads: config.json, tokenizer and chat template beside
 *                 plain weights
 *   MLX           the same as mlx-lm keeps it: 4 or 8 bits by mx.quantize's rules, or plain
 *   GGUF          one file that llama.cpp loads; the tensors of a GGUF base keep their bytes
 *
 * Companions of a safetensors base are copied, of a GGUF file made from its metadata, and the other
 * way round. Tensors pass through one after another in small pieces, so memory does not grow with
 * the model. What is written is opened before it is published, and the log-probabilities that it
 * gives a probe of tokens are compared with those of the base with its adapter, by the trainer's
 * fp32 arithmetic.
 *
 * Values are carried over exactly where both sides can say them: GGUF's Q4_0, Q4_1, Q5_0, Q5_1 and
 * Q8_0 become MLX's groups of 32 with fp16 scales, and 4-bit groups become Q4_1 again. Where they
 * cannot, they are rounded to the new type or quantised again, and the result says how many were.
 */
#ifndef TRAIN_MERGE_H
#define TRAIN_MERGE_H

#include "base/json.h"
#include "train/train.h"

enum merge_format { MERGE_SAFETENSORS, MERGE_MLX, MERGE_GGUF };

enum merge_type {
    MERGE_BF16,
    MERGE_F32,
    MERGE_F16,
    MERGE_Q8_0, /* GGUF alone; embeddings and what has no whole blocks stay wider, as with … */
    MERGE_Q4_0, /* … this one */
    MERGE_KEEP, /* as the base has them, or the nearest that the format can say */
};

enum {
    MERGE_PROBE_ROWS = 16,
    MERGE_PROBE_TARGETS = 16 /* of a row; as many as a loss has lanes */
};
#define MERGE_SHARD_BYTES_MAX (4LL << 30) /* of one file of weights, but for a single matrix */

struct merge_spec {
    const char *base_id, *base_path;
    const char *version_dir; /* a published version of this base; NULL: the bare base */
    const char *dest;        /* the folder to make; GGUF: or the file, where it ends with .gguf */
    enum merge_format format;
    enum merge_type type; /* of what is not quantised, and of MLX's scales */
    int bits;             /* 4 or 8: matrices in MLX's affine form; 0: all of them plain. MLX
                           * quantises embeddings, too; with MERGE_SAFETENSORS, for a frozen base to
                           * train on, only the layers' matrices are, and nothing is compared */
    uint32_t group;       /* columns that share a scale: 32, 64 or 128; 0: 64, or 32 */
    int threads;
    const char *isa;
};

struct merge_result {
    int64_t tensors, merged; /* tensors written, and of those with a factor folded in */
    /* of the tensors without a factor: values carried over exactly, rounded to a plain type,
     * quantised for the first time, quantised on another grid than before */
    int64_t exact, rounded, quantised, requantised;
    uint64_t bytes;
    int64_t probed; /* log-probabilities compared */
    double largest_difference, mean_difference;
    double adapter_effect; /* mean difference between the base with and without the adapter */
};

/* Differences of log-probabilities that pass: fp32 differs by rounding of sums alone, bf16 by
 * rounding of every weight to eight bits; fp16 has eleven and is held to the same. Quantised
 * weights are told of, not judged. */
#define MERGE_F32_LARGEST 2e-3
#define MERGE_BF16_MEAN   0.1

/* ERR_CONFLICT when dest exists; ERR_CORRUPT when base or adapter is not what the manifest says;
 * ERR_UNSUPPORTED for what the format cannot say, by name; ERR_NOSPACE with both numbers before
 * anything is written, or when the disk is full after all; ERR_INTERNAL when the comparison fails.
 * On any error nothing is published. poll of hooks is asked between pieces: ERR_CANCELLED, or
 * ERR_CLOSED when it says to stop. progress counts megabytes as steps. */
int train_merge(const struct merge_spec *spec, const struct train_hooks *hooks,
                struct merge_result *result, struct err *err) MUST_CHECK;

/* A folder in MLX's format, made by a child that reads the files within limits; program as in
 * base/ask.h. dest must not exist. */
int train_quantize_child(const char *program, const char *base_path, const char *dest, int bits,
                         struct err *err) MUST_CHECK;

/* The members of an object that the caller has opened: counts, "lossless", the comparison. */
void merge_result_write(const struct merge_result *result, struct json_out *out);

/* "bf16", "f32", "f16", "q8_0", "q4_0", "keep"; false for another word. */
bool merge_type_parse(const char *text, enum merge_type *type);

#endif
