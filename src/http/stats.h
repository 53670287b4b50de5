/* The server's own metrics, with the series of each route kept at hand. Private to http/. */
#ifndef HTTP_STATS_H
#define HTTP_STATS_H

#include <stdint.h>

#include "base/err.h"
#include "http/router.h"

struct http_stats;

int stats_new(struct http_stats **stats, const struct http_router *router,
              struct err *err) MUST_CHECK;
void stats_free(struct http_stats *stats);
void stats_begin(struct http_stats *stats);
/* index is the route's in the router; SIZE_MAX: none, then `method` is the label. */
void stats_end(struct http_stats *stats, size_t index, const char *method, unsigned status,
               int64_t nanoseconds);

#endif
