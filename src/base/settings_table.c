/* How it works. The table: one line per setting, which everything else reads. Order is the order of
 * `config` and of the docs; enum setting_index names the lines.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/settings_internal.h"

static const struct setting_info INFOS[SETTING_COUNT] = {
    [SETTING_APP_NAME] = {"APP_NAME", "MLX Model Hub", "text up to 127 bytes",
                          "name shown on the dashboard and in the API description", false},
    [SETTING_DEBUG] = {"DEBUG", "false", "true|false", "log every SQL statement", false},
    [SETTING_LOG_LEVEL] = {"LOG_LEVEL", "INFO",
                           "DEBUG|INFO|WARNING|ERROR, per room as INFO,store=DEBUG",
                           "what is logged", false},
    [SETTING_LOG_FORMAT] = {"LOG_FORMAT", "human", "human|json", "how a log line looks", false},
    [SETTING_DATABASE_URL] = {"DATABASE_URL", "",
                              "sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME",
                              "where the registry is kept; unset: hub.db in the storage folder",
                              false},
    [SETTING_MLFLOW_TRACKING_URI] = {"MLFLOW_TRACKING_URI", "", "http:// or https:// address",
                                     "an MLflow server to mirror runs to; unset: the hub's own "
                                     "store only",
                                     false},
    [SETTING_STORAGE_BASE_PATH] = {"STORAGE_BASE_PATH", "./storage", "a folder",
                                   "everything the hub keeps", false},
    [SETTING_STORAGE_MODELS_PATH] = {"STORAGE_MODELS_PATH", "", "a folder",
                                     "versions; unset: models under the base", false},
    [SETTING_STORAGE_DATASETS_PATH] = {"STORAGE_DATASETS_PATH", "", "a folder",
                                       "datasets; unset: datasets under the base", false},
    [SETTING_MLX_MEMORY_LIMIT_GB] = {"MLX_MEMORY_LIMIT_GB", "36",
                                     "0.25 up to 75% of this machine's memory",
                                     "memory for models, caches and training together", false},
    [SETTING_MLX_DEFAULT_QUANTIZATION] = {"MLX_DEFAULT_QUANTIZATION", "4bit", "4bit|8bit|none",
                                          "how `quantize` and exports quantise unless told", false},
    [SETTING_HOST] = {"HOST", "127.0.0.1", "an address or host name",
                      "address to listen on; other than loopback needs API_KEY", false},
    [SETTING_PORT] = {"PORT", "8000", "0-65535", "port to listen on; 0: any that is free", false},
    [SETTING_API_KEY] = {"API_KEY", "", "printable ASCII without spaces",
                         "key that every request but /health* must carry", true},
    [SETTING_ALLOWED_HOSTS] = {"ALLOWED_HOSTS", "", "names separated by commas",
                               "Host header values served besides loopback names", false},
    [SETTING_ALLOWED_ORIGINS] = {"ALLOWED_ORIGINS", "", "origins separated by commas",
                                 "web pages that may call the API", false},
    [SETTING_MAX_SESSIONS] = {"MAX_SESSIONS", "8", "1-64",
                              "requests of one model that share a batch; 1: one at a time", false},
    [SETTING_MAX_QUEUE] = {"MAX_QUEUE", "64", "0-65536", "requests of one model that may wait",
                           false},
    [SETTING_MAX_MODELS] = {"MAX_MODELS", "4", "1-64", "models loaded at the same time", false},
    [SETTING_KEEP_ALIVE] = {"KEEP_ALIVE", "5m", "a duration like 300, 5m, 1h30m; -1: for ever",
                            "how long an idle model stays loaded", false},
    [SETTING_CONTEXT_LENGTH] = {"CONTEXT_LENGTH", "0", "0 or 128-1048576",
                                "tokens of context; 0: the model's, at most 8192", false},
    [SETTING_PREFIX_CACHE_MB] = {"PREFIX_CACHE_MB", "512", "0-1048576",
                                 "memory for reusing common beginnings of prompts", false},
    [SETTING_PREFIX_CACHE_DISK] = {"PREFIX_CACHE_DISK", "false", "true|false",
                                   "keep prefixes in cache/ across restarts", false},
    [SETTING_MAX_BODY_MB] = {"MAX_BODY_MB", "32", "1-1024", "largest request body", false},
    [SETTING_MAX_CONNECTIONS] = {"MAX_CONNECTIONS", "256", "8-65536", "open connections", false},
    [SETTING_WORKERS] = {"WORKERS", "1", "0-64", "training jobs at the same time; 0: none here",
                         false},
    [SETTING_JOB_PATIENCE] = {"JOB_PATIENCE", "5m", "a duration like 300, 5m, 1h30m; -1: for ever",
                              "how long a job waits for busy models' memory before they take no "
                              "new requests until it starts",
                              false},
    [SETTING_CHECKPOINT_DAYS] = {"CHECKPOINT_DAYS", "7", "0-36500; -1: for ever",
                                 "how long a job that failed or was cancelled keeps its "
                                 "checkpoints, to be resumed",
                                 false},
    [SETTING_OTLP_ENDPOINT] = {"OTLP_ENDPOINT", "", "http:// or https:// address",
                               "OpenTelemetry collector to send traces and metrics to", false},
    [SETTING_HF_ENDPOINT] = {"HF_ENDPOINT", "https://huggingface.co", "http:// or https:// address",
                             "where `pull` gets models from", false},
    [SETTING_HF_TOKEN] = {"HF_TOKEN", "", "printable ASCII without spaces",
                          "token for gated models", true},
    [SETTING_ENGINE] = {"ENGINE", "auto", "auto|native|mlx", "what computes", false},
    [SETTING_MLX_HUB_THREADS] = {"MLX_HUB_THREADS", "0", "0-256", "compute threads; 0: all cores",
                                 false},
    [SETTING_MLX_HUB_ISA] = {"MLX_HUB_ISA", "best", "best|ref|avx2|avx512|neon",
                             "instruction set of the native engine", false},
};

#define MEMBER(kind, member, min, max)                                                             \
    {                                                                                              \
        (kind), offsetof(struct settings, member), sizeof((struct settings *)0)->member, (min),    \
            (max)                                                                                  \
    }

static const struct setting_row ROWS[SETTING_COUNT] = {
    [SETTING_APP_NAME] = MEMBER(KIND_TEXT, app_name, 0, 0),
    [SETTING_DEBUG] = MEMBER(KIND_BOOL, debug, 0, 0),
    [SETTING_LOG_LEVEL] = MEMBER(KIND_LOG_LEVEL, log_level, 0, 0),
    [SETTING_LOG_FORMAT] = MEMBER(KIND_LOG_FORMAT, log_json, 0, 0),
    [SETTING_DATABASE_URL] = MEMBER(KIND_DATABASE, database_url, 0, 0),
    [SETTING_MLFLOW_TRACKING_URI] = MEMBER(KIND_URL, mlflow_tracking_uri, 0, 0),
    [SETTING_STORAGE_BASE_PATH] = MEMBER(KIND_PATH, storage_base_path, 1, 0),
    [SETTING_STORAGE_MODELS_PATH] = MEMBER(KIND_PATH, storage_models_path, 0, 0),
    [SETTING_STORAGE_DATASETS_PATH] = MEMBER(KIND_PATH, storage_datasets_path, 0, 0),
    [SETTING_MLX_MEMORY_LIMIT_GB] = MEMBER(KIND_REAL, memory_limit_gb, 0.25, 1e6),
    [SETTING_MLX_DEFAULT_QUANTIZATION] = MEMBER(KIND_CHOICE, default_quantization, 0, 0),
    [SETTING_HOST] = MEMBER(KIND_TOKEN, host, 1, 0),
    [SETTING_PORT] = MEMBER(KIND_INT, port, 0, 65535),
    [SETTING_API_KEY] = MEMBER(KIND_TOKEN, api_key, 0, 0),
    [SETTING_ALLOWED_HOSTS] = MEMBER(KIND_TEXT, allowed_hosts, 0, 0),
    [SETTING_ALLOWED_ORIGINS] = MEMBER(KIND_TEXT, allowed_origins, 0, 0),
    [SETTING_MAX_SESSIONS] = MEMBER(KIND_INT, max_sessions, 1, 64),
    [SETTING_MAX_QUEUE] = MEMBER(KIND_INT, max_queue, 0, 65536),
    [SETTING_MAX_MODELS] = MEMBER(KIND_INT, max_models, 1, 64),
    [SETTING_KEEP_ALIVE] = MEMBER(KIND_DURATION, keep_alive_ms, 0, 0),
    [SETTING_CONTEXT_LENGTH] = MEMBER(KIND_INT, context_length, 0, 1048576),
    [SETTING_PREFIX_CACHE_MB] = MEMBER(KIND_INT, prefix_cache_mb, 0, 1048576),
    [SETTING_PREFIX_CACHE_DISK] = MEMBER(KIND_BOOL, prefix_cache_disk, 0, 0),
    [SETTING_MAX_BODY_MB] = MEMBER(KIND_INT, max_body_mb, 1, 1024),
    [SETTING_MAX_CONNECTIONS] = MEMBER(KIND_INT, max_connections, 8, 65536),
    [SETTING_WORKERS] = MEMBER(KIND_INT, workers, 0, 64),
    [SETTING_JOB_PATIENCE] = MEMBER(KIND_DURATION, job_patience_ms, 0, 0),
    [SETTING_CHECKPOINT_DAYS] = MEMBER(KIND_INT, checkpoint_days, -1, 36500),
    [SETTING_OTLP_ENDPOINT] = MEMBER(KIND_URL, otlp_endpoint, 0, 0),
    [SETTING_HF_ENDPOINT] = MEMBER(KIND_URL, hf_endpoint, 0, 0),
    [SETTING_HF_TOKEN] = MEMBER(KIND_TOKEN, hf_token, 0, 0),
    [SETTING_ENGINE] = MEMBER(KIND_CHOICE, engine, 0, 0),
    [SETTING_MLX_HUB_THREADS] = MEMBER(KIND_INT, threads, 0, 256),
    [SETTING_MLX_HUB_ISA] = MEMBER(KIND_CHOICE, isa, 0, 0),
};

_Static_assert(SETTING_COUNT <=
                   sizeof((struct settings *)0)->source / sizeof((struct settings *)0)->source[0],
               "a source for every row");

const struct setting_info *settings_table(size_t *count)
{
    *count = SETTING_COUNT;
    return INFOS;
}

const struct setting_row *settings_row(size_t row)
{
    return &ROWS[row];
}

const char *setting_source_name(enum setting_source source)
{
    static const char *const NAMES[] = {"default", ".env", "environment", "flag"};
    return (size_t)source < sizeof NAMES / sizeof *NAMES ? NAMES[source] : "unknown";
}

void settings_mask_url(const char *url, char *out, size_t out_bytes)
{
    const char *user = strstr(url, "://");
    user = user ? user + 3 : url;
    size_t authority = strcspn(user, "/?#");
    const char *colon = memchr(user, ':', authority), *at = NULL;
    for (size_t i = 0; i < authority; i++)
        if (user[i] == '@')
            at = user + i;
    if (colon && at && colon < at)
        snprintf(out, out_bytes, "%.*s:****%s", (int)(colon - url), url, at);
    else
        snprintf(out, out_bytes, "%s", url);
}

static void show_duration(int64_t ms, char *out, size_t out_bytes)
{
    static const struct {
        int64_t ms;
        const char *unit;
    } UNITS[] = {{3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    if (ms < 0) {
        snprintf(out, out_bytes, "-1");
        return;
    }
    for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++)
        if (ms % UNITS[i].ms == 0) {
            snprintf(out, out_bytes, "%" PRId64 "%s", ms / UNITS[i].ms, UNITS[i].unit);
            return;
        }
}

void settings_show(const struct settings *settings, size_t row, char *out, size_t out_bytes)
{
    const char *member = (const char *)settings + ROWS[row].offset;
    char real[32];
    switch (ROWS[row].kind) {
    case KIND_BOOL:
        snprintf(out, out_bytes, "%s", *(const bool *)member ? "true" : "false");
        break;
    case KIND_LOG_FORMAT:
        snprintf(out, out_bytes, "%s", *(const bool *)member ? "json" : "human");
        break;
    case KIND_INT:
        snprintf(out, out_bytes, "%d", *(const int *)(const void *)member);
        break;
    case KIND_REAL:
        json_format_real(*(const double *)(const void *)member, real);
        snprintf(out, out_bytes, "%s", real);
        break;
    case KIND_DURATION:
        show_duration(*(const int64_t *)(const void *)member, out, out_bytes);
        break;
    case KIND_URL:
    case KIND_DATABASE:
        settings_mask_url(member, out, out_bytes);
        break;
    default:
        snprintf(out, out_bytes, "%s", INFOS[row].secret && member[0] ? "********" : member);
        break;
    }
}
