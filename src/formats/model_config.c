/* Bounds. They exist so that later products (n_heads × head_dim, vocab × hidden, …) cannot overflow
 * 64 bits and a nonsense file is named at once instead of being refused for memory. */
#include "formats/model_config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

int model_config_unknown(const char *arch, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED, "architecture '%.64s' is not supported (%s are)", arch,
                   architecture_names());
}

void model_config_start(struct model_config *config, const struct architecture *family)
{
    *config = (struct model_config){
        .family = family,
        .context_length = family->context,
        .rope_theta = family->rope_theta,
        .rope_theta_local = family->rope_theta_local,
        .rope_scaling = {.attention_factor = 1.0},
        .rms_eps = family->rms_eps,
        .activation = family->activation,
        .embedding_scale = 1.0,
        .residual_scale = 1.0,
        .logit_scale = 1.0,
        .attention_cap = family->attention_cap,
        .logit_cap = family->logit_cap,
        .tied_embeddings = family->tied,
        .attention_bias = family->bias == BIAS_QKV,
        .bos_id = MODEL_TOKEN_NONE,
    };
    (void)snprintf(config->arch, sizeof config->arch, "%s", family->name);
}

void model_config_mark(struct model_config *config, uint32_t period, bool others,
                       enum model_layer_flag flag)
{
    for (uint32_t i = 0; period > 0 && i < config->n_layers && i < MODEL_LAYERS_MAX; i++) {
        if (((i + 1) % period == 0) != others)
            config->layers[i] |= (uint8_t)flag;
    }
}

/* x halved into [1, 2), then 2·atanh((x − 1)/(x + 1)) by its series. */
double model_config_log(double x)
{
    double halvings = 0, sum = 0;
    while (x >= 2) {
        x /= 2;
        halvings++;
    }
    const double s = (x - 1) / (x + 1);
    for (int k = 39; k >= 1; k -= 2)
        sum = sum * s * s + 2.0 / k;
    return halvings * 0.693147180559945309417 + sum * s;
}

double model_config_yarn_mscale(double factor, double mscale)
{
    return factor > 1 ? 0.1 * mscale * model_config_log(factor) + 1 : 1.0;
}

int model_config_add_eos(struct model_config *config, int64_t id, struct err *err)
{
    if (id < 0 || id >= MODEL_VOCAB_MAX)
        return err_set(err, ERR_CORRUPT, "end token %" PRId64 " is not a token id", id);
    for (unsigned i = 0; i < config->n_eos; i++) {
        if (config->eos_ids[i] == id)
            return 0;
    }
    if (config->n_eos == MODEL_EOS_MAX)
        return err_set(err, ERR_CORRUPT, "count too large: more than %d end tokens", MODEL_EOS_MAX);
    config->eos_ids[config->n_eos++] = (int32_t)id;
    return 0;
}

static int check_range(const char *field, uint32_t value, uint32_t max, struct err *err)
{
    if (value == 0 || value > max)
        return err_set(err, ERR_CORRUPT, "%s is %" PRIu32 ", it must be from 1 to %" PRIu32, field,
                       value, max);
    return 0;
}

static int check_positive(const char *field, double value, struct err *err)
{
    if (!(value > 0) || !isfinite(value) || value > 1e12)
        return err_set(err, ERR_CORRUPT, "%s is %g, it must be a positive number", field, value);
    return 0;
}

static int check_heads(const struct model_config *config, struct err *err)
{
    if (config->n_heads % config->n_kv_heads != 0)
        return err_set(err, ERR_CORRUPT,
                       "%" PRIu32 " attention heads cannot share %" PRIu32 " key/value heads",
                       config->n_heads, config->n_kv_heads);
    if (config->head_dim % 2 != 0)
        return err_set(err, ERR_CORRUPT, "head_dim is %" PRIu32 ", it must be even",
                       config->head_dim);
    if (config->rope_dim % 2 != 0 || config->rope_dim == 0 || config->rope_dim > config->head_dim)
        return err_set(err, ERR_CORRUPT,
                       "rope turns %" PRIu32 " dimensions, it must be an even part of %" PRIu32,
                       config->rope_dim, config->head_dim);
    return 0;
}

static int check_long(const struct model_config *config, struct err *err)
{
    const struct rope_long *rope = &config->rope_long;
    int rc = check_range("original_max_position_embeddings", config->rope_scaling.original_context,
                         MODEL_CONTEXT_MAX, err);
    for (uint32_t i = 0; rc == 0 && i < config->rope_dim / 2; i++) {
        rc = check_positive("a long factor of rope", (double)rope->long_factors[i], err);
        if (rc == 0)
            rc = check_positive("a short factor of rope", (double)rope->short_factors[i], err);
    }
    return rc;
}

/* The slower wave of the ramp turns at least once, else the ramp would run backwards. */
static int check_yarn(const struct rope_scaling *scaling, struct err *err)
{
    int rc = check_range("original_max_position_embeddings", scaling->original_context,
                         MODEL_CONTEXT_MAX, err);
    if (rc == 0)
        rc = check_positive("rope's beta_slow", scaling->beta_slow, err);
    if (rc != 0)
        return rc;
    if (!(scaling->beta_fast > scaling->beta_slow) || !isfinite(scaling->beta_fast))
        return err_set(err, ERR_CORRUPT, "rope's beta_fast is %g, it must be above %g",
                       scaling->beta_fast, scaling->beta_slow);
    if ((double)scaling->original_context < 6.283185307179586 * scaling->beta_slow)
        return err_set(err, ERR_CORRUPT,
                       "original_max_position_embeddings is %" PRIu32
                       ", too short for rope's beta_slow %g",
                       scaling->original_context, scaling->beta_slow);
    return 0;
}

static int check_rope(const struct model_config *config, struct err *err)
{
    const struct rope_scaling *scaling = &config->rope_scaling;
    int rc = check_positive("rope_theta", config->rope_theta, err);
    if (rc == 0 && config->rope_theta_local != 0)
        rc = check_positive("the local rope_theta", config->rope_theta_local, err);
    if (rc == 0 && (scaling->type == ROPE_SCALING_LINEAR || scaling->type == ROPE_SCALING_LLAMA3 ||
                    scaling->type == ROPE_SCALING_YARN))
        rc = check_positive("the rope scaling factor", scaling->factor, err);
    if (rc == 0)
        rc = check_positive("rope's attention factor", scaling->attention_factor, err);
    if (rc == 0 && scaling->type == ROPE_SCALING_LONG)
        return check_long(config, err);
    if (rc == 0 && scaling->type == ROPE_SCALING_YARN)
        return check_yarn(scaling, err);
    if (rc != 0 || scaling->type != ROPE_SCALING_LLAMA3)
        return rc;
    if ((rc = check_positive("low_freq_factor", scaling->low_freq_factor, err)) != 0 ||
        (rc = check_range("original_max_position_embeddings", scaling->original_context,
                          MODEL_CONTEXT_MAX, err)) != 0)
        return rc;
    if (!(scaling->high_freq_factor > scaling->low_freq_factor) ||
        !isfinite(scaling->high_freq_factor))
        return err_set(err, ERR_CORRUPT, "high_freq_factor is %g, it must be above %g",
                       scaling->high_freq_factor, scaling->low_freq_factor);
    return 0;
}

/* Scales and caps; an attention scale above 1 would let a masked score overflow. */
static int check_scales(const struct model_config *config, struct err *err)
{
    const struct {
        const char *field;
        double value;
        bool optional;
    } scales[] = {
        {"the embedding scale", config->embedding_scale, false},
        {"the residual scale", config->residual_scale, false},
        {"the logit scale", config->logit_scale, false},
        {"the attention scale", config->attention_scale, true},
        {"the attention's soft cap", config->attention_cap, true},
        {"the logits' soft cap", config->logit_cap, true},
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof scales / sizeof *scales; i++) {
        if (!scales[i].optional || scales[i].value != 0)
            rc = check_positive(scales[i].field, scales[i].value, err);
    }
    if (rc == 0 && config->attention_scale > 1)
        rc = err_set(err, ERR_CORRUPT, "the attention scale is %g, it must be at most 1",
                     config->attention_scale);
    return rc;
}

static int check_windows(const struct model_config *config, struct err *err)
{
    for (uint32_t i = 0; i < config->n_layers; i++) {
        if (config->layers[i] & MODEL_LAYER_SLIDING && config->sliding_window == 0)
            return err_set(err, ERR_CORRUPT, "layer %" PRIu32 " slides, but sliding_window is 0",
                           i);
    }
    return 0;
}

static int check_tokens(const struct model_config *config, struct err *err)
{
    if (config->bos_id != MODEL_TOKEN_NONE &&
        (config->bos_id < 0 || (uint32_t)config->bos_id >= config->vocab))
        return err_set(err, ERR_CORRUPT,
                       "begin token %" PRId32 " is outside the vocabulary (%" PRIu32 ")",
                       config->bos_id, config->vocab);
    for (unsigned i = 0; i < config->n_eos; i++) {
        if ((uint32_t)config->eos_ids[i] >= config->vocab)
            return err_set(err, ERR_CORRUPT,
                           "end token %" PRId32 " is outside the vocabulary (%" PRIu32 ")",
                           config->eos_ids[i], config->vocab);
    }
    return 0;
}

int model_config_check(const struct model_config *config, struct err *err)
{
    const struct {
        const char *field;
        uint32_t value, max;
    } ranges[] = {
        {"the number of layers", config->n_layers, MODEL_LAYERS_MAX},
        {"the number of heads", config->n_heads, MODEL_HEADS_MAX},
        {"the number of key/value heads", config->n_kv_heads, MODEL_HEADS_MAX},
        {"head_dim", config->head_dim, MODEL_HEAD_DIM_MAX},
        {"the hidden size", config->hidden, MODEL_WIDTH_MAX},
        {"the feed-forward size", config->ffn, MODEL_WIDTH_MAX},
        {"the vocabulary size", config->vocab, MODEL_VOCAB_MAX},
        {"the context length", config->context_length, MODEL_CONTEXT_MAX},
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof ranges / sizeof *ranges; i++)
        rc = check_range(ranges[i].field, ranges[i].value, ranges[i].max, err);
    if (rc != 0 || (rc = check_heads(config, err)) != 0 || (rc = check_rope(config, err)) != 0 ||
        (rc = check_scales(config, err)) != 0 || (rc = check_windows(config, err)) != 0)
        return rc;
    if (!(config->rms_eps > 0 && config->rms_eps < 1))
        return err_set(err, ERR_CORRUPT, "the norm's epsilon is %g, it must be between 0 and 1",
                       config->rms_eps);
    return check_tokens(config, err);
}
