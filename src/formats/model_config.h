/* What a model is, in numbers: the same struct whether config.json or GGUF metadata said it.
 *
 * Filled by hf_config_read or gguf_config_read and checked by model_config_check; a plain value,
 * copied freely.
 */
#ifndef FORMATS_MODEL_CONFIG_H
#define FORMATS_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    MODEL_ARCH_BYTES = 32,
    MODEL_EOS_MAX = 16,
    MODEL_LAYERS_MAX = 1024,
    MODEL_HEADS_MAX = 1024,
    MODEL_HEAD_DIM_MAX = 1024,
    MODEL_WIDTH_MAX = 1 << 20, /* hidden and ffn */
    MODEL_VOCAB_MAX = 1 << 24,
    MODEL_CONTEXT_MAX = 1 << 28,
    MODEL_TOKEN_NONE = -1,
};

enum rope_scaling_type {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR, /* positions divided by factor */
    ROPE_SCALING_LLAMA3, /* factor, low_freq_factor, high_freq_factor, original_context */
    /* Inverse frequency i divided by element i of the F32 tensor "rope_freqs.weight" [head_dim/2]:
     * what GGUF keeps in place of llama3's parameters. */
    ROPE_SCALING_FACTORS,
};

struct rope_scaling {
    enum rope_scaling_type type;
    double factor;
    double low_freq_factor;
    double high_freq_factor;
    uint32_t original_context;
};

struct model_config {
    char arch[MODEL_ARCH_BYTES]; /* "llama" */
    uint32_t n_layers;
    uint32_t n_heads;
    uint32_t n_kv_heads; /* divides n_heads */
    uint32_t head_dim;   /* even */
    uint32_t hidden;     /* d_model */
    uint32_t ffn;
    uint32_t vocab;
    uint32_t context_length;
    double rope_theta;
    double rms_eps;
    struct rope_scaling rope_scaling;
    bool tied_embeddings;           /* logits use model.embed_tokens.weight */
    bool attention_bias;            /* q, k, v and o have a bias */
    bool mlp_bias;                  /* gate, up and down have a bias */
    int32_t bos_id;                 /* MODEL_TOKEN_NONE when there is none */
    int32_t eos_ids[MODEL_EOS_MAX]; /* any of these ends an answer; in the order they were found */
    unsigned n_eos;
};

/* Adds an end token unless it is there already. ERR_CORRUPT when there are too many. */
int model_config_add_eos(struct model_config *config, int64_t id, struct err *err) MUST_CHECK;

/* Every number within its bound and in agreement with the others. ERR_CORRUPT naming the field. */
int model_config_check(const struct model_config *config, struct err *err) MUST_CHECK;

/* "llama": the architectures that can be opened, for messages. Static. */
const char *model_config_architectures(void);
/* ERR_UNSUPPORTED naming the architecture and the supported ones. */
int model_config_check_arch(const char *arch, struct err *err) MUST_CHECK;

#endif
