/* How it works. Every system call is tried first without waiting and only then polled for, so a
 * frame that fits the socket's buffer costs one call each way; the receiver reads ahead so that
 * header and small payload come together.
 *
 * 1. Bytes between ahead_begin and ahead_end come before anything still in the socket.
 * 2. `broken` is set the moment a frame cannot be completed, and never cleared.
 */
#include "base/frame.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/fault.h"

enum { HEADER_BYTES = 5, NS_PER_MS = 1000000 };

#ifdef MSG_NOSIGNAL
static const int SEND_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL;
#else
static const int SEND_FLAGS = MSG_DONTWAIT; /* SO_NOSIGPIPE is set instead */
#endif

/* A moment to give up at; never when ms < 0. */
struct deadline {
    bool never;
    int64_t at_ns;
};

static struct deadline deadline_in(int ms)
{
    if (ms < 0)
        return (struct deadline){.never = true};
    return (struct deadline){.at_ns = clock_monotonic_ns() + (int64_t)ms * NS_PER_MS};
}

/* 1 when the descriptor is ready (or dead, which the next call will say), 0 at the deadline. */
static int wait_for(int fd, short events, const struct deadline *deadline)
{
    for (;;) {
        int ms = -1;
        if (!deadline->never) {
            int64_t left = deadline->at_ns - clock_monotonic_ns();
            if (left <= 0)
                return 0;
            int64_t left_ms = (left + NS_PER_MS - 1) / NS_PER_MS;
            ms = left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
        }
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int n = poll(&poll_fd, 1, ms);
        if (n > 0 || (n < 0 && errno != EINTR))
            return 1;
    }
}

int frame_conn_init(struct frame_conn *conn, int fd, struct err *err)
{
    conn->fd = fd;
    conn->ahead_begin = conn->ahead_end = 0;
    atomic_init(&conn->broken, false);
#ifdef SO_NOSIGPIPE
    int on = 1;
    /* EINVAL: the other end is gone already, which the first frame will tell. */
    if (setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on) != 0 && errno != EINVAL)
        return err_set_errno(err, errno, "cannot prepare a connection");
#endif
    int errnum = pthread_mutex_init(&conn->send_lock, NULL);
    if (errnum != 0)
        return err_set_errno(err, errnum, "cannot prepare a connection");
    return 0;
}

void frame_conn_release(struct frame_conn *conn)
{
    pthread_mutex_destroy(&conn->send_lock);
}

bool frame_pending(const struct frame_conn *conn)
{
    return conn->ahead_end > conn->ahead_begin;
}

void frame_shutdown(struct frame_conn *conn)
{
    atomic_store(&conn->broken, true);
    shutdown(conn->fd, SHUT_RDWR);
}

static int closed(struct frame_conn *conn, const char *when, struct err *err)
{
    atomic_store(&conn->broken, true);
    return err_set(err, ERR_CLOSED, "the other end of the connection is gone%s", when);
}

static int io_failed(struct frame_conn *conn, int errnum, const char *what, struct err *err)
{
    atomic_store(&conn->broken, true);
    if (errnum == EPIPE || errnum == ECONNRESET || errnum == ENOTCONN)
        return err_set(err, ERR_CLOSED, "the other end of the connection is gone");
    return err_set_errno(err, errnum, "%s a frame failed", what);
}

/* --- sending ------------------------------------------------------------------------------------
 */

/* Moves an io vector of two parts past n bytes. */
static void advance(struct iovec parts[2], size_t n)
{
    for (int i = 0; i < 2; i++) {
        size_t step = n < parts[i].iov_len ? n : parts[i].iov_len;
        parts[i].iov_base = (char *)parts[i].iov_base + step;
        parts[i].iov_len -= step;
        n -= step;
    }
}

static int send_parts(struct frame_conn *conn, struct iovec parts[2],
                      const struct deadline *deadline, struct err *err)
{
    bool begun = false;
    while (parts[0].iov_len + parts[1].iov_len > 0) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t put =
            fault_hit(FAULT_WRITE) ? (errno = EPIPE, -1) : sendmsg(conn->fd, &message, SEND_FLAGS);
        if (put >= 0) {
            begun = begun || put > 0;
            advance(parts, (size_t)put);
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS)
            return io_failed(conn, errno, "sending", err);
        if (!wait_for(conn->fd, POLLOUT, deadline)) {
            if (begun)
                atomic_store(&conn->broken, true);
            return err_set(err, ERR_TIMEOUT, "the other end did not take a frame in time");
        }
    }
    return 0;
}

int frame_send(struct frame_conn *conn, uint8_t type, const void *payload, size_t n, int timeout_ms,
               struct err *err)
{
    if (n > FRAME_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "a frame of %zu bytes is larger than the %d allowed", n,
                       FRAME_BYTES_MAX);
    uint8_t header[HEADER_BYTES] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16),
                                    (uint8_t)(n >> 24), type};
    struct iovec parts[2] = {{header, sizeof header}, {(void *)(uintptr_t)payload, n}};
    struct deadline deadline = deadline_in(timeout_ms);
    int rc;
    pthread_mutex_lock(&conn->send_lock);
    if (atomic_load(&conn->broken))
        rc = closed(conn, "", err);
    else
        rc = send_parts(conn, parts, &deadline, err);
    pthread_mutex_unlock(&conn->send_lock);
    return rc;
}

/* --- receiving ----------------------------------------------------------------------------------
 */

/* Reads at least one byte into `to`. 0 bytes in *got is the end of the stream. */
static int recv_some(struct frame_conn *conn, void *to, size_t room,
                     const struct deadline *deadline, size_t *got, struct err *err)
{
    for (;;) {
        ssize_t n = fault_hit(FAULT_READ) ? (errno = ECONNRESET, -1)
                                          : recv(conn->fd, to, room, MSG_DONTWAIT);
        if (n >= 0) {
            *got = (size_t)n;
            return 0;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return io_failed(conn, errno, "receiving", err);
        if (!wait_for(conn->fd, POLLIN, deadline))
            return err_set(err, ERR_TIMEOUT, "no frame came in time");
    }
}

/* Exactly n bytes of a frame that has begun. */
static int recv_exact(struct frame_conn *conn, uint8_t *to, size_t n,
                      const struct deadline *deadline, struct err *err)
{
    while (n > 0) {
        size_t at_hand = conn->ahead_end - conn->ahead_begin, got = 0;
        if (at_hand > 0) {
            got = at_hand < n ? at_hand : n;
            memcpy(to, conn->ahead + conn->ahead_begin, got);
            conn->ahead_begin += got;
        } else {
            bool direct = n >= sizeof conn->ahead;
            int rc = recv_some(conn, direct ? to : conn->ahead, direct ? n : sizeof conn->ahead,
                               deadline, &got, err);
            if (rc != 0) {
                atomic_store(&conn->broken, true);
                return rc;
            }
            if (got == 0)
                return closed(conn, " in the middle of a frame", err);
            if (!direct) {
                conn->ahead_begin = 0;
                conn->ahead_end = got;
                continue;
            }
        }
        to += got;
        n -= got;
    }
    return 0;
}

/* Waits until the first byte of a frame is at hand. */
static int recv_first(struct frame_conn *conn, int timeout_ms, struct err *err)
{
    struct deadline deadline = deadline_in(timeout_ms);
    size_t got = 0;
    if (frame_pending(conn))
        return 0;
    int rc = recv_some(conn, conn->ahead, sizeof conn->ahead, &deadline, &got, err);
    if (rc != 0)
        return rc;
    if (got == 0)
        return closed(conn, "", err);
    conn->ahead_begin = 0;
    conn->ahead_end = got;
    return 0;
}

int frame_recv(struct frame_conn *conn, uint8_t *type, struct buf *payload, int timeout_ms,
               struct err *err)
{
    uint8_t header[HEADER_BYTES];
    buf_clear(payload);
    if (atomic_load(&conn->broken))
        return closed(conn, "", err);
    int rc = recv_first(conn, timeout_ms, err);
    if (rc != 0)
        return rc;
    struct deadline deadline = deadline_in(FRAME_REST_TIMEOUT_MS);
    rc = recv_exact(conn, header, sizeof header, &deadline, err);
    if (rc != 0)
        return rc;
    size_t n = (size_t)header[0] | (size_t)header[1] << 8 | (size_t)header[2] << 16 |
               (size_t)header[3] << 24;
    if (n > FRAME_BYTES_MAX) {
        atomic_store(&conn->broken, true);
        return err_set(err, ERR_CORRUPT, "a frame claims %zu bytes, more than the %d allowed", n,
                       FRAME_BYTES_MAX);
    }
    char *to = buf_reserve(payload, n);
    if (!to) {
        atomic_store(&conn->broken, true);
        return buf_check(payload, "a frame", err);
    }
    rc = recv_exact(conn, (uint8_t *)to, n, &deadline, err);
    if (rc != 0)
        return rc;
    payload->len = n;
    *type = header[4];
    return 0;
}
