/* POST /v1/chat/completions or /v1/completions, streamed. Times are taken here: what a user of the
 * hub waits for is what this command waits for. Seed, engine and numerics version come out of
 * system_fingerprint, "seed-N-ENGINE-numerics-V". */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "cli/answer.h"

enum { NAME_BYTES_MAX = 8192 /* percent-encoded */ };

struct reading {
    struct answer *answer;
    int64_t begun_ns, first_ns;
};

static double seconds(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) / 1e9;
}

static void read_fingerprint(struct infer_done *done, const char *text)
{
    static const char head[] = "seed-", tail[] = "-numerics-";
    if (text == NULL || strncmp(text, head, sizeof head - 1) != 0) {
        return;
    }
    char *rest;
    done->seed = strtoull(text + sizeof head - 1, &rest, 10);
    const char *end = strstr(rest, tail);
    if (*rest == '-' && end != NULL && end > rest) {
        snprintf(done->engine, sizeof done->engine, "%.*s", (int)(end - rest - 1), rest + 1);
        done->numerics_version = (int)strtol(end + sizeof tail - 1, NULL, 10);
    }
}

static int member_int(const json_t *object, const char *name)
{
    return (int)json_integer_value(json_object_get(object, name));
}

static void read_choice(struct reading *r, const json_t *choice)
{
    const json_t *delta = json_object_get(choice, "delta");
    const json_t *text =
        delta != NULL ? json_object_get(delta, "content") : json_object_get(choice, "text");
    const char *why = json_string_value(json_object_get(choice, "finish_reason"));
    if (json_string_length(text) > 0) {
        r->first_ns = r->first_ns == 0 ? clock_monotonic_ns() : r->first_ns;
        answer_take(r->answer, json_string_value(text), json_string_length(text));
    }
    if (why != NULL) {
        snprintf(r->answer->finish_reason, sizeof r->answer->finish_reason, "%s", why);
    }
}

static int on_chunk(void *ctx, const char *event, const json_t *data, struct err *err)
{
    struct reading *r = ctx;
    struct infer_done *done = &r->answer->done;
    (void)event;
    const json_t *error = json_object_get(data, "error");
    if (error != NULL) {
        const char *message = json_string_value(json_object_get(error, "message"));
        return err_set(err, ERR_UNAVAILABLE, "%s", message != NULL ? message : "the answer failed");
    }
    const json_t *choice = json_array_get(json_object_get(data, "choices"), 0);
    if (choice != NULL) {
        read_choice(r, choice);
    }
    const json_t *usage = json_object_get(data, "usage");
    if (json_is_object(usage)) {
        const json_t *details = json_object_get(usage, "prompt_tokens_details");
        const json_t *rate =
            json_object_get(json_object_get(data, "timings"), "predicted_per_second");
        done->prompt_tokens = member_int(usage, "prompt_tokens");
        done->completion_tokens = member_int(usage, "completion_tokens");
        done->cached_tokens = member_int(details, "cached_tokens");
        done->tokens_per_second = json_number_value(rate);
        read_fingerprint(done, json_string_value(json_object_get(data, "system_fingerprint")));
    }
    return 0;
}

/* Leaves to the hub what the name brings and the user did not give. */
static void leave_out(json_t *body, const struct source *source)
{
    static const char *const members[][2] = {
        {"max_tokens", "num_predict"},
        {"temperature", "temperature"},
        {"top_p", "top_p"},
        {"top_k", "top_k"},
        {"min_p", "min_p"},
        {"repetition_penalty", "repeat_penalty"},
    };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (json_object_get(source->given, members[i][0]) == NULL &&
            json_object_get(source->parameters, members[i][1]) != NULL) {
            json_object_del(body, members[i][0]);
        }
    }
}

static json_t *make_body(const struct source *source, const json_t *messages,
                         const struct buf *prompt)
{
    const struct infer_sampling *s = &source->spec.sampling;
    json_t *body = json_pack("{s:s, s:b, s:{s:b}, s:i, s:f, s:f, s:i, s:f, s:f}", "model",
                             source->name, "stream", 1, "stream_options", "include_usage", 1,
                             "max_tokens", s->max_tokens, "temperature", (double)s->temperature,
                             "top_p", (double)s->top_p, "top_k", s->top_k, "min_p",
                             (double)s->min_p, "repetition_penalty", (double)s->repetition_penalty);
    int rc = body != NULL ? 0 : -1;
    leave_out(body, source);
    if (rc == 0 && s->has_seed) {
        rc = json_object_set_new(body, "seed", json_integer((json_int_t)s->seed));
    }
    if (rc == 0 && s->n_stops > 0) {
        rc = json_object_set_new(body, "stop", json_string(s->stops[0]));
    }
    if (rc == 0 && messages != NULL) {
        /* thoughts are shown as they are written, as a runner of one's own shows them */
        rc = json_object_set_new(body, "reasoning_format", json_string("none"));
        rc = rc == 0 ? json_object_set_new(body, "messages", json_deep_copy(messages)) : rc;
    } else if (rc == 0) {
        rc = json_object_set_new(
            body, "prompt", json_stringn(prompt->data != NULL ? prompt->data : "", prompt->len));
    }
    if (rc != 0) {
        json_decref(body);
        return NULL;
    }
    return body;
}

int answer_find_remote(struct source *source, struct err *err)
{
    char name[NAME_BYTES_MAX];
    char path[NAME_BYTES_MAX + 16];
    json_t *model = NULL;
    int rc = http_escape(source->name, name, sizeof name, err);
    if (rc == 0) {
        snprintf(path, sizeof path, "/v1/models/%s", name);
        rc = remote_call(&source->remote, "GET", path, NULL, &model, err);
    }
    source->parameters = json_incref(json_object_get(json_object_get(model, "meta"), "parameters"));
    json_decref(model);
    return rc;
}

int answer_remote(struct source *source, const json_t *messages, const struct buf *prompt,
                  struct answer *answer, struct err *err)
{
    struct reading r = {.answer = answer, .begun_ns = clock_monotonic_ns()};
    json_t *body = make_body(source, messages, prompt);
    if (body == NULL) {
        return err_set(err, ERR_INVALID, "the prompt is not UTF-8");
    }
    int rc = remote_stream(&source->remote,
                           messages != NULL ? "/v1/chat/completions" : "/v1/completions", body,
                           on_chunk, &r, err);
    json_decref(body);
    const int64_t now = clock_monotonic_ns();
    answer->done.total_time = seconds(r.begun_ns, now);
    answer->done.time_to_first_token = seconds(r.begun_ns, r.first_ns != 0 ? r.first_ns : now);
    return rc == 0 ? buf_check(&answer->text, "the answer", err) : rc;
}
