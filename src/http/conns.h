/* The open connections and when each must have got on: headers and bodies have deadlines, which
 * libmicrohttpd's inactivity time-out does not give. Private to http/.
 */
#ifndef HTTP_CONNS_H
#define HTTP_CONNS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct http_conn {
    struct http_conn *next, **link; /* under the list's lock */
    int fd;
    bool loopback;               /* the peer is this machine */
    _Atomic int64_t deadline_ns; /* clock_monotonic_ns; 0: none */
};

struct http_conns {
    pthread_mutex_t lock;
    struct http_conn *head;
};

void conns_init(struct http_conns *conns);
void conns_release(struct http_conns *conns); /* the list must be empty */
/* NULL when out of memory. */
struct http_conn *conns_add(struct http_conns *conns, int fd, bool loopback, int64_t deadline_ns);
void conns_remove(struct http_conns *conns, struct http_conn *conn); /* before fd is closed */
/* Shuts the sockets whose deadline has passed down; the event thread then closes them. */
void conns_expire(struct http_conns *conns, int64_t now_ns);

void conn_set_deadline(struct http_conn *conn, int64_t deadline_ns); /* NULL is fine */

#endif
