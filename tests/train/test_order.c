/* Which rows a step takes: the shuffle of golden.json (an independent Philox), splits, micro-steps;
 * and the learning rate of every step. */
#include "train/order.h"

#include "train/run_fixture.h"
#include "train/schedule.h"

enum { ROWS = 23 };

static struct train_row table[ROWS];
static const struct train_rows rows = {.rows = table, .n_rows = ROWS};

static int fill(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        table[i] = (struct train_row){.n_tokens = 2 + i % 5, .n_targets = 1};
    }
    return 0;
}

static void test_shuffle_is_golden(void **state)
{
    struct row_list all = {0}, none = {0};
    struct train_order order;
    struct err err = {0};
    uint32_t first, n;
    (void)state;
    json_t *golden = fixture_json("golden.json");
    assert_ok(row_lists_split(&rows, 7, 0, &all, &none, &err), &err);
    assert_ok(train_order_init(&order, &all, 7, 4, &err), &err);
    assert_int_equal(order.steps_per_epoch, 6);
    for (int64_t step = 11; step >= 0; step--) { /* backwards: steps do not depend on one another */
        const json_t *want = json_array_get(json_object_get(golden, "orders"), (size_t)(step / 6));
        train_order_step(&order, step, &first, &n);
        assert_int_equal(first, step % 6 * 4);
        assert_int_equal(n, step % 6 == 5 ? 3 : 4); /* the last short one is kept */
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(order.epoch.index[first + i],
                             json_integer_value(json_array_get(want, first + i)));
        }
    }
    train_order_release(&order);
    row_list_release(&all);
    row_list_release(&none);
    json_decref(golden);
}

static void test_split(void **state)
{
    struct row_list train = {0}, held = {0}, again = {0}, other = {0};
    struct err err = {0};
    uint32_t t = 0, v = 0;
    (void)state;
    assert_ok(row_lists_split(&rows, 42, 5, &train, &held, &err), &err);
    assert_int_equal(train.n, ROWS - 5);
    assert_int_equal(held.n, 5);
    for (uint32_t i = 0; i < ROWS; i++) { /* each row once, in the file's order */
        if (t < train.n && train.index[t] == i) {
            t++;
        } else {
            assert_int_equal(held.index[v++], i);
        }
    }
    assert_int_equal(v, 5);
    assert_ok(row_lists_split(&rows, 43, 5, &again, &other, &err), &err);
    assert_memory_not_equal(held.index, other.index, 5 * sizeof *held.index);
    row_list_release(&train);
    row_list_release(&held);
    row_list_release(&again);
    row_list_release(&other);
}

static void test_a_step_of_more_rows_than_there_are(void **state)
{
    struct row_list all = {0}, none = {0};
    struct train_order order;
    struct err err = {0};
    uint32_t first, n;
    (void)state;
    assert_ok(row_lists_split(&rows, 7, 0, &all, &none, &err), &err);
    assert_ok(train_order_init(&order, &all, 7, 4096 * 4096, &err), &err);
    train_order_step(&order, 3, &first, &n);
    assert_int_equal(order.epoch_now, 3);
    assert_int_equal(first, 0);
    assert_int_equal(n, ROWS);
    train_order_release(&order);
    row_list_release(&all);
    row_list_release(&none);
}

static void test_micro_steps(void **state)
{
    struct row_list all = {0}, none = {0};
    struct err err = {0};
    (void)state;
    assert_ok(row_lists_split(&rows, 7, 0, &all, &none, &err), &err);
    /* lengths 2 3 4 5 6 2 3 … */
    assert_int_equal(micro_step_rows(&all, 0, ROWS, 9, true), 3);
    assert_int_equal(micro_step_rows(&all, 0, ROWS, 8, true), 2);
    assert_int_equal(micro_step_rows(&all, 0, 2, 100, true), 2);
    assert_int_equal(micro_step_rows(&all, 4, ROWS - 4, 6, true), 1);
    assert_int_equal(micro_step_rows(&all, 0, ROWS, 100, false), 1);
    row_list_release(&all);
    row_list_release(&none);
}

static void test_failed_allocations(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct row_list train = {0}, held = {0};
        struct train_order order = {.seed = 0};
        struct err err = {0};
        const size_t before = mem_used();
        fault_arm(FAULT_MALLOC, n, false);
        int rc = row_lists_split(&rows, 1, 4, &train, &held, &err);
        if (rc == 0) {
            rc = train_order_init(&order, &train, 1, 4, &err);
        }
        fault_disarm();
        train_order_release(&order);
        row_list_release(&train);
        row_list_release(&held);
        assert_int_equal(mem_used(), before);
        assert_int_equal(rc, fault_fired() ? -ERR_NOMEM : 0);
        if (!fault_fired()) {
            break;
        }
    }
}

/* --- learning rates --------------------------------------------------------------------------- */

static void test_rates(void **state)
{
    const struct train_plan plan = {.steps = 100, .warmup_steps = 10};
    struct train_config config = {.learning_rate = 0.01};
    (void)state;
    config.lr_schedule = TRAIN_CONSTANT;
    assert_true(train_learning_rate(&config, &plan, 1) == 0.01 * 1.0 / 10.0);
    assert_true(train_learning_rate(&config, &plan, 10) == 0.01);
    assert_true(train_learning_rate(&config, &plan, 100) == 0.01);
    config.lr_schedule = TRAIN_LINEAR;
    assert_true(train_learning_rate(&config, &plan, 11) == 0.01);
    assert_true(train_learning_rate(&config, &plan, 100) == 0.01 * 1.0 / 90.0);
    config.lr_schedule = TRAIN_COSINE;
    assert_true(train_learning_rate(&config, &plan, 11) == 0.01);
    assert_true(fabs(train_learning_rate(&config, &plan, 56) - 0.005) < 1e-12);
    assert_true(train_learning_rate(&config, &plan, 100) > 0.0);
    for (int64_t s = 12; s <= 100; s++) {
        const double want = 0.01 * (1.0 + cos(3.14159265358979323846 * (double)(s - 11) / 90)) / 2;
        assert_true(fabs(train_learning_rate(&config, &plan, s) - want) < 1e-14);
        assert_true(train_learning_rate(&config, &plan, s) <
                    train_learning_rate(&config, &plan, s - 1));
    }
    const struct train_plan none = {.steps = 3, .warmup_steps = 0};
    config.lr_schedule = TRAIN_LINEAR;
    assert_true(train_learning_rate(&config, &none, 1) == 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shuffle_is_golden),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_a_step_of_more_rows_than_there_are),
        cmocka_unit_test(test_micro_steps),
        cmocka_unit_test(test_failed_allocations),
        cmocka_unit_test(test_rates),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
