/* Files: whole reads, atomic publishing, read-only maps, paths that stay inside a folder.
 *
 * Writes that matter go temp file → fsync → rename → fsync of the folder, so a crash leaves either
 * the old or the new, never a part. Every system call that can fail passes the fault hook
 * (fault.h). Descriptors are opened close-on-exec. Paths are UTF-8 and NUL-terminated.
 */
#ifndef BASE_FS_H
#define BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

enum { FS_PATH_BYTES_MAX = 4096 };

/* --- whole files --- */
int fs_read_file(const char *path, size_t bytes_max, struct buf *out, struct err *err) MUST_CHECK;
/* Publishes bytes under path by temp + fsync + rename + folder fsync. */
int fs_write_file(const char *path, const void *bytes, size_t n, struct err *err) MUST_CHECK;
int fs_copy_file(const char *from, const char *to,
                 struct err *err) MUST_CHECK; /* atomic as above */

/* --- streams to a temporary sibling, published or dropped as one --- */
struct fs_writer {
    int fd;
    uint64_t written;
    char path[FS_PATH_BYTES_MAX];
    char temp[FS_PATH_BYTES_MAX];
};
int fs_writer_open(struct fs_writer *writer, const char *path, struct err *err) MUST_CHECK;
int fs_writer_write(struct fs_writer *writer, const void *bytes, size_t n,
                    struct err *err) MUST_CHECK;
int fs_writer_publish(struct fs_writer *writer, struct err *err) MUST_CHECK;
void fs_writer_abandon(struct fs_writer *writer); /* safe after publish and on a zeroed struct */
/* A writer whose temporary file is `part`, which may be there from before: writing goes on at its
 * end, and `written` begins with what there is. fs_writer_leave closes it and leaves it there. */
int fs_writer_resume(struct fs_writer *writer, const char *path, const char *part,
                     struct err *err) MUST_CHECK;
int fs_writer_restart(struct fs_writer *writer, struct err *err) MUST_CHECK; /* empty again */
void fs_writer_leave(struct fs_writer *writer); /* safe where fs_writer_abandon is */

/* --- folders --- */
int fs_mkdirs(const char *path, struct err *err) MUST_CHECK; /* 0 when it exists already */
int fs_sync_dir(const char *path, struct err *err) MUST_CHECK;
/* Renames a finished folder into place (files inside already fsynced) and fsyncs the parent. The
 * target must not exist: ERR_CONFLICT. */
int fs_publish_dir(const char *temp, const char *path, struct err *err) MUST_CHECK;
/* The same for a finished file. */
int fs_publish_file(const char *temp, const char *path, struct err *err) MUST_CHECK;
int fs_remove_tree(const char *path,
                   struct err *err) MUST_CHECK; /* 0 when missing; no symlink followed */
int fs_remove_file(const char *path, struct err *err) MUST_CHECK; /* 0 when missing */
/* Calls visit for each entry name except . and .., sorted by byte value; a non-zero return stops
 * and is returned. */
int fs_list_dir(const char *path, int (*visit)(void *ctx, const char *name, bool is_dir), void *ctx,
                struct err *err) MUST_CHECK;

/* --- facts --- */
bool fs_exists(const char *path);
bool fs_is_dir(const char *path);
int fs_size(const char *path, uint64_t *bytes, struct err *err) MUST_CHECK;
int fs_free_space(const char *path, uint64_t *bytes, struct err *err) MUST_CHECK;

/* --- paths --- */
/* Joins with one '/', into out. ERR_INVALID when it would not fit. */
int fs_join(char out[FS_PATH_BYTES_MAX], const char *dir, const char *name,
            struct err *err) MUST_CHECK;
/* Resolves path (relative ones start at `dir`), symlinks included, and requires the result to exist
 * and lie inside dir: ERR_NOT_FOUND, or ERR_FORBIDDEN when it is outside. */
int fs_resolve_within(char out[FS_PATH_BYTES_MAX], const char *dir, const char *path,
                      struct err *err) MUST_CHECK;
int fs_absolute(char out[FS_PATH_BYTES_MAX], const char *path, struct err *err) MUST_CHECK;

/* --- read-only maps --- */
struct fs_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;
};
int fs_map_open(struct fs_map *map, const char *path, struct err *err) MUST_CHECK;
void fs_map_close(struct fs_map *map); /* safe on a zeroed struct */
/* Bytes of an open map that will hardly be read again: their pages are no longer held, and read
 * from the file should they be wanted after all. Never of other memory. */
void fs_map_forget(const void *bytes, size_t n);

/* --- one holder per folder --- */
/* Takes an exclusive flock on `<dir>/.lock` and writes `holder` and the pid in it. ERR_CONFLICT
 * names the holder. The lock goes with the descriptor, so a crash frees it. */
int fs_lock_dir(const char *dir, const char *holder, int *fd, struct err *err) MUST_CHECK;
/* The same, but waits for whoever holds it, in this process or another, and names nobody: for a few
 * steps that exclude each other. */
int fs_lock_dir_wait(const char *dir, int *fd, struct err *err) MUST_CHECK;
void fs_unlock_dir(int fd); /* of either; -1 is none */

#endif
