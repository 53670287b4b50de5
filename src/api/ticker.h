/* The one thread behind everything that happens later: streams of job events, and work that a
 * callback of the HTTP server may only ask for.
 *
 * While a client watches a job its row is looked at every TICKER_MS; with nobody there the thread
 * sleeps without a timeout. A watcher that falls a stream's buffer behind is cut.
 */
#ifndef API_TICKER_H
#define API_TICKER_H

#include <stdbool.h>

#include "base/err.h"
#include "http/stream.h"
#include "registry/registry.h"
#include "store/jobs.h"

enum { TICKER_MS = 250, TICKER_PING_MS = 15000, TICKER_WATCHERS_MAX = 1024 };

struct ticker;

int ticker_new(struct ticker **ticker, struct registry *registry, struct err *err) MUST_CHECK;
/* Ends the watchers' streams and takes no more, so that a server that drains need not wait for
 * them. */
void ticker_close_watchers(struct ticker *ticker);
void ticker_free(struct ticker *ticker); /* NULL is fine */

/* The stream is the ticker's from here on. It begins with the job's state as of `row`, then tells
 * what changes: `status`, `step`, `loss`, `eval`, `log`; it ends with the job. ERR_BUSY past
 * TICKER_WATCHERS_MAX and ERR_UNAVAILABLE once closed, the stream then still being the caller's;
 * ticker_has_room says so before a stream is opened. */
int ticker_watch(struct ticker *ticker, struct http_stream *stream, const struct job_row *row,
                 struct err *err) MUST_CHECK;
/* The same in another shape: a pull as Ollama's lines ({status, digest, total, completed}, the last
 * one {"status":"success"} or {"error"}), or its last line alone. */
enum ticker_style { TICKER_EVENTS, TICKER_PULL_LINES, TICKER_PULL_END };
int ticker_watch_as(struct ticker *ticker, struct http_stream *stream, const struct job_row *row,
                    enum ticker_style style, struct err *err) MUST_CHECK;
int ticker_has_room(struct ticker *ticker, struct err *err) MUST_CHECK;

/* Where the worker writes the job's log; it need not be there. */
int job_log_path(const struct storage *storage, const char *job_id, char out[FS_PATH_BYTES_MAX],
                 struct err *err) MUST_CHECK;

/* Something to be done on the ticker's thread, soon. Zero it, set run and ctx. */
struct ticker_task {
    void (*run)(void *ctx);
    void *ctx;
    struct ticker_task *next;
    bool queued;
};
/* May be called where little else may: it takes only the ticker's own lock, shortly. A task that is
 * queued already is not queued again. */
void ticker_post(struct ticker *ticker, struct ticker_task *task);
/* Afterwards the task neither is queued nor runs. Not from a task. */
void ticker_forget(struct ticker *ticker, struct ticker_task *task);

#endif
