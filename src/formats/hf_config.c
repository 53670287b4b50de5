/* Two generations of files are met: rope_theta and rope_scaling as top-level keys, and one
 * "rope_parameters" object that holds both (transformers 5). The newer wins where both are there.
 * End tokens are the union of config.json's and generation_config.json's, config first. */
#include "formats/hf_config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- typed access: a missing or null member leaves *out alone --- */

static const json_t *member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static int wrong_type(const char *key, const char *wanted, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "\"%s\" is of the wrong type, expected %s", key, wanted);
}

static int read_u32(const json_t *object, const char *key, uint32_t *out, struct err *err)
{
    const json_t *value = member(object, key);
    if (!value)
        return 0;
    if (!json_is_integer(value))
        return wrong_type(key, "an integer", err);
    json_int_t number = json_integer_value(value);
    if (number < 0 || number > UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "\"%s\" is %" JSON_INTEGER_FORMAT ", out of range", key,
                       number);
    *out = (uint32_t)number;
    return 0;
}

static int require_u32(const json_t *object, const char *key, uint32_t *out, struct err *err)
{
    if (!member(object, key))
        return err_set(err, ERR_CORRUPT, "\"%s\" is missing", key);
    return read_u32(object, key, out, err);
}

static int read_real(const json_t *object, const char *key, double *out, struct err *err)
{
    const json_t *value = member(object, key);
    if (!value)
        return 0;
    if (!json_is_number(value))
        return wrong_type(key, "a number", err);
    *out = json_number_value(value);
    return 0;
}

static int read_bool(const json_t *object, const char *key, bool *out, struct err *err)
{
    const json_t *value = member(object, key);
    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return wrong_type(key, "a bool", err);
    *out = json_is_true(value);
    return 0;
}

static int read_text(const json_t *object, const char *key, const char **out, struct err *err)
{
    const json_t *value = member(object, key);
    if (!value)
        return 0;
    if (!json_is_string(value))
        return wrong_type(key, "a string", err);
    *out = json_string_value(value);
    return 0;
}

/* --- the parts --- */

static int read_arch(const json_t *root, struct model_config *config, struct err *err)
{
    const char *arch = NULL;
    int rc = read_text(root, "model_type", &arch, err);
    if (rc != 0)
        return rc;
    if (!arch)
        return err_set(err, ERR_CORRUPT, "\"model_type\" is missing");
    if ((rc = model_config_check_arch(arch, err)) != 0)
        return rc;
    (void)snprintf(config->arch, sizeof config->arch, "%s", arch);
    return 0;
}

static int refuse_unread(const json_t *root, struct err *err)
{
    static const char *const quantised[] = {"quantization_config", "quantization"};
    for (size_t i = 0; i < sizeof quantised / sizeof *quantised; i++) {
        if (member(root, quantised[i]))
            return err_set(err, ERR_UNSUPPORTED,
                           "safetensors with quantised weights (\"%s\") are not supported",
                           quantised[i]);
    }
    const char *act = "silu";
    int rc = read_text(root, "hidden_act", &act, err);
    if (rc != 0)
        return rc;
    if (strcmp(act, "silu") != 0)
        return err_set(err, ERR_UNSUPPORTED, "activation '%.64s' is not supported (silu is)", act);
    return 0;
}

static int read_sizes(const json_t *root, struct model_config *config, struct err *err)
{
    int rc;
    if ((rc = require_u32(root, "hidden_size", &config->hidden, err)) != 0 ||
        (rc = require_u32(root, "intermediate_size", &config->ffn, err)) != 0 ||
        (rc = require_u32(root, "num_hidden_layers", &config->n_layers, err)) != 0 ||
        (rc = require_u32(root, "num_attention_heads", &config->n_heads, err)) != 0 ||
        (rc = require_u32(root, "vocab_size", &config->vocab, err)) != 0)
        return rc;
    config->n_kv_heads = config->n_heads;
    config->head_dim = config->n_heads ? config->hidden / config->n_heads : 0;
    config->context_length = 2048;
    config->rms_eps = 1e-6;
    if ((rc = read_u32(root, "num_key_value_heads", &config->n_kv_heads, err)) != 0 ||
        (rc = read_u32(root, "head_dim", &config->head_dim, err)) != 0 ||
        (rc = read_u32(root, "max_position_embeddings", &config->context_length, err)) != 0 ||
        (rc = read_real(root, "rms_norm_eps", &config->rms_eps, err)) != 0 ||
        (rc = read_bool(root, "tie_word_embeddings", &config->tied_embeddings, err)) != 0 ||
        (rc = read_bool(root, "attention_bias", &config->attention_bias, err)) != 0)
        return rc;
    return read_bool(root, "mlp_bias", &config->mlp_bias, err);
}

static int read_scaling(const json_t *object, struct rope_scaling *scaling, struct err *err)
{
    const char *type = NULL;
    int rc;
    if ((rc = read_text(object, "type", &type, err)) != 0 ||
        (rc = read_text(object, "rope_type", &type, err)) != 0)
        return rc;
    if (!type || strcmp(type, "default") == 0)
        return 0;
    if (strcmp(type, "linear") == 0)
        scaling->type = ROPE_SCALING_LINEAR;
    else if (strcmp(type, "llama3") == 0)
        scaling->type = ROPE_SCALING_LLAMA3;
    else
        return err_set(err, ERR_UNSUPPORTED,
                       "rope scaling '%.64s' is not supported (default, linear and llama3 are)",
                       type);
    if ((rc = read_real(object, "factor", &scaling->factor, err)) != 0 ||
        (rc = read_real(object, "low_freq_factor", &scaling->low_freq_factor, err)) != 0 ||
        (rc = read_real(object, "high_freq_factor", &scaling->high_freq_factor, err)) != 0)
        return rc;
    return read_u32(object, "original_max_position_embeddings", &scaling->original_context, err);
}

static int read_rope(const json_t *root, struct model_config *config, struct err *err)
{
    static const char *const places[] = {"rope_scaling", "rope_parameters"};
    config->rope_theta = 10000.0;
    int rc = read_real(root, "rope_theta", &config->rope_theta, err);
    for (size_t i = 0; rc == 0 && i < sizeof places / sizeof *places; i++) {
        const json_t *object = member(root, places[i]);
        if (!object)
            continue;
        if (!json_is_object(object))
            return wrong_type(places[i], "an object", err);
        config->rope_scaling = (struct rope_scaling){0};
        if ((rc = read_scaling(object, &config->rope_scaling, err)) == 0)
            rc = read_real(object, "rope_theta", &config->rope_theta, err);
    }
    return rc;
}

static int add_eos_of(const json_t *object, struct model_config *config, struct err *err)
{
    const json_t *value = member(object, "eos_token_id");
    if (!value)
        return 0;
    if (json_is_integer(value))
        return model_config_add_eos(config, json_integer_value(value), err);
    if (!json_is_array(value))
        return wrong_type("eos_token_id", "an integer or an array of them", err);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        rc = json_is_integer(item) ? model_config_add_eos(config, json_integer_value(item), err)
                                   : wrong_type("eos_token_id", "an array of integers", err);
    }
    return rc;
}

static int read_bos(const json_t *root, struct model_config *config, struct err *err)
{
    const json_t *value = member(root, "bos_token_id");
    config->bos_id = MODEL_TOKEN_NONE;
    if (!value)
        return 0;
    if (!json_is_integer(value))
        return wrong_type("bos_token_id", "an integer", err);
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
    *config = (struct model_config){0};
    if ((rc = read_arch(root, config, err)) != 0 || (rc = refuse_unread(root, err)) != 0 ||
        (rc = read_sizes(root, config, err)) != 0 || (rc = read_rope(root, config, err)) != 0 ||
        (rc = read_bos(root, config, err)) != 0 || (rc = add_eos_of(root, config, err)) != 0 ||
        (rc = add_eos_of(generation, config, err)) != 0)
        return rc;
    return model_config_check(config, err);
}
