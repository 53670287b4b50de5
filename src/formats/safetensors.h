/* safetensors: read (one file, or several with an index) and write.
 *
 * A file is a u64 little-endian header length, that many bytes of JSON, then the tensors' bytes.
 * Reading maps the files read-only and checks everything at open: offsets in order and inside the
 * file, no overlap, no hole, sizes that agree with type and shape. Names, strings and views are
 * borrowed until safetensors_free; read-only after open, so any number of threads may read.
 * A malformed file is ERR_CORRUPT, a type without a reader or more than four dimensions is
 * ERR_UNSUPPORTED. (The format allows a zero dimension; no weight has one, so it is refused.)
 */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"
#include "formats/tensor_view.h"

enum {
    SAFETENSORS_TENSORS_MAX = 65536,
    SAFETENSORS_METADATA_MAX = 4096,
    SAFETENSORS_HEADER_BYTES_MAX = 100 << 20, /* as the reference implementation */
    SAFETENSORS_INDEX_BYTES_MAX = 64 << 20,
    SAFETENSORS_SHARDS_MAX = 1024,
    SAFETENSORS_NAME_BYTES_MAX = 1024,
};

/* One entry of "__metadata__". */
struct safetensors_kv {
    const char *key;
    const char *value;
};

struct safetensors;

/* path is a .safetensors file, or an index (….index.json): then the shards lie beside it and the
 * tensors are those of its weight_map, each of which must be in the shard it names. */
int safetensors_open(const char *path, struct safetensors **file, struct err *err) MUST_CHECK;
/* One file from bytes that the caller keeps until safetensors_free. */
int safetensors_parse(const void *data, size_t size, struct safetensors **file,
                      struct err *err) MUST_CHECK;
void safetensors_free(struct safetensors *file); /* NULL is fine */

/* Tensors sorted by name (byte values). */
size_t safetensors_tensor_count(const struct safetensors *file);
const struct tensor_view *safetensors_tensor_at(const struct safetensors *file, size_t i);
const struct tensor_view *safetensors_tensor(const struct safetensors *file, const char *name);
/* The metadata map, in the header's order; of an index: empty. */
size_t safetensors_metadata_count(const struct safetensors *file);
struct safetensors_kv safetensors_metadata_at(const struct safetensors *file, size_t i);
const char *safetensors_metadata(const struct safetensors *file, const char *key); /* or NULL */
/* Size of all mapped files together. */
uint64_t safetensors_file_bytes(const struct safetensors *file);

/* Writes views[0..n) and the metadata (n_metadata may be 0) to path: temp file, fsync, rename.
 * The bytes depend only on the arguments' values, not on their order: "__metadata__" first with its
 * keys sorted, then the tensors' entries sorted by name; data lies in order of element size (wide
 * first) and name, so every tensor is aligned; the header is padded with spaces to a multiple of 8.
 * Only plain types: a quantised one is ERR_UNSUPPORTED. Duplicate names or keys, a view whose bytes
 * do not fit its shape and strings that are not UTF-8 are ERR_INVALID or ERR_CORRUPT, and nothing
 * is written. */
int safetensors_write(const char *path, const struct tensor_view *views, size_t n,
                      const struct safetensors_kv *metadata, size_t n_metadata,
                      struct err *err) MUST_CHECK;

/* The beginning of a file whose tensors' bytes the caller writes itself, in the order of views and
 * without gaps (fs_writer_write), and then publishes: for more than memory holds. The views' data
 * is not looked at. Keep wide elements before narrow ones where readers map tensors in place.
 * Errors as safetensors_write; file is open only after success. */
int safetensors_write_head(struct fs_writer *file, const char *path,
                           const struct tensor_view *views, size_t n,
                           const struct safetensors_kv *metadata, size_t n_metadata,
                           struct err *err) MUST_CHECK;

#endif
