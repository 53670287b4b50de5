/* Runners and the requests on them, seen from the hub.
 *
 * One `struct host` per loaded base: a child process, the thread that reads its frames, and its
 * requests in two lists.
 *
 *   host:    STARTING ─▶ READY ─▶ (child dies) ─▶ STARTING again with what it was answering
 *                │          └─ idle past keep_alive, unloaded, evicted ─▶ CLOSING ─▶ gone
 *                └─ cannot open ─▶ all requests fail ─▶ gone
 *   request: waiting ─▶ sent ─▶ accepted ─▶ tokens ─▶ last event ─▶ freed
 *
 * Invariants
 *   1. `lock` guards the lists, counts and states; it is not held over events, spawning or waiting.
 *      Frames are sent under it, so that order on the socket is order in the lists.
 *   2. At most max_sessions requests of a host are sent; the others wait in order.
 *   3. Events of a request come from its host's thread only, which also frees it after the last.
 *   4. What was delivered is kept as token ids; a fresh runner takes them as given and goes on.
 *   5. The ledger counts a host's memory from before its child is started until it has ended. */
#include "infer/infer.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/frame.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "infer/spec_json.h"
#include "text/tokenizer.h"

enum {
    HOSTS_MAX = 64,
    TICK_MS = 500, /* how often a quiet host looks at its idle time */
    SEND_TIMEOUT_MS = 10000,
    QUIT_TIMEOUT_MS = 10000,
    CRASHES_MAX = 2, /* a request present at so many is given up */
    REQUEST_BYTES_MAX = 32 << 20,
    SENT_TOKENS_MAX = 1 << 20
};

enum host_state { HOST_STARTING, HOST_READY, HOST_CLOSING };

struct host;

struct infer_request {
    struct infer_request *next;
    struct host *host;
    uint32_t number;
    bool is_text;
    bool cancelled;
    bool on_runner; /* sent to the child that is running now */
    bool accepted;  /* its client knows */
    int crashes;
    char *body; /* members of the frame's object, without braces */
    uint64_t seed;
    struct token_ids sent;
    struct infer_events events;
    void *ctx;
    int64_t submitted_ns, first_ns;
    /* text operations: the caller waits for done */
    bool done;
    struct buf *result;
    struct err *err;
    int rc;
};

struct list {
    struct infer_request *first, *last;
    int n;
};

struct host {
    struct infer *infer;
    char base_id[512];
    char base_key[INFER_KEY_BYTES];
    char *base_path;
    enum host_state state;
    pthread_t thread;
    bool have_child;
    struct proc proc;
    struct frame_conn conn;
    uint64_t memory_bytes;
    int64_t loaded_at_us, last_used_us, idle_since_ns;
    char engine[16];
    int numerics_version;
    struct list sent, waiting;
};

struct infer {
    struct settings settings;
    char *program;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a text operation is done, or a host is gone */
    struct host *hosts[HOSTS_MAX];
    int n_hosts;
    int n_requests;
    uint32_t next_number;
    uint64_t memory_bytes_max;
    bool closing;
};

/* --- lists --- */

static void list_push(struct list *list, struct infer_request *r)
{
    r->next = NULL;
    if (list->last != NULL) {
        list->last->next = r;
    } else {
        list->first = r;
    }
    list->last = r;
    list->n++;
}

static struct infer_request *list_take(struct list *list, uint32_t number)
{
    struct infer_request *before = NULL;
    for (struct infer_request *r = list->first; r != NULL; before = r, r = r->next) {
        if (r->number != number) {
            continue;
        }
        if (before != NULL) {
            before->next = r->next;
        } else {
            list->first = r->next;
        }
        list->last = list->last == r ? before : list->last;
        list->n--;
        return r;
    }
    return NULL;
}

static struct infer_request *list_find(const struct list *list, uint32_t number)
{
    struct infer_request *r = list->first;
    while (r != NULL && r->number != number) {
        r = r->next;
    }
    return r;
}

/* --- requests --- */

static void request_free(struct infer_request *r)
{
    mem_free(r->body);
    token_ids_release(&r->sent);
    mem_free(r);
}

/* The last event of a request that has left its host's lists. */
static void request_fail(struct infer *infer, struct infer_request *r, const struct err *err)
{
    if (r->is_text) {
        pthread_mutex_lock(&infer->lock);
        r->rc = err_set(r->err, err->code, "%s", err->message);
        r->done = true;
        pthread_cond_broadcast(&infer->changed);
        pthread_mutex_unlock(&infer->lock);
        return; /* its caller frees it */
    }
    r->events.failed(r->ctx, err);
    request_free(r);
}

static bool send_request(struct host *h, const struct infer_request *r)
{
    struct buf buf;
    struct err err = {0};
    buf_init(&buf, REQUEST_BYTES_MAX);
    buf_printf(&buf, "{\"r\":%u,", r->number);
    buf_puts(&buf, r->body);
    if (r->sent.n > 0) {
        buf_puts(&buf, ",\"sent\":[");
        for (size_t i = 0; i < r->sent.n; i++) {
            buf_printf(&buf, "%s%d", i > 0 ? "," : "", (int)r->sent.ids[i]);
        }
        buf_puts(&buf, "]");
    }
    buf_puts(&buf, "}");
    int rc = buf_check(&buf, "a request", &err);
    if (rc == 0) {
        rc = frame_send(&h->conn, r->is_text ? 'T' : 'G', buf.data, buf.len, SEND_TIMEOUT_MS, &err);
    }
    buf_release(&buf);
    return rc == 0;
}

static void send_cancel(struct host *h, uint32_t number)
{
    struct buf buf;
    struct err err = {0};
    buf_init(&buf, 64);
    buf_printf(&buf, "{\"r\":%u}", number);
    if (frame_send(&h->conn, 'C', buf.data, buf.len, SEND_TIMEOUT_MS, &err) != 0) {
        log_event(LOG_DEBUG, "infer", "cancel_unsent", "error=\"%s\"", err.message);
    }
    buf_release(&buf);
}

/* Sends waiting requests while there is room. A request that cannot be sent stays in `sent`: the
 * connection is broken, and the reader is about to find out. Under lock. */
static void pump(struct host *h)
{
    while (h->state == HOST_READY && h->waiting.first != NULL &&
           h->sent.n < h->infer->settings.max_sessions) {
        struct infer_request *r = list_take(&h->waiting, h->waiting.first->number);
        list_push(&h->sent, r);
        r->on_runner = send_request(h, r);
        if (r->cancelled) {
            send_cancel(h, r->number);
        }
    }
}

/* --- frames from a runner --- */

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

static void on_accepted(struct host *h, const json_t *frame)
{
    pthread_mutex_lock(&h->infer->lock);
    struct infer_request *r =
        list_find(&h->sent, (uint32_t)json_integer_value(json_object_get(frame, "r")));
    const bool tell = r != NULL && !r->accepted;
    if (tell) {
        r->accepted = true;
    }
    pthread_mutex_unlock(&h->infer->lock);
    if (tell) {
        struct infer_accepted a = {
            .prompt_tokens = (int)json_integer_value(json_object_get(frame, "prompt_tokens")),
            .seed = r->seed,
            .numerics_version = h->numerics_version};
        memcpy(a.engine, h->engine, sizeof a.engine);
        r->events.accepted(r->ctx, &a);
    }
}

static void on_token(struct host *h, const struct buf *payload)
{
    uint32_t head[3];
    struct err err = {0};
    if (payload->len < sizeof head) {
        return;
    }
    memcpy(head, payload->data, sizeof head);
    pthread_mutex_lock(&h->infer->lock);
    struct infer_request *r = list_find(&h->sent, head[0]);
    bool tell = r != NULL && head[1] == r->sent.n;
    if (tell) {
        tell = token_ids_push(&r->sent, (int32_t)head[2], &err) == 0;
        r->first_ns = r->first_ns != 0 ? r->first_ns : clock_monotonic_ns();
    }
    pthread_mutex_unlock(&h->infer->lock);
    if (tell) {
        r->events.token(r->ctx, (int)head[1], (int32_t)head[2], payload->data + sizeof head,
                        payload->len - sizeof head);
    }
}

/* Takes a request out of its lists and gives its place to the next one. */
static struct infer_request *leave(struct host *h, uint32_t number)
{
    struct infer *infer = h->infer;
    pthread_mutex_lock(&infer->lock);
    struct infer_request *r = list_take(&h->sent, number);
    if (r == NULL) {
        r = list_take(&h->waiting, number);
    }
    if (r != NULL) {
        infer->n_requests--;
        h->last_used_us = clock_wall_us();
        h->idle_since_ns = clock_monotonic_ns();
        pump(h);
    }
    pthread_mutex_unlock(&infer->lock);
    return r;
}

static void on_done(struct host *h, const json_t *frame)
{
    struct infer_request *r = leave(h, (uint32_t)json_integer_value(json_object_get(frame, "r")));
    if (r == NULL) {
        return;
    }
    const int64_t now = clock_monotonic_ns();
    const json_t *text = json_object_get(frame, "text");
    const int n = (int)json_integer_value(json_object_get(frame, "completion_tokens"));
    struct infer_done done = {
        .finish_reason = json_string_value(json_object_get(frame, "finish_reason")),
        .text = json_string_value(text),
        .text_bytes = json_string_length(text),
        .prompt_tokens = (int)json_integer_value(json_object_get(frame, "prompt_tokens")),
        .completion_tokens = n,
        .time_to_first_token = seconds((r->first_ns != 0 ? r->first_ns : now) - r->submitted_ns),
        .total_time = seconds(now - r->submitted_ns),
        .queue_time = seconds(json_integer_value(json_object_get(frame, "queue_ns"))),
        .tokens_per_second = json_number_value(json_object_get(frame, "tokens_per_second")),
        .seed = r->seed,
        .numerics_version = h->numerics_version};
    memcpy(done.engine, h->engine, sizeof done.engine);
    r->events.done(r->ctx, &done);
    request_free(r);
}

static void on_result(struct host *h, const json_t *frame)
{
    struct infer *infer = h->infer;
    struct infer_request *r = leave(h, (uint32_t)json_integer_value(json_object_get(frame, "r")));
    if (r == NULL) {
        return;
    }
    struct json_out out;
    json_out_init(&out, r->result);
    json_out_tree(&out, json_object_get(frame, "result"));
    pthread_mutex_lock(&infer->lock);
    r->rc = buf_check(r->result, "the answer", r->err);
    r->done = true;
    pthread_cond_broadcast(&infer->changed);
    pthread_mutex_unlock(&infer->lock);
}

static void frame_error(const json_t *frame, struct err *err)
{
    const int64_t code = json_integer_value(json_object_get(frame, "code"));
    const char *message = json_string_value(json_object_get(frame, "message"));
    (void)err_set(err, code > 0 && code < ERR_CODE_COUNT ? (enum err_code)code : ERR_INTERNAL, "%s",
                  message != NULL ? message : "the runner failed");
}

static void on_failed(struct host *h, const json_t *frame)
{
    struct err err = {0};
    struct infer_request *r = leave(h, (uint32_t)json_integer_value(json_object_get(frame, "r")));
    if (r != NULL) {
        frame_error(frame, &err);
        request_fail(h->infer, r, &err);
    }
}

static void take_frame(struct host *h, uint8_t type, const struct buf *payload)
{
    struct err err = {0};
    if (type == 't') {
        on_token(h, payload);
        return;
    }
    json_t *frame = json_parse(payload->data, payload->len, &err);
    if (frame == NULL) {
        log_event(LOG_ERROR, "infer", "bad_frame", "error=\"%s\"", err.message);
    } else if (type == 'a') {
        on_accepted(h, frame);
    } else if (type == 'd') {
        on_done(h, frame);
    } else if (type == 'j') {
        on_result(h, frame);
    } else if (type == 'x') {
        on_failed(h, frame);
    }
    json_decref(frame);
}

/* --- the life of a host --- */

static int send_open(struct host *h, struct err *err)
{
    const struct settings *s = &h->infer->settings;
    struct buf buf;
    struct json_out out;
    char cache[FS_PATH_BYTES_MAX];
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
    if (bytes > 0 && (uint64_t)bytes > h->memory_bytes) {
        h->memory_bytes = (uint64_t)bytes;
    }
    h->state = HOST_READY;
    h->loaded_at_us = clock_wall_us();
    h->idle_since_ns = clock_monotonic_ns();
    pump(h);
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
            frame_error(frame, err);
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
        struct list *list = h->sent.first != NULL ? &h->sent : &h->waiting;
        struct infer_request *r = list->first;
        if (r != NULL) {
            (void)list_take(list, r->number);
            h->infer->n_requests--;
        }
        pthread_mutex_unlock(&h->infer->lock);
        if (r == NULL) {
            return;
        }
        request_fail(h->infer, r, err);
    }
}

/* After a crash: who was present twice is given up, the others wait again, in front and in order.
 * A host that was told to close stays closing. */
static bool put_back(struct host *h)
{
    struct err err = {0};
    struct list given_up = {0};
    struct list again = {0};
    (void)err_set(&err, ERR_INTERNAL,
                  "the process that answered ended unexpectedly %d times during this request",
                  CRASHES_MAX);
    pthread_mutex_lock(&h->infer->lock);
    const bool closing = h->state == HOST_CLOSING;
    h->state = closing ? HOST_CLOSING : HOST_STARTING;
    while (h->sent.first != NULL) {
        struct infer_request *r = list_take(&h->sent, h->sent.first->number);
        r->crashes += r->on_runner;
        r->on_runner = false;
        list_push(r->crashes >= CRASHES_MAX ? &given_up : &again, r);
        h->infer->n_requests -= r->crashes >= CRASHES_MAX;
    }
    while (h->waiting.first != NULL) {
        list_push(&again, list_take(&h->waiting, h->waiting.first->number));
    }
    h->waiting = again;
    pthread_mutex_unlock(&h->infer->lock);
    while (given_up.first != NULL) {
        request_fail(h->infer, list_take(&given_up, given_up.first->number), &err);
    }
    return closing;
}

/* True when the host has nothing to do and should go; it is CLOSING then. */
static bool should_close(struct host *h)
{
    const int64_t keep_ms = h->infer->settings.keep_alive_ms;
    pthread_mutex_lock(&h->infer->lock);
    const bool idle = h->sent.n == 0 && h->waiting.n == 0;
    const int64_t idle_ms = (clock_monotonic_ns() - h->idle_since_ns) / 1000000;
    if (h->state == HOST_READY && idle &&
        (h->infer->closing || (keep_ms >= 0 && idle_ms >= keep_ms))) {
        h->state = HOST_CLOSING;
    }
    const bool close = h->state == HOST_CLOSING && idle;
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
            take_frame(h, type, &payload);
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

/* --- room for one more model --- */

static uint64_t memory_used(const struct infer *infer)
{
    uint64_t used = 0;
    for (int i = 0; i < infer->n_hosts; i++) {
        used += infer->hosts[i]->memory_bytes;
    }
    return used;
}

/* The idle host that was used longest ago, or NULL. */
static struct host *idlest(const struct infer *infer)
{
    struct host *best = NULL;
    for (int i = 0; i < infer->n_hosts; i++) {
        struct host *h = infer->hosts[i];
        if (h->state == HOST_READY && h->sent.n == 0 && h->waiting.n == 0 &&
            (best == NULL || h->last_used_us < best->last_used_us)) {
            best = h;
        }
    }
    return best;
}

static void wake(struct host *h)
{
    struct err err = {0};
    if (frame_send(&h->conn, 'Q', "", 0, SEND_TIMEOUT_MS, &err) != 0) {
        log_event(LOG_DEBUG, "infer", "quit_unsent", "error=\"%s\"", err.message);
    }
}

/* Evicts idle hosts until one of `bytes` fits. Under lock, which is given up while waiting. */
static int make_room(struct infer *infer, uint64_t bytes, struct err *err)
{
    if (bytes > infer->memory_bytes_max) {
        return err_set(err, ERR_UNAVAILABLE,
                       "the model needs %.2f GB and the memory limit is %.2f GB",
                       (double)bytes / 1e9, (double)infer->memory_bytes_max / 1e9);
    }
    while (infer->n_hosts >= infer->settings.max_models ||
           memory_used(infer) + bytes > infer->memory_bytes_max) {
        struct host *victim = idlest(infer);
        if (victim != NULL) {
            victim->state = HOST_CLOSING;
            wake(victim);
        }
        bool closing = false;
        for (int i = 0; i < infer->n_hosts; i++) {
            closing = closing || infer->hosts[i]->state == HOST_CLOSING;
        }
        if (!closing) {
            return err_set(err, ERR_UNAVAILABLE,
                           "the model needs %.2f GB; %.2f of %.2f GB are in use by %d busy models "
                           "(at most %d)",
                           (double)bytes / 1e9, (double)memory_used(infer) / 1e9,
                           (double)infer->memory_bytes_max / 1e9, infer->n_hosts,
                           infer->settings.max_models);
        }
        pthread_cond_wait(&infer->changed, &infer->lock);
    }
    return 0;
}

static int host_new(struct infer *infer, const struct infer_spec *spec, struct host **out,
                    struct err *err)
{
    int rc = make_room(infer, spec->memory_bytes, err);
    if (rc != 0) {
        return rc;
    }
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
    h->last_used_us = clock_wall_us();
    (void)snprintf(h->base_id, sizeof h->base_id, "%s", spec->base_id);
    (void)snprintf(h->base_key, sizeof h->base_key, "%s", spec->base_key);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    const int failed = pthread_create(&h->thread, &attr, host_main, h);
    pthread_attr_destroy(&attr);
    if (failed) {
        mem_free(h->base_path);
        mem_free(h);
        return err_set_errno(err, failed, "no thread could be started");
    }
    infer->hosts[infer->n_hosts++] = h;
    *out = h;
    return 0;
}

static int host_for(struct infer *infer, const struct infer_spec *spec, struct host **out,
                    struct err *err)
{
    for (int i = 0; i < infer->n_hosts; i++) {
        struct host *h = infer->hosts[i];
        if (strcmp(h->base_key, spec->base_key) == 0 && h->state != HOST_CLOSING) {
            *out = h;
            return 0;
        }
    }
    return host_new(infer, spec, out, err);
}

/* --- the door --- */

int infer_new(struct infer **out, const struct settings *settings, const char *program,
              struct err *err)
{
    struct infer *infer = mem_calloc(1, sizeof *infer);
    if (infer == NULL) {
        return mem_err(err, sizeof *infer);
    }
    infer->settings = *settings;
    infer->program = program != NULL ? mem_strdup(program) : NULL;
    if (program != NULL && infer->program == NULL) {
        mem_free(infer);
        return mem_err(err, strlen(program));
    }
    infer->memory_bytes_max = (uint64_t)(settings->memory_limit_gb * 1073741824.0);
    infer->next_number = 1;
    pthread_mutex_init(&infer->lock, NULL);
    pthread_cond_init(&infer->changed, NULL);
    *out = infer;
    return 0;
}

void infer_free(struct infer *infer, int drain_ms)
{
    if (infer == NULL) {
        return;
    }
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += drain_ms / 1000;
    deadline.tv_nsec += (long)(drain_ms % 1000) * 1000000;
    deadline.tv_sec += deadline.tv_nsec / 1000000000;
    deadline.tv_nsec %= 1000000000;
    pthread_mutex_lock(&infer->lock);
    infer->closing = true;
    int timed_out = 0;
    while (infer->n_hosts > 0 && !timed_out) {
        timed_out = pthread_cond_timedwait(&infer->changed, &infer->lock, &deadline) != 0;
    }
    for (int i = 0; i < infer->n_hosts; i++) {
        struct host *h = infer->hosts[i];
        h->state = HOST_CLOSING;
        for (struct infer_request *r = h->sent.first; r != NULL; r = r->next) {
            r->crashes = CRASHES_MAX; /* no replay: the hub is going */
        }
        if (h->have_child) {
            proc_kill(&h->proc, SIGKILL);
        }
    }
    while (infer->n_hosts > 0) {
        pthread_cond_wait(&infer->changed, &infer->lock);
    }
    pthread_mutex_unlock(&infer->lock);
    pthread_cond_destroy(&infer->changed);
    pthread_mutex_destroy(&infer->lock);
    mem_free(infer->program);
    mem_free(infer);
}

/* Puts a request on its base's host. */
static int enqueue(struct infer *infer, const struct infer_spec *spec, struct infer_request *r,
                   struct err *err)
{
    struct host *h = NULL;
    pthread_mutex_lock(&infer->lock);
    int rc = 0;
    if (infer->closing) {
        rc = err_set(err, ERR_UNAVAILABLE, "the hub is shutting down");
    } else if (infer->n_requests >= infer->settings.max_queue + infer->settings.max_sessions) {
        rc = err_set(err, ERR_BUSY, "%d requests are waiting or running; the queue holds %d",
                     infer->n_requests, infer->settings.max_queue);
    } else {
        rc = host_for(infer, spec, &h, err);
    }
    if (rc == 0) {
        r->number = infer->next_number++;
        r->host = h;
        r->submitted_ns = clock_monotonic_ns();
        infer->n_requests++;
        list_push(&h->waiting, r);
        pump(h);
    }
    pthread_mutex_unlock(&infer->lock);
    return rc;
}

/* The request's members as they go to the runner. */
static int write_body(struct infer_request *r, const struct infer_spec *spec, struct err *err)
{
    struct buf buf;
    struct json_out out;
    buf_init(&buf, REQUEST_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    spec_write(&out, spec);
    json_out_object_end(&out);
    const int rc = buf_check(&buf, "the request", err);
    if (rc == 0) {
        buf.data[buf.len - 1] = '\0'; /* the members alone: braces come with the number */
        r->body = mem_strdup(buf.data + 1);
    }
    buf_release(&buf);
    return rc != 0 ? rc : r->body != NULL ? 0 : mem_err(err, 0);
}

int infer_submit(struct infer *infer, const struct infer_spec *given,
                 const struct infer_events *events, void *ctx, struct infer_request **out,
                 struct err *err)
{
    struct infer_spec spec = *given;
    int rc = infer_sampling_check(&spec.sampling, err);
    if (rc != 0) {
        return rc;
    }
    if (!spec.sampling.has_seed && rng_os_bytes(&spec.sampling.seed, sizeof spec.sampling.seed)) {
        return err_set(err, ERR_IO, "no random seed is to be had");
    }
    if (!spec.sampling.has_seed) {
        spec.sampling.seed &= INT64_MAX; /* a seed that every client can send back */
    }
    struct infer_request *r = mem_calloc(1, sizeof *r);
    if (r == NULL) {
        return mem_err(err, sizeof *r);
    }
    token_ids_init(&r->sent, SENT_TOKENS_MAX);
    r->events = *events;
    r->ctx = ctx;
    r->seed = spec.sampling.seed;
    *out = r; /* before the first event can come */
    rc = write_body(r, &spec, err);
    if (rc == 0) {
        rc = enqueue(infer, &spec, r, err);
    }
    if (rc != 0) {
        *out = NULL;
        request_free(r);
    }
    return rc;
}

void infer_cancel(struct infer_request *r)
{
    struct infer *infer = r->host->infer;
    pthread_mutex_lock(&infer->lock);
    r->cancelled = true;
    if (r->host->state == HOST_READY) {
        send_cancel(r->host, r->number);
    }
    pthread_mutex_unlock(&infer->lock);
}

/* op and arguments become members of the frame; values of `arguments` must not be named r or op. */
static int write_text_body(struct infer_request *r, enum infer_text_op op,
                           const struct infer_spec *spec, const json_t *arguments, struct err *err)
{
    json_t *body = json_deep_copy(arguments);
    int failed = body == NULL || json_object_set_new(body, "op", json_integer(op)) != 0;
    if (!failed && spec->chat_template != NULL && json_object_get(body, "template") == NULL) {
        failed = json_object_set_new(body, "template", json_string(spec->chat_template));
    }
    if (!failed && spec->date != NULL) {
        failed = json_object_set_new(body, "date", json_string(spec->date));
    }
    struct buf buf;
    struct json_out out;
    buf_init(&buf, REQUEST_BYTES_MAX);
    json_out_init(&out, &buf);
    if (!failed) {
        json_out_tree(&out, body);
    }
    int rc = failed ? mem_err(err, 0) : buf_check(&buf, "the request", err);
    if (rc == 0) {
        buf.data[buf.len - 1] = '\0';
        r->body = mem_strdup(buf.data + 1);
        rc = r->body != NULL ? 0 : mem_err(err, 0);
    }
    buf_release(&buf);
    json_decref(body);
    return rc;
}

int infer_text(struct infer *infer, enum infer_text_op op, const struct infer_spec *spec,
               const json_t *arguments, struct buf *out, struct err *err)
{
    struct infer_request *r = mem_calloc(1, sizeof *r);
    if (r == NULL) {
        return mem_err(err, sizeof *r);
    }
    token_ids_init(&r->sent, SENT_TOKENS_MAX);
    r->is_text = true;
    r->result = out;
    r->err = err;
    int rc = write_text_body(r, op, spec, arguments, err);
    if (rc == 0) {
        rc = enqueue(infer, spec, r, err);
    }
    if (rc == 0) {
        pthread_mutex_lock(&infer->lock);
        while (!r->done) {
            pthread_cond_wait(&infer->changed, &infer->lock);
        }
        rc = r->rc;
        pthread_mutex_unlock(&infer->lock);
    }
    request_free(r);
    return rc;
}

int infer_list(struct infer *infer, struct infer_cache *cache, struct err *err)
{
    memset(cache, 0, sizeof *cache);
    pthread_mutex_lock(&infer->lock);
    cache->models = mem_calloc((size_t)infer->n_hosts + 1, sizeof *cache->models);
    for (int i = 0; cache->models != NULL && i < infer->n_hosts; i++) {
        const struct host *h = infer->hosts[i];
        struct infer_model *m = &cache->models[cache->n_models++];
        memcpy(m->base_id, h->base_id, sizeof m->base_id);
        memcpy(m->base_key, h->base_key, sizeof m->base_key);
        m->pid = h->have_child ? (int)h->proc.pid : 0;
        m->memory_bytes = h->memory_bytes;
        m->active_requests = h->sent.n;
        m->loaded_at_us = h->loaded_at_us;
        m->last_used_us = h->last_used_us;
        cache->queued += h->waiting.n;
    }
    cache->max_models = infer->settings.max_models;
    cache->memory_bytes = memory_used(infer);
    cache->memory_bytes_max = infer->memory_bytes_max;
    pthread_mutex_unlock(&infer->lock);
    return cache->models != NULL ? 0 : mem_err(err, sizeof *cache->models);
}

int infer_unload(struct infer *infer, const char *base_key, struct err *err)
{
    int found = 0;
    int busy = 0;
    pthread_mutex_lock(&infer->lock);
    for (int i = 0; i < infer->n_hosts; i++) {
        struct host *h = infer->hosts[i];
        if (base_key != NULL && strcmp(h->base_key, base_key) != 0) {
            continue;
        }
        found++;
        if (h->sent.n > 0 || h->waiting.n > 0 || h->state == HOST_STARTING) {
            busy++;
        } else if (h->state == HOST_READY) {
            h->state = HOST_CLOSING;
            wake(h);
        }
    }
    pthread_mutex_unlock(&infer->lock);
    if (base_key != NULL && found == 0) {
        return err_set(err, ERR_NOT_FOUND, "no loaded model has the key '%s'", base_key);
    }
    if (base_key != NULL && busy > 0) {
        return err_set(err, ERR_CONFLICT, "the model is in use");
    }
    return 0;
}
