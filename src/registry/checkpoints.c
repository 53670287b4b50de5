/* How it works: a folder is judged and renamed in one write transaction, so no worker can claim a
 * resume of it in between; what was renamed is removed afterwards, also by the next call should
 * this process end before. */
#include "registry/checkpoints.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "registry/registry_int.h"
#include "store/jobs.h"

#define EXPIRED ".expired-"
#define DAY_US  (86400LL * 1000000LL)

struct expiry {
    struct registry *registry;
    const char *dir;
    int days;
    int64_t now_us;
    int removed;
};

/* Whether an end as long ago as this is long enough ago. */
static bool is_old(const struct expiry *e, const char *ended_at)
{
    char limit[CLOCK_ISO_BYTES];

    clock_format_iso(e->now_us - e->days * DAY_US, limit);
    return e->days >= 0 && strcmp(ended_at, limit) <= 0;
}

static bool is_old_folder(const struct expiry *e, const char *path)
{
    char changed_at[CLOCK_ISO_BYTES];
    struct stat st;

    if (stat(path, &st) != 0)
        return false;
    clock_format_iso((int64_t)st.st_mtime * 1000000, changed_at);
    return is_old(e, changed_at);
}

/* Renames the folder when its time has come. */
static int set_aside(struct expiry *e, const char *id, const char *path, const char *aside,
                     struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    struct job_line line = {0};
    int rc = registry_begin_write(e->registry, &db, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = job_row_line(db, id, &arena, &line, err);
    if (rc == 0 &&
        (line.n == 0 ? is_old_folder(e, path)
                     : line.active == 0 && (line.completed > 0 || is_old(e, line.last_ended_at))))
        rc = fs_publish_dir(path, aside, err);
    rc = registry_end(db, rc, err);
    arena_release(&arena);
    return rc;
}

static int visit(void *ctx, const char *name, bool is_dir)
{
    struct expiry *e = ctx;
    char path[FS_PATH_BYTES_MAX], aside[FS_PATH_BYTES_MAX], renamed[UUID_BYTES + sizeof EXPIRED];
    struct err why = {0};
    const bool expired = strncmp(name, EXPIRED, sizeof EXPIRED - 1) == 0;
    int rc = 0;

    if (!is_dir || !(expired || uuid_valid(name)))
        return 0;
    snprintf(renamed, sizeof renamed, "%s%s", expired ? "" : EXPIRED, name);
    rc = fs_join(path, e->dir, name, &why);
    if (rc == 0)
        rc = fs_join(aside, e->dir, renamed, &why);
    if (rc == 0 && !expired)
        rc = set_aside(e, name, path, aside, &why);
    if (rc == 0 && fs_exists(aside)) {
        rc = fs_remove_tree(aside, &why);
        e->removed += rc == 0;
        log_event(LOG_INFO, "registry", "checkpoints_expired", "job=%s", name);
    }
    if (rc < 0)
        log_event(LOG_WARNING, "registry", "leftover", "checkpoints=%s why=\"%s\"", name,
                  why.message);
    return 0;
}

int registry_expire_checkpoints(struct registry *registry, int days, int64_t now_us, int *removed,
                                struct err *err)
{
    char dir[FS_PATH_BYTES_MAX];
    struct expiry e = {.registry = registry, .dir = dir, .days = days, .now_us = now_us};
    int rc = fs_join(dir, registry->storage.base, "checkpoints", err);

    if (rc == 0)
        rc = fs_list_dir(dir, visit, &e, err);
    if (removed)
        *removed = e.removed;
    return rc;
}
