/* The table of metric names. Buckets: request times span a health check to a long generation;
 * token times and counts are those of the OpenTelemetry GenAI conventions, so that dashboards made
 * for them fit.
 */
#include "telemetry/names.h"

#include <assert.h>

static const double request_seconds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                         0.25,  0.5,    1,     2.5,  5,     10,   30};
static const double query_seconds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                       0.01,   0.025,   0.05,   0.1,   0.5,    1};
static const double first_token_seconds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                             0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10};
static const double per_token_seconds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                                           0.3,  0.4,   0.5,  0.75,  1,   2.5};
static const double operation_seconds[] = {0.01, 0.02, 0.04, 0.08,  0.16,  0.32,  0.64,
                                           1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
static const double token_counts[] = {1,     4,     16,     64,      256,     1024,    4096,
                                      16384, 65536, 262144, 1048576, 4194304, 16777216};
static const double rates[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000};
static const double batch_sizes[] = {1, 2, 4, 8, 16, 32, 64};
static const double job_seconds[] = {1,    10,   30,   60,    300,   900,
                                     1800, 3600, 7200, 14400, 43200, 86400};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define COUNTER(id, text, about, n, ...)                                                           \
    [id] = {.name = text,                                                                          \
            .help = about,                                                                         \
            .kind = METRIC_COUNTER,                                                                \
            .n_labels = n,                                                                         \
            .labels = {__VA_ARGS__}}
#define GAUGE(id, text, about, n, ...)                                                             \
    [id] = {                                                                                       \
        .name = text, .help = about, .kind = METRIC_GAUGE, .n_labels = n, .labels = {__VA_ARGS__}}
#define HISTOGRAM(id, text, about, bounds, n, ...)                                                 \
    [id] = {.name = text,                                                                          \
            .help = about,                                                                         \
            .kind = METRIC_HISTOGRAM,                                                              \
            .n_labels = n,                                                                         \
            .labels = {__VA_ARGS__},                                                               \
            .n_buckets = COUNT_OF(bounds),                                                         \
            .buckets = bounds}

#define GENAI "gen_ai_operation_name", "gen_ai_request_model"

static const struct metric_info table[METRIC_COUNT] = {
    COUNTER(METRIC_HTTP_REQUESTS, "http_requests_total", "HTTP requests answered", 3, "method",
            "route", "status"),
    HISTOGRAM(METRIC_HTTP_REQUEST_DURATION, "http_request_duration_seconds",
              "Time from the request's headers to the last byte of the answer", request_seconds, 2,
              "method", "route"),
    GAUGE(METRIC_HTTP_REQUESTS_IN_PROGRESS, "http_requests_in_progress",
          "HTTP requests being answered now", 0, NULL),
    COUNTER(METRIC_INFERENCE_REQUESTS, "inference_requests_total", "Generations finished", 2,
            "model", "outcome"),
    HISTOGRAM(METRIC_INFERENCE_TTFT, "inference_ttft_seconds",
              "Time from the request to its first token", first_token_seconds, 0, NULL),
    HISTOGRAM(METRIC_INFERENCE_TIME_PER_OUTPUT_TOKEN, "inference_time_per_output_token_seconds",
              "Time per output token after the first", per_token_seconds, 0, NULL),
    HISTOGRAM(METRIC_INFERENCE_TOKENS_PER_SECOND, "inference_tokens_per_second",
              "Output tokens per second of a generation", rates, 0, NULL),
    COUNTER(METRIC_INFERENCE_TOKENS_GENERATED, "inference_tokens_generated_total",
            "Output tokens generated", 0, NULL),
    COUNTER(METRIC_INFERENCE_PROMPT_TOKENS, "inference_prompt_tokens_total",
            "Prompt tokens taken in", 0, NULL),
    GAUGE(METRIC_INFERENCE_QUEUE_DEPTH, "inference_queue_depth", "Generations waiting for a place",
          0, NULL),
    HISTOGRAM(METRIC_INFERENCE_QUEUE_WAIT, "inference_queue_wait_seconds",
              "Time a generation waited for a place", request_seconds, 0, NULL),
    HISTOGRAM(METRIC_INFERENCE_BATCH_SIZE, "inference_batch_size",
              "Sessions that shared an evaluation", batch_sizes, 0, NULL),
    COUNTER(METRIC_PREFIX_CACHE_HITS, "prefix_cache_hits_total", "Prompts whose prefix was cached",
            0, NULL),
    COUNTER(METRIC_PREFIX_CACHE_MISSES, "prefix_cache_misses_total",
            "Prompts without a cached prefix", 0, NULL),
    GAUGE(METRIC_PREFIX_CACHE_BYTES, "prefix_cache_bytes", "Memory held by cached prefixes", 0,
          NULL),
    GAUGE(METRIC_MODEL_CACHE_SIZE, "model_cache_size", "Models loaded", 0, NULL),
    GAUGE(METRIC_MODEL_CACHE_MEMORY, "model_cache_memory_bytes", "Memory held by loaded models", 0,
          NULL),
    COUNTER(METRIC_MODEL_CACHE_HITS, "model_cache_hits_total",
            "Requests that found their model loaded", 0, NULL),
    COUNTER(METRIC_MODEL_CACHE_MISSES, "model_cache_misses_total",
            "Requests that had to load their model", 0, NULL),
    COUNTER(METRIC_MODEL_CACHE_EVICTIONS, "model_cache_evictions_total",
            "Models unloaded to make room", 0, NULL),
    COUNTER(METRIC_TRAINING_JOBS, "training_jobs_total", "Training jobs by final status", 1,
            "status"),
    GAUGE(METRIC_TRAINING_JOBS_IN_PROGRESS, "training_jobs_in_progress", "Training jobs running", 0,
          NULL),
    HISTOGRAM(METRIC_TRAINING_JOB_DURATION, "training_job_duration_seconds",
              "Time from start to end of a training job", job_seconds, 0, NULL),
    GAUGE(METRIC_TRAINING_LOSS, "training_loss", "Latest training loss of the running job", 0,
          NULL),
    COUNTER(METRIC_TRAINING_STEPS, "training_steps_total", "Optimizer steps taken", 0, NULL),
    GAUGE(METRIC_TRAINING_TOKENS_PER_SECOND, "training_tokens_per_second",
          "Tokens per second of the running job", 0, NULL),
    GAUGE(METRIC_TRAINING_LEARNING_RATE, "training_learning_rate",
          "Learning rate of the running job's latest step", 0, NULL),
    GAUGE(METRIC_TRAINING_MEMORY, "training_memory_bytes",
          "Memory that the running job's process has", 0, NULL),
    GAUGE(METRIC_TRAINING_ETA, "training_eta_seconds", "Time that the running job still needs", 0,
          NULL),
    GAUGE(METRIC_MEMORY_BUDGET, "memory_budget_bytes", "Memory that models and jobs may use", 0,
          NULL),
    GAUGE(METRIC_MEMORY_USED, "memory_used_bytes", "Memory taken from the budget", 1, "part"),
    HISTOGRAM(METRIC_DATABASE_QUERY_DURATION, "database_query_duration_seconds",
              "Time per database query", query_seconds, 1, "query"),
    GAUGE(METRIC_TRACKING_OUTBOX_DEPTH, "tracking_outbox_depth",
          "Tracking records waiting to be sent", 0, NULL),
    HISTOGRAM(METRIC_GENAI_SERVER_REQUEST_DURATION, "gen_ai_server_request_duration",
              "Time per model request in seconds", operation_seconds, 2, GENAI),
    HISTOGRAM(METRIC_GENAI_SERVER_TIME_TO_FIRST_TOKEN, "gen_ai_server_time_to_first_token",
              "Time to the first token in seconds", first_token_seconds, 2, GENAI),
    HISTOGRAM(METRIC_GENAI_SERVER_TIME_PER_OUTPUT_TOKEN, "gen_ai_server_time_per_output_token",
              "Time per output token after the first in seconds", per_token_seconds, 2, GENAI),
    HISTOGRAM(METRIC_GENAI_CLIENT_TOKEN_USAGE, "gen_ai_client_token_usage",
              "Input and output tokens per operation", token_counts, 3, GENAI, "gen_ai_token_type"),
    HISTOGRAM(METRIC_GENAI_CLIENT_OPERATION_DURATION, "gen_ai_client_operation_duration",
              "Time per operation in seconds", operation_seconds, 2, GENAI),
};

static_assert(COUNT_OF(request_seconds) <= METRIC_BUCKETS_MAX, "buckets");
static_assert(COUNT_OF(first_token_seconds) <= METRIC_BUCKETS_MAX, "buckets");
static_assert(COUNT_OF(operation_seconds) <= METRIC_BUCKETS_MAX, "buckets");
static_assert(COUNT_OF(token_counts) <= METRIC_BUCKETS_MAX, "buckets");

const struct metric_info *metric_info(enum metric_id id)
{
    assert(id >= 0 && id < METRIC_COUNT);
    return &table[id];
}
