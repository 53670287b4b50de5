/* A host's thread starts its child, reads what it answers, and starts another when it dies:
 *
 *   host:    STARTING ─▶ READY ─▶ (child dies) ─▶ STARTING again with what it was answering
 *                │          └─ idle past keep_alive, unloaded, evicted ─▶ CLOSING ─▶ gone
 *                └─ cannot open ─▶ all requests fail ─▶ gone
 */
#include "infer/host.h"

#include <string.h>

#include "base/clock.h"
#include "base/frame.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "telemetry/metrics.h"

/* --- the life of a host --- */

static int send_open(struct host *h, struct err *err)
{
    const struct settings *s = &h->infer->settings;
    struct buf buf;
    struct json_out out;
    char cache[FS_PATH_BYTES_MAX];
    pthread_mutex_lock(&h->infer->lock);
    const uint64_t kv_bytes = h->kv_asked;
    pthread_mutex_unlock(&h->infer->lock);
    int rc = fs_join(cache, s->storage_base_path, "cache", err);
    buf_init(&buf, REQUEST_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_string(&out, "path", h->base_path);
    json_out_kv_string(&out, "isa", s->isa);
    json_out_kv_string(&out, "cache_dir", cache);
    json_out_kv_int(&out, "threads", s->threads);
    json_out_kv_int(&out, "context_length", s->context_length);
    json_out_kv_int(&out, "max_sessions", s->max_sessions);
    json_out_kv_int(&out, "kv_bytes", (int64_t)kv_bytes);
    json_out_kv_int(&out, "prefix_bytes", (int64_t)s->prefix_cache_mb << 20);
    json_out_kv_bool(&out, "prefix_disk", s->prefix_cache_disk);
    json_out_kv_string(&out, "base_key", h->base_key);
    json_out_object_end(&out);
    if (rc == 0) {
        rc = buf_check(&buf, "a request", err);
    }
    if (rc == 0) {
        rc = frame_send(&h->conn, 'O', buf.data, buf.len, SEND_TIMEOUT_MS, err);
    }
    buf_release(&buf);
    return rc;
}

static void read_opened(struct host *h, const json_t *frame)
{
    const char *engine = json_string_value(json_object_get(frame, "engine"));
    const int64_t bytes = json_integer_value(json_object_get(frame, "memory_bytes"));
    pthread_mutex_lock(&h->infer->lock);
    if (engine != NULL && strlen(engine) < sizeof h->engine) {
        memcpy(h->engine, engine, strlen(engine) + 1);
    }
    h->numerics_version = (int)json_integer_value(json_object_get(frame, "numerics_version"));
    if (bytes > 0 && (uint64_t)bytes > h->memory_bytes - h->kv_bytes) { /* no keys yet */
        h->memory_bytes = (uint64_t)bytes + h->kv_bytes;
    }
    h->state = HOST_READY;
    h->prefix_bytes = (uint64_t)json_integer_value(json_object_get(frame, "prefix_bytes"));
    h->loaded_at_us = clock_wall_us();
    h->idle_since_ns = clock_monotonic_ns();
    for (struct infer_request *r = h->waiting.first; r != NULL; r = r->next) {
        r->load_ns = h->idle_since_ns - r->submitted_ns;
    }
    host_pump(h);
    pthread_cond_broadcast(&h->infer->changed); /* it can give back now */
    pthread_mutex_unlock(&h->infer->lock);
}

/* Starts the child and waits until it has opened the base. */
static int start_child(struct host *h, struct err *err)
{
    const char *argv[] = {"mlx-hub", "runner", NULL};
    const struct proc_options options = {.path = h->infer->program, .argv = argv};
    struct buf payload;
    uint8_t type = 0;
    int rc = proc_spawn(&h->proc, &options, err);
    if (rc != 0) {
        return rc;
    }
    rc = frame_conn_init(&h->conn, h->proc.control, err);
    if (rc != 0) {
        proc_release(&h->proc);
        return rc;
    }
    h->have_child = true;
    buf_init(&payload, REQUEST_BYTES_MAX);
    rc = send_open(h, err);
    if (rc == 0) {
        rc = frame_recv(&h->conn, &type, &payload, -1, err);
    }
    if (rc == -ERR_CLOSED) {
        err_clear(err);
        rc = err_set(err, ERR_INTERNAL, "the process that loads '%s' ended unexpectedly",
                     h->base_id);
    }
    if (rc == 0) {
        json_t *frame = json_parse(payload.data, payload.len, err);
        if (frame == NULL) {
            rc = -(int)err->code;
        } else if (type == 'o') {
            read_opened(h, frame);
        } else {
            host_frame_error(frame, err);
            rc = -(int)err->code;
        }
        json_decref(frame);
    }
    buf_release(&payload);
    return rc;
}

static void end_child(struct host *h)
{
    if (h->have_child) {
        pthread_mutex_lock(&h->infer->lock);
        h->have_child = false;
        pthread_mutex_unlock(&h->infer->lock);
        frame_conn_release(&h->conn);
        proc_release(&h->proc);
    }
}

/* Everything on the host fails with `err`. */
static void fail_all(struct host *h, const struct err *err)
{
    for (;;) {
        pthread_mutex_lock(&h->infer->lock);
        struct request_list *list = h->sent.first != NULL ? &h->sent : &h->waiting;
        struct infer_request *r = list->first;
        if (r != NULL) {
            (void)requests_take(list, r->number);
            h->infer->n_requests--;
        }
        pthread_mutex_unlock(&h->infer->lock);
        if (r == NULL) {
            return;
        }
        infer_request_fail(h->infer, r, err);
    }
}

/* After a crash: who was present twice is given up, the others wait again, in front and in order.
 * A host that was told to close stays closing. */
static bool put_back(struct host *h)
{
    struct err err = {0};
    struct request_list given_up = {0};
    struct request_list again = {0};
    (void)err_set(&err, ERR_INTERNAL,
                  "the process that answered ended unexpectedly %d times during this request",
                  CRASHES_MAX);
    pthread_mutex_lock(&h->infer->lock);
    const bool closing = h->state == HOST_CLOSING;
    h->state = closing ? HOST_CLOSING : HOST_STARTING;
    ledger_took_back(h);
    while (h->sent.first != NULL) {
        struct infer_request *r = requests_take(&h->sent, h->sent.first->number);
        r->crashes += r->on_runner;
        r->on_runner = false;
        requests_push(r->crashes >= CRASHES_MAX ? &given_up : &again, r);
        h->infer->n_requests -= r->crashes >= CRASHES_MAX;
    }
    while (h->waiting.first != NULL) {
        requests_push(&again, requests_take(&h->waiting, h->waiting.first->number));
    }
    h->waiting = again;
    pthread_mutex_unlock(&h->infer->lock);
    while (given_up.first != NULL) {
        infer_request_fail(h->infer, requests_take(&given_up, given_up.first->number), &err);
    }
    return closing;
}

/* True when the host has nothing to do and should go; it is CLOSING then. */
static bool should_close(struct host *h)
{
    pthread_mutex_lock(&h->infer->lock);
    const int64_t keep_ms = h->keep_alive_ms;
    const bool idle = h->sent.n == 0 && h->waiting.n == 0;
    const int64_t idle_ms = (clock_monotonic_ns() - h->idle_since_ns) / 1000000;
    if (h->state == HOST_READY && idle &&
        (h->infer->closing || (keep_ms >= 0 && idle_ms >= keep_ms))) {
        h->state = HOST_CLOSING;
    }
    const bool close = h->state == HOST_CLOSING && idle;
    ledger_grow(h);
    pthread_mutex_unlock(&h->infer->lock);
    return close;
}

/* Reads frames until the child is gone (false) or the host should close (true). */
static bool read_frames(struct host *h)
{
    struct buf payload;
    buf_init(&payload, REQUEST_BYTES_MAX);
    for (;;) {
        uint8_t type;
        struct err err = {0};
        const int rc = frame_recv(&h->conn, &type, &payload, TICK_MS, &err);
        if (rc == 0) {
            host_take_frame(h, type, &payload);
        } else if (rc != -ERR_TIMEOUT) {
            buf_release(&payload);
            return false;
        }
        if (should_close(h)) {
            buf_release(&payload);
            return true;
        }
    }
}

static void quit_child(struct host *h)
{
    struct err err = {0};
    struct proc_exit how;
    if (frame_send(&h->conn, 'Q', "", 0, SEND_TIMEOUT_MS, &err) != 0 ||
        proc_wait(&h->proc, QUIT_TIMEOUT_MS, &how, &err) != 0) {
        log_event(LOG_WARNING, "infer", "runner_killed", "model=\"%s\" error=\"%s\"", h->base_id,
                  err.message);
    }
}

static void host_forget(struct host *h)
{
    struct infer *infer = h->infer;
    pthread_mutex_lock(&infer->lock);
    for (int i = 0; i < infer->n_hosts; i++) {
        if (infer->hosts[i] == h) {
            infer->hosts[i] = infer->hosts[--infer->n_hosts];
            break;
        }
    }
    pthread_cond_broadcast(&infer->changed);
    pthread_mutex_unlock(&infer->lock);
    mem_free(h->base_path);
    mem_free(h);
}

static void *host_main(void *ctx)
{
    struct host *h = ctx;
    struct err err = {0};
    bool closed = false;
    while (!closed) {
        if (start_child(h, &err) != 0) {
            log_event(LOG_ERROR, "infer", "runner_failed", "model=\"%s\" error=\"%s\"", h->base_id,
                      err.message);
            break;
        }
        log_event(LOG_INFO, "infer", "runner_ready", "model=\"%s\" pid=%d", h->base_id,
                  (int)h->proc.pid);
        closed = read_frames(h);
        if (closed) {
            quit_child(h);
        } else {
            closed = put_back(h);
            log_event(closed ? LOG_INFO : LOG_WARNING, "infer", "runner_ended",
                      "model=\"%s\" pid=%d", h->base_id, (int)h->proc.pid);
            if (closed) { /* whoever waited still comes only with the hub's end */
                (void)err_set(&err, ERR_UNAVAILABLE, "the hub is shutting down");
            }
        }
        end_child(h);
    }
    end_child(h);
    pthread_mutex_lock(&h->infer->lock);
    h->state = HOST_CLOSING;
    pthread_mutex_unlock(&h->infer->lock);
    fail_all(h, &err);
    host_forget(h);
    return NULL;
}

/* --- finding --- */

static struct host *find_living(const struct infer *infer, const struct infer_spec *spec)
{
    for (int i = 0; i < infer->n_hosts; i++) {
        struct host *h = infer->hosts[i];
        if (strcmp(h->base_key, spec->base_key) == 0 && h->state != HOST_CLOSING) {
            return h;
        }
    }
    return NULL;
}

static int host_new(struct infer *infer, const struct infer_spec *spec, struct host **out,
                    struct err *err)
{
    struct host *h = mem_calloc(1, sizeof *h);
    char *path = mem_strdup(spec->base_path);
    if (h == NULL || path == NULL || infer->n_hosts == HOSTS_MAX) {
        mem_free(h);
        mem_free(path);
        return mem_err(err, sizeof *h);
    }
    h->infer = infer;
    h->base_path = path;
    h->memory_bytes = spec->memory_bytes;
    h->kv_least = spec->kv_bytes;
    h->kv_bytes = spec->kv_bytes;
    h->kv_asked = spec->kv_bytes;
    h->keep_alive_ms = infer->settings.keep_alive_ms;
    h->last_used_us = clock_wall_us();
    (void)snprintf(h->base_id, sizeof h->base_id, "%s", spec->base_id);
    (void)snprintf(h->base_key, sizeof h->base_key, "%s", spec->base_key);
    infer->hosts[infer->n_hosts++] = h;
    ledger_grow(h);
    const int failed = thread_start_detached(host_main, h);
    if (failed) {
        infer->n_hosts--;
        mem_free(h->base_path);
        mem_free(h);
        return err_set_errno(err, failed, "no thread could be started");
    }
    *out = h;
    return 0;
}

int host_find(struct infer *infer, const struct infer_spec *spec, struct host **out,
              struct err *err)
{
    bool missed = false;
    bool asked = false;
    int rc;
    do { /* meanwhile another request may have started it, a job may insist, the hub may end */
        rc = infer->closing ? err_set(err, ERR_UNAVAILABLE, "the hub is shutting down")
                            : ledger_check_new(infer, err);
        if (rc != 0) {
            return rc;
        }
        *out = find_living(infer, spec);
        if (!missed) {
            metric_add(
                metric_get(*out != NULL ? METRIC_MODEL_CACHE_HITS : METRIC_MODEL_CACHE_MISSES), 1);
        }
        if (*out != NULL) {
            return 0;
        }
        missed = true;
        rc = ledger_make_room(infer, spec->memory_bytes, &asked, err);
    } while (rc > 0);
    return rc == 0 ? host_new(infer, spec, out, err) : rc;
}
