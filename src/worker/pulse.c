/* One thread sleeps on a condition between looks, so that it ends at once. */
#include "worker/pulse.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

enum { CPU_SHARE = 100 }; /* of the time that passed, one part in so many is a sign of life */

bool pulse_lives(struct pulse_signs *last, int64_t now_ns, int64_t cpu_ns, uint64_t polls)
{
    const struct pulse_signs before = *last;
    const bool first = before.now_ns == 0;
    const bool polled = first || polls != before.polls;
    *last = (struct pulse_signs){now_ns, cpu_ns, polled ? now_ns : before.polled_ns, polls};
    if (polled) {
        return true;
    }
    return (cpu_ns - before.cpu_ns) * CPU_SHARE >= now_ns - before.now_ns &&
           now_ns - before.polled_ns < PULSE_POLL_NS;
}

static int64_t cpu_ns(void)
{
    struct timespec used = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

/* Until the next look is due, or it shall end. Lock held. */
static void rest(struct pulse *pulse)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)(pulse->interval_ms % 1000) * 1000000;
    until.tv_sec += pulse->interval_ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (!pulse->stopping) {
        (void)pthread_cond_timedwait(&pulse->changed, &pulse->lock, &until);
    }
}

static void *pulse_main(void *ctx)
{
    struct pulse *pulse = ctx;
    bool lived = true;
    pthread_mutex_lock(&pulse->lock);
    while (!pulse->stopping) {
        pthread_mutex_unlock(&pulse->lock);
        const bool lives =
            pulse_lives(&pulse->last, clock_monotonic_ns(), cpu_ns(), atomic_load(&pulse->polls));
        if (lives) {
            pulse->beat(pulse->ctx);
        } else if (lived) {
            log_event(LOG_WARNING, "worker", "no_sign_of_life", "polls=%llu",
                      (unsigned long long)atomic_load(&pulse->polls));
        }
        lived = lives;
        pthread_mutex_lock(&pulse->lock);
        rest(pulse);
    }
    pthread_mutex_unlock(&pulse->lock);
    return NULL;
}

int pulse_start(struct pulse *pulse, void (*beat)(void *ctx), void *ctx, int interval_ms,
                struct err *err)
{
    memset(pulse, 0, sizeof *pulse);
    pulse->beat = beat;
    pulse->ctx = ctx;
    pulse->interval_ms = interval_ms;
    pthread_mutex_init(&pulse->lock, NULL);
    pthread_cond_init(&pulse->changed, NULL);
    const int failed = thread_start(&pulse->thread, pulse_main, pulse);
    if (failed != 0) {
        pthread_cond_destroy(&pulse->changed);
        pthread_mutex_destroy(&pulse->lock);
        return err_set_errno(err, failed, "no thread could be started");
    }
    pulse->started = true;
    return 0;
}

void pulse_polled(struct pulse *pulse)
{
    atomic_fetch_add(&pulse->polls, 1);
}

void pulse_stop(struct pulse *pulse)
{
    if (!pulse->started) {
        return;
    }
    pthread_mutex_lock(&pulse->lock);
    pulse->stopping = true;
    pthread_cond_broadcast(&pulse->changed);
    pthread_mutex_unlock(&pulse->lock);
    pthread_join(pulse->thread, NULL);
    pthread_cond_destroy(&pulse->changed);
    pthread_mutex_destroy(&pulse->lock);
    pulse->started = false;
}
