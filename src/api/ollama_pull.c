/* POST /api/pull: a job as any pull is, told in Ollama's lines. The job goes on when the client
 * leaves, and whoever asks again joins it. */
#include "api/handlers.h"
#include "api/ollama.h"

#include <string.h>

#include "api/pulls.h"
#include "api/ticker.h"
#include "base/clock.h"
#include "http/stream.h"
#include "registry/jobs.h"

enum { BEGINNING_MS = 5000, LOOK_MS = 100 };

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct http_field pull_fields[] = {
    {.name = "model", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "name", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "stream", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
};
const struct api_body ollama_pull_body = {pull_fields, COUNT_OF(pull_fields), true};

/* A name of Ollama's own library is one word; what is pulled here has an owner before it. */
static int read_name(const char *text, struct repo_name *name, struct err *err)
{
    const int rc = repo_name_parse(text, name, err);
    if (rc == 0 && strchr(name->id, '/') == NULL) {
        return err_set(err, ERR_INVALID,
                       "'%s' is a name of Ollama's library, which is not pulled from: give "
                       "org/name or hf.co/org/name of a model hub",
                       text);
    }
    return rc;
}

static void on_closed(void *ctx)
{
    (void)ctx; /* to be watched is enough: wait_for_beginning asks */
}

/* One answer alone has one status, so a pull that is refused at once (an unknown model, a gated
 * one, a full disk) is waited for, shortly: an answer that has begun can only name the error. */
static int wait_for_beginning(struct hub *hub, struct http_request *request, struct job_row *row,
                              struct err *err)
{
    http_request_on_close(request, on_closed, NULL);
    const int64_t until = clock_monotonic_ns() + BEGINNING_MS * 1000000LL;
    int rc = 0;
    while (rc == 0 && !job_status_final(row->status) && row->progress.step == 0 &&
           clock_monotonic_ns() < until) {
        clock_sleep_ms(LOOK_MS);
        rc = http_request_closed(request)
                 ? err_set(err, ERR_CANCELLED, "The client has left")
                 : registry_get_job(hub->registry, row->id, request->arena, row, err);
    }
    if (rc == 0 && row->status == JOB_FAILED) {
        rc = err_set(err, ERR_INVALID, "%s", row->error_message);
    }
    return rc;
}

HANDLER(ollama_pull)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct repo_name name;
    struct job_row row;
    struct http_stream *stream = NULL;
    const json_t *body = NULL;
    const char *text = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &ollama_pull_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    rc = rc == 0 ? ollama_model_name(body, &text, err) : rc;
    rc = rc == 0 ? read_name(text, &name, err) : rc;
    rc = rc == 0 ? ticker_has_room(hub->ticker, err) : rc;
    rc = rc == 0 ? pull_create(hub, &name, NULL, NULL, request->arena, &row, err) : rc;
    const bool plain = json_is_false(json_object_get(body, "stream"));
    rc = rc == 0 && plain ? wait_for_beginning(hub, request, &row, err) : rc;
    if (rc != 0) {
        return rc;
    }
    response->content_type = plain ? "application/json" : HTTP_NDJSON;
    rc = http_stream_open(request, response, &stream, err);
    return rc == 0 ? ticker_watch_as(hub->ticker, stream, &row,
                                     plain ? TICKER_PULL_END : TICKER_PULL_LINES, err)
                   : rc;
}
