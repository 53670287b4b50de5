/* Faults: counting, the Nth and all after, the environment's spelling, crashing children. */
#include "test.h"

#include "base/proc.h"

enum { WAIT_MS = 60000 };

static void test_off_counts_nothing(void **state)
{
    (void)state;
    fault_arm(FAULT_READ, 1000, false);
    fault_disarm();
    assert_false(fault_hit(FAULT_OPEN));
    assert_int_equal(fault_seen(FAULT_OPEN), 0);
    assert_false(fault_fired());
}

static void test_nth_and_all_after(void **state)
{
    (void)state;
    fault_arm(FAULT_OPEN, 2, false);
    assert_false(fault_hit(FAULT_OPEN));
    assert_false(fault_hit(FAULT_READ));
    assert_true(fault_hit(FAULT_OPEN));
    assert_true(fault_fired());
    assert_false(fault_hit(FAULT_OPEN));
    fault_disarm();
    assert_int_equal(fault_seen(FAULT_OPEN), 3);
    assert_int_equal(fault_seen(FAULT_READ), 1);
    assert_true(fault_fired());
    fault_arm(FAULT_OPEN, 2, true);
    assert_false(fault_fired());
    assert_false(fault_hit(FAULT_OPEN));
    assert_true(fault_hit(FAULT_OPEN));
    assert_true(fault_hit(FAULT_OPEN));
    fault_disarm();
}

static void test_environment(void **state)
{
    (void)state;
    struct err err = {0};
    static const char *const BAD[] = {"malloc",
                                      "malloc:",
                                      "malloc:0",
                                      "malloc:x",
                                      "malloc:1x",
                                      "nope:1",
                                      "malloc:-1",
                                      "crash-:1",
                                      ":1",
                                      "malloc:1++",
                                      "malloc: 1",
                                      "crash-malloc",
                                      "malloc:99999999999999999999999"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        setenv("MLX_HUB_FAULT", BAD[i], 1);
        if (fault_from_env(&err) != -ERR_INVALID)
            fail_msg("%s", BAD[i]);
        err_clear(&err);
    }
    setenv("MLX_HUB_FAULT", "rename:2+", 1);
    assert_ok(fault_from_env(&err), &err);
    assert_false(fault_hit(FAULT_RENAME));
    assert_true(fault_hit(FAULT_RENAME));
    assert_true(fault_hit(FAULT_RENAME));
    fault_disarm();
    unsetenv("MLX_HUB_FAULT");
    assert_ok(fault_from_env(&err), &err);
    assert_false(fault_hit(FAULT_RENAME));
}

static void test_crash_looks_like_a_kill(void **state)
{
    (void)state;
    struct err err = {0};
    struct proc proc;
    struct proc_exit how;
    const char *argv[] = {"test", "crash", NULL};
    const char *env[] = {"MLX_HUB_FAULT=crash-fsync:2", NULL};
    struct proc_options options = {.argv = argv, .env = env};
    assert_ok(proc_spawn(&proc, &options, &err), &err);
    assert_ok(proc_wait(&proc, WAIT_MS, &how, &err), &err);
    assert_false(how.signalled);
    assert_int_equal(how.value, 137);
    proc_release(&proc);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        struct err err = {0};
        if (fault_from_env(&err) != 0)
            return 1;
        if (fault_hit(FAULT_FSYNC))
            return 2;
        (void)fault_hit(FAULT_FSYNC);
        return 3;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off_counts_nothing),
        cmocka_unit_test(test_nth_and_all_after),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_crash_looks_like_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
