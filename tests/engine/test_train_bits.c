/* Same bits: gradients and losses do not depend on instruction set, thread count, or on how the
 * rows of an optimizer step are packed into micro-steps. Compared byte for byte with one reference:
 * scalar, one thread, one row at a time. */
#include "engine/train_fixture.h"
#include "kernels/kernels.h"

struct result {
    float *values; /* all gradients, one after another */
    size_t n;
    struct engine_loss loss;
};

/* How four rows are cut into micro-steps: rows of each, 0 ends. */
static const int cuts[][FIXTURE_ROWS + 1] = {{1, 1, 1, 1, 0}, {2, 2, 0}, {4, 0}, {1, 3, 0}};

static void take_gradients(struct fixture *f, struct result *result)
{
    int n = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(f->adapter, &n);
    float *const *gradients = engine_trainer_gradients(f->trainer);
    result->n = 0;
    for (int i = 0; i < n; i++) {
        result->n += (size_t)tensors[i].rows * (size_t)tensors[i].cols;
    }
    result->values = calloc(result->n, sizeof(float));
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const size_t values = (size_t)tensors[i].rows * (size_t)tensors[i].cols;
        memcpy(result->values + at, gradients[i], values * sizeof(float));
        at += values;
    }
}

static void optimizer_step(struct fixture *f, const int *cut, struct result *result)
{
    struct err err = {0};
    const float inverse = 1.0f / (float)count_targets(f->rows, FIXTURE_ROWS);
    memset(result, 0, sizeof *result);
    engine_trainer_zero(f->trainer);
    for (int at = 0; *cut != 0; at += *cut++) {
        assert_ok(
            engine_train_step(f->trainer, f->rows + at, *cut, 3, inverse, &result->loss, &err),
            &err);
    }
    take_gradients(f, result);
}

static void check_same(const struct result *got, const struct result *want, const char *isa,
                       int threads, int cut)
{
    assert_int_equal(got->n, want->n);
    for (size_t i = 0; i < got->n; i++) {
        if (memcmp(&got->values[i], &want->values[i], sizeof(float)) != 0) {
            fail_msg("%s, %d threads, cut %d: gradient %zu is %a, the reference %a", isa, threads,
                     cut, i, (double)got->values[i], (double)want->values[i]);
        }
    }
    assert_memory_equal(&got->loss, &want->loss, sizeof got->loss);
}

static void open_rows(struct fixture *f, const char *name, const char *isa, int threads,
                      float dropout, bool alike)
{
    fixture_open(f, name, isa, threads, dropout);
    if (alike) {
        fixture_begin_alike(f);
    }
}

static void same_bits(const char *name, float dropout, bool alike)
{
    struct fixture f;
    struct result want;
    open_rows(&f, name, "ref", 1, dropout, alike);
    optimizer_step(&f, cuts[0], &want);
    fixture_close(&f);
    for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
        print_message("%s, dropout %g: %s\n", name, (double)dropout, *isa);
        for (int threads = 1; threads <= 3; threads++) {
            open_rows(&f, name, *isa, threads, dropout, alike);
            for (size_t cut = 0; cut < sizeof cuts / sizeof cuts[0]; cut++) {
                struct result got;
                optimizer_step(&f, cuts[cut], &got);
                check_same(&got, &want, *isa, threads, (int)cut);
                free(got.values);
            }
            fixture_close(&f);
        }
    }
    free(want.values);
}

static void test_plain(void **state)
{
    (void)state;
    same_bits("gqa", 0.0f, false);
    same_bits("mha", 0.0f, false);
}

/* What rows have in common is computed once where they are in one micro-step. */
static void test_rows_that_begin_alike(void **state)
{
    (void)state;
    same_bits("gqa", 0.0f, true);
    same_bits("mha", 0.0f, true);
    same_bits("gqa", 0.25f, true);
}

static void test_dropout(void **state)
{
    (void)state;
    same_bits("gqa", 0.25f, false);
}

/* Evaluation is the forward of a step without dropout. */
static void test_evaluation(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = {0};
    fixture_open(&f, "gqa", "best", 2, 0.25f);
    struct engine_loss first = {0}, parts = {0};
    assert_ok(engine_eval_loss(f.trainer, f.rows, FIXTURE_ROWS, &first, &err), &err);
    for (int i = 0; i < FIXTURE_ROWS; i++) {
        assert_ok(engine_eval_loss(f.trainer, f.rows + i, 1, &parts, &err), &err);
    }
    assert_memory_equal(&first, &parts, sizeof first);
    fixture_close(&f);
    struct engine_loss step = {0};
    fixture_open(&f, "gqa", "best", 2, 0.0f);
    assert_ok(engine_train_step(f.trainer, f.rows, FIXTURE_ROWS, 0, 0.01f, &step, &err), &err);
    assert_memory_equal(&first, &step, sizeof first);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_rows_that_begin_alike),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_evaluation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
