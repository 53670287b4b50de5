/* Builds GGUF files in memory, right or wrong: every field is written as it is told, so a test can
 * make exactly one of them a lie. A file is header, key-values, tensor records, padding, data. */
#ifndef TESTS_FORMATS_GGUF_BUILDER_H
#define TESTS_FORMATS_GGUF_BUILDER_H

#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "formats/gguf.h"

enum { GGUF_BUILDER_BYTES_MAX = 16 << 20 };

/* The file's numbers of tensor types that the tests use. */
enum {
    FILE_F32 = 0,
    FILE_F16 = 1,
    FILE_Q4_0 = 2,
    FILE_Q4_1 = 3,
    FILE_Q8_0 = 8,
    FILE_Q2_K = 10,
    FILE_IQ2_XS = 17
};

static inline void put_u32(struct buf *out, uint32_t value)
{
    uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                        (uint8_t)(value >> 24)};
    buf_append(out, bytes, sizeof bytes);
}

static inline void put_u64(struct buf *out, uint64_t value)
{
    put_u32(out, (uint32_t)value);
    put_u32(out, (uint32_t)(value >> 32));
}

static inline void put_f32(struct buf *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u32(out, bits);
}

static inline void put_string_n(struct buf *out, const char *text, size_t length)
{
    put_u64(out, length);
    buf_append(out, text, length);
}

static inline void put_string(struct buf *out, const char *text)
{
    put_string_n(out, text, strlen(text));
}

static inline void put_header(struct buf *out, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    buf_append(out, "GGUF", 4);
    put_u32(out, version);
    put_u64(out, n_tensors);
    put_u64(out, n_kv);
}

/* A key and the type of the value that the caller writes next. */
static inline void put_key(struct buf *out, const char *key, uint32_t type)
{
    put_string(out, key);
    put_u32(out, type);
}

static inline void put_kv_u32(struct buf *out, const char *key, uint32_t value)
{
    put_key(out, key, GGUF_U32);
    put_u32(out, value);
}

static inline void put_kv_f32(struct buf *out, const char *key, float value)
{
    put_key(out, key, GGUF_F32);
    put_f32(out, value);
}

static inline void put_kv_string(struct buf *out, const char *key, const char *text)
{
    put_key(out, key, GGUF_STRING);
    put_string(out, text);
}

static inline void put_kv_array(struct buf *out, const char *key, uint32_t item_type,
                                uint64_t count)
{
    put_key(out, key, GGUF_ARRAY);
    put_u32(out, item_type);
    put_u64(out, count);
}

/* dims in the file's order: innermost first. */
static inline void put_tensor(struct buf *out, const char *name, uint32_t n_dims,
                              const uint64_t *dims, uint32_t type, uint64_t offset)
{
    put_string(out, name);
    put_u32(out, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        put_u64(out, dims[i]);
    put_u32(out, type);
    put_u64(out, offset);
}

static inline void put_padding(struct buf *out, size_t alignment)
{
    while (out->failed == ERR_NONE && out->len % alignment != 0)
        buf_putc(out, '\0');
}

/* n bytes of data that differ from each other. */
static inline void put_data(struct buf *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_putc(out, (char)(i * 7));
}

#endif
