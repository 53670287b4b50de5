/* How it works.
 *
 * A family (one metric of names.h) holds a list of its series. Invariants:
 *  1. A series is complete before it is linked, and is never unlinked or freed: readers walk the
 *     list from its atomic head without a lock, and callers may keep the pointer.
 *  2. Only a holder of `making` links, so a set of label values has at most one series.
 *  3. A family's `other` series is part of the family, so there is always one to return.
 *  4. A histogram's buckets count each observation once; the text adds them up. `sum` and the
 *     buckets are updated apart, so a scrape in between may see one without the other; `_count` is
 *     taken from the buckets, hence always equals the +Inf bucket.
 * Updates are relaxed: each value stands alone.
 */
#include "telemetry/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "telemetry/process.h"

struct metric {
    struct metric *next;
    const struct metric_info *info;
    char *labels[METRIC_LABELS_MAX];
    atomic_bool used;
    _Atomic uint64_t count;                           /* counter */
    _Atomic uint64_t bits;                            /* gauge's value, histogram's sum */
    _Atomic uint64_t buckets[METRIC_BUCKETS_MAX + 1]; /* the last one is +Inf */
};

struct family {
    struct metric *_Atomic head;
    size_t n_series; /* under `making` */
    struct metric other;
};

struct hook {
    void (*fn)(void *ctx);
    void *ctx;
};

static struct family families[METRIC_COUNT];
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
static struct hook hooks[METRIC_SCRAPE_HOOKS_MAX];
static pthread_mutex_t hooking = PTHREAD_MUTEX_INITIALIZER;

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static void add_double(_Atomic uint64_t *bits, double delta)
{
    uint64_t old = atomic_load_explicit(bits, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(bits, &old, bits_of(double_of(old) + delta),
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

/* --- finding and making series --- */

static size_t label_length(const char *value)
{
    size_t length = strlen(value);
    return length <= METRIC_LABEL_BYTES_MAX ? length
                                            : utf8_complete_prefix(value, METRIC_LABEL_BYTES_MAX);
}

static bool same_labels(const struct metric *metric, const char *const *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t length = label_length(values[i]);
        if (strncmp(metric->labels[i], values[i], length) != 0 || metric->labels[i][length])
            return false;
    }
    return true;
}

static struct metric *find(struct family *family, const struct metric_info *info,
                           const char *const *values)
{
    struct metric *metric = atomic_load_explicit(&family->head, memory_order_acquire);
    while (metric && !same_labels(metric, values, info->n_labels))
        metric = metric->next;
    return metric;
}

static struct metric *make(const struct metric_info *info, const char *const *values)
{
    struct metric *metric = mem_calloc(1, sizeof(*metric));

    if (!metric)
        return NULL;
    metric->info = info;
    for (size_t i = 0; i < info->n_labels; i++) {
        metric->labels[i] = mem_strndup(values[i], label_length(values[i]));
        if (!metric->labels[i])
            goto fail;
    }
    return metric;
fail:
    for (size_t i = 0; i < info->n_labels; i++)
        mem_free(metric->labels[i]);
    mem_free(metric);
    return NULL;
}

static struct metric *touch(struct metric *metric)
{
    if (!atomic_load_explicit(&metric->used, memory_order_acquire))
        atomic_store_explicit(&metric->used, true, memory_order_release);
    return metric;
}

struct metric *metric_with(enum metric_id id, const char *const *values)
{
    const struct metric_info *info = metric_info(id);
    struct family *family = &families[id];
    struct metric *metric = NULL;

    if (info->n_labels == 0)
        return metric_get(id);
    metric = find(family, info, values);
    if (metric)
        return metric;
    pthread_mutex_lock(&making);
    metric = find(family, info, values);
    if (!metric && family->n_series < METRIC_SERIES_MAX && (metric = make(info, values))) {
        metric->next = atomic_load_explicit(&family->head, memory_order_relaxed);
        atomic_store_explicit(&family->head, touch(metric), memory_order_release);
        family->n_series++;
    }
    if (!metric) {
        metric = &family->other;
        if (!atomic_load_explicit(&metric->used, memory_order_acquire))
            metric->info = info;
        touch(metric);
    }
    pthread_mutex_unlock(&making);
    return metric;
}

struct metric *metric_get(enum metric_id id)
{
    struct family *family = &families[id];

    assert(metric_info(id)->n_labels == 0);
    if (!atomic_load_explicit(&family->other.used, memory_order_acquire)) {
        pthread_mutex_lock(&making);
        family->other.info = metric_info(id);
        atomic_store_explicit(&family->other.used, true, memory_order_release);
        pthread_mutex_unlock(&making);
    }
    return &family->other;
}

/* --- updates --- */

void metric_add(struct metric *metric, uint64_t n)
{
    assert(metric->info->kind == METRIC_COUNTER);
    atomic_fetch_add_explicit(&metric->count, n, memory_order_relaxed);
}

void metric_gauge_set(struct metric *metric, double value)
{
    assert(metric->info->kind == METRIC_GAUGE);
    atomic_store_explicit(&metric->bits, bits_of(value), memory_order_relaxed);
}

void metric_gauge_add(struct metric *metric, double delta)
{
    assert(metric->info->kind == METRIC_GAUGE);
    add_double(&metric->bits, delta);
}

void metric_observe(struct metric *metric, double value)
{
    const struct metric_info *info = metric->info;
    size_t i = 0;

    assert(info->kind == METRIC_HISTOGRAM);
    if (isnan(value))
        return;
    while (i < info->n_buckets && value > info->buckets[i])
        i++;
    atomic_fetch_add_explicit(&metric->buckets[i], 1, memory_order_relaxed);
    add_double(&metric->bits, value);
}

static uint64_t observations(const struct metric *metric)
{
    uint64_t n = 0;
    for (size_t i = 0; i <= metric->info->n_buckets; i++)
        n += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
    return n;
}

double metric_value(const struct metric *metric)
{
    switch (metric->info->kind) {
    case METRIC_COUNTER:
        return (double)atomic_load_explicit(&metric->count, memory_order_relaxed);
    case METRIC_GAUGE:
        return double_of(atomic_load_explicit(&metric->bits, memory_order_relaxed));
    case METRIC_HISTOGRAM:
        break;
    }
    return (double)observations(metric);
}

/* --- scrape hooks --- */

int metrics_on_scrape(void (*hook)(void *ctx), void *ctx, struct err *err)
{
    int rc = -ERR_BUSY;

    pthread_mutex_lock(&hooking);
    for (size_t i = 0; i < METRIC_SCRAPE_HOOKS_MAX && rc != 0; i++)
        if (!hooks[i].fn) {
            hooks[i] = (struct hook){hook, ctx};
            rc = 0;
        }
    pthread_mutex_unlock(&hooking);
    return rc == 0 ? 0
                   : err_set(err, ERR_BUSY, "more than %d scrape hooks", METRIC_SCRAPE_HOOKS_MAX);
}

void metrics_off_scrape(void (*hook)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&hooking);
    for (size_t i = 0; i < METRIC_SCRAPE_HOOKS_MAX; i++)
        if (hooks[i].fn == hook && hooks[i].ctx == ctx)
            hooks[i] = (struct hook){0};
    pthread_mutex_unlock(&hooking);
}

static void run_hooks(void)
{
    pthread_mutex_lock(&hooking);
    for (size_t i = 0; i < METRIC_SCRAPE_HOOKS_MAX; i++)
        if (hooks[i].fn)
            hooks[i].fn(hooks[i].ctx);
    pthread_mutex_unlock(&hooking);
}

/* --- the text --- */

static void put_number(struct buf *out, double value)
{
    char text[32];

    if (isnan(value)) {
        buf_puts(out, "NaN");
    } else if (isinf(value)) {
        buf_puts(out, value > 0 ? "+Inf" : "-Inf");
    } else {
        json_format_real(value, text);
        buf_puts(out, text);
    }
}

/* A label value: backslash, quote and newline escaped; bytes that are not UTF-8 become '?'. */
static void put_label_value(struct buf *out, const char *value)
{
    size_t length = strlen(value);

    for (size_t i = 0; i < length;) {
        uint32_t code_point;
        size_t n = utf8_decode(value + i, length - i, &code_point);
        if (n == 0)
            buf_putc(out, '?');
        else if (value[i] == '\n')
            buf_puts(out, "\\n");
        else if (value[i] == '\\' || value[i] == '"')
            buf_printf(out, "\\%c", value[i]);
        else
            buf_append(out, value + i, n);
        i += n ? n : 1;
    }
}

/* The labels in braces, with `le` last when it is given. */
static void put_labels(struct buf *out, const struct metric *metric, const char *le)
{
    const struct metric_info *info = metric->info;
    const char *before = "{";

    for (size_t i = 0; i < info->n_labels; i++) {
        buf_printf(out, "%s%s=\"", before, info->labels[i]);
        put_label_value(out, metric->labels[i] ? metric->labels[i] : "other");
        buf_putc(out, '"');
        before = ",";
    }
    if (le) {
        buf_printf(out, "%sle=\"%s\"", before, le);
        before = ",";
    }
    if (*before == ',')
        buf_putc(out, '}');
}

static void put_histogram(struct buf *out, const struct metric *metric)
{
    const struct metric_info *info = metric->info;
    uint64_t total = 0;
    char le[32];

    for (size_t i = 0; i <= info->n_buckets; i++) {
        if (i < info->n_buckets)
            json_format_real(info->buckets[i], le);
        total += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        buf_printf(out, "%s_bucket", info->name);
        put_labels(out, metric, i < info->n_buckets ? le : "+Inf");
        buf_printf(out, " %" PRIu64 "\n", total);
    }
    buf_printf(out, "%s_sum", info->name);
    put_labels(out, metric, NULL);
    buf_putc(out, ' ');
    put_number(out, double_of(atomic_load_explicit(&metric->bits, memory_order_relaxed)));
    buf_printf(out, "\n%s_count", info->name);
    put_labels(out, metric, NULL);
    buf_printf(out, " %" PRIu64 "\n", total);
}

static void put_series(struct buf *out, const struct metric *metric)
{
    if (metric->info->kind == METRIC_HISTOGRAM) {
        put_histogram(out, metric);
        return;
    }
    buf_puts(out, metric->info->name);
    put_labels(out, metric, NULL);
    buf_putc(out, ' ');
    if (metric->info->kind == METRIC_COUNTER)
        buf_printf(out, "%" PRIu64,
                   (uint64_t)atomic_load_explicit(&metric->count, memory_order_relaxed));
    else
        put_number(out, metric_value(metric));
    buf_putc(out, '\n');
}

/* The list has the newest first; the text has the oldest first, so that it only ever grows. */
static void put_family(struct buf *out, enum metric_id id)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    const struct metric_info *info = metric_info(id);
    struct family *family = &families[id];
    const struct metric *series[METRIC_SERIES_MAX];
    size_t n = 0;

    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", info->name, info->help, info->name,
               kinds[info->kind]);
    for (const struct metric *metric = atomic_load_explicit(&family->head, memory_order_acquire);
         metric && n < METRIC_SERIES_MAX; metric = metric->next)
        series[n++] = metric;
    while (n > 0)
        put_series(out, series[--n]);
    if (info->n_labels == 0)
        put_series(out, metric_get(id));
    else if (atomic_load_explicit(&family->other.used, memory_order_acquire))
        put_series(out, &family->other);
}

void metrics_write_prometheus(struct buf *out)
{
    struct process_facts facts;

    run_hooks();
    for (int id = 0; id < METRIC_COUNT; id++)
        put_family(out, (enum metric_id)id);
    process_facts_read(&facts);
    process_write_prometheus(&facts, out);
}
