/* Frames from a child that went wrong: any bytes, cut anywhere, end as frames or as an error. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/frame.h"

enum { SENT_BYTES_MAX = 32768, CEILING = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct frame_conn conn;
    struct buf payload;
    uint8_t type = 0;
    int ends[2];
    if (size > SENT_BYTES_MAX || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        return 0;
    if (size > 0 && write(ends[0], data, size) != (ssize_t)size)
        abort();
    close(ends[0]);
    buf_init(&payload, CEILING);
    if (frame_conn_init(&conn, ends[1], &err) != 0)
        abort();
    while (frame_recv(&conn, &type, &payload, -1, &err) == 0)
        if (payload.len > CEILING)
            abort();
    if (err.code != ERR_CLOSED && err.code != ERR_CORRUPT && err.code != ERR_TOO_LARGE)
        abort();
    frame_conn_release(&conn);
    buf_release(&payload);
    close(ends[1]);
    return 0;
}
