/* Worker threads that begin jobs in the order they came; threads are started when jobs want them,
 * up to a bound. The list of jobs needs no memory of its own:
 * each job brings its link, and its bound is that of what can submit (one job per connection).
 * Private to http/.
 */
#ifndef HTTP_POOL_H
#define HTTP_POOL_H

#include <pthread.h>
#include <stdbool.h>

#include "base/err.h"

enum { HTTP_POOL_THREADS_MAX = 256 };

struct http_job {
    struct http_job *next;
    void (*run)(struct http_job *job); /* the job may be gone when it returns */
};

struct http_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct http_job *head, **tail;
    bool stopping;
    int n_queued, n_idle; /* jobs in the list; threads that wait for one */
    int n_threads, n_threads_max;
    pthread_t threads[HTTP_POOL_THREADS_MAX];
};

/* With one thread; n_threads_max at most. */
int http_pool_start(struct http_pool *pool, int n_threads_max, struct err *err) MUST_CHECK;
void http_pool_submit(struct http_pool *pool, struct http_job *job); /* any thread; never waits */
/* Runs what is queued, then ends the threads. Nothing may be submitted from outside any more. */
void http_pool_stop(struct http_pool *pool);

#endif
