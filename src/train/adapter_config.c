#include "train/adapter_config.h"

#include <math.h>

#include "base/fs.h"

static int publish(const char *dir, struct buf *text, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    buf_putc(text, '\n');
    int rc = buf_check(text, ADAPTER_CONFIG_FILE, err);
    if (rc == 0) {
        rc = fs_join(path, dir, ADAPTER_CONFIG_FILE, err);
    }
    if (rc == 0) {
        rc = fs_write_file(path, text->data, text->len, err);
    }
    buf_release(text);
    return rc;
}

/* Sorted as their bits are, joined ones first; `path`: with the module that a projection is in. */
static void put_targets(struct json_out *out, unsigned targets, const struct adapter_layers *layers,
                        bool path)
{
    json_out_array(out);
    if (layers->qkv_parts > 0) {
        json_out_string(out, path ? "self_attn.qkv_proj" : "qkv_proj");
        targets &= ~(unsigned)(TRAIN_Q_PROJ | TRAIN_K_PROJ | TRAIN_V_PROJ);
    }
    if (layers->gate_up_parts > 0) {
        json_out_string(out, path ? "mlp.gate_up_proj" : "gate_up_proj");
        targets &= ~(unsigned)(TRAIN_GATE_PROJ | TRAIN_UP_PROJ);
    }
    for (int bit = 0; bit < TRAIN_TARGET_COUNT; bit++) {
        char name[64];
        if (((targets >> bit) & 1) != 0) {
            snprintf(name, sizeof name, "%s%s",
                     !path                        ? ""
                     : 1 << bit < TRAIN_GATE_PROJ ? "self_attn."
                                                  : "mlp.",
                     train_target_name(bit));
            json_out_string(out, name);
        }
    }
    json_out_array_end(out);
}

int adapter_config_mlx(const char *dir, const struct manifest *m,
                       const struct adapter_layers *layers, struct err *err)
{
    const struct train_config *c = &m->config;
    struct json_out out;
    struct buf text;
    buf_init(&text, ADAPTER_CONFIG_BYTES_MAX);
    json_out_init(&out, &text);
    json_out_object(&out);
    json_out_kv_string(&out, "model", m->base_model);
    json_out_kv_string(&out, "fine_tune_type", "lora");
    json_out_kv_int(&out, "num_layers", layers->n - layers->first);
    json_out_key(&out, "lora_parameters");
    json_out_object(&out);
    json_out_kv_int(&out, "rank", c->lora_rank);
    json_out_kv_real(&out, "scale", m->lora_scale);
    json_out_kv_real(&out, "dropout", c->lora_dropout);
    json_out_key(&out, "keys");
    put_targets(&out, c->lora_targets, layers, true);
    json_out_object_end(&out);
    json_out_kv_string(&out, "optimizer", "adamw");
    json_out_kv_int(&out, "seed", c->seed);
    json_out_kv_int(&out, "batch_size", c->batch_size);
    json_out_kv_int(&out, "iters", m->training.steps);
    json_out_kv_real(&out, "learning_rate", c->learning_rate);
    json_out_kv_int(&out, "max_seq_length", c->max_seq_length);
    json_out_kv_int(&out, "grad_accumulation_steps", c->gradient_accumulation_steps);
    json_out_kv_bool(&out, "mask_prompt", c->mask_prompt);
    json_out_object_end(&out);
    return publish(dir, &text, err);
}

/* Where not all layers carry factors PEFT wants them listed. */
static void put_layers(struct json_out *out, const struct adapter_layers *layers)
{
    if (layers->first == 0) {
        json_out_kv_null(out, "layers_to_transform");
        json_out_kv_null(out, "layers_pattern");
        return;
    }
    json_out_key(out, "layers_to_transform");
    json_out_array(out);
    for (int i = layers->first; i < layers->n; i++) {
        json_out_int(out, i);
    }
    json_out_array_end(out);
    json_out_kv_string(out, "layers_pattern", "layers");
}

/* PEFT's scale is alpha / rank, or alpha / √rank: alpha grows with the rank, so that it stays. */
static void put_patterns(struct json_out *out, const struct train_config *c,
                         const struct adapter_layers *layers)
{
    static const char *const names[] = {"qkv_proj", "gate_up_proj"};
    const int parts[] = {layers->qkv_parts, layers->gate_up_parts};
    for (int pattern = 0; pattern < 2; pattern++) {
        json_out_key(out, pattern == 0 ? "rank_pattern" : "alpha_pattern");
        json_out_object(out);
        for (int i = 0; i < 2; i++) {
            const double times = c->use_rslora ? sqrt((double)parts[i]) : (double)parts[i];
            if (parts[i] > 0) {
                json_out_key(out, names[i]);
                if (pattern == 0) {
                    json_out_int(out, parts[i] * c->lora_rank);
                } else {
                    json_out_real(out, times * c->lora_alpha);
                }
            }
        }
        json_out_object_end(out);
    }
}

static void put_peft(struct json_out *out, const struct manifest *m,
                     const struct adapter_layers *layers)
{
    static const char *const nulls[] = {
        "auto_mapping",
        "revision",
        "exclude_modules",
        "modules_to_save",
        "layer_replication",
        "target_parameters",
        "trainable_token_indices",
        "alora_invocation_tokens",
    };
    const struct train_config *c = &m->config;
    json_out_object(out);
    json_out_kv_string(out, "peft_type", "LORA");
    json_out_kv_string(out, "peft_version", "0.21.2");
    json_out_kv_string(out, "task_type", "CAUSAL_LM");
    json_out_kv_string(out, "base_model_name_or_path", m->base_model);
    json_out_kv_bool(out, "inference_mode", true);
    json_out_kv_int(out, "r", c->lora_rank);
    json_out_kv_real(out, "lora_alpha", c->lora_alpha);
    json_out_kv_real(out, "lora_dropout", c->lora_dropout);
    json_out_key(out, "target_modules");
    put_targets(out, c->lora_targets, layers, false);
    json_out_kv_string(out, "bias", "none");
    json_out_kv_bool(out, "fan_in_fan_out", false);
    json_out_kv_bool(out, "use_rslora", c->use_rslora);
    json_out_kv_bool(out, "use_dora", false);
    json_out_kv_bool(out, "lora_bias", false);
    json_out_kv_bool(out, "init_lora_weights", true);
    put_patterns(out, c, layers);
    put_layers(out, layers);
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++) {
        json_out_kv_null(out, nulls[i]);
    }
    json_out_object_end(out);
}

int adapter_config_peft(const char *dir, const struct manifest *manifest,
                        const struct adapter_layers *layers, struct err *err)
{
    struct json_out out;
    struct buf text;
    buf_init(&text, ADAPTER_CONFIG_BYTES_MAX);
    json_out_init(&out, &text);
    put_peft(&out, manifest, layers);
    return publish(dir, &text, err);
}
