/* The hub's parts, as every handler gets them.
 *
 * Made by hub_new before any thread of the server exists and read-only afterwards but for its
 * atomics; each part says itself which threads may call it. The hub owns all of them.
 */
#ifndef API_HUB_H
#define API_HUB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/settings.h"
#include "http/router.h"
#include "infer/infer.h"
#include "registry/registry.h"

enum {
    HUB_JOBS_QUEUED_MAX = 1000, /* training jobs that may wait */
    HUB_UPLOAD_GB_MAX = 16      /* a dataset sent as a body */
};

struct supervisor;
struct ticker;

/* What the last scrape of /metrics saw, so that counters only grow by what is new. */
struct hub_scrape {
    pthread_mutex_t lock;
    char job_id[37]; /* running then; "" = none */
    int64_t step;
    char completed_at[32]; /* of the newest job that was counted */
};

struct hub {
    struct settings settings;
    char *program; /* executable of the children; NULL = this one */
    struct registry *registry;
    struct infer *infer;
    struct ticker *ticker;
    struct supervisor *supervisor; /* NULL: no workers here */
    const struct http_router *router;
    int64_t started_us, started_ns;
    struct hub_scrape scrape;
};

/* Opens registry and inference, settles what the last run left: jobs whose worker is gone go back
 * to the queue, halves of imports are removed. The caller holds the storage folder's lock. */
int hub_new(struct hub **out, const struct settings *settings, const char *program,
            struct err *err) MUST_CHECK;
/* Models may finish what they answer for drain_ms. No handler may be running. NULL is fine. */
void hub_free(struct hub *hub, int drain_ms);

#endif
