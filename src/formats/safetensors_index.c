/* Several files and their index.
 *
 * The index maps tensor names to file names; the files lie beside it. Each shard is opened as a
 * file of its own and owns its names and bytes; what is presented is the union that weight_map
 * spells out. A shard's name must be a plain file name: an index from outside must not reach
 * elsewhere on the disk. (The file may itself be a symbolic link, as in a Hugging Face cache.)
 */
#include <stdlib.h>
#include <string.h>

#include "formats/path.h"
#include "formats/safetensors_private.h"
#include "formats/strict_json.h"

static bool plain_name(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

/* The shard called name, opening it when it is met for the first time. */
static int shard_of(struct safetensors *file, struct name_index *shard_names, const char *dir,
                    const char *name, const struct safetensors **shard, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int32_t id = name_index_find(shard_names, name);
    if (id != NAME_INDEX_NONE) {
        *shard = file->shards[id];
        return 0;
    }
    if (!plain_name(name))
        return err_set(err, ERR_CORRUPT, "shard '%.200s' is not a plain file name", name);
    if (file->n_shards == SAFETENSORS_SHARDS_MAX)
        return err_set(err, ERR_CORRUPT, "count too large: more than %d shards",
                       SAFETENSORS_SHARDS_MAX);
    int rc = fs_join(path, dir, name, err);
    if (rc != 0 || (rc = safetensors_open_file(path, &file->shards[file->n_shards], err)) != 0)
        return rc;
    (void)name_index_add(shard_names, name, (int32_t)file->n_shards);
    *shard = file->shards[file->n_shards++];
    file->file_bytes += (*shard)->file_bytes;
    return 0;
}

static int collect(struct safetensors *file, struct name_index *shard_names, const char *dir,
                   json_t *weight_map, struct err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(weight_map, name, value)
    {
        const struct safetensors *shard = NULL;
        const char *shard_name = json_string_value(value);
        if (!shard_name)
            return err_set(err, ERR_CORRUPT, "weight_map of '%.200s' is not a string", name);
        int rc = shard_of(file, shard_names, dir, shard_name, &shard, err);
        if (rc != 0)
            return rc;
        const struct tensor_view *view = safetensors_tensor(shard, name);
        if (!view)
            return err_set(err, ERR_CORRUPT, "missing tensors: '%.200s' is not in shard '%.200s'",
                           name, shard_name);
        file->tensors[file->n_tensors++] = *view;
    }
    return safetensors_index_names(file, err);
}

int safetensors_open_index(const char *path, struct safetensors *file, struct err *err)
{
    char dir[FS_PATH_BYTES_MAX];
    const char *name;
    json_t *root = NULL;
    struct name_index shard_names = {0};
    int rc = path_split(path, dir, &name, err);
    if (rc != 0)
        return rc;
    rc = strict_json_file(dir, name, SAFETENSORS_INDEX_BYTES_MAX, false, &root, err);
    if (rc != 0)
        return rc;
    json_t *weight_map = json_object_get(root, "weight_map");
    size_t n = json_object_size(weight_map);
    if (n == 0 || n > SAFETENSORS_TENSORS_MAX) {
        rc =
            err_set(err, ERR_CORRUPT, "\"weight_map\" is missing, or has not 1 to %d entries (%zu)",
                    SAFETENSORS_TENSORS_MAX, n);
        goto out;
    }
    file->tensors = mem_calloc(n, sizeof *file->tensors);
    file->shards = mem_calloc(SAFETENSORS_SHARDS_MAX, sizeof *file->shards);
    if (!file->tensors || !file->shards) {
        rc = mem_err(err, n * sizeof *file->tensors);
        goto out;
    }
    rc = name_index_init(&shard_names, SAFETENSORS_SHARDS_MAX, err);
    if (rc == 0)
        rc = collect(file, &shard_names, dir, weight_map, err);
out:
    name_index_release(&shard_names);
    json_decref(root);
    return rc;
}
