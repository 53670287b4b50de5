/* GGUF, versions 2 and 3, little-endian: a file of metadata and tensors, mapped and never copied.
 *
 * gguf_open maps the file read-only; gguf_parse borrows bytes. Everything is checked before it is
 * believed, at open: after success every string is valid UTF-8 inside the file, every array element
 * is there, every tensor lies inside the file, aligned, overlapping no other, with exactly the
 * bytes its type and shape need. What is handed out (names, strings, views) is borrowed and lives
 * until gguf_free. Read-only after open: any number of threads may read.
 *
 * A malformed file is ERR_CORRUPT; a sound file that we do not read (big-endian, another version,
 * nested arrays, a type without a reader) is ERR_UNSUPPORTED. Parsing costs one pass over the
 * header and O(1) allocations plus one per array of strings; names are copied once, since the
 * file's are not NUL-terminated.
 */
#ifndef FORMATS_GGUF_H
#define FORMATS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "formats/tensor_view.h"

enum {
    GGUF_TENSORS_MAX = 65536,
    GGUF_KV_MAX = 65536,
    GGUF_STRING_BYTES_MAX = 64 << 20,
    GGUF_NAME_BYTES_MAX = 1024, /* of tensor names and metadata keys */
    GGUF_ARRAY_ITEMS_MAX = 1 << 26,
    GGUF_ALIGNMENT_DEFAULT = 32,
    GGUF_ALIGNMENT_MIN = 8,
    GGUF_ALIGNMENT_MAX = 65536,
};

/* The file's own numbers. */
enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
    GGUF_TYPE_COUNT
};

/* An array of metadata, where it lies in the file. Strings are reached by an index built at open.
 */
struct gguf_array {
    enum gguf_type item_type; /* never GGUF_ARRAY */
    uint64_t count;
    const uint8_t *data;     /* the first item */
    const uint32_t *offsets; /* strings only: item i begins at data + offsets[i] */
};

struct gguf;

int gguf_open(const char *path, struct gguf **gguf, struct err *err) MUST_CHECK;
/* As gguf_open on bytes that the caller keeps until gguf_free. */
int gguf_parse(const void *data, size_t size, struct gguf **gguf, struct err *err) MUST_CHECK;
void gguf_free(struct gguf *gguf); /* NULL is fine */

uint32_t gguf_version(const struct gguf *gguf);
uint32_t gguf_alignment(const struct gguf *gguf);
uint64_t gguf_file_bytes(const struct gguf *gguf);

/* --- tensors, in the file's order, named as the file names them --- */
size_t gguf_tensor_count(const struct gguf *gguf);
const struct tensor_view *gguf_tensor_at(const struct gguf *gguf, size_t i);      /* i < count */
const struct tensor_view *gguf_tensor(const struct gguf *gguf, const char *name); /* or NULL */

/* --- metadata ---
 * The getters give ERR_NOT_FOUND "no metadata '<key>'" for a missing key and ERR_CORRUPT naming
 * both types for one of another type; the two never mix. *out is untouched on failure. */
size_t gguf_kv_count(const struct gguf *gguf);
const char *gguf_kv_key(const struct gguf *gguf, size_t i); /* i < count */
enum gguf_type gguf_kv_type(const struct gguf *gguf, size_t i);
bool gguf_has(const struct gguf *gguf, const char *key);

/* The bytes of a string, not NUL-terminated, valid UTF-8, possibly with NULs inside. */
int gguf_get_string(const struct gguf *gguf, const char *key, const char **text, size_t *length,
                    struct err *err) MUST_CHECK;
/* Any integer type whose value is not negative. */
int gguf_get_u64(const struct gguf *gguf, const char *key, uint64_t *out,
                 struct err *err) MUST_CHECK;
/* F32, F64, or an integer. */
int gguf_get_f64(const struct gguf *gguf, const char *key, double *out, struct err *err) MUST_CHECK;
int gguf_get_bool(const struct gguf *gguf, const char *key, bool *out, struct err *err) MUST_CHECK;
/* Any array. */
int gguf_get_array(const struct gguf *gguf, const char *key, struct gguf_array *out,
                   struct err *err) MUST_CHECK;
/* An array of strings. */
int gguf_get_strings(const struct gguf *gguf, const char *key, struct gguf_array *out,
                     struct err *err) MUST_CHECK;
/* An array of integers, floats or bools: read it with gguf_array_i64 or gguf_array_f64. */
int gguf_get_numbers(const struct gguf *gguf, const char *key, struct gguf_array *out,
                     struct err *err) MUST_CHECK;

/* Item i < count of an array of strings: its bytes, not NUL-terminated. */
const char *gguf_array_string(const struct gguf_array *array, uint64_t i, size_t *length);
/* Item i < count of an array of numbers; floats are cut towards zero and clamped, U64 above
 * INT64_MAX is clamped, NaN is 0. */
int64_t gguf_array_i64(const struct gguf_array *array, uint64_t i);
double gguf_array_f64(const struct gguf_array *array, uint64_t i);

/* "u32", "string", …; "?" outside the enum. Static. */
const char *gguf_type_name(enum gguf_type type);

#endif
