/* What model_files.c shares with model_tensors.c and model_text.c. Private to these files.
 */
#ifndef FORMATS_MODEL_PRIVATE_H
#define FORMATS_MODEL_PRIVATE_H

#include "base/mem.h"
#include "formats/model_files.h"
#include "formats/name_index.h"
#include "formats/safetensors.h"

struct model_files {
    enum model_container container;
    struct gguf *gguf;               /* or … */
    struct safetensors *safetensors; /* … this one */
    struct model_config config;
    struct arena arena;          /* names, template, paths */
    struct tensor_view *tensors; /* canonical names */
    size_t n_tensors;
    struct name_index index;
    uint64_t weight_bytes;
    uint64_t parameters;
    enum tensor_type quantisation;
    const char *chat_template;
    const char *tool_template;
    const char *tokenizer_path;
    const char *sentencepiece_path;
    json_t *added_tokens;
    json_t *tokenizer_config;
};

/* Fills tensors and index from the container, under canonical names. */
int model_tensors_collect(struct model_files *files, struct err *err) MUST_CHECK;
/* Checks presence, shape and type of everything config demands; fills the counts. */
int model_tensors_check(struct model_files *files, struct err *err) MUST_CHECK;

/* Turns the U32 words of an affine quantised matrix, with "scales" and "biases" beside them, into
 * the matrix dims[0] × dims[1] of TENSOR_MLX4 or TENSOR_MLX8 that they stand for. WRONG, and no
 * change, when the three shapes are not 4 or 8 bits in groups of 32, 64 or 128 of such a matrix. */
enum model_affine { MODEL_AFFINE_NOT, MODEL_AFFINE_RESOLVED, MODEL_AFFINE_WRONG };
enum model_affine model_affine_resolve(const struct model_files *files, struct tensor_view *view,
                                       const uint64_t dims[2]);
/* Bytes of an affine matrix's scales and biases together; 0 for other types. */
uint64_t model_affine_scale_bytes(const struct tensor_view *view);

int model_text_from_gguf(struct model_files *files, struct err *err) MUST_CHECK;
int model_text_from_dir(struct model_files *files, const char *dir, struct err *err) MUST_CHECK;

#endif
