/* Condition variables that wait until a monotonic time, which macOS and Linux spell differently.
 * Private to http/.
 */
#ifndef HTTP_SYNC_H
#define HTTP_SYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

int http_cond_init(pthread_cond_t *cond); /* 0 or an errno value */
/* Waits for a signal until clock_monotonic_ns() reaches until_ns; false when it has. */
bool http_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns);

#endif
