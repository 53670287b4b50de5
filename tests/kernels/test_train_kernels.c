/* The training kernels of every instruction set that this machine runs, against the reference. */
#include <math.h>

#include "kernels/kernels.h"
#include "kernels/train_cases.h"
#include "test.h"

static void test_same_bits(void **state)
{
    (void)state;
    for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
        print_message("%s\n", *isa);
        assert_int_equal(train_cases(*isa), 0);
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_null(train_kernels_get("sse"));
    assert_string_equal(train_kernels_get("best")->isa, kernels_available()[0]);
}

/* The product's definition, spelled out. */
static void test_product(void **state)
{
    (void)state;
    enum { TOKENS = 5, STEPS = 70, COLS = 19 };
    float x[TOKENS][STEPS], panel[STEPS][TRAIN_PANEL] = {{0}}, got[TOKENS][TRAIN_PANEL];
    float packed[2 * TRAIN_TILE_MAX * STEPS];
    for (int i = 0; i < TOKENS * STEPS; i++) {
        x[i / STEPS][i % STEPS] = (float)(i * 37 % 101) / 50.0f - 1.0f;
    }
    for (int i = 0; i < STEPS * COLS; i++) {
        panel[i / COLS][i % COLS] = (float)(i * 53 % 97) / 48.0f - 1.0f;
    }
    for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
        const struct train_kernels *kernels = train_kernels_get(*isa);
        kernels->pack(packed, x[0], STEPS, TOKENS, STEPS);
        const struct train_product product = {.c = got[0],
                                              .ldc = TRAIN_PANEL,
                                              .x = packed,
                                              .x_tile = STEPS * kernels->tile_tokens,
                                              .w = panel[0],
                                              .n_tokens = TOKENS,
                                              .n_k = STEPS,
                                              .n_lanes = TRAIN_PANEL};
        kernels->product(&product);
        for (int t = 0; t < TOKENS; t++) {
            for (int i = 0; i < TRAIN_PANEL; i++) {
                float want = 0.0f;
                for (int k = 0; k < STEPS; k++) {
                    want = fmaf(panel[k][i], x[t][k], want);
                }
                assert_memory_equal(&got[t][i], &want, sizeof want);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
