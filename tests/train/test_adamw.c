/* The optimizer against its formula in double precision, and clipping. (Ten steps against PyTorch's
 * own are in test_run.) */
#include "train/adamw.h"

#include "train/run_fixture.h"

enum { N = 37, STEPS = 20 }; /* no multiple of sixteen, and split over two tensors */

static float values[N], gradient[N];
static struct engine_tensor tensors[2] = {{.rows = 3, .cols = 7, .data = values},
                                          {.rows = 4, .cols = 4, .data = values + 21}};
static float *const gradients[2] = {gradient, gradient + 21};

static void test_matches_the_formula(void **state)
{
    struct adamw adamw;
    struct err err = {0};
    double p[N], m[N] = {0}, v[N] = {0};
    (void)state;
    assert_int_equal(tensors_values(tensors, 2), N);
    assert_ok(adamw_init(&adamw, N, &err), &err);
    for (int i = 0; i < N; i++) {
        values[i] = (float)(i - 18) / 16.0f;
        p[i] = (double)values[i];
    }
    for (int t = 1; t <= STEPS; t++) {
        const double rate = 0.01 / t, decay = 0.1;
        for (int i = 0; i < N; i++) {
            gradient[i] = (float)((i * 7 + t * 3) % 11 - 5) / 8.0f;
            const double g = (double)gradient[i] * 0.5;
            p[i] *= 1.0 - rate * decay;
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            p[i] -=
                rate * (m[i] / (1.0 - pow(0.9, t))) / (sqrt(v[i] / (1.0 - pow(0.999, t))) + 1e-8);
        }
        assert_ok(adamw_step(&adamw, tensors, gradients, 2, t, rate, decay, 0.5f, &err), &err);
    }
    for (int i = 0; i < N; i++) {
        assert_true(fabs((double)values[i] - p[i]) < 1e-6);
    }
    adamw_release(&adamw);
}

static void test_not_finite_is_refused(void **state)
{
    struct adamw adamw;
    struct err err = {0};
    (void)state;
    assert_ok(adamw_init(&adamw, N, &err), &err);
    memset(gradient, 0, sizeof gradient);
    gradient[30] = INFINITY;
    assert_err(adamw_step(&adamw, tensors, gradients, 2, 1, 0.1, 0, 1.0f, &err), &err, ERR_INVALID);
    adamw_release(&adamw);
}

/* The lanes run on from one tensor to the next. */
static void test_norm_is_one_reduction(void **state)
{
    float lanes[16] = {0};
    (void)state;
    for (int i = 0; i < N; i++) {
        gradient[i] = (float)(i * i % 13) / 7.0f - 0.6f;
        lanes[i % 16] = fmaf(gradient[i], gradient[i], lanes[i % 16]);
    }
    for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            lanes[i] += lanes[i + half];
        }
    }
    assert_true(gradient_norm(tensors, gradients, 2) == sqrtf(lanes[0]));
}

static void test_clip_scale(void **state)
{
    (void)state;
    assert_true(clip_scale(0.5f, 1.0) == 1.0f);
    assert_true(clip_scale(100.0f, 0.0) == 1.0f);
    assert_true(clip_scale(4.0f, 1.0) == 1.0f / (4.0f + 1e-6f));
    assert_true(clip_scale(0.0f, 1.0) == 1.0f);
}

static void test_gather_and_scatter(void **state)
{
    float copy[N], back[N];
    (void)state;
    for (int i = 0; i < N; i++) {
        values[i] = (float)i;
    }
    tensors_gather(tensors, 2, copy);
    memset(values, 0, sizeof values);
    tensors_scatter(tensors, 2, copy);
    tensors_gather(tensors, 2, back);
    for (int i = 0; i < N; i++) {
        assert_true(back[i] == (float)i && values[i] == (float)i);
    }
}

static void test_failed_allocations(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct adamw adamw;
        struct err err = {0};
        const size_t before = mem_used();
        fault_arm(FAULT_MALLOC, n, false);
        const int rc = adamw_init(&adamw, N, &err);
        fault_disarm();
        if (rc == 0) {
            adamw_release(&adamw);
            assert_false(fault_fired());
            break;
        }
        assert_int_equal(mem_used(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_the_formula),   cmocka_unit_test(test_not_finite_is_refused),
        cmocka_unit_test(test_norm_is_one_reduction), cmocka_unit_test(test_clip_scale),
        cmocka_unit_test(test_gather_and_scatter),    cmocka_unit_test(test_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
