/* Keys as llama.cpp's converter writes them. What a family always does (soft caps' places, norms,
 * which layers slide) has no keys; a model that does otherwise is refused by name.
 *
 * Sliding windows exist in GGUF for the families of gemma and phi alone. For others the context
 * length is cut to the window: up to there every layer sees everything, and the file is right. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/merge_int.h"

enum { KEY_BYTES = 96, QUANTIZATION_VERSION = 2 };

struct target {
    const struct merge *merge;
    const struct model_config *c;
    const char *arch;
    struct gguf_writer *writer;
    char key[KEY_BYTES];
};

static const char *key_of(struct target *t, const char *field)
{
    (void)snprintf(t->key, sizeof t->key, "%s.%s", t->arch, field);
    return t->key;
}

static void put_u32(struct target *t, const char *field, uint32_t value)
{
    gguf_put_u32(t->writer, key_of(t, field), value);
}

static void put_f32(struct target *t, const char *field, double value)
{
    gguf_put_f32(t->writer, key_of(t, field), (float)value);
}

static void put_text(struct gguf_writer *writer, const char *key, const char *text)
{
    gguf_put_string(writer, key, text, strlen(text));
}

/* llama.cpp's number for what most matrices are. */
static uint32_t file_type(const struct merge *m)
{
    static const struct {
        enum tensor_type type;
        uint32_t number;
    } known[] = {{TENSOR_F32, 0},   {TENSOR_F16, 1},   {TENSOR_Q4_0, 2}, {TENSOR_Q4_1, 3},
                 {TENSOR_Q8_0, 7},  {TENSOR_Q5_0, 8},  {TENSOR_Q5_1, 9}, {TENSOR_Q4_K, 15},
                 {TENSOR_Q5_K, 17}, {TENSOR_Q6_K, 18}, {TENSOR_BF16, 32}};
    uint64_t bytes[TENSOR_TYPE_COUNT] = {0};
    size_t most = 1;
    for (size_t i = 0; i < m->n_outs; i++) {
        bytes[m->outs[i].type] += m->outs[i].n_dims == 2 ? m->outs[i].bytes : 0;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        most = bytes[known[i].type] > bytes[known[most].type] ? i : most;
    }
    return known[most].number;
}

/* --- from a config ---------------------------------------------------------------------------- */

static bool says_windows(const struct target *t)
{
    const enum window_rule rule = merge_gguf_family(t->c)->window;
    return rule == WINDOW_PERIOD || rule == WINDOW_ALWAYS;
}

static void put_sizes(struct target *t)
{
    const struct model_config *c = t->c;
    const bool cut =
        c->sliding_window > 0 && !says_windows(t) && c->sliding_window < c->context_length;
    put_u32(t, "block_count", c->n_layers);
    put_u32(t, "context_length", cut ? c->sliding_window : c->context_length);
    put_u32(t, "embedding_length", c->hidden);
    put_u32(t, "feed_forward_length", c->ffn);
    put_u32(t, "attention.head_count", c->n_heads);
    put_u32(t, "attention.head_count_kv", c->n_kv_heads);
    put_u32(t, "attention.key_length", c->head_dim);
    put_u32(t, "attention.value_length", c->head_dim);
    put_f32(t, "attention.layer_norm_rms_epsilon", c->rms_eps);
    put_u32(t, "vocab_size", c->vocab);
}

static int put_windows(struct target *t, struct err *err)
{
    const struct model_config *c = t->c;
    const struct architecture *family = merge_gguf_family(c);
    struct model_config rule = *c;
    memset(rule.layers, 0, sizeof rule.layers);
    if (family->no_rope_period > 0) {
        model_config_mark(&rule, family->no_rope_period, false, MODEL_LAYER_NO_ROPE);
    }
    if (c->sliding_window > 0 && says_windows(t)) {
        const bool all = family->window == WINDOW_ALWAYS;
        put_u32(t, "attention.sliding_window", c->sliding_window);
        model_config_mark(&rule, all ? 1 : family->window_period, !all, MODEL_LAYER_SLIDING);
    }
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const unsigned cared = MODEL_LAYER_NO_ROPE | (says_windows(t) ? MODEL_LAYER_SLIDING : 0);
        if (((rule.layers[i] ^ c->layers[i]) & cared) != 0) {
            return err_set(err, ERR_UNSUPPORTED,
                           "layer %" PRIu32 " has another window or rope than GGUF's %s always has",
                           i, t->arch);
        }
    }
    return 0;
}

static int put_rope(struct target *t, struct err *err)
{
    const struct model_config *c = t->c;
    const struct rope_scaling *s = &c->rope_scaling;
    put_u32(t, "rope.dimension_count", c->rope_dim);
    put_f32(t, "rope.freq_base", c->rope_theta);
    if (c->rope_theta_local != 0) {
        put_f32(t, "rope.freq_base_swa", c->rope_theta_local);
    }
    if (s->type == ROPE_SCALING_LINEAR) {
        put_text(t->writer, key_of(t, "rope.scaling.type"), "linear");
        put_f32(t, "rope.scaling.factor", s->factor);
    } else if (s->type == ROPE_SCALING_LONG) {
        put_u32(t, "rope.scaling.original_context_length", s->original_context);
        put_f32(t, "rope.scaling.attn_factor", s->attention_factor);
    } else if (s->type == ROPE_SCALING_YARN) {
        const double usual = model_config_yarn_mscale(s->factor, 1);
        if (s->between) {
            return err_set(err, ERR_UNSUPPORTED, "GGUF has no word for yarn without \"truncate\"");
        }
        put_text(t->writer, key_of(t, "rope.scaling.type"), "yarn");
        put_f32(t, "rope.scaling.factor", s->factor);
        put_u32(t, "rope.scaling.original_context_length", s->original_context);
        put_f32(t, "rope.scaling.yarn_beta_fast", s->beta_fast);
        put_f32(t, "rope.scaling.yarn_beta_slow", s->beta_slow);
        if (s->attention_factor != usual) {
            put_f32(t, "rope.scaling.attn_factor", s->attention_factor / usual);
        }
    }
    return 0;
}

static int put_scales(struct target *t, struct err *err)
{
    const struct model_config *c = t->c;
    const struct architecture *family = c->family;
    const bool of_27 = family->query_scalar && c->n_layers == family->gguf_layers_of_27;
    const double usual =
        of_27 ? sqrt((double)c->n_heads / (double)c->hidden) : 1.0 / sqrt((double)c->head_dim);
    if (family->multipliers) {
        put_f32(t, "attention.scale", c->attention_scale > 0 ? c->attention_scale : usual);
        put_f32(t, "embedding_scale", c->embedding_scale);
        put_f32(t, "residual_scale", c->residual_scale);
        put_f32(t, "logit_scale", 1.0 / c->logit_scale);
    } else if (c->attention_scale > 0 && fabs(c->attention_scale / usual - 1) > 1e-6) {
        return err_set(err, ERR_UNSUPPORTED,
                       "scores are scaled by %g, which GGUF has no key for in %s (%g is known)",
                       c->attention_scale, t->arch, usual);
    }
    if (c->attention_cap > 0) {
        put_f32(t, "attn_logit_softcapping", c->attention_cap);
    }
    if (c->logit_cap > 0) {
        put_f32(t, "final_logit_softcapping", c->logit_cap);
    }
    return 0;
}

static int put_config(struct target *t, struct err *err)
{
    put_text(t->writer, "general.architecture", t->arch);
    put_text(t->writer, "general.type", "model");
    put_text(t->writer, "general.name", t->merge->spec->base_id);
    gguf_put_u32(t->writer, "general.file_type", file_type(t->merge));
    gguf_put_u32(t->writer, "general.quantization_version", QUANTIZATION_VERSION);
    put_sizes(t);
    int rc = put_windows(t, err);
    rc = rc == 0 ? put_rope(t, err) : rc;
    return rc == 0 ? put_scales(t, err) : rc;
}

static int put_from_folder(const struct merge *m, struct gguf_writer *writer, struct err *err)
{
    const struct model_config *c = model_files_config(m->base);
    struct target t = {.merge = m, .c = c, .arch = merge_gguf_family(c)->gguf, .writer = writer};
    const int rc = put_config(&t, err);
    return rc == 0 ? merge_put_vocabulary(m, writer, err) : rc;
}

/* --- from GGUF -------------------------------------------------------------------------------- */

static void put_from_gguf(const struct merge *m, struct gguf_writer *writer)
{
    const struct gguf *gguf = model_files_gguf(m->base);
    for (size_t i = 0; i < gguf_kv_count(gguf); i++) {
        const char *key = gguf_kv_key(gguf, i);
        if (strcmp(key, "general.alignment") == 0 ||
            (strcmp(key, "tokenizer.chat_template") == 0 && m->manifest.chat_template != NULL)) {
            continue;
        }
        if (strcmp(key, "general.file_type") == 0 && m->type != MERGE_KEEP) {
            gguf_put_u32(writer, key, file_type(m));
        } else {
            gguf_put_copy(writer, gguf, i);
        }
    }
}

int merge_put_metadata(const struct merge *merge, struct gguf_writer *writer, struct err *err)
{
    const bool gguf = model_files_container(merge->base) == MODEL_GGUF;
    const char *template = merge->manifest.chat_template;
    int rc = 0;
    if (gguf) {
        put_from_gguf(merge, writer);
    } else {
        template = template != NULL ? template : model_files_chat_template(merge->base);
        rc = put_from_folder(merge, writer, err);
    }
    if (rc == 0 && template != NULL) {
        put_text(writer, "tokenizer.chat_template", template);
    }
    return rc;
}
