/* Kept pages on disk, so that a runner that starts again finds what the last one had computed.
 *
 * One file for each base, cache/<digest>.prefixes, little-endian as memory is:
 *
 *   identity   PREFIX_IDENTITY_BYTES of text, zeros behind it: format, base, numerics, layout
 *   n          u64: blocks that follow, each behind its parent
 *   block      u32 parent (ordinal from 1; 0 = a root), u32 n_tokens, i32 tokens[16],
 *              the root's key (PREFIX_KEY_BYTES), the page (kv_page_bytes)
 *   checksum   SHA-256 in hex of all before it
 *
 * A file that is damaged, or of another base, numerics version or layout, is refused whole and
 * replaced by the next save. Files are published by one rename and hold what was used last, up to a
 * bound of bytes. Belongs to the model's thread.
 */
#ifndef INFER_PREFIX_FILE_H
#define INFER_PREFIX_FILE_H

#include "infer/prefix_cache.h"

enum { PREFIX_IDENTITY_BYTES = 256 };

/* Writes what is kept, most recently used first, as far as bytes_max go. */
int prefix_file_save(struct prefix_cache *cache, const char *path, const char *base_key,
                     uint64_t bytes_max, struct err *err) MUST_CHECK;
/* Puts a file's blocks into the cache, as many as it has room for, in the order of use that they
 * had. ERR_NOT_FOUND when there is no file, ERR_CORRUPT when it is not what it should be: the cache
 * is then as before. */
int prefix_file_load(struct prefix_cache *cache, const char *path, const char *base_key,
                     struct err *err) MUST_CHECK;

#endif
