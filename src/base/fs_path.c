/* How it works. Facts about paths, paths that stay inside a folder, and read-only maps.
 *
 * fs_resolve_within compares real paths (symlinks resolved by the kernel) on a component's edge, so
 * "/data/models2" is not inside "/data/models".
 */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs_internal.h"

bool fs_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool fs_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int fs_size(const char *path, uint64_t *bytes, struct err *err)
{
    struct stat st;
    *bytes = 0;
    if (stat(path, &st) != 0)
        return err_set_errno(err, errno, "cannot look at %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "%s is not a file", path);
    *bytes = (uint64_t)st.st_size;
    return 0;
}

int fs_free_space(const char *path, uint64_t *bytes, struct err *err)
{
    struct statvfs st;
    *bytes = 0;
    if (statvfs(path, &st) != 0)
        return err_set_errno(err, errno, "cannot look at the disk of %s", path);
    *bytes = (uint64_t)st.f_bavail * (st.f_frsize ? st.f_frsize : st.f_bsize);
    return 0;
}

/* --- paths ------------------------------------------------------------------------------------ */

static int path_too_long(const char *path, struct err *err)
{
    return err_set(err, ERR_INVALID, "path is too long: %.200s…", path);
}

int fs_join(char out[FS_PATH_BYTES_MAX], const char *dir, const char *name, struct err *err)
{
    size_t length = strlen(dir);
    while (length > 1 && dir[length - 1] == '/')
        length--;
    while (*name == '/')
        name++;
    const char *slash = length == 0 || dir[length - 1] == '/' ? "" : "/";
    if (length >= FS_PATH_BYTES_MAX)
        return path_too_long(dir, err);
    int n = snprintf(out, FS_PATH_BYTES_MAX, "%.*s%s%s", (int)length, dir, slash, name);
    if (n < 0 || n >= FS_PATH_BYTES_MAX)
        return path_too_long(dir, err);
    return 0;
}

int fs_parent(char *out, const char *path, struct err *err)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length >= FS_PATH_BYTES_MAX)
        return path_too_long(path, err);
    if (length == 0) {
        memcpy(out, ".", 2);
        return 0;
    }
    memcpy(out, path, length);
    out[length] = '\0';
    return 0;
}

/* Drops empty and "." components of an absolute path in place. ".." stays: only the kernel knows
 * where it leads past a symlink. */
static void tidy(char *path)
{
    char *to = path;
    for (const char *at = path; *at;) {
        size_t length = strcspn(at + 1, "/");
        bool keep = length > 0 && !(length == 1 && at[1] == '.');
        if (keep) {
            memmove(to, at, length + 1);
            to += length + 1;
        }
        at += length + 1;
    }
    if (to == path)
        *to++ = '/';
    *to = '\0';
}

int fs_absolute(char out[FS_PATH_BYTES_MAX], const char *path, struct err *err)
{
    if (path[0] == '\0')
        return err_set(err, ERR_INVALID, "path is empty");
    if (path[0] == '/') {
        size_t length = strlen(path);
        if (length >= FS_PATH_BYTES_MAX)
            return path_too_long(path, err);
        memcpy(out, path, length + 1);
    } else {
        char cwd[FS_PATH_BYTES_MAX];
        if (!getcwd(cwd, sizeof cwd))
            return err_set_errno(err, errno, "cannot find the working folder");
        int rc = fs_join(out, cwd, path, err);
        if (rc != 0)
            return rc;
    }
    tidy(out);
    return 0;
}

static int real_path(char out[FS_PATH_BYTES_MAX], const char *path, struct err *err)
{
    _Static_assert(FS_PATH_BYTES_MAX >= PATH_MAX, "realpath writes up to PATH_MAX bytes");
    if (realpath(path, out))
        return 0;
    if (errno == ENOTDIR || errno == ENAMETOOLONG || errno == ELOOP)
        return err_set(err, ERR_NOT_FOUND, "%.200s does not exist", path);
    return err_set_errno(err, errno, "cannot resolve %.200s", path);
}

int fs_resolve_within(char out[FS_PATH_BYTES_MAX], const char *dir, const char *path,
                      struct err *err)
{
    char root[FS_PATH_BYTES_MAX], joined[FS_PATH_BYTES_MAX];
    int rc = real_path(root, dir, err);
    if (rc == 0 && path[0] == '/' && strlen(path) < sizeof joined)
        memcpy(joined, path, strlen(path) + 1);
    else if (rc == 0)
        rc = fs_join(joined, dir, path, err);
    if (rc == 0)
        rc = real_path(out, joined, err);
    if (rc != 0)
        return rc;
    size_t length = strlen(root);
    if (length == 1 ||
        (strncmp(out, root, length) == 0 && (out[length] == '/' || out[length] == '\0')))
        return 0;
    return err_set(err, ERR_FORBIDDEN, "%.200s is outside of its folder", path);
}

/* --- maps ------------------------------------------------------------------------------------- */

int fs_map_open(struct fs_map *map, const char *path, struct err *err)
{
    *map = (struct fs_map){0};
    int rc = 0;
    struct stat st;
    int fd = fs_sys_open(path, O_RDONLY | O_NONBLOCK, 0); /* a FIFO must not hang us */
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", path);
    if (fstat(fd, &st) != 0) {
        rc = err_set_errno(err, errno, "cannot look at %s", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = err_set(err, ERR_INVALID, "%s is not a file", path);
    } else if (st.st_size > 0) {
        void *data = MAP_FAILED;
        if (fault_hit(FAULT_MMAP))
            errno = ENOMEM;
        else
            data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            rc = err_set_errno(err, errno, "cannot map %s", path);
        else
            *map = (struct fs_map){data, (size_t)st.st_size};
    }
    close(fd);
    return rc;
}

void fs_map_forget(const void *bytes, size_t n)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)bytes + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)bytes + n) / page * page;
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* advice: no matter */
}

void fs_map_close(struct fs_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct fs_map){0};
}
