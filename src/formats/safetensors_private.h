/* The parsed form shared by the two readers. Private to safetensors*.c.
 */
#ifndef FORMATS_SAFETENSORS_PRIVATE_H
#define FORMATS_SAFETENSORS_PRIVATE_H

#include "base/fs.h"
#include "base/mem.h"
#include "formats/name_index.h"
#include "formats/safetensors.h"

struct safetensors {
    struct fs_map map;           /* empty for borrowed bytes and for an index */
    struct safetensors **shards; /* an index: its files, which own names and bytes */
    size_t n_shards;
    struct arena arena; /* names and metadata */
    struct tensor_view *tensors;
    size_t n_tensors;
    struct name_index index;
    struct safetensors_kv *metadata;
    size_t n_metadata;
    uint64_t file_bytes;
};

/* As safetensors_open, for one file whatever its name. */
int safetensors_open_file(const char *path, struct safetensors **file, struct err *err) MUST_CHECK;
/* Opens the shards that the index at path names. */
int safetensors_open_index(const char *path, struct safetensors *file, struct err *err) MUST_CHECK;
/* Sorts file->tensors[0..n_tensors) by name and fills file->index. */
int safetensors_index_names(struct safetensors *file, struct err *err) MUST_CHECK;

#endif
