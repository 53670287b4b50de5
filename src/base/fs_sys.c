/* How it works. The one place where fs meets the operating system: fault hook, EINTR, and the few
 * calls whose spelling differs between Linux and macOS.
 */
#include "base/fs_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"

/* macOS refuses one byte more than INT_MAX where Linux does a part of it. */
static const size_t IO_BYTES_MAX = (size_t)1 << 30;

int fs_sys_open(const char *path, int flags, mode_t mode)
{
    if (fault_hit(FAULT_OPEN)) {
        errno = EMFILE;
        return -1;
    }
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

int fs_sys_openat(int dir, const char *name, int flags)
{
    if (fault_hit(FAULT_OPEN)) {
        errno = EMFILE;
        return -1;
    }
    int fd;
    do
        fd = openat(dir, name, flags | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

ssize_t fs_sys_read(int fd, void *bytes, size_t n)
{
    if (fault_hit(FAULT_READ)) {
        errno = EIO;
        return -1;
    }
    ssize_t got;
    n = n < IO_BYTES_MAX ? n : IO_BYTES_MAX;
    do
        got = read(fd, bytes, n);
    while (got < 0 && errno == EINTR);
    return got;
}

ssize_t fs_sys_write(int fd, const void *bytes, size_t n)
{
    if (fault_hit(FAULT_WRITE)) {
        errno = ENOSPC;
        return -1;
    }
    ssize_t put;
    n = n < IO_BYTES_MAX ? n : IO_BYTES_MAX;
    do
        put = write(fd, bytes, n);
    while (put < 0 && errno == EINTR);
    return put;
}

int fs_sys_fsync(int fd)
{
    if (fault_hit(FAULT_FSYNC)) {
        errno = ENOSPC;
        return -1;
    }
    int rc;
#ifdef F_FULLFSYNC
    do
        rc = fcntl(fd, F_FULLFSYNC);
    while (rc < 0 && errno == EINTR);
    if (rc == 0 || errno == EIO || errno == ENOSPC || errno == EDQUOT)
        return rc;
        /* A file system that cannot, which each says in its own way. */
#endif
    do
        rc = fsync(fd);
    while (rc < 0 && errno == EINTR);
    return rc;
}

int fs_sys_rename(const char *from, const char *to)
{
    if (fault_hit(FAULT_RENAME)) {
        errno = ENOSPC;
        return -1;
    }
    return rename(from, to);
}

int fs_sys_rename_new(const char *from, const char *to)
{
    if (fault_hit(FAULT_RENAME)) {
        errno = ENOSPC;
        return -1;
    }
#if defined(__linux__)
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
#elif defined(__APPLE__)
    if (renamex_np(from, to, RENAME_EXCL) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOTSUP)
        return -1;
#endif
    /* A file system without the atomic form: look, then rename. Publishers of one path hold the
     * folder's lock, so nobody comes between. */
    struct stat st;
    if (lstat(to, &st) == 0) {
        errno = EEXIST;
        return -1;
    }
    return rename(from, to);
}

int fs_sys_mkdir(const char *path)
{
    if (fault_hit(FAULT_MKDIR)) {
        errno = ENOSPC;
        return -1;
    }
    return mkdir(path, 0777);
}
