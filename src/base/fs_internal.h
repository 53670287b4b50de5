/* System calls of base/fs with the fault hook in front; for the files of fs only.
 *
 * Each behaves as its namesake and sets errno. EINTR is retried.
 */
#ifndef BASE_FS_INTERNAL_H
#define BASE_FS_INTERNAL_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

int fs_sys_open(const char *path, int flags, mode_t mode); /* adds O_CLOEXEC */
int fs_sys_openat(int dir, const char *name, int flags);
ssize_t fs_sys_read(int fd, void *bytes, size_t n);        /* may read less before the end */
ssize_t fs_sys_write(int fd, const void *bytes, size_t n); /* may write less than n */
int fs_sys_fsync(int fd); /* to the platter: F_FULLFSYNC on macOS */
int fs_sys_rename(const char *from, const char *to);
int fs_sys_rename_new(const char *from, const char *to); /* EEXIST when `to` exists */
int fs_sys_mkdir(const char *path);
/* The folder part of a path into out: "." when there is none. */
int fs_parent(char *out, const char *path, struct err *err) MUST_CHECK;

#endif
