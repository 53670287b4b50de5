/* The hub's own paths. Rows are in the order of the docs. */
#include "api/routes.h"

#include <string.h>

#include "api/doc.h"
#include "api/handlers.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define QUERY(table)    .query = (table), .n_query = COUNT_OF(table)
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
static const struct api_query search_query[] = {
    {"q", "words of its name", HTTP_STRING, NULL, 0, 0, true},
    {"limit", "20 unless given", HTTP_INT, NULL, 1, 100, false},
};
static const struct api_query upload_query[] = {
    {"name", "of the new dataset", HTTP_STRING, NULL, 0, 0, true},
    {"file", "what errors call it (its name)", HTTP_STRING, NULL, 0, 0, false},
    {"schema_info", "a JSON object", HTTP_STRING, NULL, 0, 0, false},
    {"columns", "a JSON object: the file's own names of the columns", HTTP_STRING, NULL, 0, 0,
     false},
};
static const struct api_query check_query[] = {
    {"base_model", "whose tokenizer and template are used", HTTP_STRING, NULL, 0, 0, true},
    {"max_seq_length", "512 unless given", HTTP_INT, NULL, 8, 1 << 20, false},
    {"mask_prompt", "1 (answers only) unless given", HTTP_INT, NULL, 0, 1, false},
    {"row", "show this row's tokens instead of the first few", HTTP_INT, NULL, 0, 0, false},
};
static const struct api_query jobs_query[] = {
    {"status", NULL, HTTP_ENUM, job_statuses, 0, 0, false},
    {"model_id", NULL, HTTP_UUID, NULL, 0, 0, false},
    PAGE_QUERY,
};
static const struct api_query series_query[] = {
    {"name", "one series instead of all", HTTP_STRING, NULL, 0, 0, false},
    {"after_step", "only later steps; next_after_step of an answer that was full", HTTP_INT, NULL,
     0, 0, false},
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

    {.method = "POST",
     .pattern = "/models/{id}/versions/{version}/evaluate",
     .handler = versions_evaluate,
     .doc = DOC(.tag = "versions",
                .summary = "Queue an evaluation on a dataset; its result joins the version",
                .body = &version_evaluate_body, .status = 202, .answer = "Job",
                ERRORS(400, 404, 409, 429))},
    {.method = "POST",
     .pattern = "/models/{id}/versions/{version}/reproduce",
     .handler = versions_reproduce,
     .doc = DOC(.tag = "versions",
                .summary = "Queue training it again from its manifest, to compare the bytes",
                .status = 202, .answer = "Job", ERRORS(404, 409, 429))},
    {.method = "POST",
     .pattern = "/models/{id}/versions/{version}/export",
     .handler = versions_export,
     .doc = DOC(.tag = "versions",
                .summary = "Queue writing it for other tools; the job's result says where",
                .body = &version_export_body, .status = 202, .answer = "Job",
                ERRORS(400, 404, 409, 429))},

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
    {.method = "GET",
     .pattern = "/datasets/{id}/check",
     .handler = datasets_check,
     .doc =
         DOC(.tag = "datasets", .summary = "What training would see: lengths, targets, tokens",
             QUERY(check_query), .status = 200, .answer = "DatasetCheck", ERRORS(400, 404, 409))},

    /* --- training --- */
    {.method = "POST",
     .pattern = "/training/jobs",
     .handler = jobs_create,
     .doc = DOC(.tag = "training", .summary = "Queue a training job", .body = &job_create_body,
                .status = 201, .answer = "Job", ERRORS(400, 404, 409, 429))},
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
                .status = 201, .answer = "Job", ERRORS(400, 404, 409, 429))},
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

    /* --- base models --- */
    {.method = "POST",
     .pattern = "/base-models/import",
     .handler = bases_import,
     .doc = DOC(.tag = "base models",
                .summary = "Take in weights from a path of the server; local clients or with a key",
                .body = &base_import_body, .status = 201, .answer = "BaseModel",
                ERRORS(400, 403, 409, 503))},
    {.method = "POST",
     .pattern = "/base-models/pull",
     .handler = bases_pull,
     .doc = DOC(.tag = "base models",
                .summary = "Queue fetching a model from HF_ENDPOINT; a pull under way is joined. "
                           "Progress counts bytes",
                .body = &base_pull_body, .status = 202, .answer = "Job", ERRORS(409, 429, 503))},
    {.method = "GET",
     .pattern = "/base-models/search",
     .handler = bases_search,
     .doc =
         DOC(.tag = "base models", .summary = "Look for models at HF_ENDPOINT", QUERY(search_query),
             .status = 200, .answer = "FoundModel", .list = true, ERRORS(503))},
    {.method = "POST",
     .pattern = "/base-models/{id...}/quantize",
     .handler = bases_quantize,
     .doc =
         DOC(.tag = "base models",
             .summary = "Queue writing it in 4 or 8 bits, as a base of its own",
             .body = &base_quantize_body, .status = 202, .answer = "Job", ERRORS(404, 409, 429))},
    {.method = "GET",
     .pattern = "/base-models",
     .handler = bases_list,
     .doc = DOC(.tag = "base models", .summary = "List base models", QUERY(page_query),
                .status = 200, .answer = "BaseModel", .list = true)},
    {.method = "GET",
     .pattern = "/base-models/{id...}",
     .handler = bases_get,
     .doc = DOC(.tag = "base models", .summary = "Show a base model; an id may hold one slash",
                .status = 200, .answer = "BaseModel", ERRORS(404))},
    {.method = "DELETE",
     .pattern = "/base-models/{id...}",
     .handler = bases_delete,
     .doc = DOC(.tag = "base models", .summary = "Delete a base model that no model is made on",
                .status = 204, ERRORS(404, 409))},

    /* --- inference --- */
    {.method = "POST",
     .pattern = "/inference",
     .handler = inference_create,
     .doc = DOC(.tag = "inference",
                .summary = "Generate; give model_id or model, and prompt or messages",
                .body = &inference_body, .status = 200, .answer = "Generation",
                ERRORS(400, 404, 409, 429, 503))},
    {.method = "POST",
     .pattern = "/inference/stream",
     .handler = inference_stream,
     .doc = DOC(.tag = "inference",
                .summary = "The same, as it is made: events token, then done or error",
                .body = &inference_body, .status = 200, .answer_type = "text/event-stream",
                ERRORS(400, 404, 409, 429, 503))},
    {.method = "GET",
     .pattern = "/inference/cache",
     .handler = cache_list,
     .doc = DOC(.tag = "inference", .summary = "Loaded models", .status = 200, .answer = "Cache")},
    {.method = "DELETE",
     .pattern = "/inference/cache",
     .handler = cache_clear,
     .doc = DOC(.tag = "inference", .summary = "Unload every idle model", .status = 204)},
    {.method = "DELETE",
     .pattern = "/inference/cache/{key...}",
     .handler = cache_unload,
     .doc = DOC(.tag = "inference", .summary = "Unload one model, by its key or its base's id",
                .status = 204, ERRORS(404, 409))},

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
    {.method = "GET",
     .pattern = "/openapi.json",
     .handler = openapi_get,
     .doc = DOC(.tag = "operations", .summary = "This API, as OpenAPI 3.1", .status = 200)},
    {.method = "GET",
     .pattern = "/docs",
     .handler = docs_get,
     .doc = DOC(.tag = "operations", .summary = "This API, for people", .status = 200,
                .answer_type = "text/html")},
    {.method = "GET",
     .pattern = "/",
     .handler = root_get,
     .doc = DOC(.tag = "operations", .summary = "A browser is sent to the docs", .status = 200,
                .answer_type = "text/plain")},
};

const struct http_route *api_routes(size_t *n)
{
    *n = COUNT_OF(routes);
    return routes;
}

void api_admit(const struct http_route *route, const struct http_request *request,
               struct http_issues *issues)
{
    const struct api_doc *doc = route->doc;
    if (route->error_style != NULL || doc == NULL || (route->flags & HTTP_PUBLIC) != 0) {
        return;
    }
    for (size_t i = 0; i < request->n_query; i++) {
        size_t at = 0;
        while (at < doc->n_query && strcmp(doc->query[at].name, request->query[i].name) != 0) {
            at++;
        }
        if (at == doc->n_query) {
            http_issue(issues, "query", request->query[i].name, "extra_forbidden",
                       "Extra inputs are not permitted");
        }
    }
}
