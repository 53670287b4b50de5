/* Facts about the machine are at least possible. */
#include "test.h"

#include <sys/resource.h>

#include "base/machine.h"

static void test_facts_are_possible(void **state)
{
    (void)state;
    assert_true(cpu_count() >= 1);
    assert_true(cpu_count() <= sysconf(_SC_NPROCESSORS_CONF));
    assert_true(machine_ram_bytes() > (64u << 20));
    assert_true(machine_ram_bytes() < UINT64_MAX);
    assert_true(machine_resident_bytes() > (100u << 10));
    assert_true(machine_resident_bytes() < machine_ram_bytes());
}

/* A limit is raised as far as the hard one and never lowered. */
static void test_files_are_allowed_as_far_as_the_system_goes(void **state)
{
    (void)state;
    struct rlimit limit = {64, 128}; /* of this process, for good */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(machine_allow_files(100), 100);
    assert_int_equal(machine_allow_files(10), 100);
    assert_int_equal(machine_allow_files(1000), 128);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(limit.rlim_cur, 128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts_are_possible),
        cmocka_unit_test(test_files_are_allowed_as_far_as_the_system_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
