/* The listening socket. Private to http/. */
#ifndef HTTP_LISTEN_H
#define HTTP_LISTEN_H

#include <stdbool.h>

#include "base/err.h"

struct sockaddr;

/* Binds host:port (port 0: any free one, told in *bound) and listens; non-blocking, close-on-exec.
 * ERR_CONFLICT when the port is taken, ERR_INVALID for a host that does not resolve. */
int http_listen(const char *host, int port, int *fd, int *bound, struct err *err) MUST_CHECK;

bool http_address_is_loopback(const struct sockaddr *address);
/* True when every address that the host stands for is loopback. */
bool http_host_is_loopback(const char *host);

#endif
