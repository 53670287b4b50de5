/* How it works. Whole files and the writer that publishes them.
 *
 *   fs_writer_open → temp file beside the target (same file system, so rename is atomic)
 *   fs_writer_write → appended to temp
 *   fs_writer_publish → fsync(temp), rename(temp, path), fsync(folder)
 *   fs_writer_abandon → temp removed
 *
 * 1. Before publish returns 0 the old content of path is intact or the new is complete.
 * 2. fd > 0 exactly while a temp file exists; a zeroed struct is closed (descriptor 0 is the
 *    standard input, which no writer ever gets: fs_writer_open moves away from it).
 * 3. When publish fails after the rename (folder fsync), the new content is in place but may not
 *    survive a power cut; the caller hears of it and may write again.
 */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs_internal.h"
#include "base/mem.h"

enum { READ_BYTES_MIN = 4096, COPY_BYTES = 1 << 18 };

/* Bytes to ask for next: the rest of a file of known size and one to see its end. */
static size_t next_read(const struct buf *out, uint64_t size)
{
    uint64_t rest = size > out->len ? size - out->len + 1 : READ_BYTES_MIN;
    size_t room = out->bytes_max - out->len;
    return rest < room ? (size_t)rest : room;
}

static int too_large(const char *path, size_t bytes_max, struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "%s is larger than the %zu bytes allowed", path, bytes_max);
}

static int read_all(int fd, const char *path, uint64_t size, size_t bytes_max, struct buf *out,
                    struct err *err)
{
    size_t start = out->len;
    for (;;) {
        char probe;
        size_t want = next_read(out, size);
        char *to = want ? buf_reserve(out, want) : &probe;
        if (!to)
            return buf_check(out, path, err);
        ssize_t got = fs_sys_read(fd, to, want ? want : 1);
        if (got < 0)
            return err_set_errno(err, errno, "cannot read %s", path);
        if (got == 0)
            break;
        if (!want)
            return too_large(path, out->bytes_max, err);
        out->len += (size_t)got;
        if (out->len - start > bytes_max)
            return too_large(path, bytes_max, err);
    }
    if (!buf_reserve(out, 0)) /* puts the NUL, and "" for an empty file */
        return buf_check(out, path, err);
    return 0;
}

int fs_read_file(const char *path, size_t bytes_max, struct buf *out, struct err *err)
{
    struct stat st;
    int rc = 0;
    int fd = fs_sys_open(path, O_RDONLY, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", path);
    if (fstat(fd, &st) != 0)
        rc = err_set_errno(err, errno, "cannot read %s", path);
    else if (S_ISDIR(st.st_mode))
        rc = err_set(err, ERR_INVALID, "%s is a folder, not a file", path);
    else if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > bytes_max)
        rc = too_large(path, bytes_max, err);
    else
        rc =
            read_all(fd, path, S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0, bytes_max, out, err);
    close(fd);
    return rc;
}

/* --- writer ----------------------------------------------------------------------------------- */

int fs_writer_open(struct fs_writer *writer, const char *path, struct err *err)
{
    static atomic_uint counter;
    memset(writer, 0, sizeof *writer);
    int n = snprintf(writer->path, sizeof writer->path, "%s", path);
    int t = snprintf(writer->temp, sizeof writer->temp, "%s.tmp-%ld-%u", path, (long)getpid(),
                     atomic_fetch_add(&counter, 1));
    if (n < 0 || t < 0 || n >= FS_PATH_BYTES_MAX || t >= FS_PATH_BYTES_MAX)
        return err_set(err, ERR_INVALID, "path is too long: %.200s…", path);
    int fd = fs_sys_open(writer->temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0666);
    if (fd == 0) {
        fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
        close(0);
    }
    if (fd < 0)
        return err_set_errno(err, errno, "cannot create %s", writer->temp);
    writer->fd = fd;
    return 0;
}

int fs_writer_resume(struct fs_writer *writer, const char *path, const char *part, struct err *err)
{
    memset(writer, 0, sizeof *writer);
    int n = snprintf(writer->path, sizeof writer->path, "%s", path);
    int t = snprintf(writer->temp, sizeof writer->temp, "%s", part);
    if (n < 0 || t < 0 || n >= FS_PATH_BYTES_MAX || t >= FS_PATH_BYTES_MAX)
        return err_set(err, ERR_INVALID, "path is too long: %.200s…", path);
    int fd = fs_sys_open(writer->temp, O_WRONLY | O_CREAT | O_NOFOLLOW, 0666);
    if (fd == 0) {
        fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
        close(0);
    }
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", writer->temp);
    off_t end = lseek(fd, 0, SEEK_END);
    if (end < 0) {
        int failed = errno;
        close(fd);
        return err_set_errno(err, failed, "cannot write %s", writer->temp);
    }
    writer->fd = fd;
    writer->written = (uint64_t)end;
    return 0;
}

int fs_writer_restart(struct fs_writer *writer, struct err *err)
{
    if (ftruncate(writer->fd, 0) != 0 || lseek(writer->fd, 0, SEEK_SET) != 0)
        return err_set_errno(err, errno, "cannot empty %s", writer->temp);
    writer->written = 0;
    return 0;
}

void fs_writer_leave(struct fs_writer *writer)
{
    if (writer->fd > 0)
        close(writer->fd);
    writer->fd = 0;
}

int fs_writer_write(struct fs_writer *writer, const void *bytes, size_t n, struct err *err)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t put = fs_sys_write(writer->fd, at, n);
        if (put < 0)
            return err_set_errno(err, errno, "cannot write %s", writer->path);
        at += put;
        n -= (size_t)put;
        writer->written += (uint64_t)put;
    }
    return 0;
}

int fs_writer_publish(struct fs_writer *writer, struct err *err)
{
    char dir[FS_PATH_BYTES_MAX];
    int rc = fs_parent(dir, writer->path, err);
    if (rc == 0 && fs_sys_fsync(writer->fd) != 0)
        rc = err_set_errno(err, errno, "cannot flush %s", writer->path);
    if (rc == 0 && fs_sys_rename(writer->temp, writer->path) != 0)
        rc = err_set_errno(err, errno, "cannot put %s in place", writer->path);
    if (rc != 0) {
        fs_writer_abandon(writer);
        return rc;
    }
    close(writer->fd);
    writer->fd = 0;
    return fs_sync_dir(dir, err);
}

void fs_writer_abandon(struct fs_writer *writer)
{
    if (writer->fd <= 0)
        return;
    close(writer->fd);
    writer->fd = 0;
    unlink(writer->temp);
}

int fs_write_file(const char *path, const void *bytes, size_t n, struct err *err)
{
    struct fs_writer writer = {0};
    int rc = fs_writer_open(&writer, path, err);
    if (rc == 0)
        rc = fs_writer_write(&writer, bytes, n, err);
    if (rc == 0)
        rc = fs_writer_publish(&writer, err);
    fs_writer_abandon(&writer);
    return rc;
}

int fs_copy_file(const char *from, const char *to, struct err *err)
{
    struct fs_writer writer = {0};
    int rc = 0;
    char *chunk = NULL;
    int fd = fs_sys_open(from, O_RDONLY, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", from);
    chunk = mem_alloc(COPY_BYTES);
    if (!chunk) {
        rc = mem_err(err, COPY_BYTES);
        goto out;
    }
    rc = fs_writer_open(&writer, to, err);
    while (rc == 0) {
        ssize_t got = fs_sys_read(fd, chunk, COPY_BYTES);
        if (got < 0)
            rc = err_set_errno(err, errno, "cannot read %s", from);
        if (got <= 0)
            break;
        rc = fs_writer_write(&writer, chunk, (size_t)got, err);
    }
    if (rc == 0)
        rc = fs_writer_publish(&writer, err);
out:
    fs_writer_abandon(&writer);
    mem_free(chunk);
    close(fd);
    return rc;
}
