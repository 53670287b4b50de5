/* safetensors: reading what the reference package writes, writing the same bytes, shards, every
 * kind of malformed file, failures while writing. */
#include "test.h"

#include "formats/safetensors.h"

static const char FIXTURES[] = "tests/fixtures/formats";

static const char *fixture(char out[FS_PATH_BYTES_MAX], const char *name)
{
    struct err err = {0};
    assert_ok(fs_join(out, FIXTURES, name, &err), &err);
    return out;
}

static void read_all(const char *path, struct buf *out)
{
    struct err err = {0};
    buf_init(out, 1 << 20);
    assert_ok(fs_read_file(path, 1 << 20, out, &err), &err);
}

/* --- reading --- */

static void test_reads_every_type(void **state)
{
    (void)state;
    struct err err = {0};
    struct safetensors *file = NULL;
    char path[FS_PATH_BYTES_MAX];
    assert_ok(safetensors_open(fixture(path, "mixed.safetensors"), &file, &err), &err);
    assert_int_equal(safetensors_tensor_count(file), 5);
    assert_int_equal(safetensors_metadata_count(file), 0);
    assert_null(safetensors_metadata(file, "format"));
    static const enum tensor_type TYPES[] = {TENSOR_I64, TENSOR_F16, TENSOR_BOOL, TENSOR_F32,
                                             TENSOR_U8};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(safetensors_tensor_at(file, i)->type, TYPES[i]);
    const struct tensor_view *scalar = safetensors_tensor(file, "d.scalar");
    assert_non_null(scalar);
    assert_int_equal(scalar->n_dims, 0);
    assert_int_equal(scalar->bytes, 4);
    assert_int_equal(tensor_view_elements(scalar), 1);
    const struct tensor_view *matrix = safetensors_tensor(file, "b.f16");
    assert_int_equal(matrix->dims[0], 2);
    assert_int_equal(matrix->dims[1], 3);
    assert_null(safetensors_tensor(file, "b"));
    safetensors_free(file);
}

/* --- writing --- */

static void test_writes_the_reference_bytes(void **state)
{
    (void)state;
    struct err err = {0};
    struct safetensors *file = NULL;
    struct buf original, written;
    char path[FS_PATH_BYTES_MAX], dir[FS_PATH_BYTES_MAX], out[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(fs_join(out, dir, "out.safetensors", &err), &err);
    assert_ok(safetensors_open(fixture(path, "uniform.safetensors"), &file, &err), &err);
    assert_string_equal(safetensors_metadata(file, "format"), "mlx");
    /* given in another order, the same bytes come out */
    struct tensor_view views[3];
    for (size_t i = 0; i < 3; i++)
        views[i] = *safetensors_tensor_at(file, 2 - i);
    struct safetensors_kv kv = safetensors_metadata_at(file, 0);
    assert_ok(safetensors_write(out, views, 3, &kv, 1, &err), &err);
    read_all(path, &original);
    read_all(out, &written);
    assert_int_equal(written.len, original.len);
    assert_memory_equal(written.data, original.data, original.len);
    buf_release(&original);
    buf_release(&written);
    safetensors_free(file);
    test_dir_remove(dir);
}

static void test_written_tensors_are_aligned(void **state)
{
    (void)state;
    struct err err = {0};
    struct safetensors *file = NULL, *again = NULL;
    char path[FS_PATH_BYTES_MAX], dir[FS_PATH_BYTES_MAX], out[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(fs_join(out, dir, "out.safetensors", &err), &err);
    assert_ok(safetensors_open(fixture(path, "mixed.safetensors"), &file, &err), &err);
    static const struct safetensors_kv KV[2] = {{"z", "last"}, {"a", "quo\"te\nand \xc3\xbc"}};
    assert_ok(safetensors_write(out, safetensors_tensor_at(file, 0), 5, KV, 2, &err), &err);
    assert_ok(safetensors_open(out, &again, &err), &err);
    assert_string_equal(safetensors_metadata_at(again, 0).key, "a");
    assert_string_equal(safetensors_metadata(again, "a"), KV[1].value);
    for (size_t i = 0; i < 5; i++) {
        const struct tensor_view *a = safetensors_tensor_at(file, i);
        const struct tensor_view *b = safetensors_tensor(again, a->name);
        assert_non_null(b);
        assert_int_equal(b->type, a->type);
        assert_int_equal(b->bytes, a->bytes);
        assert_memory_equal(b->data, a->data, a->bytes);
        assert_int_equal((uintptr_t)b->data % tensor_type_block_bytes(b->type), 0);
    }
    safetensors_free(again);
    safetensors_free(file);
    test_dir_remove(dir);
}

static void test_empty_file_is_a_file(void **state)
{
    (void)state;
    struct err err = {0};
    struct safetensors *file = NULL;
    char dir[FS_PATH_BYTES_MAX], out[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(fs_join(out, dir, "out.safetensors", &err), &err);
    assert_ok(safetensors_write(out, NULL, 0, NULL, 0, &err), &err);
    assert_ok(safetensors_open(out, &file, &err), &err);
    assert_int_equal(safetensors_tensor_count(file), 0);
    safetensors_free(file);
    test_dir_remove(dir);
}

static void test_write_refuses(void **state)
{
    (void)state;
    static const uint8_t DATA[64];
    static const struct {
        const char *kind;
        struct tensor_view views[2];
        struct safetensors_kv kv[2];
        enum err_code code;
        const char *says;
    } ROWS[] = {
        {"name twice",
         {{.name = "a", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4},
          {.name = "a", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4}},
         {{"k", "v"}, {"l", "v"}},
         ERR_INVALID,
         "duplicate name: tensor 'a'"},
        {"key twice",
         {{.name = "a", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4},
          {.name = "b", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4}},
         {{"k", "v"}, {"k", "v"}},
         ERR_INVALID,
         "duplicate name: metadata 'k'"},
        {"quantised",
         {{.name = "a", .type = TENSOR_Q4_0, .n_dims = 1, .dims = {32}, .data = DATA, .bytes = 18},
          {.name = "b", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4}},
         {{"k", "v"}, {"l", "v"}},
         ERR_UNSUPPORTED,
         "cannot hold tensor 'a' of type Q4_0"},
        {"bytes",
         {{.name = "a", .type = TENSOR_F32, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 15},
          {.name = "b", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4}},
         {{"k", "v"}, {"l", "v"}},
         ERR_INVALID,
         "has 15 bytes, its type and shape need 16"},
        {"zero dimension",
         {{.name = "a", .type = TENSOR_F32, .n_dims = 1, .dims = {0}, .data = DATA, .bytes = 0},
          {.name = "b", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4}},
         {{"k", "v"}, {"l", "v"}},
         ERR_CORRUPT,
         "zero dimension"},
        {"reserved name",
         {{.name = "__metadata__",
           .type = TENSOR_U8,
           .n_dims = 1,
           .dims = {4},
           .data = DATA,
           .bytes = 4},
          {.name = "b", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4}},
         {{"k", "v"}, {"l", "v"}},
         ERR_INVALID,
         "cannot be a tensor's name"},
        {"name not UTF-8",
         {{.name = "a\xff", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4},
          {.name = "b", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4}},
         {{"k", "v"}, {"l", "v"}},
         ERR_INVALID,
         "not valid UTF-8"},
        {"value not UTF-8",
         {{.name = "a", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4},
          {.name = "b", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4}},
         {{"k", "\xff"}, {"l", "v"}},
         ERR_INVALID,
         "not valid UTF-8"},
    };
    char dir[FS_PATH_BYTES_MAX], out[FS_PATH_BYTES_MAX];
    struct err err = {0};
    test_dir_make(dir);
    assert_ok(fs_join(out, dir, "out.safetensors", &err), &err);
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        err_clear(&err);
        int rc = safetensors_write(out, ROWS[i].views, 2, ROWS[i].kv, 2, &err);
        if (rc != -(int)ROWS[i].code || !strstr(err.message, ROWS[i].says))
            fail_msg("%s: got %d \"%s\"", ROWS[i].kind, rc, err.message);
        assert_false(fs_exists(out));
    }
    test_dir_remove(dir);
}

static int count_entry(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(int *)ctx;
    return 0;
}

/* Fails every call of one kind in turn; the old file must stand until the new one does. */
static void walk_faults(enum fault_kind kind, const char *dir, const char *out)
{
    static const uint8_t OLD[4] = {1, 2, 3, 4}, NEW[4] = {5, 6, 7, 8};
    const struct tensor_view old = {
        .name = "t", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = OLD, .bytes = 4};
    const struct tensor_view new = {
        .name = "t", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = NEW, .bytes = 4};
    const struct safetensors_kv kv = {"k", "v"};
    size_t used = mem_used();
    for (uint64_t nth = 1;; nth++) {
        struct err err = {0};
        struct safetensors *file = NULL;
        assert_ok(safetensors_write(out, &old, 1, &kv, 1, &err), &err);
        fault_arm(kind, nth, false);
        int rc = safetensors_write(out, &new, 1, &kv, 1, &err);
        bool fired = fault_fired();
        fault_disarm();
        assert_true(fired == (rc != 0));
        err_clear(&err);
        assert_ok(safetensors_open(out, &file, &err), &err);
        const uint8_t *data = safetensors_tensor_at(file, 0)->data;
        assert_true(memcmp(data, NEW, 4) == 0 || (fired && memcmp(data, OLD, 4) == 0));
        safetensors_free(file);
        assert_int_equal(mem_used(), used);
        int entries = 0;
        assert_ok(fs_list_dir(dir, count_entry, &entries, &err), &err);
        assert_int_equal(entries, 1);
        if (!fired)
            break;
    }
}

static void test_write_faults_leave_old_or_new(void **state)
{
    (void)state;
    static const enum fault_kind KINDS[] = {FAULT_MALLOC, FAULT_OPEN, FAULT_WRITE, FAULT_FSYNC,
                                            FAULT_RENAME};
    char dir[FS_PATH_BYTES_MAX], out[FS_PATH_BYTES_MAX];
    struct err err = {0};
    test_dir_make(dir);
    assert_ok(fs_join(out, dir, "out.safetensors", &err), &err);
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        walk_faults(KINDS[i], dir, out);
    test_dir_remove(dir);
}

/* --- malformed --- */

/* A file of `header` and n bytes of data, its length field off by `extra`. */
static void build(struct buf *out, const char *header, size_t header_bytes, int64_t extra, size_t n)
{
    uint64_t length = header_bytes + (uint64_t)extra;
    for (unsigned i = 0; i < 8; i++)
        buf_putc(out, (char)(length >> (8 * i)));
    buf_append(out, header, header_bytes);
    for (size_t i = 0; i < n; i++)
        buf_putc(out, (char)i);
}

#define T(dtype, shape, begin, end)                                                                \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static const struct {
    const char *kind;
    const char *header;
    int64_t extra;
    size_t data_bytes;
    enum err_code code;
    const char *says;
} MALFORMED[] = {
    {"header longer than the file", "{}", 1, 0, ERR_CORRUPT, "header longer than the file: 3"},
    {"header far longer", "{}", 90 << 20, 0, ERR_CORRUPT, "header longer than the file"},
    {"header over the cap", "{}", 1 << 30, 0, ERR_CORRUPT, "header too large"},
    {"header of 2^64", "{}", -3, 0, ERR_CORRUPT, "header too large"},
    {"empty header", "", 0, 0, ERR_CORRUPT, "header: invalid JSON"},
    {"not JSON", "{\"a\":", 0, 0, ERR_CORRUPT, "header: invalid JSON"},
    {"not an object", "[]", 0, 0, ERR_CORRUPT, "invalid JSON: not an object"},
    {"not UTF-8", "{\"a\xff\":1}", 0, 0, ERR_CORRUPT, "header: invalid UTF-8"},
    {"duplicate name", "{\"a\":" T("U8", "[4]", "0", "4") ",\"a\":" T("U8", "[4]", "4", "8") "}", 0,
     8, ERR_CORRUPT, "duplicate"},
    {"empty name", "{\"\":" T("U8", "[4]", "0", "4") "}", 0, 4, ERR_CORRUPT, "name has 0 bytes"},
    {"entry of the wrong type", "{\"a\":7}", 0, 0, ERR_CORRUPT, "its entry is not an object"},
    {"no dtype", "{\"a\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 0, 4, ERR_CORRUPT,
     "\"dtype\" is missing"},
    {"no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 0, 4, ERR_CORRUPT,
     "\"shape\" is missing"},
    {"no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 0, 4, ERR_CORRUPT,
     "\"data_offsets\" is missing"},
    {"three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,2,4]}}", 0, 4,
     ERR_CORRUPT, "not two integers"},
    {"unknown type", "{\"a\":" T("X9", "[4]", "0", "4") "}", 0, 4, ERR_CORRUPT,
     "unknown type: tensor 'a' is of type 'X9'"},
    {"type of the other format", "{\"a\":" T("Q4_0", "[32]", "0", "18") "}", 0, 18, ERR_CORRUPT,
     "unknown type"},
    {"known type without a reader", "{\"a\":" T("F4", "[8]", "0", "4") "}", 0, 4, ERR_UNSUPPORTED,
     "type F4"},
    {"real dimension", "{\"a\":" T("U8", "[4.0]", "0", "4") "}", 0, 4, ERR_CORRUPT,
     "a dimension is not an integer"},
    {"zero dimension", "{\"a\":" T("U8", "[0]", "0", "0") "}", 0, 0, ERR_CORRUPT, "zero dimension"},
    {"negative dimension", "{\"a\":" T("U8", "[-4]", "0", "4") "}", 0, 4, ERR_CORRUPT,
     "negative dimension (-4)"},
    {"overflowing dimensions", "{\"a\":" T("U8", "[4294967296,4294967296,4]", "0", "4") "}", 0, 4,
     ERR_CORRUPT, "overflows"},
    {"five dimensions", "{\"a\":" T("U8", "[1,1,1,1,4]", "0", "4") "}", 0, 4, ERR_UNSUPPORTED,
     "has 5 dimensions"},
    {"size does not match", "{\"a\":" T("F32", "[4]", "0", "8") "}", 0, 8, ERR_CORRUPT,
     "size does not match the type: tensor 'a' [4] of F32 needs 16 bytes"},
    {"offsets reversed", "{\"a\":" T("U8", "[4]", "4", "0") "}", 0, 4, ERR_CORRUPT,
     "are not a range"},
    {"offset negative", "{\"a\":" T("U8", "[4]", "-4", "0") "}", 0, 4, ERR_CORRUPT,
     "are not a range"},
    {"offset past the end", "{\"a\":" T("U8", "[4]", "9", "13") "}", 0, 8, ERR_CORRUPT,
     "offset past the end: tensor 'a' at 9"},
    {"truncated data", "{\"a\":" T("U8", "[4]", "0", "4") "}", 0, 3, ERR_CORRUPT,
     "truncated data: tensor 'a' ends at 4"},
    {"overlapping tensors",
     "{\"a\":" T("U8", "[4]", "0", "4") ",\"b\":" T("U8", "[4]", "3", "7") "}", 0, 7, ERR_CORRUPT,
     "overlapping tensors: 'a' ends at 4, 'b' begins at 3"},
    {"hole", "{\"a\":" T("U8", "[4]", "0", "4") ",\"b\":" T("U8", "[4]", "6", "10") "}", 0, 10,
     ERR_CORRUPT, "hole in the data: 2 bytes before tensor 'b'"},
    {"bytes left over", "{\"a\":" T("U8", "[4]", "0", "4") "}", 0, 5, ERR_CORRUPT,
     "the tensors end at 4 but the data has 5 bytes"},
    {"metadata no object", "{\"__metadata__\":[]}", 0, 0, ERR_CORRUPT, "is not an object"},
    {"metadata of the wrong type", "{\"__metadata__\":{\"k\":1}}", 0, 0, ERR_CORRUPT,
     "metadata 'k' is not a string"},
};

static void test_malformed_files_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof MALFORMED / sizeof *MALFORMED; i++) {
        struct err err = {0};
        struct buf file;
        struct safetensors *tensors = NULL;
        size_t used = mem_used();
        buf_init(&file, 1 << 20);
        build(&file, MALFORMED[i].header, strlen(MALFORMED[i].header), MALFORMED[i].extra,
              MALFORMED[i].data_bytes);
        int rc = safetensors_parse(file.data, file.len, &tensors, &err);
        if (rc != -(int)MALFORMED[i].code || !strstr(err.message, MALFORMED[i].says))
            fail_msg("%s: got %d \"%s\"", MALFORMED[i].kind, rc, err.message);
        buf_release(&file);
        assert_int_equal(mem_used(), used);
    }
}

static void test_every_cut_is_refused(void **state)
{
    (void)state;
    struct buf file;
    char path[FS_PATH_BYTES_MAX];
    read_all(fixture(path, "mixed.safetensors"), &file);
    for (size_t n = 0; n < file.len; n++) {
        struct err err = {0};
        struct safetensors *tensors = NULL;
        char *copy = malloc(n ? n : 1);
        memcpy(copy, file.data, n);
        assert_int_equal(safetensors_parse(copy, n, &tensors, &err), -ERR_CORRUPT);
        free(copy);
    }
    buf_release(&file);
}

static void test_read_allocation_failures(void **state)
{
    (void)state;
    struct buf file;
    char path[FS_PATH_BYTES_MAX];
    read_all(fixture(path, "uniform.safetensors"), &file);
    size_t used = mem_used();
    for (uint64_t nth = 1;; nth++) {
        struct err err = {0};
        struct safetensors *tensors = NULL;
        fault_arm(FAULT_MALLOC, nth, false);
        int rc = safetensors_parse(file.data, file.len, &tensors, &err);
        bool fired = fault_fired();
        fault_disarm();
        safetensors_free(tensors);
        assert_int_equal(mem_used(), used);
        if (!fired) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ERR_NOMEM);
    }
    buf_release(&file);
}

/* --- shards --- */

static void put_file(const char *dir, const char *name, const char *text)
{
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    assert_ok(fs_join(path, dir, name, &err), &err);
    assert_ok(fs_write_file(path, text, strlen(text), &err), &err);
}

static void put_shards(const char *dir)
{
    static const uint8_t DATA[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const struct tensor_view one[2] = {
        {.name = "a", .type = TENSOR_U8, .n_dims = 1, .dims = {4}, .data = DATA, .bytes = 4},
        {.name = "unlisted",
         .type = TENSOR_U8,
         .n_dims = 1,
         .dims = {1},
         .data = DATA,
         .bytes = 1}};
    const struct tensor_view two[2] = {
        {.name = "c", .type = TENSOR_U8, .n_dims = 1, .dims = {2}, .data = DATA, .bytes = 2},
        {.name = "b", .type = TENSOR_U8, .n_dims = 1, .dims = {3}, .data = DATA + 5, .bytes = 3}};
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    assert_ok(fs_join(path, dir, "one.safetensors", &err), &err);
    assert_ok(safetensors_write(path, one, 2, NULL, 0, &err), &err);
    assert_ok(fs_join(path, dir, "two.safetensors", &err), &err);
    assert_ok(safetensors_write(path, two, 2, NULL, 0, &err), &err);
}

static void test_shards_are_one_model(void **state)
{
    (void)state;
    struct err err = {0};
    struct safetensors *file = NULL;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    put_shards(dir);
    put_file(dir, "m.index.json",
             "{\"metadata\":{\"total_size\":9},\"weight_map\":{\"c\":\"two.safetensors\","
             "\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}");
    assert_ok(fs_join(path, dir, "m.index.json", &err), &err);
    assert_ok(safetensors_open(path, &file, &err), &err);
    assert_int_equal(safetensors_tensor_count(file), 3);
    assert_string_equal(safetensors_tensor_at(file, 1)->name, "b");
    assert_int_equal(safetensors_tensor(file, "b")->data[0], 6);
    assert_null(safetensors_tensor(file, "unlisted"));
    assert_true(safetensors_file_bytes(file) > 200);
    safetensors_free(file);
    size_t used = mem_used();
    for (uint64_t nth = 1;; nth++) {
        file = NULL;
        err_clear(&err);
        fault_arm(FAULT_MALLOC, nth, false);
        int rc = safetensors_open(path, &file, &err);
        bool fired = fault_fired();
        fault_disarm();
        safetensors_free(file);
        assert_int_equal(mem_used(), used);
        if (!fired)
            break;
        assert_int_equal(rc, -ERR_NOMEM);
    }
    test_dir_remove(dir);
}

static void test_bad_indexes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *text;
        enum err_code code;
        const char *says;
    } ROWS[] = {
        {"not JSON", "{", ERR_CORRUPT, "invalid JSON"},
        {"not UTF-8", "{\"\xff\":1}", ERR_CORRUPT, "invalid UTF-8"},
        {"no map", "{\"metadata\":{}}", ERR_CORRUPT, "\"weight_map\" is missing"},
        {"empty map", "{\"weight_map\":{}}", ERR_CORRUPT, "1 to 65536 entries (0)"},
        {"wrong type", "{\"weight_map\":{\"a\":1}}", ERR_CORRUPT, "weight_map of 'a'"},
        {"other folder", "{\"weight_map\":{\"a\":\"../one.safetensors\"}}", ERR_CORRUPT,
         "not a plain file name"},
        {"absolute", "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", ERR_CORRUPT,
         "not a plain file name"},
        {"itself", "{\"weight_map\":{\"a\":\"m.index.json\"}}", ERR_CORRUPT, "m.index.json"},
        {"no shard", "{\"weight_map\":{\"a\":\"three.safetensors\"}}", ERR_NOT_FOUND,
         "three.safetensors"},
        {"not in the shard", "{\"weight_map\":{\"a\":\"two.safetensors\"}}", ERR_CORRUPT,
         "missing tensors: 'a' is not in shard 'two.safetensors'"},
    };
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    struct err err = {0};
    test_dir_make(dir);
    put_shards(dir);
    assert_ok(fs_join(path, dir, "m.index.json", &err), &err);
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct safetensors *file = NULL;
        size_t used = mem_used();
        put_file(dir, "m.index.json", ROWS[i].text);
        err_clear(&err);
        int rc = safetensors_open(path, &file, &err);
        if (rc != -(int)ROWS[i].code || !strstr(err.message, ROWS[i].says))
            fail_msg("%s: got %d \"%s\"", ROWS[i].kind, rc, err.message);
        assert_int_equal(mem_used(), used);
    }
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_every_type),
        cmocka_unit_test(test_writes_the_reference_bytes),
        cmocka_unit_test(test_written_tensors_are_aligned),
        cmocka_unit_test(test_empty_file_is_a_file),
        cmocka_unit_test(test_write_refuses),
        cmocka_unit_test(test_write_faults_leave_old_or_new),
        cmocka_unit_test(test_malformed_files_are_named),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_read_allocation_failures),
        cmocka_unit_test(test_shards_are_one_model),
        cmocka_unit_test(test_bad_indexes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
