#include "api/hub.h"

#include "api/memory.h"
#include "api/ticker.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "registry/claims.h"
#include "telemetry/metrics.h"

static void observe_query(void *ctx, const char *query, double seconds)
{
    (void)ctx;
    metric_observe(metric_with(METRIC_DATABASE_QUERY_DURATION, &query), seconds);
}

static int open_registry(struct hub *hub, struct err *err)
{
    const struct settings *s = &hub->settings;
    const struct registry_options options = {.database_url = s->database_url,
                                             .base_path = s->storage_base_path,
                                             .models_path = s->storage_models_path,
                                             .datasets_path = s->storage_datasets_path,
                                             .migrate = true};
    int rc = registry_open(&hub->registry, &options, err);
    if (rc == 0) {
        db_pool_observe(registry_pool(hub->registry), observe_query, NULL);
        rc = storage_sweep(registry_storage(hub->registry), err);
    }
    int swept = 0;
    if (rc == 0) {
        rc = registry_sweep_jobs(hub->registry, &swept, err);
    }
    if (rc == 0 && swept > 0) {
        log_event(LOG_INFO, "api", "jobs_taken_up", "count=%d", swept);
    }
    return rc;
}

int hub_new(struct hub **out, const struct settings *settings, const char *program, struct err *err)
{
    struct hub *hub = mem_calloc(1, sizeof *hub);
    if (hub == NULL) {
        return mem_err(err, sizeof *hub);
    }
    hub->settings = *settings;
    hub->started_us = clock_wall_us();
    hub->started_ns = clock_monotonic_ns();
    clock_format_iso(hub->started_us, hub->scrape.completed_at);
    pthread_mutex_init(&hub->scrape.lock, NULL);
    int rc = 0;
    if (program != NULL) {
        hub->program = mem_strdup(program);
        rc = hub->program != NULL ? 0 : mem_err(err, 0);
    }
    if (rc == 0) {
        rc = open_registry(hub, err);
    }
    if (rc == 0) {
        rc = infer_new(&hub->infer, settings, hub->program, err);
    }
    if (rc == 0) {
        infer_on_short(hub->infer, memory_recheck, hub);
        rc = ticker_new(&hub->ticker, hub->registry, err);
    }
    if (rc != 0) {
        hub_free(hub, 0);
        return rc;
    }
    *out = hub;
    return 0;
}

void hub_free(struct hub *hub, int drain_ms)
{
    if (hub == NULL) {
        return;
    }
    infer_free(hub->infer, drain_ms); /* its last events still use the ticker */
    ticker_free(hub->ticker);
    registry_close(hub->registry);
    pthread_mutex_destroy(&hub->scrape.lock);
    mem_free(hub->program);
    mem_free(hub);
}
