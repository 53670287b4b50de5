/* What the files of a merge share. Private to train. */
#ifndef TRAIN_MERGE_INT_H
#define TRAIN_MERGE_INT_H

#include "base/fs.h"
#include "formats/manifest.h"
#include "formats/model_files.h"
#include "formats/safetensors.h"
#include "train/merge.h"

struct merge {
    const struct merge_spec *spec;
    const struct train_hooks *hooks;
    struct merge_result *result;
    struct model_files *base;
    struct manifest manifest;    /* of the version; zeroed without one */
    struct safetensors *factors; /* NULL without one */
    char factors_path[FS_PATH_BYTES_MAX];
};

/* --- merge_quantize.c: MLX's affine form, as mx.quantize defines it --- */
/* Columns that share a scale: 64, or 32; 0 when a row is no whole number of either. */
uint32_t merge_group(uint64_t cols);
/* One row: cols × bits / 8 bytes of values from the low bits up, and a scale and a bias for each
 * group, rounded to the type in which they are written before the values are chosen. */
void merge_quantize_row(const float *row, size_t cols, uint32_t group, int bits,
                        enum merge_type type, uint8_t *values, uint8_t *scales, uint8_t *biases);
/* Nearest even. */
uint16_t merge_to_bf16(float value);

/* ERR_UNSUPPORTED for a base whose files other tools would not know again: projections that are
 * kept fused, a text model inside another, a GGUF file without a counterpart. */
int merge_check_supported(const struct merge *merge, struct err *err) MUST_CHECK;
/* config.json, the tokenizer and the chat template beside the weights. */
int merge_write_companions(const struct merge *merge, const char *dir, struct err *err) MUST_CHECK;
/* tokenizer.json and tokenizer_config.json from GGUF metadata. */
int merge_write_tokenizer(const struct gguf *gguf, const struct model_config *config,
                          const char *dir, struct err *err) MUST_CHECK;
/* Compares what dir gives with base and adapter, into the result. */
int merge_check(const struct merge *merge, const char *dir, struct err *err) MUST_CHECK;

#endif
