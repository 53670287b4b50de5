/* /models */
#include <string.h>

#include "api/handlers.h"
#include "api/rows_json.h"
#include "registry/lineage.h"
#include "registry/models.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

const char *const task_types[] = {"text-generation",    "classification", "summarization",
                                  "question-answering", "chat",           NULL};
const char *const model_sorts[] = {"-created_at", "created_at", "name", "-name",
                                   "-updated_at", "updated_at", NULL};

static const struct http_field create_fields[] = {
    {.name = "name",
     .kind = HTTP_STRING,
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = 255},
    {.name = "task_type", .kind = HTTP_ENUM, .flags = HTTP_NULLABLE, .choices = task_types},
    {.name = "description",
     .kind = HTTP_STRING,
     .flags = HTTP_NULLABLE | HTTP_MAX,
     .max = MODEL_DESCRIPTION_CHARACTERS_MAX},
    {.name = "base_model",
     .kind = HTTP_STRING,
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = MODEL_BASE_CHARACTERS_MAX},
    {.name = "tags", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
};
const struct api_body model_create_body = {create_fields, COUNT_OF(create_fields), false};

static const struct http_field patch_fields[] = {
    {.name = "name", .kind = HTTP_STRING, .flags = HTTP_MIN | HTTP_MAX, .min = 1, .max = 255},
    {.name = "task_type", .kind = HTTP_ENUM, .choices = task_types},
    {.name = "description",
     .kind = HTTP_STRING,
     .flags = HTTP_NULLABLE | HTTP_MAX,
     .max = MODEL_DESCRIPTION_CHARACTERS_MAX},
    {.name = "base_model",
     .kind = HTTP_STRING,
     .flags = HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = MODEL_BASE_CHARACTERS_MAX},
    {.name = "tags", .kind = HTTP_OBJECT},
};
const struct api_body model_patch_body = {patch_fields, COUNT_OF(patch_fields), false};

static int reply_model(struct http_response *response, const struct model_row *row, struct err *err)
{
    struct json_out out;
    http_json(response, &out);
    json_model(&out, row);
    return http_reply_json(response, 200, err);
}

HANDLER(models_create)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct model_row row;
    const json_t *body = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &model_create_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    struct model_draft draft = {0};
    if (rc == 0) {
        draft.name = body_string(body, "name");
        draft.task_type = body_string(body, "task_type");
        draft.description = body_string(body, "description");
        draft.base_model = body_string(body, "base_model");
        rc = body_json(body, "tags", request->arena, &draft.tags, err);
    }
    if (rc == 0) {
        rc = registry_create_model(hub->registry, &draft, request->arena, &row, err);
    }
    if (rc != 0) {
        return rc;
    }
    struct json_out out;
    http_json(response, &out);
    json_model(&out, &row);
    return reply_created(response, "/models/", row.id, err);
}

HANDLER(models_list)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct page page;
    struct model_row *rows;
    size_t count;
    int64_t total;
    http_issues_init(&issues);
    page_read(&page, request, &issues);
    struct model_filter filter = {
        .task_type = http_query_enum(request, "task_type", task_types, NULL, &issues),
        .q = http_query(request, "q"),
        .limit = page.size,
        .offset = page.offset};
    const char *sort = http_query_enum(request, "sort", model_sorts, model_sorts[0], &issues);
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    (void)model_sort_parse(sort, &filter.sort); /* one of its words */
    const int rc =
        registry_list_models(hub->registry, &filter, request->arena, &rows, &count, &total, err);
    if (rc != 0) {
        return rc;
    }
    struct json_out out;
    http_json(response, &out);
    json_out_object(&out);
    json_out_key(&out, "items");
    json_out_array(&out);
    for (size_t i = 0; i < count; i++) {
        json_model(&out, &rows[i]);
    }
    json_out_array_end(&out);
    json_out_kv_int(&out, "total", total);
    json_out_kv_int(&out, "page", page.number);
    json_out_kv_int(&out, "page_size", page.size);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

HANDLER(models_get)
{
    struct hub *hub = ctx;
    struct model_row row;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_get_model(hub->registry, id, request->arena, &row, err);
    return rc == 0 ? reply_model(response, &row, err) : rc;
}

HANDLER(models_patch)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct model_row row;
    const json_t *body = NULL;
    http_issues_init(&issues);
    const char *id = path_id(request, "id", &issues);
    int rc = body_read(request, &model_patch_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    struct model_patch patch = {0};
    if (rc == 0) {
        patch.name = body_string(body, "name");
        patch.task_type = body_string(body, "task_type");
        patch.description = body_string(body, "description");
        patch.clear_description = body_is_null(body, "description");
        patch.base_model = body_string(body, "base_model");
        rc = body_json(body, "tags", request->arena, &patch.tags, err);
    }
    if (rc == 0) {
        rc = registry_patch_model(hub->registry, id, &patch, request->arena, &row, err);
    }
    return rc == 0 ? reply_model(response, &row, err) : rc;
}

HANDLER(models_delete)
{
    struct hub *hub = ctx;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_delete_model(hub->registry, id, err);
    return rc == 0 ? http_reply_empty(response, 204, err) : rc;
}

/* Runs come with tracking; without it the list is empty, as when tracking is down. */
HANDLER(models_history)
{
    struct hub *hub = ctx;
    struct model_row row;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_get_model(hub->registry, id, request->arena, &row, err);
    if (rc != 0) {
        return rc;
    }
    struct json_out out;
    http_json(response, &out);
    json_out_object(&out);
    json_out_key(&out, "runs");
    json_out_array(&out);
    json_out_array_end(&out);
    json_out_kv_string(&out, "experiment_id", row.mlflow_experiment_id);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

static void json_lineage(struct json_out *out, const struct lineage *lineage)
{
    json_out_object(out);
    json_out_key(out, "nodes");
    json_out_array(out);
    for (size_t i = 0; i < lineage->n_nodes; i++) {
        const struct lineage_node *node = &lineage->nodes[i];
        json_out_object(out);
        json_out_kv_string(out, "kind", node->kind);
        json_out_kv_string(out, "id", node->id);
        json_out_kv_string(out, "label", node->label);
        json_out_kv_string(out, "status", node->status);
        json_out_kv_string(out, "checksum", node->checksum);
        json_out_kv_string(out, "created_at", node->created_at);
        json_out_object_end(out);
    }
    json_out_array_end(out);
    json_out_key(out, "edges");
    json_out_array(out);
    for (size_t i = 0; i < lineage->n_edges; i++) {
        json_out_object(out);
        json_out_kv_int(out, "from", (int64_t)lineage->edges[i].from);
        json_out_kv_int(out, "to", (int64_t)lineage->edges[i].to);
        json_out_object_end(out);
    }
    json_out_array_end(out);
    json_out_object_end(out);
}

HANDLER(models_lineage)
{
    struct hub *hub = ctx;
    struct lineage lineage;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_lineage(hub->registry, id, request->arena, &lineage, err);
    if (rc != 0) {
        return rc;
    }
    struct json_out out;
    http_json(response, &out);
    json_lineage(&out, &lineage);
    return http_reply_json(response, 200, err);
}
