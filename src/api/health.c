/* /health. Storage and database are needed; models and workers come and go; tracking elsewhere is
 * optional: where one is named it is `degraded` until it answers. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/handlers.h"
#include "api/supervise.h"
#include "base/clock.h"
#include "registry/jobs.h"

enum { SPACE_MIN = 4 << 20 }; /* bytes; with less, a write of the database may fail */

/* What is needed. The texts say why not; "" is well. */
struct needs {
    char database[256], storage[256];
    double database_ms;
};

static bool look(struct hub *hub, struct needs *needs)
{
    struct err err = {0};
    const int64_t before = clock_monotonic_ns();
    memset(needs, 0, sizeof *needs);
    if (registry_ping(hub->registry, &err) != 0) {
        snprintf(needs->database, sizeof needs->database, "%.200s", err.message);
    }
    needs->database_ms = (double)(clock_monotonic_ns() - before) / 1e6;
    if (access(hub->settings.storage_base_path, R_OK | W_OK | X_OK) != 0) {
        snprintf(needs->storage, sizeof needs->storage, "the storage folder cannot be used: %.100s",
                 strerror(errno));
    }
    uint64_t space = 0;
    if (needs->storage[0] == '\0' &&
        fs_free_space(hub->settings.storage_base_path, &space, &err) == 0 && space < SPACE_MIN) {
        snprintf(needs->storage, sizeof needs->storage, "the disk is full: %" PRIu64 " bytes left",
                 space);
    }
    return needs->database[0] == '\0' && needs->storage[0] == '\0';
}

/* 503 naming what is down. */
static int refuse(const struct needs *needs, struct err *err)
{
    return needs->database[0] != '\0'
               ? err_set(err, ERR_UNAVAILABLE, "database: %s", needs->database)
               : err_set(err, ERR_UNAVAILABLE, "storage: %s", needs->storage);
}

static void begin(struct http_response *response, struct json_out *out, const struct hub *hub,
                  const char *status)
{
    http_json(response, out);
    json_out_object(out);
    json_out_kv_string(out, "status", status);
    json_out_kv_string(out, "name", hub->settings.app_name);
    json_out_kv_string(out, "version", MLX_HUB_VERSION);
    const int64_t up_ms = (clock_monotonic_ns() - hub->started_ns) / 1000000;
    json_out_kv_real(out, "uptime_seconds", (double)up_ms / 1e3);
}

static int reply(struct http_response *response, struct hub *hub, const char *status,
                 struct err *err)
{
    struct json_out out;
    begin(response, &out, hub, status);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

/* A server elsewhere is named by a setting, and nothing is sent there yet. */
static bool is_degraded(const struct hub *hub)
{
    return hub->settings.mlflow_tracking_uri[0] != '\0' || hub->settings.otlp_endpoint[0] != '\0';
}

HANDLER(health_get)
{
    struct needs needs;
    (void)request;
    return look(ctx, &needs) ? reply(response, ctx, is_degraded(ctx) ? "degraded" : "healthy", err)
                             : refuse(&needs, err);
}

HANDLER(health_live)
{
    (void)request;
    return reply(response, ctx, "alive", err);
}

HANDLER(health_ready)
{
    struct needs needs;
    (void)request;
    return look(ctx, &needs) ? reply(response, ctx, "ready", err) : refuse(&needs, err);
}

static void put_part(struct json_out *out, const char *name, const char *status, const char *detail)
{
    json_out_key(out, name);
    json_out_object(out);
    json_out_kv_string(out, "status", status);
    if (detail != NULL) {
        json_out_kv_string(out, "detail", detail);
    }
}

static void put_models(struct json_out *out, struct hub *hub)
{
    struct err err = {0};
    struct infer_cache cache;
    struct infer_memory memory;
    if (infer_list(hub->infer, &cache, &err) != 0) {
        put_part(out, "inference", "degraded", err.message);
    } else {
        put_part(out, "inference", "healthy", NULL);
        json_out_kv_int(out, "loaded_models", cache.n_models);
        json_out_kv_int(out, "queued", cache.queued);
        json_out_key(out, "memory_bytes");
        json_out_uint(out, cache.memory_bytes);
        infer_memory(hub->infer, &memory);
        json_out_key(out, "memory_bytes_job");
        json_out_uint(out, memory.held);
        json_out_key(out, "memory_bytes_max");
        json_out_uint(out, cache.memory_bytes_max);
        mem_free(cache.models);
    }
    json_out_object_end(out);
}

static void put_training(struct json_out *out, struct hub *hub, struct arena *arena)
{
    struct err err = {0};
    struct job_row row;
    bool found = false;
    const int rc = registry_active_job(hub->registry, arena, &row, &found, &err);
    put_part(out, "training", rc == 0 ? "healthy" : "degraded", rc == 0 ? NULL : err.message);
    json_out_kv_int(out, "workers",
                    hub->supervisor != NULL ? (int64_t)hub->settings.workers : (int64_t)0);
    json_out_kv_int(out, "workers_alive", supervisor_alive(hub->supervisor));
    json_out_kv_string(out, "active_job", rc == 0 && found ? row.id : NULL);
    json_out_object_end(out);
}

static void put_elsewhere(struct json_out *out, const char *name, const char *address)
{
    if (address[0] == '\0') {
        put_part(out, name, "off", NULL);
    } else {
        put_part(out, name, "degraded", "nothing is sent there by this version");
    }
    json_out_object_end(out);
}

HANDLER(health_detailed)
{
    struct hub *hub = ctx;
    struct needs needs;
    struct json_out out;
    struct err quiet = {0};
    uint64_t free_bytes = 0;
    const bool well = look(hub, &needs);
    begin(response, &out, hub, !well ? "unhealthy" : is_degraded(hub) ? "degraded" : "healthy");
    json_out_key(&out, "parts");
    json_out_object(&out);
    put_part(&out, "database", needs.database[0] == '\0' ? "healthy" : "unhealthy",
             needs.database[0] != '\0' ? needs.database : NULL);
    json_out_kv_real(&out, "latency_ms", needs.database_ms);
    json_out_object_end(&out);
    put_part(&out, "storage", needs.storage[0] == '\0' ? "healthy" : "unhealthy",
             needs.storage[0] != '\0' ? needs.storage : NULL);
    if (fs_free_space(hub->settings.storage_base_path, &free_bytes, &quiet) == 0) {
        json_out_kv_int(&out, "free_bytes", (int64_t)free_bytes);
    }
    json_out_object_end(&out);
    put_models(&out, hub);
    put_training(&out, hub, request->arena);
    put_elsewhere(&out, "mlflow", hub->settings.mlflow_tracking_uri);
    put_elsewhere(&out, "otlp", hub->settings.otlp_endpoint);
    json_out_object_end(&out);
    json_out_object_end(&out);
    return http_reply_json(response, well ? 200 : 503, err);
}
