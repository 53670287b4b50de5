/* The process_* metrics, named as the standard Prometheus clients name them. */
#ifndef TELEMETRY_PROCESS_H
#define TELEMETRY_PROCESS_H

#include <stdint.h>

#include "base/buf.h"

/* What the operating system knows about this process; a field it does not tell is negative. */
struct process_facts {
    double cpu_seconds;        /* user and system */
    double start_time_seconds; /* since 1970 */
    int64_t resident_bytes;
    int64_t virtual_bytes;
    int64_t open_fds;
    int64_t max_fds;
};

void process_facts_read(struct process_facts *facts);
/* Appends the lines of the fields that are known. */
void process_write_prometheus(const struct process_facts *facts, struct buf *out);

#endif
