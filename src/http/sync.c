/* Time left is computed from base's clock and handed on as a duration (macOS) or as a time on
 * CLOCK_MONOTONIC (elsewhere), so the two clocks need not agree on an epoch.
 */
#include "http/sync.h"

#include <errno.h>
#include <time.h>

#include "base/clock.h"

enum { NS_PER_S = 1000000000 };

#if defined(__APPLE__)
int http_cond_init(pthread_cond_t *cond)
{
    return pthread_cond_init(cond, NULL);
}

bool http_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns)
{
    int64_t left = until_ns - clock_monotonic_ns();
    struct timespec wait;

    if (left <= 0)
        return false;
    wait = (struct timespec){.tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S};
    return pthread_cond_timedwait_relative_np(cond, mutex, &wait) != ETIMEDOUT;
}
#else
int http_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);

    if (rc != 0)
        return rc;
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return rc;
}

bool http_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns)
{
    int64_t left = until_ns - clock_monotonic_ns();
    struct timespec until;

    if (left <= 0 || clock_gettime(CLOCK_MONOTONIC, &until) != 0)
        return false;
    until.tv_sec += left / NS_PER_S;
    until.tv_nsec += left % NS_PER_S;
    if (until.tv_nsec >= NS_PER_S) {
        until.tv_nsec -= NS_PER_S;
        until.tv_sec++;
    }
    return pthread_cond_timedwait(cond, mutex, &until) != ETIMEDOUT;
}
#endif
