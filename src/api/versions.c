/* /models/{id}/versions */
#include "registry/versions.h"

#include <string.h>

#include "api/handlers.h"
#include "api/job_rows.h"
#include "api/memory.h"
#include "api/rows_json.h"
#include "api/supervise.h"
#include "formats/manifest.h"
#include "registry/bases.h"
#include "registry/jobs.h"
#include "registry/models.h"
#include "train/evaluate.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const char *const settable[] = {"ready", "archived", NULL};
static const struct http_field alias_item = {
    .kind = HTTP_STRING, .flags = HTTP_MIN | HTTP_MAX, .min = 1, .max = 255};
static const struct http_field patch_fields[] = {
    {.name = "status", .kind = HTTP_ENUM, .choices = settable},
    {.name = "notes",
     .kind = HTTP_STRING,
     .flags = HTTP_NULLABLE | HTTP_MAX,
     .max = VERSION_NOTES_CHARACTERS_MAX},
    {.name = "aliases",
     .kind = HTTP_ARRAY,
     .flags = HTTP_MAX,
     .max = VERSION_ALIASES_MAX,
     .items = &alias_item},
};
const struct api_body version_patch_body = {patch_fields, COUNT_OF(patch_fields), false};

static int reply_version(struct http_response *response, const struct version_row *row,
                         struct err *err)
{
    struct json_out out;
    http_json(response, &out);
    json_version(&out, row);
    return http_reply_json(response, 200, err);
}

HANDLER(versions_list)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct page page;
    struct version_row *rows;
    size_t count;
    int64_t total;
    http_issues_init(&issues);
    const char *id = path_id(request, "id", &issues);
    page_read(&page, request, &issues);
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    int rc = registry_list_versions(hub->registry, id, page.size, page.offset, request->arena,
                                    &rows, &count, &total, err);
    if (rc == 0) {
        rc = page_headers(&page, total, request, response, err);
    }
    if (rc != 0) {
        return rc;
    }
    struct json_out out;
    http_json(response, &out);
    json_out_array(&out);
    for (size_t i = 0; i < count; i++) {
        json_version(&out, &rows[i]);
    }
    json_out_array_end(&out);
    return http_reply_json(response, 200, err);
}

HANDLER(versions_get)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct version_row row;
    http_issues_init(&issues);
    const char *id = path_id(request, "id", &issues);
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    const int rc = registry_get_version(hub->registry, id, http_path_param(request, "version"),
                                        request->arena, NULL, &row, err);
    return rc == 0 ? reply_version(response, &row, err) : rc;
}

static int read_aliases(const json_t *body, struct arena *arena, struct version_patch *patch,
                        struct err *err)
{
    const json_t *list = json_object_get(body, "aliases");
    if (list == NULL) {
        return 0;
    }
    patch->n_aliases = json_array_size(list);
    const char **aliases = arena_alloc(arena, patch->n_aliases + 1, sizeof *aliases);
    if (aliases == NULL) {
        return mem_err(err, patch->n_aliases * sizeof *aliases);
    }
    for (size_t i = 0; i < patch->n_aliases; i++) {
        aliases[i] = json_string_value(json_array_get(list, i));
    }
    patch->aliases = aliases;
    return 0;
}

HANDLER(versions_patch)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct version_row row;
    const json_t *body = NULL;
    http_issues_init(&issues);
    const char *id = path_id(request, "id", &issues);
    int rc = body_read(request, &version_patch_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    struct version_patch patch = {0};
    if (rc == 0) {
        patch.status = body_string(body, "status");
        patch.notes = body_string(body, "notes");
        patch.clear_notes = body_is_null(body, "notes");
        rc = read_aliases(body, request->arena, &patch, err);
    }
    if (rc == 0) {
        rc = registry_patch_version(hub->registry, id, http_path_param(request, "version"), &patch,
                                    request->arena, &row, err);
    }
    return rc == 0 ? reply_version(response, &row, err) : rc;
}

HANDLER(versions_delete)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    http_issues_init(&issues);
    const char *id = path_id(request, "id", &issues);
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    const int rc =
        registry_delete_version(hub->registry, id, http_path_param(request, "version"), err);
    return rc == 0 ? http_reply_empty(response, 204, err) : rc;
}

/* --- jobs about a version --- */

static const struct http_field evaluate_fields[] = {
    {.name = "dataset_id", .kind = HTTP_UUID, .flags = HTTP_REQUIRED},
    {.name = "max_seq_length",
     .kind = HTTP_INT,
     .flags = HTTP_NULLABLE | HTTP_MIN | HTTP_MAX,
     .min = 8,
     .max = 1048576},
    {.name = "mask_prompt", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
};
const struct api_body version_evaluate_body = {evaluate_fields, COUNT_OF(evaluate_fields), false};

/* The rows of an evaluation as the version's own template and limits make them. */
static int check_rows(struct hub *hub, const struct task_draft *draft,
                      const struct version_row *version, struct arena *arena, struct err *err)
{
    struct err missing = {0};
    struct model_row model;
    struct base_row base;
    struct manifest manifest = {0};
    char path[FS_PATH_BYTES_MAX];
    int rc = 0;
    if (version->artifact_path != NULL &&
        registry_get_model(hub->registry, draft->model_id, arena, &model, &missing) == 0 &&
        registry_base_path(hub->registry, model.base_model, arena, &base, path, &missing) == 0 &&
        manifest_read(&manifest, version->artifact_path, &missing) == 0 &&
        train_evaluate_limits(draft->config, &manifest.config, &missing) == 0) {
        const struct check_request how = {.base_path = path,
                                          .template = manifest.chat_template,
                                          .date = manifest.date,
                                          .max_seq_length = manifest.config.max_seq_length,
                                          .mask_prompt = manifest.config.mask_prompt};
        rc = job_check_rows(hub, draft->dataset_id, &how, "measure", arena, err);
    }
    manifest_release(&manifest);
    return rc;
}

/* What is not there is for registry_create_task to say. */
static int check_fits(struct hub *hub, const struct task_draft *draft, struct arena *arena,
                      struct err *err)
{
    struct err missing = {0};
    struct version_row version;
    if (registry_get_version(hub->registry, draft->model_id, draft->version, arena, NULL, &version,
                             &missing) != 0) {
        return 0;
    }
    const struct job_row row = {.kind = draft->kind,
                                .model_version_id = version.id,
                                .dataset_id = draft->dataset_id,
                                .config = draft->config};
    const struct memory_asker asker = {hub->program, hub->settings.threads};
    const int rc = memory_check(hub->registry, &asker, &row, hub->settings.memory_limit_gb, err);
    return rc == 0 && draft->kind == JOB_EVALUATE ? check_rows(hub, draft, &version, arena, err)
                                                  : rc;
}

static int queue_task(struct hub *hub, struct http_request *request, struct http_response *response,
                      struct task_draft *draft, struct err *err)
{
    struct job_row row;
    draft->version = http_path_param(request, "version");
    draft->queue_max = HUB_JOBS_QUEUED_MAX;
    int rc = check_fits(hub, draft, request->arena, err);
    rc = rc == 0 ? registry_create_task(hub->registry, draft, request->arena, &row, err) : rc;
    if (rc != 0) {
        return rc;
    }
    supervisor_poke(hub->supervisor);
    return reply_task(response, &row, err);
}

/* Where rows are cut and which tokens count, where that is to be other than in training. */
static int evaluate_config(const json_t *body, struct arena *arena, const char **config,
                           struct err *err)
{
    const json_t *limit = json_object_get(body, "max_seq_length");
    const json_t *mask = json_object_get(body, "mask_prompt");
    const char *length = json_is_integer(limit) ? arena_printf(arena, "\"max_seq_length\":%lld",
                                                               (long long)json_integer_value(limit))
                                                : "";
    const char *masked = json_is_true(mask)    ? "\"mask_prompt\":true"
                         : json_is_false(mask) ? "\"mask_prompt\":false"
                                               : "";
    *config = length == NULL
                  ? NULL
                  : arena_printf(arena, "{%s%s%s}", length,
                                 length[0] != '\0' && masked[0] != '\0' ? "," : "", masked);
    return *config != NULL ? 0 : mem_err(err, 0);
}

HANDLER(versions_evaluate)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    const json_t *body = NULL;
    http_issues_init(&issues);
    struct task_draft draft = {.kind = JOB_EVALUATE, .model_id = path_id(request, "id", &issues)};
    int rc = body_read(request, &version_evaluate_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    if (rc == 0) {
        draft.dataset_id = lower_id(request->arena, body_string(body, "dataset_id"));
        rc = draft.dataset_id != NULL ? 0 : mem_err(err, 0);
    }
    rc = rc == 0 ? evaluate_config(body, request->arena, &draft.config, err) : rc;
    return rc == 0 ? queue_task(hub, request, response, &draft, err) : rc;
}

HANDLER(versions_reproduce)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    http_issues_init(&issues);
    struct task_draft draft = {.kind = JOB_REPRODUCE, .model_id = path_id(request, "id", &issues)};
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    return queue_task(hub, request, response, &draft, err);
}

static const char *const export_formats[] = {"mlx", "peft", "gguf", "safetensors", NULL};
static const struct http_field export_fields[] = {
    {.name = "format", .kind = HTTP_ENUM, .flags = HTTP_REQUIRED, .choices = export_formats},
    {.name = "merge", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
};
const struct api_body version_export_body = {export_fields, COUNT_OF(export_fields), false};

/* GGUF and safetensors hold whole models, so there the adapter is merged; PEFT's format holds
 * adapters; mlx-lm's may be either. */
static int export_config(const json_t *body, struct arena *arena, const char **config,
                         struct err *err)
{
    const char *format = body_string(body, "format");
    const bool whole = strcmp(format, "gguf") == 0 || strcmp(format, "safetensors") == 0;
    const json_t *said = json_object_get(body, "merge");
    const bool merge = json_is_boolean(said) ? json_is_true(said) : whole;
    if ((whole && !merge) || (merge && strcmp(format, "peft") == 0)) {
        return err_set(err, ERR_INVALID, "An export as %s is %s", format,
                       whole ? "a whole model: merge cannot be false"
                             : "an adapter: merge cannot be true");
    }
    *config =
        arena_printf(arena, "{\"format\":\"%s\",\"merge\":%s}", format, merge ? "true" : "false");
    return *config != NULL ? 0 : mem_err(err, 0);
}

HANDLER(versions_export)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    const json_t *body = NULL;
    http_issues_init(&issues);
    struct task_draft draft = {.kind = JOB_EXPORT, .model_id = path_id(request, "id", &issues)};
    int rc = body_read(request, &version_export_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    rc = rc == 0 ? export_config(body, request->arena, &draft.config, err) : rc;
    return rc == 0 ? queue_task(hub, request, response, &draft, err) : rc;
}
