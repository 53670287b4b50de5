/* Opening: find out what the path is, read its config, collect its tensors, check them.
 *
 *     path ── folder ──┬─ config.json ────────── open_dir ──┐
 *          │           └─ one *.gguf ──── open_gguf ──┐     │
 *          ├─ file "GGUF…" ─────────────── open_gguf ─┤     │
 *          └─ other file ─ its folder ────── open_dir ┼─────┤
 *                                                     └──── finish: collect, check
 *
 * A file is known by its content first: in the blob store it has a hash for a name.
 */
#include "formats/model_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "formats/gguf_config.h"
#include "formats/hf_config.h"
#include "formats/model_private.h"
#include "formats/path.h"
#include "formats/strict_json.h"

static const char weights_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

static bool ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && memcmp(text + n - m, suffix, m) == 0;
}

static int finish(struct model_files *files, struct err *err)
{
    int rc = model_tensors_collect(files, err);
    return rc != 0 ? rc : model_tensors_check(files, err);
}

static int open_gguf(struct model_files *files, const char *path, struct err *err)
{
    files->container = MODEL_GGUF;
    int rc = gguf_open(path, &files->gguf, err);
    if (rc != 0)
        return rc;
    if ((rc = gguf_config_read(files->gguf, &files->config, err)) != 0 ||
        (rc = model_text_from_gguf(files, err)) != 0 || (rc = finish(files, err)) != 0)
        err_prefix(err, "%s", path);
    return rc;
}

/* Which weight file a folder has. */
static int find_weights(const char *dir, char path[FS_PATH_BYTES_MAX], struct err *err)
{
    int rc = fs_join(path, dir, index_name, err);
    if (rc != 0 || fs_exists(path))
        return rc;
    if ((rc = fs_join(path, dir, weights_name, err)) != 0 || fs_exists(path))
        return rc;
    return err_set(err, ERR_NOT_FOUND, "%s: neither %s nor %s is there", dir, weights_name,
                   index_name);
}

static int read_dir_config(struct model_files *files, const char *dir, struct err *err)
{
    json_t *root = NULL, *generation = NULL;
    int rc;
    if ((rc = strict_json_file(dir, "config.json", MODEL_JSON_BYTES_MAX, false, &root, err)) != 0 ||
        (rc = strict_json_file(dir, "generation_config.json", MODEL_JSON_BYTES_MAX, true,
                               &generation, err)) != 0)
        goto out;
    rc = hf_config_read(root, generation, &files->config, err);
    if (rc != 0)
        err_prefix(err, "%s: config.json", dir);
out:
    json_decref(root);
    json_decref(generation);
    return rc;
}

/* weights NULL: the folder's own. */
static int open_dir(struct model_files *files, const char *dir, const char *weights,
                    struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int rc;
    files->container = MODEL_SAFETENSORS;
    if ((rc = read_dir_config(files, dir, err)) != 0)
        return rc;
    if (!weights) {
        if ((rc = find_weights(dir, path, err)) != 0)
            return rc;
        weights = path;
    }
    if ((rc = safetensors_open(weights, &files->safetensors, err)) != 0)
        return rc;
    if ((rc = finish(files, err)) != 0)
        err_prefix(err, "%s", weights);
    return rc != 0 ? rc : model_text_from_dir(files, dir, err);
}

/* Collects the .gguf files of a folder that has no config.json. */
struct gguf_search {
    char name[256];
    unsigned count;
};

static int visit_entry(void *ctx, const char *name, bool is_dir)
{
    struct gguf_search *search = ctx;
    if (is_dir || !ends_with(name, ".gguf"))
        return 0;
    if (search->count++ == 0)
        (void)snprintf(search->name, sizeof search->name, "%s", name);
    return 0;
}

static int open_folder(struct model_files *files, const char *dir, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    struct gguf_search search = {0};
    int rc = fs_join(path, dir, "config.json", err);
    if (rc != 0)
        return rc;
    if (fs_exists(path))
        return open_dir(files, dir, NULL, err);
    if ((rc = fs_list_dir(dir, visit_entry, &search, err)) != 0)
        return rc;
    if (search.count != 1)
        return err_set(err, ERR_NOT_FOUND,
                       "%s: no model: no config.json, and %u .gguf files where one is expected",
                       dir, search.count);
    rc = fs_join(path, dir, search.name, err);
    return rc != 0 ? rc : open_gguf(files, path, err);
}

static int open_file(struct model_files *files, const char *path, struct err *err)
{
    char dir[FS_PATH_BYTES_MAX];
    const char *name;
    struct fs_map map = {0};
    int rc = fs_map_open(&map, path, err);
    if (rc != 0)
        return rc;
    bool magic =
        map.size >= 4 && (memcmp(map.data, "GGUF", 4) == 0 || memcmp(map.data, "FUGG", 4) == 0);
    /* a safetensors header begins with '{' behind its length; an index is JSON from the start */
    bool json = (map.size > 8 && map.data[8] == '{') || ends_with(path, ".index.json") ||
                ends_with(path, ".safetensors");
    fs_map_close(&map);
    if (magic || ends_with(path, ".gguf"))
        return open_gguf(files, path, err);
    if (!json)
        return err_set(err, ERR_CORRUPT, "wrong magic: %s is neither a GGUF nor a safetensors file",
                       path);
    rc = path_split(path, dir, &name, err);
    return rc != 0 ? rc : open_dir(files, dir, path, err);
}

int model_files_open(const char *path, struct model_files **out, struct err *err)
{
    struct model_files *files = mem_calloc(1, sizeof *files);
    if (!files)
        return mem_err(err, sizeof *files);
    arena_init(&files->arena, 0);
    int rc = fs_is_dir(path) ? open_folder(files, path, err) : open_file(files, path, err);
    if (rc != 0) {
        model_files_free(files);
        return rc;
    }
    *out = files;
    return 0;
}

void model_files_free(struct model_files *files)
{
    if (!files)
        return;
    gguf_free(files->gguf);
    safetensors_free(files->safetensors);
    name_index_release(&files->index);
    mem_free(files->tensors);
    json_decref(files->tokenizer_config);
    json_decref(files->added_tokens);
    arena_release(&files->arena);
    mem_free(files);
}

enum model_container model_files_container(const struct model_files *files)
{
    return files->container;
}

const struct model_config *model_files_config(const struct model_files *files)
{
    return &files->config;
}

size_t model_files_tensor_count(const struct model_files *files)
{
    return files->n_tensors;
}

const struct tensor_view *model_files_tensor_at(const struct model_files *files, size_t i)
{
    return &files->tensors[i];
}

const struct tensor_view *model_files_tensor(const struct model_files *files, const char *name)
{
    int32_t id = name_index_find(&files->index, name);
    return id == NAME_INDEX_NONE ? NULL : &files->tensors[id];
}

const struct tensor_view *model_files_layer_tensor(const struct model_files *files, uint32_t layer,
                                                   const char *part)
{
    char name[MODEL_TENSOR_NAME_BYTES];
    int n = snprintf(name, sizeof name, "model.layers.%" PRIu32 ".%s", layer, part);
    return n > 0 && (size_t)n < sizeof name ? model_files_tensor(files, name) : NULL;
}

bool model_files_rope_permuted(const struct model_files *files)
{
    return files->container == MODEL_GGUF && files->config.family->gguf_permuted;
}

uint32_t model_rope_gguf_row(uint32_t row, uint32_t head_dim)
{
    uint32_t in_head = row % head_dim, half = head_dim / 2;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}

uint64_t model_files_weight_bytes(const struct model_files *files)
{
    return files->weight_bytes;
}

uint64_t model_files_parameters(const struct model_files *files)
{
    return files->parameters;
}

uint64_t model_files_file_bytes(const struct model_files *files)
{
    return files->container == MODEL_GGUF ? gguf_file_bytes(files->gguf)
                                          : safetensors_file_bytes(files->safetensors);
}

const char *model_files_quantisation(const struct model_files *files)
{
    return tensor_type_name(files->quantisation);
}

const char *model_files_chat_template(const struct model_files *files)
{
    return files->chat_template;
}

const char *model_files_tool_template(const struct model_files *files)
{
    return files->tool_template;
}

const struct gguf *model_files_gguf(const struct model_files *files)
{
    return files->gguf;
}

const char *model_files_tokenizer_path(const struct model_files *files)
{
    return files->tokenizer_path;
}

const char *model_files_sentencepiece_path(const struct model_files *files)
{
    return files->sentencepiece_path;
}

const json_t *model_files_added_tokens(const struct model_files *files)
{
    return files->added_tokens;
}

const json_t *model_files_tokenizer_config(const struct model_files *files)
{
    return files->tokenizer_config;
}
