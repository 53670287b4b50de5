/* The inside of a server, for the files of http/ alone. */
#ifndef HTTP_SERVER_PRIVATE_H
#define HTTP_SERVER_PRIVATE_H

#include "http/exchange.h"
#include "http/policy.h"
#include "http/server.h"
#include "http/stats.h"

struct http_server {
    struct http_server_options options; /* strings point into `policy` and `host` */
    const struct http_router *router;
    char host[POLICY_NAME_BYTES_MAX];
    struct policy policy;
    struct http_stats *stats;
    struct MHD_Daemon *daemon;
    struct MHD_Response *unavailable;
    struct http_pool pool, slow_pool;
    struct http_watch watch;
    struct http_conns conns;
    int listen_fd;
    int port;
    bool started;
    atomic_bool draining; /* new requests are refused */
    atomic_bool aborting; /* nothing is suspended any more */
    _Atomic size_t bodies_held;
    size_t bodies_bytes_max;

    pthread_mutex_t lock;
    pthread_cond_t idle;
    struct http_exchange *head; /* every exchange from its headers to phase DONE */
    size_t n_exchanges;
};

void server_enter(struct http_server *server, struct http_exchange *exchange);
void server_leave(struct http_server *server, struct http_exchange *exchange);

#endif
