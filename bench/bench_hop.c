/* The price of the wall between hub and runner: how long a token's frame takes from one process to
 * the other over their socket. A child sends frames back as they come; half a round trip is one
 * hop. Prints microseconds as key=value pairs: median, 90th and 99th of a hundred.
 *
 * usage: bench_hop [FRAMES] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/frame.h"
#include "base/mem.h"
#include "base/proc.h"

enum { TOKEN_BYTES = 24, FRAMES = 20000, FRAMES_MAX = 1000000, PAYLOAD_MAX = 4096 };

static int echo(void)
{
    struct err err = {0};
    struct frame_conn conn;
    struct buf payload;
    uint8_t type;
    buf_init(&payload, PAYLOAD_MAX);
    int rc = proc_child_init(PROC_CONTROL_FD, &err);
    rc = rc == 0 ? frame_conn_init(&conn, PROC_CONTROL_FD, &err) : rc;
    while (rc == 0) {
        rc = frame_recv(&conn, &type, &payload, -1, &err);
        rc = rc == 0 ? frame_send(&conn, type, payload.data, payload.len, -1, &err) : rc;
    }
    buf_release(&payload);
    return 0;
}

static int by_value(const void *left, const void *right)
{
    const int64_t a = *(const int64_t *)left;
    const int64_t b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static int measure(struct frame_conn *conn, int64_t *times, int n, struct err *err)
{
    static const char token[TOKEN_BYTES] = "a token";
    struct buf payload;
    uint8_t type;
    int rc = 0;
    buf_init(&payload, PAYLOAD_MAX);
    for (int i = 0; rc == 0 && i < n; i++) {
        const int64_t start = clock_monotonic_ns();
        rc = frame_send(conn, 't', token, sizeof token, -1, err);
        rc = rc == 0 ? frame_recv(conn, &type, &payload, -1, err) : rc;
        times[i] = (clock_monotonic_ns() - start) / 2;
    }
    buf_release(&payload);
    return rc;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    struct proc proc = {0};
    struct frame_conn conn;
    if (argc > 1 && strcmp(argv[1], "echo") == 0) {
        return echo();
    }
    const int n = argc > 1 ? (int)strtol(argv[1], NULL, 10) : FRAMES;
    if (n < 1 || n > FRAMES_MAX) {
        fputs("usage: bench_hop [FRAMES]\n", stderr);
        return 2;
    }
    const char *child[] = {"bench_hop", "echo", NULL};
    const struct proc_options options = {.argv = child};
    int64_t *times = mem_calloc((size_t)n, sizeof *times);
    int rc = times == NULL ? mem_err(&err, 0) : proc_spawn(&proc, &options, &err);
    rc = rc == 0 ? frame_conn_init(&conn, proc.control, &err) : rc;
    rc = rc == 0 ? measure(&conn, times, n, &err) : rc;
    if (rc != 0) {
        fprintf(stderr, "bench_hop: %s\n", err.message);
    } else {
        qsort(times, (size_t)n, sizeof *times, by_value);
        printf("hops=%d median_us=%.1f p90_us=%.1f p99_us=%.1f\n", n, (double)times[n / 2] / 1e3,
               (double)times[n * 9LL / 10] / 1e3, (double)times[n * 99LL / 100] / 1e3);
    }
    proc_release(&proc);
    mem_free(times);
    return rc == 0 ? 0 : 1;
}
