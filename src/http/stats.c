/* A series is looked up once per route and usual status and then kept: the pointer never changes,
 * so two threads that look it up at once store the same value.
 */
#include "http/stats.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "telemetry/metrics.h"

static const unsigned usual[] = {200, 201, 202, 204, 206, 400, 401, 403, 404,
                                 405, 409, 413, 415, 422, 429, 499, 500, 503};

enum { USUAL = sizeof(usual) / sizeof(usual[0]) };

struct route_stats {
    struct metric *_Atomic duration;
    struct metric *_Atomic requests[USUAL];
};

struct http_stats {
    const struct http_router *router;
    struct route_stats routes[];
};

int stats_new(struct http_stats **stats, const struct http_router *router, struct err *err)
{
    size_t bytes = sizeof(**stats) + http_router_count(router) * sizeof((*stats)->routes[0]);

    *stats = mem_calloc(1, bytes);
    if (!*stats)
        return mem_err(err, bytes);
    (*stats)->router = router;
    return 0;
}

void stats_free(struct http_stats *stats)
{
    mem_free(stats);
}

void stats_begin(struct http_stats *stats)
{
    (void)stats;
    metric_gauge_add(metric_get(METRIC_HTTP_REQUESTS_IN_PROGRESS), 1);
}

static struct metric *requests_of(const char *method, const char *route, unsigned status)
{
    char text[16];
    const char *const values[] = {method, route, text};

    snprintf(text, sizeof(text), "%u", status);
    return metric_with(METRIC_HTTP_REQUESTS, values);
}

static struct metric *duration_of(const char *method, const char *route)
{
    const char *const values[] = {method, route};
    return metric_with(METRIC_HTTP_REQUEST_DURATION, values);
}

static struct metric *kept_requests(struct route_stats *at, const struct http_route *route,
                                    unsigned status)
{
    size_t i = 0;
    struct metric *metric;

    while (i < USUAL && usual[i] != status)
        i++;
    if (i == USUAL)
        return requests_of(route->method, route->pattern, status);
    metric = atomic_load_explicit(&at->requests[i], memory_order_acquire);
    if (!metric) {
        metric = requests_of(route->method, route->pattern, status);
        atomic_store_explicit(&at->requests[i], metric, memory_order_release);
    }
    return metric;
}

static struct metric *kept_duration(struct route_stats *at, const struct http_route *route)
{
    struct metric *metric = atomic_load_explicit(&at->duration, memory_order_acquire);

    if (!metric) {
        metric = duration_of(route->method, route->pattern);
        atomic_store_explicit(&at->duration, metric, memory_order_release);
    }
    return metric;
}

/* A client may invent methods: only the known ones become labels. */
static const char *known_method(const char *method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i], method) == 0)
            return known[i];
    return "other";
}

void stats_end(struct http_stats *stats, size_t index, const char *method, unsigned status,
               int64_t nanoseconds)
{
    struct metric *requests, *duration;

    if (index != SIZE_MAX) {
        const struct http_route *route = http_router_route(stats->router, index);
        requests = kept_requests(&stats->routes[index], route, status);
        duration = kept_duration(&stats->routes[index], route);
    } else {
        requests = requests_of(known_method(method), "unmatched", status);
        duration = duration_of(known_method(method), "unmatched");
    }
    metric_add(requests, 1);
    metric_observe(duration, (double)nanoseconds / 1e9);
    metric_gauge_add(metric_get(METRIC_HTTP_REQUESTS_IN_PROGRESS), -1);
}
