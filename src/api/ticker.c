/* Invariants
 *   1. `lock` guards the list of tasks, `incoming`, `n_watchers` and the flags; it is held over
 *      neither a task, nor the database, nor a stream.
 *   2. Watchers are made by handlers, put on `incoming` and from then on touched by the ticker's
 *      thread alone, which ends or aborts their streams.
 *   3. A task is in at most one place: the list, or `running`. */
#include "api/ticker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/rows_json.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "registry/jobs.h"

enum {
    EVENT_BYTES_MAX = 64 << 10,
    LOG_BLOCK_BYTES = 32 << 10,
    PULL_STATUS_BYTES = 96,
    WAITING_BYTES = 256
};

struct watcher {
    struct watcher *next;
    struct http_stream *stream;
    enum ticker_style style;
    char told[PULL_STATUS_BYTES]; /* the last status of a pull's lines */
    char job_id[UUID_BYTES];
    bool fresh; /* nothing was sent yet */
    enum job_status status;
    char waiting_for[WAITING_BYTES]; /* as last told; "" = nothing */
    int64_t step, loss_step, val_step;
    int64_t log_at;
    int64_t sent_ns;
};

struct ticker {
    struct registry *registry;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct ticker_task *first, *last, *running;
    struct watcher *incoming;
    int n_watchers;
    bool closed, stopping;
    struct watcher *watchers; /* the thread's */
};

int job_log_path(const struct storage *storage, const char *job_id, char out[FS_PATH_BYTES_MAX],
                 struct err *err)
{
    char dir[FS_PATH_BYTES_MAX];
    const int rc = storage_artifacts(storage, "jobs", job_id, dir, err);
    return rc == 0 ? fs_join(out, dir, "train.log", err) : rc;
}

/* --- events --- */

static int send_event(struct watcher *w, const char *event, struct buf *data)
{
    struct err err = {0};
    int rc = buf_check(data, "an event", &err);
    if (rc == 0) {
        rc = http_stream_event(w->stream, event, data->data, 0, &err);
    }
    w->sent_ns = clock_monotonic_ns();
    buf_clear(data);
    return rc;
}

static const char *waiting(const struct job_row *row)
{
    return row->waiting_for != NULL ? row->waiting_for : "";
}

static int send_status(struct watcher *w, const struct job_row *row, struct buf *data)
{
    struct json_out out;
    json_out_init(&out, data);
    json_out_object(&out);
    json_out_kv_string(&out, "status", job_status_name(row->status));
    json_out_kv_string(&out, "waiting_for", row->waiting_for);
    json_out_kv_string(&out, "error_message", row->error_message);
    json_out_kv_string(&out, "model_version_id", row->model_version_id);
    json_out_object_end(&out);
    w->status = row->status;
    (void)snprintf(w->waiting_for, sizeof w->waiting_for, "%s", waiting(row));
    return send_event(w, "status", data);
}

static int send_step(struct watcher *w, const struct job_row *row, struct buf *data)
{
    struct json_out out;
    json_out_init(&out, data);
    json_job_progress(&out, &row->progress);
    w->step = row->progress.step;
    return send_event(w, "step", data);
}

/* New points of one series. */
static int send_series(struct ticker *t, struct watcher *w, const char *event, const char *name,
                       int64_t *after, struct arena *arena, struct buf *data)
{
    struct err err = {0};
    struct metric_row *rows;
    size_t count;
    if (registry_job_metrics(t->registry, w->job_id, name, *after, arena, &rows, &count, NULL,
                             &err) != 0) {
        return 0; /* the next look tells them */
    }
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct json_out out;
        json_out_init(&out, data);
        json_out_object(&out);
        json_out_kv_int(&out, "step", rows[i].step);
        json_out_kv_real(&out, name, rows[i].value);
        json_out_object_end(&out);
        *after = rows[i].step;
        rc = send_event(w, event, data);
    }
    return rc;
}

/* Whole lines that the log has grown by. */
static int send_log(struct ticker *t, struct watcher *w, struct buf *data)
{
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    char *block = mem_alloc(LOG_BLOCK_BYTES);
    int fd = -1;
    if (block != NULL && job_log_path(registry_storage(t->registry), w->job_id, path, &err) == 0) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    const ssize_t n = fd >= 0 ? pread(fd, block, LOG_BLOCK_BYTES, (off_t)w->log_at) : 0;
    int rc = 0;
    for (ssize_t at = 0; at < n && rc == 0;) {
        const char *end = memchr(block + at, '\n', (size_t)(n - at));
        if (end == NULL && (at > 0 || n < LOG_BLOCK_BYTES)) {
            break; /* the rest of the line is still to come */
        }
        const size_t length = end != NULL ? (size_t)(end - block - at) : (size_t)(n - at);
        struct json_out out;
        json_out_init(&out, data);
        json_out_object(&out);
        json_out_key(&out, "line");
        json_out_string_n(&out, block + at, length);
        json_out_object_end(&out);
        at += (ssize_t)length + (end != NULL);
        w->log_at += (int64_t)length + (end != NULL);
        rc = send_event(w, "log", data);
    }
    if (fd >= 0) {
        close(fd);
    }
    mem_free(block);
    return rc;
}

static int send_ping(struct watcher *w)
{
    struct err err = {0};
    const int64_t now = clock_monotonic_ns();
    if (now - w->sent_ns < TICKER_PING_MS * 1000000LL) {
        return 0;
    }
    w->sent_ns = now;
    return http_stream_write(w->stream, ": ping\n\n", 8, 0, &err);
}

/* --- a pull's lines --- */

static int send_line(struct watcher *w, const char *status, const char *error, const char *digest,
                     const struct job_row *row, struct buf *data)
{
    struct err err = {0};
    struct json_out out;
    json_out_init(&out, data);
    json_out_object(&out);
    if (error != NULL) {
        json_out_kv_string(&out, "error", error);
    } else {
        json_out_kv_string(&out, "status", status);
    }
    if (digest != NULL) {
        json_out_kv_string(&out, "digest", digest);
        json_out_kv_int(&out, "total", row->progress.steps);
        json_out_kv_int(&out, "completed", row->progress.step);
    }
    json_out_object_end(&out);
    buf_putc(data, '\n');
    int rc = buf_check(data, "a line", &err);
    rc = rc == 0 ? http_stream_write(w->stream, data->data, data->len, 0, &err) : rc;
    w->sent_ns = clock_monotonic_ns();
    buf_clear(data);
    return rc;
}

/* What a pull stands for in Ollama's lines: the digest of its largest file; "" before it is known.
 */
static void digest_of(const struct job_row *row, char out[PULL_STATUS_BYTES])
{
    struct err ignored = {0};
    const char *sha256 = NULL;
    json_t *result =
        row->result != NULL ? json_parse(row->result, strlen(row->result), &ignored) : NULL;
    out[0] = '\0';
    if (json_get_string(result, "largest_sha256", NULL, &sha256, &ignored) == 0 && sha256 != NULL) {
        (void)snprintf(out, PULL_STATUS_BYTES, "sha256:%.64s", sha256);
    } else if (json_get_string(result, "commit", NULL, &sha256, &ignored) == 0 && sha256 != NULL) {
        (void)snprintf(out, PULL_STATUS_BYTES, "commit:%.64s", sha256);
    }
    json_decref(result);
}

static int send_pull_end(struct watcher *w, const struct job_row *row, struct buf *data)
{
    if (row->status == JOB_COMPLETED) {
        return send_line(w, "success", NULL, NULL, row, data);
    }
    const char *why = row->error_message != NULL     ? row->error_message
                      : row->status == JOB_CANCELLED ? "the pull was cancelled"
                                                     : "the pull failed";
    return send_line(w, NULL, why, NULL, row, data);
}

/* One line on where the pull is, when that has changed or nothing was said for long; at its good
 * end the bar is told full, however fast it went. */
static int tell_state(struct watcher *w, const struct job_row *row, struct buf *data)
{
    char digest[PULL_STATUS_BYTES], status[PULL_STATUS_BYTES];
    digest_of(row, digest);
    const bool known = digest[0] != '\0' && row->progress.steps > 0;
    const bool whole = known && row->progress.step >= row->progress.steps;
    const bool bar = known && (!whole || row->status == JOB_COMPLETED);
    if (!known) {
        (void)snprintf(status, sizeof status, "pulling manifest");
    } else if (!bar) {
        (void)snprintf(status, sizeof status, "verifying sha256 digest");
    } else {
        (void)snprintf(status, sizeof status, "pulling %.12s", strchr(digest, ':') + 1);
    }
    const bool news = strcmp(status, w->told) != 0 || row->progress.step != w->step ||
                      clock_monotonic_ns() - w->sent_ns > TICKER_PING_MS * 1000000LL;
    w->step = row->progress.step;
    (void)snprintf(w->told, sizeof w->told, "%s", status);
    return news ? send_line(w, status, NULL, bar ? digest : NULL, row, data) : 0;
}

static int tell_pull(struct watcher *w, const struct job_row *row, struct buf *data)
{
    const bool final = job_status_final(row->status);
    int rc = 0;
    if (w->style == TICKER_PULL_LINES && (!final || row->status == JOB_COMPLETED)) {
        rc = tell_state(w, row, data);
    }
    return rc == 0 && final ? send_pull_end(w, row, data) : rc;
}

/* Tells what is new; *over says that there is no more. A negative code: the client is gone, or too
 * slow. */
static int look(struct ticker *t, struct watcher *w, struct arena *arena, struct buf *data,
                bool *over)
{
    struct err err = {0};
    struct job_row row;
    const int found = registry_get_job(t->registry, w->job_id, arena, &row, &err);
    *over = found == -ERR_NOT_FOUND;
    if (found != 0) {
        return http_stream_closed(w->stream) ? -ERR_CLOSED : 0; /* the database is away: later */
    }
    int rc = 0;
    if (w->style != TICKER_EVENTS) {
        rc = tell_pull(w, &row, data);
        *over = job_status_final(row.status);
        return rc == 0 && http_stream_closed(w->stream) ? -ERR_CLOSED : rc;
    }
    if (w->fresh) {
        w->fresh = false;
        rc = send_status(w, &row, data);
        rc = rc == 0 ? send_step(w, &row, data) : rc;
    }
    rc = rc == 0 ? send_log(t, w, data) : rc;
    rc = rc == 0 ? send_series(t, w, "loss", "loss", &w->loss_step, arena, data) : rc;
    rc = rc == 0 ? send_series(t, w, "eval", "val_loss", &w->val_step, arena, data) : rc;
    if (rc == 0 && row.progress.step != w->step) {
        rc = send_step(w, &row, data);
    }
    if (rc == 0 && (row.status != w->status ||
                    strncmp(w->waiting_for, waiting(&row), sizeof w->waiting_for - 1) != 0)) {
        rc = send_status(w, &row, data);
    }
    *over = job_status_final(row.status);
    rc = rc == 0 ? send_ping(w) : rc;
    return rc == 0 && http_stream_closed(w->stream) ? -ERR_CLOSED : rc;
}

static void end_watcher(struct ticker *t, struct watcher *w, bool whole)
{
    if (whole) {
        http_stream_end(w->stream);
    } else {
        http_stream_abort(w->stream);
    }
    mem_free(w);
    pthread_mutex_lock(&t->lock);
    t->n_watchers--;
    pthread_mutex_unlock(&t->lock);
}

static void look_at_all(struct ticker *t, bool closed)
{
    struct arena arena;
    struct buf data;
    arena_init(&arena, 0);
    buf_init(&data, EVENT_BYTES_MAX);
    for (struct watcher **at = &t->watchers; *at != NULL;) {
        struct watcher *w = *at;
        bool over = false;
        int rc = look(t, w, &arena, &data, &over);
        arena_clear(&arena);
        if (rc == 0 && closed && !over && w->style != TICKER_EVENTS) {
            rc = send_line(w, NULL, "the hub is shutting down; once it is back, the pull goes on",
                           NULL, NULL, &data);
        }
        if (rc != 0 || over || closed) {
            *at = w->next;
            end_watcher(t, w, rc == 0);
        } else {
            at = &w->next;
        }
    }
    buf_release(&data);
    arena_release(&arena);
}

/* --- the thread --- */

/* Waits for something to do, TICKER_MS at most while somebody watches. Lock held. */
static void wait_for_work(struct ticker *t)
{
    if (t->watchers == NULL) {
        pthread_cond_wait(&t->changed, &t->lock);
        return;
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += TICKER_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_cond_timedwait(&t->changed, &t->lock, &until);
}

static void run_tasks(struct ticker *t)
{
    while (t->first != NULL) {
        struct ticker_task *task = t->first;
        t->first = task->next;
        t->last = t->first != NULL ? t->last : NULL;
        task->queued = false;
        t->running = task;
        pthread_mutex_unlock(&t->lock);
        task->run(task->ctx);
        pthread_mutex_lock(&t->lock);
        t->running = NULL;
        pthread_cond_broadcast(&t->changed);
    }
}

static void *ticker_main(void *ctx)
{
    struct ticker *t = ctx;
    int64_t looked_ns = 0;
    pthread_mutex_lock(&t->lock);
    while (!t->stopping) {
        run_tasks(t);
        bool news = t->closed && t->watchers != NULL;
        while (t->incoming != NULL) {
            struct watcher *w = t->incoming;
            t->incoming = w->next;
            w->next = t->watchers;
            t->watchers = w;
            news = true;
        }
        const int64_t now = clock_monotonic_ns();
        if (t->watchers != NULL && (news || now - looked_ns >= TICKER_MS * 1000000LL)) {
            const bool closed = t->closed;
            pthread_mutex_unlock(&t->lock);
            look_at_all(t, closed);
            pthread_mutex_lock(&t->lock);
            looked_ns = clock_monotonic_ns();
            continue;
        }
        if (!t->stopping && t->first == NULL) {
            wait_for_work(t);
        }
    }
    pthread_mutex_unlock(&t->lock);
    look_at_all(t, true);
    return NULL;
}

int ticker_new(struct ticker **out, struct registry *registry, struct err *err)
{
    struct ticker *t = mem_calloc(1, sizeof *t);
    if (t == NULL) {
        return mem_err(err, sizeof *t);
    }
    t->registry = registry;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    const int failed = thread_start(&t->thread, ticker_main, t);
    if (failed != 0) {
        pthread_cond_destroy(&t->changed);
        pthread_mutex_destroy(&t->lock);
        mem_free(t);
        return err_set_errno(err, failed, "no thread could be started");
    }
    *out = t;
    return 0;
}

void ticker_close_watchers(struct ticker *t)
{
    pthread_mutex_lock(&t->lock);
    t->closed = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

void ticker_free(struct ticker *t)
{
    if (t == NULL) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->closed = true;
    t->stopping = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    while (t->incoming != NULL) {
        struct watcher *w = t->incoming;
        t->incoming = w->next;
        http_stream_end(w->stream);
        mem_free(w);
    }
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

/* --- from other threads --- */

static int room(const struct ticker *t, struct err *err)
{
    if (t->closed) {
        return err_set(err, ERR_UNAVAILABLE, "The hub is shutting down");
    }
    if (t->n_watchers >= TICKER_WATCHERS_MAX) {
        return err_set(err, ERR_BUSY, "%d clients watch jobs, at most %d may", t->n_watchers,
                       TICKER_WATCHERS_MAX);
    }
    return 0;
}

int ticker_has_room(struct ticker *t, struct err *err)
{
    pthread_mutex_lock(&t->lock);
    const int rc = room(t, err);
    pthread_mutex_unlock(&t->lock);
    return rc;
}

/* A job that waits is told from its beginning, one that runs from now on: what was before is asked
 * for apart. */
static int64_t log_begin(struct ticker *t, const struct job_row *row)
{
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    uint64_t bytes = 0;
    if (row->status == JOB_QUEUED ||
        job_log_path(registry_storage(t->registry), row->id, path, &err) != 0 ||
        fs_size(path, &bytes, &err) != 0) {
        return 0;
    }
    return (int64_t)bytes;
}

int ticker_watch(struct ticker *t, struct http_stream *stream, const struct job_row *row,
                 struct err *err)
{
    return ticker_watch_as(t, stream, row, TICKER_EVENTS, err);
}

int ticker_watch_as(struct ticker *t, struct http_stream *stream, const struct job_row *row,
                    enum ticker_style style, struct err *err)
{
    struct watcher *w = mem_calloc(1, sizeof *w);
    if (w == NULL) {
        return mem_err(err, sizeof *w);
    }
    w->stream = stream;
    w->style = style;
    w->fresh = true;
    w->status = row->status;
    w->step = row->progress.step;
    w->loss_step = w->val_step = row->progress.step > 0 ? row->progress.step : -1;
    w->log_at = log_begin(t, row);
    w->sent_ns = clock_monotonic_ns();
    (void)snprintf(w->job_id, sizeof w->job_id, "%s", row->id);
    pthread_mutex_lock(&t->lock);
    const int rc = room(t, err);
    if (rc == 0) {
        w->next = t->incoming;
        t->incoming = w;
        t->n_watchers++;
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    if (rc != 0) {
        mem_free(w);
    }
    return rc;
}

void ticker_post(struct ticker *t, struct ticker_task *task)
{
    pthread_mutex_lock(&t->lock);
    if (!task->queued) {
        task->queued = true;
        task->next = NULL;
        if (t->last != NULL) {
            t->last->next = task;
        } else {
            t->first = task;
        }
        t->last = task;
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
}

void ticker_forget(struct ticker *t, struct ticker_task *task)
{
    pthread_mutex_lock(&t->lock);
    struct ticker_task *before = NULL;
    for (struct ticker_task *at = t->first; task->queued && at != NULL; at = at->next) {
        if (at == task) {
            if (before != NULL) {
                before->next = task->next;
            } else {
                t->first = task->next;
            }
            t->last = t->last == task ? before : t->last;
            task->queued = false;
            break;
        }
        before = at;
    }
    while (t->running == task) {
        pthread_cond_wait(&t->changed, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
}
