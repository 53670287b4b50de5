/* The trainer against PyTorch and PEFT: losses, gradients of every factor, ten AdamW steps in four
 * settings. Both sides compute in fp32 in different orders over chains of at most 100 terms and two
 * layers. Measured: gradients and factors after ten steps within 1.4e-6 of a tensor's largest
 * value, bounded at 1e-5 and, since AdamW's division by √v amplifies small gradients, 1e-4. */
#include "engine/train_fixture.h"

enum { STEPS = 10 };

static const double gradient_bound = 1e-5;
static const double loss_bound = 5e-6;
static const double steps_bound = 1e-5;
static const double factor_bound = 1e-4;

static void logits_match(const char *name)
{
    struct fixture f;
    fixture_open(&f, name, "best", 2, 0.0f);
    check_logits(&f);
    fixture_close(&f);
}

static void gradients_match(const char *name)
{
    struct fixture f;
    fixture_open(&f, name, "best", 2, 0.0f);
    check_gradients(&f, loss_bound, gradient_bound);
    fixture_close(&f);
}

/* AdamW as PyTorch has it, in double: its rounding is no part of what is compared. */
struct moments {
    double *m, *v;
};

static void adamw(struct engine_tensor *tensor, const float *gradient, struct moments *moments,
                  double shrink, double rate, int step)
{
    const size_t n = (size_t)tensor->rows * (size_t)tensor->cols;
    const double one = 1 - pow(0.9, step + 1), two = 1 - pow(0.999, step + 1);
    for (size_t i = 0; i < n; i++) {
        const double g = (double)gradient[i] * shrink;
        moments->m[i] = 0.9 * moments->m[i] + 0.1 * g;
        moments->v[i] = 0.999 * moments->v[i] + 0.001 * g * g;
        double x = (double)tensor->data[i] * (1 - rate * 0.01);
        x -= rate / one * moments->m[i] / (sqrt(moments->v[i]) / sqrt(two) + 1e-8);
        tensor->data[i] = (float)x;
    }
}

static double shrink_of(const struct fixture *f, const struct engine_tensor *tensors, int n,
                        double most)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const float *g = engine_trainer_gradients(f->trainer)[i];
        for (size_t j = 0; j < (size_t)tensors[i].rows * (size_t)tensors[i].cols; j++) {
            sum += (double)g[j] * (double)g[j];
        }
    }
    return fmin(1.0, most / (sqrt(sum) + 1e-6));
}

static double rate_of(const char *run, int step)
{
    if (strcmp(run, "warm") != 0) {
        return 5e-3;
    }
    return 5e-3 * (step < 3 ? (step + 1) / 3.0 : (STEPS - step) / (double)(STEPS - 3));
}

/* One optimizer step's gradient; accumulation is two micro-steps of two rows. */
static double step_gradient(struct fixture *f, const char *run, int step)
{
    struct err err = {0};
    struct engine_row rows[FIXTURE_ROWS];
    const int n = strcmp(run, "accumulate") == 0 ? 4 : 2;
    for (int i = 0; i < n; i++) {
        rows[i] = f->rows[(step * n + i) % FIXTURE_ROWS];
    }
    const int n_targets = count_targets(rows, n);
    struct engine_loss loss = {0};
    engine_trainer_zero(f->trainer);
    for (int i = 0; i < n; i += 2) {
        assert_ok(engine_train_step(f->trainer, rows + i, 2, (uint64_t)step,
                                    1.0f / (float)n_targets, &loss, &err),
                  &err);
    }
    return (double)engine_loss_sum(&loss) / n_targets;
}

static void steps_match(const char *name, const char *run)
{
    struct fixture f;
    fixture_open(&f, name, "best", 2, 0.0f);
    int n = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(f.adapter, &n);
    struct moments moments[FIXTURE_TENSORS_MAX];
    assert_true(n <= FIXTURE_TENSORS_MAX);
    for (int i = 0; i < n; i++) {
        const size_t values = (size_t)tensors[i].rows * (size_t)tensors[i].cols;
        moments[i] =
            (struct moments){calloc(values, sizeof(double)), calloc(values, sizeof(double))};
    }
    char key[128];
    snprintf(key, sizeof key, "%s.loss", run);
    const struct tensor_view *losses = golden_tensor(&f, key);
    for (int step = 0; step < STEPS; step++) {
        const double loss = step_gradient(&f, run, step), want = golden_float(losses, (size_t)step);
        if (!(fabs(loss - want) <= want * steps_bound)) {
            fail_msg("%s, %s: loss of step %d is %.7g, PEFT has %.7g", name, run, step, loss, want);
        }
        double shrink = 1.0;
        if (strcmp(run, "clip") == 0) {
            shrink = shrink_of(&f, tensors, n, (double)golden_float(golden_tensor(&f, "clip"), 0));
        }
        for (int i = 0; i < n; i++) {
            adamw(&tensors[i], engine_trainer_gradients(f.trainer)[i], &moments[i], shrink,
                  rate_of(run, step), step);
        }
        engine_adapter_changed(f.adapter);
    }
    int found = 0;
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%s.final.%s", run, tensors[i].name);
        if (safetensors_tensor(f.golden, key) != NULL) {
            check_close(key, tensors[i].data, golden_tensor(&f, key), factor_bound);
            found++;
        }
        free(moments[i].m);
        free(moments[i].v);
    }
    assert_int_equal(found, 1);
    fixture_close(&f);
}

static void test_logits(void **state)
{
    (void)state;
    logits_match("gqa");
    logits_match("mha");
}

static void test_gradients(void **state)
{
    (void)state;
    gradients_match("gqa");
    gradients_match("mha");
}

static void test_ten_steps(void **state)
{
    (void)state;
    static const char *const runs[] = {"plain", "warm", "clip", "accumulate"};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        steps_match("gqa", runs[i]);
        steps_match("mha", runs[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_ten_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
