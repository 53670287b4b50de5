#include "train/folder.h"

#include <stdio.h>
#include <string.h>

int folder_open(struct folder *folder, const char *path, struct err *err)
{
    char parent[FS_PATH_BYTES_MAX];
    memset(folder, 0, sizeof *folder);
    int rc = fs_absolute(folder->path, path, err);
    if (rc != 0) {
        return rc;
    }
    const char *name = strrchr(folder->path, '/') + 1;
    memcpy(parent, folder->path, (size_t)(name - folder->path));
    parent[name - folder->path] = '\0';
    const int n = snprintf(folder->temp, sizeof folder->temp, "%s.%s.writing", parent, name);
    if (n < 0 || (size_t)n >= sizeof folder->temp || *name == '\0') {
        folder->temp[0] = '\0';
        return err_set(err, ERR_INVALID, "not a folder's path: %.200s", path);
    }
    if (fs_exists(folder->path)) {
        folder->temp[0] = '\0';
        return err_set(err, ERR_CONFLICT, "%s exists already", folder->path);
    }
    if ((rc = fs_mkdirs(parent, err)) != 0 || (rc = fs_remove_tree(folder->temp, err)) != 0) {
        return rc;
    }
    return fs_mkdirs(folder->temp, err);
}

int folder_publish(struct folder *folder, struct err *err)
{
    return fs_publish_dir(folder->temp, folder->path, err);
}

void folder_abandon(struct folder *folder)
{
    if (folder->temp[0] != '\0') {
        (void)!fs_remove_tree(folder->temp, NULL);
    }
}
