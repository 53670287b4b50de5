/* model_type picks the family's row (formats/architecture.h), which says what missing keys mean;
 * keys are then read over it. End tokens are the union of config.json's and
 * generation_config.json's, config first. */
#include "formats/hf_config.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "formats/hf_fields.h"
#include "formats/hf_layers.h"

/* *text is the object that describes the text model: the root, or its text_config. */
static int read_family(const json_t *root, struct model_config *config, const json_t **text,
                       struct err *err)
{
    const char *type = NULL;
    int rc = hf_text(root, "model_type", &type, err);
    if (rc != 0)
        return rc;
    if (!type)
        return err_set(err, ERR_CORRUPT, "\"model_type\" is missing");
    const struct architecture *family = architecture_of_hf(type);
    const struct architecture *inside = family ? NULL : architecture_around(type);
    if (!family && !inside)
        return model_config_unknown(type, err);
    *text = inside ? hf_member(root, "text_config") : root;
    if (!json_is_object(*text))
        return hf_wrong_type("text_config", "an object", err);
    model_config_start(config, family ? family : inside);
    return 0;
}

/* What MLX writes, under both names: {"group_size", "bits", "mode"?: "affine", exceptions by
 * tensor}. Bits and groups are read from the tensors' shapes; here only other methods are turned
 * away. */
static int check_quantisation(const json_t *root, const char *key, struct err *err)
{
    const json_t *object = hf_member(root, key);
    const char *mode = "affine";
    uint32_t group = 0, bits = 0;
    int rc;
    if (!object)
        return 0;
    if (!json_is_object(object))
        return hf_wrong_type(key, "an object", err);
    if (hf_member(object, "quant_method") || !hf_member(object, "bits") ||
        !hf_member(object, "group_size"))
        return err_set(err, ERR_UNSUPPORTED,
                       "safetensors with quantised weights (\"%s\") are not supported, but for "
                       "MLX's affine 4 and 8 bits",
                       key);
    if ((rc = hf_text(object, "mode", &mode, err)) != 0 ||
        (rc = hf_u32(object, "bits", &bits, err)) != 0 ||
        (rc = hf_u32(object, "group_size", &group, err)) != 0)
        return rc;
    if (strcmp(mode, "affine") != 0 || (bits != 4 && bits != 8) ||
        (group != 32 && group != 64 && group != 128))
        return err_set(
            err, ERR_UNSUPPORTED,
            "\"%s\" is %.32s, %" PRIu32 " bits in groups of %" PRIu32
            ", which is not supported (affine, 4 or 8 bits, groups of 32, 64 or 128 are)",
            key, mode, bits, group);
    return 0;
}

/* What would change every result and is not done here. */
static int refuse_unread(const json_t *root, struct err *err)
{
    bool both_ways = false;
    int rc;
    if ((rc = check_quantisation(root, "quantization_config", err)) != 0 ||
        (rc = check_quantisation(root, "quantization", err)) != 0)
        return rc;
    rc = hf_bool(root, "use_bidirectional_attention", &both_ways, err);
    if (rc == 0 && both_ways)
        rc = err_set(err, ERR_UNSUPPORTED, "\"use_bidirectional_attention\" is not supported");
    return rc;
}

/* Gemma names it hidden_activation, beside a hidden_act that means nothing. */
static int read_activation(const json_t *root, struct model_config *config, struct err *err)
{
    static const struct {
        const char *name;
        enum activation activation;
    } known[] = {{"silu", ACTIVATION_SILU},
                 {"swish", ACTIVATION_SILU},
                 {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH}};
    const char *act = NULL;
    int rc = config->activation == ACTIVATION_SILU ? hf_text(root, "hidden_act", &act, err) : 0;
    if (rc == 0)
        rc = hf_text(root, "hidden_activation", &act, err);
    if (rc != 0 || !act)
        return rc;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(act, known[i].name) == 0) {
            config->activation = known[i].activation;
            return 0;
        }
    }
    return err_set(err, ERR_UNSUPPORTED,
                   "activation '%.64s' is not supported (silu and gelu_pytorch_tanh are)", act);
}

static int read_biases(const json_t *root, struct model_config *config, struct err *err)
{
    bool attention = false;
    if (config->family->bias != BIAS_CONFIG)
        return 0;
    int rc = hf_bool(root, "attention_bias", &attention, err);
    config->attention_bias = config->output_bias = attention;
    return rc == 0 ? hf_bool(root, "mlp_bias", &config->mlp_bias, err) : rc;
}

/* A member that the family may leave unsaid: required where `unsaid` is 0. */
static int read_or(const json_t *root, const char *key, uint32_t unsaid, uint32_t *out,
                   struct err *err)
{
    *out = unsaid;
    return unsaid == 0 ? hf_require_u32(root, key, out, err) : hf_u32(root, key, out, err);
}

static int read_sizes(const json_t *root, struct model_config *config, struct err *err)
{
    const struct architecture *family = config->family;
    int rc;
    if ((rc = hf_require_u32(root, "hidden_size", &config->hidden, err)) != 0 ||
        (rc = hf_require_u32(root, "intermediate_size", &config->ffn, err)) != 0 ||
        (rc = hf_require_u32(root, "num_hidden_layers", &config->n_layers, err)) != 0 ||
        (rc = read_or(root, "num_attention_heads", family->heads, &config->n_heads, err)) != 0 ||
        (rc = read_or(root, "vocab_size", family->vocab, &config->vocab, err)) != 0)
        return rc;
    config->n_kv_heads = family->kv_heads ? family->kv_heads : config->n_heads;
    config->head_dim = family->head_dim  ? family->head_dim
                       : config->n_heads ? config->hidden / config->n_heads
                                         : 0;
    if ((rc = hf_u32(root, "num_key_value_heads", &config->n_kv_heads, err)) != 0 ||
        (rc = hf_u32(root, "head_dim", &config->head_dim, err)) != 0 ||
        (rc = hf_u32(root, "max_position_embeddings", &config->context_length, err)) != 0 ||
        (rc = hf_real(root, "rms_norm_eps", &config->rms_eps, err)) != 0)
        return rc;
    return hf_bool(root, "tie_word_embeddings", &config->tied_embeddings, err);
}

/* A missing cap is the family's, null is none. */
static int read_cap(const json_t *root, const char *key, double *cap, struct err *err)
{
    if (json_is_null(json_object_get(root, key)))
        *cap = 0;
    int rc = hf_real(root, key, cap, err);
    if (rc == 0 && hf_member(root, key) && !(*cap > 0))
        rc = err_set(err, ERR_CORRUPT, "\"%s\" is %g, it must be a positive number", key, *cap);
    return rc;
}

static int read_query_scalar(const json_t *root, struct model_config *config, struct err *err)
{
    double scalar = 256;
    int rc = hf_real(root, "query_pre_attn_scalar", &scalar, err);
    if (rc == 0 && !(scalar >= 1))
        rc = err_set(err, ERR_CORRUPT, "\"query_pre_attn_scalar\" is %g, it must be at least 1",
                     scalar);
    config->attention_scale = 1.0 / sqrt(scalar);
    return rc;
}

/* Granite's multipliers; logits_scaling divides. */
static int read_multipliers(const json_t *root, struct model_config *config, struct err *err)
{
    double divisor = 1.0;
    int rc;
    config->attention_scale = 1.0;
    if ((rc = hf_real(root, "embedding_multiplier", &config->embedding_scale, err)) != 0 ||
        (rc = hf_real(root, "residual_multiplier", &config->residual_scale, err)) != 0 ||
        (rc = hf_real(root, "attention_multiplier", &config->attention_scale, err)) != 0 ||
        (rc = hf_real(root, "logits_scaling", &divisor, err)) != 0)
        return rc;
    config->logit_scale = 1.0 / divisor;
    return 0;
}

static int read_scales(const json_t *root, struct model_config *config, struct err *err)
{
    const struct architecture *family = config->family;
    int rc = 0;
    if (family->embedding_sqrt)
        config->embedding_scale = sqrt((double)config->hidden);
    if (family->soft_caps) {
        if ((rc = read_cap(root, "attn_logit_softcapping", &config->attention_cap, err)) != 0 ||
            (rc = read_cap(root, "final_logit_softcapping", &config->logit_cap, err)) != 0)
            return rc;
    }
    if (family->query_scalar)
        rc = read_query_scalar(root, config, err);
    if (rc == 0 && family->multipliers)
        rc = read_multipliers(root, config, err);
    return rc;
}

static int add_eos_of(const json_t *object, struct model_config *config, struct err *err)
{
    const json_t *value = hf_member(object, "eos_token_id");
    if (!value)
        return 0;
    if (json_is_integer(value))
        return model_config_add_eos(config, json_integer_value(value), err);
    if (!json_is_array(value))
        return hf_wrong_type("eos_token_id", "an integer or an array of them", err);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        rc = json_is_integer(item) ? model_config_add_eos(config, json_integer_value(item), err)
                                   : hf_wrong_type("eos_token_id", "an array of integers", err);
    }
    return rc;
}

static int read_bos(const json_t *root, struct model_config *config, struct err *err)
{
    const json_t *value = hf_member(root, "bos_token_id");
    if (!value)
        return 0;
    if (!json_is_integer(value))
        return hf_wrong_type("bos_token_id", "an integer", err);
    json_int_t id = json_integer_value(value);
    if (id < 0 || id >= MODEL_VOCAB_MAX)
        return err_set(err, ERR_CORRUPT,
                       "\"bos_token_id\" is %" JSON_INTEGER_FORMAT ", out of range", id);
    config->bos_id = (int32_t)id;
    return 0;
}

int hf_config_read(const json_t *root, const json_t *generation, struct model_config *config,
                   struct err *err)
{
    int rc;
    const json_t *text = NULL;
    if ((rc = read_family(root, config, &text, err)) != 0 || (rc = refuse_unread(root, err)) != 0 ||
        (rc = refuse_unread(text, err)) != 0 || (rc = read_activation(text, config, err)) != 0 ||
        (rc = read_biases(text, config, err)) != 0 || (rc = read_sizes(text, config, err)) != 0 ||
        (rc = read_scales(text, config, err)) != 0 || (rc = hf_read_rope(text, config, err)) != 0 ||
        (rc = hf_read_layers(text, config, err)) != 0 || (rc = read_bos(text, config, err)) != 0 ||
        (rc = add_eos_of(root, config, err)) != 0 ||
        (rc = add_eos_of(generation, config, err)) != 0)
        return rc;
    return model_config_check(config, err);
}
