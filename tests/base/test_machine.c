/* Facts about the machine are at least possible. */
#include "test.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts_are_possible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
