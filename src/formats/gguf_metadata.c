/* Metadata: parsing the key-value pairs, and the typed getters.
 *
 * A value stays where it is in the file; a kv record only remembers its type and place. Arrays of
 * numbers need no index. Arrays of strings get one: the offset of every item, four bytes each,
 * built in the same pass that checks them, so that token i of a vocabulary is one load away and no
 * token is ever copied. Offsets are 32 bits wide, which caps an array's bytes at 4 GiB.
 */
#include <inttypes.h>

#include "base/utf8.h"
#include "formats/gguf_private.h"

struct type_row {
    const char *name;
    uint32_t bytes;
};

static const struct type_row type_rows[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const char *gguf_type_name(enum gguf_type type)
{
    return (unsigned)type < GGUF_TYPE_COUNT ? type_rows[type].name : "?";
}

uint32_t gguf_type_bytes(enum gguf_type type)
{
    return (unsigned)type < GGUF_TYPE_COUNT ? type_rows[type].bytes : 0;
}

/* --- parsing --- */

static int take_type(struct gguf_cursor *cursor, const char *what, enum gguf_type *type,
                     struct err *err)
{
    uint32_t value = 0;
    int rc = gguf_take_u32(cursor, what, &value, err);
    if (rc != 0)
        return rc;
    if (value >= GGUF_TYPE_COUNT)
        return err_set(err, ERR_CORRUPT, "unknown value type %" PRIu32 " (%s)", value, what);
    *type = (enum gguf_type)value;
    return 0;
}

static int check_bools(const uint8_t *bytes, uint64_t n, struct err *err)
{
    for (uint64_t i = 0; i < n; i++) {
        if (bytes[i] > 1)
            return err_set(err, ERR_CORRUPT, "a bool holds %u, not 0 or 1", bytes[i]);
    }
    return 0;
}

/* Walks the items of a string array and notes where each begins. */
static int index_strings(struct gguf_cursor *cursor, struct gguf_kv *kv, struct err *err)
{
    uint64_t count = kv->array.count;
    kv->offsets = mem_realloc(NULL, (size_t)count, sizeof *kv->offsets);
    if (!kv->offsets)
        return mem_err(err, (size_t)count * sizeof *kv->offsets);
    kv->array.offsets = kv->offsets;
    uint64_t start = cursor->at;
    for (uint64_t i = 0; i < count; i++) {
        const char *text = NULL;
        uint64_t length = 0;
        uint64_t offset = cursor->at - start;
        if (offset > UINT32_MAX)
            return err_set(err, ERR_TOO_LARGE, "an array of strings is larger than 4 GiB");
        kv->offsets[i] = (uint32_t)offset;
        int rc = gguf_take_string(cursor, "array item", GGUF_STRING_BYTES_MAX, &text, &length, err);
        if (rc != 0) {
            err_prefix(err, "item %" PRIu64, i);
            return rc;
        }
    }
    return 0;
}

static int take_array(struct gguf_cursor *cursor, struct gguf_kv *kv, struct err *err)
{
    enum gguf_type item = GGUF_U8;
    uint64_t count = 0;
    int rc;
    if ((rc = take_type(cursor, "the array's item type", &item, err)) != 0 ||
        (rc = gguf_take_u64(cursor, "the array's length", &count, err)) != 0)
        return rc;
    if (item == GGUF_ARRAY)
        return err_set(err, ERR_UNSUPPORTED, "nested arrays are not supported");
    if (count > GGUF_ARRAY_ITEMS_MAX)
        return err_set(err, ERR_CORRUPT,
                       "count too large: an array of %" PRIu64 " items, at most %d are allowed",
                       count, GGUF_ARRAY_ITEMS_MAX);
    uint64_t item_bytes_min = item == GGUF_STRING ? 8 : gguf_type_bytes(item);
    if (count * item_bytes_min > cursor->size - cursor->at)
        return err_set(err, ERR_CORRUPT,
                       "truncated header: an array of %" PRIu64 " items (%s) cannot fit in the "
                       "%" PRIu64 " bytes that are left",
                       count, gguf_type_name(item), cursor->size - cursor->at);
    kv->array = (struct gguf_array){item, count, cursor->data + cursor->at, NULL};
    if (item == GGUF_STRING)
        return index_strings(cursor, kv, err);
    if (item == GGUF_BOOL && (rc = check_bools(kv->array.data, count, err)) != 0)
        return rc;
    cursor->at += count * item_bytes_min;
    return 0;
}

static int take_value(struct gguf_cursor *cursor, struct gguf_kv *kv, struct err *err)
{
    if (kv->type == GGUF_ARRAY)
        return take_array(cursor, kv, err);
    if (kv->type == GGUF_STRING) {
        const char *text = NULL;
        int rc =
            gguf_take_string(cursor, "the value", GGUF_STRING_BYTES_MAX, &text, &kv->length, err);
        if (rc == 0)
            kv->value = (const uint8_t *)text;
        return rc;
    }
    int rc = gguf_take(cursor, gguf_type_bytes(kv->type), "the value", &kv->value, err);
    if (rc == 0 && kv->type == GGUF_BOOL)
        rc = check_bools(kv->value, 1, err);
    return rc;
}

static int read_alignment(struct gguf *gguf, struct err *err)
{
    uint64_t alignment = GGUF_ALIGNMENT_DEFAULT;
    if (gguf_has(gguf, "general.alignment")) {
        int rc = gguf_get_u64(gguf, "general.alignment", &alignment, err);
        if (rc != 0)
            return rc;
    }
    if (alignment < GGUF_ALIGNMENT_MIN || alignment > GGUF_ALIGNMENT_MAX ||
        (alignment & (alignment - 1)) != 0)
        return err_set(err, ERR_CORRUPT,
                       "bad alignment: general.alignment is %" PRIu64
                       ", it must be a power of two from %d to %d",
                       alignment, GGUF_ALIGNMENT_MIN, GGUF_ALIGNMENT_MAX);
    gguf->alignment = (uint32_t)alignment;
    return 0;
}

int gguf_parse_metadata(struct gguf *gguf, struct gguf_cursor *cursor, uint64_t n_kv,
                        struct err *err)
{
    int rc = name_index_init(&gguf->kv_index, (uint32_t)n_kv, err);
    if (rc != 0)
        return rc;
    gguf->kv = mem_calloc((size_t)n_kv, sizeof *gguf->kv);
    if (!gguf->kv)
        return mem_err(err, (size_t)n_kv * sizeof *gguf->kv);
    gguf->n_kv = (size_t)n_kv;
    for (size_t i = 0; i < gguf->n_kv; i++) {
        struct gguf_kv *kv = &gguf->kv[i];
        if ((rc = gguf_take_name(gguf, cursor, "a metadata key", &kv->key, err)) != 0)
            return rc;
        if (name_index_add(&gguf->kv_index, kv->key, (int32_t)i) != (int32_t)i)
            return err_set(err, ERR_CORRUPT, "duplicate name: metadata '%s' is there twice",
                           kv->key);
        if ((rc = take_type(cursor, "the value's type", &kv->type, err)) != 0 ||
            (rc = take_value(cursor, kv, err)) != 0) {
            err_prefix(err, "metadata '%s'", kv->key);
            return rc;
        }
    }
    return read_alignment(gguf, err);
}

/* --- getters --- */

size_t gguf_kv_count(const struct gguf *gguf)
{
    return gguf->n_kv;
}

const char *gguf_kv_key(const struct gguf *gguf, size_t i)
{
    return gguf->kv[i].key;
}

enum gguf_type gguf_kv_type(const struct gguf *gguf, size_t i)
{
    return gguf->kv[i].type;
}

bool gguf_has(const struct gguf *gguf, const char *key)
{
    return name_index_find(&gguf->kv_index, key) != NAME_INDEX_NONE;
}

/* NULL with ERR_NOT_FOUND set when there is none. */
static const struct gguf_kv *find(const struct gguf *gguf, const char *key, struct err *err)
{
    int32_t id = name_index_find(&gguf->kv_index, key);
    if (id != NAME_INDEX_NONE)
        return &gguf->kv[id];
    (void)err_set(err, ERR_NOT_FOUND, "no metadata '%s'", key);
    return NULL;
}

static int wrong_type(const struct gguf_kv *kv, const char *wanted, struct err *err)
{
    if (kv->type == GGUF_ARRAY)
        return err_set(err, ERR_CORRUPT, "metadata '%s' is an array of %s, expected %s", kv->key,
                       gguf_type_name(kv->array.item_type), wanted);
    return err_set(err, ERR_CORRUPT, "metadata '%s' is of type %s, expected %s", kv->key,
                   gguf_type_name(kv->type), wanted);
}

static bool type_is_int(enum gguf_type type)
{
    return type == GGUF_U8 || type == GGUF_I8 || type == GGUF_U16 || type == GGUF_I16 ||
           type == GGUF_U32 || type == GGUF_I32 || type == GGUF_U64 || type == GGUF_I64;
}

/* Any integer type; U64 above INT64_MAX is clamped. */
static int64_t load_int(enum gguf_type type, const uint8_t *at)
{
    uint16_t half = (uint16_t)(at[0] | (gguf_type_bytes(type) > 1 ? at[1] << 8 : 0));
    switch (type) {
    case GGUF_I8:
        return (int8_t)at[0];
    case GGUF_U16:
        return half;
    case GGUF_I16:
        return (int16_t)half;
    case GGUF_U32:
        return gguf_load_u32(at);
    case GGUF_I32:
        return (int32_t)gguf_load_u32(at);
    case GGUF_I64:
        return (int64_t)gguf_load_u64(at);
    case GGUF_U64: {
        uint64_t value = gguf_load_u64(at);
        return value > INT64_MAX ? INT64_MAX : (int64_t)value;
    }
    default: /* u8 and bool */
        return at[0];
    }
}

static double load_float(enum gguf_type type, const uint8_t *at)
{
    if (type == GGUF_F64) {
        uint64_t bits = gguf_load_u64(at);
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    uint32_t bits = gguf_load_u32(at);
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

int gguf_get_string(const struct gguf *gguf, const char *key, const char **text, size_t *length,
                    struct err *err)
{
    const struct gguf_kv *kv = find(gguf, key, err);
    if (!kv)
        return -ERR_NOT_FOUND;
    if (kv->type != GGUF_STRING)
        return wrong_type(kv, "a string", err);
    *text = (const char *)kv->value;
    *length = (size_t)kv->length;
    return 0;
}

int gguf_get_u64(const struct gguf *gguf, const char *key, uint64_t *out, struct err *err)
{
    const struct gguf_kv *kv = find(gguf, key, err);
    if (!kv)
        return -ERR_NOT_FOUND;
    if (!type_is_int(kv->type))
        return wrong_type(kv, "an integer", err);
    if (kv->type == GGUF_U64) {
        *out = gguf_load_u64(kv->value);
        return 0;
    }
    int64_t value = load_int(kv->type, kv->value);
    if (value < 0)
        return err_set(err, ERR_CORRUPT, "metadata '%s' is negative (%" PRId64 ")", key, value);
    *out = (uint64_t)value;
    return 0;
}

int gguf_get_f64(const struct gguf *gguf, const char *key, double *out, struct err *err)
{
    const struct gguf_kv *kv = find(gguf, key, err);
    if (!kv)
        return -ERR_NOT_FOUND;
    if (kv->type == GGUF_F32 || kv->type == GGUF_F64)
        *out = load_float(kv->type, kv->value);
    else if (kv->type == GGUF_U64)
        *out = (double)gguf_load_u64(kv->value);
    else if (type_is_int(kv->type))
        *out = (double)load_int(kv->type, kv->value);
    else
        return wrong_type(kv, "a number", err);
    return 0;
}

int gguf_get_bool(const struct gguf *gguf, const char *key, bool *out, struct err *err)
{
    const struct gguf_kv *kv = find(gguf, key, err);
    if (!kv)
        return -ERR_NOT_FOUND;
    if (kv->type != GGUF_BOOL)
        return wrong_type(kv, "a bool", err);
    *out = kv->value[0] != 0;
    return 0;
}

int gguf_get_array(const struct gguf *gguf, const char *key, struct gguf_array *out,
                   struct err *err)
{
    const struct gguf_kv *kv = find(gguf, key, err);
    if (!kv)
        return -ERR_NOT_FOUND;
    if (kv->type != GGUF_ARRAY)
        return wrong_type(kv, "an array", err);
    *out = kv->array;
    return 0;
}

/* One rule for both: is the array's item a string or not. */
static int get_typed_array(const struct gguf *gguf, const char *key, bool strings,
                           struct gguf_array *out, struct err *err)
{
    const struct gguf_kv *kv = find(gguf, key, err);
    if (!kv)
        return -ERR_NOT_FOUND;
    if (kv->type != GGUF_ARRAY || (kv->array.item_type == GGUF_STRING) != strings)
        return wrong_type(kv, strings ? "an array of strings" : "an array of numbers", err);
    *out = kv->array;
    return 0;
}

int gguf_get_strings(const struct gguf *gguf, const char *key, struct gguf_array *out,
                     struct err *err)
{
    return get_typed_array(gguf, key, true, out, err);
}

int gguf_get_numbers(const struct gguf *gguf, const char *key, struct gguf_array *out,
                     struct err *err)
{
    return get_typed_array(gguf, key, false, out, err);
}

const char *gguf_array_string(const struct gguf_array *array, uint64_t i, size_t *length)
{
    const uint8_t *item = array->data + array->offsets[i];
    *length = (size_t)gguf_load_u64(item);
    return (const char *)item + 8;
}

int64_t gguf_array_i64(const struct gguf_array *array, uint64_t i)
{
    const uint8_t *at = array->data + i * gguf_type_bytes(array->item_type);
    if (array->item_type != GGUF_F32 && array->item_type != GGUF_F64)
        return load_int(array->item_type, at);
    double value = load_float(array->item_type, at);
    if (value >= 0x1p63)
        return INT64_MAX;
    if (value <= -0x1p63)
        return INT64_MIN;
    return value == value ? (int64_t)value : 0;
}

double gguf_array_f64(const struct gguf_array *array, uint64_t i)
{
    const uint8_t *at = array->data + i * gguf_type_bytes(array->item_type);
    if (array->item_type == GGUF_F32 || array->item_type == GGUF_F64)
        return load_float(array->item_type, at);
    if (array->item_type == GGUF_U64)
        return (double)gguf_load_u64(at);
    return (double)load_int(array->item_type, at);
}
