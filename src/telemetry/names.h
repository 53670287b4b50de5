/* Every metric the hub exports, by name: the one place where a name, its help text, its labels and
 * its buckets are written. The table itself is in names.c, in the order of this enum.
 *
 * Names follow Prometheus: base units (seconds, bytes), `_total` on counters. Static and read-only.
 */
#ifndef TELEMETRY_NAMES_H
#define TELEMETRY_NAMES_H

#include <stddef.h>

enum { METRIC_LABELS_MAX = 3, METRIC_BUCKETS_MAX = 16 };

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

enum metric_id {
    METRIC_HTTP_REQUESTS,         /* method, route, status */
    METRIC_HTTP_REQUEST_DURATION, /* method, route */
    METRIC_HTTP_REQUESTS_IN_PROGRESS,
    METRIC_INFERENCE_REQUESTS, /* model, outcome */
    METRIC_INFERENCE_TTFT,
    METRIC_INFERENCE_TIME_PER_OUTPUT_TOKEN,
    METRIC_INFERENCE_TOKENS_PER_SECOND,
    METRIC_INFERENCE_TOKENS_GENERATED,
    METRIC_INFERENCE_PROMPT_TOKENS,
    METRIC_INFERENCE_QUEUE_DEPTH,
    METRIC_INFERENCE_QUEUE_WAIT,
    METRIC_INFERENCE_BATCH_SIZE,
    METRIC_PREFIX_CACHE_HITS,
    METRIC_PREFIX_CACHE_MISSES,
    METRIC_PREFIX_CACHE_BYTES,
    METRIC_MODEL_CACHE_SIZE,
    METRIC_MODEL_CACHE_MEMORY,
    METRIC_MODEL_CACHE_HITS,
    METRIC_MODEL_CACHE_MISSES,
    METRIC_MODEL_CACHE_EVICTIONS,
    METRIC_TRAINING_JOBS, /* status */
    METRIC_TRAINING_JOBS_IN_PROGRESS,
    METRIC_TRAINING_JOB_DURATION,
    METRIC_TRAINING_LOSS,
    METRIC_TRAINING_STEPS,
    METRIC_TRAINING_TOKENS_PER_SECOND,
    METRIC_TRAINING_LEARNING_RATE,
    METRIC_TRAINING_MEMORY,
    METRIC_TRAINING_ETA,
    METRIC_MEMORY_BUDGET,
    METRIC_MEMORY_USED,             /* part */
    METRIC_DATABASE_QUERY_DURATION, /* query */
    METRIC_TRACKING_OUTBOX_DEPTH,
    METRIC_GENAI_SERVER_REQUEST_DURATION,      /* gen_ai_operation_name, gen_ai_request_model */
    METRIC_GENAI_SERVER_TIME_TO_FIRST_TOKEN,   /* same */
    METRIC_GENAI_SERVER_TIME_PER_OUTPUT_TOKEN, /* same */
    METRIC_GENAI_CLIENT_TOKEN_USAGE,           /* same, then gen_ai_token_type */
    METRIC_GENAI_CLIENT_OPERATION_DURATION,    /* operation, model */
    METRIC_COUNT
};

struct metric_info {
    const char *name;
    const char *help;
    enum metric_kind kind;
    size_t n_labels;
    const char *labels[METRIC_LABELS_MAX];
    size_t n_buckets;
    const double *buckets; /* upper bounds, rising, without +Inf; histograms only */
};

/* The row of `id`. Never NULL. */
const struct metric_info *metric_info(enum metric_id id);

#endif
