/* /base-models. What a file holds is found out in a child; here it is only copied and hashed. */
#include "api/bases.h"

#include <string.h>

#include "api/handlers.h"
#include "api/memory.h"
#include "api/rows_json.h"
#include "api/supervise.h"
#include "base/hash.h"
#include "base/log.h"
#include "infer/inspect.h"
#include "registry/bases.h"
#include "registry/jobs.h"
#include "registry/names.h"
#include "train/merge.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { DESCRIPTION_BYTES_MAX = 1 << 20, ID_CHARACTERS_MAX = 511 };

static const char *const quantizations[] = {"4bit", "8bit", "none", NULL};

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
    {.name = "quantization", .kind = HTTP_ENUM, .flags = HTTP_NULLABLE, .choices = quantizations},
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

/* What is taken in: the files at path or, where they are to be quantised, a folder made of them. */
struct incoming {
    const char *path;
    const char *quantization; /* what was asked for, or NULL */
    struct buf description;   /* of what is taken in */
    json_t *tree;
    char folder[FS_PATH_BYTES_MAX]; /* the quantised one, or "" */
    const char *source;
};

static int look_at(struct hub *hub, struct incoming *in, const char *path, struct err *err)
{
    json_decref(in->tree);
    in->tree = NULL;
    buf_clear(&in->description);
    const int rc = inspect(hub, path, &in->description, err);
    if (rc == 0) {
        in->tree = json_parse(in->description.data, in->description.len, err);
        return in->tree != NULL ? 0 : -(int)err->code;
    }
    return rc;
}

/* How many bits the weights are to be kept in; 0: as they are. */
static int bits_of(const struct hub *hub, const struct incoming *in)
{
    struct err ignored = {0};
    const char *type = "";
    int64_t bytes = 0, memory = 0;
    if (json_get_string(in->tree, "quantization", "", &type, &ignored) != 0 ||
        json_get_int(in->tree, "bytes", 0, &bytes, &ignored) != 0 ||
        json_get_int(in->tree, "memory_bytes", 0, &memory, &ignored) != 0) {
        return 0;
    }
    const struct import_size size = {type, (uint64_t)bytes, (uint64_t)memory};
    return import_bits(&hub->settings, in->quantization, &size);
}

static int quantise(struct hub *hub, struct incoming *in, int bits, struct arena *arena,
                    struct err *err)
{
    char uuid[UUID_BYTES], name[UUID_BYTES + 16];
    const char *type = json_string_value(json_object_get(in->tree, "quantization"));
    struct err why = {0};
    in->source = arena_printf(arena, "%s (%s, quantised to %d bits when imported)", in->path,
                              type != NULL ? type : "?", bits);
    int rc = in->source != NULL ? uuid_make(uuid, err) : mem_err(err, 0);
    if (rc == 0) {
        (void)snprintf(name, sizeof name, "import-%s", uuid);
        rc = storage_cache(registry_storage(hub->registry), name, in->folder, err);
    }
    rc = rc == 0 ? train_quantize_child(hub->program, in->path, in->folder, bits, &why) : rc;
    if (why.code != ERR_NONE) {
        return err_set(err, why.code, "%s", why.message);
    }
    return rc == 0 ? look_at(hub, in, in->folder, err) : rc;
}

static int take_in(struct hub *hub, struct http_request *request, struct incoming *in,
                   const char *id, struct base_row *row, struct err *err)
{
    struct base_facts facts = {0};
    int rc = look_at(hub, in, in->path, err);
    const int bits = rc == 0 ? bits_of(hub, in) : 0;
    rc = rc == 0 && bits > 0 ? quantise(hub, in, bits, request->arena, err) : rc;
    rc = rc == 0 ? base_facts_read(in->tree, &facts, err) : rc;
    if (rc == 0) {
        facts.details = in->description.data;
        facts.source = in->source;
        http_request_on_close(request, ignore, NULL); /* so that its leaving is noticed */
        rc = registry_import_base(hub->registry, in->folder[0] != '\0' ? in->folder : in->path, id,
                                  &facts, client_left, request, request->arena, row, err);
    }
    return rc;
}

int base_import(struct hub *hub, struct http_request *request, const char *path, const char *id,
                const char *quantization, struct base_row *row, struct err *err)
{
    struct incoming in = {.path = path, .quantization = quantization};
    struct err ignored = {0};
    buf_init(&in.description, DESCRIPTION_BYTES_MAX);
    const int rc = take_in(hub, request, &in, id, row, err);
    if (in.folder[0] != '\0' && fs_remove_tree(in.folder, &ignored) != 0) {
        log_event(LOG_WARNING, "api", "leftover", "path=%s error=\"%s\"", in.folder,
                  ignored.message);
    }
    json_decref(in.tree);
    buf_release(&in.description);
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
    rc = base_import(hub, request, path, id, body_string(body, "quantization"), &row, err);
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

/* --- jobs about a base --- */

static const struct http_field quantize_fields[] = {
    {.name = "as",
     .kind = HTTP_STRING,
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = ID_CHARACTERS_MAX},
    {.name = "bits",
     .kind = HTTP_INT,
     .flags = HTTP_NULLABLE | HTTP_MIN | HTTP_MAX,
     .min = 4,
     .max = 8},
    {.name = "group_size",
     .kind = HTTP_INT,
     .flags = HTTP_NULLABLE | HTTP_MIN | HTTP_MAX,
     .min = 32,
     .max = 128},
};
const struct api_body base_quantize_body = {quantize_fields, COUNT_OF(quantize_fields), false};

static int quantize_config(const char *base, const json_t *body, struct arena *arena,
                           const char **config, struct err *err)
{
    struct buf text;
    struct json_out out;
    int64_t bits = 4, group = 0;
    int rc = json_get_int(body, "bits", 4, &bits, err);
    rc = rc == 0 ? json_get_int(body, "group_size", 0, &group, err) : rc;
    if (rc == 0 &&
        ((bits != 4 && bits != 8) || (group != 0 && group != 32 && group != 64 && group != 128))) {
        rc = err_set(err, ERR_UNPROCESSABLE, "bits must be 4 or 8 and group_size 32, 64 or 128");
    }
    if (rc != 0) {
        return rc;
    }
    buf_init(&text, DESCRIPTION_BYTES_MAX);
    json_out_init(&out, &text);
    json_out_object(&out);
    json_out_kv_string(&out, "base", base);
    json_out_kv_string(&out, "as", body_string(body, "as"));
    json_out_kv_int(&out, "bits", bits);
    json_out_kv_int(&out, "group_size", group);
    json_out_object_end(&out);
    rc = buf_check(&text, "the job's config", err);
    *config = rc == 0 ? arena_strndup(arena, text.data, text.len) : NULL;
    buf_release(&text);
    return rc == 0 && *config == NULL ? mem_err(err, 0) : rc;
}

/* The base is there, and the name is free. */
static int check_ids(struct hub *hub, const char *base, const char *as, struct arena *arena,
                     struct err *err)
{
    struct base_row row;
    char path[FS_PATH_BYTES_MAX];
    int rc = registry_get_base(hub->registry, base, arena, &row, err);
    rc = rc == 0 ? registry_base_path(hub->registry, base, arena, &row, path, err) : rc;
    return rc == 0 ? registry_check_new_base(hub->registry, as, err) : rc;
}

HANDLER(bases_quantize)
{
    struct hub *hub = ctx;
    struct http_issues issues;
    const json_t *body = NULL;
    const char *base = http_path_param(request, "id");
    struct task_draft draft = {.kind = JOB_QUANTIZE, .queue_max = HUB_JOBS_QUEUED_MAX};
    struct job_row row;
    http_issues_init(&issues);
    int rc = body_read(request, &base_quantize_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    if (rc == 0 && (rc = quantize_config(base, body, request->arena, &draft.config, err)) == 0 &&
        (rc = check_ids(hub, base, body_string(body, "as"), request->arena, err)) == 0) {
        rc = registry_create_task(hub->registry, &draft, request->arena, &row, err);
    }
    if (rc != 0) {
        return rc;
    }
    supervisor_poke(hub->supervisor);
    return reply_task(response, &row, err);
}
