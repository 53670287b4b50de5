/* What stands beside the weights. Of a safetensors folder the files are copied, config.json with
 * the type that the weights have now; of a GGUF file they are written from its metadata. */
#include <string.h>

#include "base/json.h"
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
    return m->type == MERGE_F32 ? "float32" : m->type == MERGE_F16 ? "float16" : "bfloat16";
}

/* --- config.json ------------------------------------------------------------------------------ */

static bool is_affine(const struct merge_out *out)
{
    return out->way == MERGE_AFFINE || out->way == MERGE_REPACK || out->way == MERGE_AFFINE_COPY;
}

static json_t *grid(const struct merge_out *out)
{
    return json_pack("{s:i, s:i}", "group_size", (int)out->group, "bits", out->bits);
}

/* {"group_size", "bits"} of the layers, and by name what differs from them. */
static json_t *quantization(const struct merge *m)
{
    const struct merge_out *most = NULL;
    for (size_t i = 0; i < m->n_outs; i++) {
        const bool layer = strncmp(m->outs[i].name, "model.layers.", 13) == 0;
        if (is_affine(&m->outs[i]) && (most == NULL || (layer && most->bits != m->spec->bits))) {
            most = &m->outs[i];
        }
    }
    json_t *object = most != NULL ? grid(most) : NULL;
    for (size_t i = 0; i < m->n_outs && object != NULL; i++) {
        const struct merge_out *out = &m->outs[i];
        char stem[MERGE_NAME_BYTES];
        if (is_affine(out) && (out->bits != most->bits || out->group != most->group)) {
            (void)snprintf(stem, sizeof stem, "%.*s", (int)strlen(out->name) - 7, out->name);
            (void)json_object_set_new(object, stem, grid(out));
        }
    }
    return object;
}

static int write_config(const struct merge *m, json_t *config, const char *dir, struct err *err)
{
    static const char *const stale[] = {"quantization", "quantization_config", "dtype"};
    json_t *object = m->spec->format == MERGE_MLX && m->spec->bits > 0 ? quantization(m) : NULL;
    for (size_t i = 0; i < sizeof stale / sizeof stale[0]; i++) {
        (void)json_object_del(config, stale[i]);
    }
    int rc = json_object_set_new(config, "torch_dtype", json_string(type_name(m))) == 0
                 ? 0
                 : mem_err(err, MODEL_JSON_BYTES_MAX);
    if (object != NULL) { /* both names, as mlx-lm writes them */
        (void)json_object_set(config, "quantization", object);
        (void)json_object_set(config, "quantization_config", object);
    }
    json_decref(object);
    return rc == 0 ? write_json(dir, "config.json", config, err) : rc;
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

/* A text model inside a larger one becomes a model of its own, under its own names: its numbers are
 * written anew, since the inner object leaves many to the outer one's defaults. */
static json_t *config_of(const struct merge *m, const char *from, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    const int rc = fs_join(path, from, "config.json", err);
    json_t *config = rc == 0 ? json_parse_file(path, MODEL_JSON_BYTES_MAX, err) : NULL;
    if (config == NULL || json_object_get(config, "text_config") == NULL) {
        return config;
    }
    json_decref(config);
    return merge_config_json(m, err);
}

static int copy_companions(const struct merge *m, const char *dir, struct err *err)
{
    char from[FS_PATH_BYTES_MAX], source[FS_PATH_BYTES_MAX], dest[FS_PATH_BYTES_MAX];
    int rc = base_dir(m, from, err);
    json_t *config = rc == 0 ? config_of(m, from, err) : NULL;
    if (config == NULL) {
        return rc != 0 ? rc : -(int)err->code;
    }
    rc = write_config(m, config, dir, err);
    json_decref(config);
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

static int write_generation(const json_t *config, const char *dir, struct err *err)
{
    static const char *const keys[] = {"bos_token_id", "eos_token_id"};
    json_t *object = json_object();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = json_object_get(config, keys[i]);
        if (value != NULL && !json_is_null(value)) {
            (void)json_object_set(object, keys[i], value);
        }
    }
    const int rc = write_json(dir, "generation_config.json", object, err);
    json_decref(object);
    return rc;
}

static int make_companions(const struct merge *m, const char *template, const char *dir,
                           struct err *err)
{
    json_t *config = merge_config_json(m, err);
    if (config == NULL) {
        return -(int)err->code;
    }
    int rc = write_generation(config, dir, err);
    rc = rc == 0 ? write_config(m, config, dir, err) : rc;
    json_decref(config);
    return rc == 0 ? merge_write_tokenizer(model_files_gguf(m->base), model_files_config(m->base),
                                           template, dir, err)
                   : rc;
}

int merge_write_companions(const struct merge *merge, const char *dir, struct err *err)
{
    const bool gguf = model_files_container(merge->base) == MODEL_GGUF;
    const char *template = merge->manifest.chat_template != NULL
                               ? merge->manifest.chat_template
                               : model_files_chat_template(merge->base);
    char path[FS_PATH_BYTES_MAX];
    int rc = gguf ? make_companions(merge, template, dir, err) : copy_companions(merge, dir, err);
    if (rc == 0 && template != NULL) {
        rc = fs_join(path, dir, "chat_template.jinja", err);
        rc = rc == 0 ? fs_write_file(path, template, strlen(template), err) : rc;
    }
    return rc;
}
