/* The highest values, against sorting all of them. */
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "infer/select.h"
#include "test.h"

enum { N_MAX = 5000 };

static float values[N_MAX];

/* Of kinds: all different, many equal, many zeros. */
static void fill(int n, int kind, uint64_t seed)
{
    for (int i = 0; i < n; i++) {
        const float u = rng_uniform(seed, RNG_INIT, (uint32_t)kind, (uint64_t)i);
        values[i] = kind == 0 ? u : kind == 1 ? floorf(8.0f * u) / 8.0f : u > 0.9f ? u : 0.0f;
    }
}

static int before(const void *a, const void *b)
{
    const int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (values[i] != values[j]) {
        return values[i] > values[j] ? -1 : 1;
    }
    return i < j ? -1 : 1;
}

static void check_first(struct select *select, int n, int k, float min_share)
{
    static int32_t want[N_MAX];
    int likely = 0;
    for (int i = 0; i < n; i++) {
        want[i] = i;
    }
    qsort(want, (size_t)n, sizeof *want, before);
    while (likely < n && values[want[likely]] > 0.0f &&
           values[want[likely]] >= min_share * values[want[0]]) {
        likely++;
    }
    const int found = select_first(select, values, k, min_share);
    assert_in_range(found, k < likely ? k : likely, likely);
    assert_memory_equal(select->ids, want, (size_t)found * sizeof *want);
}

static void test_the_first_are_those_of_a_whole_sort(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 63, 64, 65, 130, 1000, N_MAX};
    static const float shares[] = {0.0f, 0.05f, 0.95f};
    struct err err = {0};
    for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) {
        const int n = sizes[at];
        struct select select;
        assert_ok(select_init(&select, n, &err), &err);
        for (int kind = 0; kind < 3; kind++) {
            fill(n, kind, (uint64_t)n);
            values[n / 2] = 0.5f; /* one at least is above 0 */
            for (int k = 1; k <= 4 * n; k = k * 3 + 1) {
                for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
                    check_first(&select, n, k, shares[i]);
                }
            }
        }
        select_release(&select);
    }
}

static void test_few_are_left_to_sort(void **state)
{
    (void)state;
    struct err err = {0};
    struct select select;
    assert_ok(select_init(&select, N_MAX, &err), &err);
    fill(N_MAX, 0, 3);
    assert_in_range(select_first(&select, values, 8, 0.0f), 8, 64);
    select_release(&select);
}

static void test_the_highest_is_the_first_of_those_that_may_be(void **state)
{
    (void)state;
    enum { N = 200 };
    for (uint64_t seed = 0; seed < 300; seed++) {
        uint64_t mask[(N + 63) / 64] = {0};
        int32_t want = -1;
        fill(N, (int)(seed % 2), seed);
        for (int i = 0; i < N; i++) {
            const bool may = rng_uniform(seed, RNG_SAMPLE, 0, (uint64_t)i) * 300.0f < (float)seed;
            values[i] -= 2.0f; /* logits may be below 0 */
            mask[i / 64] |= (uint64_t)may << (i % 64);
            want = may && (want < 0 || values[i] > values[want]) ? i : want;
        }
        assert_int_equal(select_highest(values, N, mask), want);
    }
    assert_int_equal(select_highest(values, 0, NULL), -1);
    values[0] = values[1] = NAN;
    assert_int_equal(select_highest(values, 2, NULL), -1);
    values[1] = -3.0f;
    assert_int_equal(select_highest(values, 2, NULL), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_are_those_of_a_whole_sort),
        cmocka_unit_test(test_few_are_left_to_sort),
        cmocka_unit_test(test_the_highest_is_the_first_of_those_that_may_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
