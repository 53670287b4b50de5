/* A connection is in the list from the moment it is accepted until just before its descriptor is
 * closed, and expiry holds the list's lock, so a descriptor that is shut down is always the right
 * one. Deadlines are set without the lock.
 */
#include "http/conns.h"

#include <assert.h>
#include <sys/socket.h>

#include "base/mem.h"

void conns_init(struct http_conns *conns)
{
    pthread_mutex_init(&conns->lock, NULL);
    conns->head = NULL;
}

void conns_release(struct http_conns *conns)
{
    assert(!conns->head);
    pthread_mutex_destroy(&conns->lock);
}

struct http_conn *conns_add(struct http_conns *conns, int fd, bool loopback, int64_t deadline_ns)
{
    struct http_conn *conn = mem_calloc(1, sizeof(*conn));

    if (!conn)
        return NULL;
    conn->fd = fd;
    conn->loopback = loopback;
    conn_set_deadline(conn, deadline_ns);
    pthread_mutex_lock(&conns->lock);
    conn->next = conns->head;
    conn->link = &conns->head;
    if (conn->next)
        conn->next->link = &conn->next;
    conns->head = conn;
    pthread_mutex_unlock(&conns->lock);
    return conn;
}

void conns_remove(struct http_conns *conns, struct http_conn *conn)
{
    pthread_mutex_lock(&conns->lock);
    *conn->link = conn->next;
    if (conn->next)
        conn->next->link = conn->link;
    pthread_mutex_unlock(&conns->lock);
    mem_free(conn);
}

void conns_expire(struct http_conns *conns, int64_t now_ns)
{
    pthread_mutex_lock(&conns->lock);
    for (struct http_conn *conn = conns->head; conn; conn = conn->next) {
        int64_t deadline = atomic_load_explicit(&conn->deadline_ns, memory_order_relaxed);
        if (deadline != 0 && deadline <= now_ns) {
            shutdown(conn->fd, SHUT_RDWR);
            conn_set_deadline(conn, 0);
        }
    }
    pthread_mutex_unlock(&conns->lock);
}

void conn_set_deadline(struct http_conn *conn, int64_t deadline_ns)
{
    if (conn)
        atomic_store_explicit(&conn->deadline_ns, deadline_ns, memory_order_relaxed);
}
