/* Grows by doubling from PIPE_FIRST_BYTES; growing unrolls the ring to the front of a new block. */
#include "http/pipe.h"

#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

enum { PIPE_FIRST_BYTES = 4096 };

void http_pipe_init(struct http_pipe *pipe, size_t bytes_max)
{
    *pipe = (struct http_pipe){.bytes_max = bytes_max};
}

void http_pipe_release(struct http_pipe *pipe)
{
    mem_free(pipe->data);
    http_pipe_init(pipe, pipe->bytes_max);
}

size_t http_pipe_room(const struct http_pipe *pipe)
{
    return pipe->bytes_max - pipe->len;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void copy_out(const struct http_pipe *pipe, char *bytes, size_t n)
{
    size_t first = min_size(n, pipe->cap - pipe->head);

    if (n == 0)
        return;
    memcpy(bytes, pipe->data + pipe->head, first);
    memcpy(bytes + first, pipe->data, n - first);
}

static bool grow(struct http_pipe *pipe, size_t need)
{
    size_t cap = pipe->cap ? pipe->cap : PIPE_FIRST_BYTES;
    char *data;

    while (cap < need)
        cap *= 2;
    cap = min_size(cap, pipe->bytes_max);
    data = mem_alloc(cap);
    if (!data)
        return false;
    copy_out(pipe, data, pipe->len);
    mem_free(pipe->data);
    pipe->data = data;
    pipe->cap = cap;
    pipe->head = 0;
    return true;
}

size_t http_pipe_put(struct http_pipe *pipe, const void *bytes, size_t n)
{
    size_t tail, first;

    n = min_size(n, http_pipe_room(pipe));
    if (n == 0 || (pipe->len + n > pipe->cap && !grow(pipe, pipe->len + n)))
        return 0;
    tail = (pipe->head + pipe->len) % pipe->cap;
    first = min_size(n, pipe->cap - tail);
    memcpy(pipe->data + tail, bytes, first);
    memcpy(pipe->data, (const char *)bytes + first, n - first);
    pipe->len += n;
    return n;
}

size_t http_pipe_get(struct http_pipe *pipe, void *bytes, size_t n)
{
    n = min_size(n, pipe->len);
    if (n == 0)
        return 0;
    copy_out(pipe, bytes, n);
    pipe->head = (pipe->head + n) % pipe->cap;
    pipe->len -= n;
    return n;
}
