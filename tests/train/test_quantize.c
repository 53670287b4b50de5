/* QLoRA: a float base is quantised as MLX does it and trained on frozen; stopped runs and other
 * thread counts give the same bytes. */
#include "formats/manifest.h"
#include "formats/model_digest.h"
#include "train/merge_int.h"
#include "train/run_fixture.h"

#define CONFIG(bits) FIXTURE_CONFIG(",\"quantization\":\"" bits "\",\"checkpoint_every\":3")

enum { ROWS = 4, COLS = 64 };

static double real_at(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

static void compare_row(const json_t *golden, const json_t *c, size_t r)
{
    const int bits = (int)json_integer_value(json_object_get(c, "bits"));
    const uint32_t group = (uint32_t)json_integer_value(json_object_get(c, "group"));
    const json_t *weights = json_array_get(json_object_get(golden, "weights"), r);
    float row[COLS], scales[2], biases[2];
    uint32_t words[COLS / 4];
    for (size_t i = 0; i < COLS; i++) {
        row[i] = (float)real_at(weights, i);
    }
    merge_quantize_row(row, COLS, group, bits, TENSOR_F32, true, (uint8_t *)words,
                       (uint8_t *)scales, (uint8_t *)biases);
    for (size_t g = 0; g < COLS / group; g++) {
        const double scale = real_at(json_array_get(json_object_get(c, "scales"), r), g);
        const double bias = real_at(json_array_get(json_object_get(c, "biases"), r), g);
        if (fabs((double)scales[g] - scale) > 1e-6 * fabs(scale) ||
            fabs((double)biases[g] - bias) > 1e-6 * fabs(bias)) {
            fail_msg("%d bits, group %u, row %zu: scale %g (%g), bias %g (%g)", bits, group, r,
                     (double)scales[g], scale, (double)biases[g], bias);
        }
    }
    for (size_t i = 0; i < COLS; i++) {
        const size_t bit = i * (size_t)bits;
        const uint32_t q = words[bit / 32] >> bit % 32 & ((1u << bits) - 1);
        const float got = scales[i / group] * (float)q + biases[i / group];
        const double want = real_at(json_array_get(json_object_get(c, "back"), r), i);
        /* a value half way between two points may go to either */
        const double step = fabs((double)scales[i / group]);
        assert_true(fabs((double)got - want) < 1e-6 ||
                    fabs(fabs((double)got - want) - step) < 1e-5 * step);
        assert_true(fabs((double)got - (double)row[i]) <= step + 1e-7);
    }
}

static void test_as_mlx(void **state)
{
    json_t *golden = fixture_json("quantize.json");
    size_t i;
    const json_t *c;
    (void)state;
    json_array_foreach(json_object_get(golden, "cases"), i, c)
    {
        for (size_t r = 0; r < ROWS; r++) {
            compare_row(golden, c, r);
        }
    }
    assert_int_equal(i, 4);
    json_decref(golden);
}

static void test_groups(void **state)
{
    (void)state;
    assert_int_equal(merge_group(576, 0), 64);
    assert_int_equal(merge_group(96, 0), 32);
    assert_int_equal(merge_group(48, 0), 0); /* left as it is */
}

static void test_trains_on_a_quantised_base(void **state)
{
    static const char *const configs[] = {CONFIG("4bit"), CONFIG("8bit")};
    struct run_fixture plain;
    double off[2];
    (void)state;
    fixture_new(&plain, FIXTURE_CONFIG(""));
    fixture_run(&plain);
    for (size_t i = 0; i < 2; i++) {
        struct run_fixture f;
        struct manifest m;
        struct err err = {0};
        char sha256[SHA256_HEX_BYTES], copy[FS_PATH_BYTES_MAX];
        uint64_t whole = 0, less = 0;
        fixture_new(&f, configs[i]);
        fixture_run(&f);
        assert_non_null(strstr(f.notes, "quantising the frozen base to"));
        off[i] = fabs(f.result.first_loss - plain.result.first_loss);
        assert_true(f.result.final_loss < f.result.first_loss + 0.5);
        assert_ok(manifest_read(&m, f.output, &err), &err);
        assert_ok(model_digest(FIXTURE_BASE, sha256, &err), &err);
        assert_string_equal(m.base_sha256, sha256); /* the adapter is the float base's */
        manifest_release(&m);
        snprintf(copy, sizeof copy, "%.*s/base-%s", 1024, f.checkpoints, i == 0 ? "4bit" : "8bit");
        assert_false(fs_exists(copy));
        assert_ok(train_estimate(FIXTURE_BASE, &plain.config, 0, &whole, &err), &err);
        assert_ok(train_estimate(FIXTURE_BASE, &f.config, 0, &less, &err), &err);
        assert_true(less <= whole);
        fixture_free(&f);
    }
    assert_true(off[0] > off[1] && off[1] > 0); /* 8 bits are nearer than 4 */
    assert_true(off[1] < 0.02);
    fixture_free(&plain);
}

static void write_weights(const char *from, const char *to, int bits)
{
    const struct merge_spec spec = {
        .base_id = "tiny", .base_path = from, .dest = to, .type = MERGE_F32, .bits = bits};
    struct merge_result result;
    struct err err = {0};
    assert_ok(train_merge(&spec, NULL, &result, &err), &err);
}

/* Training on a frozen base in 4 or 8 bits is training on the fp32 values that its weights stand
 * for, to the last bit; that training is held against PEFT. */
static void test_trains_as_on_what_the_weights_stand_for(void **state)
{
    static const char *const configs[] = {CONFIG("4bit"), CONFIG("8bit")};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char want[SHA256_HEX_BYTES], packed[FS_PATH_BYTES_MAX], plain[FS_PATH_BYTES_MAX];
        struct run_fixture f;
        struct err err = {0};
        fixture_checksum(configs[i], want);
        fixture_new(&f, FIXTURE_CONFIG(",\"checkpoint_every\":3"));
        assert_ok(fs_join(packed, f.dir, "packed", &err), &err);
        assert_ok(fs_join(plain, f.dir, "plain", &err), &err);
        write_weights(FIXTURE_BASE, packed, i == 0 ? 4 : 8);
        write_weights(packed, plain, 0);
        f.spec.base_path = plain;
        fixture_run(&f);
        assert_string_equal(f.result.checksum, want);
        fixture_free(&f);
    }
}

static void test_same_bits_when_stopped(void **state)
{
    char want[SHA256_HEX_BYTES];
    struct run_fixture f;
    struct err err = {0};
    (void)state;
    fixture_checksum(CONFIG("4bit"), want);
    fixture_new(&f, CONFIG("4bit"));
    f.spec.threads = 2;
    f.spec.isa = "ref";
    f.stop = TRAIN_CHECKPOINT_AND_STOP;
    f.stop_at_poll = fixture_polls(CONFIG("4bit")) - 4; /* within the last steps */
    assert_err(train_run(&f.spec, &f.hooks, &f.result, &err), &err, ERR_CLOSED);
    f.stop_at_poll = 0;
    fixture_run(&f);
    assert_true(f.result.resumed_from_step > 0);
    assert_string_equal(f.result.checksum, want);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_mlx),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_trains_on_a_quantised_base),
        cmocka_unit_test(test_trains_as_on_what_the_weights_stand_for),
        cmocka_unit_test(test_same_bits_when_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
