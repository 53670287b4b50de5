/* Conversions of every family between folders and GGUF, forth and back: where both sides can say
 * the same numbers, nothing changes, to the last bit (the comparison that train_merge itself makes
 * gives zero); quantised again, it says so. */
#include "formats/dequant.h"
#include "formats/gguf.h"
#include "formats/model_files.h"
#include "test.h"
#include "train/merge.h"
#include "train/merge_int.h"

#define FAMILIES "tests/fixtures/engine/families/"
#define SERVE    "tests/fixtures/engine/serve/"

static int convert(const char *from, const char *to, enum merge_format format, enum merge_type type,
                   int bits, uint32_t group, struct merge_result *result, struct err *err)
{
    const struct merge_spec spec = {.base_id = "tiny",
                                    .base_path = from,
                                    .dest = to,
                                    .format = format,
                                    .type = type,
                                    .bits = bits,
                                    .group = group,
                                    .threads = 1,
                                    .isa = "best"};
    return train_merge(&spec, NULL, result, err);
}

/* most: the largest difference of log-probabilities. */
static void must(const char *from, const char *to, enum merge_format format, enum merge_type type,
                 double most)
{
    struct merge_result result;
    struct err err = {0};
    const int rc = convert(from, to, format, type, 0, 0, &result, &err);
    if (rc != 0 || result.largest_difference > most || result.requantised + result.quantised > 0) {
        fail_msg("%s to %s: %d \"%s\", differs by %g", from, to, rc, err.message,
                 result.largest_difference);
    }
    assert_true(result.probed > 0);
}

static void same_file(const char *a, const char *b)
{
    struct fs_map x, y;
    struct err err = {0};
    assert_ok(fs_map_open(&x, a, &err), &err);
    assert_ok(fs_map_open(&y, b, &err), &err);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    fs_map_close(&x);
    fs_map_close(&y);
}

static void test_forth_and_back(void **state)
{
    static const struct {
        const char *name;
        double off; /* rope's factors are rounded in the file */
    } rows[] = {{"gemma2", 0},       {"gemma3", 0},        {"granite", 0},       {"llama", 2e-5},
                {"llama_linear", 0}, {"llama_yarn", 2e-5}, {"mistral", 0},       {"olmo2", 0},
                {"phi3", 0},         {"phi3_long", 2e-5},  {"phi3_short", 2e-5}, {"qwen2", 0},
                {"qwen3", 0},        {"smollm3", 0},       {"gemma3/wrapped", 0}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char dir[FS_PATH_BYTES_MAX], base[FS_PATH_BYTES_MAX], a[FS_PATH_BYTES_MAX];
        char b[FS_PATH_BYTES_MAX], c[FS_PATH_BYTES_MAX], d[FS_PATH_BYTES_MAX];
        struct err err = {0};
        test_dir_make(dir);
        snprintf(base, sizeof base, FAMILIES "%s", rows[i].name);
        assert_ok(fs_join(a, dir, "a.gguf", &err), &err);
        assert_ok(fs_join(b, dir, "b", &err), &err);
        assert_ok(fs_join(c, dir, "c.gguf", &err), &err);
        assert_ok(fs_join(d, dir, "d.gguf", &err), &err);
        must(base, a, MERGE_GGUF, MERGE_KEEP, rows[i].off);
        must(a, b, MERGE_SAFETENSORS, MERGE_F32, rows[i].off);
        must(b, c, MERGE_GGUF, MERGE_F16, rows[i].off);
        must(a, d, MERGE_GGUF, MERGE_KEEP, 0);
        same_file(a, d); /* of GGUF every byte is kept */
        test_dir_remove(dir);
    }
}

/* Blocks of 32 have the same values as groups of 32 with fp16 scales, and come back as they were.
 */
static void test_blocks_become_groups_and_blocks_again(void **state)
{
    char dir[FS_PATH_BYTES_MAX], mlx[FS_PATH_BYTES_MAX], back[FS_PATH_BYTES_MAX];
    struct merge_result result;
    struct gguf *x, *y;
    struct err err = {0};
    (void)state;
    test_dir_make(dir);
    assert_ok(fs_join(mlx, dir, "mlx", &err), &err);
    assert_ok(fs_join(back, dir, "back.gguf", &err), &err);
    assert_ok(convert(SERVE "q4_1.gguf", mlx, MERGE_MLX, MERGE_KEEP, 4, 0, &result, &err), &err);
    assert_int_equal(result.requantised, 0);
    assert_int_equal(result.quantised, 0);
    assert_true(result.exact > 0);
    assert_ok(convert(mlx, back, MERGE_GGUF, MERGE_KEEP, 0, 0, &result, &err), &err);
    assert_ok(gguf_open(SERVE "q4_1.gguf", &x, &err), &err);
    assert_ok(gguf_open(back, &y, &err), &err);
    int same = 0;
    for (size_t i = 0; i < gguf_tensor_count(x); i++) {
        const struct tensor_view *was = gguf_tensor_at(x, i);
        const struct tensor_view *is = gguf_tensor(y, was->name);
        assert_non_null(is);
        if (was->type == TENSOR_Q4_1) {
            assert_int_equal(is->type, TENSOR_Q4_1);
            assert_memory_equal(was->data, is->data, was->bytes);
            same++;
        }
    }
    assert_true(same > 0);
    gguf_free(x);
    gguf_free(y);
    test_dir_remove(dir);
}

static void test_other_grids_are_told_of(void **state)
{
    static const struct {
        const char *base;
        int bits;
        uint32_t group;
        bool again; /* quantised before */
    } rows[] = {{SERVE "q4_1.gguf", 4, 64, true},
                {SERVE "q4_1.gguf", 8, 64, true},
                {FAMILIES "llama_linear", 4, 32, false},
                {FAMILIES "phi3/affine", 4, 32, true}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char dir[FS_PATH_BYTES_MAX], to[FS_PATH_BYTES_MAX];
        struct merge_result result;
        struct err err = {0};
        test_dir_make(dir);
        assert_ok(fs_join(to, dir, "to", &err), &err);
        assert_ok(convert(rows[i].base, to, MERGE_MLX, MERGE_KEEP, rows[i].bits, rows[i].group,
                          &result, &err),
                  &err);
        assert_true(rows[i].again ? result.requantised > 0 : result.quantised > 0);
        assert_true(result.mean_difference > 0);
        test_dir_remove(dir);
    }
}

static void test_what_cannot_be(void **state)
{
    static const struct {
        const char *base;
        enum merge_format format;
        enum merge_type type;
        int bits;
        uint32_t group;
        enum err_code code;
        const char *says;
    } rows[] = {
        {FAMILIES "llama", MERGE_MLX, MERGE_Q8_0, 0, 0, ERR_INVALID, "only GGUF"},
        {FAMILIES "llama", MERGE_GGUF, MERGE_KEEP, 4, 0, ERR_INVALID, "MLX's format"},
        {FAMILIES "llama", MERGE_MLX, MERGE_KEEP, 3, 0, ERR_INVALID, "4 or 8 bits"},
        {FAMILIES "llama", MERGE_MLX, MERGE_KEEP, 4, 48, ERR_INVALID, "groups of 32, 64"},
        {"/nowhere", MERGE_MLX, MERGE_KEEP, 4, 0, ERR_NOT_FOUND, "/nowhere"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char dir[FS_PATH_BYTES_MAX], to[FS_PATH_BYTES_MAX];
        struct merge_result result;
        struct err err = {0};
        test_dir_make(dir);
        assert_ok(fs_join(to, dir, "to", &err), &err);
        const int rc = convert(rows[i].base, to, rows[i].format, rows[i].type, rows[i].bits,
                               rows[i].group, &result, &err);
        if (rc != -(int)rows[i].code || strstr(err.message, rows[i].says) == NULL) {
            fail_msg("row %zu says \"%s\"", i, err.message);
        }
        assert_false(fs_exists(to));
        test_dir_remove(dir);
    }
}

/* Values to blocks and back: no value is farther off than half a step. */
static void test_blocks_are_near(void **state)
{
    static const enum tensor_type types[] = {TENSOR_Q8_0, TENSOR_Q4_0};
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        float values[32], back[32], most = 0;
        uint8_t block[40];
        for (int i = 0; i < 32; i++) {
            values[i] = (float)((i * 37) % 64 - 31) / 16.0f;
            most = values[i] * values[i] > most * most ? values[i] : most;
        }
        merge_encode(types[t], values, 32, block);
        tensor_dequant_blocks(types[t], block, 1, back);
        const float step = (most < 0 ? -most : most) / (types[t] == TENSOR_Q8_0 ? 127.0f : 8.0f);
        for (int i = 0; i < 32; i++) {
            const float off = back[i] - values[i];
            assert_true((off < 0 ? -off : off) <= (types[t] == TENSOR_Q8_0 ? 0.51f : 1.01f) * step);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forth_and_back),
        cmocka_unit_test(test_blocks_become_groups_and_blocks_again),
        cmocka_unit_test(test_other_grids_are_told_of),
        cmocka_unit_test(test_what_cannot_be),
        cmocka_unit_test(test_blocks_are_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
