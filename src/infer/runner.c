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

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/frame.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "engine/adapter_files.h"
#include "engine/engine.h"
#include "infer/infer.h"
#include "infer/prompt.h"
#include "infer/scheduler.h"
#include "infer/spec_json.h"

enum {
    QUEUE_MAX = 256,
    ADAPTERS_MAX = 16,
    SENT_MAX = 1 << 20,
    SEND_TIMEOUT_MS = 60000,
    ANSWER_BYTES_MAX = 32 << 20
};

struct adapter_slot {
    char key[INFER_KEY_BYTES];
    struct engine_adapter *adapter;
    int users;
    int64_t last_used;
};

struct runner;

/* One request. */
struct job {
    struct runner *runner;
    struct job *next; /* of those inside the scheduler */
    uint32_t number;
    struct token_ids prompt;
    struct token_ids sent;
    struct infer_sampling sampling;
    bool has_adapter;
    char adapter_key[INFER_KEY_BYTES];
    char *adapter_path;
    float adapter_scale;
    struct adapter_slot *slot;
    struct scheduled *scheduled;
    int64_t received_ns, added_ns, first_ns;
};

enum command_kind { COMMAND_JOB, COMMAND_CANCEL, COMMAND_QUIT };

struct command {
    enum command_kind kind;
    uint32_t number;
    struct job *job;
};

struct runner {
    struct frame_conn conn;
    struct engine_model *model;
    struct prompter prompter;
    struct scheduler *scheduler;
    struct job *jobs;
    struct adapter_slot adapters[ADAPTERS_MAX];

    pthread_mutex_t lock;
    pthread_cond_t changed; /* something was put into or taken from the queue */
    struct command queue[QUEUE_MAX];
    size_t queue_begin, queue_n;
};

/* --- answers --- */

static void send_frame(struct runner *r, uint8_t type, struct buf *buf)
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

static void send_failed(struct runner *r, const uint32_t *number, const struct err *cause)
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
    send_frame(r, 'x', &buf);
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
    json_out_object_end(&out);
    send_frame(r, 'o', &buf);
    buf_release(&buf);
}

static void send_accepted(const struct job *job)
{
    struct buf buf;
    struct json_out out;
    buf_init(&buf, ANSWER_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_int(&out, "r", job->number);
    json_out_kv_int(&out, "prompt_tokens", (int64_t)job->prompt.n);
    json_out_object_end(&out);
    send_frame(job->runner, 'a', &buf);
    buf_release(&buf);
}

/* --- the model thread --- */

static void job_free(struct job *job)
{
    if (job->slot != NULL) {
        job->slot->users--;
    }
    token_ids_release(&job->prompt);
    token_ids_release(&job->sent);
    mem_free(job->adapter_path);
    mem_free(job);
}

static void job_forget(struct job *job)
{
    struct job **at = &job->runner->jobs;
    while (*at != NULL && *at != job) {
        at = &(*at)->next;
    }
    if (*at == job) {
        *at = job->next;
    }
    job_free(job);
}

static void on_token(void *ctx, int index, int32_t id, const char *text, size_t bytes)
{
    struct job *job = ctx;
    const uint32_t head[3] = {job->number, (uint32_t)index, (uint32_t)id};
    struct buf buf;
    if (job->first_ns == 0) {
        job->first_ns = clock_monotonic_ns();
    }
    buf_init(&buf, ANSWER_BYTES_MAX);
    buf_append(&buf, head, sizeof head);
    buf_append(&buf, text, bytes);
    send_frame(job->runner, 't', &buf);
    buf_release(&buf);
}

static void on_finished(void *ctx, enum finish finish, const char *text, size_t bytes, int n_tokens)
{
    struct job *job = ctx;
    const int64_t now = clock_monotonic_ns();
    const int64_t first = job->first_ns != 0 ? job->first_ns : now;
    const int decoded = n_tokens - (int)job->sent.n - 1;
    struct buf buf;
    struct json_out out;
    buf_init(&buf, ANSWER_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_int(&out, "r", job->number);
    json_out_kv_string(&out, "finish_reason", finish == FINISH_STOP ? "stop" : "length");
    json_out_key(&out, "text");
    json_out_string_n(&out, text != NULL ? text : "", bytes);
    json_out_kv_int(&out, "prompt_tokens", (int64_t)job->prompt.n);
    json_out_kv_int(&out, "completion_tokens", n_tokens);
    json_out_kv_int(&out, "queue_ns", job->added_ns - job->received_ns);
    json_out_kv_int(&out, "first_ns", first - job->received_ns);
    json_out_kv_real(&out, "tokens_per_second",
                     decoded > 0 && now > first ? (double)decoded * 1e9 / (double)(now - first)
                                                : 0.0);
    json_out_object_end(&out);
    send_frame(job->runner, 'd', &buf);
    buf_release(&buf);
    job_forget(job);
}

static void on_failed(void *ctx, const struct err *err)
{
    struct job *job = ctx;
    send_failed(job->runner, &job->number, err);
    job_forget(job);
}

/* A free slot, or the least recently used one without users; NULL when all are in use. */
static struct adapter_slot *slot_for(struct runner *r, const char *key)
{
    struct adapter_slot *best = NULL;
    for (int i = 0; i < ADAPTERS_MAX; i++) {
        struct adapter_slot *slot = &r->adapters[i];
        if (slot->adapter != NULL && strcmp(slot->key, key) == 0) {
            return slot;
        }
        if (slot->users == 0 && (best == NULL || slot->last_used < best->last_used)) {
            best = slot;
        }
    }
    return best;
}

static int use_adapter(struct runner *r, struct job *job, const struct engine_adapter **adapter,
                       struct err *err)
{
    *adapter = NULL;
    if (!job->has_adapter) {
        return 0;
    }
    struct adapter_slot *slot = slot_for(r, job->adapter_key);
    if (slot == NULL) {
        return err_set(err, ERR_BUSY, "all %d adapters are in use", ADAPTERS_MAX);
    }
    if (slot->adapter == NULL || strcmp(slot->key, job->adapter_key) != 0) {
        engine_adapter_free(slot->adapter);
        memset(slot, 0, sizeof *slot);
        const int rc = engine_adapter_load(&slot->adapter, r->model, job->adapter_path,
                                           job->adapter_scale, err);
        if (rc != 0) {
            return rc;
        }
        memcpy(slot->key, job->adapter_key, sizeof slot->key);
    }
    slot->users++;
    slot->last_used = clock_monotonic_ns();
    job->slot = slot;
    *adapter = slot->adapter;
    return 0;
}

static void begin_job(struct runner *r, struct job *job)
{
    static const struct scheduled_events events = {on_token, on_finished, on_failed};
    struct err err = {0};
    const struct engine_adapter *adapter;
    int rc = use_adapter(r, job, &adapter, &err);
    if (rc == 0) {
        const struct scheduled_spec spec = {.prompt = job->prompt.ids,
                                            .n_prompt = (int)job->prompt.n,
                                            .sent = job->sent.ids,
                                            .n_sent = (int)job->sent.n,
                                            .adapter = adapter,
                                            .sampling = job->sampling,
                                            .seed = job->sampling.seed};
        rc = scheduler_add(r->scheduler, &spec, &events, job, &job->scheduled, &err);
    }
    if (rc != 0) {
        send_failed(r, &job->number, &err);
        job_free(job);
        return;
    }
    job->added_ns = clock_monotonic_ns();
    job->next = r->jobs;
    r->jobs = job;
    send_accepted(job);
}

/* Answers also when it never saw the job: the hub may be holding it back and waits for this. */
static void cancel_job(struct runner *r, uint32_t number)
{
    const struct err cancelled = {.code = ERR_CANCELLED, .message = "cancelled"};
    for (struct job *job = r->jobs; job != NULL; job = job->next) {
        if (job->number == number) {
            scheduler_cancel(r->scheduler, job->scheduled);
            job_forget(job);
            break;
        }
    }
    send_failed(r, &number, &cancelled);
}

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

/* Runs until COMMAND_QUIT has come and nothing is left to generate. */
static void run_model(struct runner *r)
{
    bool quitting = false;
    while (!quitting || scheduler_active(r->scheduler) > 0) {
        struct command command;
        while (next_command(r, &command)) {
            if (command.kind == COMMAND_JOB) {
                begin_job(r, command.job);
            } else if (command.kind == COMMAND_CANCEL) {
                cancel_job(r, command.number);
            } else {
                quitting = true;
                break;
            }
        }
        scheduler_step(r->scheduler);
    }
}

/* --- the reader thread --- */

static void put_command(struct runner *r, struct command command)
{
    pthread_mutex_lock(&r->lock);
    while (r->queue_n == QUEUE_MAX) {
        pthread_cond_wait(&r->changed, &r->lock);
    }
    r->queue[(r->queue_begin + r->queue_n++) % QUEUE_MAX] = command;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static int read_adapter(struct job *job, const json_t *adapter, struct err *err)
{
    const char *key = NULL;
    const char *path = NULL;
    double scale = 0.0;
    if (!json_is_object(adapter)) {
        return 0;
    }
    int rc = json_get_string(adapter, "key", NULL, &key, err);
    if (rc == 0) {
        rc = json_get_string(adapter, "path", NULL, &path, err);
    }
    if (rc == 0) {
        rc = json_get_real(adapter, "scale", 0.0, &scale, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (key == NULL || path == NULL || strlen(key) >= sizeof job->adapter_key) {
        return err_set(err, ERR_INTERNAL, "an adapter without key or path");
    }
    job->has_adapter = true;
    job->adapter_scale = (float)scale;
    memcpy(job->adapter_key, key, strlen(key) + 1);
    job->adapter_path = mem_strdup(path);
    return job->adapter_path != NULL ? 0 : mem_err(err, strlen(path));
}

static int read_sent(struct job *job, const json_t *sent, struct err *err)
{
    size_t i;
    const json_t *id;
    json_array_foreach(sent, i, id)
    {
        const int rc = token_ids_push(&job->sent, (int32_t)json_integer_value(id), err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int read_job(struct runner *r, const json_t *request, struct job *job, struct err *err)
{
    int rc = sampling_read(json_object_get(request, "sampling"), &job->sampling, err);
    if (rc == 0) {
        rc = read_adapter(job, json_object_get(request, "adapter"), err);
    }
    if (rc == 0) {
        rc = read_sent(job, json_object_get(request, "sent"), err);
    }
    if (rc == 0) {
        rc = prompter_tokens(&r->prompter, request, &job->prompt, err);
    }
    return rc;
}

static void take_job(struct runner *r, const json_t *request, uint32_t number)
{
    struct err err = {0};
    struct job *job = mem_calloc(1, sizeof *job);
    if (job == NULL) {
        (void)mem_err(&err, sizeof *job);
        send_failed(r, &number, &err);
        return;
    }
    job->runner = r;
    job->number = number;
    job->received_ns = clock_monotonic_ns();
    token_ids_init(&job->prompt, TOKENIZER_TEXT_BYTES_MAX);
    token_ids_init(&job->sent, SENT_MAX);
    if (read_job(r, request, job, &err) != 0) {
        send_failed(r, &number, &err);
        job_free(job);
        return;
    }
    const struct command command = {COMMAND_JOB, number, job};
    put_command(r, command);
}

static int write_tokens(struct runner *r, const json_t *request, struct json_out *out,
                        struct err *err)
{
    const struct tokenizer *tok = engine_model_tokenizer(r->model);
    const char *text = json_string_value(json_object_get(request, "content"));
    const size_t n = json_string_length(json_object_get(request, "content"));
    const bool special = !json_is_false(json_object_get(request, "parse_special"));
    const unsigned flags =
        (json_is_true(json_object_get(request, "add_special")) ? (unsigned)TOKENIZER_ADD_SPECIAL
                                                               : 0u) |
        (special ? (unsigned)TOKENIZER_PARSE_SPECIAL : 0u);
    struct token_ids ids;
    token_ids_init(&ids, TOKENIZER_TEXT_BYTES_MAX);
    int rc = tok == NULL ? err_set(err, ERR_INVALID, "the model brings no tokenizer")
                         : tokenizer_encode(tok, text != NULL ? text : "", n, flags, &ids, err);
    json_out_key(out, "tokens");
    json_out_array(out);
    for (size_t i = 0; rc == 0 && i < ids.n; i++) {
        json_out_int(out, ids.ids[i]);
    }
    json_out_array_end(out);
    json_out_key(out, "pieces");
    json_out_array(out);
    for (size_t i = 0; rc == 0 && i < ids.n; i++) {
        size_t bytes;
        const char *piece = tokenizer_piece(tok, ids.ids[i], &bytes);
        json_out_string_n(out, piece, bytes);
    }
    json_out_array_end(out);
    token_ids_release(&ids);
    return rc;
}

static int write_text(struct runner *r, const json_t *request, struct json_out *out,
                      struct err *err)
{
    const struct tokenizer *tok = engine_model_tokenizer(r->model);
    const json_t *tokens = json_object_get(request, "tokens");
    struct buf text;
    size_t i;
    const json_t *id;
    int rc = tok == NULL ? err_set(err, ERR_INVALID, "the model brings no tokenizer") : 0;
    struct detok detok;
    buf_init(&text, ANSWER_BYTES_MAX);
    detok_init(&detok, tok, false);
    json_array_foreach(tokens, i, id)
    {
        rc = rc == 0 ? detok_push(&detok, (int32_t)json_integer_value(id), &text, err) : rc;
    }
    rc = rc == 0 ? detok_flush(&detok, &text, err) : rc;
    json_out_key(out, "text");
    json_out_string_n(out, text.data != NULL ? text.data : "", text.len);
    buf_release(&text);
    return rc;
}

static int write_prompt(struct runner *r, const json_t *request, struct json_out *out,
                        struct err *err)
{
    struct buf text;
    buf_init(&text, TEMPLATE_OUTPUT_BYTES_MAX);
    const int rc = prompter_render(&r->prompter, request, &text, err);
    json_out_key(out, "prompt");
    json_out_string_n(out, text.data != NULL ? text.data : "", text.len);
    buf_release(&text);
    return rc;
}

static void answer_text_op(struct runner *r, const json_t *request, uint32_t number)
{
    struct err err = {0};
    struct buf buf;
    struct json_out out;
    const int64_t op = json_integer_value(json_object_get(request, "op"));
    buf_init(&buf, ANSWER_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_int(&out, "r", number);
    json_out_key(&out, "result");
    json_out_object(&out);
    const int rc = op == INFER_TOKENIZE     ? write_tokens(r, request, &out, &err)
                   : op == INFER_DETOKENIZE ? write_text(r, request, &out, &err)
                                            : write_prompt(r, request, &out, &err);
    json_out_object_end(&out);
    json_out_object_end(&out);
    if (rc != 0) {
        send_failed(r, &number, &err);
    } else {
        send_frame(r, 'j', &buf);
    }
    buf_release(&buf);
}

static void take_frame(struct runner *r, uint8_t type, const struct buf *payload)
{
    struct err err = {0};
    json_t *request = json_parse(payload->data, payload->len, &err);
    if (request == NULL) {
        send_failed(r, NULL, &err);
        return;
    }
    const uint32_t number = (uint32_t)json_integer_value(json_object_get(request, "r"));
    if (type == 'G') {
        take_job(r, request, number);
    } else if (type == 'C') {
        const struct command command = {COMMAND_CANCEL, number, NULL};
        put_command(r, command);
    } else if (type == 'T') {
        answer_text_op(r, request, number);
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
    const struct command command = {COMMAND_QUIT, 0, NULL};
    put_command(r, command);
    return NULL;
}

/* --- the process --- */

static int open_model(struct runner *r, const json_t *request, struct err *err)
{
    struct engine_options options = {0};
    const char *path = NULL;
    int64_t threads = 0;
    int64_t context = 0;
    int64_t kv_bytes = 0;
    int64_t sessions = 1;
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
    if (rc == 0 && path == NULL) {
        rc = err_set(err, ERR_INTERNAL, "no path to open");
    }
    options.threads = (int)threads;
    options.context_length = (int)context;
    options.kv_bytes_max = (size_t)kv_bytes;
    if (rc == 0) {
        rc = engine_model_open(&r->model, path, &options, err);
    }
    return rc == 0 ? scheduler_new(&r->scheduler, r->model, (int)sessions, err) : rc;
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
            send_failed(r, NULL, err);
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
        if (pthread_create(&reader, NULL, read_frames, &r) == 0) {
            run_model(&r);
            pthread_join(reader, NULL);
        } else {
            rc = err_set(&err, ERR_UNAVAILABLE, "no thread could be started");
        }
    }
    runner_release(&r);
    return rc == 0 ? 0 : 1;
}
