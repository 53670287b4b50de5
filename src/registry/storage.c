/* Paths are joined from parts that were checked when they entered the database; nothing here looks
 * at what a path leads to, except init and sweep. */
#include "registry/storage.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"

#define INCOMING "incoming-"

enum { NAME_BYTES = 128 };

static int set_folder(char out[FS_PATH_BYTES_MAX], const char *given, const char *base,
                      const char *name, struct err *err)
{
    int rc = given && *given ? fs_absolute(out, given, err) : fs_join(out, base, name, err);

    return rc < 0 ? rc : fs_mkdirs(out, err);
}

int storage_init(struct storage *storage, const char *base, const char *models,
                 const char *datasets, struct err *err)
{
    static const char *const folders[] = {"blobs/sha256", "cache", "checkpoints", "artifacts"};
    char path[FS_PATH_BYTES_MAX];
    int rc = fs_absolute(storage->base, base, err);

    for (size_t i = 0; i < sizeof folders / sizeof folders[0] && rc == 0; i++) {
        rc = fs_join(path, storage->base, folders[i], err);
        if (rc == 0)
            rc = fs_mkdirs(path, err);
    }
    if (rc == 0)
        rc = set_folder(storage->models, models, storage->base, "models", err);
    if (rc == 0)
        rc = set_folder(storage->datasets, datasets, storage->base, "datasets", err);
    return rc;
}

static int join3(char out[FS_PATH_BYTES_MAX], const char *base, const char *a, const char *b,
                 const char *c, struct err *err)
{
    char half[FS_PATH_BYTES_MAX];
    int rc = fs_join(half, base, a, err);

    if (rc == 0 && c) {
        rc = fs_join(out, half, b, err);
        if (rc == 0) {
            memcpy(half, out, strlen(out) + 1);
            b = c;
        }
    }
    return rc < 0 ? rc : fs_join(out, half, b, err);
}

int storage_blobs(const struct storage *storage, char out[FS_PATH_BYTES_MAX], struct err *err)
{
    return fs_join(out, storage->base, "blobs/sha256", err);
}

int storage_blob(const struct storage *storage, const char *sha256, char out[FS_PATH_BYTES_MAX],
                 struct err *err)
{
    return join3(out, storage->base, "blobs/sha256", sha256, NULL, err);
}

int storage_cache(const struct storage *storage, const char *name, char out[FS_PATH_BYTES_MAX],
                  struct err *err)
{
    return join3(out, storage->base, "cache", name, NULL, err);
}

int storage_checkpoints(const struct storage *storage, const char *job_id,
                        char out[FS_PATH_BYTES_MAX], struct err *err)
{
    return join3(out, storage->base, "checkpoints", job_id, NULL, err);
}

int storage_artifacts(const struct storage *storage, const char *experiment, const char *run,
                      char out[FS_PATH_BYTES_MAX], struct err *err)
{
    return join3(out, storage->base, "artifacts", experiment, run, err);
}

int storage_model(const struct storage *storage, const char *folder, char out[FS_PATH_BYTES_MAX],
                  struct err *err)
{
    return fs_join(out, storage->models, folder, err);
}

int storage_version(const struct storage *storage, const char *folder, const char *version,
                    char out[FS_PATH_BYTES_MAX], struct err *err)
{
    return join3(out, storage->models, folder, "versions", version, err);
}

int storage_incoming(const struct storage *storage, char out[FS_PATH_BYTES_MAX], struct err *err)
{
    char uuid[UUID_BYTES], name[NAME_BYTES];
    int rc = uuid_make(uuid, err);

    if (rc < 0)
        return rc;
    snprintf(name, sizeof name, INCOMING "%ld-%s", (long)getpid(), uuid);
    return storage_blob(storage, name, out, err);
}

int storage_quantising(const struct storage *storage, const char *job_id,
                       char out[FS_PATH_BYTES_MAX], struct err *err)
{
    char name[NAME_BYTES];

    snprintf(name, sizeof name, "quantize-%.40s", job_id);
    return storage_cache(storage, name, out, err);
}

/* --- sweeping --- */

struct sweep {
    const char *dir;
    bool (*goes)(const char *name, const char *mark);
    const char *mark;
    struct err *err;
};

static bool begins_with(const char *name, const char *mark)
{
    return strncmp(name, mark, strlen(mark)) == 0;
}

/* A worker that runs by itself may be taking something in. */
static bool is_still_made(const char *name)
{
    long pid = begins_with(name, INCOMING) ? strtol(name + sizeof INCOMING - 1, NULL, 10) : 0;

    return pid > 0 && pid != getpid() && kill((pid_t)pid, 0) == 0;
}

static bool is_no_blob(const char *name, const char *mark)
{
    (void)mark;
    return (strlen(name) != 64 || strspn(name, "0123456789abcdef") != 64) && !is_still_made(name);
}

/* What serve alone makes, for as long as a request lasts; `sent-` until a later one takes it. */
static bool is_of_requests(const char *name, const char *mark)
{
    static const char *const made[] = {"import-", "adapter-", "sent-"};

    (void)mark;
    name += *name == '.';
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
        if (begins_with(name, made[i]))
            return true;
    return false;
}

static bool is_made_by(const char *name, const char *mark)
{
    return strstr(name, mark) &&
           (*name == '.' || begins_with(name, "quantize-") || begins_with(name, "pulled-"));
}

static int sweep_entry(void *ctx, const char *name, bool is_dir)
{
    const struct sweep *sweep = ctx;
    char path[FS_PATH_BYTES_MAX];
    int rc;

    (void)is_dir;
    if (!sweep->goes(name, sweep->mark))
        return 0;
    rc = fs_join(path, sweep->dir, name, sweep->err);
    if (rc == 0)
        rc = fs_remove_tree(path, sweep->err);
    if (rc == 0)
        log_event(LOG_INFO, "registry", "swept", "path=\"%s\"", path);
    return rc;
}

int storage_sweep(const struct storage *storage, struct err *err)
{
    char dir[FS_PATH_BYTES_MAX];
    struct sweep blobs = {dir, is_no_blob, NULL, err};
    struct sweep requests = {dir, is_of_requests, NULL, err};
    int rc = storage_blobs(storage, dir, err);

    if (rc == 0)
        rc = fs_list_dir(dir, sweep_entry, &blobs, err);
    if (rc == 0)
        rc = fs_join(dir, storage->base, "cache", err);
    return rc < 0 ? rc : fs_list_dir(dir, sweep_entry, &requests, err);
}

static void sweep_folder(const struct storage *storage, const char *folder,
                         bool (*goes)(const char *, const char *), const char *mark)
{
    char dir[FS_PATH_BYTES_MAX];
    struct err why = {0};
    struct sweep sweep = {dir, goes, mark, &why};
    int rc = fs_join(dir, storage->base, folder, &why);

    if (rc == 0 && fs_is_dir(dir))
        rc = fs_list_dir(dir, sweep_entry, &sweep, &why);
    if (rc < 0)
        log_event(LOG_WARNING, "registry", "leftover", "of=%s why=\"%s\"", mark, why.message);
}

void storage_sweep_process(const struct storage *storage, int64_t pid)
{
    char mark[NAME_BYTES];

    snprintf(mark, sizeof mark, INCOMING "%lld-", (long long)pid);
    sweep_folder(storage, "blobs/sha256", begins_with, mark);
}

void storage_sweep_job(const struct storage *storage, const char *job_id)
{
    sweep_folder(storage, "cache", is_made_by, job_id);
    sweep_folder(storage, "artifacts/exports", is_made_by, job_id);
}
