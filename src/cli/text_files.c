/* Which kind a file is, is read from its beginning and its name; a folder is looked through by the
 * names that Hugging Face gives. */
#include "cli/text_files.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/tokenizer_files.h"
#include "formats/gguf.h"
#include "formats/model_files.h"
#include "text/template.h"

enum { HEAD_BYTES = 4 };

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text);
    const size_t m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int keep(char **out, const char *text, size_t n, struct err *err)
{
    mem_free(*out);
    *out = mem_strndup(text, n);
    return *out != NULL ? 0 : mem_err(err, n);
}

static int keep_template(struct text_files *files, const char *text, size_t n, struct err *err)
{
    files->template_bytes = n;
    return keep(&files->template_source, text, n, err);
}

/* The text of a special token that no config file spelled. */
static int keep_token(struct text_files *files, char **out, int32_t id, struct err *err)
{
    size_t n;
    if (*out != NULL || files->tokenizer == NULL || id < 0) {
        return 0;
    }
    const char *text = tokenizer_piece(files->tokenizer, id, &n);
    return keep(out, text, n, err);
}

static int keep_tokens(struct text_files *files, struct err *err)
{
    if (files->tokenizer == NULL) {
        return 0;
    }
    const int rc = keep_token(files, &files->bos, tokenizer_bos(files->tokenizer), err);
    return rc == 0 ? keep_token(files, &files->eos, tokenizer_eos(files->tokenizer), err) : rc;
}

/* --- one kind each ------------------------------------------------------------------------------
 */

static int from_parsed_gguf(struct text_files *files, const struct gguf *gguf, struct err *err)
{
    static const char key[] = "tokenizer.chat_template";
    static const char tool_key[] = "tokenizer.chat_template.tool_use";
    const char *text;
    size_t n;
    int rc = tokenizer_from_gguf(gguf, &files->tokenizer, err);
    if (rc == 0 && gguf_has(gguf, key)) {
        rc = gguf_get_string(gguf, key, &text, &n, err);
        rc = rc == 0 ? keep_template(files, text, n, err) : rc;
    }
    if (rc == 0 && gguf_has(gguf, tool_key)) {
        rc = gguf_get_string(gguf, tool_key, &text, &n, err);
        rc = rc == 0 ? keep(&files->tool_template, text, n, err) : rc;
    }
    return rc;
}

static int from_gguf(struct text_files *files, const char *path, struct err *err)
{
    struct gguf *gguf = NULL;
    int rc = gguf_open(path, &gguf, err);
    if (rc == 0) {
        rc = from_parsed_gguf(files, gguf, err);
    }
    gguf_free(gguf);
    return rc;
}

/* "chat_template": a string, or [{"name": …, "template": …}, …] with one of this name. */
static const json_t *find_template(const json_t *config, const char *wanted)
{
    const json_t *value = json_object_get(config, "chat_template");
    size_t i;
    const json_t *item;
    if (!json_is_array(value)) {
        return strcmp(wanted, "default") == 0 ? value : NULL;
    }
    json_array_foreach(value, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name != NULL && strcmp(name, wanted) == 0) {
            return json_object_get(item, "template");
        }
    }
    return NULL;
}

/* A token is its text, or an object with it as "content". */
static int config_token(const json_t *config, const char *key, char **out, struct err *err)
{
    const json_t *value = json_object_get(config, key);
    value = json_is_object(value) ? json_object_get(value, "content") : value;
    return json_is_string(value)
               ? keep(out, json_string_value(value), json_string_length(value), err)
               : 0;
}

static int from_config(struct text_files *files, const json_t *config, struct err *err)
{
    const json_t *source = find_template(config, "default");
    const json_t *with_tools = find_template(config, "tool_use");
    int rc = config_token(config, "bos_token", &files->bos, err);
    rc = rc == 0 ? config_token(config, "eos_token", &files->eos, err) : rc;
    if (rc == 0 && json_is_string(source) && files->template_source == NULL) {
        rc = keep_template(files, json_string_value(source), json_string_length(source), err);
        if (rc == 0 && json_is_string(with_tools)) {
            rc = keep(&files->tool_template, json_string_value(with_tools),
                      json_string_length(with_tools), err);
        }
    }
    return rc;
}

static int from_tokenizer_json(struct text_files *files, const char *path, struct err *err)
{
    struct buf text;
    buf_init(&text, TOKENIZER_JSON_BYTES_MAX);
    int rc = fs_read_file(path, TOKENIZER_JSON_BYTES_MAX, &text, err);
    if (rc == 0) {
        rc = tokenizer_from_json(&files->tokenizer, text.data != NULL ? text.data : "", text.len,
                                 err);
    }
    buf_release(&text);
    return rc;
}

/* A JSON file that may be missing: *tree is NULL then. */
static int optional_json(const char *dir, const char *name, json_t **tree, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    const int rc = fs_join(path, dir, name, err);
    if (rc != 0 || !fs_exists(path)) {
        return rc;
    }
    *tree = json_parse_file(path, MODEL_TOKENIZER_CONFIG_BYTES_MAX, err);
    return *tree != NULL ? 0 : -(int)err->code;
}

static int from_sentencepiece(struct text_files *files, const char *dir, const char *path,
                              struct err *err)
{
    json_t *config = NULL;
    json_t *added = NULL;
    int rc = optional_json(dir, "tokenizer_config.json", &config, err);
    rc = rc == 0 ? optional_json(dir, "added_tokens.json", &added, err) : rc;
    rc = rc == 0 ? tokenizer_from_sentencepiece(path, config, added, &files->tokenizer, err) : rc;
    json_decref(config);
    json_decref(added);
    return rc;
}

static int from_json(struct text_files *files, const char *path, struct err *err)
{
    const char *slash = strrchr(path, '/');
    if (strcmp(slash != NULL ? slash + 1 : path, "tokenizer.json") == 0) {
        return from_tokenizer_json(files, path, err);
    }
    json_t *tree = json_parse_file(path, MODEL_TOKENIZER_CONFIG_BYTES_MAX, err);
    if (tree == NULL) {
        return -(int)err->code;
    }
    const int rc = from_config(files, tree, err);
    json_decref(tree);
    return rc;
}

static int from_source(struct text_files *files, const char *path, struct err *err)
{
    struct buf text;
    buf_init(&text, TEMPLATE_SOURCE_BYTES_MAX);
    int rc = fs_read_file(path, TEMPLATE_SOURCE_BYTES_MAX, &text, err);
    if (rc == 0) {
        rc = keep_template(files, text.data != NULL ? text.data : "", text.len, err);
    }
    buf_release(&text);
    return rc;
}

/* A folder that holds nothing but weights: the model's own reader knows which file it is. */
static int from_weights(struct text_files *files, const char *path, struct err *err)
{
    struct model_files *model = NULL;
    int rc = model_files_open(path, &model, err);
    if (rc == 0 && model_files_gguf(model) != NULL) {
        rc = from_parsed_gguf(files, model_files_gguf(model), err);
    }
    model_files_free(model);
    return rc;
}

static int from_folder(struct text_files *files, const char *dir, struct err *err)
{
    char tokenizer[FS_PATH_BYTES_MAX];
    char pieces[FS_PATH_BYTES_MAX];
    char source[FS_PATH_BYTES_MAX];
    char config[FS_PATH_BYTES_MAX];
    int rc = fs_join(tokenizer, dir, "tokenizer.json", err);
    rc = rc == 0 ? fs_join(pieces, dir, "tokenizer.model", err) : rc;
    rc = rc == 0 ? fs_join(source, dir, "chat_template.jinja", err) : rc;
    rc = rc == 0 ? fs_join(config, dir, "tokenizer_config.json", err) : rc;
    if (rc == 0 && !fs_exists(tokenizer) && !fs_exists(pieces) && !fs_exists(source) &&
        !fs_exists(config)) {
        return from_weights(files, dir, err);
    }
    if (rc == 0 && fs_exists(tokenizer)) {
        rc = from_tokenizer_json(files, tokenizer, err);
    } else if (rc == 0 && fs_exists(pieces)) {
        rc = from_sentencepiece(files, dir, pieces, err);
    }
    if (rc == 0 && fs_exists(source)) {
        rc = from_source(files, source, err);
    }
    if (rc == 0 && fs_exists(config)) {
        rc = from_json(files, config, err);
    }
    return rc;
}

/* --- which kind ---------------------------------------------------------------------------------
 */

static bool is_gguf(const char *path)
{
    char head[HEAD_BYTES] = {0};
    FILE *file = fopen(path, "rbe");
    if (file == NULL) {
        return false;
    }
    const bool is =
        fread(head, 1, sizeof head, file) == sizeof head && memcmp(head, "GGUF", sizeof head) == 0;
    fclose(file);
    return is;
}

/* The folder that a file is in. */
static void folder_of(const char *path, char dir[FS_PATH_BYTES_MAX])
{
    const char *slash = strrchr(path, '/');
    snprintf(dir, FS_PATH_BYTES_MAX, "%.*s", slash != NULL ? (int)(slash - path) : 1,
             slash != NULL ? path : ".");
}

int text_files_open(struct text_files *files, const char *path, struct err *err)
{
    char dir[FS_PATH_BYTES_MAX];
    memset(files, 0, sizeof *files);
    if (!fs_exists(path)) {
        return err_set(err, ERR_NOT_FOUND, "there is no file '%s'", path);
    }
    int rc;
    if (fs_is_dir(path)) {
        rc = from_folder(files, path, err);
    } else if (is_gguf(path) || ends_with(path, ".gguf")) {
        rc = from_gguf(files, path, err);
    } else if (ends_with(path, ".safetensors")) {
        folder_of(path, dir);
        rc = from_folder(files, dir, err);
    } else if (ends_with(path, ".model")) {
        folder_of(path, dir);
        rc = from_sentencepiece(files, dir, path, err);
    } else if (ends_with(path, ".json")) {
        rc = from_json(files, path, err);
    } else {
        rc = from_source(files, path, err);
    }
    if (rc == 0) {
        rc = keep_tokens(files, err);
    }
    if (rc != 0) {
        text_files_release(files);
    }
    return rc;
}

void text_files_release(struct text_files *files)
{
    tokenizer_free(files->tokenizer);
    mem_free(files->template_source);
    mem_free(files->tool_template);
    mem_free(files->bos);
    mem_free(files->eos);
    memset(files, 0, sizeof *files);
}

int read_whole(const char *path, struct buf *out, struct err *err)
{
    char chunk[1 << 14];
    size_t n;
    if (strcmp(path, "-") != 0) {
        return fs_read_file(path, out->bytes_max, out, err);
    }
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0) {
        buf_append(out, chunk, n);
    }
    return buf_check(out, "standard input", err);
}
