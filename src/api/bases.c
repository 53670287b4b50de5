/* /base-models. What a file holds is found out in a child; here it is only copied and hashed. */
#include <string.h>

#include "api/handlers.h"
#include "api/rows_json.h"
#include "base/log.h"
#include "infer/inspect.h"
#include "registry/bases.h"
#include "registry/names.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { DESCRIPTION_BYTES_MAX = 1 << 20, ID_CHARACTERS_MAX = 511 };

static const struct http_field import_fields[] = {
    {.name = "path",
     .kind = HTTP_STRING,
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = FS_PATH_BYTES_MAX - 1},
    {.name = "as",
     .kind = HTTP_STRING,
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = ID_CHARACTERS_MAX},
};
const struct api_body base_import_body = {import_fields, COUNT_OF(import_fields), false};

static uint64_t memory_max(const struct hub *hub)
{
    return (uint64_t)(hub->settings.memory_limit_gb * 1073741824.0);
}

static int reply_base(struct hub *hub, struct http_response *response, int status,
                      const struct base_row *row, struct err *err)
{
    struct json_out out;
    http_json(response, &out);
    json_base(&out, row, memory_max(hub));
    return status == 201 ? reply_created(response, "/base-models/", row->id, err)
                         : http_reply_json(response, status, err);
}

static int facts_of(const json_t *tree, struct base_facts *facts, struct err *err)
{
    int rc = json_get_string(tree, "format", "", &facts->format, err);
    if (rc == 0) {
        rc = json_get_string(tree, "architecture", "", &facts->architecture, err);
    }
    if (rc == 0) {
        rc = json_get_string(tree, "quantization", "", &facts->quantisation, err);
    }
    if (rc == 0) {
        rc = json_get_int(tree, "parameters", 0, &facts->parameters, err);
    }
    return rc == 0 ? json_get_int(tree, "context_length", 0, &facts->context_length, err) : rc;
}

/* A model that cannot be read is the request's fault, whatever the parser calls it. */
static int inspect(struct hub *hub, const char *path, struct buf *out, struct err *err)
{
    struct err why = {0};
    const int rc = inspect_model(hub->program, path, out, &why);
    if (rc == -ERR_CORRUPT || rc == -ERR_UNSUPPORTED || rc == -ERR_NOT_FOUND ||
        rc == -ERR_FORBIDDEN || rc == -ERR_UNPROCESSABLE || rc == -ERR_IO) {
        return err_set(err, ERR_INVALID, "%s", why.message);
    }
    return rc == 0 ? 0 : err_set(err, why.code, "%s", why.message);
}

static bool client_left(void *ctx)
{
    return http_request_closed(ctx);
}

static void ignore(void *ctx)
{
    (void)ctx;
}

static int import(struct hub *hub, struct http_request *request, const char *path, const char *id,
                  struct base_row *row, struct err *err)
{
    struct base_facts facts = {0};
    struct buf description;
    json_t *tree = NULL;
    buf_init(&description, DESCRIPTION_BYTES_MAX);
    int rc = inspect(hub, path, &description, err);
    if (rc == 0) {
        tree = json_parse(description.data, description.len, err);
        rc = tree != NULL ? facts_of(tree, &facts, err) : -(int)err->code;
    }
    if (rc == 0) {
        facts.details = description.data;
        http_request_on_close(request, ignore, NULL); /* so that its leaving is noticed */
        rc = registry_import_base(hub->registry, path, id, &facts, client_left, request,
                                  request->arena, row, err);
    }
    json_decref(tree);
    buf_release(&description);
    return rc;
}

HANDLER(bases_import)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct base_row row;
    const json_t *body = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &base_import_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    const char *path = body_string(body, "path");
    const char *id = body_string(body, "as");
    if (rc == 0) {
        rc = name_check_base("as", id, err);
    }
    if (rc == 0 && !request->peer_loopback && hub->settings.api_key[0] == '\0') {
        rc = err_set(err, ERR_FORBIDDEN,
                     "Importing reads any file of the server: it takes a local client or a key");
    }
    if (rc == 0 && !fs_exists(path)) {
        rc = err_set(err, ERR_INVALID, "Base model file not found: %s", path);
    }
    if (rc != 0) {
        return rc;
    }
    struct err missing = {0};
    const bool known = registry_get_base(hub->registry, id, request->arena, &row, &missing) == 0;
    rc = import(hub, request, path, id, &row, err);
    return rc == 0 ? reply_base(hub, response, known ? 200 : 201, &row, err) : rc;
}

HANDLER(bases_list)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    struct page page;
    struct base_row *rows;
    size_t count;
    int64_t total;
    http_issues_init(&issues);
    page_read(&page, request, &issues);
    if (issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    int rc = registry_list_bases(hub->registry, page.size, page.offset, request->arena, &rows,
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
        json_base(&out, &rows[i], memory_max(hub));
    }
    json_out_array_end(&out);
    return http_reply_json(response, 200, err);
}

HANDLER(bases_get)
{
    struct hub *hub = ctx;
    struct base_row row;
    const int rc =
        registry_get_base(hub->registry, http_path_param(request, "id"), request->arena, &row, err);
    return rc == 0 ? reply_base(hub, response, 200, &row, err) : rc;
}

/* An idle runner of it goes, too; one that answers finishes on the file that it has open. */
HANDLER(bases_delete)
{
    struct hub *hub = ctx;
    struct base_row row;
    struct err quiet = {0};
    const char *id = http_path_param(request, "id");
    int rc = registry_get_base(hub->registry, id, request->arena, &row, err);
    if (rc == 0) {
        rc = registry_delete_base(hub->registry, id, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (infer_unload(hub->infer, row.sha256, &quiet) != 0) {
        log_event(LOG_DEBUG, "api", "not_unloaded", "error=\"%s\"", quiet.message);
    }
    return http_reply_empty(response, 204, err);
}
