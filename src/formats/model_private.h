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
    const char *tokenizer_path;
    json_t *tokenizer_config;
};

/* Fills tensors and index from the container, under canonical names. */
int model_tensors_collect(struct model_files *files, struct err *err) MUST_CHECK;
/* Checks presence, shape and type of everything config demands; fills the counts. */
int model_tensors_check(struct model_files *files, struct err *err) MUST_CHECK;

int model_text_from_gguf(struct model_files *files, struct err *err) MUST_CHECK;
int model_text_from_dir(struct model_files *files, const char *dir, struct err *err) MUST_CHECK;

#endif
