/* Keys are "<arch>.<field>". What metadata does not say is read off the tensors: embeddings are
 * tied when there is no output.weight, biases are there when the first layer has them, and llama
 * 3's rope scaling is the tensor rope_freqs.weight instead of parameters. */
#include "formats/gguf_config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 128 };

struct source {
    const struct gguf *gguf;
    const char *arch;
};

static void key_of(const struct source *source, const char *field, char key[KEY_BYTES])
{
    (void)snprintf(key, KEY_BYTES, "%s.%s", source->arch, field);
}

static int missing(const char *key, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "missing metadata: '%s'", key);
}

/* A missing key leaves *out alone. */
static int read_u32(const struct source *source, const char *field, uint32_t *out, struct err *err)
{
    char key[KEY_BYTES];
    uint64_t value = 0;
    key_of(source, field, key);
    if (!gguf_has(source->gguf, key))
        return 0;
    int rc = gguf_get_u64(source->gguf, key, &value, err);
    if (rc != 0)
        return rc;
    if (value > UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "metadata '%s' is %" PRIu64 ", out of range", key, value);
    *out = (uint32_t)value;
    return 0;
}

static int require_u32(const struct source *source, const char *field, uint32_t *out,
                       struct err *err)
{
    char key[KEY_BYTES];
    key_of(source, field, key);
    if (!gguf_has(source->gguf, key))
        return missing(key, err);
    return read_u32(source, field, out, err);
}

static int read_real(const struct source *source, const char *field, double *out, struct err *err)
{
    char key[KEY_BYTES];
    key_of(source, field, key);
    if (!gguf_has(source->gguf, key))
        return 0;
    return gguf_get_f64(source->gguf, key, out, err);
}

static int read_family(const struct gguf *gguf, struct model_config *config, struct err *err)
{
    char name[MODEL_ARCH_BYTES];
    const char *text = NULL;
    size_t length = 0;
    if (!gguf_has(gguf, "general.architecture"))
        return missing("general.architecture", err);
    int rc = gguf_get_string(gguf, "general.architecture", &text, &length, err);
    if (rc != 0)
        return rc;
    (void)snprintf(name, sizeof name, "%.*s",
                   (int)(length < MODEL_ARCH_BYTES ? length : MODEL_ARCH_BYTES - 1), text);
    const struct architecture *family = architecture_of_gguf(name);
    if (!family)
        return model_config_unknown(name, err);
    model_config_start(config, family);
    config->rms_eps = 0; /* a required key */
    return 0;
}

/* llama.vocab_size is optional: the vocabulary is then as long as the embedding table. */
static int read_vocab(const struct source *source, struct model_config *config, struct err *err)
{
    const struct tensor_view *embeddings = gguf_tensor(source->gguf, "token_embd.weight");
    if (embeddings && embeddings->n_dims == 2 && embeddings->dims[0] <= UINT32_MAX)
        config->vocab = (uint32_t)embeddings->dims[0];
    int rc = read_u32(source, "vocab_size", &config->vocab, err);
    if (rc == 0 && config->vocab == 0)
        rc = err_set(err, ERR_CORRUPT,
                     "missing tensors: no token_embd.weight and no metadata "
                     "'%s.vocab_size' (a file with a vocabulary only?)",
                     source->arch);
    return rc;
}

static int read_head_dim(const struct source *source, struct model_config *config, struct err *err)
{
    uint32_t value_dim = 0;
    config->head_dim = config->n_heads ? config->hidden / config->n_heads : 0;
    int rc = read_u32(source, "attention.key_length", &config->head_dim, err);
    value_dim = config->head_dim;
    config->rope_dim = config->head_dim;
    if (rc != 0 || (rc = read_u32(source, "attention.value_length", &value_dim, err)) != 0 ||
        (rc = read_u32(source, "rope.dimension_count", &config->rope_dim, err)) != 0)
        return rc;
    if (value_dim != config->head_dim)
        return err_set(err, ERR_UNSUPPORTED,
                       "heads of %" PRIu32 " with values of %" PRIu32
                       " are not supported (both must be equal)",
                       config->head_dim, value_dim);
    if (config->rope_dim != config->head_dim && config->family->gguf_permuted)
        return err_set(err, ERR_UNSUPPORTED,
                       "heads of %" PRIu32 " with rope over %" PRIu32
                       " are not supported for %s (both must be equal)",
                       config->head_dim, config->rope_dim, config->arch);
    return 0;
}

static int refuse_experts(const struct source *source, struct err *err)
{
    uint32_t n_experts = 0;
    int rc = read_u32(source, "expert_count", &n_experts, err);
    if (rc == 0 && n_experts > 0)
        rc = err_set(err, ERR_UNSUPPORTED,
                     "mixtures of experts (%" PRIu32 " here) are not supported", n_experts);
    return rc;
}

static int read_sizes(const struct source *source, struct model_config *config, struct err *err)
{
    int rc;
    if ((rc = require_u32(source, "block_count", &config->n_layers, err)) != 0 ||
        (rc = require_u32(source, "context_length", &config->context_length, err)) != 0 ||
        (rc = require_u32(source, "embedding_length", &config->hidden, err)) != 0 ||
        (rc = require_u32(source, "feed_forward_length", &config->ffn, err)) != 0 ||
        (rc = require_u32(source, "attention.head_count", &config->n_heads, err)) != 0)
        return rc;
    config->n_kv_heads = config->n_heads;
    if ((rc = read_u32(source, "attention.head_count_kv", &config->n_kv_heads, err)) != 0 ||
        (rc = read_real(source, "rope.freq_base", &config->rope_theta, err)) != 0 ||
        (rc = read_real(source, "attention.layer_norm_rms_epsilon", &config->rms_eps, err)) != 0 ||
        (rc = read_vocab(source, config, err)) != 0)
        return rc;
    if (config->rms_eps == 0) {
        char key[KEY_BYTES];
        key_of(source, "attention.layer_norm_rms_epsilon", key);
        return missing(key, err);
    }
    return read_head_dim(source, config, err);
}

static int read_factors(const struct source *source, const char *name, float *out, uint32_t n,
                        struct err *err)
{
    const struct tensor_view *view = gguf_tensor(source->gguf, name);
    if (!view || view->type != TENSOR_F32 || view->n_dims != 1 || view->dims[0] != n ||
        n > MODEL_ROPE_FACTORS_MAX)
        return err_set(err, ERR_CORRUPT,
                       "tensor '%s' must hold %" PRIu32 " F32 factors of rope (at most %d)", name,
                       n, MODEL_ROPE_FACTORS_MAX);
    memcpy(out, view->data, n * sizeof *out);
    return 0;
}

static int read_long(const struct source *source, struct model_config *config, struct err *err)
{
    struct rope_long *rope = &config->rope_long;
    const uint32_t n = config->rope_dim / 2;
    int rc;
    config->rope_scaling.type = ROPE_SCALING_LONG;
    if ((rc = read_factors(source, "rope_factors_long.weight", rope->long_factors, n, err)) != 0 ||
        (rc = read_factors(source, "rope_factors_short.weight", rope->short_factors, n, err)) !=
            0 ||
        (rc = read_u32(source, "rope.scaling.original_context_length",
                       &config->rope_scaling.original_context, err)) != 0)
        return rc;
    return read_real(source, "rope.scaling.attn_factor", &config->rope_scaling.attention_factor,
                     err);
}

/* llama.cpp multiplies what the file says of attention with what follows from the factor. */
static int read_yarn(const struct source *source, struct model_config *config, struct err *err)
{
    struct rope_scaling *scaling = &config->rope_scaling;
    double said = 1;
    int rc;
    *scaling = (struct rope_scaling){.type = ROPE_SCALING_YARN,
                                     .factor = 1.0,
                                     .original_context = config->context_length,
                                     .beta_fast = 32,
                                     .beta_slow = 1};
    if ((rc = read_real(source, "rope.scaling.factor", &scaling->factor, err)) != 0 ||
        (rc = read_u32(source, "rope.scaling.original_context_length", &scaling->original_context,
                       err)) != 0 ||
        (rc = read_real(source, "rope.scaling.yarn_beta_fast", &scaling->beta_fast, err)) != 0 ||
        (rc = read_real(source, "rope.scaling.yarn_beta_slow", &scaling->beta_slow, err)) != 0 ||
        (rc = read_real(source, "rope.scaling.attn_factor", &said, err)) != 0 ||
        (rc = read_real(source, "rope.scaling.yarn_attn_factor", &said, err)) != 0)
        return rc;
    scaling->attention_factor = said * model_config_yarn_mscale(scaling->factor, 1);
    return 0;
}

static int read_scaling(const struct source *source, struct model_config *config, struct err *err)
{
    struct rope_scaling *scaling = &config->rope_scaling;
    char key[KEY_BYTES];
    const char *text = "none";
    size_t length = 4;
    key_of(source, "rope.scaling.type", key);
    int rc =
        gguf_has(source->gguf, key) ? gguf_get_string(source->gguf, key, &text, &length, err) : 0;
    if (rc != 0)
        return rc;
    if (length == 6 && memcmp(text, "linear", 6) == 0) {
        scaling->type = ROPE_SCALING_LINEAR;
        scaling->factor = 1.0;
        return read_real(source, "rope.scaling.factor", &scaling->factor, err);
    }
    if (length == 4 && memcmp(text, "yarn", 4) == 0)
        return read_yarn(source, config, err);
    if (length != 4 || memcmp(text, "none", 4) != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "rope scaling '%.*s' is not supported (none, linear and yarn are)",
                       (int)(length < 64 ? length : 64), text);
    if (gguf_tensor(source->gguf, "rope_factors_long.weight"))
        return read_long(source, config, err);
    if (gguf_tensor(source->gguf, "rope_freqs.weight"))
        scaling->type = ROPE_SCALING_FACTORS;
    return 0;
}

/* The window, and which layers slide: the family's rule unless sliding_window_pattern says it. */
static int read_windows(const struct source *source, struct model_config *config, struct err *err)
{
    const struct architecture *family = config->family;
    char key[KEY_BYTES];
    const bool all = family->window == WINDOW_ALWAYS;
    uint32_t period = all ? 1 : family->window_period;
    struct gguf_array list = {0};
    if (family->window == WINDOW_NEVER || family->window == WINDOW_SWITCHED)
        return 0;
    int rc = read_u32(source, "attention.sliding_window", &config->sliding_window, err);
    if (rc != 0 || config->sliding_window == 0)
        return rc;
    key_of(source, "attention.sliding_window_pattern", key);
    if (gguf_get_numbers(source->gguf, key, &list, NULL) != 0) {
        rc = read_u32(source, "attention.sliding_window_pattern", &period, err);
        model_config_mark(config, period, !all, MODEL_LAYER_SLIDING);
        return rc;
    }
    if (list.count != config->n_layers)
        return err_set(err, ERR_CORRUPT, "metadata '%s' lists %" PRIu64 " layers of %" PRIu32, key,
                       list.count, config->n_layers);
    for (uint32_t i = 0; i < config->n_layers && i < MODEL_LAYERS_MAX; i++)
        config->layers[i] |= gguf_array_i64(&list, i) != 0 ? MODEL_LAYER_SLIDING : 0;
    return 0;
}

/* Scales and caps. Gemma's query scalar is not in the file: it is head_dim but for the largest of
 * the family, which is known by its layers. */
static int read_scales(const struct source *source, struct model_config *config, struct err *err)
{
    const struct architecture *family = config->family;
    double divisor = 1.0;
    int rc;
    if (family->embedding_sqrt)
        config->embedding_scale = sqrt((double)config->hidden);
    if (family->query_scalar && config->n_layers == family->gguf_layers_of_27 && config->hidden > 0)
        config->attention_scale = sqrt((double)config->n_heads / (double)config->hidden);
    if ((rc = read_real(source, "embedding_scale", &config->embedding_scale, err)) != 0 ||
        (rc = read_real(source, "residual_scale", &config->residual_scale, err)) != 0 ||
        (rc = read_real(source, "attention.scale", &config->attention_scale, err)) != 0 ||
        (rc = read_real(source, "logit_scale", &divisor, err)) != 0 ||
        (rc = read_real(source, "attn_logit_softcapping", &config->attention_cap, err)) != 0)
        return rc;
    config->logit_scale = 1.0 / divisor;
    return read_real(source, "final_logit_softcapping", &config->logit_cap, err);
}

static int read_layers(const struct source *source, struct model_config *config, struct err *err)
{
    int rc = read_scaling(source, config, err);
    if (rc == 0 && config->rope_theta_local != 0)
        rc = read_real(source, "rope.freq_base_swa", &config->rope_theta_local, err);
    model_config_mark(config, config->family->no_rope_period, false, MODEL_LAYER_NO_ROPE);
    return rc == 0 ? read_windows(source, config, err) : rc;
}

static int read_tokens(const struct gguf *gguf, struct model_config *config, struct err *err)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    uint64_t id = 0;
    int rc;
    if (gguf_has(gguf, "tokenizer.ggml.bos_token_id")) {
        if ((rc = gguf_get_u64(gguf, "tokenizer.ggml.bos_token_id", &id, err)) != 0)
            return rc;
        if (id >= MODEL_VOCAB_MAX)
            return err_set(err, ERR_CORRUPT, "begin token %" PRIu64 " is not a token id", id);
        config->bos_id = (int32_t)id;
    }
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (!gguf_has(gguf, ends[i]))
            continue;
        if ((rc = gguf_get_u64(gguf, ends[i], &id, err)) != 0 ||
            (rc = model_config_add_eos(config, id > INT64_MAX ? -1 : (int64_t)id, err)) != 0)
            return rc;
    }
    return 0;
}

int gguf_config_read(const struct gguf *gguf, struct model_config *config, struct err *err)
{
    struct source source = {gguf, NULL};
    int rc = read_family(gguf, config, err);
    if (rc != 0)
        return rc;
    source.arch = config->family->gguf;
    if ((rc = refuse_experts(&source, err)) != 0 || (rc = read_sizes(&source, config, err)) != 0 ||
        (rc = read_layers(&source, config, err)) != 0 ||
        (rc = read_scales(&source, config, err)) != 0 || (rc = read_tokens(gguf, config, err)) != 0)
        return rc;
    config->tied_embeddings = !gguf_tensor(gguf, "output.weight");
    config->attention_bias = gguf_tensor(gguf, "blk.0.attn_q.bias") != NULL;
    config->output_bias = gguf_tensor(gguf, "blk.0.attn_output.bias") != NULL;
    config->mlp_bias = gguf_tensor(gguf, "blk.0.ffn_gate.bias") != NULL;
    return model_config_check(config, err);
}
