/* Frames over a stream socket: u32 length of the payload (little-endian), u8 type, payload.
 *
 * How the hub and its children talk. A connection borrows its descriptor. Any number of threads may
 * send, each frame going out whole; one thread at a time may receive. Sending takes the
 * connection's own lock and holds it over the write, the one lock here that is, because frames must
 * not mix; a timeout bounds it. No SIGPIPE is ever raised.
 * A frame that was begun and could not be finished, either way, breaks the connection: every later
 * call is ERR_CLOSED.
 */
#ifndef BASE_FRAME_H
#define BASE_FRAME_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum {
    FRAME_BYTES_MAX = 64 << 20, /* payload */
    FRAME_AHEAD_BYTES = 4096,
    FRAME_REST_TIMEOUT_MS = 30000 /* for the rest of a frame whose first byte has come */
};

struct frame_conn {
    int fd;
    atomic_bool broken;
    pthread_mutex_t send_lock;
    size_t ahead_begin, ahead_end; /* bytes read but not handed out; the receiver's */
    uint8_t ahead[FRAME_AHEAD_BYTES];
};

/* fd is a connected stream socket and stays the caller's; it is not closed here. */
int frame_conn_init(struct frame_conn *conn, int fd, struct err *err) MUST_CHECK;
void frame_conn_release(struct frame_conn *conn);

/* Sends one frame. timeout_ms < 0 waits for ever, 0 not at all. ERR_TOO_LARGE above
 * FRAME_BYTES_MAX, ERR_TIMEOUT (nothing was sent, or the connection is broken now), ERR_CLOSED. */
int frame_send(struct frame_conn *conn, uint8_t type, const void *payload, size_t n, int timeout_ms,
               struct err *err) MUST_CHECK;

/* Receives one frame into payload (cleared first). timeout_ms is for its first byte. ERR_TIMEOUT
 * when none began, ERR_CLOSED when the other end is gone, ERR_CORRUPT for a length above
 * FRAME_BYTES_MAX and ERR_TOO_LARGE for one above the buffer's own ceiling (both break). */
int frame_recv(struct frame_conn *conn, uint8_t *type, struct buf *payload, int timeout_ms,
               struct err *err) MUST_CHECK;

/* True when frame_recv has bytes at hand, so a poll of the descriptor need not show any. */
bool frame_pending(const struct frame_conn *conn);

/* Ends both directions: a receiver in another thread, and the other end, get ERR_CLOSED. */
void frame_shutdown(struct frame_conn *conn);

#endif
