/* The GGUF reader: what it gives, every kind of malformed file, allocation failures, no cost per
 * token. */
#include "test.h"

#include "formats/gguf_builder.h"

static int parse(const struct buf *file, struct gguf **gguf, struct err *err)
{
    assert_int_equal(file->failed, ERR_NONE);
    return gguf_parse(file->data, file->len, gguf, err);
}

/* One of everything: every scalar type, arrays, three tensors. */
static void build_sound(struct buf *out, uint32_t version)
{
    static const uint64_t matrix[2] = {32, 3}, vector[1] = {5}, cube[3] = {2, 3, 4};
    put_header(out, version, 3, 14);
    put_kv_string(out, "general.architecture", "llama");
    put_key(out, "u8", GGUF_U8), buf_putc(out, (char)200);
    put_key(out, "i8", GGUF_I8), buf_putc(out, (char)-3);
    put_key(out, "u16", GGUF_U16), buf_append(out, "\xff\xff", 2);
    put_key(out, "i16", GGUF_I16), buf_append(out, "\xfe\xff", 2);
    put_kv_u32(out, "u32", 4000000000u);
    put_key(out, "i32", GGUF_I32), put_u32(out, (uint32_t)-5);
    put_kv_f32(out, "f32", 1.5f);
    put_key(out, "bool", GGUF_BOOL), buf_putc(out, 1);
    put_key(out, "u64", GGUF_U64), put_u64(out, UINT64_MAX);
    put_key(out, "i64", GGUF_I64), put_u64(out, 77);
    put_key(out, "f64", GGUF_F64), put_u64(out, UINT64_C(0xbff8000000000000));
    put_kv_array(out, "words", GGUF_STRING, 3);
    put_string(out, "a"), put_string(out, ""),
        put_string(out, "\xc3\xbc"
                        "ber");
    put_kv_array(out, "scores", GGUF_F32, 2);
    put_f32(out, -0.5f), put_f32(out, 3e20f);
    put_tensor(out, "m", 2, matrix, FILE_Q4_1, 0);
    put_tensor(out, "v", 1, vector, FILE_F32, 64);
    put_tensor(out, "c", 3, cube, FILE_F16, 96);
    put_padding(out, 32);
    put_data(out, 96 + 48);
}

static void test_reads_both_versions(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct err err = {0};
        struct buf file;
        struct gguf *gguf = NULL;
        buf_init(&file, GGUF_BUILDER_BYTES_MAX);
        build_sound(&file, version);
        assert_ok(parse(&file, &gguf, &err), &err);
        assert_int_equal(gguf_version(gguf), version);
        assert_int_equal(gguf_alignment(gguf), 32);
        assert_int_equal(gguf_file_bytes(gguf), file.len);
        gguf_free(gguf);
        buf_release(&file);
    }
}

static void test_tensors_are_row_major(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf file;
    struct gguf *gguf = NULL;
    buf_init(&file, GGUF_BUILDER_BYTES_MAX);
    build_sound(&file, 3);
    assert_ok(parse(&file, &gguf, &err), &err);
    assert_int_equal(gguf_tensor_count(gguf), 3);
    const struct tensor_view *m = gguf_tensor(gguf, "m"), *c = gguf_tensor(gguf, "c");
    assert_ptr_equal(m, gguf_tensor_at(gguf, 0));
    assert_null(gguf_tensor(gguf, "absent"));
    assert_string_equal(m->name, "m");
    assert_int_equal(m->type, TENSOR_Q4_1);
    assert_int_equal(m->n_dims, 2);
    assert_int_equal(m->dims[0], 3);
    assert_int_equal(m->dims[1], 32);
    assert_int_equal(m->bytes, 60);
    assert_int_equal(c->dims[0], 4);
    assert_int_equal(c->dims[2], 2);
    assert_int_equal(tensor_view_rows(c), 12);
    assert_int_equal(tensor_view_elements(c), 24);
    assert_ptr_equal(c->data, m->data + 96);
    assert_int_equal(m->data[1], 7);
    gguf_free(gguf);
    buf_release(&file);
}

static void test_metadata_is_typed(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf file;
    struct gguf *gguf = NULL;
    const char *text;
    size_t length;
    uint64_t number = 0;
    double real = 0;
    bool flag = false;
    buf_init(&file, GGUF_BUILDER_BYTES_MAX);
    build_sound(&file, 3);
    assert_ok(parse(&file, &gguf, &err), &err);
    assert_ok(gguf_get_string(gguf, "general.architecture", &text, &length, &err), &err);
    assert_int_equal(length, 5);
    assert_memory_equal(text, "llama", 5);
    static const struct {
        const char *key;
        uint64_t value;
    } NUMBERS[] = {
        {"u8", 200}, {"u16", 65535}, {"u32", 4000000000u}, {"u64", UINT64_MAX}, {"i64", 77}};
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        assert_ok(gguf_get_u64(gguf, NUMBERS[i].key, &number, &err), &err);
        assert_true(number == NUMBERS[i].value);
    }
    static const struct {
        const char *key;
        double value;
    } REALS[] = {{"f32", 1.5}, {"f64", -1.5}, {"i8", -3}, {"i16", -2}, {"i32", -5}};
    for (size_t i = 0; i < sizeof REALS / sizeof *REALS; i++) {
        assert_ok(gguf_get_f64(gguf, REALS[i].key, &real, &err), &err);
        assert_true(real == REALS[i].value);
    }
    assert_ok(gguf_get_bool(gguf, "bool", &flag, &err), &err);
    assert_true(flag);
    assert_int_equal(gguf_kv_count(gguf), 14);
    assert_string_equal(gguf_kv_key(gguf, 8), "bool");
    assert_int_equal(gguf_kv_type(gguf, 8), GGUF_BOOL);
    gguf_free(gguf);
    buf_release(&file);
}

static void test_arrays(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf file;
    struct gguf *gguf = NULL;
    struct gguf_array array;
    size_t length;
    buf_init(&file, GGUF_BUILDER_BYTES_MAX);
    build_sound(&file, 3);
    assert_ok(parse(&file, &gguf, &err), &err);
    assert_ok(gguf_get_strings(gguf, "words", &array, &err), &err);
    assert_int_equal(array.count, 3);
    assert_memory_equal(gguf_array_string(&array, 2, &length),
                        "\xc3\xbc"
                        "ber",
                        5);
    assert_int_equal(length, 5);
    (void)gguf_array_string(&array, 1, &length);
    assert_int_equal(length, 0);
    assert_ok(gguf_get_numbers(gguf, "scores", &array, &err), &err);
    assert_true(gguf_array_f64(&array, 0) == -0.5);
    assert_int_equal(gguf_array_i64(&array, 0), 0);
    assert_true(gguf_array_i64(&array, 1) == INT64_MAX);
    assert_ok(gguf_get_array(gguf, "words", &array, &err), &err);
    gguf_free(gguf);
    buf_release(&file);
}

static void test_missing_is_not_wrong_type(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf file;
    struct gguf *gguf = NULL;
    struct gguf_array array;
    const char *text;
    size_t length;
    uint64_t number = 9;
    double real;
    bool flag;
    buf_init(&file, GGUF_BUILDER_BYTES_MAX);
    build_sound(&file, 3);
    assert_ok(parse(&file, &gguf, &err), &err);
    assert_err(gguf_get_u64(gguf, "none", &number, &err), &err, ERR_NOT_FOUND);
    assert_err(gguf_get_string(gguf, "none", &text, &length, &err), &err, ERR_NOT_FOUND);
    assert_err(gguf_get_f64(gguf, "none", &real, &err), &err, ERR_NOT_FOUND);
    assert_err(gguf_get_bool(gguf, "none", &flag, &err), &err, ERR_NOT_FOUND);
    assert_err(gguf_get_array(gguf, "none", &array, &err), &err, ERR_NOT_FOUND);
    assert_err(gguf_get_strings(gguf, "none", &array, &err), &err, ERR_NOT_FOUND);
    assert_err(gguf_get_string(gguf, "u32", &text, &length, &err), &err, ERR_CORRUPT);
    assert_err(gguf_get_u64(gguf, "f32", &number, &err), &err, ERR_CORRUPT);
    assert_err(gguf_get_u64(gguf, "i32", &number, &err), &err, ERR_CORRUPT); /* negative */
    assert_err(gguf_get_f64(gguf, "bool", &real, &err), &err, ERR_CORRUPT);
    assert_err(gguf_get_bool(gguf, "u8", &flag, &err), &err, ERR_CORRUPT);
    assert_err(gguf_get_array(gguf, "u8", &array, &err), &err, ERR_CORRUPT);
    assert_err(gguf_get_strings(gguf, "scores", &array, &err), &err, ERR_CORRUPT);
    assert_int_equal(gguf_get_numbers(gguf, "words", &array, &err), -ERR_CORRUPT);
    assert_string_equal(err.message,
                        "metadata 'words' is an array of string, expected an array of numbers");
    assert_int_equal(number, 9);
    gguf_free(gguf);
    buf_release(&file);
}

/* --- malformed files: one function builds one kind --- */

/* Version 3, one F32 vector "t" of 8 elements at 0, and what the caller changes of it. */
struct one {
    uint32_t n_dims;
    uint64_t dims[5];
    uint32_t type;
    uint64_t offset;
    size_t data_bytes;
};

static void build_one(struct buf *out, struct one one)
{
    put_header(out, 3, 1, 0);
    put_tensor(out, "t", one.n_dims, one.dims, one.type, one.offset);
    put_padding(out, 32);
    put_data(out, one.data_bytes);
}

/* Two F32 vectors of 8 elements. */
static void build_two(struct buf *out, const char *a, const char *b, uint64_t b_offset)
{
    static const uint64_t dims[1] = {8};
    put_header(out, 3, 2, 0);
    put_tensor(out, a, 1, dims, FILE_F32, 0);
    put_tensor(out, b, 1, dims, FILE_F32, b_offset);
    put_padding(out, 32);
    put_data(out, 256);
}

static void cut(struct buf *out, size_t n)
{
    out->len = n;
}

static void bad_empty(struct buf *out)
{
    buf_append(out, "", 0);
}
static void bad_short(struct buf *out)
{
    buf_append(out, "GG", 2);
}
static void bad_magic(struct buf *out)
{
    build_sound(out, 3);
    memcpy(out->data, "GGML", 4);
}
static void bad_endian_magic(struct buf *out)
{
    build_sound(out, 3);
    memcpy(out->data, "FUGG", 4);
}
static void bad_endian_version(struct buf *out)
{
    build_sound(out, 0x03000000);
}
static void bad_version_0(struct buf *out)
{
    build_sound(out, 0);
}
static void bad_version_1(struct buf *out)
{
    build_sound(out, 1);
}
static void bad_version_4(struct buf *out)
{
    build_sound(out, 4);
}
static void bad_cut_version(struct buf *out)
{
    build_sound(out, 3);
    cut(out, 6);
}
static void bad_cut_counts(struct buf *out)
{
    build_sound(out, 3);
    cut(out, 20);
}
static void bad_cut_kv(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_u32(out, "some.key.that.is.long", 1);
    cut(out, out->len - 2);
}
static void bad_cut_records(struct buf *out)
{
    build_two(out, "tensor.one.with.a.name", "tensor.two.with.a.name", 32);
    cut(out, 24 + 46 + 40);
}
static void bad_kv_count(struct buf *out)
{
    put_header(out, 3, 0, UINT64_MAX);
}
static void bad_tensor_count(struct buf *out)
{
    put_header(out, 3, GGUF_TENSORS_MAX + 1, 0);
    put_data(out, 100);
}
static void bad_count_for_size(struct buf *out)
{
    put_header(out, 3, GGUF_TENSORS_MAX, 0);
    put_data(out, 100);
}
static void bad_array_count(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_array(out, "tokens", GGUF_U8, UINT64_MAX / 2);
    put_data(out, 64);
}
static void bad_array_for_size(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_array(out, "tokens", GGUF_STRING, 1000);
    put_data(out, 64);
}
static void bad_key_length(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_u64(out, UINT64_MAX - 4);
    put_data(out, 64);
}
static void bad_string_length(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_key(out, "s", GGUF_STRING);
    put_u64(out, 65);
    put_data(out, 64);
}
static void bad_item_length(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_array(out, "tokens", GGUF_STRING, 2);
    put_string(out, "fine");
    put_u64(out, 1 << 20);
    put_data(out, 64);
}
static void bad_name_length(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_u64(out, GGUF_NAME_BYTES_MAX + 1);
    for (int i = 0; i < 2000; i++)
        buf_putc(out, 'k');
}
static void bad_nested(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_array(out, "tokens", GGUF_ARRAY, 1);
    put_u32(out, GGUF_U8), put_u64(out, 1), buf_putc(out, 1);
    put_data(out, 32);
}
static void bad_value_type(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_key(out, "k", 13), put_u64(out, 0);
}
static void bad_item_type(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_array(out, "k", 99, 1), put_u64(out, 0);
}
static void bad_bool(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_key(out, "k", GGUF_BOOL), buf_putc(out, 2);
    put_data(out, 8);
}
static void bad_utf8_key(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_u32(out, "k\xff", 1);
}
static void bad_utf8_value(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_string(out, "k", "\xc3(");
}
static void bad_utf8_item(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_array(out, "k", GGUF_STRING, 1);
    put_string(out, "\xed\xa0\x80");
}
static void bad_key_nul(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_string_n(out, "a\0b", 3);
    put_u32(out, GGUF_U32), put_u32(out, 1);
}
static void bad_key_empty(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_u32(out, "", 1);
    put_data(out, 8);
}
static void bad_key_twice(struct buf *out)
{
    put_header(out, 3, 0, 2);
    put_kv_u32(out, "k", 1);
    put_kv_u32(out, "k", 1);
}
static void bad_alignment_odd(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_u32(out, "general.alignment", 24);
}
static void bad_alignment_zero(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_u32(out, "general.alignment", 0);
}
static void bad_alignment_type(struct buf *out)
{
    put_header(out, 3, 0, 1);
    put_kv_string(out, "general.alignment", "32");
}
static void bad_offset_alignment(struct buf *out)
{
    build_one(out, (struct one){1, {8}, FILE_F32, 8, 64});
}
static void bad_offset(struct buf *out)
{
    build_one(out, (struct one){1, {8}, FILE_F32, 4096, 64});
}
static void bad_offset_huge(struct buf *out)
{
    build_one(out, (struct one){1, {8}, FILE_F32, UINT64_MAX - 31, 64});
}
static void bad_data_cut(struct buf *out)
{
    build_one(out, (struct one){1, {8}, FILE_F32, 0, 31});
}
static void bad_data_none(struct buf *out)
{
    build_one(out, (struct one){1, {8}, FILE_F32, 0, 0});
}
static void bad_overlap(struct buf *out)
{
    static const uint64_t dims[1] = {16};
    put_header(out, 3, 2, 0);
    put_tensor(out, "a", 1, dims, FILE_F32, 32);
    put_tensor(out, "b", 1, dims, FILE_F32, 0);
    put_padding(out, 32);
    put_data(out, 256);
}
static void bad_same_place(struct buf *out)
{
    build_two(out, "a", "b", 0);
}
static void bad_tensor_twice(struct buf *out)
{
    build_two(out, "a", "a", 32);
}
static void bad_gap(struct buf *out)
{
    build_two(out, "a", "b", 96);
}
static void bad_dims_zero(struct buf *out)
{
    build_one(out, (struct one){2, {8, 0}, FILE_F32, 0, 64});
}
static void bad_dims_negative(struct buf *out)
{
    build_one(out, (struct one){2, {8, (uint64_t)-1}, FILE_F32, 0, 64});
}
static void bad_dims_overflow(struct buf *out)
{
    build_one(out,
              (struct one){3, {1 << 24, UINT64_C(1) << 24, UINT64_C(1) << 24}, FILE_F32, 0, 64});
}
static void bad_dims_none(struct buf *out)
{
    build_one(out, (struct one){0, {0}, FILE_F32, 0, 64});
}
static void bad_dims_many(struct buf *out)
{
    build_one(out, (struct one){5, {1, 1, 1, 1, 1}, FILE_F32, 0, 64});
}
static void bad_block(struct buf *out)
{
    build_one(out, (struct one){2, {40, 2}, FILE_Q4_1, 0, 64});
}
static void bad_type(struct buf *out)
{
    build_one(out, (struct one){1, {8}, 4711, 0, 64});
}
static void bad_type_removed(struct buf *out)
{
    build_one(out, (struct one){1, {32}, 4, 0, 64});
}
static void bad_type_unread(struct buf *out)
{
    build_one(out, (struct one){1, {256}, FILE_IQ2_XS, 0, 128});
}

static const struct {
    const char *kind;
    void (*build)(struct buf *out);
    enum err_code code;
    const char *says;
} MALFORMED[] = {
    {"empty file", bad_empty, ERR_CORRUPT, "truncated header"},
    {"shorter than the magic", bad_short, ERR_CORRUPT, "truncated header"},
    {"wrong magic", bad_magic, ERR_CORRUPT, "wrong magic: the file begins with bytes 47 47 4d 4c"},
    {"big-endian by magic", bad_endian_magic, ERR_UNSUPPORTED, "big-endian"},
    {"big-endian by version", bad_endian_version, ERR_UNSUPPORTED, "big-endian"},
    {"version 0", bad_version_0, ERR_UNSUPPORTED, "unknown version: GGUF version 0"},
    {"version 1", bad_version_1, ERR_UNSUPPORTED, "unknown version: GGUF version 1"},
    {"version 4", bad_version_4, ERR_UNSUPPORTED, "unknown version: GGUF version 4"},
    {"cut in the version", bad_cut_version, ERR_CORRUPT, "truncated header: the version"},
    {"cut in the counts", bad_cut_counts, ERR_CORRUPT, "truncated header: the metadata count"},
    {"cut in a value", bad_cut_kv, ERR_CORRUPT, "truncated header: the value"},
    {"cut in the records", bad_cut_records, ERR_CORRUPT, "truncated header: a tensor's"},
    {"metadata count", bad_kv_count, ERR_CORRUPT, "count too large: 18446744073709551615 metadata"},
    {"tensor count", bad_tensor_count, ERR_CORRUPT, "count too large: 65537 tensors"},
    {"count the file cannot hold", bad_count_for_size, ERR_CORRUPT, "cannot fit in the 100 bytes"},
    {"array count", bad_array_count, ERR_CORRUPT, "count too large: an array of"},
    {"array the file cannot hold", bad_array_for_size, ERR_CORRUPT, "cannot fit in the 64 bytes"},
    {"key length", bad_key_length, ERR_CORRUPT, "runs past the end of the file"},
    {"string length", bad_string_length, ERR_CORRUPT, "string of 65 bytes at offset"},
    {"array item length", bad_item_length, ERR_CORRUPT, "metadata 'tokens': item 1: array item:"},
    {"name length", bad_name_length, ERR_CORRUPT, "at most 1024 are allowed"},
    {"nested array", bad_nested, ERR_UNSUPPORTED, "metadata 'tokens': nested arrays"},
    {"unknown value type", bad_value_type, ERR_CORRUPT, "unknown value type 13"},
    {"unknown item type", bad_item_type, ERR_CORRUPT, "unknown value type 99"},
    {"bool of 2", bad_bool, ERR_CORRUPT, "a bool holds 2"},
    {"UTF-8 of a key", bad_utf8_key, ERR_CORRUPT, "a metadata key: invalid UTF-8"},
    {"UTF-8 of a value", bad_utf8_value, ERR_CORRUPT, "metadata 'k': the value: invalid UTF-8"},
    {"UTF-8 of an item", bad_utf8_item, ERR_CORRUPT, "item 0: array item: invalid UTF-8"},
    {"NUL in a key", bad_key_nul, ERR_CORRUPT, "is empty or holds a NUL"},
    {"empty key", bad_key_empty, ERR_CORRUPT, "is empty or holds a NUL"},
    {"key twice", bad_key_twice, ERR_CORRUPT, "duplicate name: metadata 'k'"},
    {"alignment no power of two", bad_alignment_odd, ERR_CORRUPT, "bad alignment"},
    {"alignment zero", bad_alignment_zero, ERR_CORRUPT, "bad alignment"},
    {"alignment of the wrong type", bad_alignment_type, ERR_CORRUPT,
     "metadata 'general.alignment' is of type string, expected an integer"},
    {"offset not aligned", bad_offset_alignment, ERR_CORRUPT, "bad alignment: tensor 't'"},
    {"offset past the end", bad_offset, ERR_CORRUPT, "offset past the end: tensor 't' at 4096"},
    {"offset near 2^64", bad_offset_huge, ERR_CORRUPT, "offset past the end"},
    {"truncated data", bad_data_cut, ERR_CORRUPT, "truncated data: tensor 't' needs 32 bytes"},
    {"no data", bad_data_none, ERR_CORRUPT, "truncated data: the file ends at"},
    {"overlapping tensors", bad_overlap, ERR_CORRUPT, "overlapping tensors: 'b' ends at 64, 'a'"},
    {"tensors in one place", bad_same_place, ERR_CORRUPT, "overlapping tensors"},
    {"tensor twice", bad_tensor_twice, ERR_CORRUPT, "duplicate name: tensor 'a'"},
    {"bytes that no type explains", bad_gap, ERR_CORRUPT, "size does not match the type"},
    {"zero dimension", bad_dims_zero, ERR_CORRUPT, "zero dimension"},
    {"negative dimension", bad_dims_negative, ERR_CORRUPT, "negative dimension (-1)"},
    {"overflowing dimensions", bad_dims_overflow, ERR_CORRUPT, "overflows"},
    {"no dimensions", bad_dims_none, ERR_CORRUPT, "has 0 dimensions"},
    {"five dimensions", bad_dims_many, ERR_CORRUPT, "has 5 dimensions"},
    {"row of part blocks", bad_block, ERR_CORRUPT, "rows of 40 elements are no whole blocks of 32"},
    {"unknown type", bad_type, ERR_CORRUPT, "unknown type: tensor 't' is of type number 4711"},
    {"type removed from the format", bad_type_removed, ERR_CORRUPT, "unknown type"},
    {"known type without a reader", bad_type_unread, ERR_UNSUPPORTED, "is of type IQ2_XS"},
};

static void test_malformed_files_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof MALFORMED / sizeof *MALFORMED; i++) {
        struct err err = {0};
        struct buf file;
        struct gguf *gguf = NULL;
        size_t used = mem_used();
        buf_init(&file, GGUF_BUILDER_BYTES_MAX);
        MALFORMED[i].build(&file);
        int rc = parse(&file, &gguf, &err);
        if (rc != -(int)MALFORMED[i].code || !strstr(err.message, MALFORMED[i].says))
            fail_msg("%s: got %d \"%s\"", MALFORMED[i].kind, rc, err.message);
        buf_release(&file);
        assert_int_equal(mem_used(), used);
    }
}

/* However short a file is cut, it is refused and nothing outside it is read (a copy of exactly that
 * length lets the address sanitizer see). */
static void test_every_cut_is_refused(void **state)
{
    (void)state;
    struct buf file;
    buf_init(&file, GGUF_BUILDER_BYTES_MAX);
    build_sound(&file, 3);
    for (size_t n = 0; n < file.len; n++) {
        struct err err = {0};
        struct gguf *gguf = NULL;
        char *copy = malloc(n ? n : 1);
        memcpy(copy, file.data, n);
        assert_int_equal(gguf_parse(copy, n, &gguf, &err), -ERR_CORRUPT);
        free(copy);
    }
    buf_release(&file);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct buf file;
    buf_init(&file, GGUF_BUILDER_BYTES_MAX);
    build_sound(&file, 3);
    size_t used = mem_used();
    uint64_t nth = 1;
    for (;; nth++) {
        struct err err = {0};
        struct gguf *gguf = NULL;
        fault_arm(FAULT_MALLOC, nth, false);
        int rc = gguf_parse(file.data, file.len, &gguf, &err);
        bool fired = fault_fired();
        fault_disarm();
        gguf_free(gguf);
        assert_int_equal(mem_used(), used);
        if (!fired) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ERR_NOMEM);
    }
    assert_true(nth > 5);
    buf_release(&file);
}

/* A vocabulary of any size costs one allocation for its index and none per token. */
static void test_tokens_cost_no_allocation_each(void **state)
{
    (void)state;
    uint64_t allocations[2];
    static const uint32_t COUNTS[2] = {10, 50000};
    for (int i = 0; i < 2; i++) {
        struct err err = {0};
        struct buf file;
        struct gguf *gguf = NULL;
        struct gguf_array tokens;
        char token[16];
        size_t length;
        buf_init(&file, GGUF_BUILDER_BYTES_MAX);
        put_header(&file, 3, 0, 1);
        put_kv_array(&file, "tokens", GGUF_STRING, COUNTS[i]);
        for (uint32_t t = 0; t < COUNTS[i]; t++) {
            snprintf(token, sizeof token, "t%u", t);
            put_string(&file, token);
        }
        fault_disarm();
        uint64_t before = fault_seen(FAULT_MALLOC);
        assert_ok(parse(&file, &gguf, &err), &err);
        allocations[i] = fault_seen(FAULT_MALLOC) - before;
        assert_ok(gguf_get_strings(gguf, "tokens", &tokens, &err), &err);
        assert_memory_equal(gguf_array_string(&tokens, 9, &length), "t9", 2);
        gguf_free(gguf);
        buf_release(&file);
    }
    assert_int_equal(allocations[0], allocations[1]);
}

static void test_open_names_the_file(void **state)
{
    (void)state;
    struct err err = {0};
    struct gguf *gguf = NULL;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "bad.gguf", &err), &err);
    assert_err(gguf_open(path, &gguf, &err), &err, ERR_NOT_FOUND);
    assert_ok(fs_write_file(path, "not a model", 11, &err), &err);
    assert_int_equal(gguf_open(path, &gguf, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "bad.gguf: wrong magic"));
    test_dir_remove(dir);
    err_clear(&err);
    assert_ok(gguf_open("tests/fixtures/formats/dequant.gguf", &gguf, &err), &err);
    assert_int_equal(gguf_tensor_count(gguf), 20);
    gguf_free(gguf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_both_versions),
        cmocka_unit_test(test_tensors_are_row_major),
        cmocka_unit_test(test_metadata_is_typed),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_missing_is_not_wrong_type),
        cmocka_unit_test(test_malformed_files_are_named),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_tokens_cost_no_allocation_each),
        cmocka_unit_test(test_open_names_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
