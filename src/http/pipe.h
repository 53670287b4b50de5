/* A bounded ring of bytes that grows to its ceiling as it is used. Not synchronised: its owner's
 * lock guards it. Private to http/.
 */
#ifndef HTTP_PIPE_H
#define HTTP_PIPE_H

#include <stddef.h>

struct http_pipe {
    char *data;
    size_t cap;
    size_t head; /* where reading goes on */
    size_t len;
    size_t bytes_max;
};

void http_pipe_init(struct http_pipe *pipe, size_t bytes_max);
void http_pipe_release(struct http_pipe *pipe);
size_t http_pipe_room(const struct http_pipe *pipe); /* up to the ceiling */
/* Puts up to n bytes and returns how many: less when the ring is full, 0 too when it is out of
 * memory, which the caller can tell by the room that is left. */
size_t http_pipe_put(struct http_pipe *pipe, const void *bytes, size_t n);
size_t http_pipe_get(struct http_pipe *pipe, void *bytes, size_t n);

#endif
