/* The running hub: storage, database, HTTP, models and workers, from start to a clean end.
 *
 * A process may run one; the command line runs one on port 0 for the length of a command when no
 * server is there. Nothing here is global and nothing exits. serve_start, serve_wait_for_signal and
 * serve_stop belong to one thread. The threads that serve_start makes have SIGTERM and SIGINT
 * blocked, so those reach the caller alone.
 *
 * Start is quick because only the storage lock, the database and the listening socket are waited
 * for: runners come with the first request, the worker with the first job.
 */
#ifndef API_SERVE_H
#define API_SERVE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/settings.h"

enum { SERVE_DRAIN_MS = 10000 }; /* how long `mlx-hub serve` lets requests finish */

struct serve;

struct serve_options {
    const char *program; /* executable of the children; NULL = this one */
    bool with_workers;   /* train here: settings->workers children; else jobs stay queued */
    bool quiet;          /* no line in the log about being up */
    bool catch_signals;  /* SIGTERM and SIGINT stay blocked in the caller, too, from the start on,
                          * so that none comes before serve_wait_for_signal; serve_stop undoes it */
};

/* settings->port 0 takes any free port. ERR_CONFLICT names who holds the storage folder, or the
 * port that is taken; ERR_INVALID and ERR_FORBIDDEN for settings that a server minds. Leaves
 * nothing behind when it fails. */
int serve_start(struct serve **out, const struct settings *settings,
                const struct serve_options *options, struct err *err) MUST_CHECK;
int serve_port(const struct serve *serve);
/* Blocks until SIGTERM or SIGINT has come; returns which. */
int serve_wait_for_signal(struct serve *serve);
/* Refuses new work, lets what runs finish for at most drain_ms, has workers checkpoint, ends all
 * children and frees everything. NULL is fine. */
void serve_stop(struct serve *serve, int drain_ms);

#endif
