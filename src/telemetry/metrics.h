/* Metrics: counters, gauges and histograms of this process, and their Prometheus text.
 *
 * There is one registry per process, as there is one log. A series is a metric with its label
 * values; it is made on first use, lives as long as the process and may be kept by the caller, so
 * the hot path is one atomic add without a look-up. A metric holds at most METRIC_SERIES_MAX
 * series: past that, and when memory is short, its "other" series takes the rest, so metric_with
 * never fails and a hostile label cannot grow memory. Everything may be called from any thread.
 */
#ifndef TELEMETRY_METRICS_H
#define TELEMETRY_METRICS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "telemetry/names.h"

enum {
    METRIC_SERIES_MAX = 256,
    METRIC_LABEL_BYTES_MAX = 160, /* a longer label value is cut at a character's edge */
    METRIC_SCRAPE_HOOKS_MAX = 16
};

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metric; /* one series */

/* The series of a metric without labels. Never NULL. */
struct metric *metric_get(enum metric_id id);
/* The series of these label values, as many as the metric has labels, copied. Never NULL. */
struct metric *metric_with(enum metric_id id, const char *const *values);

void metric_add(struct metric *metric, uint64_t n);         /* counters */
void metric_gauge_set(struct metric *metric, double value); /* gauges */
void metric_gauge_add(struct metric *metric, double delta); /* gauges */
void metric_observe(struct metric *metric, double value);   /* histograms; NaN is ignored */

/* What was counted so far: a counter's or gauge's value, a histogram's number of observations. */
double metric_value(const struct metric *metric);

/* Runs `hook` at the start of every scrape, to set gauges that are only known by asking (queue
 * depth, bytes held). It must not block. ERR_BUSY when METRIC_SCRAPE_HOOKS_MAX are in place.
 * After metrics_off_scrape returns, the hook does not run any more. */
int metrics_on_scrape(void (*hook)(void *ctx), void *ctx, struct err *err) MUST_CHECK;
void metrics_off_scrape(void (*hook)(void *ctx), void *ctx);

/* Appends the whole exposition (text format 0.0.4): every metric of names.h in that order, then
 * process_*. Errors stay in `out` (buf_check). */
void metrics_write_prometheus(struct buf *out);

#endif
