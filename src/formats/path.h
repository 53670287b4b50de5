/* Splitting a path into folder and name. Private to this room. */
#ifndef FORMATS_PATH_H
#define FORMATS_PATH_H

#include "base/err.h"
#include "base/fs.h"

/* dir gets what stands before the last '/' ("." when there is none, "/" for a file there), *name
 * points behind it into path. ERR_INVALID when dir would not fit. */
int path_split(const char *path, char dir[FS_PATH_BYTES_MAX], const char **name,
               struct err *err) MUST_CHECK;

#endif
