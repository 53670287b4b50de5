/* Every frame names its request; one that has left already is not missed. Events are called with no
 * lock held. */
#include "infer/host.h"

#include <string.h>

#include "base/clock.h"
#include "base/frame.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "infer/token_frame.h"

/* --- frames from a runner --- */

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

static void on_accepted(struct host *h, const json_t *frame)
{
    pthread_mutex_lock(&h->infer->lock);
    struct infer_request *r =
        requests_find(&h->sent, (uint32_t)json_integer_value(json_object_get(frame, "r")));
    const bool tell = r != NULL && !r->accepted && !r->is_text;
    if (tell) {
        r->accepted = true;
    }
    pthread_mutex_unlock(&h->infer->lock);
    if (tell) {
        struct infer_accepted a = {
            .prompt_tokens = (int)json_integer_value(json_object_get(frame, "prompt_tokens")),
            .seed = r->seed,
            .numerics_version = h->numerics_version,
            .tool_format = json_string_value(json_object_get(frame, "tool_format")),
            .thinking = json_is_true(json_object_get(frame, "thinking")),
            .prompt_ids = json_object_get(frame, "prompt")};
        memcpy(a.engine, h->engine, sizeof a.engine);
        r->events.accepted(r->ctx, &a);
    }
}

static void on_token(struct host *h, const struct buf *payload)
{
    uint32_t number;
    struct infer_token token;
    struct err err = {0};
    if (!token_frame_read(payload, &number, &token)) {
        return;
    }
    pthread_mutex_lock(&h->infer->lock);
    struct infer_request *r = requests_find(&h->sent, number);
    bool tell = r != NULL && (size_t)token.index == r->sent.n && !r->end_told;
    if (tell && token.is_end) {
        r->end_told = true;
    } else if (tell) {
        tell = token_ids_push(&r->sent, token.token.id, &err) == 0;
        r->first_ns = r->first_ns != 0 ? r->first_ns : clock_monotonic_ns();
    }
    pthread_mutex_unlock(&h->infer->lock);
    if (tell) {
        r->events.token(r->ctx, &token);
    }
}

static void on_prompt_token(struct host *h, const struct buf *payload)
{
    uint32_t number;
    struct infer_token token;
    if (!token_frame_read(payload, &number, &token)) {
        return;
    }
    pthread_mutex_lock(&h->infer->lock);
    struct infer_request *r = requests_find(&h->sent, number);
    const bool tell = r != NULL && token.index == r->n_prompt_told;
    if (tell) {
        r->n_prompt_told++;
    }
    pthread_mutex_unlock(&h->infer->lock);
    if (tell && r->events.prompt_token != NULL) {
        r->events.prompt_token(r->ctx, &token);
    }
}

/* Takes a request out of its lists and gives its place to the next one. */
static struct infer_request *leave(struct host *h, uint32_t number)
{
    struct infer *infer = h->infer;
    pthread_mutex_lock(&infer->lock);
    struct infer_request *r = requests_take(&h->sent, number);
    if (r == NULL) {
        r = requests_take(&h->waiting, number);
    }
    if (r != NULL) {
        infer->n_requests--;
        h->last_used_us = clock_wall_us();
        h->idle_since_ns = clock_monotonic_ns();
        host_pump(h);
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
    pthread_mutex_lock(&h->infer->lock);
    h->prefix_bytes = (uint64_t)json_integer_value(json_object_get(frame, "prefix_bytes"));
    pthread_mutex_unlock(&h->infer->lock);
    const int64_t now = clock_monotonic_ns();
    const json_t *text = json_object_get(frame, "text");
    const int n = (int)json_integer_value(json_object_get(frame, "completion_tokens"));
    struct infer_done done = {
        .finish_reason = json_string_value(json_object_get(frame, "finish_reason")),
        .text = json_string_value(text),
        .text_bytes = json_string_length(text),
        .prompt_tokens = (int)json_integer_value(json_object_get(frame, "prompt_tokens")),
        .cached_tokens = (int)json_integer_value(json_object_get(frame, "cached_tokens")),
        .completion_tokens = n,
        .batch_size = (int)json_integer_value(json_object_get(frame, "batch_size")),
        .load_time = r->load_ns > 0 ? seconds(r->load_ns) : 0.0,
        .prompt_time = seconds(json_integer_value(json_object_get(frame, "prompt_ns"))),
        .decode_time = seconds(json_integer_value(json_object_get(frame, "decode_ns"))),
        .time_to_first_token = seconds((r->first_ns != 0 ? r->first_ns : now) - r->submitted_ns),
        .total_time = seconds(now - r->submitted_ns),
        .queue_time = seconds(json_integer_value(json_object_get(frame, "queue_ns"))),
        .tokens_per_second = json_number_value(json_object_get(frame, "tokens_per_second")),
        .seed = r->seed,
        .numerics_version = h->numerics_version};
    memcpy(done.engine, h->engine, sizeof done.engine);
    r->events.done(r->ctx, &done);
    infer_request_free(r);
}

static void on_vector(struct host *h, const struct buf *payload)
{
    struct infer *infer = h->infer;
    uint32_t head[2];
    if (payload->len < sizeof head) {
        return;
    }
    memcpy(head, payload->data, sizeof head);
    struct infer_request *r = leave(h, head[0]);
    if (r == NULL) {
        return;
    }
    pthread_mutex_lock(&infer->lock);
    buf_append(r->result, payload->data + sizeof head, payload->len - sizeof head);
    r->prompt_tokens = (int)head[1];
    r->rc = buf_check(r->result, "the embedding", r->err);
    r->done = true;
    pthread_cond_broadcast(&infer->changed);
    pthread_mutex_unlock(&infer->lock);
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

void host_frame_error(const json_t *frame, struct err *err)
{
    const int64_t code = json_integer_value(json_object_get(frame, "code"));
    const char *message = json_string_value(json_object_get(frame, "message"));
    (void)err_set(err, code > 0 && code < ERR_CODE_COUNT ? (enum err_code)code : ERR_INTERNAL, "%s",
                  message != NULL ? message : "the runner failed");
}

static void on_limited(struct host *h, const json_t *frame)
{
    const int64_t bytes = json_integer_value(json_object_get(frame, "kv_bytes"));
    pthread_mutex_lock(&h->infer->lock);
    if (bytes >= 0 && (uint64_t)bytes <= h->kv_asked) { /* else an answer to what was said before */
        ledger_took_back(h);
    }
    pthread_mutex_unlock(&h->infer->lock);
}

static void on_failed(struct host *h, const json_t *frame)
{
    struct err err = {0};
    struct infer_request *r = leave(h, (uint32_t)json_integer_value(json_object_get(frame, "r")));
    if (r != NULL) {
        host_frame_error(frame, &err);
        infer_request_fail(h->infer, r, &err);
    }
}

void host_take_frame(struct host *h, uint8_t type, const struct buf *payload)
{
    struct err err = {0};
    if (type == 't') {
        on_token(h, payload);
        return;
    }
    if (type == 'v') {
        on_vector(h, payload);
        return;
    }
    if (type == 'p') {
        on_prompt_token(h, payload);
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
    } else if (type == 'k') {
        on_limited(h, frame);
    } else if (type == 'x') {
        on_failed(h, frame);
    }
    json_decref(frame);
}
