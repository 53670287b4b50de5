/* /metrics. Counters and histograms of requests are kept as things happen; what is only known by
 * asking (loaded models, the queue, training, which runs in other processes) is asked for here, so
 * that it costs nothing between scrapes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/handlers.h"
#include "base/clock.h"
#include "base/machine.h"
#include "registry/jobs.h"
#include "telemetry/metrics.h"

enum { ENDED_JOBS_MAX = 100 }; /* looked at per scrape */

static void read_models(struct hub *hub)
{
    struct err err = {0};
    struct infer_cache cache;
    const char *models = "models";
    const char *hub_itself = "hub";
    const char *training = "training";
    struct infer_memory memory;
    if (infer_list(hub->infer, &cache, &err) != 0) {
        return;
    }
    metric_gauge_set(metric_get(METRIC_INFERENCE_QUEUE_DEPTH), cache.queued);
    metric_gauge_set(metric_get(METRIC_MODEL_CACHE_SIZE), cache.n_models);
    metric_gauge_set(metric_get(METRIC_MODEL_CACHE_MEMORY), (double)cache.memory_bytes);
    metric_gauge_set(metric_get(METRIC_PREFIX_CACHE_BYTES), (double)cache.prefix_bytes);
    metric_gauge_set(metric_get(METRIC_MEMORY_BUDGET), (double)cache.memory_bytes_max);
    metric_gauge_set(metric_with(METRIC_MEMORY_USED, &models), (double)cache.memory_bytes);
    infer_memory(hub->infer, &memory);
    metric_gauge_set(metric_with(METRIC_MEMORY_USED, &training), (double)memory.held);
    metric_gauge_set(metric_with(METRIC_MEMORY_USED, &hub_itself),
                     (double)machine_resident_bytes());
    mem_free(cache.models);
}

static double known(double value)
{
    return isfinite(value) ? value : 0.0;
}

static void set_active(struct hub_scrape *seen, const struct job_row *row)
{
    const bool running = row != NULL;
    metric_gauge_set(metric_get(METRIC_TRAINING_JOBS_IN_PROGRESS), running);
    metric_gauge_set(metric_get(METRIC_TRAINING_TOKENS_PER_SECOND),
                     running ? row->progress.tokens_per_second : 0.0);
    metric_gauge_set(metric_get(METRIC_TRAINING_LEARNING_RATE),
                     running ? known(row->progress.learning_rate) : 0.0);
    metric_gauge_set(metric_get(METRIC_TRAINING_MEMORY),
                     running ? (double)row->progress.memory_bytes : 0.0);
    metric_gauge_set(metric_get(METRIC_TRAINING_ETA),
                     running ? known(row->progress.eta_seconds) : 0.0);
    if (!running) {
        seen->job_id[0] = '\0';
        return;
    }
    metric_gauge_set(metric_get(METRIC_TRAINING_LOSS), row->progress.loss);
    const bool same = strcmp(seen->job_id, row->id) == 0;
    const int64_t before = same ? seen->step : 0;
    if (row->progress.step > before) {
        metric_add(metric_get(METRIC_TRAINING_STEPS), (uint64_t)(row->progress.step - before));
    }
    (void)snprintf(seen->job_id, sizeof seen->job_id, "%s", row->id);
    seen->step = row->progress.step;
}

static void count_ended(struct hub_scrape *seen, const struct job_row *row)
{
    struct err err = {0};
    int64_t started = 0;
    int64_t ended = 0;
    const char *status = job_status_name(row->status);
    metric_add(metric_with(METRIC_TRAINING_JOBS, &status), 1);
    if (row->started_at != NULL && clock_parse_iso(row->started_at, &started, &err) == 0 &&
        clock_parse_iso(row->completed_at, &ended, &err) == 0) {
        metric_observe(metric_get(METRIC_TRAINING_JOB_DURATION), (double)(ended - started) / 1e6);
    }
    /* the steps since it was last seen running */
    const int64_t before = strcmp(seen->job_id, row->id) == 0 ? seen->step : 0;
    if (row->started_at != NULL && row->progress.step > before) {
        metric_add(metric_get(METRIC_TRAINING_STEPS), (uint64_t)(row->progress.step - before));
    }
}

/* Jobs that ended since the last scrape. */
static void read_ended(struct hub *hub, struct arena *arena)
{
    struct err err = {0};
    struct job_row *rows;
    size_t count;
    int64_t total;
    const struct job_filter filter = {.kind = "train", .limit = ENDED_JOBS_MAX};
    if (registry_list_jobs(hub->registry, &filter, arena, &rows, &count, &total, &err) != 0) {
        return;
    }
    const char *newest = hub->scrape.completed_at;
    for (size_t i = 0; i < count; i++) {
        if (job_status_final(rows[i].status) && rows[i].completed_at != NULL &&
            strcmp(rows[i].completed_at, hub->scrape.completed_at) > 0) {
            count_ended(&hub->scrape, &rows[i]);
            newest = strcmp(rows[i].completed_at, newest) > 0 ? rows[i].completed_at : newest;
        }
    }
    char copy[CLOCK_ISO_BYTES];
    (void)snprintf(copy, sizeof copy, "%s", newest);
    memcpy(hub->scrape.completed_at, copy, sizeof copy);
}

static void read_training(struct hub *hub, struct arena *arena)
{
    struct err err = {0};
    struct job_row row;
    bool found = false;
    pthread_mutex_lock(&hub->scrape.lock);
    read_ended(hub, arena);
    if (registry_active_job(hub->registry, arena, &row, &found, &err) == 0) {
        /* Rows that are evaluated and megabytes that are written are no optimizer steps. */
        set_active(&hub->scrape, found && row.kind == JOB_TRAIN ? &row : NULL);
    }
    pthread_mutex_unlock(&hub->scrape.lock);
}

HANDLER(metrics_get)
{
    struct hub *hub = ctx;
    read_models(hub);
    read_training(hub, request->arena);
    metrics_write_prometheus(&response->body);
    response->status = 200;
    response->content_type = METRICS_CONTENT_TYPE;
    return buf_check(&response->body, "the metrics", err);
}
