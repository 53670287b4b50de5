/* A plain HTTP client over a socket, and a server to talk to: what the tests of http/ share. The
 * client fails the test when nothing comes for CLIENT_TIMEOUT_S, so nothing here hangs. It takes
 * its memory from libc, so faults armed in base/ do not reach it.
 */
#ifndef TESTS_HTTP_CLIENT_H
#define TESTS_HTTP_CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "http/server.h"
#include "http/stream.h"
#include "http/validate.h"
#include "test.h"

enum { CLIENT_TIMEOUT_S = 60, CLIENT_BYTES_MAX = 16 << 20 };

#define HOST "Host: localhost\r\n"

/* --- a flag that threads wait for --- */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
};

#define GATE                                                                                       \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false                                 \
    }

static inline void gate_open(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

/* Waits until it is open, and closes it. */
static inline void gate_wait(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    gate->open = false;
    pthread_mutex_unlock(&gate->lock);
}

/* --- the server --- */
struct fixture {
    struct http_router *router;
    struct http_server *server;
    struct http_server_options options;
    int port;
};

static inline void fixture_init(struct fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    http_server_options_default(&fixture->options);
    fixture->options.port = 0;
    fixture->options.n_workers = 4;
}

static inline void fixture_start(struct fixture *fixture, const struct http_route *routes, size_t n,
                                 void *ctx)
{
    struct err err = {0};

    assert_ok(http_router_new(&fixture->router, &err), &err);
    assert_ok(http_router_add(fixture->router, routes, n, ctx, &err), &err);
    assert_ok(http_server_new(&fixture->server, &fixture->options, fixture->router, &err), &err);
    assert_ok(http_server_start(fixture->server, &err), &err);
    fixture->port = http_server_port(fixture->server);
}

static inline void fixture_end(struct fixture *fixture)
{
    http_server_free(fixture->server);
    http_router_free(fixture->router);
}

/* --- the client --- */
struct client {
    int fd;
    char *data; /* received, not yet taken */
    size_t len;
};

struct answer {
    int status; /* 0: the connection was closed before an answer */
    char *head; /* status line and headers */
    char *body;
    size_t body_bytes;
    bool cut; /* the connection ended before the body did */
};

static inline int client_socket(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval wait = {.tv_sec = CLIENT_TIMEOUT_S};
    int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    return fd;
}

static inline void client_open(struct client *client, int port)
{
    client->fd = client_socket(port);
    client->len = 0;
    client->data = malloc(CLIENT_BYTES_MAX + 1);
    assert_true(client->fd >= 0 && client->data);
    client->data[0] = 0;
}

static inline void client_close(struct client *client)
{
    close(client->fd);
    free(client->data);
}

/* True when all went out; a peer that has closed makes it false. */
static inline bool client_write(struct client *client, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t sent = send(client->fd, at, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

static inline void client_send(struct client *client, const char *text)
{
    assert_true(client_write(client, text, strlen(text)));
}

/* Receives more; false at the end of the connection. */
static inline bool client_more(struct client *client)
{
    ssize_t n;

    do /* a child's end interrupts even this, since it has a timeout */
        n = recv(client->fd, client->data + client->len, CLIENT_BYTES_MAX - client->len, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        print_error("nothing came for %d s\n", CLIENT_TIMEOUT_S);
        abort();
    }
    if (n <= 0)
        return false;
    client->len += (size_t)n;
    client->data[client->len] = 0;
    return true;
}

static inline void client_take(struct client *client, size_t n)
{
    memmove(client->data, client->data + n, client->len - n + 1);
    client->len -= n;
}

/* The value of a header in `head`, into out; false when it is not there. */
static inline bool head_value(const char *head, const char *name, char out[256])
{
    size_t n = strlen(name);

    for (const char *at = strstr(head, "\r\n"); at && at[2]; at = strstr(at + 2, "\r\n"))
        if (strncasecmp(at + 2, name, n) == 0 && at[2 + n] == ':') {
            const char *value = at + 3 + n + strspn(at + 3 + n, " ");
            size_t length = strcspn(value, "\r");
            snprintf(out, 256, "%.*s", (int)length, value);
            return true;
        }
    return false;
}

/* Appends n bytes of the connection to the answer's body; false when it ended before. */
static inline bool take_body(struct client *client, struct answer *answer, size_t n)
{
    while (!answer->cut && client->len < n)
        if (!client_more(client)) {
            answer->cut = true;
            n = client->len;
        }
    answer->body = realloc(answer->body, answer->body_bytes + n + 1);
    memcpy(answer->body + answer->body_bytes, client->data, n);
    answer->body_bytes += n;
    answer->body[answer->body_bytes] = 0;
    client_take(client, n);
    return !answer->cut;
}

static inline bool take_chunk(struct client *client, struct answer *answer)
{
    char *end;
    size_t n;

    while (!(end = strstr(client->data, "\r\n")))
        if (!client_more(client)) {
            answer->cut = true;
            return false;
        }
    n = strtoul(client->data, NULL, 16);
    client_take(client, (size_t)(end + 2 - client->data));
    if (!take_body(client, answer, n))
        return false;
    while (client->len < 2)
        if (!client_more(client)) {
            answer->cut = true;
            return false;
        }
    client_take(client, 2);
    return n > 0;
}

static inline void answer_free(struct answer *answer)
{
    free(answer->head);
    free(answer->body);
    memset(answer, 0, sizeof(*answer));
}

/* The status line and headers of the next answer; false when the connection ended first. */
static inline bool client_head(struct client *client, struct answer *answer)
{
    char *end;
    size_t n;

    memset(answer, 0, sizeof(*answer));
    while (!(end = strstr(client->data, "\r\n\r\n")))
        if (!client_more(client))
            return false;
    n = (size_t)(end + 4 - client->data);
    answer->head = strndup(client->data, n);
    answer->status = (int)strtol(answer->head + strlen("HTTP/1.1 "), NULL, 10);
    client_take(client, n);
    return true;
}

/* A whole answer; `bodiless` for HEAD. 100 Continue is an answer without a body. */
static inline void client_read(struct client *client, struct answer *answer, bool bodiless)
{
    char value[256];

    if (!client_head(client, answer) || bodiless || answer->status == 204 || answer->status == 100)
        return;
    if (head_value(answer->head, "Transfer-Encoding", value)) {
        while (take_chunk(client, answer))
            ;
    } else if (head_value(answer->head, "Content-Length", value)) {
        take_body(client, answer, strtoul(value, NULL, 10));
    } else {
        while (client_more(client))
            ;
        take_body(client, answer, client->len);
    }
}

/* True when the server closes without another byte. */
static inline bool client_ended(struct client *client)
{
    return client->len == 0 && !client_more(client);
}

/* One request on a connection of its own; returns the status, and the answer where wanted. */
static inline int ask(int port, const char *request, struct answer *out)
{
    struct client client;
    struct answer answer;
    int status;

    client_open(&client, port);
    client_write(&client, request, strlen(request));
    client_read(&client, &answer, strncmp(request, "HEAD", 4) == 0);
    client_close(&client);
    status = answer.status;
    if (out)
        *out = answer;
    else
        answer_free(&answer);
    return status;
}

#endif
