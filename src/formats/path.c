/* dirname without changing its argument and without a static buffer. */
#include "formats/path.h"

#include <string.h>

int path_split(const char *path, char dir[FS_PATH_BYTES_MAX], const char **name, struct err *err)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (!slash) {
        memcpy(dir, ".", 2);
        return 0;
    }
    size_t n = slash == path ? 1 : (size_t)(slash - path);
    if (n >= FS_PATH_BYTES_MAX)
        return err_set(err, ERR_INVALID, "a path of %zu bytes is too long", strlen(path));
    memcpy(dir, path, n);
    dir[n] = '\0';
    return 0;
}
