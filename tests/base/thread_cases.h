/* The cases of the pool, run once for each way of sleeping. */
#ifndef TESTS_BASE_THREAD_CASES_H
#define TESTS_BASE_THREAD_CASES_H

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/fault.h"
#include "base/fpenv.h"
#include "base/thread.h"

enum { CASE_ROUNDS = 2000, CASE_LANES_MAX = 8 };

struct ring {
    struct pool *pool;
    int rounds;
    unsigned value[CASE_LANES_MAX]; /* plain memory: the barrier is what orders it */
    atomic_int runs;
    atomic_bool wrong;
};

/* Each round every lane writes its own cell and reads its neighbour's of the same round. */
static void ring_task(void *ctx, int lane, int lanes)
{
    struct ring *ring = ctx;
    atomic_fetch_add(&ring->runs, 1);
    for (int round = 1; round <= ring->rounds; round++) {
        ring->value[lane] = (unsigned)round;
        pool_barrier(ring->pool, lane);
        if (ring->value[(lane + 1) % lanes] != (unsigned)round)
            atomic_store(&ring->wrong, true);
        pool_barrier(ring->pool, lane);
    }
}

static void test_barriers_order_plain_memory(void **state)
{
    (void)state;
    struct err err = {0};
    for (int lanes = 1; lanes <= CASE_LANES_MAX; lanes *= 2) {
        struct ring ring = {.rounds = lanes > 2 ? CASE_ROUNDS / 10 : CASE_ROUNDS};
        assert_ok(pool_new(&ring.pool, lanes, &err), &err);
        assert_int_equal(pool_lanes(ring.pool), lanes);
        pool_run(ring.pool, ring_task, &ring);
        pool_run(ring.pool, ring_task, &ring);
        assert_int_equal(atomic_load(&ring.runs), 2 * lanes);
        assert_false(atomic_load(&ring.wrong));
        assert_ok(pool_check(ring.pool, &err), &err);
        pool_free(ring.pool);
    }
}

/* Lane 0 keeps the others waiting long past the spin, so they sleep and must be woken. */
static void late_task(void *ctx, int lane, int lanes)
{
    struct ring *ring = ctx;
    (void)lanes;
    if (lane == 0)
        for (int i = 0; i < 2000; i++)
            sched_yield();
    ring->value[lane] = 1;
    pool_barrier(ring->pool, lane);
    if (ring->value[0] != 1)
        atomic_store(&ring->wrong, true);
}

static void test_sleepers_are_woken(void **state)
{
    (void)state;
    struct err err = {0};
    struct ring ring = {0};
    assert_ok(pool_new(&ring.pool, 3, &err), &err);
    for (int i = 0; i < 20; i++) {
        memset(ring.value, 0, sizeof ring.value);
        pool_run(ring.pool, late_task, &ring);
    }
    assert_false(atomic_load(&ring.wrong));
    pool_free(ring.pool);
}

static void count_task(void *ctx, int lane, int lanes)
{
    (void)lane;
    (void)lanes;
    atomic_fetch_add((atomic_int *)ctx, 1);
}

static void test_many_short_runs(void **state)
{
    (void)state;
    struct err err = {0};
    struct pool *pool = NULL;
    atomic_int count = 0;
    assert_ok(pool_new(&pool, 2, &err), &err);
    for (int i = 0; i < CASE_ROUNDS; i++)
        pool_run(pool, count_task, &count);
    assert_int_equal(atomic_load(&count), 2 * CASE_ROUNDS);
    pool_free(pool);
}

static void test_pool_new_survives_every_fault(void **state)
{
    (void)state;
    size_t before = mem_used();
    static const enum fault_kind KINDS[] = {FAULT_MALLOC, FAULT_SPAWN};
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
        for (uint64_t n = 1;; n++) {
            struct err err = {0};
            struct pool *pool = NULL;
            fault_arm(KINDS[k], n, false);
            int rc = pool_new(&pool, 4, &err);
            fault_disarm();
            bool fired = fault_fired();
            assert_true(fired == (rc != 0));
            assert_true(fired == (pool == NULL));
            pool_free(pool);
            assert_true(mem_used() == before);
            if (!fired)
                break;
        }
    }
}

static void test_pool_refuses_bad_sizes(void **state)
{
    (void)state;
    struct err err = {0};
    struct pool *pool = NULL;
    assert_err(pool_new(&pool, -1, &err), &err, ERR_INVALID);
    assert_err(pool_new(&pool, POOL_LANES_MAX + 1, &err), &err, ERR_INVALID);
    pool_free(NULL);
    assert_ok(pool_new(&pool, 0, &err), &err);
    assert_int_equal(pool_lanes(pool), cpu_count() < POOL_LANES_MAX ? cpu_count() : POOL_LANES_MAX);
    pool_free(pool);
}

#if defined(__x86_64__)
enum { FLUSH_TO_ZERO = 0x8000 };

static void spoil_task(void *ctx, int lane, int lanes)
{
    int *spoil = ctx;
    (void)lanes;
    if (!fpenv_check())
        *spoil = -2;
    if (*spoil == lane)
        _mm_setcsr(_mm_getcsr() | FLUSH_TO_ZERO);
}

static void test_changed_float_environment_is_found(void **state)
{
    (void)state;
    struct err err = {0};
    struct pool *pool = NULL;
    int none = -1;
    assert_ok(pool_new(&pool, 2, &err), &err);
    for (int lane = 0; lane < 2; lane++) {
        int spoil = lane;
        pool_run(pool, spoil_task, &spoil);
        assert_err(pool_check(pool, &err), &err, ERR_INTERNAL);
        /* the next run sets the environment right again */
        pool_run(pool, spoil_task, &none);
        assert_int_equal(none, -1);
        assert_ok(pool_check(pool, &err), &err);
    }
    pool_free(pool);
}
#endif

static void test_split_covers_everything_once(void **state)
{
    (void)state;
    static const size_t SIZES[] = {0, 1, 7, 64, 65, 1000, 4096};
    static const size_t GRAINS[] = {1, 4, 16, 100};
    for (size_t s = 0; s < sizeof SIZES / sizeof *SIZES; s++)
        for (size_t g = 0; g < sizeof GRAINS / sizeof *GRAINS; g++)
            for (int lanes = 1; lanes <= 9; lanes++) {
                size_t at = 0;
                for (int lane = 0; lane < lanes; lane++) {
                    size_t begin, end;
                    pool_split(SIZES[s], GRAINS[g], lane, lanes, &begin, &end);
                    assert_true(begin == at || begin == end);
                    assert_true(begin % GRAINS[g] == 0 || begin == SIZES[s]);
                    assert_true(end >= begin);
                    at = end;
                }
                assert_true(at == SIZES[s]);
            }
}

enum { DEEP_BYTES = 4 << 20 };

/* Far more stack than a thread gets by itself on macOS, and no signal but its own faults'. */
static void *deep_thread(void *ctx)
{
    volatile char deep[DEEP_BYTES];
    sigset_t blocked;
    for (size_t i = 0; i < sizeof deep; i += 1024)
        deep[i] = 1;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    const bool right = sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGSEGV) == 0;
    atomic_store((atomic_int *)ctx, right ? 1 : -1);
    return NULL;
}

static void test_started_thread_has_room_and_no_signals(void **state)
{
    (void)state;
    pthread_t thread;
    atomic_int seen = 0;
    sigset_t blocked;
    assert_int_equal(thread_start(&thread, deep_thread, &seen), 0);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&seen), 1);
    atomic_store(&seen, 0);
    assert_int_equal(thread_start_detached(deep_thread, &seen), 0);
    while (atomic_load(&seen) == 0)
        sched_yield();
    assert_int_equal(atomic_load(&seen), 1);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked); /* the starter's own stay as they were */
    assert_int_equal(sigismember(&blocked, SIGTERM), 0);
    fault_arm(FAULT_SPAWN, 1, false);
    assert_int_equal(thread_start(&thread, deep_thread, &seen), EAGAIN);
    fault_disarm();
}

static int thread_cases(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_barriers_order_plain_memory),
        cmocka_unit_test(test_sleepers_are_woken),
        cmocka_unit_test(test_many_short_runs),
        cmocka_unit_test(test_pool_new_survives_every_fault),
        cmocka_unit_test(test_pool_refuses_bad_sizes),
        cmocka_unit_test(test_started_thread_has_room_and_no_signals),
#if defined(__x86_64__)
        cmocka_unit_test(test_changed_float_environment_is_found),
#endif
        cmocka_unit_test(test_split_covers_everything_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
