/* The one place where a path is written. Rows are in the order of the docs. */
#include "api/routes.h"

#include "api/doc.h"
#include "api/handlers.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define DOC(...)                                                                                   \
    &(const struct api_doc)                                                                        \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define QUERY(table) .query = (table), .n_query = COUNT_OF(table)
#define ERRORS(...)                                                                                \
    .errors = (const int[])                                                                        \
    {                                                                                              \
        __VA_ARGS__, 0                                                                             \
    }

#define PAGE_QUERY                                                                                 \
    {"page", "from 1", HTTP_INT, NULL, 1, PAGE_NUMBER_MAX, false},                                 \
    {                                                                                              \
        "page_size", "20 unless given", HTTP_INT, NULL, 1, REGISTRY_PAGE_MAX, false                \
    }

static const struct api_query page_query[] = {PAGE_QUERY};
static const struct api_query models_query[] = {
    {"task_type", NULL, HTTP_ENUM, task_types, 0, 0, false},
    {"q", "part of a name or description", HTTP_STRING, NULL, 0, 0, false},
    {"sort", "newest first unless given", HTTP_ENUM, model_sorts, 0, 0, false},
    PAGE_QUERY,
};
static const struct api_query upload_query[] = {
    {"name", "of the new dataset", HTTP_STRING, NULL, 0, 0, true},
    {"schema_info", "a JSON object", HTTP_STRING, NULL, 0, 0, false},
    {"columns", "a JSON object: the file's own names of the columns", HTTP_STRING, NULL, 0, 0,
     false},
};
static const struct api_query jobs_query[] = {
    {"status", NULL, HTTP_ENUM, job_statuses, 0, 0, false},
    {"model_id", NULL, HTTP_UUID, NULL, 0, 0, false},
    PAGE_QUERY,
};
static const struct api_query series_query[] = {
    {"name", "one series instead of all", HTTP_STRING, NULL, 0, 0, false},
    {"after_step", "only later steps", HTTP_INT, NULL, 0, 0, false},
};

static const struct http_route routes[] = {
    /* --- models --- */
    {.method = "POST",
     .pattern = "/models",
     .handler = models_create,
     .doc = DOC(.tag = "models", .summary = "Register a model", .body = &model_create_body,
                .status = 201, .answer = "Model", ERRORS(409))},
    {.method = "GET",
     .pattern = "/models",
     .handler = models_list,
     .doc = DOC(.tag = "models", .summary = "List models", QUERY(models_query), .status = 200,
                .answer = "ModelPage")},
    {.method = "GET",
     .pattern = "/models/{id}",
     .handler = models_get,
     .doc = DOC(.tag = "models", .summary = "Show a model", .status = 200, .answer = "Model",
                ERRORS(404))},
    {.method = "PATCH",
     .pattern = "/models/{id}",
     .handler = models_patch,
     .doc = DOC(.tag = "models", .summary = "Change a model", .body = &model_patch_body,
                .status = 200, .answer = "Model", ERRORS(404, 409))},
    {.method = "DELETE",
     .pattern = "/models/{id}",
     .handler = models_delete,
     .doc = DOC(.tag = "models", .summary = "Delete a model with its versions and finished jobs",
                .status = 204, ERRORS(404, 409))},
    {.method = "GET",
     .pattern = "/models/{id}/history",
     .handler = models_history,
     .doc = DOC(.tag = "models", .summary = "Tracked runs of a model", .status = 200,
                .answer = "History", ERRORS(404))},
    {.method = "GET",
     .pattern = "/models/{id}/lineage",
     .handler = models_lineage,
     .doc = DOC(.tag = "models", .summary = "What came from what", .status = 200,
                .answer = "Lineage", ERRORS(404))},
    {.method = "GET",
     .pattern = "/models/{id}/versions",
     .handler = versions_list,
     .doc = DOC(.tag = "versions", .summary = "List versions, newest first", QUERY(page_query),
                .status = 200, .answer = "Version", .list = true, ERRORS(404))},
    {.method = "GET",
     .pattern = "/models/{id}/versions/{version}",
     .handler = versions_get,
     .doc = DOC(.tag = "versions", .summary = "Show a version, by its number or id", .status = 200,
                .answer = "Version", ERRORS(404))},
    {.method = "PATCH",
     .pattern = "/models/{id}/versions/{version}",
     .handler = versions_patch,
     .doc = DOC(.tag = "versions", .summary = "Change a version's status, notes or aliases",
                .body = &version_patch_body, .status = 200, .answer = "Version", ERRORS(404, 409))},
    {.method = "DELETE",
     .pattern = "/models/{id}/versions/{version}",
     .handler = versions_delete,
     .doc = DOC(.tag = "versions", .summary = "Delete a version and its folder", .status = 204,
                ERRORS(404, 409))},

    /* --- datasets --- */
    {.method = "POST",
     .pattern = "/datasets",
     .handler = datasets_create,
     .doc =
         DOC(.tag = "datasets", .summary = "Register a file that lies in the datasets folder",
             .body = &dataset_create_body, .status = 201, .answer = "Dataset", ERRORS(400, 409))},
    {.method = "POST",
     .pattern = "/datasets/upload",
     .handler = datasets_upload,
     .flags = HTTP_UPLOAD | HTTP_ANY_MEDIA,
     .body_bytes_max = (size_t)HUB_UPLOAD_GB_MAX << 30,
     .doc = DOC(.tag = "datasets", .summary = "Send a file, one JSON object a line, as the body",
                .body_type = "application/jsonl", QUERY(upload_query), .status = 201,
                .answer = "Dataset", ERRORS(400, 409, 413))},
    {.method = "GET",
     .pattern = "/datasets",
     .handler = datasets_list,
     .doc = DOC(.tag = "datasets", .summary = "List datasets, newest first", QUERY(page_query),
                .status = 200, .answer = "Dataset", .list = true)},
    {.method = "GET",
     .pattern = "/datasets/{id}",
     .handler = datasets_get,
     .doc = DOC(.tag = "datasets", .summary = "Show a dataset", .status = 200, .answer = "Dataset",
                ERRORS(404))},
    {.method = "DELETE",
     .pattern = "/datasets/{id}",
     .handler = datasets_delete,
     .doc = DOC(.tag = "datasets", .summary = "Forget a dataset; its file stays", .status = 204,
                ERRORS(404, 409))},
    {.method = "POST",
     .pattern = "/datasets/{id}/verify",
     .handler = datasets_verify,
     .doc = DOC(.tag = "datasets", .summary = "Compare the file with what was registered",
                .status = 200, .answer = "Verdict", ERRORS(404))},

    /* --- training --- */
    {.method = "POST",
     .pattern = "/training/jobs",
     .handler = jobs_create,
     .doc = DOC(.tag = "training", .summary = "Queue a training job", .body = &job_create_body,
                .status = 201, .answer = "Job", ERRORS(404, 409, 429))},
    {.method = "GET",
     .pattern = "/training/jobs",
     .handler = jobs_list,
     .doc = DOC(.tag = "training", .summary = "List jobs, newest first", QUERY(jobs_query),
                .status = 200, .answer = "Job", .list = true)},
    {.method = "GET",
     .pattern = "/training/jobs/{id}",
     .handler = jobs_get,
     .doc = DOC(.tag = "training", .summary = "Show a job", .status = 200, .answer = "Job",
                ERRORS(404))},
    {.method = "POST",
     .pattern = "/training/jobs/{id}/cancel",
     .handler = jobs_cancel,
     .doc = DOC(.tag = "training", .summary = "Cancel a job that waits or runs", .status = 200,
                .answer = "Job", ERRORS(404, 409))},
    {.method = "POST",
     .pattern = "/training/jobs/{id}/resume",
     .handler = jobs_resume,
     .doc = DOC(.tag = "training",
                .summary = "Queue a job that goes on where another failed or was cancelled",
                .status = 201, .answer = "Job", ERRORS(404, 409, 429))},
    {.method = "GET",
     .pattern = "/training/jobs/{id}/events",
     .handler = jobs_events,
     .doc =
         DOC(.tag = "training", .summary = "Follow a job: events status, step, loss, eval and log",
             .status = 200, .answer_type = "text/event-stream", ERRORS(404, 429))},
    {.method = "GET",
     .pattern = "/training/jobs/{id}/metrics",
     .handler = jobs_metrics,
     .doc = DOC(.tag = "training", .summary = "The job's series", QUERY(series_query),
                .status = 200, .answer = "Series", ERRORS(404))},
    {.method = "GET",
     .pattern = "/training/jobs/{id}/logs",
     .handler = jobs_logs,
     .doc = DOC(.tag = "training", .summary = "The job's log", .status = 200,
                .answer_type = "text/plain", ERRORS(404))},
    {.method = "GET",
     .pattern = "/training/queue",
     .handler = jobs_queue,
     .doc = DOC(.tag = "training", .summary = "Queued jobs in the order in which they will run",
                QUERY(page_query), .status = 200, .answer = "Job", .list = true)},
    {.method = "GET",
     .pattern = "/training/active",
     .handler = jobs_active,
     .doc = DOC(.tag = "training", .summary = "The running job, or null", .status = 200,
                .answer = "Job")},

    /* --- health --- */
    {.method = "GET",
     .pattern = "/health",
     .handler = health_get,
     .flags = HTTP_PUBLIC,
     .doc = DOC(.tag = "health", .summary = "Whether the hub is well", .status = 200,
                .answer = "Health", ERRORS(503))},
    {.method = "GET",
     .pattern = "/health/live",
     .handler = health_live,
     .flags = HTTP_PUBLIC,
     .doc =
         DOC(.tag = "health", .summary = "The process answers", .status = 200, .answer = "Health")},
    {.method = "GET",
     .pattern = "/health/ready",
     .handler = health_ready,
     .flags = HTTP_PUBLIC,
     .doc = DOC(.tag = "health", .summary = "Database and storage can be used", .status = 200,
                .answer = "Health", ERRORS(503))},
    {.method = "GET",
     .pattern = "/health/detailed",
     .handler = health_detailed,
     .flags = HTTP_PUBLIC,
     .doc = DOC(.tag = "health", .summary = "Every part of the hub", .status = 200,
                .answer = "Health", ERRORS(503))},
    {.method = "GET",
     .pattern = "/metrics",
     .handler = metrics_get,
     .doc = DOC(.tag = "operations", .summary = "Prometheus metrics", .status = 200,
                .answer_type = "text/plain")},
    {.method = "GET",
     .pattern = "/config",
     .handler = config_get,
     .doc = DOC(.tag = "operations", .summary = "Settings and where each came from", .status = 200,
                .answer = "Setting", .list = true)},
};

const struct http_route *api_routes(size_t *n)
{
    *n = COUNT_OF(routes);
    return routes;
}
