/* Opening, the fixed header, and look-ups.
 *
 * Layout of a file: magic "GGUF", u32 version, u64 tensor count, u64 metadata count, the metadata
 * (key, type, value), the tensor records (name, n_dims, dims, type, offset), padding to
 * `general.alignment`, then the tensors' bytes. Strings are a u64 length and their bytes.
 *
 * Invariants after a successful parse:
 *  1. gguf->kv and gguf->tensors describe bytes inside [data, data + size) only;
 *  2. keys are unique, tensor names are unique, and both are in their index;
 *  3. nothing in the file is read again without being inside what 1 covers.
 *
 * The file's counts are never trusted with memory: a count is refused when the rest of the file
 * could not hold that many of the smallest possible records, so allocation stays within a small
 * multiple of the file's size.
 */
#include "formats/gguf.h"

#include <inttypes.h>

#include "base/utf8.h"
#include "formats/gguf_private.h"

enum {
    VERSION_MIN = 2,
    VERSION_MAX = 3,
    KV_BYTES_MIN = 8 + 1 + 4 + 1,                    /* a one-byte key, a type, a one-byte value */
    TENSOR_RECORD_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8, /* a one-byte name, one dimension */
    NAMES_BYTES_MAX = 256 << 20,
};

int gguf_take(struct gguf_cursor *cursor, uint64_t n, const char *what, const uint8_t **bytes,
              struct err *err)
{
    if (n > cursor->size - cursor->at)
        return err_set(err, ERR_CORRUPT,
                       "truncated header: %s needs %" PRIu64 " bytes at offset %" PRIu64
                       ", the file ends at %" PRIu64,
                       what, n, cursor->at, cursor->size);
    *bytes = cursor->data + cursor->at;
    cursor->at += n;
    return 0;
}

int gguf_take_u32(struct gguf_cursor *cursor, const char *what, uint32_t *value, struct err *err)
{
    const uint8_t *bytes = NULL;
    int rc = gguf_take(cursor, 4, what, &bytes, err);
    if (rc == 0)
        *value = gguf_load_u32(bytes);
    return rc;
}

int gguf_take_u64(struct gguf_cursor *cursor, const char *what, uint64_t *value, struct err *err)
{
    const uint8_t *bytes = NULL;
    int rc = gguf_take(cursor, 8, what, &bytes, err);
    if (rc == 0)
        *value = gguf_load_u64(bytes);
    return rc;
}

int gguf_take_string(struct gguf_cursor *cursor, const char *what, uint64_t bytes_max,
                     const char **text, uint64_t *length, struct err *err)
{
    uint64_t n = 0;
    int rc = gguf_take_u64(cursor, what, &n, err);
    if (rc != 0)
        return rc;
    if (n > cursor->size - cursor->at)
        return err_set(err, ERR_CORRUPT,
                       "%s: string of %" PRIu64 " bytes at offset %" PRIu64
                       " runs past the end of the file (%" PRIu64 ")",
                       what, n, cursor->at, cursor->size);
    if (n > bytes_max)
        return err_set(err, ERR_CORRUPT,
                       "%s: string of %" PRIu64 " bytes, at most %" PRIu64 " are allowed", what, n,
                       bytes_max);
    const char *bytes = (const char *)cursor->data + cursor->at;
    if (!utf8_valid(bytes, (size_t)n))
        return err_set(err, ERR_CORRUPT, "%s: invalid UTF-8 in the string at offset %" PRIu64, what,
                       cursor->at);
    cursor->at += n;
    *text = bytes;
    *length = n;
    return 0;
}

int gguf_take_name(struct gguf *gguf, struct gguf_cursor *cursor, const char *what,
                   const char **name, struct err *err)
{
    const char *text = NULL;
    uint64_t length = 0;
    int rc = gguf_take_string(cursor, what, GGUF_NAME_BYTES_MAX, &text, &length, err);
    if (rc != 0)
        return rc;
    if (length == 0 || memchr(text, 0, (size_t)length))
        return err_set(err, ERR_CORRUPT, "%s at offset %" PRIu64 " is empty or holds a NUL", what,
                       cursor->at - length);
    *name = arena_strndup(&gguf->names, text, (size_t)length);
    return *name ? 0 : mem_err(err, (size_t)length + 1);
}

static int check_magic(const struct gguf_cursor *cursor, struct err *err)
{
    if (cursor->size < 4)
        return err_set(err, ERR_CORRUPT,
                       "truncated header: a GGUF file is longer than %" PRIu64 " bytes",
                       cursor->size);
    const uint8_t *at = cursor->data;
    if (memcmp(at, "GGUF", 4) == 0)
        return 0;
    if (memcmp(at, "FUGG", 4) == 0)
        return err_set(err, ERR_UNSUPPORTED, "big-endian GGUF files are not supported");
    return err_set(err, ERR_CORRUPT,
                   "wrong magic: the file begins with bytes %02x %02x %02x %02x, not \"GGUF\"",
                   at[0], at[1], at[2], at[3]);
}

static int check_version(uint32_t version, struct err *err)
{
    if (version >= VERSION_MIN && version <= VERSION_MAX)
        return 0;
    if (version != 0 && (version & 0xffff) == 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "big-endian GGUF files are not supported (version bytes %08" PRIx32 ")",
                       version);
    return err_set(err, ERR_UNSUPPORTED,
                   "unknown version: GGUF version %" PRIu32 ", versions %d and %d can be read",
                   version, VERSION_MIN, VERSION_MAX);
}

/* Refuses a count over the cap, or over what the rest of the file could hold. */
static int check_count(const struct gguf_cursor *cursor, const char *what, uint64_t count,
                       uint64_t count_max, uint64_t record_bytes_min, struct err *err)
{
    if (count > count_max)
        return err_set(err, ERR_CORRUPT,
                       "count too large: %" PRIu64 " %s, at most %" PRIu64 " are allowed", count,
                       what, count_max);
    uint64_t room = (cursor->size - cursor->at) / record_bytes_min;
    if (count > room)
        return err_set(err, ERR_CORRUPT,
                       "truncated header: %" PRIu64 " %s cannot fit in the %" PRIu64
                       " bytes that are left",
                       count, what, cursor->size - cursor->at);
    return 0;
}

static int parse(struct gguf *gguf, struct err *err)
{
    struct gguf_cursor cursor = {gguf->data, gguf->size, 0};
    uint64_t n_tensors = 0, n_kv = 0;
    int rc = check_magic(&cursor, err);
    if (rc != 0)
        return rc;
    cursor.at = 4;
    if ((rc = gguf_take_u32(&cursor, "the version", &gguf->version, err)) != 0 ||
        (rc = check_version(gguf->version, err)) != 0 ||
        (rc = gguf_take_u64(&cursor, "the tensor count", &n_tensors, err)) != 0 ||
        (rc = gguf_take_u64(&cursor, "the metadata count", &n_kv, err)) != 0 ||
        (rc = check_count(&cursor, "tensors", n_tensors, GGUF_TENSORS_MAX, TENSOR_RECORD_BYTES_MIN,
                          err)) != 0 ||
        (rc = check_count(&cursor, "metadata entries", n_kv, GGUF_KV_MAX, KV_BYTES_MIN, err)) != 0)
        return rc;
    arena_init(&gguf->names, NAMES_BYTES_MAX);
    if ((rc = gguf_parse_metadata(gguf, &cursor, n_kv, err)) != 0)
        return rc;
    return gguf_parse_tensors(gguf, &cursor, n_tensors, err);
}

int gguf_parse(const void *data, size_t size, struct gguf **out, struct err *err)
{
    struct gguf *gguf = mem_calloc(1, sizeof *gguf);
    if (!gguf)
        return mem_err(err, sizeof *gguf);
    gguf->data = data;
    gguf->size = size;
    int rc = parse(gguf, err);
    if (rc != 0) {
        gguf_free(gguf);
        return rc;
    }
    *out = gguf;
    return 0;
}

int gguf_open(const char *path, struct gguf **out, struct err *err)
{
    struct fs_map map = {0};
    int rc = fs_map_open(&map, path, err);
    if (rc != 0)
        return rc;
    rc = gguf_parse(map.data, map.size, out, err);
    if (rc != 0) {
        err_prefix(err, "%s", path);
        fs_map_close(&map);
        return rc;
    }
    (*out)->map = map;
    return 0;
}

void gguf_free(struct gguf *gguf)
{
    if (!gguf)
        return;
    for (size_t i = 0; i < gguf->n_kv; i++)
        mem_free(gguf->kv[i].offsets);
    mem_free(gguf->kv);
    mem_free(gguf->tensors);
    mem_free(gguf->offsets);
    name_index_release(&gguf->kv_index);
    name_index_release(&gguf->tensor_index);
    arena_release(&gguf->names);
    fs_map_close(&gguf->map);
    mem_free(gguf);
}

uint32_t gguf_version(const struct gguf *gguf)
{
    return gguf->version;
}

uint32_t gguf_alignment(const struct gguf *gguf)
{
    return gguf->alignment;
}

uint64_t gguf_file_bytes(const struct gguf *gguf)
{
    return gguf->size;
}

size_t gguf_tensor_count(const struct gguf *gguf)
{
    return gguf->n_tensors;
}

const struct tensor_view *gguf_tensor_at(const struct gguf *gguf, size_t i)
{
    return &gguf->tensors[i];
}

const struct tensor_view *gguf_tensor(const struct gguf *gguf, const char *name)
{
    int32_t id = name_index_find(&gguf->tensor_index, name);
    return id == NAME_INDEX_NONE ? NULL : &gguf->tensors[id];
}
