/* What stands beside the weights. Of a safetensors folder the files are copied, config.json with
 * the type that the weights have now; of a GGUF file they are written from its metadata. */
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/architecture.h"
#include "train/merge_int.h"

static const char *const copied[] = {"generation_config.json",
                                     "tokenizer.json",
                                     "tokenizer_config.json",
                                     "special_tokens_map.json",
                                     "added_tokens.json",
                                     "tokenizer.model",
                                     "vocab.json",
                                     "merges.txt"};

static int write_json(const char *dir, const char *name, const json_t *json, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_SORT_KEYS);
    int rc = text != NULL ? fs_join(path, dir, name, err) : mem_err(err, MODEL_JSON_BYTES_MAX);
    rc = rc == 0 ? fs_write_file(path, text, strlen(text), err) : rc;
    mem_free(text);
    return rc;
}

static const char *type_name(const struct merge *m)
{
    return m->spec->type == MERGE_F32 ? "float32" : "bfloat16";
}

/* --- from a folder ---------------------------------------------------------------------------- */

/* The folder that holds the base's files. */
static int base_dir(const struct merge *m, char out[FS_PATH_BYTES_MAX], struct err *err)
{
    const int rc = fs_absolute(out, m->spec->base_path, err);
    char *slash = rc == 0 && !fs_is_dir(out) ? strrchr(out, '/') : NULL;
    if (slash != NULL) {
        *slash = '\0';
    }
    return rc;
}

/* Tensors are written under one set of names, which for two kinds of base is not what their own
 * config.json describes. */
static int check_names(const struct merge *m, const json_t *config, struct err *err)
{
    const struct architecture *family = model_files_config(m->base)->family;
    if (family->fused || json_object_get(config, "text_config") != NULL) {
        return err_set(err, ERR_UNSUPPORTED,
                       "a merged %s of this kind cannot be written (%s); serve its adapter instead",
                       family->name,
                       family->fused ? "its projections are fused"
                                     : "it is part of a larger model");
    }
    return 0;
}

static int copy_config(const struct merge *m, const char *from, const char *dir, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int rc = fs_join(path, from, "config.json", err);
    json_t *config = rc == 0 ? json_parse_file(path, MODEL_JSON_BYTES_MAX, err) : NULL;
    if (config == NULL) {
        return err_set(err, ERR_CORRUPT, "%s", path);
    }
    if (json_object_get(config, "text_config") != NULL) {
        json_decref(config);
        return err_set(err, ERR_UNSUPPORTED,
                       "the base is the text part of a larger model: its weights cannot be written "
                       "as a model of their own");
    }
    rc = check_names(m, config, err);
    (void)json_object_del(config, "quantization");
    (void)json_object_del(config, "quantization_config");
    (void)json_object_del(config, "dtype");
    if (rc == 0 && json_object_set_new(config, "torch_dtype", json_string(type_name(m))) != 0) {
        rc = mem_err(err, MODEL_JSON_BYTES_MAX);
    }
    rc = rc == 0 ? write_json(dir, "config.json", config, err) : rc;
    json_decref(config);
    return rc;
}

static int copy_companions(const struct merge *m, const char *dir, struct err *err)
{
    char from[FS_PATH_BYTES_MAX], source[FS_PATH_BYTES_MAX], dest[FS_PATH_BYTES_MAX];
    int rc = base_dir(m, from, err);
    rc = rc == 0 ? copy_config(m, from, dir, err) : rc;
    for (size_t i = 0; i < sizeof copied / sizeof copied[0] && rc == 0; i++) {
        rc = fs_join(source, from, copied[i], err);
        rc = rc == 0 ? fs_join(dest, dir, copied[i], err) : rc;
        if (rc == 0 && fs_exists(source)) {
            rc = fs_copy_file(source, dest, err);
        }
    }
    return rc;
}

/* --- from GGUF -------------------------------------------------------------------------------- */

static int check_counterpart(const struct model_config *c, struct err *err)
{
    if (strcmp(c->arch, "llama") != 0) {
        return err_set(err, ERR_UNSUPPORTED,
                       "a GGUF file of architecture %s has no config.json here; import the model "
                       "as safetensors",
                       c->arch);
    }
    if (c->rope_scaling.type == ROPE_SCALING_FACTORS) {
        return err_set(err, ERR_UNSUPPORTED,
                       "this GGUF file keeps its rope scaling as factors, which config.json cannot "
                       "say; import the model as safetensors");
    }
    return 0;
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

static json_t *llama_config(const struct merge *m)
{
    const struct model_config *c = model_files_config(m->base);
    json_t *config = json_pack(
        "{s:[s], s:s, s:s, s:s, s:b, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b}",
        "architectures", "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu",
        "torch_dtype", type_name(m), "attention_bias", (int)c->attention_bias, "mlp_bias",
        (int)c->mlp_bias, "hidden_size", (int)c->hidden, "intermediate_size", (int)c->ffn,
        "num_hidden_layers", (int)c->n_layers, "num_attention_heads", (int)c->n_heads,
        "num_key_value_heads", (int)c->n_kv_heads, "head_dim", (int)c->head_dim, "vocab_size",
        (int)c->vocab, "max_position_embeddings", (int)c->context_length, "rms_norm_eps",
        c->rms_eps, "rope_theta", c->rope_theta, "tie_word_embeddings", (int)c->tied_embeddings);
    if (config != NULL && c->bos_id >= 0) {
        (void)json_object_set_new(config, "bos_token_id", json_integer(c->bos_id));
    }
    if (config != NULL && c->n_eos > 0) {
        (void)json_object_set_new(config, "eos_token_id", eos_of(c));
    }
    if (config != NULL && c->rope_scaling.type == ROPE_SCALING_LINEAR) {
        (void)json_object_set_new(
            config, "rope_scaling",
            json_pack("{s:s, s:f}", "rope_type", "linear", "factor", c->rope_scaling.factor));
    }
    return config;
}

static int make_companions(const struct merge *m, const char *dir, struct err *err)
{
    const struct model_config *c = model_files_config(m->base);
    json_t *config = llama_config(m);
    int rc = config != NULL ? write_json(dir, "config.json", config, err)
                            : mem_err(err, MODEL_JSON_BYTES_MAX);
    json_decref(config);
    return rc == 0 ? merge_write_tokenizer(model_files_gguf(m->base), c, dir, err) : rc;
}

int merge_check_supported(const struct merge *m, struct err *err)
{
    const struct model_config *c = model_files_config(m->base);
    if (c->family->fused) {
        return err_set(err, ERR_UNSUPPORTED,
                       "%s models keep q, k and v in one matrix, which is not written here",
                       c->arch);
    }
    return model_files_container(m->base) == MODEL_GGUF ? check_counterpart(c, err) : 0;
}

int merge_write_companions(const struct merge *m, const char *dir, struct err *err)
{
    const bool gguf = model_files_container(m->base) == MODEL_GGUF;
    const char *template = m->manifest.chat_template != NULL ? m->manifest.chat_template
                                                             : model_files_chat_template(m->base);
    char path[FS_PATH_BYTES_MAX];
    int rc = gguf ? make_companions(m, dir, err) : copy_companions(m, dir, err);
    if (rc == 0 && template != NULL) {
        rc = fs_join(path, dir, "chat_template.jinja", err);
        rc = rc == 0 ? fs_write_file(path, template, strlen(template), err) : rc;
    }
    return rc;
}
