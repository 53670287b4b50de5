/* Threads: how one is started, and a pool of compute threads that runs one function on all of them
 * and meets at barriers.
 *
 * The pool has n lanes; the caller's thread is lane 0 and n-1 workers wait for work. pool_run calls
 * fn(ctx, lane, n_lanes) on every lane and returns when all are done. Inside, lanes may meet at
 * pool_barrier. A waiting lane spins at most 20 µs (offering its core after 2), then sleeps on a
 * futex (or condition variable), so idle costs nothing and a busy neighbour is not starved. Which
 * lane does what must never change a result: work is split by output, sums are never split. One
 * pool_run at a time; the pool belongs to the thread that made it.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

#include "base/err.h"
#include "base/machine.h" /* cpu_count */

enum { POOL_LANES_MAX = 256, THREAD_STACK_BYTES = 8 << 20 };

/* Starts a thread with THREAD_STACK_BYTES of stack on every system (macOS would give 512 kB).
 * Signals are the main thread's business: it gets none but those of its own making. The second form
 * is never joined. 0, or what errno would be. */
int thread_start(pthread_t *thread, void *(*fn)(void *ctx), void *ctx) MUST_CHECK;
int thread_start_detached(void *(*fn)(void *ctx), void *ctx) MUST_CHECK;

struct pool;

/* lanes 0 = all cores of this process (affinity and container limits respected). */
int pool_new(struct pool **pool, int lanes, struct err *err) MUST_CHECK;
void pool_free(struct pool *pool); /* NULL is fine */
int pool_lanes(const struct pool *pool);
void pool_run(struct pool *pool, void (*fn)(void *ctx, int lane, int lanes), void *ctx);
/* ERR_INTERNAL when a lane's floating-point environment (fpenv.h) was found changed at the end of a
 * run since the last check: what was computed must not be used. Ask after each forward or step. */
int pool_check(struct pool *pool, struct err *err) MUST_CHECK;
void pool_barrier(struct pool *pool, int lane);

/* The part [*begin, *end) of n items in units of `grain` that falls to lane. */
void pool_split(size_t n, size_t grain, int lane, int lanes, size_t *begin, size_t *end);

#endif
