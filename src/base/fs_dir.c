/* How it works. Folders: making, publishing, listing and removing them, and the lock.
 *
 * 1. Removing a tree works on descriptors (openat, unlinkat) and never follows a symlink, so a link
 *    planted inside a storage folder cannot lead it out.
 * 2. A listing is read whole before the first visit, so the visitor may change the folder.
 */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs_internal.h"
#include "base/mem.h"

enum { TREE_DEPTH_MAX = 64, ENTRIES_MAX = 1 << 20, READINGS_MAX = 256, HOLDER_BYTES_MAX = 256 };

int fs_sync_dir(const char *path, struct err *err)
{
    int fd = fs_sys_open(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open folder %s", path);
    int rc = fs_sys_fsync(fd) == 0 ? 0 : err_set_errno(err, errno, "cannot flush folder %s", path);
    close(fd);
    return rc;
}

/* Makes one folder. 0 when it is there afterwards. */
static int make_one(const char *path, struct err *err)
{
    if (fs_is_dir(path))
        return 0;
    if (fs_sys_mkdir(path) == 0)
        return 0;
    int errnum = errno;
    if (errnum == EEXIST && fs_is_dir(path))
        return 0;
    if (errnum == EEXIST || errnum == ENOTDIR)
        return err_set(err, ERR_CONFLICT, "cannot make folder %s: a file is in the way", path);
    return err_set_errno(err, errnum, "cannot make folder %s", path);
}

int fs_mkdirs(const char *path, struct err *err)
{
    char part[FS_PATH_BYTES_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return err_set(err, ERR_INVALID, "folder path is empty or too long: %.200s", path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        if (path[i - 1] == '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        int rc = make_one(part, err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int fs_publish_file(const char *temp, const char *path, struct err *err)
{
    char dir[FS_PATH_BYTES_MAX];
    int rc = fs_parent(dir, path, err);
    if (rc == 0 && fs_sys_rename_new(temp, path) != 0) {
        if (errno == EEXIST || errno == ENOTEMPTY)
            rc = err_set(err, ERR_CONFLICT, "%s exists already", path);
        else
            rc = err_set_errno(err, errno, "cannot put %s in place", path);
    }
    return rc == 0 ? fs_sync_dir(dir, err) : rc;
}

int fs_publish_dir(const char *temp, const char *path, struct err *err)
{
    const int rc = fs_sync_dir(temp, err);
    return rc == 0 ? fs_publish_file(temp, path, err) : rc;
}

/* --- removing --------------------------------------------------------------------------------- */

static int remove_entry(int dir, const char *name, int depth, struct err *err);

/* Removes what one reading of the folder shows; *removed counts it. */
static int remove_shown(DIR *stream, int depth, size_t *removed, struct err *err)
{
    int rc = 0;
    *removed = 0;
    while (rc == 0) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (!entry && errno)
            return err_set_errno(err, errno, "cannot read a folder");
        if (!entry)
            return 0;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rc = remove_entry(dirfd(stream), entry->d_name, depth, err);
            ++*removed;
        }
    }
    return rc;
}

/* Removes everything inside the open folder; closes fd. It is read again until nothing is shown:
 * on macOS a large folder moves under the reader as entries go, and some are passed over. */
static int remove_inside(int fd, int depth, struct err *err)
{
    int rc = 0;
    size_t removed = 1; /* by the latest reading */
    DIR *stream = fdopendir(fd);
    if (!stream) {
        rc = err_set_errno(err, errno, "cannot read a folder");
        close(fd);
        return rc;
    }
    for (int i = 0; i < READINGS_MAX && rc == 0 && removed > 0; i++) {
        rewinddir(stream);
        rc = remove_shown(stream, depth, &removed, err);
    }
    closedir(stream);
    return rc;
}

static int remove_entry(int dir, const char *name, int depth, struct err *err)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    /* Linux says EISDIR, POSIX and macOS EPERM. */
    if (errno != EISDIR && errno != EPERM)
        return err_set_errno(err, errno, "cannot remove %s", name);
    int errnum = errno;
    if (depth >= TREE_DEPTH_MAX)
        return err_set(err, ERR_INVALID, "cannot remove %s: folders nested too deeply", name);
    int fd = fs_sys_openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0)
        return err_set_errno(err, errno == ENOTDIR ? errnum : errno, "cannot remove %s", name);
    int rc = remove_inside(fd, depth + 1, err);
    if (rc == 0 && unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        rc = err_set_errno(err, errno, "cannot remove %s", name);
    return rc;
}

int fs_remove_tree(const char *path, struct err *err)
{
    char whole[FS_PATH_BYTES_MAX];
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--; /* "link/" would be followed */
    if (length == 0 || length >= sizeof whole)
        return err_set(err, ERR_INVALID, "path is empty or too long: %.200s", path);
    memcpy(whole, path, length);
    whole[length] = '\0';
    int rc = remove_entry(AT_FDCWD, whole, 0, err);
    if (rc != 0)
        err_prefix(err, "%s", path);
    return rc;
}

int fs_remove_file(const char *path, struct err *err)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return 0;
    return err_set_errno(err, errno, "cannot remove %s", path);
}

/* --- listing ---------------------------------------------------------------------------------- */

struct entry {
    const char *name; /* in the listing's arena */
    bool is_dir;
};

struct listing {
    struct arena arena;
    struct entry *entries;
    size_t n, cap;
};

static bool entry_is_dir(int dir, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type == DT_DIR)
        return true;
    if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK)
        return false;
    return fstatat(dir, entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

static int listing_add(struct listing *list, const char *name, bool is_dir, struct err *err)
{
    if (list->n == ENTRIES_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d entries", ENTRIES_MAX);
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        struct entry *grown = mem_realloc(list->entries, cap, sizeof *grown);
        if (!grown)
            return mem_err(err, cap * sizeof *grown);
        list->entries = grown;
        list->cap = cap;
    }
    const char *copy = arena_strdup(&list->arena, name);
    if (!copy)
        return mem_err(err, strlen(name) + 1);
    list->entries[list->n++] = (struct entry){copy, is_dir};
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int listing_read(struct listing *list, DIR *stream, struct err *err)
{
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (!entry && errno)
            return err_set_errno(err, errno, "cannot read folder");
        if (!entry)
            return 0;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int rc = listing_add(list, entry->d_name, entry_is_dir(dirfd(stream), entry), err);
        if (rc != 0)
            return rc;
    }
}

int fs_list_dir(const char *path, int (*visit)(void *ctx, const char *name, bool is_dir), void *ctx,
                struct err *err)
{
    struct listing list = {0};
    arena_init(&list.arena, 0);
    int fd = fs_sys_open(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open folder %s", path);
    DIR *stream = fdopendir(fd);
    if (!stream) {
        int rc = err_set_errno(err, errno, "cannot open folder %s", path);
        close(fd);
        return rc;
    }
    int rc = listing_read(&list, stream, err);
    closedir(stream);
    if (rc != 0) {
        err_prefix(err, "%s", path);
        goto out;
    }
    if (list.n)
        qsort(list.entries, list.n, sizeof *list.entries, by_name);
    for (size_t i = 0; i < list.n && rc == 0; i++)
        rc = visit(ctx, list.entries[i].name, list.entries[i].is_dir);
out:
    mem_free(list.entries);
    arena_release(&list.arena);
    return rc;
}

/* --- lock ------------------------------------------------------------------------------------- */

/* Names whoever holds the lock, from what it wrote into the file. */
static int held(int fd, const char *dir, struct err *err)
{
    char holder[HOLDER_BYTES_MAX] = "";
    ssize_t got = pread(fd, holder, sizeof holder - 1, 0);
    holder[got > 0 ? got : 0] = '\0';
    holder[strcspn(holder, "\r\n")] = '\0';
    return err_set(err, ERR_CONFLICT, "%s is in use by %s", dir,
                   holder[0] ? holder : "another process");
}

static int open_lock(const char *dir, char path[FS_PATH_BYTES_MAX], int *fd, struct err *err)
{
    int rc = fs_join(path, dir, ".lock", err);
    *fd = rc == 0 ? fs_sys_open(path, O_RDWR | O_CREAT, 0666) : -1;
    return rc == 0 && *fd < 0 ? err_set_errno(err, errno, "cannot open %s", path) : rc;
}

int fs_lock_dir_wait(const char *dir, int *fd, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int rc = open_lock(dir, path, fd, err), failed = 0;
    if (rc != 0)
        return rc;
    do
        failed = flock(*fd, LOCK_EX) != 0 ? errno : 0;
    while (failed == EINTR);
    if (failed != 0) {
        close(*fd);
        *fd = -1;
        return err_set_errno(err, failed, "cannot lock %s", path);
    }
    return 0;
}

int fs_lock_dir(const char *dir, const char *holder, int *fd_out, struct err *err)
{
    char path[FS_PATH_BYTES_MAX], text[HOLDER_BYTES_MAX];
    int fd = -1;
    *fd_out = -1;
    int rc = open_lock(dir, path, &fd, err);
    if (rc != 0)
        return rc;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        rc = errno == EWOULDBLOCK ? held(fd, dir, err)
                                  : err_set_errno(err, errno, "cannot lock %s", path);
        close(fd);
        return rc;
    }
    int n = snprintf(text, sizeof text, "%s (pid %ld)\n", holder, (long)getpid());
    size_t length = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    if (ftruncate(fd, 0) != 0 || fs_sys_write(fd, text, length) != (ssize_t)length) {
        rc = err_set_errno(err, errno, "cannot write %s", path);
        close(fd);
        return rc;
    }
    *fd_out = fd;
    return 0;
}

void fs_unlock_dir(int fd)
{
    if (fd < 0)
        return;
    if (ftruncate(fd, 0) != 0) {
        /* The name of a holder that is gone stays; the next holder overwrites it. */
    }
    (void)flock(fd, LOCK_UN); /* a child that was just made has the descriptor, too */
    close(fd);
}
