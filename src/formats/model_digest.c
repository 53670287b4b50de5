#include "formats/model_digest.h"

#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"

struct listing {
    const char *dir;
    struct buf text;
    struct err *err;
};

static bool ends_with(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcmp(name + n - m, ending) == 0;
}

bool model_digest_counts(const char *name)
{
    static const char *const endings[] = {".safetensors", ".gguf", ".json",
                                          ".model",       ".txt",  ".jinja"};
    for (size_t i = 0; name[0] != '.' && i < sizeof endings / sizeof endings[0]; i++) {
        if (ends_with(name, endings[i])) {
            return true;
        }
    }
    return false;
}

static int add_file(void *ctx, const char *name, bool is_dir)
{
    struct listing *listing = ctx;
    char path[FS_PATH_BYTES_MAX], sha256[SHA256_HEX_BYTES];
    uint64_t bytes = 0;
    if (is_dir || !model_digest_counts(name)) {
        return 0;
    }
    int rc = fs_join(path, listing->dir, name, listing->err);
    if (rc != 0 || fs_is_dir(path)) {
        return rc;
    }
    rc = fs_size(path, &bytes, listing->err);
    if (rc == 0) {
        rc = sha256_file_hex(path, sha256, listing->err);
    }
    if (rc == 0) {
        buf_printf(&listing->text, "%s  %" PRIu64 "  %s\n", sha256, bytes, name);
    }
    return rc;
}

int model_digest(const char *path, char out[SHA256_HEX_BYTES], struct err *err)
{
    struct listing listing = {.dir = path, .err = err};
    if (!fs_is_dir(path)) {
        return sha256_file_hex(path, out, err);
    }
    buf_init(&listing.text, MODEL_DIGEST_BYTES_MAX);
    int rc = fs_list_dir(path, add_file, &listing, err);
    if (rc == 0) {
        rc = buf_check(&listing.text, "the list of a model's files", err);
    }
    if (rc == 0) {
        rc = sha256_hex(listing.text.data != NULL ? listing.text.data : "", listing.text.len, out,
                        err);
    }
    buf_release(&listing.text);
    return rc;
}
