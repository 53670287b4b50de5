/* /datasets */
#include <string.h>
#include <strings.h>

#include "api/handlers.h"
#include "api/rows_json.h"
#include "registry/bases.h"
#include "registry/datasets.h"
#include "train/check.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { UPLOAD_BLOCK_BYTES = 64 << 10 };

static const struct http_field column_fields[] = {
    {.name = "messages", .kind = HTTP_STRING}, {.name = "tools", .kind = HTTP_STRING},
    {.name = "prompt", .kind = HTTP_STRING},   {.name = "completion", .kind = HTTP_STRING},
    {.name = "text", .kind = HTTP_STRING},
};
static const struct http_field create_fields[] = {
    {.name = "name",
     .kind = HTTP_STRING,
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = 255},
    {.name = "path",
     .kind = HTTP_STRING,
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = DATASET_PATH_CHARACTERS_MAX},
    {.name = "schema_info", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
    {.name = "columns",
     .kind = HTTP_OBJECT,
     .flags = HTTP_NULLABLE,
     .fields = column_fields,
     .n_fields = COUNT_OF(column_fields)},
};
const struct api_body dataset_create_body = {create_fields, COUNT_OF(create_fields), false};

static int reply_dataset(struct http_response *response, int status,
                         const struct dataset_record *row, struct err *err)
{
    struct json_out out;
    http_json(response, &out);
    json_dataset(&out, row);
    return status == 201 ? reply_created(response, "/datasets/", row->id, err)
                         : http_reply_json(response, status, err);
}

/* A stranger's file is read by a child. */
static int check_rows(void *ctx, const char *path, const char *name, const char *columns,
                      struct dataset_report *report, struct err *err)
{
    const struct hub *hub = ctx;
    return train_inspect_rows(hub->program, path, name, columns, report, err);
}

HANDLER(datasets_create)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct dataset_record row;
    const json_t *body = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &dataset_create_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    struct dataset_draft draft = {.check = check_rows, .check_ctx = hub};
    if (rc == 0) {
        draft.name = body_string(body, "name");
        draft.path = body_string(body, "path");
        rc = body_json(body, "schema_info", request->arena, &draft.schema_info, err);
    }
    if (rc == 0) {
        rc = body_json(body, "columns", request->arena, &draft.columns, err);
    }
    if (rc == 0) {
        rc = registry_create_dataset(hub->registry, &draft, request->arena, &row, err);
    }
    return rc == 0 ? reply_dataset(response, 201, &row, err) : rc;
}

/* Query parameters of an upload: what POST /datasets takes in its body. */
static int upload_draft(const struct http_request *request, struct dataset_draft *draft,
                        struct http_issues *issues, struct err *err)
{
    const char *type = http_header(request, "Content-Type");
    if (type != NULL && strncasecmp(type, "multipart/", 10) == 0) {
        return err_set(err, ERR_MEDIA, "Send the file itself as the body, not as %s", type);
    }
    draft->name = http_query(request, "name");
    draft->file = http_query(request, "file");
    draft->schema_info = http_query(request, "schema_info");
    draft->columns = http_query(request, "columns");
    if (draft->name == NULL) {
        http_issue(issues, "query", "name", "missing", "Field required");
    }
    return 0;
}

static int receive(struct http_request *request, struct dataset_upload *upload, struct err *err)
{
    char *block = arena_alloc(request->arena, 1, UPLOAD_BLOCK_BYTES);
    size_t got = 1;
    int rc = block != NULL ? 0 : mem_err(err, UPLOAD_BLOCK_BYTES);
    while (rc == 0 && got > 0) {
        rc = http_request_read(request, block, UPLOAD_BLOCK_BYTES, &got, err);
        if (rc == 0 && got > 0) {
            rc = registry_upload_write(upload, block, got, err);
        }
    }
    return rc;
}

HANDLER(datasets_upload)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct dataset_draft draft = {.check = check_rows, .check_ctx = hub};
    struct dataset_upload *upload = NULL;
    struct dataset_record row;
    http_issues_init(&issues);
    int rc = upload_draft(request, &draft, &issues, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    if (rc == 0) {
        rc = registry_upload_begin(hub->registry, &draft, (uint64_t)HUB_UPLOAD_GB_MAX << 30,
                                   &upload, err);
    }
    if (rc == 0) {
        rc = receive(request, upload, err);
    }
    if (rc != 0) {
        registry_upload_abandon(upload);
        return rc;
    }
    rc = registry_upload_finish(upload, request->arena, &row, err);
    return rc == 0 ? reply_dataset(response, 201, &row, err) : rc;
}

HANDLER(datasets_list)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct page page;
    struct dataset_record *rows;
    size_t count;
    int64_t total;
    http_issues_init(&issues);
    page_read(&page, request, &issues);
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    int rc = registry_list_datasets(hub->registry, page.size, page.offset, request->arena, &rows,
                                    &count, &total, err);
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
        json_dataset(&out, &rows[i]);
    }
    json_out_array_end(&out);
    return http_reply_json(response, 200, err);
}

HANDLER(datasets_get)
{
    struct hub *hub = ctx;
    struct dataset_record row;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_get_dataset(hub->registry, id, request->arena, &row, err);
    return rc == 0 ? reply_dataset(response, 200, &row, err) : rc;
}

HANDLER(datasets_delete)
{
    struct hub *hub = ctx;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_delete_dataset(hub->registry, id, err);
    return rc == 0 ? http_reply_empty(response, 204, err) : rc;
}

HANDLER(datasets_verify)
{
    struct hub *hub = ctx;
    struct dataset_verdict verdict;
    int rc;
    const char *id = take_id(request, response, &rc, err);
    if (id == NULL) {
        return rc;
    }
    rc = registry_verify_dataset(hub->registry, id, &verdict, err);
    if (rc != 0) {
        return rc;
    }
    struct json_out out;
    http_json(response, &out);
    json_out_object(&out);
    json_out_kv_bool(&out, "valid", verdict.valid);
    json_out_kv_string(&out, "expected", verdict.expected);
    json_out_kv_string(&out, "actual", verdict.actual[0] != '\0' ? verdict.actual : NULL);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}

/* What training on it would see; its files are read by a child. */
static int check(struct hub *hub, const char *id, const char *base_model,
                 struct check_request *request, struct arena *arena, struct buf *out,
                 struct err *err)
{
    struct dataset_record row;
    struct base_row base;
    struct err why = {0};
    char path[FS_PATH_BYTES_MAX];
    int rc = registry_get_dataset(hub->registry, id, arena, &row, err);
    if (rc == 0) {
        rc = registry_base_path(hub->registry, base_model, arena, &base, path, err);
    }
    if (rc != 0) {
        return rc;
    }
    request->dataset_path = row.path;
    request->columns = row.columns;
    request->base_path = path;
    rc = train_inspect_check(hub->program, request, out, &why);
    request->base_path = NULL; /* it lay here */
    /* The files are the world's; what the request named exists. A row that is not there is not. */
    if (rc == -ERR_CORRUPT || rc == -ERR_UNSUPPORTED ||
        (rc == -ERR_NOT_FOUND && request->row == 0)) {
        return err_set(err, ERR_INVALID, "%s", why.message);
    }
    return rc == 0 ? 0 : err_set(err, why.code, "%s", why.message);
}

HANDLER(datasets_check)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct train_config defaults;
    train_config_defaults(&defaults);
    http_issues_init(&issues);
    const char *id = path_id(request, "id", &issues);
    const char *base = http_query(request, "base_model");
    struct check_request wanted = {
        .max_seq_length =
            http_query_int(request, "max_seq_length", 8, 1 << 20, defaults.max_seq_length, &issues),
        .mask_prompt = http_query_int(request, "mask_prompt", 0, 1, 1, &issues) != 0,
        .row = http_query_int(request, "row", 1, INT64_MAX, 0, &issues)};
    if (base == NULL) {
        http_issue(&issues, "query", "base_model", "missing", "Field required");
    }
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    struct buf answer;
    buf_init(&answer, CHECK_ANSWER_BYTES_MAX);
    int rc = check(hub, id, base, &wanted, request->arena, &answer, err);
    if (rc == 0) {
        rc = http_reply_text(response, 200, "application/json", answer.data, err);
    }
    buf_release(&answer);
    return rc;
}
