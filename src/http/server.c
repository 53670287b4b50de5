/* Starting, stopping, and libmicrohttpd's configuration. exchange.c says how a request travels.
 *
 * Stopping goes: refuse (draining) → wait for what is in flight → cut (aborting, all resumed) → end
 * the workers → stop libmicrohttpd, which must find nothing suspended → end the watcher. Workers
 * end before libmicrohttpd because they may still answer; the watcher ends last because connections
 * are taken from it as they close. The socket listens until the end, so that who comes while the
 * server drains hears 503; MHD_quiesce_daemon would close it but races with its event thread (both
 * remove it from the epoll set, and the second one panics).
 */
#include "http/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/listen.h"
#include "http/server_private.h"
#include "http/sync.h"

enum {
    MHD_MESSAGE_BYTES_MAX = 512,
    TICK_MS_MIN = 10,
    TICK_MS_MAX = 1000,
    TIMEOUT_MS_MAX = 24 * 3600 * 1000,
    BODY_BYTES_MAX = 1 << 30
};

/* --- exchanges --- */

void server_enter(struct http_server *server, struct http_exchange *exchange)
{
    stats_begin(server->stats);
    pthread_mutex_lock(&server->lock);
    exchange->next = server->head;
    exchange->link = &server->head;
    if (exchange->next)
        exchange->next->link = &exchange->next;
    server->head = exchange;
    server->n_exchanges++;
    pthread_mutex_unlock(&server->lock);
}

void server_leave(struct http_server *server, struct http_exchange *exchange)
{
    stats_end(server->stats, exchange->match.index, exchange->request.method,
              exchange->answered ? exchange->status : HTTP_CLIENT_GONE,
              clock_monotonic_ns() - exchange->request.started_ns);
    atomic_fetch_sub(&server->bodies_held, exchange->body_held);
    pthread_mutex_lock(&server->lock);
    *exchange->link = exchange->next;
    if (exchange->next)
        exchange->next->link = exchange->link;
    if (--server->n_exchanges == 0)
        pthread_cond_broadcast(&server->idle);
    pthread_mutex_unlock(&server->lock);
}

size_t http_server_in_flight(struct http_server *server)
{
    size_t n;

    pthread_mutex_lock(&server->lock);
    n = server->n_exchanges;
    pthread_mutex_unlock(&server->lock);
    return n;
}

/* --- what libmicrohttpd calls --- */

static void PRINTF_LIKE(2, 0) on_message(void *cls, const char *fmt, va_list args)
{
    char text[MHD_MESSAGE_BYTES_MAX];
    size_t n;

    (void)cls;
    vsnprintf(text, sizeof(text), fmt, args);
    n = strlen(text);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
        text[--n] = 0;
    log_event(LOG_DEBUG, "http", "libmicrohttpd", "message=\"%s\"", text);
}

/* libmicrohttpd found its own state broken and must not go on. */
static void on_panic(void *cls, const char *file, unsigned line, const char *reason)
{
    (void)cls;
    log_event(LOG_ERROR, "http", "panic", "at=%s:%u reason=\"%s\"", file, line,
              reason ? reason : "");
    raise(SIGABRT);
    for (;;)
        pause();
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http_server *server = cls;
    const union MHD_ConnectionInfo *fd, *peer;
    bool loopback;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        watch_idle(&server->watch);
        if (*context)
            conns_remove(&server->conns, *context);
        *context = NULL;
        return;
    }
    fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    loopback = false;
    peer = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (peer && peer->client_addr)
        loopback = http_address_is_loopback(peer->client_addr);
    watch_busy(&server->watch);
    *context =
        fd ? conns_add(&server->conns, fd->connect_fd, loopback,
                       clock_monotonic_ns() + (int64_t)server->options.header_timeout_ms * 1000000)
           : NULL;
}

/* Decoding is ours: libmicrohttpd would decode before the path is cut at its slashes. */
static size_t leave_escaped(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls;
    (void)connection;
    return strlen(text);
}

static void on_tick(void *ctx)
{
    struct http_server *server = ctx;
    conns_expire(&server->conns, clock_monotonic_ns());
}

/* --- making --- */

void http_server_options_default(struct http_server_options *options)
{
    *options = (struct http_server_options){
        .host = "127.0.0.1",
        .port = 8000,
        .max_connections = 256,
        .max_body_bytes = 32 << 20,
        .n_workers = 16,
        .n_slow_workers = 128,
        .n_event_threads = 1,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 120000,
        .idle_timeout_ms = 75000,
    };
}

static int check_range(const char *what, int64_t value, int64_t least, int64_t most,
                       struct err *err)
{
    if (value >= least && value <= most)
        return 0;
    return err_set(err, ERR_INVALID, "%s must be %lld to %lld, not %lld", what, (long long)least,
                   (long long)most, (long long)value);
}

static int check_options(const struct http_server_options *options, struct err *err)
{
    const struct {
        const char *what;
        int64_t value, least, most;
    } rows[] = {
        {"PORT", options->port, 0, 65535},
        {"MAX_CONNECTIONS", options->max_connections, 1, HTTP_CONNECTIONS_MAX},
        {"the body limit", (int64_t)options->max_body_bytes, 1, BODY_BYTES_MAX},
        {"worker threads", options->n_workers, 1, HTTP_WORKERS_MAX},
        {"slow worker threads", options->n_slow_workers, 1, HTTP_WORKERS_MAX},
        {"event threads", options->n_event_threads, 1, HTTP_EVENT_THREADS_MAX},
        {"the header time-out", options->header_timeout_ms, 1, TIMEOUT_MS_MAX},
        {"the body time-out", options->body_timeout_ms, 1, TIMEOUT_MS_MAX},
        {"the idle time-out", options->idle_timeout_ms, 1, TIMEOUT_MS_MAX},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int rc = check_range(rows[i].what, rows[i].value, rows[i].least, rows[i].most, err);
        if (rc != 0)
            return rc;
    }
    if (!options->host || !*options->host || strlen(options->host) >= POLICY_NAME_BYTES_MAX)
        return err_set(err, ERR_INVALID, "HOST is empty or too long");
    if (options->max_connections < (unsigned)options->n_event_threads)
        return err_set(err, ERR_INVALID, "fewer connections than event threads");
    return 0;
}

static int configure(struct http_server *server, const struct http_server_options *options,
                     struct err *err)
{
    bool loopback = http_host_is_loopback(options->host);
    bool locked = options->check_key || (options->api_key && *options->api_key);
    int rc;

    if (!loopback && !locked)
        return err_set(err, ERR_FORBIDDEN,
                       "HOST '%s' is not loopback: set API_KEY to serve other machines",
                       options->host);
    memcpy(server->host, options->host, strlen(options->host) + 1);
    rc = policy_init(&server->policy, options->host, loopback, options->allowed_hosts,
                     options->allowed_origins, options->api_key, err);
    if (rc != 0)
        return rc;
    server->options = *options;
    server->options.host = server->host;
    server->options.allowed_hosts = server->options.allowed_origins = NULL;
    server->options.api_key = NULL;
    server->bodies_bytes_max = HTTP_BODIES_HELD_MAX * options->max_body_bytes;
    return 0;
}

int http_server_new(struct http_server **out, const struct http_server_options *options,
                    const struct http_router *router, struct err *err)
{
    struct http_server *server = NULL;
    int rc = check_options(options, err);

    *out = NULL;
    if (rc != 0)
        return rc;
    server = mem_calloc(1, sizeof(*server));
    if (!server)
        return mem_err(err, sizeof(*server));
    server->listen_fd = -1;
    server->router = router;
    pthread_mutex_init(&server->lock, NULL);
    http_cond_init(&server->idle);
    conns_init(&server->conns);
    rc = configure(server, options, err);
    if (rc == 0)
        rc = stats_new(&server->stats, router, err);
    if (rc == 0 && !(server->unavailable = exchange_build_unavailable()))
        rc = mem_err(err, 0);
    if (rc == 0)
        *out = server;
    else
        http_server_free(server);
    return rc;
}

/* --- running --- */

/* libmicrohttpd gets a descriptor of its own: when it fails to start it closes what it was given in
 * some cases and not in others. */
static int start_daemon(struct http_server *server, struct err *err)
{
    const struct http_server_options *options = &server->options;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
                     MHD_USE_ERROR_LOG;
    struct MHD_OptionItem pool[] = {
        {MHD_OPTION_THREAD_POOL_SIZE, options->n_event_threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };

    int fd;

    if (options->n_event_threads == 1)
        pool[0].option = MHD_OPTION_END; /* a pool of one is refused */
#if defined(__linux__)
    flags |= MHD_USE_EPOLL;
#else
    flags |= MHD_USE_POLL;
#endif
    fd = fcntl(server->listen_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "starting libmicrohttpd");
    MHD_set_panic_func(on_panic, NULL);
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, exchange_on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_message,
        NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, options->max_connections,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(options->idle_timeout_ms + 999) / 1000,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_HEADER_BYTES_MAX,
        MHD_OPTION_NOTIFY_COMPLETED, exchange_on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, server, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_ARRAY,
        pool, MHD_OPTION_END);
    return server->daemon ? 0 : err_set(err, ERR_IO, "libmicrohttpd did not start");
}

static int tick_ms(const struct http_server_options *options)
{
    int least = options->header_timeout_ms;

    if (options->body_timeout_ms < least)
        least = options->body_timeout_ms;
    if (options->idle_timeout_ms < least)
        least = options->idle_timeout_ms;
    least /= 4;
    return least < TICK_MS_MIN ? TICK_MS_MIN : least > TICK_MS_MAX ? TICK_MS_MAX : least;
}

int http_server_start(struct http_server *server, struct err *err)
{
    bool pool = false, slow_pool = false, watch = false;
    int rc;

    assert(!server->started);
    rc = http_listen(server->host, server->options.port, &server->listen_fd, &server->port, err);
    if (rc == 0) {
        rc = http_pool_start(&server->pool, server->options.n_workers, err);
        pool = rc == 0;
    }
    if (rc == 0) {
        rc = http_pool_start(&server->slow_pool, server->options.n_slow_workers, err);
        slow_pool = rc == 0;
    }
    if (rc == 0) {
        rc = watch_start(&server->watch, server->options.max_connections, tick_ms(&server->options),
                         on_tick, server, err);
        watch = rc == 0;
    }
    if (rc == 0)
        rc = start_daemon(server, err);
    if (server->listen_fd >= 0)
        close(server->listen_fd);
    server->listen_fd = -1;
    server->started = rc == 0;
    if (rc == 0)
        return 0;
    if (watch)
        watch_stop(&server->watch);
    if (slow_pool)
        http_pool_stop(&server->slow_pool);
    if (pool)
        http_pool_stop(&server->pool);
    return rc;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

/* --- stopping --- */

static void drain(struct http_server *server, int deadline_ms)
{
    int64_t until = clock_monotonic_ns() + (int64_t)deadline_ms * 1000000;

    pthread_mutex_lock(&server->lock);
    while (server->n_exchanges > 0 && http_cond_wait_until(&server->idle, &server->lock, until))
        ;
    pthread_mutex_unlock(&server->lock);
}

/* Wakes everything that waits on this side: suspended connections, readers and writers. */
static void cut(struct http_server *server)
{
    atomic_store(&server->aborting, true);
    pthread_mutex_lock(&server->lock);
    for (struct http_exchange *at = server->head; at; at = at->next) {
        pthread_mutex_lock(&at->lock);
        atomic_store(&at->closed, true);
        pthread_cond_broadcast(&at->changed);
        exchange_resume(at);
        pthread_mutex_unlock(&at->lock);
    }
    pthread_mutex_unlock(&server->lock);
}

void http_server_stop(struct http_server *server, int deadline_ms)
{
    if (!server->started)
        return;
    server->started = false;
    atomic_store(&server->draining, true);
    drain(server, deadline_ms);
    cut(server);
    http_pool_stop(&server->slow_pool);
    http_pool_stop(&server->pool);
    MHD_stop_daemon(server->daemon); /* closes the listening socket */
    server->daemon = NULL;
    watch_stop(&server->watch);
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    http_server_stop(server, 0);
    if (server->unavailable)
        MHD_destroy_response(server->unavailable);
    stats_free(server->stats);
    conns_release(&server->conns);
    pthread_cond_destroy(&server->idle);
    pthread_mutex_destroy(&server->lock);
    mem_free(server);
}
