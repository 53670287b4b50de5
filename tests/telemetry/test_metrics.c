/* The registry and the exact text of its exposition. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "telemetry/metrics.h"
#include "telemetry/process.h"

enum { THREADS = 4, ROUNDS = 20000, TEXT_BYTES_MAX = 4 << 20 };

static char *expose(void)
{
    struct buf out;
    char *text;

    buf_init(&out, TEXT_BYTES_MAX);
    metrics_write_prometheus(&out);
    assert_int_equal(buf_check(&out, "metrics", NULL), 0);
    text = buf_take(&out);
    buf_release(&out);
    assert_non_null(text);
    return text;
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("missing:\n%s", part);
}

static void counts_by_labels(void **state)
{
    const char *const values[] = {"GET", "/models/{id}", "200"};
    const char *const odd[] = {"GET", "a\"b\\c\nd\xff", "200"};
    struct metric *metric = metric_with(METRIC_HTTP_REQUESTS, values);
    char *text;

    (void)state;
    metric_add(metric, 2);
    metric_add(metric_with(METRIC_HTTP_REQUESTS, values), 1);
    metric_add(metric_with(METRIC_HTTP_REQUESTS, odd), 1);
    assert_ptr_equal(metric, metric_with(METRIC_HTTP_REQUESTS, values));
    assert_true(metric_value(metric) == 3);
    text = expose();
    assert_has(text, "# HELP http_requests_total HTTP requests answered\n"
                     "# TYPE http_requests_total counter\n"
                     "http_requests_total{method=\"GET\",route=\"/models/{id}\",status=\"200\"} 3\n"
                     "http_requests_total{method=\"GET\",route=\"a\\\"b\\\\c\\nd?\",status=\"200\"}"
                     " 1\n# HELP http_request_duration_seconds ");
    mem_free(text);
}

static void gauges_go_both_ways(void **state)
{
    struct metric *metric = metric_get(METRIC_TRAINING_LOSS);
    char *text;

    (void)state;
    metric_gauge_set(metric, 2.5);
    metric_gauge_add(metric, -0.75);
    assert_true(metric_value(metric) == 1.75);
    metric_gauge_set(metric_get(METRIC_MEMORY_BUDGET), (double)INFINITY);
    metric_gauge_set(metric_get(METRIC_MODEL_CACHE_SIZE), (double)NAN);
    text = expose();
    assert_has(text, "# TYPE training_loss gauge\ntraining_loss 1.75\n");
    assert_has(text, "\nmemory_budget_bytes +Inf\n");
    assert_has(text, "\nmodel_cache_size NaN\n");
    assert_has(text, "\nprefix_cache_bytes 0\n"); /* never touched, still there */
    mem_free(text);
}

static void histograms_are_cumulative(void **state)
{
    const char *const values[] = {"select_models"};
    struct metric *metric = metric_with(METRIC_DATABASE_QUERY_DURATION, values);
    char *text;

    (void)state;
    metric_observe(metric, 0.0001); /* on the bound: inside */
    metric_observe(metric, 0.0002);
    metric_observe(metric, 0.25);
    metric_observe(metric, 100);
    metric_observe(metric, (double)NAN);
    assert_true(metric_value(metric) == 4);
    text = expose();
    assert_has(text,
               "# TYPE database_query_duration_seconds histogram\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.0001\"} 1\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.00025\"} 2\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.0005\"} 2\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.001\"} 2\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.0025\"} 2\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.005\"} 2\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.01\"} 2\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.025\"} 2\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.05\"} 2\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.1\"} 2\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"0.5\"} 3\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"1\"} 3\n"
               "database_query_duration_seconds_bucket{query=\"select_models\",le=\"+Inf\"} 4\n"
               "database_query_duration_seconds_sum{query=\"select_models\"} 100.2503\n"
               "database_query_duration_seconds_count{query=\"select_models\"} 4\n");
    assert_has(text, "\ninference_ttft_seconds_bucket{le=\"0.001\"} 0\n");
    assert_has(text, "\ninference_ttft_seconds_sum 0\ninference_ttft_seconds_count 0\n");
    mem_free(text);
}

static void cardinality_is_bounded(void **state)
{
    struct metric *last = NULL;
    char name[32];
    char *text;

    (void)state;
    for (int i = 0; i < METRIC_SERIES_MAX + 10; i++) {
        const char *const values[] = {name, "ok"};
        snprintf(name, sizeof(name), "model-%d", i);
        last = metric_with(METRIC_INFERENCE_REQUESTS, values);
        metric_add(last, 1);
    }
    assert_true(metric_value(last) == 10);
    text = expose();
    assert_has(text, "inference_requests_total{model=\"model-255\",outcome=\"ok\"} 1\n"
                     "inference_requests_total{model=\"other\",outcome=\"other\"} 10\n");
    mem_free(text);
}

static void long_labels_are_cut_at_a_character(void **state)
{
    char value[2 * METRIC_LABEL_BYTES_MAX + 1] = "a";
    const char *const values[] = {value};
    struct metric *metric;

    (void)state;
    for (size_t i = 1; i + 1 < sizeof(value); i += 2)
        memcpy(value + i, "\xc3\xa9", 2);
    value[sizeof(value) - 2] = 0;
    metric = metric_with(METRIC_MEMORY_USED, values);
    metric_gauge_set(metric, 1);
    assert_ptr_equal(metric, metric_with(METRIC_MEMORY_USED, values));
}

static void no_memory_counts_as_other(void **state)
{
    const char *const values[] = {"no-memory"};
    struct metric *metric;

    (void)state;
    fault_arm(FAULT_MALLOC, 1, true);
    metric = metric_with(METRIC_TRAINING_JOBS, values);
    metric_add(metric, 1);
    fault_disarm();
    assert_ptr_not_equal(metric, metric_with(METRIC_TRAINING_JOBS, values));
}

static void *add_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        const char *const values[] = {i & 1 ? "odd" : "even"};
        metric_add(metric_with(METRIC_TRAINING_JOBS, values), 1);
        metric_observe(metric_get(METRIC_INFERENCE_BATCH_SIZE), 2);
        metric_gauge_add(metric_get(METRIC_INFERENCE_QUEUE_DEPTH), 1);
    }
    return NULL;
}

static void threads_lose_nothing(void **state)
{
    const char *const odd[] = {"odd"};
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, NULL), 0);
    mem_free(expose());
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(metric_value(metric_with(METRIC_TRAINING_JOBS, odd)) == THREADS * ROUNDS / 2);
    assert_true(metric_value(metric_get(METRIC_INFERENCE_BATCH_SIZE)) == THREADS * ROUNDS);
    assert_true(metric_value(metric_get(METRIC_INFERENCE_QUEUE_DEPTH)) == THREADS * ROUNDS);
}

static void set_outbox(void *ctx)
{
    metric_gauge_set(metric_get(METRIC_TRACKING_OUTBOX_DEPTH), *(double *)ctx);
}

static void hooks_run_on_scrape(void **state)
{
    double depth = 7;
    struct err err = {0};
    char *text;

    (void)state;
    for (int i = 0; i < METRIC_SCRAPE_HOOKS_MAX; i++)
        assert_int_equal(metrics_on_scrape(set_outbox, &depth, &err), 0);
    assert_int_equal(metrics_on_scrape(set_outbox, &depth, &err), -ERR_BUSY);
    text = expose();
    assert_has(text, "\ntracking_outbox_depth 7\n");
    mem_free(text);
    metrics_off_scrape(set_outbox, &depth);
    depth = 9;
    text = expose();
    assert_has(text, "\ntracking_outbox_depth 7\n");
    mem_free(text);
}

static void process_lines_are_exact(void **state)
{
    struct process_facts facts = {.cpu_seconds = 1.5,
                                  .start_time_seconds = 1700000000,
                                  .resident_bytes = 4096,
                                  .virtual_bytes = -1,
                                  .open_fds = 5,
                                  .max_fds = 1024};
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_BYTES_MAX);
    process_write_prometheus(&facts, &out);
    assert_string_equal(
        out.data,
        "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n"
        "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.5\n"
        "# HELP process_open_fds Number of open file descriptors.\n"
        "# TYPE process_open_fds gauge\nprocess_open_fds 5\n"
        "# HELP process_max_fds Maximum number of open file descriptors.\n"
        "# TYPE process_max_fds gauge\nprocess_max_fds 1024\n"
        "# HELP process_resident_memory_bytes Resident memory size in bytes.\n"
        "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 4096\n"
        "# HELP process_start_time_seconds Start time of the process since unix epoch in "
        "seconds.\n# TYPE process_start_time_seconds gauge\n"
        "process_start_time_seconds 1700000000\n");
    buf_release(&out);
}

static void process_facts_are_plausible(void **state)
{
    struct process_facts facts;

    (void)state;
    process_facts_read(&facts);
    assert_true(facts.cpu_seconds >= 0);
    assert_true(facts.start_time_seconds > 1.6e9);
    assert_true(facts.resident_bytes > 100000);
    assert_true(facts.virtual_bytes >= facts.resident_bytes);
    assert_true(facts.open_fds >= 3);
    assert_true(facts.max_fds >= facts.open_fds);
}

static void names_are_in_order(void **state)
{
    (void)state;
    for (int id = 0; id < METRIC_COUNT; id++) {
        const struct metric_info *info = metric_info((enum metric_id)id);
        assert_non_null(info->name);
        assert_non_null(info->help);
        assert_true(info->n_labels <= METRIC_LABELS_MAX);
        assert_true(info->n_buckets <= METRIC_BUCKETS_MAX);
        assert_true((info->kind == METRIC_HISTOGRAM) == (info->n_buckets > 0));
        for (size_t i = 1; i < info->n_buckets; i++)
            assert_true(info->buckets[i] > info->buckets[i - 1]);
        for (int other = 0; other < id; other++)
            assert_string_not_equal(info->name, metric_info((enum metric_id)other)->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_by_labels),
        cmocka_unit_test(gauges_go_both_ways),
        cmocka_unit_test(histograms_are_cumulative),
        cmocka_unit_test(cardinality_is_bounded),
        cmocka_unit_test(long_labels_are_cut_at_a_character),
        cmocka_unit_test(no_memory_counts_as_other),
        cmocka_unit_test(threads_lose_nothing),
        cmocka_unit_test(hooks_run_on_scrape),
        cmocka_unit_test(process_lines_are_exact),
        cmocka_unit_test(process_facts_are_plausible),
        cmocka_unit_test(names_are_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
