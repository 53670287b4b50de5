/* A job is read and tokenised on the reader's thread, queued, and then belongs to the model thread,
 * where the scheduler's events become frames. */
#include "infer/runner_private.h"

#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/adapter_files.h"
#include "infer/spec_json.h"
#include "infer/token_frame.h"

enum { SENT_MAX = 1 << 20, TAIL_BYTES_MAX = 4096 };

/* --- answers --- */

/* Whether the prompt ends with an opened thought. */
static bool opens_thought(const struct job *job)
{
    enum { TAIL_TOKENS = 6 };
    static const char tag[] = "<think>";
    const struct tokenizer *tok = engine_model_tokenizer(job->runner->model);
    struct buf tail;
    buf_init(&tail, TAIL_BYTES_MAX);
    for (size_t i = job->prompt.n > TAIL_TOKENS ? job->prompt.n - TAIL_TOKENS : 0;
         i < job->prompt.n; i++) {
        size_t n;
        const char *bytes = tokenizer_piece(tok, job->prompt.ids[i], &n);
        buf_append(&tail, bytes, n);
    }
    while (tail.len > 0 && (tail.data[tail.len - 1] == '\n' || tail.data[tail.len - 1] == ' ')) {
        tail.len--;
    }
    const bool opens = tail.len >= sizeof tag - 1 &&
                       memcmp(tail.data + tail.len - (sizeof tag - 1), tag, sizeof tag - 1) == 0;
    buf_release(&tail);
    return opens;
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
    json_out_kv_string(&out, "tool_format",
                       job->tool_format != NULL ? job->tool_format->name : NULL);
    json_out_kv_bool(&out, "thinking", opens_thought(job));
    if (job->tell_prompt) {
        json_out_key(&out, "prompt");
        json_out_array(&out);
        for (size_t i = 0; i < job->prompt.n; i++) {
            json_out_int(&out, job->prompt.ids[i]);
        }
        json_out_array_end(&out);
    }
    json_out_object_end(&out);
    runner_send(job->runner, 'a', &buf);
    buf_release(&buf);
}

/* --- the model thread --- */

static void job_free(struct job *job)
{
    if (job->slot != NULL) {
        job->slot->users--;
    }
    grammar_free(job->grammar);
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

static void send_token(const struct job *job, uint8_t type, const struct scheduled_token *token)
{
    struct buf buf;
    buf_init(&buf, ANSWER_BYTES_MAX);
    token_frame_write(&buf, job->number, token, engine_model_tokenizer(job->runner->model));
    runner_send(job->runner, type, &buf);
    buf_release(&buf);
}

static void on_token(void *ctx, const struct scheduled_token *token)
{
    struct job *job = ctx;
    if (job->first_ns == 0) {
        job->first_ns = clock_monotonic_ns();
    }
    send_token(job, 't', token);
}

static void on_prompt_token(void *ctx, const struct scheduled_token *token)
{
    send_token(ctx, 'p', token);
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
    json_out_kv_int(&out, "cached_tokens", scheduler_cached_tokens(job->scheduled));
    json_out_kv_int(&out, "prefix_bytes", (int64_t)scheduler_prefix_bytes(job->runner->scheduler));
    json_out_kv_int(&out, "completion_tokens", n_tokens);
    json_out_kv_int(&out, "batch_size", scheduler_active(job->runner->scheduler));
    json_out_kv_int(&out, "queue_ns", job->added_ns - job->received_ns);
    json_out_kv_int(&out, "prompt_ns", first - job->added_ns);
    json_out_kv_int(&out, "decode_ns", now - first);
    json_out_kv_real(&out, "tokens_per_second",
                     decoded > 0 && now > first ? (double)decoded * 1e9 / (double)(now - first)
                                                : 0.0);
    json_out_object_end(&out);
    runner_send(job->runner, 'd', &buf);
    buf_release(&buf);
    job_forget(job);
}

static void on_embedded(void *ctx, const float *vector, int n)
{
    struct job *job = ctx;
    const uint32_t head[2] = {job->number, (uint32_t)job->prompt.n};
    struct buf buf;
    buf_init(&buf, ANSWER_BYTES_MAX);
    buf_append(&buf, head, sizeof head);
    buf_append(&buf, vector, (size_t)n * sizeof *vector);
    runner_send(job->runner, 'v', &buf);
    buf_release(&buf);
    job_forget(job);
}

static void on_failed(void *ctx, const struct err *err)
{
    struct job *job = ctx;
    runner_send_failed(job->runner, &job->number, err);
    job_forget(job);
}

/* The adapter's own slot, or an empty one; but the least recently used of those without users goes
 * first when enough are kept. NULL when all are in use. */
static struct adapter_slot *slot_for(struct runner *r, const char *key, float scale)
{
    struct adapter_slot *empty = NULL;
    struct adapter_slot *oldest = NULL;
    int n_idle = 0;
    for (int i = 0; i < ADAPTERS_MAX; i++) {
        struct adapter_slot *slot = &r->adapters[i];
        if (slot->adapter == NULL) {
            empty = slot;
        } else if (slot->scale == scale && strcmp(slot->key, key) == 0) {
            return slot;
        } else if (slot->users == 0) {
            n_idle++;
            oldest = oldest == NULL || slot->last_used < oldest->last_used ? slot : oldest;
        }
    }
    return empty != NULL && n_idle < ADAPTERS_KEPT ? empty : oldest;
}

/* An adapter is known by its checksum: what no longer has it would answer as something else. */
static int check_adapter(const struct job *job, struct err *err)
{
    char found[SHA256_HEX_BYTES];
    struct err why = {0};
    if (sha256_file_hex(job->adapter_path, found, &why) != 0) {
        return err_set(
            err, ERR_CONFLICT,
            "the version's adapter cannot be read (%s); put the file back, or train again",
            why.message);
    }
    if (strcmp(found, job->adapter_key) != 0) {
        return err_set(
            err, ERR_CONFLICT,
            "%s is not the adapter that was published (its SHA-256 differs); put the file "
            "back, or train again",
            job->adapter_path);
    }
    return 0;
}

static int use_adapter(struct runner *r, struct job *job, const struct engine_adapter **adapter,
                       struct err *err)
{
    *adapter = NULL;
    if (!job->has_adapter) {
        return 0;
    }
    struct adapter_slot *slot = slot_for(r, job->adapter_key, job->adapter_scale);
    if (slot == NULL) {
        return err_set(err, ERR_BUSY, "all %d adapters are in use", ADAPTERS_MAX);
    }
    if (slot->adapter == NULL || slot->scale != job->adapter_scale ||
        strcmp(slot->key, job->adapter_key) != 0) {
        engine_adapter_free(slot->adapter);
        memset(slot, 0, sizeof *slot);
        int rc = check_adapter(job, err);
        rc = rc == 0 ? engine_adapter_load(&slot->adapter, r->model, job->adapter_path,
                                           job->adapter_scale, err)
                     : rc;
        if (rc != 0) {
            return rc;
        }
        memcpy(slot->key, job->adapter_key, sizeof slot->key);
        slot->scale = job->adapter_scale;
    }
    slot->users++;
    slot->last_used = clock_monotonic_ns();
    job->slot = slot;
    *adapter = slot->adapter;
    return 0;
}

/* What an adapter does depends on its file and on its scale. */
static void prefix_key(const struct job *job, char key[PREFIX_KEY_BYTES])
{
    uint32_t bits;
    memcpy(&bits, &job->adapter_scale, sizeof bits);
    (void)snprintf(key, PREFIX_KEY_BYTES, "%s*%08x", job->adapter_key, bits);
}

void runner_begin_job(struct runner *r, struct job *job)
{
    static const struct scheduled_events events = {.token = on_token,
                                                   .prompt_token = on_prompt_token,
                                                   .finished = on_finished,
                                                   .failed = on_failed,
                                                   .embedded = on_embedded};
    struct err err = {0};
    const struct engine_adapter *adapter;
    char key[PREFIX_KEY_BYTES];
    int rc = use_adapter(r, job, &adapter, &err);
    if (rc == 0) {
        prefix_key(job, key);
        const struct scheduled_spec spec = {.prompt = job->prompt.ids,
                                            .n_prompt = (int)job->prompt.n,
                                            .sent = job->sent.ids,
                                            .n_sent = (int)job->sent.n,
                                            .adapter = adapter,
                                            .adapter_key = job->has_adapter ? key : NULL,
                                            .sampling = job->sampling,
                                            .seed = job->sampling.seed,
                                            .choice = job->choice,
                                            .grammar = job->grammar,
                                            .embed = job->embed,
                                            .tools = job->tool_format,
                                            .score_prompt = job->score_prompt,
                                            .cold = job->cold};
        rc = scheduler_add(r->scheduler, &spec, &events, job, &job->scheduled, &err);
    }
    if (rc != 0) {
        runner_send_failed(r, &job->number, &err);
        job_free(job);
        return;
    }
    job->added_ns = clock_monotonic_ns();
    job->next = r->jobs;
    r->jobs = job;
    send_accepted(job);
}

void runner_cancel_job(struct runner *r, uint32_t number)
{
    const struct err cancelled = {.code = ERR_CANCELLED, .message = "cancelled"};
    for (struct job *job = r->jobs; job != NULL; job = job->next) {
        if (job->number == number) {
            scheduler_cancel(r->scheduler, job->scheduled);
            job_forget(job);
            break;
        }
    }
    runner_send_failed(r, &number, &cancelled);
}

/* --- the reader thread --- */

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

static int read_grammar(struct runner *r, const json_t *request, struct job *job, struct err *err)
{
    const json_t *source = json_object_get(request, "grammar");
    if (!json_is_object(source)) {
        return 0;
    }
    const int rc = r->vocab != NULL ? 0 : grammar_vocab_new(&r->vocab, r->model, err);
    return rc == 0 ? grammar_new(&job->grammar, r->vocab, source, job->tool_format, err) : rc;
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
        job->choice = (uint32_t)json_integer_value(json_object_get(request, "choice"));
        job->score_prompt = json_is_true(json_object_get(request, "score_prompt"));
        job->embed = json_is_true(json_object_get(request, "embed"));
        job->cold = json_is_true(json_object_get(request, "cold"));
        job->tell_prompt = json_is_true(json_object_get(request, "tell_prompt"));
        job->tool_format = prompter_tool_format(&r->prompter, request);
        rc = prompter_fit(&r->prompter, request, &job->prompt, err);
    }
    if (rc == 0) {
        rc = read_grammar(r, request, job, err);
    }
    return rc;
}

void runner_take_job(struct runner *r, const json_t *request, uint32_t number)
{
    struct err err = {0};
    struct job *job = mem_calloc(1, sizeof *job);
    if (job == NULL) {
        (void)mem_err(&err, sizeof *job);
        runner_send_failed(r, &number, &err);
        return;
    }
    job->runner = r;
    job->number = number;
    job->received_ns = clock_monotonic_ns();
    token_ids_init(&job->prompt, TOKENIZER_TEXT_BYTES_MAX);
    token_ids_init(&job->sent, SENT_MAX);
    if (read_job(r, request, job, &err) != 0) {
        runner_send_failed(r, &number, &err);
        job_free(job);
        return;
    }
    const struct command command = {.kind = COMMAND_JOB, .number = number, .job = job};
    runner_put(r, command);
}
