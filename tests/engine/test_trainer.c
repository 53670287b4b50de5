/* The trainer alone: gradients by finite differences, bad input, memory, failed allocations. */
#include "engine/train_fixture.h"

static float mean_loss(struct fixture *f, uint64_t step)
{
    struct err err = {0};
    struct engine_loss loss = {0};
    const int n = count_targets(f->rows, FIXTURE_ROWS);
    assert_ok(
        engine_train_step(f->trainer, f->rows, FIXTURE_ROWS, step, 1.0f / (float)n, &loss, &err),
        &err);
    return engine_loss_sum(&loss) / (float)n;
}

/* Slope of the loss along the gradient of one factor against the gradient's own norm. A step of
 * 1e-2 along the unit direction leaves an error of its square times the third derivative, and fp32
 * sums leave some 1e-6 / 1e-2: together below 2% of the slopes met here. */
static void slopes_match(float dropout)
{
    struct fixture f;
    fixture_open(&f, "gqa", "best", 2, dropout);
    engine_trainer_zero(f.trainer);
    (void)mean_loss(&f, 9);
    int n = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(f.adapter, &n);
    for (int i = 0; i < n; i++) {
        const size_t values = (size_t)tensors[i].rows * (size_t)tensors[i].cols;
        float *direction = calloc(values, sizeof(float)), *before = calloc(values, sizeof(float));
        engine_trainer_zero(f.trainer);
        (void)mean_loss(&f, 9);
        double norm = 0;
        for (size_t j = 0; j < values; j++) {
            direction[j] = engine_trainer_gradients(f.trainer)[i][j];
            before[j] = tensors[i].data[j];
            norm += (double)direction[j] * (double)direction[j];
        }
        norm = sqrt(norm);
        double side[2];
        for (int s = 0; s < 2; s++) {
            for (size_t j = 0; j < values; j++) {
                const double h = (s ? 1e-2 : -1e-2) * (double)direction[j] / norm;
                tensors[i].data[j] = (float)((double)before[j] + h);
            }
            side[s] = (double)mean_loss(&f, 9);
        }
        memcpy(tensors[i].data, before, values * sizeof(float));
        const double slope = (side[1] - side[0]) / 2e-2;
        if (!(fabs(slope - norm) <= 0.02 * norm + 2e-4)) {
            fail_msg("%s: slope %g, gradient's norm %g", tensors[i].name, slope, norm);
        }
        free(direction);
        free(before);
    }
    fixture_close(&f);
}

static void test_slopes(void **state)
{
    (void)state;
    slopes_match(0.0f);
}

static void test_slopes_under_dropout(void **state)
{
    (void)state;
    slopes_match(0.3f);
}

static void test_bad_rows(void **state)
{
    (void)state;
    static const int32_t good[4] = {1, 2, 3, 4}, high[2] = {1, 1 << 20}, low[2] = {1, -1};
    static int32_t longer[FIXTURE_TOKENS_MAX + 1];
    static uint8_t marks[FIXTURE_TOKENS_MAX + 1] = {0, 1}, first[4] = {1, 1};
    const struct {
        struct engine_row row;
        float inverse;
    } bad[] = {
        {{.tokens = good, .targets = marks, .n_tokens = 0}, 1.0f},
        {{.tokens = good, .targets = first, .n_tokens = 4}, 1.0f},
        {{.tokens = high, .targets = marks, .n_tokens = 2}, 1.0f},
        {{.tokens = low, .targets = marks, .n_tokens = 2}, 1.0f},
        {{.tokens = longer, .targets = marks, .n_tokens = FIXTURE_TOKENS_MAX + 1}, 1.0f},
        {{.tokens = good, .targets = marks, .n_tokens = 4}, 0.0f},
        {{.tokens = good, .targets = marks, .n_tokens = 4}, -1.0f},
        {{.tokens = good, .targets = marks, .n_tokens = 4}, NAN},
        {{.tokens = good, .targets = marks, .n_tokens = 4}, INFINITY},
    };
    struct fixture f;
    struct err err = {0};
    fixture_open(&f, "gqa", "best", 1, 0.0f);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct engine_loss loss = {0};
        assert_err(engine_train_step(f.trainer, &bad[i].row, 1, 0, bad[i].inverse, &loss, &err),
                   &err, ERR_INVALID);
        assert_int_equal(loss.n_targets, 0);
    }
    /* rows that fit one by one, but not together */
    struct engine_row rows[FIXTURE_ROWS * 2];
    struct engine_loss loss = {0};
    for (int i = 0; i < FIXTURE_ROWS * 2; i++) {
        rows[i] = f.rows[i % FIXTURE_ROWS];
    }
    assert_err(engine_eval_loss(f.trainer, rows, FIXTURE_ROWS * 2, &loss, &err), &err, ERR_INVALID);
    fixture_close(&f);
}

/* A row without targets moves nothing. */
static void test_no_targets(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = {0};
    fixture_open(&f, "mha", "best", 1, 0.0f);
    static const uint8_t none[FIXTURE_TOKENS_MAX];
    f.rows[0].targets = none;
    struct engine_loss loss = {0};
    engine_trainer_zero(f.trainer);
    assert_ok(engine_train_step(f.trainer, f.rows, 1, 0, 1.0f, &loss, &err), &err);
    assert_int_equal(loss.n_targets, 0);
    assert_float_equal(engine_trainer_gradients(f.trainer)[0][0], 0.0f, 0.0f);
    fixture_close(&f);
}

/* A factor that is not finite is found, whichever it is and wherever it acts. */
static void test_not_finite(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = {0};
    fixture_open(&f, "gqa", "best", 2, 0.0f);
    int n = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(f.adapter, &n);
    const float poison[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (int i = 0; i < n; i++) {
        for (size_t p = 0; p < sizeof poison / sizeof poison[0]; p++) {
            const float before = tensors[i].data[1];
            struct engine_loss loss = {0};
            tensors[i].data[1] = poison[p];
            engine_trainer_zero(f.trainer);
            const int rc = engine_train_step(f.trainer, f.rows, 2, 0, 0.01f, &loss, &err);
            if (rc != -ERR_INVALID || strstr(err.message, "NaN/Inf") == NULL) {
                fail_msg("%s = %g: %d \"%s\"", tensors[i].name, (double)poison[p], rc, err.message);
            }
            err_clear(&err);
            tensors[i].data[1] = before;
        }
    }
    struct engine_loss loss = {0};
    engine_trainer_zero(f.trainer);
    assert_ok(engine_train_step(f.trainer, f.rows, 2, 0, 0.01f, &loss, &err), &err);
    fixture_close(&f);
}

static void test_bad_plans(void **state)
{
    (void)state;
    const struct {
        struct engine_lora lora;
        struct engine_train_plan plan;
    } bad[] = {
        {{.rank = 0, .scale = 1, .targets = 1}, {.tokens_max = 8}},
        {{.rank = 257, .scale = 1, .targets = 1}, {.tokens_max = 8}},
        {{.rank = 4, .scale = 1, .targets = 0}, {.tokens_max = 8}},
        {{.rank = 4, .scale = 1, .targets = 0x80}, {.tokens_max = 8}},
        {{.rank = 4, .scale = 1, .targets = 1, .first_layer = -1}, {.tokens_max = 8}},
        {{.rank = 4, .scale = 1, .targets = 1, .first_layer = 2}, {.tokens_max = 8}},
        {{.rank = 4, .scale = NAN, .targets = 1}, {.tokens_max = 8}},
        {{.rank = 4, .scale = 1, .targets = 1}, {.tokens_max = 0}},
        {{.rank = 4, .scale = 1, .targets = 1}, {.tokens_max = 1 << 24}},
        {{.rank = 4, .scale = 1, .targets = 1}, {.tokens_max = 8, .dropout = 1.0f}},
        {{.rank = 4, .scale = 1, .targets = 1}, {.tokens_max = 8, .dropout = -0.1f}},
        {{.rank = 4, .scale = 1, .targets = 1}, {.tokens_max = 8, .dropout = NAN}},
    };
    struct fixture f;
    struct err err = {0};
    fixture_open(&f, "gqa", "best", 1, 0.0f);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t bytes = 0;
        assert_err(engine_trainer_estimate(f.model, &bad[i].lora, &bad[i].plan, &bytes, &err), &err,
                   ERR_INVALID);
    }
    fixture_close(&f);
}

/* The estimate is what is then taken, and steps take nothing. */
static void test_estimate(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = {0};
    fixture_open(&f, "gqa", "best", 2, 0.0f);
    const struct engine_train_plan plans[] = {{.tokens_max = 40, .seed = 1},
                                              {.tokens_max = 150, .dropout = 0.1f, .seed = 1}};
    for (size_t i = 0; i < 2; i++) {
        uint64_t bytes = 0;
        assert_ok(engine_trainer_estimate(f.model, &f.lora, &plans[i], &bytes, &err), &err);
        struct engine_trainer *trainer = NULL;
        const size_t before = mem_used();
        assert_ok(engine_trainer_new(&trainer, f.model, f.adapter, &plans[i], &err), &err);
        const double taken = (double)(mem_used() - before);
        assert_true(fabs((double)bytes - taken) <= 0.1 * taken);
        struct engine_loss loss = {0};
        const uint64_t calls = fault_seen(FAULT_MALLOC);
        assert_ok(engine_train_step(trainer, f.rows, 1, 0, 0.01f, &loss, &err), &err);
        assert_int_equal(fault_seen(FAULT_MALLOC), calls);
        engine_trainer_free(trainer);
        assert_int_equal(mem_used(), before);
    }
    fixture_close(&f);
}

static void test_failed_allocations(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = {0};
    fixture_open(&f, "gqa", "best", 1, 0.0f);
    const struct engine_train_plan plan = {.tokens_max = 16};
    const size_t before = mem_used();
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        struct engine_adapter *adapter = NULL;
        struct engine_trainer *trainer = NULL;
        fault_arm(FAULT_MALLOC, nth, false);
        int rc = engine_adapter_new(&adapter, f.model, &f.lora, 1, &err);
        if (rc == 0) {
            rc = engine_trainer_new(&trainer, f.model, adapter, &plan, &err);
        }
        fired = fault_fired();
        fault_disarm();
        assert_int_equal(rc, fired ? -ERR_NOMEM : 0);
        err_clear(&err);
        engine_trainer_free(trainer);
        engine_adapter_free(adapter);
        assert_int_equal(mem_used(), before);
    }
    fixture_close(&f);
}

/* First values: A within its bound and the same for the same seed, B zero, names sorted. */
static void test_first_values(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = {0};
    fixture_open(&f, "gqa", "best", 1, 0.0f);
    struct engine_adapter *twin[3] = {NULL};
    for (int i = 0; i < 3; i++) {
        assert_ok(engine_adapter_new(&twin[i], f.model, &f.lora, i < 2 ? 42 : 43, &err), &err);
    }
    int n = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(twin[0], &n);
    assert_int_equal(n, 2 * 7 * 2);
    for (int i = 0; i < n; i++) {
        const size_t values = (size_t)tensors[i].rows * (size_t)tensors[i].cols;
        const bool b = tensors[i].name[strlen(tensors[i].name) - 1] == 'b';
        const struct engine_tensor *same = engine_adapter_tensors(twin[1], &n) + i;
        const struct engine_tensor *other = engine_adapter_tensors(twin[2], &n) + i;
        assert_true(i == 0 || strcmp(tensors[i - 1].name, tensors[i].name) < 0);
        assert_memory_equal(tensors[i].data, same->data, values * sizeof(float));
        assert_int_equal(memcmp(tensors[i].data, other->data, values * sizeof(float)) == 0, b);
        for (size_t j = 0; j < values; j++) {
            const float bound = b ? 0.0f : 1.0f / sqrtf((float)tensors[i].cols);
            assert_true(fabsf(tensors[i].data[j]) <= bound);
        }
    }
    for (int i = 0; i < 3; i++) {
        engine_adapter_free(twin[i]);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slopes),       cmocka_unit_test(test_slopes_under_dropout),
        cmocka_unit_test(test_bad_rows),     cmocka_unit_test(test_no_targets),
        cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_bad_plans),
        cmocka_unit_test(test_estimate),     cmocka_unit_test(test_failed_allocations),
        cmocka_unit_test(test_first_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
