/* The heartbeat of a running job, on a thread of its own: a step of a large model may take minutes,
 * and its worker is no less alive for that.
 *
 * What counts as alive. Between two looks the job has asked its caller whether to go on (polls), or
 * the process has used the processor, as computing does: at least a hundredth of one core. A worker
 * that waits for a lock that nobody gives back, or is stopped, does neither; its heartbeat ends,
 * and it is given up after JOB_SILENCE_NS (claims.h). One that computes without ever polling is
 * believed for PULSE_POLL_NS, and no longer: a loop without an end uses the processor too.
 *
 * Threads: pulse_start, pulse_polled and pulse_stop are the job's thread's; the other one calls
 * `beat` only, which must be safe to call from there.
 */
#ifndef WORKER_PULSE_H
#define WORKER_PULSE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { PULSE_MS = 10000 };
#define PULSE_POLL_NS (3600LL * 1000000000LL)

/* What was seen at the last look. */
struct pulse_signs {
    int64_t now_ns, cpu_ns;
    int64_t polled_ns; /* when polls had last moved */
    uint64_t polls;
};
/* Whether the job lives by these signs; they are remembered for the next look. The first look,
 * with `last` zeroed, says yes. */
bool pulse_lives(struct pulse_signs *last, int64_t now_ns, int64_t cpu_ns, uint64_t polls);

struct pulse {
    void (*beat)(void *ctx);
    void *ctx;
    int interval_ms;
    struct pulse_signs last;
    atomic_uint_fast64_t polls;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started, stopping;
};

/* beat(ctx) is called every interval_ms while the job lives. */
int pulse_start(struct pulse *pulse, void (*beat)(void *ctx), void *ctx, int interval_ms,
                struct err *err) MUST_CHECK;
void pulse_polled(struct pulse *pulse);
void pulse_stop(struct pulse *pulse); /* no beat after this; safe on a zeroed struct */

#endif
