/* Load on one HTTP server at 127.0.0.1: clients with a connection each, which they keep, and one
 * request after another on it. Client c's i-th request carries line c·REQUESTS + i of the bodies,
 * counted around. Prints one JSON object: requests, failed ones, seconds in all, p50 and p99 of an
 * answer's milliseconds, p50 of the first event's (its first byte, where nothing is streamed), and
 * the sum of what answers call completion_tokens.
 *
 * usage: bench_http PORT METHOD PATH [clients=1] [requests=1] [bodies=FILE] */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

enum {
    CLIENTS_MAX = 64,
    REQUESTS_MAX = 1 << 20,
    BODIES_MAX = 4096,
    REQUEST_BYTES_MAX = 1 << 20,
    ANSWER_BYTES_MAX = 1 << 24
};

struct load {
    int port, clients, requests;
    const char *method, *path;
    struct buf text; /* the bodies' file */
    const char *bodies[BODIES_MAX];
    size_t body_bytes[BODIES_MAX];
    int n_bodies;
    double *total_ms, *first_ms; /* clients × requests */
};

struct client {
    const struct load *load;
    int index;
    int socket;
    struct buf request, answer;
    long failed, tokens;
};

static int dial(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int one = 1;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    if (fd >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    return fd;
}

/* Where the body begins, or NULL while headers are coming. */
static const char *body_of(const struct buf *answer)
{
    const char *end = strstr(answer->data, "\r\n\r\n");
    return end != NULL ? end + 4 : NULL;
}

/* No text of an API holds a bare CR LF, so the last chunk cannot be mistaken. */
static bool answer_is_whole(const struct buf *answer, const char *body)
{
    const size_t n = answer->len - (size_t)(body - answer->data);
    const char *length = strcasestr(answer->data, "\r\ncontent-length:");
    if (length != NULL && length < body) {
        return n >= strtoul(length + 17, NULL, 10);
    }
    return n >= 5 && memcmp(answer->data + answer->len - 5, "0\r\n\r\n", 5) == 0 &&
           (n == 5 || answer->data[answer->len - 6] == '\n');
}

static bool write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        const ssize_t put = send(fd, data, n, MSG_NOSIGNAL);
        if (put <= 0) {
            return false;
        }
        data += put;
        n -= (size_t)put;
    }
    return true;
}

static long tokens_of(const char *answer)
{
    long tokens = 0;
    for (const char *at = answer; (at = strstr(at, "\"completion_tokens\":")) != NULL;) {
        at += 20;
        tokens = strtol(at, NULL, 10);
    }
    return tokens;
}

static void write_request(struct client *c, size_t at)
{
    const struct load *load = c->load;
    const size_t body = load->n_bodies > 0 ? at % (size_t)load->n_bodies : 0;
    buf_clear(&c->request);
    buf_printf(&c->request,
               "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\n\r\n",
               load->method, load->path, load->port, load->body_bytes[body]);
    if (load->n_bodies > 0) {
        buf_append(&c->request, load->bodies[body], load->body_bytes[body]);
    }
}

/* One exchange. An answer that stays empty means that the connection had ended before. */
static bool exchange(struct client *c, size_t at)
{
    buf_clear(&c->answer);
    const int64_t start = clock_monotonic_ns();
    if (c->request.failed != 0 || !write_all(c->socket, c->request.data, c->request.len)) {
        return false;
    }
    bool first = true;
    for (const char *begin = NULL; begin == NULL || !answer_is_whole(&c->answer, begin);) {
        char part[1 << 14];
        const ssize_t n = recv(c->socket, part, sizeof part, 0);
        if (n <= 0) {
            return false;
        }
        buf_append(&c->answer, part, (size_t)n);
        if (c->answer.failed != 0) {
            return false;
        }
        begin = body_of(&c->answer);
        if (first && begin != NULL && begin < c->answer.data + c->answer.len) {
            c->load->first_ms[at] = (double)(clock_monotonic_ns() - start) * 1e-6;
            first = false;
        }
    }
    c->load->total_ms[at] = (double)(clock_monotonic_ns() - start) * 1e-6;
    c->tokens += tokens_of(c->answer.data);
    return strncmp(c->answer.data, "HTTP/1.1 2", 10) == 0;
}

/* A server may end a kept connection between two requests: that is no failure. */
static bool ask(struct client *c, int i)
{
    const size_t at = (size_t)c->index * (size_t)c->load->requests + (size_t)i;
    write_request(c, at);
    bool good = exchange(c, at);
    if (!good && c->answer.len == 0) {
        close(c->socket);
        c->socket = dial(c->load->port);
        good = exchange(c, at);
    }
    return good;
}

static void *run_client(void *arg)
{
    struct client *c = arg;
    for (int i = 0; i < c->load->requests; i++) {
        if (!ask(c, i)) {
            if (c->failed++ == 0) {
                fprintf(stderr, "bench_http: %.400s\n", c->answer.len > 0 ? c->answer.data : "-");
            }
            close(c->socket);
            c->socket = dial(c->load->port);
        }
    }
    return NULL;
}

static int by_value(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;
    return (a > b) - (a < b);
}

static double share(double *values, size_t n, size_t percent)
{
    qsort(values, n, sizeof *values, by_value);
    return values[n * percent / 100 < n ? n * percent / 100 : n - 1];
}

static int run(struct load *load)
{
    static struct client clients[CLIENTS_MAX];
    pthread_t ids[CLIENTS_MAX];
    int started = 0;
    long failed = 0, tokens = 0;
    for (int i = 0; i < load->clients; i++) {
        clients[i] = (struct client){.load = load, .index = i, .socket = dial(load->port)};
        buf_init(&clients[i].request, REQUEST_BYTES_MAX);
        buf_init(&clients[i].answer, ANSWER_BYTES_MAX);
    }
    const int64_t start = clock_monotonic_ns();
    while (started < load->clients &&
           pthread_create(&ids[started], NULL, run_client, &clients[started]) == 0) {
        started++;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(ids[i], NULL);
    }
    const double seconds = (double)(clock_monotonic_ns() - start) * 1e-9;
    for (int i = 0; i < load->clients; i++) {
        failed += clients[i].failed;
        tokens += clients[i].tokens;
        close(clients[i].socket);
        buf_release(&clients[i].request);
        buf_release(&clients[i].answer);
    }
    const size_t n = (size_t)load->clients * (size_t)load->requests;
    printf("{\"requests\": %zu, \"failed\": %ld, \"seconds\": %.4f, \"p50_ms\": %.3f, "
           "\"p99_ms\": %.3f, \"first_p50_ms\": %.3f, \"tokens\": %ld}\n",
           n, failed, seconds, share(load->total_ms, n, 50), share(load->total_ms, n, 99),
           share(load->first_ms, n, 50), tokens);
    return started == load->clients && failed == 0 ? 0 : 1;
}

static bool read_bodies(struct load *load, const char *path)
{
    char part[1 << 14];
    FILE *in = fopen(path, "r");
    if (in == NULL) {
        return false;
    }
    size_t n;
    while ((n = fread(part, 1, sizeof part, in)) > 0) {
        buf_append(&load->text, part, n);
    }
    fclose(in);
    const char *line = load->text.data;
    const char *end;
    while (load->text.failed == 0 && line != NULL && (end = strchr(line, '\n')) != NULL &&
           load->n_bodies < BODIES_MAX) {
        load->bodies[load->n_bodies] = line;
        load->body_bytes[load->n_bodies++] = (size_t)(end - line);
        line = end + 1;
    }
    return load->text.failed == 0 && load->n_bodies > 0;
}

int main(int argc, char **argv)
{
    static struct load load;
    load = (struct load){.clients = 1, .requests = 1};
    buf_init(&load.text, ANSWER_BYTES_MAX);
    bool good = argc >= 4;
    for (int i = 4; good && i < argc; i++) {
        if (strncmp(argv[i], "clients=", 8) == 0) {
            load.clients = (int)strtol(argv[i] + 8, NULL, 10);
        } else if (strncmp(argv[i], "requests=", 9) == 0) {
            load.requests = (int)strtol(argv[i] + 9, NULL, 10);
        } else {
            good = strncmp(argv[i], "bodies=", 7) == 0 && read_bodies(&load, argv[i] + 7);
        }
    }
    if (!good || load.clients < 1 || load.clients > CLIENTS_MAX || load.requests < 1 ||
        load.requests > REQUESTS_MAX) {
        fputs("usage: bench_http PORT METHOD PATH [clients=1] [requests=1] [bodies=FILE]\n",
              stderr);
        return 2;
    }
    load.port = (int)strtol(argv[1], NULL, 10);
    load.method = argv[2];
    load.path = argv[3];
    const size_t n = (size_t)load.clients * (size_t)load.requests;
    load.total_ms = mem_calloc(n, sizeof *load.total_ms);
    load.first_ms = mem_calloc(n, sizeof *load.first_ms);
    const int rc = load.total_ms != NULL && load.first_ms != NULL ? run(&load) : 1;
    mem_free(load.total_ms);
    mem_free(load.first_ms);
    buf_release(&load.text);
    return rc;
}
