/* config.json from numbers: a table says what each family's is called, and every key whose number
 * differs between models is written, so nothing rests on the defaults of a reader. Rope is written
 * in the older form, rope_theta and rope_scaling, which all readers take.
 *
 * GGUF keeps llama 3's rope as factors. Their parameters are found again by trying the ones that
 * published models have; a file with other factors has no words in config.json. */
#include <math.h>
#include <string.h>

#include "kernels/det_math.h"
#include "train/merge_int.h"

static const struct {
    const char *name, *class;
} classes[] = {{"llama", "LlamaForCausalLM"},     {"mistral", "MistralForCausalLM"},
               {"qwen2", "Qwen2ForCausalLM"},     {"qwen3", "Qwen3ForCausalLM"},
               {"smollm3", "SmolLM3ForCausalLM"}, {"gemma2", "Gemma2ForCausalLM"},
               {"gemma3", "Gemma3ForCausalLM"},   {"phi3", "Phi3ForCausalLM"},
               {"olmo2", "Olmo2ForCausalLM"},     {"granite", "GraniteForCausalLM"}};

static void set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value);
}

static json_t *eos_of(const struct model_config *c)
{
    if (c->n_eos == 1) {
        return json_integer(c->eos_ids[0]);
    }
    json_t *list = json_array();
    for (unsigned i = 0; i < c->n_eos; i++) {
        (void)json_array_append_new(list, json_integer(c->eos_ids[i]));
    }
    return list;
}

/* Said even where there is none: readers have defaults that may lie beyond the vocabulary. */
static void put_tokens(json_t *o, const struct merge *m)
{
    const struct model_config *c = model_files_config(m->base);
    const struct gguf *gguf = model_files_gguf(m->base);
    uint64_t pad = 0;
    const bool padded = gguf != NULL &&
                        gguf_get_u64(gguf, "tokenizer.ggml.padding_token_id", &pad, NULL) == 0 &&
                        pad < c->vocab;
    set(o, "bos_token_id", c->bos_id >= 0 ? json_integer(c->bos_id) : json_null());
    set(o, "eos_token_id", c->n_eos > 0 ? eos_of(c) : json_null());
    set(o, "pad_token_id", padded ? json_integer((json_int_t)pad) : json_null());
}

static void put_sizes(json_t *o, const struct model_config *c)
{
    set(o, "hidden_size", json_integer(c->hidden));
    set(o, "intermediate_size", json_integer(c->ffn));
    set(o, "num_hidden_layers", json_integer(c->n_layers));
    set(o, "num_attention_heads", json_integer(c->n_heads));
    set(o, "num_key_value_heads", json_integer(c->n_kv_heads));
    set(o, "head_dim", json_integer(c->head_dim));
    set(o, "vocab_size", json_integer(c->vocab));
    set(o, "max_position_embeddings", json_integer(c->context_length));
    set(o, "rms_norm_eps", json_real(c->rms_eps));
    set(o, "tie_word_embeddings", json_boolean(c->tied_embeddings));
}

/* --- rope ------------------------------------------------------------------------------------- */

/* What llama.cpp's converter divides inverse frequency i by. */
static double llama3_factor(const struct rope_scaling *s, double theta, uint32_t dims, uint32_t i)
{
    const double wave = 6.283185307179586 * det_pow(theta, 2.0 * (double)i / (double)dims);
    const double original = (double)s->original_context;
    if (wave < original / s->high_freq_factor) {
        return 1.0;
    }
    if (wave > original / s->low_freq_factor) {
        return s->factor;
    }
    const double smooth =
        (original / wave - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    return 1.0 / ((1.0 - smooth) / s->factor + smooth);
}

static bool has_factors(const struct model_config *c, const struct tensor_view *freqs,
                        const struct rope_scaling *s)
{
    for (uint32_t i = 0; i < c->rope_dim / 2; i++) {
        float have;
        memcpy(&have, freqs->data + i * sizeof have, sizeof have);
        const double want = llama3_factor(s, c->rope_theta, c->rope_dim, i);
        if (fabs((double)have - want) > 1e-4 * want) {
            return false;
        }
    }
    return true;
}

static int find_llama3(const struct merge *m, struct rope_scaling *s, struct err *err)
{
    static const uint32_t originals[] = {8192, 4096, 16384, 32768, 2048, 1024, 512, 32};
    const struct model_config *c = model_files_config(m->base);
    const struct tensor_view *freqs = model_files_tensor(m->base, "rope_freqs.weight");
    float last;
    memcpy(&last, freqs->data + (c->rope_dim / 2 - 1) * sizeof last, sizeof last);
    *s = (struct rope_scaling){.type = ROPE_SCALING_LLAMA3,
                               .factor = (double)last,
                               .low_freq_factor = 1,
                               .high_freq_factor = 4};
    for (size_t i = 0; i < sizeof originals / sizeof originals[0]; i++) {
        s->original_context = originals[i];
        if (has_factors(c, freqs, s)) {
            return 0;
        }
    }
    return err_set(err, ERR_UNSUPPORTED,
                   "this GGUF file keeps its rope scaling as factors that config.json has no words "
                   "for; export it as gguf, or import the model as safetensors");
}

int merge_rope_factors(struct merge *merge, const float *factors[3], struct err *err)
{
    const struct model_config *c = model_files_config(merge->base);
    const uint32_t n = c->rope_dim / 2;
    factors[0] = factors[1] = factors[2] = NULL;
    if (c->rope_scaling.type == ROPE_SCALING_LONG) {
        factors[1] = c->rope_long.long_factors;
        factors[2] = c->rope_long.short_factors;
    }
    if (c->rope_scaling.type != ROPE_SCALING_LLAMA3) {
        return 0;
    }
    float *made = arena_alloc(&merge->arena, n, sizeof *made);
    if (made == NULL) {
        return mem_err(err, n * sizeof *made);
    }
    for (uint32_t i = 0; i < n; i++) {
        made[i] = (float)llama3_factor(&c->rope_scaling, c->rope_theta, c->rope_dim, i);
    }
    factors[0] = made;
    return 0;
}

static json_t *factor_list(const float *factors, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) {
        (void)json_array_append_new(list, json_real((double)factors[i]));
    }
    return list;
}

static json_t *scaling_json(const struct model_config *c, const struct rope_scaling *s)
{
    static const char *const types[] = {[ROPE_SCALING_LINEAR] = "linear",
                                        [ROPE_SCALING_LLAMA3] = "llama3",
                                        [ROPE_SCALING_LONG] = "longrope",
                                        [ROPE_SCALING_YARN] = "yarn"};
    json_t *o = json_object();
    set(o, "rope_type", json_string(types[s->type]));
    set(o, "type", json_string(types[s->type]));
    if (s->type != ROPE_SCALING_LONG) {
        set(o, "factor", json_real(s->factor));
    }
    if (s->type == ROPE_SCALING_LLAMA3) {
        set(o, "low_freq_factor", json_real(s->low_freq_factor));
        set(o, "high_freq_factor", json_real(s->high_freq_factor));
    }
    if (s->type == ROPE_SCALING_LLAMA3 || s->type == ROPE_SCALING_YARN) {
        set(o, "original_max_position_embeddings", json_integer(s->original_context));
    }
    if (s->type == ROPE_SCALING_YARN) {
        set(o, "beta_fast", json_real(s->beta_fast));
        set(o, "beta_slow", json_real(s->beta_slow));
    }
    if (s->type == ROPE_SCALING_LONG) {
        set(o, "long_factor", factor_list(c->rope_long.long_factors, c->rope_dim / 2));
        set(o, "short_factor", factor_list(c->rope_long.short_factors, c->rope_dim / 2));
    }
    if (s->type == ROPE_SCALING_LONG || s->type == ROPE_SCALING_YARN) {
        set(o, "attention_factor", json_real(s->attention_factor));
    }
    return o;
}

static int put_rope(const struct merge *m, json_t *o, struct err *err)
{
    const struct model_config *c = model_files_config(m->base);
    struct rope_scaling scaling = c->rope_scaling;
    int rc = 0;
    set(o, "rope_theta", json_real(c->rope_theta));
    if (c->rope_theta_local != 0) {
        set(o, "rope_local_base_freq", json_real(c->rope_theta_local));
    }
    if (c->rope_dim != c->head_dim) {
        set(o, "partial_rotary_factor", json_real((double)c->rope_dim / (double)c->head_dim));
    }
    if (scaling.type == ROPE_SCALING_FACTORS) {
        rc = find_llama3(m, &scaling, err);
    }
    if (rc == 0 && scaling.type != ROPE_SCALING_NONE) {
        set(o, "rope_scaling", scaling_json(c, &scaling));
    }
    if (scaling.type == ROPE_SCALING_LONG) {
        set(o, "original_max_position_embeddings", json_integer(scaling.original_context));
    }
    return rc;
}

/* --- what families have of their own ---------------------------------------------------------- */

static void put_layers(json_t *o, const struct model_config *c)
{
    const enum window_rule window = c->family->window;
    const bool slides = window != WINDOW_NEVER && c->sliding_window > 0;
    json_t *types = json_array(), *ropes = json_array();
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const bool slid = (c->layers[i] & MODEL_LAYER_SLIDING) != 0;
        const bool rope = (c->layers[i] & MODEL_LAYER_NO_ROPE) == 0;
        (void)json_array_append_new(types,
                                    json_string(slid ? "sliding_attention" : "full_attention"));
        (void)json_array_append_new(ropes, json_integer(rope ? 1 : 0));
    }
    if (window != WINDOW_NEVER) {
        set(o, "sliding_window", slides ? json_integer(c->sliding_window) : json_null());
    }
    if (window == WINDOW_SWITCHED) {
        set(o, "use_sliding_window", json_boolean(slides));
    }
    if (window == WINDOW_PERIOD || window == WINDOW_SWITCHED) {
        set(o, "layer_types", json_incref(types));
    }
    if (window == WINDOW_PERIOD && strcmp(c->arch, "gemma3") == 0) {
        set(o, "sliding_window_pattern", json_integer(c->family->window_period));
    }
    if (c->family->no_rope_period > 0) {
        set(o, "no_rope_layers", json_incref(ropes));
    }
    json_decref(types);
    json_decref(ropes);
}

static json_t *cap_json(double cap)
{
    return cap > 0 ? json_real(cap) : json_null();
}

static void put_scales(json_t *o, const struct model_config *c)
{
    const struct architecture *family = c->family;
    const double scale =
        c->attention_scale > 0 ? c->attention_scale : 1.0 / sqrt((double)c->head_dim);
    if (family->soft_caps) {
        set(o, "attn_logit_softcapping", cap_json(c->attention_cap));
        set(o, "final_logit_softcapping", cap_json(c->logit_cap));
    }
    if (family->query_scalar) {
        const double scalar = 1.0 / (scale * scale), whole = nearbyint(scalar);
        const bool is_whole = fabs(scalar - whole) < 1e-6 * scalar;
        set(o, "query_pre_attn_scalar",
            is_whole ? json_integer((json_int_t)whole) : json_real(scalar));
    }
    if (family->multipliers) {
        set(o, "embedding_multiplier", json_real(c->embedding_scale));
        set(o, "residual_multiplier", json_real(c->residual_scale));
        set(o, "attention_multiplier", json_real(scale));
        set(o, "logits_scaling", json_real((double)(float)(1.0 / c->logit_scale)));
    }
}

static int put_biases(json_t *o, const struct model_config *c, struct err *err)
{
    if (c->family->bias != BIAS_CONFIG) {
        return 0;
    }
    if (c->attention_bias != c->output_bias) {
        return err_set(err, ERR_UNSUPPORTED,
                       "config.json of a %s cannot say that only some of its projections of "
                       "attention have biases; export it as gguf",
                       c->arch);
    }
    set(o, "attention_bias", json_boolean(c->attention_bias));
    set(o, "mlp_bias", json_boolean(c->mlp_bias));
    return 0;
}

json_t *merge_config_json(const struct merge *merge, struct err *err)
{
    const struct model_config *c = model_files_config(merge->base);
    json_t *o = json_object();
    const bool gelu = c->activation == ACTIVATION_GELU_TANH;
    const char *act = gelu ? "gelu_pytorch_tanh" : "silu";
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (strcmp(classes[i].name, c->family->name) == 0) {
            set(o, "architectures", json_pack("[s]", classes[i].class));
        }
    }
    set(o, "model_type", json_string(c->family->hf));
    set(o, "hidden_act", json_string(act));
    if (gelu) {
        set(o, "hidden_activation", json_string(act));
    }
    put_sizes(o, c);
    put_tokens(o, merge);
    put_layers(o, c);
    put_scales(o, c);
    int rc = put_biases(o, c, err);
    rc = rc == 0 ? put_rope(merge, o, err) : rc;
    if (rc != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}
