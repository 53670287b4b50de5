/* A folder that is made aside and published by one rename. */
#ifndef TRAIN_FOLDER_H
#define TRAIN_FOLDER_H

#include "base/err.h"
#include "base/fs.h"

struct folder {
    char path[FS_PATH_BYTES_MAX]; /* where it goes */
    char temp[FS_PATH_BYTES_MAX]; /* "<parent>/.<name>.writing": where it is made */
};

/* Makes the parent and an empty temp; what an earlier attempt left there is removed. ERR_CONFLICT
 * when path exists. */
int folder_open(struct folder *folder, const char *path, struct err *err) MUST_CHECK;
int folder_publish(struct folder *folder, struct err *err) MUST_CHECK;
/* Removes temp; after folder_publish there is none. */
void folder_abandon(struct folder *folder);

#endif
