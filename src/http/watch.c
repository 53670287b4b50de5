/* How it works.
 *
 * Events carry a key: slot index and generation. Invariants:
 *  1. A slot's generation rises whenever the slot is freed, so a late event of an earlier use finds
 *     a key that no longer fits and does nothing.
 *  2. The lock covers look-up and taking a reference; exchange_client_gone runs without it, so it
 *     may take the exchange's own lock.
 *  3. Only the other end's closing is asked for, edge-triggered: bytes that the client pipelines do
 *     not wake the thread on Linux and wake it once per arrival on macOS.
 */
#include "http/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/epoll.h>
#else
#include <sys/event.h>
#include <sys/types.h>
#endif

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "http/exchange.h"

enum { WATCH_EVENTS_MAX = 64 };

#define NO_SLOT UINT32_MAX

/* --- the two systems --- */

#if defined(__linux__)
static int queue_open(void)
{
    return epoll_create1(EPOLL_CLOEXEC);
}

static bool queue_add(int queue, int fd, watch_key key)
{
    struct epoll_event event = {.events = key ? EPOLLRDHUP | EPOLLET : EPOLLIN, .data.u64 = key};
    return epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void queue_remove(int queue, int fd)
{
    epoll_ctl(queue, EPOLL_CTL_DEL, fd, NULL);
}

static int queue_wait(int queue, int timeout_ms, watch_key keys[WATCH_EVENTS_MAX])
{
    struct epoll_event events[WATCH_EVENTS_MAX];
    int n = epoll_wait(queue, events, WATCH_EVENTS_MAX, timeout_ms);

    for (int i = 0; i < n; i++)
        keys[i] = events[i].data.u64;
    return n;
}
#else
static int queue_open(void)
{
    int fd = kqueue();
    if (fd >= 0)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

static bool queue_add(int queue, int fd, watch_key key)
{
    struct kevent event;
    EV_SET(&event, fd, EVFILT_READ, EV_ADD | (key ? EV_CLEAR : 0), 0, 0, (void *)(uintptr_t)key);
    return kevent(queue, &event, 1, NULL, 0, NULL) == 0;
}

static void queue_remove(int queue, int fd)
{
    struct kevent event;
    EV_SET(&event, fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
    kevent(queue, &event, 1, NULL, 0, NULL);
}

static int queue_wait(int queue, int timeout_ms, watch_key keys[WATCH_EVENTS_MAX])
{
    struct kevent events[WATCH_EVENTS_MAX];
    struct timespec wait = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
    int found = kevent(queue, NULL, 0, events, WATCH_EVENTS_MAX, timeout_ms < 0 ? NULL : &wait);
    int n = 0;

    for (int i = 0; i < found; i++)
        if (!events[i].udata || (events[i].flags & EV_EOF))
            keys[n++] = (watch_key)(uintptr_t)events[i].udata;
    return found < 0 ? found : n;
}
#endif

/* --- slots --- */

static watch_key key_of(const struct http_watch *watch, uint32_t slot)
{
    return (watch_key)watch->slots[slot].generation << 32 | (slot + 1);
}

/* The exchange of a key, held for the caller; NULL when the key has been removed. */
static struct http_exchange *find_held(struct http_watch *watch, watch_key key)
{
    uint32_t slot = (uint32_t)key - 1;
    struct http_exchange *exchange = NULL;

    pthread_mutex_lock(&watch->lock);
    if (slot < watch->n_slots && key_of(watch, slot) == key)
        exchange = watch->slots[slot].exchange;
    if (exchange)
        exchange_hold(exchange);
    pthread_mutex_unlock(&watch->lock);
    return exchange;
}

watch_key watch_add(struct http_watch *watch, int fd, struct http_exchange *exchange)
{
    watch_key key = 0;
    uint32_t slot;

    pthread_mutex_lock(&watch->lock);
    slot = watch->first_free;
    if (slot != NO_SLOT) {
        watch->first_free = watch->slots[slot].next_free;
        watch->slots[slot].exchange = exchange;
        key = key_of(watch, slot);
    }
    pthread_mutex_unlock(&watch->lock);
    if (key && !queue_add(watch->queue, fd, key)) {
        watch_remove(watch, -1, key);
        key = 0;
    }
    return key;
}

void watch_remove(struct http_watch *watch, int fd, watch_key key)
{
    uint32_t slot = (uint32_t)key - 1;

    if (fd >= 0)
        queue_remove(watch->queue, fd);
    pthread_mutex_lock(&watch->lock);
    watch->slots[slot].exchange = NULL;
    watch->slots[slot].generation++;
    watch->slots[slot].next_free = watch->first_free;
    watch->first_free = slot;
    pthread_mutex_unlock(&watch->lock);
}

/* --- the thread --- */

static void wake(struct http_watch *watch)
{
    ssize_t n;

    do
        n = write(watch->wake[1], "", 1); /* a full pipe wakes as well */
    while (n < 0 && errno == EINTR);
}

static void drain_wake(struct http_watch *watch)
{
    char bytes[64];

    while (read(watch->wake[0], bytes, sizeof(bytes)) > 0)
        ;
}

static void *run(void *arg)
{
    struct http_watch *watch = arg;
    watch_key keys[WATCH_EVENTS_MAX];

    while (!atomic_load(&watch->stopping)) {
        int n = queue_wait(watch->queue, atomic_load(&watch->busy) ? watch->tick_ms : -1, keys);
        for (int i = 0; i < n; i++) {
            struct http_exchange *exchange;
            if (keys[i] == 0) {
                drain_wake(watch);
            } else if ((exchange = find_held(watch, keys[i]))) {
                exchange_client_gone(exchange);
                exchange_drop(exchange);
            }
        }
        if (atomic_load(&watch->busy))
            watch->tick(watch->ctx);
    }
    return NULL;
}

void watch_busy(struct http_watch *watch)
{
    if (atomic_fetch_add(&watch->busy, 1) == 0)
        wake(watch);
}

void watch_idle(struct http_watch *watch)
{
    atomic_fetch_sub(&watch->busy, 1);
}

static int open_pipe(int ends[2])
{
    if (pipe(ends) != 0)
        return -1;
    for (int i = 0; i < 2; i++)
        if (fcntl(ends[i], F_SETFD, FD_CLOEXEC) != 0 || fcntl(ends[i], F_SETFL, O_NONBLOCK) != 0)
            return -1;
    return 0;
}

int watch_start(struct http_watch *watch, uint32_t n_slots, int tick_ms, void (*tick)(void *ctx),
                void *ctx, struct err *err)
{
    int failed = 0;

    memset(watch, 0, sizeof(*watch));
    watch->wake[0] = watch->wake[1] = -1;
    watch->n_slots = n_slots;
    watch->tick_ms = tick_ms;
    watch->tick = tick;
    watch->ctx = ctx;
    pthread_mutex_init(&watch->lock, NULL);
    watch->queue = queue_open();
    watch->slots = mem_calloc(n_slots, sizeof(*watch->slots));
    if (!watch->slots)
        failed = ENOMEM;
    else if (watch->queue < 0 || open_pipe(watch->wake) != 0 ||
             !queue_add(watch->queue, watch->wake[0], 0))
        failed = errno;
    for (uint32_t i = 0; failed == 0 && i < n_slots; i++)
        watch->slots[i].next_free = i + 1 < n_slots ? i + 1 : NO_SLOT;
    if (failed == 0)
        failed = thread_start(&watch->thread, run, watch);
    watch->running = failed == 0;
    if (failed == 0)
        return 0;
    watch_stop(watch);
    return err_set_errno(err, failed, "starting the connection watcher");
}

void watch_stop(struct http_watch *watch)
{
    if (watch->running) {
        atomic_store(&watch->stopping, true);
        wake(watch);
        pthread_join(watch->thread, NULL);
    }
    if (!watch->tick)
        return;
    if (watch->queue >= 0)
        close(watch->queue);
    for (int i = 0; i < 2; i++)
        if (watch->wake[i] >= 0)
            close(watch->wake[i]);
    mem_free(watch->slots);
    pthread_mutex_destroy(&watch->lock);
    memset(watch, 0, sizeof(*watch));
}
