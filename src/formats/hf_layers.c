/* Two generations of files are met: rope_theta and rope_scaling as top-level keys, and one
 * "rope_parameters" object that holds both (transformers 5); where layers differ it holds one
 * object for each layer type. The newer wins where both are there. In the same way "layer_types"
 * wins over the rule by which a family's layers slide. */
#include "formats/hf_layers.h"

#include <math.h>
#include <string.h>

#include "formats/hf_fields.h"

static const char full_type[] = "full_attention", sliding_type[] = "sliding_attention";

static int read_factors(const json_t *object, const char *key, float *out, uint32_t n,
                        struct err *err)
{
    const json_t *list = hf_member(object, key);
    if (!json_is_array(list))
        return hf_wrong_type(key, "an array", err);
    if (n > MODEL_ROPE_FACTORS_MAX || json_array_size(list) != n)
        return err_set(err, ERR_CORRUPT, "\"%s\" lists %zu factors, rope needs %u (at most %d)",
                       key, json_array_size(list), n, MODEL_ROPE_FACTORS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        if (!json_is_number(item))
            return hf_wrong_type(key, "an array of numbers", err);
        out[i] = (float)json_number_value(item);
    }
    return 0;
}

/* What ROPE_SCALING_LONG needs beside its type, once rope_dim is known. original_context may stand
 * in the root; the attention factor follows from how far the context is stretched. */
static int read_long(const json_t *root, const json_t *object, struct model_config *config,
                     struct err *err)
{
    struct rope_long *rope = &config->rope_long;
    uint32_t *original = &config->rope_scaling.original_context;
    double factor = 0;
    int rc = *original ? 0 : hf_u32(root, "original_max_position_embeddings", original, err);
    if (rc == 0 && *original < 2)
        rc = err_set(err, ERR_CORRUPT, "\"original_max_position_embeddings\" is %u", *original);
    if (rc != 0)
        return rc;
    if ((rc = hf_real(object, "factor", &factor, err)) != 0 ||
        (rc = read_factors(object, "long_factor", rope->long_factors, config->rope_dim / 2, err)) !=
            0 ||
        (rc = read_factors(object, "short_factor", rope->short_factors, config->rope_dim / 2,
                           err)) != 0)
        return rc;
    if (factor == 0)
        factor = (double)config->context_length / *original;
    config->rope_scaling.attention_factor =
        factor > 1 ? sqrt(1 + model_config_log(factor) / model_config_log((double)*original)) : 1.0;
    return hf_real(object, "attention_factor", &config->rope_scaling.attention_factor, err);
}

/* What ROPE_SCALING_YARN needs beside its type and factor, once context_length is known. */
static int read_yarn(const json_t *object, struct model_config *config, struct err *err)
{
    struct rope_scaling *scaling = &config->rope_scaling;
    double mscale = 0, mscale_all = 0;
    bool whole = true;
    int rc;
    if (scaling->original_context == 0)
        scaling->original_context = config->context_length;
    scaling->beta_fast = 32;
    scaling->beta_slow = 1;
    if ((rc = hf_real(object, "beta_fast", &scaling->beta_fast, err)) != 0 ||
        (rc = hf_real(object, "beta_slow", &scaling->beta_slow, err)) != 0 ||
        (rc = hf_bool(object, "truncate", &whole, err)) != 0 ||
        (rc = hf_real(object, "mscale", &mscale, err)) != 0 ||
        (rc = hf_real(object, "mscale_all_dim", &mscale_all, err)) != 0)
        return rc;
    scaling->between = !whole;
    scaling->attention_factor = model_config_yarn_mscale(scaling->factor, 1);
    if (mscale != 0 && mscale_all != 0)
        scaling->attention_factor = model_config_yarn_mscale(scaling->factor, mscale) /
                                    model_config_yarn_mscale(scaling->factor, mscale_all);
    return hf_real(object, "attention_factor", &scaling->attention_factor, err);
}

static int read_scaling(const json_t *object, struct rope_scaling *scaling, struct err *err)
{
    const char *type = NULL;
    int rc;
    if ((rc = hf_text(object, "type", &type, err)) != 0 ||
        (rc = hf_text(object, "rope_type", &type, err)) != 0)
        return rc;
    if (!type || strcmp(type, "default") == 0)
        return 0;
    if (strcmp(type, "linear") == 0)
        scaling->type = ROPE_SCALING_LINEAR;
    else if (strcmp(type, "llama3") == 0)
        scaling->type = ROPE_SCALING_LLAMA3;
    else if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0)
        scaling->type = ROPE_SCALING_LONG;
    else if (strcmp(type, "yarn") == 0)
        scaling->type = ROPE_SCALING_YARN;
    else
        return err_set(err, ERR_UNSUPPORTED,
                       "rope scaling '%.64s' is not supported (default, linear, llama3, longrope "
                       "and yarn are)",
                       type);
    if ((rc = hf_real(object, "factor", &scaling->factor, err)) != 0 ||
        (rc = hf_real(object, "low_freq_factor", &scaling->low_freq_factor, err)) != 0 ||
        (rc = hf_real(object, "high_freq_factor", &scaling->high_freq_factor, err)) != 0)
        return rc;
    return hf_u32(object, "original_max_position_embeddings", &scaling->original_context, err);
}

/* rope_scaling or rope_parameters of all layers alike. */
static int read_one(const json_t *object, struct model_config *config, double *part,
                    struct err *err)
{
    config->rope_scaling = (struct rope_scaling){.attention_factor = 1.0};
    int rc = read_scaling(object, &config->rope_scaling, err);
    if (rc == 0)
        rc = hf_real(object, "rope_theta", &config->rope_theta, err);
    return rc == 0 ? hf_real(object, "partial_rotary_factor", part, err) : rc;
}

/* {"full_attention": {…}, "sliding_attention": {…}} */
static int read_by_type(const json_t *object, struct model_config *config, double *part,
                        struct err *err)
{
    const json_t *full = hf_member(object, full_type), *local = hf_member(object, sliding_type);
    struct rope_scaling scaling = {0};
    int rc = full ? read_one(full, config, part, err) : 0;
    if (rc != 0 || !local)
        return rc;
    if ((rc = read_scaling(local, &scaling, err)) != 0)
        return rc;
    if (scaling.type != ROPE_SCALING_NONE)
        return err_set(err, ERR_UNSUPPORTED,
                       "rope scaling of sliding layers is not supported (default is)");
    config->rope_theta_local = config->rope_theta;
    return hf_real(local, "rope_theta", &config->rope_theta_local, err);
}

int hf_read_rope(const json_t *root, struct model_config *config, struct err *err)
{
    static const char *const places[] = {"rope_scaling", "rope_parameters"};
    const json_t *said = NULL;
    double part = 1.0;
    int rc = hf_real(root, "rope_theta", &config->rope_theta, err);
    if (rc == 0 && config->rope_theta_local != 0)
        rc = hf_real(root, "rope_local_base_freq", &config->rope_theta_local, err);
    if (rc == 0)
        rc = hf_real(root, "partial_rotary_factor", &part, err);
    for (size_t i = 0; rc == 0 && i < sizeof places / sizeof *places; i++) {
        const json_t *object = hf_member(root, places[i]);
        if (!object)
            continue;
        if (!json_is_object(object))
            return hf_wrong_type(places[i], "an object", err);
        said = object;
        rc = json_is_object(json_object_get(object, full_type)) ||
                     json_is_object(json_object_get(object, sliding_type))
                 ? read_by_type(object, config, &part, err)
                 : read_one(object, config, &part, err);
    }
    if (rc == 0 && !(part > 0 && part <= 1))
        return err_set(err, ERR_CORRUPT, "\"partial_rotary_factor\" is %g, it must be at most 1",
                       part);
    config->rope_dim = (uint32_t)((double)config->head_dim * part);
    if (rc == 0 && config->rope_scaling.type == ROPE_SCALING_LONG)
        rc = read_long(root, said, config, err);
    if (rc == 0 && config->rope_scaling.type == ROPE_SCALING_YARN)
        rc = read_yarn(said, config, err);
    return rc;
}

/* A list with one item for each layer, or NULL when it is missing or null. */
static int layer_list(const json_t *root, const char *key, const struct model_config *config,
                      const json_t **list, struct err *err)
{
    *list = hf_member(root, key);
    if (*list && !json_is_array(*list))
        return hf_wrong_type(key, "an array", err);
    if (*list && json_array_size(*list) != config->n_layers)
        return err_set(err, ERR_CORRUPT, "\"%s\" lists %zu layers, the model has %u", key,
                       json_array_size(*list), config->n_layers);
    if (*list && config->n_layers > MODEL_LAYERS_MAX)
        *list = NULL; /* refused by model_config_check */
    return 0;
}

static int read_layer_types(const json_t *list, struct model_config *config, struct err *err)
{
    for (uint32_t i = 0; i < config->n_layers; i++) {
        const char *type = json_string_value(json_array_get(list, i));
        if (type && strcmp(type, sliding_type) == 0)
            config->layers[i] |= MODEL_LAYER_SLIDING;
        else if (!type || strcmp(type, full_type) != 0)
            return err_set(err, ERR_UNSUPPORTED,
                           "layer type '%.64s' is not supported (%s and %s "
                           "are)",
                           type ? type : "?", full_type, sliding_type);
    }
    return 0;
}

/* Layers from max_window_layers on. */
static int read_switched(const json_t *root, struct model_config *config, struct err *err)
{
    uint32_t first = 28;
    int rc = hf_u32(root, "max_window_layers", &first, err);
    if (rc == 0 && config->family->no_rope_period > 0)
        rc = err_set(err, ERR_UNSUPPORTED,
                     "\"use_sliding_window\" without \"layer_types\" is not supported");
    for (uint32_t i = first; rc == 0 && i < config->n_layers && i < MODEL_LAYERS_MAX; i++)
        config->layers[i] |= MODEL_LAYER_SLIDING;
    return rc;
}

static int read_windows(const json_t *root, struct model_config *config, struct err *err)
{
    const struct architecture *family = config->family;
    const json_t *types = NULL;
    bool used = family->window != WINDOW_SWITCHED;
    uint32_t period = family->window_period;
    if (family->window == WINDOW_NEVER)
        return 0;
    config->sliding_window =
        json_object_get(root, "sliding_window") ? 0 : family->sliding_window; /* null: none */
    int rc = hf_u32(root, "sliding_window", &config->sliding_window, err);
    if (rc == 0)
        rc = hf_bool(root, "use_sliding_window", &used, err);
    if (rc == 0)
        rc = hf_u32(root, "sliding_window_pattern", &period, err);
    if (rc == 0)
        rc = layer_list(root, "layer_types", config, &types, err);
    if (rc != 0)
        return rc;
    if (!used || config->sliding_window == 0) {
        config->sliding_window = 0;
        return 0;
    }
    if (types && family->window != WINDOW_ALWAYS)
        return read_layer_types(types, config, err);
    if (family->window == WINDOW_SWITCHED)
        return read_switched(root, config, err);
    if (family->window == WINDOW_ALWAYS)
        model_config_mark(config, 1, false, MODEL_LAYER_SLIDING);
    else
        model_config_mark(config, period, true, MODEL_LAYER_SLIDING);
    return 0;
}

/* "no_rope_layers" has a 1 where there is rope. */
static int read_no_rope(const json_t *root, struct model_config *config, struct err *err)
{
    const json_t *list = NULL;
    uint32_t period = config->family->no_rope_period;
    int rc = hf_u32(root, "no_rope_layer_interval", &period, err);
    if (rc == 0)
        rc = layer_list(root, "no_rope_layers", config, &list, err);
    if (rc != 0)
        return rc;
    if (!list) {
        model_config_mark(config, period, false, MODEL_LAYER_NO_ROPE);
        return 0;
    }
    for (uint32_t i = 0; i < config->n_layers; i++) {
        const json_t *item = json_array_get(list, i);
        if (!json_is_integer(item) && !json_is_boolean(item))
            return hf_wrong_type("no_rope_layers", "an array of 0 and 1", err);
        if (!json_is_true(item) && json_integer_value(item) == 0)
            config->layers[i] |= MODEL_LAYER_NO_ROPE;
    }
    return 0;
}

int hf_read_layers(const json_t *root, struct model_config *config, struct err *err)
{
    int rc = read_windows(root, config, err);
    return rc == 0 && config->family->no_rope_period > 0 ? read_no_rope(root, config, err) : rc;
}
