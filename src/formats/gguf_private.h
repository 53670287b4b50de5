/* What the files of the GGUF reader share: the parsed form, the bounds-checked cursor, and the
 * little-endian loads. Private to gguf*.c.
 */
#ifndef FORMATS_GGUF_PRIVATE_H
#define FORMATS_GGUF_PRIVATE_H

#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/gguf.h"
#include "formats/name_index.h"

struct gguf_kv {
    const char *key; /* in names */
    enum gguf_type type;
    const uint8_t *value;    /* scalars and strings: the first byte; strings: of the text */
    uint64_t length;         /* strings: bytes of the text */
    struct gguf_array array; /* arrays */
    uint32_t *offsets;       /* owned; array.offsets borrows it */
};

struct gguf {
    struct fs_map map; /* empty when the bytes are borrowed */
    const uint8_t *data;
    uint64_t size;
    uint32_t version;
    uint32_t alignment;
    uint64_t data_start; /* where tensor data begins, aligned */
    struct arena names;
    struct gguf_kv *kv;
    size_t n_kv;
    struct name_index kv_index;
    struct tensor_view *tensors;
    uint64_t *offsets; /* of tensors, relative to data_start */
    size_t n_tensors;
    struct name_index tensor_index;
};

/* A position in the file. Every read is refused, with what was being read, when it would run past
 * the end; at ≤ size always. */
struct gguf_cursor {
    const uint8_t *data;
    uint64_t size;
    uint64_t at;
};
int gguf_take(struct gguf_cursor *cursor, uint64_t n, const char *what, const uint8_t **bytes,
              struct err *err) MUST_CHECK;
int gguf_take_u32(struct gguf_cursor *cursor, const char *what, uint32_t *value,
                  struct err *err) MUST_CHECK;
int gguf_take_u64(struct gguf_cursor *cursor, const char *what, uint64_t *value,
                  struct err *err) MUST_CHECK;
/* A length and that many bytes of UTF-8. */
int gguf_take_string(struct gguf_cursor *cursor, const char *what, uint64_t bytes_max,
                     const char **text, uint64_t *length, struct err *err) MUST_CHECK;
/* A string without NULs, not empty, of at most GGUF_NAME_BYTES_MAX, copied into gguf->names. */
int gguf_take_name(struct gguf *gguf, struct gguf_cursor *cursor, const char *what,
                   const char **name, struct err *err) MUST_CHECK;

/* The file's number of a tensor's type; false where it has none. */
bool gguf_type_number(enum tensor_type type, uint32_t *number);

/* Bytes of one item; 0 for strings and arrays. */
uint32_t gguf_type_bytes(enum gguf_type type);

/* The two halves of the header; the cursor stands at the first byte of each. */
int gguf_parse_metadata(struct gguf *gguf, struct gguf_cursor *cursor, uint64_t n_kv,
                        struct err *err) MUST_CHECK;
int gguf_parse_tensors(struct gguf *gguf, struct gguf_cursor *cursor, uint64_t n_tensors,
                       struct err *err) MUST_CHECK;

/* The file is little-endian whatever the machine; these compile to plain loads where it is too. */
static inline uint32_t gguf_load_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static inline uint64_t gguf_load_u64(const uint8_t *bytes)
{
    return (uint64_t)gguf_load_u32(bytes) | (uint64_t)gguf_load_u32(bytes + 4) << 32;
}

#endif
