/* The runner's two threads.
 *
 *   reader: frame ─▶ parsed, rendered, tokenised ─▶ command queue (bounded) ─▶ model thread
 *   model:  takes commands between steps; scheduler_step; events go straight to the socket
 *
 * Invariants
 *   1. Only the model thread touches the engine's model, adapters and scheduler; the reader uses
 * the tokenizer and templates, which are immutable or its own.
 *   2. A job is owned by the queue until taken, then by the model thread until its last event.
 *   3. A full queue makes the reader wait, so the socket pushes back on the hub.
 *   4. An adapter stays while a job uses it; otherwise the least recently used one goes. */
#include "infer/runner.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/thread.h"
#include "infer/runner_private.h"

/* --- answers --- */

void runner_send(struct runner *r, uint8_t type, struct buf *buf)
{
    struct err err = {0};
    int rc = buf_check(buf, "an answer", &err);
    if (rc == 0) {
        rc = frame_send(&r->conn, type, buf->data, buf->len, SEND_TIMEOUT_MS, &err);
    }
    if (rc != 0 && err.code != ERR_CLOSED) {
        log_event(LOG_ERROR, "infer", "answer_lost", "error=\"%s\"", err.message);
    }
}

void runner_send_failed(struct runner *r, const uint32_t *number, const struct err *cause)
{
    struct buf buf;
    struct json_out out;
    buf_init(&buf, ANSWER_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    if (number != NULL) {
        json_out_kv_int(&out, "r", *number);
    }
    json_out_kv_int(&out, "code", cause->code);
    json_out_kv_string(&out, "message", cause->message);
    json_out_object_end(&out);
    runner_send(r, 'x', &buf);
    buf_release(&buf);
}

static void send_opened(struct runner *r)
{
    const struct engine_info *info = engine_model_info(r->model);
    struct buf buf;
    struct json_out out;
    buf_init(&buf, ANSWER_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_string(&out, "engine", info->engine);
    json_out_kv_string(&out, "isa", info->isa);
    json_out_kv_int(&out, "numerics_version", ENGINE_NUMERICS_VERSION);
    json_out_kv_int(&out, "threads", info->threads);
    json_out_kv_int(&out, "context_length", info->context_length);
    json_out_kv_int(&out, "vocab_size", info->vocab_size);
    json_out_kv_int(&out, "memory_bytes", (int64_t)mem_used());
    json_out_kv_int(&out, "prefix_bytes", (int64_t)scheduler_prefix_bytes(r->scheduler));
    json_out_object_end(&out);
    runner_send(r, 'o', &buf);
    buf_release(&buf);
}

/* --- the model thread --- */

/* Takes the next command; waits for one only while nothing is being generated. */
static bool next_command(struct runner *r, struct command *command)
{
    bool have;
    pthread_mutex_lock(&r->lock);
    while (r->queue_n == 0 && scheduler_active(r->scheduler) == 0) {
        pthread_cond_wait(&r->changed, &r->lock);
    }
    have = r->queue_n > 0;
    if (have) {
        *command = r->queue[r->queue_begin];
        r->queue_begin = (r->queue_begin + 1) % QUEUE_MAX;
        r->queue_n--;
        pthread_cond_broadcast(&r->changed);
    }
    pthread_mutex_unlock(&r->lock);
    return have;
}

static void limit_kv(struct runner *r, uint64_t bytes)
{
    struct buf buf;
    buf_init(&buf, ANSWER_BYTES_MAX);
    buf_printf(&buf, "{\"kv_bytes\":%" PRIu64 "}", scheduler_limit_kv(r->scheduler, bytes));
    runner_send(r, 'k', &buf);
    buf_release(&buf);
}

/* Runs until COMMAND_QUIT has come and nothing is left to generate. */
static void run_model(struct runner *r)
{
    bool quitting = false;
    while (!quitting || scheduler_active(r->scheduler) > 0) {
        struct command command;
        while (next_command(r, &command)) {
            if (command.kind == COMMAND_JOB) {
                runner_begin_job(r, command.job);
            } else if (command.kind == COMMAND_CANCEL) {
                runner_cancel_job(r, command.number);
            } else if (command.kind == COMMAND_LIMIT) {
                limit_kv(r, command.kv_bytes);
            } else {
                quitting = true;
                break;
            }
        }
        scheduler_step(r->scheduler);
    }
}

/* --- the reader thread --- */

void runner_put(struct runner *r, struct command command)
{
    pthread_mutex_lock(&r->lock);
    while (r->queue_n == QUEUE_MAX) {
        pthread_cond_wait(&r->changed, &r->lock);
    }
    r->queue[(r->queue_begin + r->queue_n++) % QUEUE_MAX] = command;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void take_frame(struct runner *r, uint8_t type, const struct buf *payload)
{
    struct err err = {0};
    json_t *request = json_parse(payload->data, payload->len, &err);
    if (request == NULL) {
        runner_send_failed(r, NULL, &err);
        return;
    }
    const uint32_t number = (uint32_t)json_integer_value(json_object_get(request, "r"));
    if (type == 'G') {
        runner_take_job(r, request, number);
    } else if (type == 'C') {
        const struct command command = {.kind = COMMAND_CANCEL, .number = number};
        runner_put(r, command);
    } else if (type == 'K') {
        const struct command command = {
            .kind = COMMAND_LIMIT,
            .kv_bytes = (uint64_t)json_integer_value(json_object_get(request, "kv_bytes"))};
        runner_put(r, command);
    } else if (type == 'T') {
        runner_answer_text(r, request, number);
    }
    json_decref(request);
}

static void *read_frames(void *ctx)
{
    struct runner *r = ctx;
    struct err err = {0};
    struct buf payload;
    uint8_t type = 0;
    buf_init(&payload, FRAME_BYTES_MAX);
    while (type != 'Q' && frame_recv(&r->conn, &type, &payload, -1, &err) == 0) {
        if (type != 'Q') {
            take_frame(r, type, &payload);
        }
    }
    buf_release(&payload);
    if (type != 'Q') {
        _exit(PROC_EXIT_ORPHANED); /* the hub is gone: so is everything that waits for an answer */
    }
    const struct command command = {.kind = COMMAND_QUIT};
    runner_put(r, command);
    return NULL;
}

/* --- the process --- */

/* Where this base's kept pages go, when they are wanted on disk. */
static int name_prefix_file(struct runner *r, const json_t *request, const char *cache_dir,
                            struct err *err)
{
    const char *key = NULL;
    char name[INFER_KEY_BYTES + 16];
    int rc = json_get_string(request, "base_key", NULL, &key, err);
    if (rc != 0 || !json_is_true(json_object_get(request, "prefix_disk")) || key == NULL ||
        cache_dir == NULL || key[0] == '\0' || strlen(key) >= sizeof r->base_key ||
        strspn(key, "0123456789abcdef") < strlen(key)) {
        return rc;
    }
    memcpy(r->base_key, key, strlen(key) + 1);
    (void)snprintf(name, sizeof name, "%s.prefixes", key);
    return fs_join(r->prefix_file, cache_dir, name, err);
}

static void load_prefixes(struct runner *r)
{
    struct err err = {0};
    if (r->prefix_file[0] != '\0' &&
        scheduler_load_prefixes(r->scheduler, r->prefix_file, r->base_key, &err) != 0 &&
        err.code != ERR_NOT_FOUND) {
        log_event(LOG_WARNING, "infer", "prefixes_ignored", "file=\"%s\" reason=\"%s\"",
                  r->prefix_file, err.message);
    }
}

static void save_prefixes(struct runner *r)
{
    struct err err = {0};
    if (r->prefix_file[0] != '\0' &&
        scheduler_save_prefixes(r->scheduler, r->prefix_file, r->base_key, &err) != 0) {
        log_event(LOG_WARNING, "infer", "prefixes_lost", "file=\"%s\" reason=\"%s\"",
                  r->prefix_file, err.message);
    }
}

static int open_model(struct runner *r, const json_t *request, struct err *err)
{
    struct engine_options options = {0};
    const char *path = NULL;
    int64_t threads = 0;
    int64_t context = 0;
    int64_t kv_bytes = 0;
    int64_t sessions = 1;
    int64_t prefix_bytes = 0;
    int rc = json_get_string(request, "path", NULL, &path, err);
    if (rc == 0) {
        rc = json_get_string(request, "isa", "best", &options.isa, err);
    }
    if (rc == 0) {
        rc = json_get_string(request, "cache_dir", NULL, &options.cache_dir, err);
    }
    if (rc == 0) {
        rc = json_get_int(request, "threads", 0, &threads, err);
    }
    if (rc == 0) {
        rc = json_get_int(request, "context_length", 0, &context, err);
    }
    if (rc == 0) {
        rc = json_get_int(request, "kv_bytes", 0, &kv_bytes, err);
    }
    if (rc == 0) {
        rc = json_get_int(request, "max_sessions", 1, &sessions, err);
    }
    if (rc == 0) {
        rc = json_get_int(request, "prefix_bytes", 0, &prefix_bytes, err);
    }
    if (rc == 0 && path == NULL) {
        rc = err_set(err, ERR_INTERNAL, "no path to open");
    }
    options.threads = (int)threads;
    options.context_length = (int)context;
    options.kv_bytes_max = (size_t)kv_bytes;
    if (rc == 0) {
        rc = engine_model_open(&r->model, path, &options, err);
    }
    if (rc == 0) {
        rc = scheduler_new(&r->scheduler, r->model, (int)sessions, err);
    }
    if (rc == 0) {
        scheduler_keep_prefixes(r->scheduler, (uint64_t)prefix_bytes);
        rc = name_prefix_file(r, request, options.cache_dir, err);
    }
    if (rc == 0) {
        load_prefixes(r);
    }
    return rc;
}

static int receive_open(struct runner *r, struct err *err)
{
    struct buf payload;
    uint8_t type;
    json_t *request = NULL;
    buf_init(&payload, FRAME_BYTES_MAX);
    int rc = frame_recv(&r->conn, &type, &payload, -1, err);
    if (rc == 0) {
        request = json_parse(payload.data, payload.len, err);
        rc = request == NULL ? -(int)err->code
             : type != 'O'   ? err_set(err, ERR_INTERNAL, "the first frame must open a model")
                             : open_model(r, request, err);
        if (rc != 0) {
            runner_send_failed(r, NULL, err);
        }
    }
    json_decref(request);
    buf_release(&payload);
    return rc;
}

static void runner_release(struct runner *r)
{
    scheduler_free(r->scheduler);
    for (int i = 0; i < ADAPTERS_MAX; i++) {
        engine_adapter_free(r->adapters[i].adapter);
    }
    prompter_release(&r->prompter);
    grammar_vocab_free(r->vocab);
    engine_model_free(r->model);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    frame_conn_release(&r->conn);
}

int runner_main(int control_fd)
{
    struct err err = {0};
    struct runner r = {0};
    pthread_t reader;
    int rc = proc_child_init(control_fd, &err);
    if (rc == 0) {
        rc = frame_conn_init(&r.conn, control_fd, &err);
    }
    if (rc != 0) {
        log_event(LOG_ERROR, "infer", "runner_start", "error=\"%s\"", err.message);
        return 1;
    }
    pthread_mutex_init(&r.lock, NULL);
    pthread_cond_init(&r.changed, NULL);
    rc = receive_open(&r, &err);
    if (rc == 0) {
        prompter_init(&r.prompter, r.model);
        send_opened(&r);
        if (thread_start(&reader, read_frames, &r) == 0) {
            run_model(&r);
            pthread_join(reader, NULL);
            save_prefixes(&r);
        } else {
            rc = err_set(&err, ERR_UNAVAILABLE, "no thread could be started");
        }
    }
    runner_release(&r);
    return rc == 0 ? 0 : 1;
}
