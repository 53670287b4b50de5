/* How it works: bytes are hashed while they are copied to a temporary name inside blobs/, so the
 * name that they get is that of the very bytes that were written. The blob appears by one rename.
 *
 * Invariants:
 *  1. Under a name of 64 hex digits lies exactly that content, whole and flushed, or nothing.
 *  2. A failed or abandoned copy leaves only temporary names, and removes them if it can.
 */
#include "registry/blobs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/mem.h"
#include "formats/model_digest.h"
#include "registry/bases.h"

enum { COPY_BYTES = 1 << 20, MANIFEST_BYTES_MAX = BASE_FILES_MAX * 512 };

static int open_source(const char *path, int *fd, struct err *err)
{
    struct stat info;

    errno = EIO;
    *fd = fault_hit(FAULT_OPEN) ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return err_set_errno(err, errno, "Cannot open %s", path);
    if (fstat(*fd, &info) == 0 && S_ISREG(info.st_mode))
        return 0;
    close(*fd);
    *fd = -1;
    return err_set(err, ERR_INVALID, "Not a file: %s", path);
}

static ssize_t read_some(int fd, void *into, size_t n)
{
    ssize_t got;

    do {
        errno = EIO;
        got = fault_hit(FAULT_READ) ? -1 : read(fd, into, n);
    } while (got < 0 && errno == EINTR);
    return got;
}

static int pump(int fd, const struct blob_source *source, struct fs_writer *writer,
                struct sha256 *hash, char *chunk, uint64_t *bytes, struct err *err)
{
    *bytes = 0;
    for (;;) {
        if (source->cancelled && source->cancelled(source->ctx))
            return err_set(err, ERR_CANCELLED, "The import was cancelled");
        ssize_t got = read_some(fd, chunk, COPY_BYTES);
        if (got < 0)
            return err_set_errno(err, errno, "Cannot read %s", source->path);
        if (got == 0)
            return 0;
        int rc = sha256_update(hash, chunk, (size_t)got, err);
        if (rc == 0 && writer)
            rc = fs_writer_write(writer, chunk, (size_t)got, err);
        if (rc < 0)
            return rc;
        *bytes += (uint64_t)got;
    }
}

/* One file to an open writer, which the caller publishes or abandons; to NULL: it is only read. */
static int copy_file(const struct blob_source *source, const char *to, struct fs_writer *writer,
                     char sha256[SHA256_HEX_BYTES], uint64_t *bytes, struct err *err)
{
    struct sha256 hash = {0};
    char *chunk = NULL;
    int fd = -1;
    int rc = open_source(source->path, &fd, err);

    if (rc == 0)
        rc = sha256_init(&hash, err);
    if (rc == 0 && !(chunk = mem_alloc(COPY_BYTES)))
        rc = mem_err(err, COPY_BYTES);
    if (rc == 0 && to)
        rc = fs_writer_open(writer, to, err);
    if (rc == 0)
        rc = pump(fd, source, to ? writer : NULL, &hash, chunk, bytes, err);
    if (rc == 0)
        rc = sha256_final_hex(&hash, sha256, err);
    sha256_release(&hash);
    mem_free(chunk);
    if (fd >= 0)
        close(fd);
    return rc;
}

static bool ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);

    return n > m && strcmp(name + n - m, ending) == 0;
}

static bool is_weights(const char *name)
{
    return ends_with(name, ".safetensors") || ends_with(name, ".gguf");
}

struct tree {
    const struct blob_source *source;
    struct blob_copy *copy;
    struct buf manifest;
    int files;
    bool has_weights;
    struct err *err;
};

static int tree_file(struct tree *tree, const char *from, const char *name)
{
    struct blob_source source = *tree->source;
    struct fs_writer writer = {0};
    char to[FS_PATH_BYTES_MAX], sha256[SHA256_HEX_BYTES];
    bool taken = tree->copy->taken != NULL;
    uint64_t bytes = 0;
    int rc = taken ? 0 : fs_join(to, tree->copy->temp, name, tree->err);

    source.path = from;
    if (rc == 0)
        rc = copy_file(&source, taken ? NULL : to, &writer, sha256, &bytes, tree->err);
    if (rc == 0) {
        buf_printf(&tree->manifest, "%s  %llu  %s\n", sha256, (unsigned long long)bytes, name);
        tree->copy->bytes += bytes;
        rc = taken ? 0 : fs_writer_publish(&writer, tree->err);
    }
    fs_writer_abandon(&writer);
    return rc;
}

static int tree_entry(void *ctx, const char *name, bool is_dir)
{
    struct tree *tree = ctx;
    char from[FS_PATH_BYTES_MAX];

    if (is_dir || !model_digest_counts(name))
        return 0;
    if (++tree->files > BASE_FILES_MAX)
        return err_set(tree->err, ERR_INVALID, "%s holds more than %d files", tree->source->path,
                       BASE_FILES_MAX);
    tree->has_weights = tree->has_weights || is_weights(name);
    int rc = fs_join(from, tree->source->path, name, tree->err);
    if (rc == 0 && fs_is_dir(from)) /* a link to a folder */
        return 0;
    return rc < 0 ? rc : tree_file(tree, from, name);
}

static int copy_tree(struct blob_copy *copy, const struct storage *storage,
                     const struct blob_source *source, struct err *err)
{
    struct tree tree = {.source = source, .copy = copy, .err = err};
    int rc = copy->taken ? 0 : storage_incoming(storage, copy->temp, err);

    if (rc < 0) {
        copy->temp[0] = '\0';
        return rc;
    }
    buf_init(&tree.manifest, MANIFEST_BYTES_MAX);
    if (!copy->taken)
        rc = fs_mkdirs(copy->temp, err);
    if (rc == 0)
        rc = fs_list_dir(source->path, tree_entry, &tree, err);
    if (rc == 0 && !tree.has_weights)
        rc = err_set(err, ERR_INVALID, "No weights (*.safetensors or *.gguf) in %s", source->path);
    if (rc == 0)
        rc = buf_check(&tree.manifest, "manifest", err);
    if (rc == 0)
        rc = sha256_hex(tree.manifest.data, tree.manifest.len, copy->sha256, err);
    buf_release(&tree.manifest);
    return rc;
}

/* A rename puts it in place: not from another disk, nor through a link. */
static bool can_take(const struct storage *storage, const char *path)
{
    char blobs[FS_PATH_BYTES_MAX];
    struct stat there, here;

    return storage_blobs(storage, blobs, NULL) == 0 && stat(blobs, &there) == 0 &&
           lstat(path, &here) == 0 && !S_ISLNK(here.st_mode) && there.st_dev == here.st_dev;
}

int blob_copy_make(struct blob_copy *copy, const struct storage *storage,
                   const struct blob_source *source, struct err *err)
{
    char temp[FS_PATH_BYTES_MAX];
    int rc;

    memset(copy, 0, sizeof *copy);
    copy->is_folder = fs_is_dir(source->path);
    copy->taken = source->take && can_take(storage, source->path) ? source->path : NULL;
    if (copy->is_folder) {
        rc = copy_tree(copy, storage, source, err);
    } else {
        rc = copy->taken ? 0 : storage_incoming(storage, temp, err);
        if (rc == 0)
            rc = copy_file(source, copy->taken ? NULL : temp, &copy->writer, copy->sha256,
                           &copy->bytes, err);
    }
    if (rc < 0)
        blob_copy_release(copy);
    return rc;
}

static int publish_tree(struct blob_copy *copy, const char *path, struct err *err)
{
    int rc = fs_publish_dir(copy->taken ? copy->taken : copy->temp, path, err);

    if (rc == 0)
        copy->temp[0] = '\0';
    return rc;
}

/* What lies under the name may have been damaged since: a disk, a restore, a hand. */
static bool is_whole(const char *path, const char *sha256)
{
    struct err ignored = {0};
    char found[SHA256_HEX_BYTES];

    return model_digest(path, found, &ignored) == 0 && strcmp(found, sha256) == 0;
}

int blob_copy_publish(struct blob_copy *copy, const struct storage *storage, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    bool there = false;
    int rc = storage_blob(storage, copy->sha256, path, err);

    if (rc == 0 && fs_exists(path)) {
        there = is_whole(path, copy->sha256);
        if (!there && (copy->is_folder || copy->taken))
            rc = fs_remove_tree(path, err);
    }
    if (rc == 0 && !there) {
        if (copy->is_folder) {
            rc = publish_tree(copy, path, err);
        } else if (copy->taken) {
            rc = fs_publish_file(copy->taken, path, err);
        } else {
            memcpy(copy->writer.path, path, strlen(path) + 1);
            rc = fs_writer_publish(&copy->writer, err);
        }
    }
    blob_copy_release(copy);
    return rc;
}

void blob_copy_release(struct blob_copy *copy)
{
    struct err ignored = {0};

    fs_writer_abandon(&copy->writer);
    if (copy->temp[0])
        (void)!fs_remove_tree(copy->temp, &ignored);
    copy->temp[0] = '\0';
}
