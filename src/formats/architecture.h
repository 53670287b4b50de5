/* The families of models, as data: what a family always is, and what its config may leave unsaid.
 *
 * One row per family. A config (struct model_config) points at its row and holds what differs from
 * model to model; readers fill it, the engine asks row and config together. A new member of the
 * table is a row here and a golden.
 * Static and immutable; any thread.
 */
#ifndef FORMATS_ARCHITECTURE_H
#define FORMATS_ARCHITECTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a block's norms stand. x is the residual, f attention or the feed-forward. */
enum norm_place {
    NORM_BEFORE, /* x + f(norm(x)) */
    NORM_AROUND, /* x + norm(f(norm(x))) */
    NORM_AFTER,  /* x + norm(f(x)) */
};

/* Norm of q and k before their rope. */
enum qk_norm {
    QK_NORM_NONE,
    QK_NORM_HEAD,  /* of each head: weights of head_dim */
    QK_NORM_WHOLE, /* of the whole projection: weights of all its rows */
};

enum activation {
    ACTIVATION_SILU,
    ACTIVATION_GELU_TANH, /* gelu by its tanh approximation */
};

enum bias_rule {
    BIAS_CONFIG, /* where attention_bias (q, k, v, o) and mlp_bias say so */
    BIAS_QKV,    /* q, k and v always, nothing else */
    BIAS_NONE,
};

/* Which layers see only the last sliding_window positions, where the config lists no layers. */
enum window_rule {
    WINDOW_NEVER,
    WINDOW_ALWAYS,   /* every layer, when there is a window */
    WINDOW_SWITCHED, /* use_sliding_window; layers from max_window_layers on */
    WINDOW_PERIOD,   /* all but every window_period-th layer */
};

struct architecture {
    const char *name; /* what the hub calls it */
    const char *hf;   /* config.json's model_type */
    /* The model_type of larger models, with eyes, that keep this family in "text_config" and its
     * tensors under a prefix; NULL: none are met. */
    const char *hf_around;
    const char *gguf; /* general.architecture and prefix of its keys; NULL: not met there */

    enum norm_place norm_place;
    enum qk_norm qk_norm;
    enum activation activation;
    enum bias_rule bias;
    enum window_rule window;
    uint32_t window_period;
    uint32_t no_rope_period; /* every n-th layer has no rope; 0: all have it */
    bool norm_plus_one;      /* Hugging Face keeps norm weights less one; GGUF keeps them whole */
    bool embedding_sqrt;     /* embeddings times √hidden */
    bool soft_caps;          /* attn_logit_softcapping, final_logit_softcapping */
    bool query_scalar;       /* attention scale is query_pre_attn_scalar^-½ */
    bool multipliers;        /* embedding, residual, attention multipliers; logits scaling */
    bool fused;              /* qkv_proj and gate_up_proj */
    bool gguf_permuted;      /* GGUF keeps q and k rows for a rope of neighbours */
    uint32_t gguf_layers_of_27; /* of this many layers, the attention scale is √(heads / hidden) */

    /* --- what a config leaves unsaid --- */
    bool tied;
    uint32_t heads, vocab;   /* 0: required */
    uint32_t head_dim;       /* 0: hidden / heads */
    uint32_t kv_heads;       /* 0: heads */
    uint32_t context;        /* max_position_embeddings */
    uint32_t sliding_window; /* 0: none */
    double rms_eps;
    double rope_theta;
    double attention_cap, logit_cap; /* 0: none */
    double rope_theta_local;         /* of sliding layers; 0: as the others */
};

/* By config.json's model_type, by that of a larger model around it, or by GGUF's
 * general.architecture; NULL for one without a row. */
const struct architecture *architecture_of_hf(const char *model_type);
const struct architecture *architecture_around(const char *model_type);
const struct architecture *architecture_of_gguf(const char *name);
/* "llama, mistral, …": all rows, for messages. Static. */
const char *architecture_names(void);

#endif
