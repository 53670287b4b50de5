/* The rows. Sources: each family's configuration and modelling file in transformers, and the keys
 * that llama.cpp's converter writes. */
#include "formats/architecture.h"

#include <string.h>

static const struct architecture rows[] = {
    {.name = "llama",
     .hf = "llama",
     .gguf = "llama",
     .gguf_permuted = true,
     .context = 2048,
     .rms_eps = 1e-6,
     .rope_theta = 1e4},
    {.name = "mistral", /* in GGUF it calls itself llama */
     .hf = "mistral",
     .bias = BIAS_NONE,
     .window = WINDOW_ALWAYS,
     .kv_heads = 8,
     .context = 131072,
     .sliding_window = 4096,
     .rms_eps = 1e-6,
     .rope_theta = 1e4},
    {.name = "qwen2",
     .hf = "qwen2",
     .gguf = "qwen2",
     .bias = BIAS_QKV,
     .window = WINDOW_SWITCHED,
     .context = 32768,
     .sliding_window = 4096,
     .rms_eps = 1e-6,
     .rope_theta = 1e4},
    {.name = "qwen3",
     .hf = "qwen3",
     .gguf = "qwen3",
     .qk_norm = QK_NORM_HEAD,
     .window = WINDOW_SWITCHED,
     .head_dim = 128,
     .context = 32768,
     .sliding_window = 4096,
     .rms_eps = 1e-6,
     .rope_theta = 1e4},
    {.name = "smollm3",
     .hf = "smollm3",
     .gguf = "smollm3",
     .window = WINDOW_SWITCHED,
     .no_rope_period = 4,
     .gguf_permuted = true,
     .tied = true,
     .kv_heads = 4,
     .context = 32768,
     .rms_eps = 1e-6,
     .rope_theta = 2e6},
    {.name = "gemma2",
     .hf = "gemma2",
     .gguf = "gemma2",
     .norm_place = NORM_AROUND,
     .activation = ACTIVATION_GELU_TANH,
     .window = WINDOW_PERIOD,
     .window_period = 2,
     .norm_plus_one = true,
     .embedding_sqrt = true,
     .soft_caps = true,
     .query_scalar = true,
     .gguf_layers_of_27 = 46,
     .attention_cap = 50,
     .logit_cap = 30,
     .tied = true,
     .head_dim = 256,
     .kv_heads = 4,
     .context = 8192,
     .sliding_window = 4096,
     .rms_eps = 1e-6,
     .rope_theta = 1e4},
    {.name = "gemma3",
     .hf = "gemma3_text",
     .hf_around = "gemma3",
     .gguf = "gemma3",
     .norm_place = NORM_AROUND,
     .qk_norm = QK_NORM_HEAD,
     .activation = ACTIVATION_GELU_TANH,
     .window = WINDOW_PERIOD,
     .window_period = 6,
     .norm_plus_one = true,
     .embedding_sqrt = true,
     .soft_caps = true,
     .query_scalar = true,
     .gguf_layers_of_27 = 62,
     .tied = true,
     .heads = 8,
     .vocab = 262208,
     .head_dim = 256,
     .kv_heads = 4,
     .context = 131072,
     .sliding_window = 4096,
     .rms_eps = 1e-6,
     .rope_theta = 1e6,
     .rope_theta_local = 1e4},
    {.name = "phi3",
     .hf = "phi3",
     .gguf = "phi3",
     .bias = BIAS_NONE,
     .window = WINDOW_ALWAYS,
     .fused = true,
     .context = 4096,
     .rms_eps = 1e-5,
     .rope_theta = 1e4},
    {.name = "olmo2",
     .hf = "olmo2",
     .gguf = "olmo2",
     .norm_place = NORM_AFTER,
     .qk_norm = QK_NORM_WHOLE,
     .context = 2048,
     .rms_eps = 1e-5,
     .rope_theta = 1e4},
    {.name = "granite",
     .hf = "granite",
     .gguf = "granite",
     .multipliers = true,
     .gguf_permuted = true,
     .context = 2048,
     .rms_eps = 1e-6,
     .rope_theta = 1e4},
};

enum { N_ROWS = sizeof rows / sizeof *rows };

const struct architecture *architecture_of_hf(const char *model_type)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        if (strcmp(rows[i].hf, model_type) == 0)
            return &rows[i];
    }
    return NULL;
}

const struct architecture *architecture_around(const char *model_type)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        if (rows[i].hf_around && strcmp(rows[i].hf_around, model_type) == 0)
            return &rows[i];
    }
    return NULL;
}

const struct architecture *architecture_of_gguf(const char *name)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        if (rows[i].gguf && strcmp(rows[i].gguf, name) == 0)
            return &rows[i];
    }
    return NULL;
}

const char *architecture_names(void)
{
    return "llama, mistral, qwen2, qwen3, smollm3, gemma2, gemma3, phi3, olmo2, granite";
}
