/* POST /api/create and the files that it is made from. A file is sent under its digest and lies in
 * the cache until a model is made of it; `from` gives a base a second name. What Ollama would write
 * into a Modelfile is not kept here and refused by name. */
#include "api/handlers.h"
#include "api/ollama.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/bases.h"
#include "base/hash.h"
#include "base/log.h"
#include "http/stream.h"
#include "registry/models.h"
#include "registry/names.h"
#include "registry/storage.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { BLOCK_BYTES = 1 << 20, DIGEST_HEX = SHA256_HEX_BYTES - 1 };

static const struct http_field create_fields[] = {
    {.name = "model", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "name", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "from", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "files", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
    {.name = "stream", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
};
const struct api_body ollama_create_body = {create_fields, COUNT_OF(create_fields), true};

static const struct member_unsupported unsupported[] = {
    {"adapters", NULL},   {"system", NULL},   {"template", NULL},  {"license", NULL},
    {"parameters", NULL}, {"messages", NULL}, {"modelfile", NULL}, {"quantize", NULL},
};

/* --- files --- */

/* Where the file of "sha256:<hex>" lies until it is used. */
static int blob_path(struct hub *hub, const char *digest, char path[FS_PATH_BYTES_MAX],
                     const char **hex, struct err *err)
{
    static const char prefix[] = "sha256:";
    char name[DIGEST_HEX + 16];
    size_t n = 0;
    *hex = digest + sizeof prefix - 1;
    if (strncmp(digest, prefix, sizeof prefix - 1) == 0) {
        while ((*hex)[n] != '\0' &&
               (isdigit((unsigned char)(*hex)[n]) || ((*hex)[n] >= 'a' && (*hex)[n] <= 'f'))) {
            n++;
        }
    }
    if (n != DIGEST_HEX || (*hex)[n] != '\0') {
        return err_set(err, ERR_INVALID, "'%.80s' is no sha256:<64 hexadecimal digits>", digest);
    }
    (void)snprintf(name, sizeof name, "sent-%s.gguf", *hex);
    return storage_cache(registry_storage(hub->registry), name, path, err);
}

HANDLER(ollama_blob_get)
{
    char path[FS_PATH_BYTES_MAX];
    const char *hex;
    const int rc = blob_path(ctx, http_path_param(request, "digest"), path, &hex, err);
    if (rc != 0) {
        return rc;
    }
    return fs_exists(path) ? http_reply_empty(response, 200, err)
                           : err_set(err, ERR_NOT_FOUND, "No file sha256:%s was sent", hex);
}

/* Writes the body and tells its digest. */
static int receive(struct http_request *request, struct fs_writer *writer,
                   char digest[SHA256_HEX_BYTES], struct err *err)
{
    struct sha256 hash = {0};
    char *block = arena_alloc(request->arena, 1, BLOCK_BYTES);
    size_t got = 1;
    int rc = block != NULL ? sha256_init(&hash, err) : mem_err(err, BLOCK_BYTES);
    while (rc == 0 && got > 0) {
        rc = http_request_read(request, block, BLOCK_BYTES, &got, err);
        if (rc == 0 && got > 0) {
            rc = sha256_update(&hash, block, got, err);
        }
        if (rc == 0 && got > 0) {
            rc = fs_writer_write(writer, block, got, err);
        }
    }
    rc = rc == 0 ? sha256_final_hex(&hash, digest, err) : rc;
    sha256_release(&hash);
    return rc;
}

HANDLER(ollama_blob_put)
{
    struct fs_writer writer = {.fd = -1};
    char path[FS_PATH_BYTES_MAX];
    char digest[SHA256_HEX_BYTES];
    const char *hex;
    int rc = blob_path(ctx, http_path_param(request, "digest"), path, &hex, err);
    if (rc == 0) {
        rc = fs_writer_open(&writer, path, err);
    }
    if (rc != 0) {
        return rc;
    }
    rc = receive(request, &writer, digest, err);
    if (rc == 0 && strcmp(digest, hex) != 0) {
        rc = err_set(err, ERR_INVALID, "What was sent has the digest sha256:%s", digest);
    }
    rc = rc == 0 ? fs_writer_publish(&writer, err) : rc;
    fs_writer_abandon(&writer);
    return rc == 0 ? http_reply_empty(response, 201, err) : rc;
}

/* --- models --- */

/* A base of the one file that was sent. */
static int create_of_files(struct hub *hub, struct http_request *request, json_t *files,
                           const char *name, struct err *err)
{
    void *first = json_object_iter(files);
    const char *digest = json_string_value(json_object_iter_value(first));
    char path[FS_PATH_BYTES_MAX];
    const char *hex;
    struct base_row row;
    struct err ignored = {0};
    if (json_object_size(files) != 1 || digest == NULL) {
        return err_set(err, ERR_INVALID,
                       "'files' must name one GGUF file by its digest; folders come in by "
                       "'mlx-hub import'");
    }
    int rc = blob_path(hub, digest, path, &hex, err);
    if (rc == 0 && !fs_exists(path)) {
        rc = err_set(err, ERR_INVALID, "No file %s was sent: POST /api/blobs/%s", digest, digest);
    }
    if (rc == 0) {
        rc = name_check_base("model", name, err);
    }
    if (rc == 0) {
        rc = base_import(hub, request, path, name, NULL, &row, err);
    }
    if (rc == 0 && fs_remove_file(path, &ignored) != 0) {
        log_event(LOG_WARNING, "api", "leftover", "path=%s error=\"%s\"", path, ignored.message);
    }
    return rc;
}

int ollama_second_name(struct hub *hub, struct http_request *request, const char *from,
                       const char *name, struct err *err)
{
    struct resolved_model source;
    struct model_row row;
    int rc = registry_resolve_model(hub->registry, from, request->arena, &source, err);
    if (rc == 0 && source.has_version) {
        rc = err_set(err, ERR_UNSUPPORTED,
                     "'%s' is a trained version: it is not copied; give it an alias, or merge it "
                     "into a base",
                     from);
    }
    if (rc == 0) {
        const struct model_draft draft = {.name = name, .base_model = source.base_id};
        rc = registry_create_model(hub->registry, &draft, request->arena, &row, err);
    }
    return rc;
}

static int create(struct hub *hub, struct http_request *request, const json_t *body,
                  struct err *err)
{
    json_t *files = json_object_get(body, "files");
    const char *from = body_string(body, "from");
    const char *name = NULL;
    int rc = ollama_model_name(body, &name, err);
    if (rc == 0) {
        rc = members_refuse(body, unsupported, COUNT_OF(unsupported), err);
    }
    if (rc != 0) {
        return rc;
    }
    const char *plain = ollama_without_latest(name, request->arena);
    if (json_object_size(files) > 0) {
        return from == NULL ? create_of_files(hub, request, files, plain, err)
                            : err_set(err, ERR_INVALID, "'from' and 'files' exclude each other");
    }
    return from != NULL ? ollama_second_name(hub, request, from, plain, err)
                        : err_set(err, ERR_INVALID, "'from' or 'files' is required");
}

HANDLER(ollama_create)
{
    static const char done[] = "{\"status\":\"success\"}\n";
    struct http_issues issues;
    const json_t *body = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &ollama_create_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    rc = rc == 0 ? create(ctx, request, body, err) : rc;
    if (rc != 0) {
        return rc;
    }
    const bool plain = json_is_false(json_object_get(body, "stream"));
    return http_reply_text(response, 200, plain ? "application/json" : HTTP_NDJSON, done, err);
}
