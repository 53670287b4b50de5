/* One list, one lock, one condition: at tens of thousands of requests a second the lock is free
 * almost always, since nothing is done under it but moving two pointers.
 */
#include "http/pool.h"

#include <assert.h>
#include <string.h>

#include "base/thread.h"

static struct http_job *next_job(struct http_pool *pool)
{
    struct http_job *job;

    pthread_mutex_lock(&pool->lock);
    pool->n_idle++;
    while (!pool->head && !pool->stopping)
        pthread_cond_wait(&pool->work, &pool->lock);
    pool->n_idle--;
    job = pool->head;
    if (job) {
        pool->n_queued--;
        pool->head = job->next;
        if (!pool->head)
            pool->tail = &pool->head;
    }
    pthread_mutex_unlock(&pool->lock);
    return job;
}

static void *work(void *arg)
{
    struct http_pool *pool = arg;
    struct http_job *job;

    while ((job = next_job(pool)))
        job->run(job);
    return NULL;
}

/* The lock is held, or nobody else knows of the pool. */
static int add_thread(struct http_pool *pool)
{
    int rc = thread_start(&pool->threads[pool->n_threads], work, pool);
    pool->n_threads += rc == 0;
    return rc;
}

int http_pool_start(struct http_pool *pool, int n_threads_max, struct err *err)
{
    int rc;

    assert(n_threads_max >= 1 && n_threads_max <= HTTP_POOL_THREADS_MAX);
    memset(pool, 0, sizeof(*pool));
    pool->tail = &pool->head;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pool->n_threads_max = n_threads_max;
    rc = add_thread(pool);
    if (rc == 0)
        return 0;
    http_pool_stop(pool);
    return err_set_errno(err, rc, "starting worker threads");
}

void http_pool_submit(struct http_pool *pool, struct http_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&pool->lock);
    *pool->tail = job;
    pool->tail = &job->next;
    pool->n_queued++;
    if (pool->n_queued > pool->n_idle && pool->n_threads < pool->n_threads_max && !pool->stopping)
        (void)add_thread(pool); /* without it the job waits for one of those that there are */
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

void http_pool_stop(struct http_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
}
