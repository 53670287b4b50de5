/* What a model says about its text: the chat template and where the tokenizer is. Nothing here
 * interprets it; that is the text room's work. */
#include <inttypes.h>
#include <string.h>

#include "base/fs.h"
#include "base/utf8.h"
#include "formats/model_private.h"
#include "formats/strict_json.h"

static const char template_key[] = "tokenizer.chat_template";
static const char tool_template_key[] = "tokenizer.chat_template.tool_use";

static int keep_template(struct model_files *files, const char *text, size_t length,
                         const char **out, struct err *err)
{
    if (length > MODEL_TEMPLATE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE,
                       "the chat template has %zu bytes, at most %d are allowed", length,
                       MODEL_TEMPLATE_BYTES_MAX);
    if (memchr(text, 0, length) || !utf8_valid(text, length))
        return err_set(err, ERR_CORRUPT, "the chat template holds a NUL or invalid UTF-8");
    *out = arena_strndup(&files->arena, text, length);
    return *out ? 0 : mem_err(err, length + 1);
}

static int template_from_gguf(struct model_files *files, const char *key, const char **out,
                              struct err *err)
{
    const char *text = NULL;
    size_t length = 0;
    if (!gguf_has(files->gguf, key))
        return 0;
    int rc = gguf_get_string(files->gguf, key, &text, &length, err);
    return rc != 0 ? rc : keep_template(files, text, length, out, err);
}

int model_text_from_gguf(struct model_files *files, struct err *err)
{
    int rc = template_from_gguf(files, template_key, &files->chat_template, err);
    return rc != 0 ? rc : template_from_gguf(files, tool_template_key, &files->tool_template, err);
}

static int template_from_file(struct model_files *files, const char *path, struct err *err)
{
    struct buf text;
    buf_init(&text, MODEL_TEMPLATE_BYTES_MAX);
    int rc = fs_read_file(path, MODEL_TEMPLATE_BYTES_MAX, &text, err);
    if (rc == 0)
        rc = keep_template(files, text.data ? text.data : "", text.len, &files->chat_template, err);
    buf_release(&text);
    return rc;
}

/* The template of a list [{"name": …, "template": …}, …], or NULL. */
static const json_t *find_named(const json_t *list, const char *wanted)
{
    const json_t *found = NULL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && strcmp(name, wanted) == 0)
            found = json_object_get(item, "template");
    }
    return found;
}

static int keep_json(struct model_files *files, const json_t *value, const char **out,
                     struct err *err)
{
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_string(value))
        return err_set(err, ERR_CORRUPT,
                       "\"chat_template\" of tokenizer_config.json is of the wrong type");
    return keep_template(files, json_string_value(value), json_string_length(value), out, err);
}

/* "chat_template": a string, or a list of named ones. */
static int template_from_config(struct model_files *files, struct err *err)
{
    const json_t *value = json_object_get(files->tokenizer_config, "chat_template");
    if (!json_is_array(value))
        return keep_json(files, value, &files->chat_template, err);
    int rc = keep_json(files, find_named(value, "default"), &files->chat_template, err);
    return rc != 0 ? rc
                   : keep_json(files, find_named(value, "tool_use"), &files->tool_template, err);
}

/* The path of a file where it is there, else NULL. */
static int find_file(struct model_files *files, const char *dir, const char *name, const char **out,
                     struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int rc = fs_join(path, dir, name, err);
    if (rc != 0 || !fs_exists(path))
        return rc;
    *out = arena_strdup(&files->arena, path);
    return *out ? 0 : mem_err(err, strlen(path) + 1);
}

int model_text_from_dir(struct model_files *files, const char *dir, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int rc = find_file(files, dir, "tokenizer.json", &files->tokenizer_path, err);
    if (rc == 0 && !files->tokenizer_path)
        rc = find_file(files, dir, "tokenizer.model", &files->sentencepiece_path, err);
    if (rc == 0 && files->sentencepiece_path)
        rc = strict_json_file(dir, "added_tokens.json", MODEL_TOKENIZER_CONFIG_BYTES_MAX, true,
                              &files->added_tokens, err);
    if (rc != 0 ||
        (rc = strict_json_file(dir, "tokenizer_config.json", MODEL_TOKENIZER_CONFIG_BYTES_MAX, true,
                               &files->tokenizer_config, err)) != 0 ||
        (rc = fs_join(path, dir, "chat_template.jinja", err)) != 0)
        return rc;
    return fs_exists(path) ? template_from_file(files, path, err)
                           : template_from_config(files, err);
}
