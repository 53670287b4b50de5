/* Start: folders ─▶ lock ─▶ hub (database, sweep) ─▶ HTTP ─▶ workers. Stop: the same way back, with
 * everything that can be asked to finish asked before anything is waited for. */
#include "api/serve.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "api/hub.h"
#include "api/routes.h"
#include "api/supervise.h"
#include "api/ticker.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/mem.h"
#include "http/server.h"

enum { HUB_FILES = 256 }; /* open besides connections, at the very most */

struct serve {
    struct hub *hub;
    struct http_router *router;
    struct http_server *server;
    int lock_fd; /* of the storage folder; -1 = not held */
    bool catch_signals;
    sigset_t signals_before;
};

static void signals_of_interest(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

/* Each connection is a file; so are the database, children, models and logs. */
static void allow_files(unsigned connections)
{
    const uint64_t wanted = connections + HUB_FILES, allowed = machine_allow_files(wanted);
    if (allowed < wanted) {
        log_event(
            LOG_WARNING, "api", "few_files",
            "allowed=%llu wanted=%llu hint=\"raise the limit of open files (ulimit -n) or lower "
            "MAX_CONNECTIONS\"",
            (unsigned long long)allowed, (unsigned long long)wanted);
    }
}

static int start_http(struct serve *s, struct err *err)
{
    const struct settings *settings = &s->hub->settings;
    struct http_server_options options;
    size_t n;
    size_t n_client;
    const struct http_route *routes = api_routes(&n);
    const struct http_route *client_routes = api_client_routes(&n_client);
    http_server_options_default(&options);
    options.admit = api_admit;
    options.style_of = api_style_of;
    options.host = settings->host;
    options.port = settings->port;
    options.max_connections = settings->max_connections < HTTP_CONNECTIONS_MAX
                                  ? (unsigned)settings->max_connections
                                  : HTTP_CONNECTIONS_MAX;
    options.max_body_bytes = (size_t)settings->max_body_mb << 20;
    options.allowed_hosts = settings->allowed_hosts;
    options.allowed_origins = settings->allowed_origins;
    options.api_key = settings->api_key;
    allow_files(options.max_connections);
    int rc = http_router_new(&s->router, err);
    if (rc == 0) {
        rc = http_router_add(s->router, routes, n, s->hub, err);
    }
    if (rc == 0) {
        rc = http_router_add(s->router, client_routes, n_client, s->hub, err);
    }
    s->hub->router = s->router;
    if (rc == 0) {
        rc = http_server_new(&s->server, &options, s->router, err);
    }
    return rc == 0 ? http_server_start(s->server, err) : rc;
}

static int start(struct serve *s, const struct settings *settings,
                 const struct serve_options *options, struct err *err)
{
    int rc = settings_check_serve(settings, err);
    if (rc == 0) {
        rc = settings_make_dirs(settings, err);
    }
    if (rc == 0) {
        rc = fs_lock_dir(settings->storage_base_path, "mlx-hub serve", &s->lock_fd, err);
    }
    if (rc == 0) {
        rc = hub_new(&s->hub, settings, options->program, err);
    }
    /* Before requests come, which may poke it; its thread starts nothing while the queue is empty.
     */
    if (rc == 0 && options->with_workers) {
        rc = supervisor_new(&s->hub->supervisor, &s->hub->settings, s->hub->program,
                            settings->workers, s->hub->registry, s->hub->infer, err);
    }
    return rc == 0 ? start_http(s, err) : rc;
}

int serve_start(struct serve **out, const struct settings *settings,
                const struct serve_options *options, struct err *err)
{
    const int64_t began_ns = clock_monotonic_ns();
    sigset_t signals;
    sigset_t before;
    struct serve *s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return mem_err(err, sizeof *s);
    }
    s->lock_fd = -1;
    signals_of_interest(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    const int rc = start(s, settings, options, err);
    if (rc != 0) {
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        serve_stop(s, 0);
        return rc;
    }
    s->catch_signals = options->catch_signals;
    s->signals_before = before;
    if (!options->catch_signals) {
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (!options->quiet) {
        log_event(LOG_INFO, "api", "up", "address=http://%s:%d storage=\"%s\" ms=%.1f",
                  settings->host, serve_port(s), settings->storage_base_path,
                  (double)(clock_monotonic_ns() - began_ns) / 1e6);
    }
    *out = s;
    return 0;
}

int serve_port(const struct serve *s)
{
    return http_server_port(s->server);
}

int serve_wait_for_signal(struct serve *s)
{
    sigset_t signals;
    int got = 0;
    (void)s;
    signals_of_interest(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    while (sigwait(&signals, &got) != 0) {
    }
    return got;
}

void serve_stop(struct serve *s, int drain_ms)
{
    if (s == NULL) {
        return;
    }
    const int64_t until = clock_monotonic_ns() + (int64_t)drain_ms * 1000000;
    if (s->hub != NULL) {
        supervisor_ask_to_stop(s->hub->supervisor);
        ticker_close_watchers(s->hub->ticker);
    }
    if (s->server != NULL) {
        http_server_stop(s->server, drain_ms);
    }
    http_server_free(s->server);
    if (s->hub != NULL) {
        const int64_t left = (until - clock_monotonic_ns()) / 1000000;
        supervisor_free(s->hub->supervisor);
        hub_free(s->hub, left > 0 ? (int)left : 0);
    }
    http_router_free(s->router);
    if (s->lock_fd >= 0) {
        fs_unlock_dir(s->lock_fd);
    }
    if (s->catch_signals) {
        pthread_sigmask(SIG_SETMASK, &s->signals_before, NULL);
    }
    mem_free(s);
}
