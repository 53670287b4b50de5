/* /api/blobs: a file is sent under its digest and lies in the cache until a model is made of it. */
#include "api/handlers.h"
#include "api/ollama.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "http/stream.h"
#include "registry/storage.h"

enum { BLOCK_BYTES = 1 << 20, DIGEST_HEX = SHA256_HEX_BYTES - 1 };

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

int ollama_blob_find(struct hub *hub, const char *digest, char path[FS_PATH_BYTES_MAX],
                     struct err *err)
{
    const char *hex;
    const int rc = blob_path(hub, digest, path, &hex, err);
    return rc != 0 || fs_exists(path)
               ? rc
               : err_set(err, ERR_INVALID, "No file %s was sent: POST /api/blobs/%s", digest,
                         digest);
}

void ollama_blob_forget(const char *path)
{
    struct err ignored = {0};
    if (fs_remove_file(path, &ignored) != 0) {
        log_event(LOG_WARNING, "api", "leftover", "path=%s error=\"%s\"", path, ignored.message);
    }
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
