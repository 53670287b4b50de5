/* A base's weights written out as another tool loads them, with or without an adapter folded in.
 *
 *   W' = W + scale · (B·A)      for every matrix that the adapter sits on; W de-quantised, fp32
 *
 * The folder is one that transformers and mlx-lm load: safetensors in bf16 or fp32 (in shards where
 * there is much), config.json, the tokenizer and the chat template. Of a safetensors base the
 * companions are copied; of a GGUF file they are made from its metadata. Before the folder is
 * published it is opened, and the log-probabilities that it gives a probe of tokens are compared
 * with those of the base with its adapter, by the trainer's fp32 arithmetic.
 */
#ifndef TRAIN_MERGE_H
#define TRAIN_MERGE_H

#include "train/train.h"

enum merge_type { MERGE_BF16, MERGE_F32 };

enum {
    MERGE_SHARD_BYTES_MAX = 1 << 30, /* in memory at a time, one matrix more */
    MERGE_PROBE_ROWS = 16,
    MERGE_PROBE_TARGETS = 16 /* of a row; as many as a loss has lanes */
};

struct merge_spec {
    const char *base_id, *base_path;
    const char *version_dir; /* a published version of this base; NULL: the bare base */
    const char *dest;        /* the folder to make */
    enum merge_type type;
    int bits; /* 4 or 8: the layers' matrices in MLX's affine form, which nothing is compared with
               * afterwards; 0: all of them plain */
    int threads;
    const char *isa;
};

struct merge_result {
    int64_t tensors, merged; /* matrices written, and of those with a factor folded in */
    uint64_t bytes;
    int64_t probed; /* log-probabilities compared */
    double largest_difference, mean_difference;
    double adapter_effect; /* mean difference between the base with and without the adapter */
};

/* Differences of log-probabilities that pass: fp32 differs by rounding of sums alone, bf16 by
 * rounding of every weight to eight bits. */
#define MERGE_F32_LARGEST 2e-3
#define MERGE_BF16_MEAN   0.1

/* ERR_CONFLICT when dest exists; ERR_CORRUPT when base or adapter is not what the manifest says;
 * ERR_UNSUPPORTED for a GGUF file whose rope or architecture has no counterpart; ERR_INTERNAL when
 * the comparison fails, and then nothing is published. poll of hooks is asked between matrices. */
int train_merge(const struct merge_spec *spec, const struct train_hooks *hooks,
                struct merge_result *result, struct err *err) MUST_CHECK;

#endif
