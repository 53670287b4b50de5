/* Notices that a client left while its connection is suspended, which libmicrohttpd does not, and
 * runs a tick for deadlines. One thread over epoll (Linux) or kqueue (macOS); adding and removing
 * are one system call and wake nobody. Private to http/.
 */
#ifndef HTTP_WATCH_H
#define HTTP_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct http_exchange;

struct watch_slot {
    struct http_exchange *exchange; /* NULL: free */
    uint32_t generation;            /* tells an event of an earlier use of the slot */
    uint32_t next_free;
};

struct http_watch {
    int queue;   /* epoll or kqueue */
    int wake[2]; /* pipe: anything written wakes the thread */
    pthread_t thread;
    bool running;
    atomic_bool stopping;
    atomic_uint busy; /* the tick runs while this is not 0 */
    int tick_ms;
    void (*tick)(void *ctx);
    void *ctx;
    pthread_mutex_t lock; /* slots; held while an event looks up its exchange, not while it acts */
    struct watch_slot *slots;
    uint32_t n_slots;
    uint32_t first_free;
};

/* No two uses have the same key; 0 is no use. */
typedef uint64_t watch_key;

/* tick(ctx) runs about every tick_ms while there is something to tick for. */
int watch_start(struct http_watch *watch, uint32_t n_slots, int tick_ms, void (*tick)(void *ctx),
                void *ctx, struct err *err) MUST_CHECK;
void watch_stop(struct http_watch *watch); /* safe on a zeroed struct */

/* From now on exchange_client_gone(exchange) is called when fd's other end closes; the exchange
 * must be alive until watch_remove. 0 when the system is out of room: then nobody watches. */
watch_key watch_add(struct http_watch *watch, int fd, struct http_exchange *exchange);
/* fd must still be open. An event may still be acting on the exchange, which it holds. */
void watch_remove(struct http_watch *watch, int fd, watch_key key);

/* One more, or one less, thing to tick for. */
void watch_busy(struct http_watch *watch);
void watch_idle(struct http_watch *watch);

#endif
