/* GGUF, version 3, little-endian: what a file says, put together piece by piece.
 *
 *     gguf_writer_init → gguf_put_… (metadata), gguf_add_tensor (records), in any order
 *     → gguf_write_head → for each tensor, in the order of its record: its bytes with
 *     fs_writer_write, then gguf_write_pad → fs_writer_publish
 *
 * Metadata and records are kept in memory, bounded; tensors' bytes pass through the caller, so a
 * file of any size takes little. What does not fit is remembered and told by gguf_write_head. That
 * no key and no tensor comes twice is the caller's care. Keys and names are copied. One thread's.
 */
#ifndef FORMATS_GGUF_WRITE_H
#define FORMATS_GGUF_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "formats/gguf.h"

enum { GGUF_HEAD_BYTES_MAX = 512 << 20 };

struct gguf_writer {
    struct buf metadata, records;
    uint64_t n_kv, n_tensors;
    uint64_t data_bytes; /* of all tensors with their padding */
};

void gguf_writer_init(struct gguf_writer *writer);
void gguf_writer_release(struct gguf_writer *writer);

void gguf_put_u32(struct gguf_writer *writer, const char *key, uint32_t value);
void gguf_put_f32(struct gguf_writer *writer, const char *key, float value);
void gguf_put_bool(struct gguf_writer *writer, const char *key, bool value);
/* length bytes of UTF-8. */
void gguf_put_string(struct gguf_writer *writer, const char *key, const char *text, size_t length);
/* An array of count items, each of which has to be put right behind it by the function of its type;
 * items of I32, F32 and strings. */
void gguf_put_array(struct gguf_writer *writer, const char *key, enum gguf_type type,
                    uint64_t count);
void gguf_put_item_i32(struct gguf_writer *writer, int32_t value);
void gguf_put_item_f32(struct gguf_writer *writer, float value);
void gguf_put_item_string(struct gguf_writer *writer, const char *text, size_t length);
/* Entry i of another file as it is. */
void gguf_put_copy(struct gguf_writer *writer, const struct gguf *from, size_t i);

/* dims as struct tensor_view has them: the last one is contiguous. ERR_UNSUPPORTED for a type that
 * GGUF does not have; ERR_CORRUPT for a shape that does not fit it. */
int gguf_add_tensor(struct gguf_writer *writer, const char *name, enum tensor_type type,
                    const uint64_t *dims, unsigned n_dims, struct err *err) MUST_CHECK;

/* Header, metadata and records, up to where tensors' bytes begin. */
int gguf_write_head(const struct gguf_writer *writer, struct fs_writer *file,
                    struct err *err) MUST_CHECK;
/* Zeros up to the next tensor. */
int gguf_write_pad(struct fs_writer *file, struct err *err) MUST_CHECK;

#endif
