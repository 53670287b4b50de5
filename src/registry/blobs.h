/* Copying files into blobs/ under their SHA-256. Private to registry; see bases.h. */
#ifndef REGISTRY_BLOBS_H
#define REGISTRY_BLOBS_H

#include "base/hash.h"
#include "registry/storage.h"

struct blob_source {
    const char *path; /* absolute */
    bool take;        /* it is the hub's own: it is put in place itself, where no copy is needed */
    bool (*cancelled)(void *ctx);
    void *ctx;
};

/* A copy that has been written and is not in place yet. */
struct blob_copy {
    char sha256[SHA256_HEX_BYTES];
    uint64_t bytes;
    bool is_folder;
    const char *taken;            /* what is put in place itself, or NULL */
    struct fs_writer writer;      /* of a file */
    char temp[FS_PATH_BYTES_MAX]; /* of a folder; "" when there is none */
};

/* Copies and hashes, in one reading. What is taken stays where it is until it is published; a
 * folder is taken whole, so it must hold nothing but what a model's folder does, flushed.
 * ERR_INVALID, ERR_NOSPACE, ERR_CANCELLED … leave nothing. */
int blob_copy_make(struct blob_copy *copy, const struct storage *storage,
                   const struct blob_source *source, struct err *err) MUST_CHECK;
/* Puts it in place, or drops it when that content is there already, whole. */
int blob_copy_publish(struct blob_copy *copy, const struct storage *storage,
                      struct err *err) MUST_CHECK;
void blob_copy_release(struct blob_copy *copy); /* safe after publish and on a zeroed struct */

#endif
