/* De-quantising: bit-equal to the package that defines the format, and to hand-made blocks. */
#include "test.h"

#include "formats/dequant.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"

static void test_equals_the_reference(void **state)
{
    (void)state;
    static const char *const TYPES[] = {"F16",  "BF16", "Q4_0", "Q4_1", "Q5_0",
                                        "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"};
    struct err err = {0};
    struct gguf *gguf = NULL;
    assert_ok(gguf_open("tests/fixtures/formats/dequant.gguf", &gguf, &err), &err);
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s.expected", TYPES[i]);
        const struct tensor_view *view = gguf_tensor(gguf, TYPES[i]);
        const struct tensor_view *expected = gguf_tensor(gguf, name);
        assert_non_null(view);
        assert_non_null(expected);
        assert_string_equal(tensor_type_name(view->type), TYPES[i]);
        assert_true(tensor_type_dequantises(view->type));
        uint64_t rows = tensor_view_rows(view), cols = tensor_view_cols(view);
        assert_int_equal(expected->bytes, rows * cols * sizeof(float));
        float *out = test_calloc(cols, sizeof *out);
        float *wanted = test_calloc(cols, sizeof *wanted);
        for (uint64_t row = 0; row < rows; row++) {
            tensor_dequant_row(view, row, out);
            tensor_dequant_row(expected, row, wanted);
            if (memcmp(out, wanted, cols * sizeof *out) != 0)
                fail_msg("%s: row %d differs", TYPES[i], (int)row);
        }
        test_free(out);
        test_free(wanted);
    }
    gguf_free(gguf);
}

/* What mx.quantize wrote, read as the type that model_files gives it, is what mx.dequantize reads.
 */
static void test_equals_mlx(void **state)
{
    (void)state;
    static const char *const KINDS[] = {"f16", "bf16"};
    struct err err = {0};
    struct safetensors *file = NULL;
    assert_ok(safetensors_open("tests/fixtures/formats/affine.safetensors", &file, &err), &err);
    for (unsigned i = 0; i < 12; i++) {
        char names[4][64];
        static const char *const PARTS[] = {"weight", "scales", "biases", "expected"};
        const struct tensor_view *parts[4];
        const unsigned bits = i % 2 ? 8 : 4, group = 32u << i / 2 % 3;
        for (size_t j = 0; j < 4; j++) {
            snprintf(names[j], sizeof names[j], "%u.%u.%s.%s", bits, group, KINDS[i / 6], PARTS[j]);
            parts[j] = safetensors_tensor(file, names[j]);
            assert_non_null(parts[j]);
        }
        const struct tensor_view view = {.name = names[0],
                                         .type = bits == 8 ? TENSOR_MLX8 : TENSOR_MLX4,
                                         .n_dims = 2,
                                         .dims = {3, 256},
                                         .data = parts[0]->data,
                                         .bytes = parts[0]->bytes,
                                         .scales = parts[1]->data,
                                         .biases = parts[2]->data,
                                         .scale_type = parts[1]->type,
                                         .group = group};
        assert_int_equal(view.bytes, 3 * tensor_type_row_bytes(view.type, 256));
        for (uint64_t row = 0; row < 3; row++) {
            float out[256], wanted[256];
            tensor_dequant_row(&view, row, out);
            tensor_dequant_row(parts[3], row, wanted);
            if (memcmp(out, wanted, sizeof out) != 0)
                fail_msg("%s: row %d differs", names[0], (int)row);
        }
    }
    safetensors_free(file);
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void test_halves(void **state)
{
    (void)state;
    static const struct {
        uint16_t half;
        uint32_t bits;
    } ROWS[] = {
        {0x0000, 0x00000000}, {0x8000, 0x80000000}, {0x3c00, 0x3f800000}, {0xc000, 0xc0000000},
        {0x7bff, 0x477fe000}, {0x0001, 0x33800000}, {0x83ff, 0xb87fc000}, {0x0400, 0x38800000},
        {0x7c00, 0x7f800000}, {0xfc00, 0xff800000}, {0x7e01, 0x7fc02000},
    };
    float value;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        const uint8_t bytes[2] = {(uint8_t)ROWS[i].half, (uint8_t)(ROWS[i].half >> 8)};
        tensor_dequant_blocks(TENSOR_F16, bytes, 1, &value);
        assert_int_equal(bits_of(value), ROWS[i].bits);
    }
    tensor_dequant_blocks(TENSOR_BF16, (const uint8_t[2]){0x80, 0xbf}, 1, &value);
    assert_int_equal(bits_of(value), 0xbf800000);
}

static void test_q4_1_by_hand(void **state)
{
    (void)state;
    /* d = 0.5, m = -1: nibbles 0 and 15 give -1 and 6.5 */
    uint8_t block[20] = {0x00, 0x38, 0x00, 0xbc, 0xf0};
    float out[32];
    tensor_dequant_blocks(TENSOR_Q4_1, block, 1, out);
    assert_true(out[0] == -1.0f);
    assert_true(out[16] == 6.5f);
    assert_true(out[31] == -1.0f);
}

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(tensor_type_row_bytes(TENSOR_Q4_1, 576), 360);
    assert_int_equal(tensor_type_row_bytes(TENSOR_Q4_1, 570), 0);
    assert_int_equal(tensor_type_row_bytes(TENSOR_Q6_K, 512), 420);
    assert_int_equal(tensor_type_row_bytes(TENSOR_F64, UINT64_MAX), 0);
    assert_int_equal(tensor_type_row_bytes(TENSOR_TYPE_COUNT, 32), 0);
    assert_int_equal(tensor_type_by_name("BF16"), TENSOR_BF16);
    assert_int_equal(tensor_type_by_name("bf16"), TENSOR_TYPE_COUNT);
    assert_string_equal(tensor_type_name(TENSOR_TYPE_COUNT), "?");
    assert_false(tensor_type_dequantises(TENSOR_Q2_K));
    assert_false(tensor_type_usable(TENSOR_Q2_K));
    /* the list for messages is the table's */
    for (int type = 0; type < TENSOR_TYPE_COUNT; type++) {
        char item[16];
        snprintf(item, sizeof item, "%s,", tensor_type_name((enum tensor_type)type));
        char list[128];
        snprintf(list, sizeof list, "%s,", tensor_type_usable_list());
        const char *at = strstr(list, item);
        bool listed = at && (at == list || at[-1] == ' ');
        assert_int_equal(listed, tensor_type_usable((enum tensor_type)type));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_the_reference),
        cmocka_unit_test(test_equals_mlx),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_q4_1_by_hand),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
