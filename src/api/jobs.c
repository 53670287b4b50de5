/* /training */
#include <string.h>

#include "api/handlers.h"
#include "api/job_rows.h"
#include "api/memory.h"
#include "api/rows_json.h"
#include "api/supervise.h"
#include "api/ticker.h"
#include "base/clock.h"
#include "formats/train_config.h"
#include "registry/bases.h"
#include "registry/jobs.h"
#include "registry/models.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

const char *const job_statuses[] = {"queued", "running", "completed", "failed", "cancelled", NULL};

static const struct http_field create_fields[] = {
    {.name = "model_id", .kind = HTTP_UUID, .flags = HTTP_REQUIRED},
    {.name = "dataset_id", .kind = HTTP_UUID, .flags = HTTP_REQUIRED},
    {.name = "config", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
};
const struct api_body job_create_body = {create_fields, COUNT_OF(create_fields), false};

static int reply_job(struct http_response *response, int status, const struct job_row *row,
                     struct err *err)
{
    struct json_out out;
    http_json(response, &out);
    json_job(&out, row);
    if (status == 202) {
        const char *location = arena_printf(response->arena, "/training/jobs/%s", row->id);
        const int rc = location != NULL ? http_response_header(response, "Location", location, err)
                                        : mem_err(err, 0);
        return rc == 0 ? http_reply_json(response, status, err) : rc;
    }
    return status == 201 ? reply_created(response, "/training/jobs/", row->id, err)
                         : http_reply_json(response, status, err);
}

int reply_task(struct http_response *response, const struct job_row *row, struct err *err)
{
    return reply_job(response, 202, row, err);
}

static int reply_rows(struct http_response *response, const struct job_row *rows, size_t count,
                      struct err *err)
{
    struct json_out out;
    http_json(response, &out);
    json_out_array(&out);
    for (size_t i = 0; i < count; i++) {
        json_job(&out, &rows[i]);
    }
    json_out_array_end(&out);
    return http_reply_json(response, 200, err);
}

/* --- submitting --- */

static void check_config(const json_t *body, struct http_issues *issues)
{
    struct err err = {0};
    struct train_config config;
    const json_t *json = json_object_get(body, "config");
    if (json_is_object(json) && train_config_parse(&config, json, &err) != 0) {
        http_issue(issues, "body", "config", "value_error", "%s", err.message);
    }
}

/* Of the dataset to train on and the one to validate with. */
static int check_rows(struct hub *hub, const char *dataset_id, const char *base_path,
                      const struct train_config *config, struct arena *arena, struct err *err)
{
    char today[CLOCK_ISO_BYTES];
    clock_format_iso(clock_wall_us(), today);
    today[sizeof "YYYY-MM-DD" - 1] = '\0';
    const struct check_request how = {.base_path = base_path,
                                      .date = today,
                                      .max_seq_length = config->max_seq_length,
                                      .mask_prompt = config->mask_prompt};
    const int rc = job_check_rows(hub, dataset_id, &how, "learn", arena, err);
    return rc == 0 ? job_check_rows(hub, config->val_dataset_id, &how, "learn", arena, err) : rc;
}

/* A job that can never fit is refused, one that does not fit beside the loaded models now says for
 * what it waits. What is not there is for registry_create_job to say. */
static int check_fits(struct hub *hub, struct job_draft *draft, struct arena *arena,
                      struct err *err)
{
    struct err missing = {0};
    struct model_row model;
    struct base_row base;
    struct train_config config;
    char path[FS_PATH_BYTES_MAX], text[MEMORY_TEXT_BYTES];
    const double limit = hub->settings.memory_limit_gb;
    if (registry_get_model(hub->registry, draft->model_id, arena, &model, &missing) != 0 ||
        registry_base_path(hub->registry, model.base_model, arena, &base, path, &missing) != 0) {
        return 0;
    }
    const double weights = (double)base.bytes / 1073741824.0;
    if (weights > limit) {
        return err_set(err, ERR_UNPROCESSABLE,
                       "Training on '%s' needs more than its %.2f GB of weights and the memory "
                       "limit is %.2f GB",
                       base.id, weights, limit);
    }
    int rc = train_config_parse(&config, draft->config, err);
    if (rc != 0) {
        return rc;
    }
    const struct memory_asker asker = {hub->program, hub->settings.threads};
    uint64_t bytes = 0;
    if (memory_of_training(hub->registry, &asker, draft->model_id, draft->dataset_id, &config,
                           &bytes, &missing) != 0) {
        return err_set(err, ERR_UNPROCESSABLE, "%s", missing.message);
    }
    if ((double)bytes > limit * 1073741824.0) {
        return err_set(err, ERR_UNPROCESSABLE,
                       "Training on '%s' needs %.2f GB and the memory limit is %.2f GB: lower "
                       "max_seq_length or lora_rank",
                       base.id, (double)bytes / 1073741824.0, limit);
    }
    if (bytes > 0 && memory_is_short(hub->infer, bytes, text)) {
        draft->waiting_for = arena_strdup(arena, text);
    }
    return check_rows(hub, draft->dataset_id, path, &config, arena, err);
}

/* A Warning header (RFC 7234): the job itself has no field for it. */
static int add_warning(struct http_response *response, const char *warning, struct err *err)
{
    if (warning[0] == '\0') {
        return 0;
    }
    const char *text = arena_printf(response->arena, "199 mlx-hub \"%s\"", warning);
    return text != NULL ? http_response_header(response, "Warning", text, err)
                        : mem_err(err, strlen(warning));
}

HANDLER(jobs_create)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct job_row row;
    char warning[JOB_WARNING_BYTES] = "";
    const json_t *body = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &job_create_body, &issues, &body, err);
    if (rc == 0) {
        check_config(body, &issues);
    }
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    struct job_draft draft = {.queue_max = HUB_JOBS_QUEUED_MAX};
    if (rc == 0) {
        draft.model_id = lower_id(request->arena, body_string(body, "model_id"));
        draft.dataset_id = lower_id(request->arena, body_string(body, "dataset_id"));
        draft.config = json_object_get(body, "config");
        rc = draft.model_id != NULL && draft.dataset_id != NULL ? 0 : mem_err(err, 0);
    }
    if (rc == 0) {
        rc = check_fits(hub, &draft, request->arena, err);
    }
    if (rc == 0) {
        rc = registry_create_job(hub->registry, &draft, request->arena, &row, warning, err);
    }
    if (rc != 0) {
        return rc;
    }
    supervisor_poke(hub->supervisor);
    rc = add_warning(response, warning, err);
    return rc == 0 ? reply_job(response, 201, &row, err) : rc;
}

/* The limit may be another one since. What cannot resume is for registry_resume_job to say. */
static int check_resume_fits(struct hub *hub, const char *id, struct arena *arena, struct err *err)
{
    struct err missing = {0};
    struct job_row old;
    if (registry_get_job(hub->registry, id, arena, &old, &missing) != 0 ||
        !job_status_final(old.status)) {
        return 0;
    }
    const struct memory_asker asker = {hub->program, hub->settings.threads};
    return memory_check(hub->registry, &asker, &old, hub->settings.memory_limit_gb, err);
}

HANDLER(jobs_resume)
{
    struct hub *hub = ctx;
    struct job_row row;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = check_resume_fits(hub, id, request->arena, err);
    if (rc == 0) {
        rc = registry_resume_job(hub->registry, id, HUB_JOBS_QUEUED_MAX, request->arena, &row, err);
    }
    if (rc != 0) {
        return rc;
    }
    supervisor_poke(hub->supervisor);
    return reply_job(response, 201, &row, err);
}

HANDLER(jobs_cancel)
{
    struct hub *hub = ctx;
    struct job_row row;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_cancel_job(hub->registry, id, request->arena, &row, err);
    return rc == 0 ? reply_job(response, 200, &row, err) : rc;
}

/* --- looking --- */

HANDLER(jobs_list)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct page page;
    struct job_row *rows;
    size_t count;
    int64_t total;
    http_issues_init(&issues);
    page_read(&page, request, &issues);
    const struct job_filter filter = {
        .status = http_query_enum(request, "status", job_statuses, NULL, &issues),
        .model_id = lower_id(request->arena, http_query_uuid(request, "model_id", &issues)),
        .limit = page.size,
        .offset = page.offset};
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    int rc = registry_list_jobs(hub->registry, &filter, request->arena, &rows, &count, &total, err);
    if (rc == 0) {
        rc = page_headers(&page, total, request, response, err);
    }
    return rc == 0 ? reply_rows(response, rows, count, err) : rc;
}

HANDLER(jobs_get)
{
    struct hub *hub = ctx;
    struct job_row row;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_get_job(hub->registry, id, request->arena, &row, err);
    return rc == 0 ? reply_job(response, 200, &row, err) : rc;
}

HANDLER(jobs_queue)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct page page;
    struct job_row *rows;
    size_t count;
    http_issues_init(&issues);
    page_read(&page, request, &issues);
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    int rc = registry_job_queue(hub->registry, request->arena, &rows, &count, err);
    if (rc == 0) {
        rc = page_headers(&page, (int64_t)count, request, response, err);
    }
    if (rc != 0) {
        return rc;
    }
    const size_t first = (size_t)page.offset < count ? (size_t)page.offset : count;
    const size_t left = count - first;
    return reply_rows(response, rows + first, left < (size_t)page.size ? left : (size_t)page.size,
                      err);
}

HANDLER(jobs_active)
{
    struct hub *hub = ctx;
    struct job_row row;
    bool found = false;
    (void)request;
    const int rc = registry_active_job(hub->registry, request->arena, &row, &found, err);
    if (rc != 0) {
        return rc;
    }
    return found ? reply_job(response, 200, &row, err)
                 : http_reply_text(response, 200, "application/json", "null", err);
}

/* --- what a job tells --- */

HANDLER(jobs_events)
{
    struct hub *hub = ctx;
    struct http_stream *stream = NULL;
    struct job_row row;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_get_job(hub->registry, id, request->arena, &row, err);
    if (rc == 0) {
        rc = ticker_has_room(hub->ticker, err);
    }
    if (rc != 0) {
        return rc;
    }
    response->content_type = HTTP_SSE;
    rc = http_stream_open(request, response, &stream, err);
    return rc == 0 ? ticker_watch(hub->ticker, stream, &row, err) : rc;
}

/* {"job_id": …, "series": {"loss": [{"step", "value", "wall_time"}, …], …}, "next_after_step": …}
 */
HANDLER(jobs_metrics)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct job_row job;
    struct metric_row *rows;
    size_t count;
    int64_t more = -1;
    http_issues_init(&issues);
    const char *id = path_id(request, "id", &issues);
    const int64_t after = http_query_int(request, "after_step", -1, INT64_MAX, -1, &issues);
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    int rc = registry_get_job(hub->registry, id, request->arena, &job, err);
    if (rc == 0) {
        rc = registry_job_metrics(hub->registry, id, http_query(request, "name"), after,
                                  request->arena, &rows, &count, &more, err);
    }
    if (rc != 0) {
        return rc;
    }
    struct json_out out;
    http_json(response, &out);
    json_out_object(&out);
    json_out_kv_string(&out, "job_id", id);
    json_out_key(&out, "series");
    json_out_object(&out);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(rows[i].name, rows[i - 1].name) != 0) {
            if (i > 0) {
                json_out_array_end(&out);
            }
            json_out_key(&out, rows[i].name);
            json_out_array(&out);
        }
        json_out_object(&out);
        json_out_kv_int(&out, "step", rows[i].step);
        json_out_kv_real(&out, "value", rows[i].value);
        json_out_kv_string(&out, "wall_time", rows[i].wall_time);
        json_out_object_end(&out);
    }
    if (count > 0) {
        json_out_array_end(&out);
    }
    json_out_object_end(&out);
    if (more >= 0) {
        json_out_kv_int(&out, "next_after_step", more);
    } else {
        json_out_kv_null(&out, "next_after_step");
    }
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

HANDLER(jobs_logs)
{
    static const char type[] = "text/plain; charset=utf-8";
    struct hub *hub = ctx;
    struct job_row row;
    char path[FS_PATH_BYTES_MAX];
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_get_job(hub->registry, id, request->arena, &row, err);
    if (rc == 0) {
        rc = job_log_path(registry_storage(hub->registry), row.id, path, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (!fs_exists(path)) { /* it has not begun */
        return http_reply_text(response, 200, type, "", err);
    }
    return http_reply_file(request, response, path, type, NULL, err);
}
