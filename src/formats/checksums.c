#include "formats/checksums.h"

#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/hash.h"

int checksums_write(const char *dir, const char *const *names, int n, struct err *err)
{
    char path[FS_PATH_BYTES_MAX], sha256[SHA256_HEX_BYTES];
    struct buf text;
    int rc = 0;
    buf_init(&text, CHECKSUMS_BYTES_MAX);
    for (int i = 0; i < n && rc == 0; i++) {
        rc = fs_join(path, dir, names[i], err);
        if (rc == 0) {
            rc = sha256_file_hex(path, sha256, err);
        }
        buf_printf(&text, "%s  %s\n", sha256, names[i]);
    }
    if (rc == 0) {
        rc = buf_check(&text, CHECKSUMS_FILE, err);
    }
    if (rc == 0) {
        rc = fs_join(path, dir, CHECKSUMS_FILE, err);
    }
    if (rc == 0) {
        rc = fs_write_file(path, text.data, text.len, err);
    }
    buf_release(&text);
    return rc;
}

/* One line without its end: 64 hex digits, two spaces, a name. */
static int verify_line(const char *dir, char *line, struct err *err)
{
    char path[FS_PATH_BYTES_MAX], sha256[SHA256_HEX_BYTES];
    const size_t hex = SHA256_HEX_BYTES - 1;
    const char *name = line + hex + 2;
    if (strspn(line, "0123456789abcdef") != hex || strncmp(line + hex, "  ", 2) != 0 ||
        *name == '\0' || strchr(name, '/') != NULL) {
        return err_set(err, ERR_CORRUPT, "%s/%s has a line that is no checksum", dir,
                       CHECKSUMS_FILE);
    }
    int rc = fs_join(path, dir, name, err);
    if (rc != 0) {
        return rc;
    }
    if (!fs_exists(path)) {
        return err_set(err, ERR_CORRUPT, "%s is missing", path);
    }
    rc = sha256_file_hex(path, sha256, err);
    if (rc == 0 && strncmp(sha256, line, hex) != 0) {
        rc = err_set(err, ERR_CORRUPT, "%s does not have its checksum", path);
    }
    return rc;
}

int checksums_verify(const char *dir, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    struct buf text;
    int files = 0;
    buf_init(&text, CHECKSUMS_BYTES_MAX);
    int rc = fs_join(path, dir, CHECKSUMS_FILE, err);
    if (rc == 0) {
        rc = fs_read_file(path, CHECKSUMS_BYTES_MAX, &text, err);
    }
    char *line = text.data;
    while (rc == 0 && *line != '\0') {
        char *end = strchr(line, '\n');
        if (end == NULL || ++files > CHECKSUMS_FILES_MAX) {
            rc = err_set(err, ERR_CORRUPT, "%s is cut off or too long", path);
            break;
        }
        *end = '\0';
        rc = verify_line(dir, line, err);
        line = end + 1;
    }
    if (rc == 0 && files == 0) {
        rc = err_set(err, ERR_CORRUPT, "%s is empty", path);
    }
    buf_release(&text);
    return rc;
}
