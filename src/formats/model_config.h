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
#include "formats/architecture.h"

enum {
    MODEL_ARCH_BYTES = 32,
    MODEL_EOS_MAX = 16,
    MODEL_LAYERS_MAX = 1024,
    MODEL_HEADS_MAX = 1024,
    MODEL_HEAD_DIM_MAX = 1024,
    MODEL_WIDTH_MAX = 1 << 20, /* hidden and ffn */
    MODEL_VOCAB_MAX = 1 << 24,
    MODEL_CONTEXT_MAX = 1 << 28,
    MODEL_ROPE_FACTORS_MAX = 256,
    MODEL_TOKEN_NONE = -1,
};

enum rope_scaling_type {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR, /* positions divided by factor */
    ROPE_SCALING_LLAMA3, /* factor, low_freq_factor, high_freq_factor, original_context */
    /* Inverse frequency i divided by element i of the F32 tensor "rope_freqs.weight" [head_dim/2]:
     * what GGUF keeps in place of llama3's parameters. */
    ROPE_SCALING_FACTORS,
    /* LongRoPE: inverse frequencies divided by struct rope_long's factors, the long ones where
     * sessions may be longer than original_context; cosines and sines times its attention factor.
     */
    ROPE_SCALING_LONG,
    /* YaRN: short waves kept, long ones divided by factor, between them a ramp over the dimensions
     * that turn beta_fast to beta_slow times in original_context. */
    ROPE_SCALING_YARN,
};

struct rope_long {
    float long_factors[MODEL_ROPE_FACTORS_MAX], short_factors[MODEL_ROPE_FACTORS_MAX];
};

struct rope_scaling {
    enum rope_scaling_type type;
    double factor;
    double low_freq_factor;
    double high_freq_factor;
    uint32_t original_context;
    double attention_factor; /* of cosines and sines, LONG and YARN; else 1 */
    double beta_fast;
    double beta_slow;
    bool between; /* the ramp's ends are not rounded to whole dimensions */
};

/* What one layer does differently. */
enum model_layer_flag {
    MODEL_LAYER_SLIDING = 1 << 0, /* sees the last sliding_window positions, itself among them */
    MODEL_LAYER_NO_ROPE = 1 << 1,
};

struct model_config {
    const struct architecture *family; /* what all of its models share */
    char arch[MODEL_ARCH_BYTES];       /* family->name */
    uint32_t n_layers;
    uint32_t n_heads;
    uint32_t n_kv_heads; /* divides n_heads */
    uint32_t head_dim;   /* even */
    uint32_t rope_dim;   /* the first so many of head_dim turn; even */
    uint32_t hidden;     /* d_model */
    uint32_t ffn;
    uint32_t vocab;
    uint32_t context_length;
    double rope_theta;
    double rope_theta_local; /* of sliding layers, unscaled; 0: as the others */
    double rms_eps;
    struct rope_scaling rope_scaling;
    struct rope_long rope_long; /* ROPE_SCALING_LONG only: rope_dim/2 factors each */
    enum activation activation;
    uint32_t sliding_window;        /* 0: no layer is sliding */
    double embedding_scale;         /* 1 where there is none */
    double residual_scale;          /* of what a block adds; 1 */
    double attention_scale;         /* of q·k; 0: 1/√head_dim */
    double logit_scale;             /* of the logits, before their cap; 1 */
    double attention_cap;           /* c·tanh(s/c) on scaled scores; 0: none */
    double logit_cap;               /* and on logits */
    bool tied_embeddings;           /* logits use model.embed_tokens.weight */
    bool attention_bias;            /* q, k and v have a bias */
    bool output_bias;               /* o has one */
    bool mlp_bias;                  /* gate, up and down have a bias */
    int32_t bos_id;                 /* MODEL_TOKEN_NONE when there is none */
    int32_t eos_ids[MODEL_EOS_MAX]; /* any of these ends an answer; in the order they were found */
    unsigned n_eos;
    uint8_t layers[MODEL_LAYERS_MAX]; /* set of enum model_layer_flag */
};

/* What the family's row says and no key has to: a config to be read into. */
void model_config_start(struct model_config *config, const struct architecture *family);

/* Marks the layers whose number, counted from one, is (or, with others, is not) a multiple of
 * period; 0 marks none. n_layers is bounded here, as it is not checked yet. */
void model_config_mark(struct model_config *config, uint32_t period, bool others,
                       enum model_layer_flag flag);

/* ln x for x ≥ 1, the same bits everywhere, which libm does not promise: factors of rope that
 * follow from others shape results. */
double model_config_log(double x);

/* YaRN's attention factor where a file says none: 0.1·mscale·ln(factor) + 1, 1 for no stretch
 * (transformers, modeling_rope_utils, _compute_yarn_parameters). */
double model_config_yarn_mscale(double factor, double mscale);

/* Adds an end token unless it is there already. ERR_CORRUPT when there are too many. */
int model_config_add_eos(struct model_config *config, int64_t id, struct err *err) MUST_CHECK;

/* Every number within its bound and in agreement with the others. ERR_CORRUPT naming the field. */
int model_config_check(const struct model_config *config, struct err *err) MUST_CHECK;

/* ERR_UNSUPPORTED naming the architecture and those that can be opened. */
int model_config_unknown(const char *arch, struct err *err) MUST_CHECK;

#endif
