#include "http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTEN_BACKLOG = 512, PORT_TEXT_BYTES = 8 };

static int resolve(const char *host, int port, struct addrinfo **list, struct err *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    char service[PORT_TEXT_BYTES];
    int rc;

    snprintf(service, sizeof(service), "%d", port);
    rc = getaddrinfo(host, service, &hints, list);
    if (rc != 0)
        return err_set(err, ERR_INVALID, "HOST '%s': %s", host, gai_strerror(rc));
    return 0;
}

static int open_socket(const struct addrinfo *at)
{
    int yes = 1, saved;
    int fd = socket(at->ai_family, SOCK_STREAM, 0);

    if (fd < 0)
        return -1;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
        bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {.v6 = {0}};
    socklen_t length = sizeof(address);

    if (getsockname(fd, &address.any, &length) != 0)
        return -1;
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

/* A name like localhost has addresses of both families; there is one socket, and clients that try
 * both in turn always come to IPv4. */
int http_listen(const char *host, int port, int *fd, int *bound, struct err *err)
{
    struct addrinfo *list = NULL;
    int rc = resolve(host, port, &list, err);
    int failed = 0;

    *fd = -1;
    if (rc != 0)
        return rc;
    for (int pass = 0; pass < 2 && *fd < 0; pass++)
        for (const struct addrinfo *at = list; at && *fd < 0; at = at->ai_next) {
            if ((at->ai_family == AF_INET) != (pass == 0))
                continue;
            *fd = open_socket(at);
            if (*fd < 0)
                failed = errno;
        }
    freeaddrinfo(list);
    if (*fd < 0 && failed == EADDRINUSE)
        return err_set(err, ERR_CONFLICT, "%s:%d is in use by another program", host, port);
    if (*fd < 0)
        return err_set_errno(err, failed, "listening on %s:%d", host, port);
    *bound = port_of(*fd);
    return 0;
}

bool http_address_is_loopback(const struct sockaddr *address)
{
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;

    if (address->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24) == 127;
    if (address->sa_family != AF_INET6)
        return false;
    if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        return six->sin6_addr.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

bool http_host_is_loopback(const char *host)
{
    struct addrinfo *list = NULL;
    bool loopback = true;

    if (resolve(host, 0, &list, NULL) != 0)
        return false;
    for (const struct addrinfo *at = list; at; at = at->ai_next)
        loopback = loopback && http_address_is_loopback(at->ai_addr);
    freeaddrinfo(list);
    return loopback;
}
