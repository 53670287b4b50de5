/* How it works. Two words that lanes wait on: `job`, counted up by pool_run to start the workers,
 * and `phase`, counted up by the last lane to reach a barrier. pool_run ends with a barrier of its
 * own, so a run costs two meetings.
 *
 *   worker:  wait(job) ──run fn──▶ barrier ──▶ wait(job) …        job == STOP ──▶ ends
 *   lane 0:  job++ ──run fn──▶ barrier ──▶ pool_run returns
 *
 * 1. A lane reads `phase` before it adds itself to `arrived`; the phase cannot move until it has,
 *    so the value read is the one to wait away from (the sense of a sense-reversing barrier).
 * 2. `arrived` is reset before the phase moves, so a lane that races ahead to the next barrier
 *    counts from zero.
 * 3. No wake-up is lost: a sleeper announces itself (sleepers++) before it looks at the word again,
 *    a waker changes the word before it looks at sleepers, all in one order (seq_cst).
 * 4. fn and ctx are written before job moves and read after it was seen to move.
 *
 * A waiting lane spins SPIN_NS and then sleeps in the kernel. After ALONE_NS it offers its core
 * between looks: on a busy machine the kernel may put two lanes on one core, and then a lane that
 * only spins holds the very core that the other needs (33 µs a barrier instead of 3). With more
 * lanes than cores it sleeps at once: the lane it waits for needs the core.
 */
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fpenv.h"
#include "base/mem.h"

#if defined(__linux__) && !defined(THREAD_NO_FUTEX)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#define USE_FUTEX 1
#else
#define USE_FUTEX 0
#endif

enum { SPIN_NS = 20000, ALONE_NS = 2000, PAUSES_PER_LOOK = 32, CACHE_LINE = 64, JOB_STOP = 1 };

/* A word that threads wait on until it has another value. */
struct word {
    alignas(CACHE_LINE) _Atomic(uint32_t) value;
    alignas(CACHE_LINE) _Atomic(uint32_t) sleepers;
#if !USE_FUTEX
    pthread_mutex_t mutex;
    pthread_cond_t changed;
#endif
};

struct worker {
    struct pool *pool;
    int lane;
    pthread_t thread;
};

struct pool {
    struct word job;   /* even: number of the run, times 2; JOB_STOP: end */
    struct word phase; /* number of barriers passed */
    alignas(CACHE_LINE) _Atomic(uint32_t) arrived;
    alignas(CACHE_LINE) void (*fn)(void *ctx, int lane, int lanes);
    void *ctx;
    int lanes;
    int started; /* workers with a thread */
    bool spins;
    atomic_bool fpenv_broken;
    struct worker workers[];
};

/* --- waiting ---------------------------------------------------------------------------------- */

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* `yield` is a no-op on most cores and would not wait */
#endif
}

static void word_init(struct word *word)
{
    atomic_init(&word->value, 0);
    atomic_init(&word->sleepers, 0);
#if !USE_FUTEX
    pthread_mutex_init(&word->mutex, NULL);
    pthread_cond_init(&word->changed, NULL);
#endif
}

static void word_release(struct word *word)
{
#if !USE_FUTEX
    pthread_cond_destroy(&word->changed);
    pthread_mutex_destroy(&word->mutex);
#else
    (void)word;
#endif
}

static void word_set(struct word *word, uint32_t value)
{
    atomic_store(&word->value, value);
    if (atomic_load(&word->sleepers) == 0)
        return;
#if USE_FUTEX
    syscall(SYS_futex, (uint32_t *)&word->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
#else
    pthread_mutex_lock(&word->mutex);
    pthread_cond_broadcast(&word->changed);
    pthread_mutex_unlock(&word->mutex);
#endif
}

static void word_sleep(struct word *word, uint32_t old)
{
    atomic_fetch_add(&word->sleepers, 1);
#if USE_FUTEX
    while (atomic_load(&word->value) == old)
        syscall(SYS_futex, (uint32_t *)&word->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
#else
    pthread_mutex_lock(&word->mutex);
    while (atomic_load(&word->value) == old)
        pthread_cond_wait(&word->changed, &word->mutex);
    pthread_mutex_unlock(&word->mutex);
#endif
    atomic_fetch_sub(&word->sleepers, 1);
}

/* Returns the first value seen that is not `old`. */
static uint32_t word_wait(struct word *word, uint32_t old, bool spin)
{
    uint32_t value = atomic_load_explicit(&word->value, memory_order_acquire);
    if (value != old)
        return value;
    int64_t until = spin ? clock_monotonic_ns() + SPIN_NS : 0;
    while (spin) {
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            value = atomic_load_explicit(&word->value, memory_order_acquire);
            if (value != old)
                return value;
            pause_cpu();
        }
        int64_t now = clock_monotonic_ns();
        spin = now < until;
        if (spin && now > until - SPIN_NS + ALONE_NS)
            sched_yield();
    }
    word_sleep(word, old);
    return atomic_load_explicit(&word->value, memory_order_acquire);
}

/* --- running ---------------------------------------------------------------------------------- */

void pool_barrier(struct pool *pool, int lane)
{
    assert(lane >= 0 && lane < pool->lanes);
    (void)lane;
    if (pool->lanes == 1)
        return;
    uint32_t phase = atomic_load_explicit(&pool->phase.value, memory_order_relaxed);
    uint32_t before = atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel);
    if (before + 1 < (uint32_t)pool->lanes) {
        (void)word_wait(&pool->phase, phase, pool->spins);
        return;
    }
    atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
    word_set(&pool->phase, phase + 1);
}

static void run_lane(struct pool *pool, int lane)
{
    fpenv_enter();
    pool->fn(pool->ctx, lane, pool->lanes);
    if (!fpenv_check())
        atomic_store(&pool->fpenv_broken, true);
    pool_barrier(pool, lane);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct pool *pool = worker->pool;
    uint32_t job = 0;
    for (;;) {
        job = word_wait(&pool->job, job, pool->spins);
        if (job == JOB_STOP)
            return NULL;
        run_lane(pool, worker->lane);
    }
}

void pool_run(struct pool *pool, void (*fn)(void *ctx, int lane, int lanes), void *ctx)
{
    pool->fn = fn;
    pool->ctx = ctx;
    if (pool->lanes > 1)
        word_set(&pool->job, atomic_load_explicit(&pool->job.value, memory_order_relaxed) + 2);
    run_lane(pool, 0);
}

int pool_check(struct pool *pool, struct err *err)
{
    if (!atomic_exchange(&pool->fpenv_broken, false))
        return 0;
    return err_set(err, ERR_INTERNAL,
                   "a library changed the floating-point environment during a computation");
}

/* --- life ------------------------------------------------------------------------------------- */

/* What a fault of the thread itself raises stays: blocked, it would end the process unheard. */
static void block_signals(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGTRAP);
    sigdelset(&all, SIGABRT);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

static int start(pthread_t *thread, int state, void *(*fn)(void *ctx), void *ctx)
{
    pthread_attr_t attributes;
    sigset_t before;
    int errnum = fault_hit(FAULT_SPAWN) ? EAGAIN : pthread_attr_init(&attributes);
    if (errnum != 0)
        return errnum;
    pthread_attr_setdetachstate(&attributes, state);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    block_signals(&before);
    errnum = pthread_create(thread, &attributes, fn, ctx);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return errnum;
}

int thread_start(pthread_t *thread, void *(*fn)(void *ctx), void *ctx)
{
    return start(thread, PTHREAD_CREATE_JOINABLE, fn, ctx);
}

int thread_start_detached(void *(*fn)(void *ctx), void *ctx)
{
    pthread_t thread;
    return start(&thread, PTHREAD_CREATE_DETACHED, fn, ctx);
}

static int start_worker(struct pool *pool, int lane, struct err *err)
{
    struct worker *worker = &pool->workers[lane - 1];
    *worker = (struct worker){.pool = pool, .lane = lane};
    int errnum = thread_start(&worker->thread, work, worker);
    if (errnum != 0)
        return err_set_errno(err, errnum, "cannot start compute thread %d of %d", lane + 1,
                             pool->lanes);
    pool->started++;
    return 0;
}

int pool_new(struct pool **out, int lanes, struct err *err)
{
    *out = NULL;
    int cores = cpu_count();
    if (lanes == 0)
        lanes = cores < POOL_LANES_MAX ? cores : POOL_LANES_MAX;
    if (lanes < 1 || lanes > POOL_LANES_MAX)
        return err_set(err, ERR_INVALID, "a pool has 1 to %d threads, not %d", POOL_LANES_MAX,
                       lanes);
    size_t bytes = sizeof(struct pool) + (size_t)(lanes - 1) * sizeof(struct worker);
    struct pool *pool = mem_alloc_simd(1, bytes);
    if (!pool)
        return mem_err(err, bytes);
    memset(pool, 0, bytes);
    word_init(&pool->job);
    word_init(&pool->phase);
    pool->lanes = lanes;
    pool->spins = lanes <= cores;
    int rc = 0;
    for (int lane = 1; lane < lanes && rc == 0; lane++)
        rc = start_worker(pool, lane, err);
    if (rc != 0) {
        pool_free(pool);
        return rc;
    }
    *out = pool;
    return 0;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    if (pool->started > 0)
        word_set(&pool->job, JOB_STOP);
    for (int i = 0; i < pool->started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    word_release(&pool->job);
    word_release(&pool->phase);
    mem_free(pool);
}

int pool_lanes(const struct pool *pool)
{
    return pool->lanes;
}

void pool_split(size_t n, size_t grain, int lane, int lanes, size_t *begin, size_t *end)
{
    assert(grain > 0 && lanes > 0 && lane >= 0 && lane < lanes);
    size_t units = n / grain + (n % grain != 0);
    size_t share = units / (size_t)lanes, extra = units % (size_t)lanes, at = (size_t)lane;
    size_t from = at * share + (at < extra ? at : extra);
    size_t to = from + share + (at < extra);
    *begin = from < units ? from * grain : n;
    *end = to < units ? to * grain : n;
}
