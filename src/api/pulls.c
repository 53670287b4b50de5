/* /base-models/pull and /base-models/search. The pull itself is a job (worker/job_pull.c). */
#include "api/pulls.h"

#include <string.h>

#include "api/handlers.h"
#include "api/rows_json.h"
#include "api/supervise.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { SEARCH_LIMIT = 20, QUERY_BYTES_MAX = 200, TEXT_MAX = 511 };

static const char *const quantizations[] = {"4bit", "8bit", "none", NULL};

static const struct http_field pull_fields[] = {
    {.name = "id",
     .kind = HTTP_STRING,
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = TEXT_MAX},
    {.name = "revision", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 255},
    {.name = "file", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = TEXT_MAX},
    {.name = "as", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = TEXT_MAX},
    {.name = "quantization", .kind = HTTP_ENUM, .flags = HTTP_NULLABLE, .choices = quantizations},
};
const struct api_body base_pull_body = {pull_fields, COUNT_OF(pull_fields), false};

int pull_create(struct hub *hub, const struct repo_name *name, const char *as,
                const char *quantization, struct arena *arena, struct job_row *row, struct err *err)
{
    const struct pull_draft draft = {.name = name,
                                     .as = as != NULL ? as : name->id,
                                     .quantization = quantization,
                                     .queue_max = HUB_JOBS_QUEUED_MAX};
    bool joined = false;
    if (hub->supervisor == NULL) {
        return err_set(err, ERR_UNAVAILABLE, "This hub has no workers: nobody would pull");
    }
    const int rc = registry_create_pull(hub->registry, &draft, arena, row, &joined, err);
    if (rc == 0 && !joined) {
        supervisor_poke(hub->supervisor);
    }
    return rc;
}

/* A member that is given twice must say the same. */
static int join_name(const json_t *body, struct repo_name *name, struct err *err)
{
    const char *revision = body_string(body, "revision");
    const char *file = body_string(body, "file");
    int rc = repo_name_parse(body_string(body, "id"), name, err);
    if (rc == 0 && revision != NULL && name->revision[0] != '\0' &&
        strcmp(revision, name->revision) != 0) {
        rc = err_set(err, ERR_UNPROCESSABLE, "id names another revision than 'revision' does");
    }
    if (rc == 0 && file != NULL && name->file[0] != '\0' && strcmp(file, name->file) != 0) {
        rc = err_set(err, ERR_UNPROCESSABLE, "id names another file than 'file' does");
    }
    rc = rc == 0 ? repo_name_set_revision(name, revision, err) : rc;
    return rc == 0 ? repo_name_set_file(name, file, err) : rc;
}

HANDLER(bases_pull)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct repo_name name;
    struct job_row row;
    const json_t *body = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &base_pull_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    rc = rc == 0 ? join_name(body, &name, err) : rc;
    if (rc == 0) {
        rc = pull_create(hub, &name, body_string(body, "as"), body_string(body, "quantization"),
                         request->arena, &row, err);
    }
    return rc == 0 ? reply_task(response, &row, err) : rc;
}

/* --- searching --- */

static void on_closed(void *ctx)
{
    (void)ctx; /* to be watched is enough: client_waits asks */
}

static int client_waits(void *ctx, struct err *err)
{
    return http_request_closed(ctx) ? err_set(err, ERR_CANCELLED, "The client has left") : 0;
}

static int write_hits(struct hub *hub, struct http_request *request, struct http_response *response,
                      const struct repo_hit *hits, size_t count, struct err *err)
{
    struct json_out out;
    http_json(response, &out);
    json_out_array(&out);
    for (size_t i = 0; i < count; i++) {
        const struct repo_hit *hit = &hits[i];
        struct base_row row;
        struct err missing = {0};
        json_out_object(&out);
        json_out_kv_string(&out, "id", hit->id);
        json_out_kv_int(&out, "downloads", hit->downloads);
        json_out_kv_int(&out, "likes", hit->likes);
        json_out_kv_bool(&out, "gguf", hit->gguf);
        json_out_kv_bool(&out, "safetensors", hit->safetensors);
        json_out_kv_bool(&out, "mlx", hit->mlx);
        json_out_kv_bool(&out, "gated", hit->gated);
        json_out_kv_string(&out, "updated_at", hit->updated_at);
        json_out_kv_bool(
            &out, "pulled",
            registry_get_base(hub->registry, hit->id, request->arena, &row, &missing) == 0);
        json_out_object_end(&out);
    }
    json_out_array_end(&out);
    return http_reply_json(response, 200, err);
}

HANDLER(bases_search)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct repo_hit *hits = NULL;
    size_t count = 0;
    struct repo_server server;
    http_issues_init(&issues);
    const char *q = http_query(request, "q");
    const int64_t limit = http_query_int(request, "limit", 1, REPO_HITS_MAX, SEARCH_LIMIT, &issues);
    if (q == NULL || q[0] == '\0') {
        http_issue(&issues, "query", "q", "missing", "Field required");
    } else if (strlen(q) > QUERY_BYTES_MAX) {
        http_issue(&issues, "query", "q", "string_too_long", "At most %d bytes", QUERY_BYTES_MAX);
    }
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    int rc = repo_server_open(&server, hub->settings.hf_endpoint, hub->settings.hf_token,
                              request->arena, err);
    http_request_on_close(request, on_closed, NULL);
    server.on_wait = client_waits;
    server.ctx = request;
    rc = rc == 0 ? repo_search(&server, q, (int)limit, request->arena, &hits, &count, err) : rc;
    repo_server_close(&server);
    return rc == 0 ? write_hits(hub, request, response, hits, count, err) : rc;
}
