/* How it works: copy (long, no lock) → blobs lock → rename into place → insert row → unlock.
 *
 * Invariants:
 *  1. A row's blob was in place before the row was committed.
 *  2. A blob is removed only under the lock and when no row has it, so no import can adopt it in
 *     between. A blob without a row (a failed insert, a crash) is harmless: the next import of that
 *     content adopts it, and gc removes it.
 */
#include "registry/bases.h"

#include <string.h>

#include "base/log.h"
#include "registry/blobs.h"
#include "registry/jobs_int.h"
#include "registry/names.h"
#include "registry/registry_int.h"
#include "store/models.h"
#include "store/presets.h"

int base_facts_read(const json_t *tree, struct base_facts *facts, struct err *err)
{
    int rc;

    if ((rc = json_get_string(tree, "format", "", &facts->format, err)) != 0 ||
        (rc = json_get_string(tree, "architecture", "", &facts->architecture, err)) != 0 ||
        (rc = json_get_string(tree, "quantization", "", &facts->quantisation, err)) != 0 ||
        (rc = json_get_int(tree, "parameters", 0, &facts->parameters, err)) != 0)
        return rc;
    return json_get_int(tree, "context_length", 0, &facts->context_length, err);
}

static int check_facts(const struct base_facts *facts, struct arena *arena, struct base_row *row,
                       struct err *err)
{
    row->format = arena_strdup(arena, facts->format);
    row->architecture = arena_strdup(arena, facts->architecture);
    row->quantisation = arena_strdup(arena, facts->quantisation);
    row->parameters = facts->parameters;
    row->context_length = facts->context_length;
    if (!row->format || !row->architecture || !row->quantisation)
        return mem_err(err, 0);
    return registry_json_object("details", facts->details, "{}", arena, &row->details, err);
}

static int resolve_source(const char *path, char out[FS_PATH_BYTES_MAX], struct err *err)
{
    int rc = path && *path ? fs_absolute(out, path, err)
                           : err_set(err, ERR_UNPROCESSABLE, "path must not be empty");

    if (rc == 0 && !fs_exists(out))
        rc = err_set(err, ERR_INVALID, "Base model file not found: %s", path);
    return rc;
}

/* The row that has this id already, when it has the same content; else inserts. */
static int insert(struct registry *registry, struct arena *arena, struct base_row *row,
                  struct err *err)
{
    struct db *db = NULL;
    struct base_row other;
    bool found = false;
    int rc = registry_begin_write(registry, &db, err);

    if (rc == 0)
        rc = base_row_find(db, row->id, arena, &other, &found, err);
    if (rc == 0 && found && strcmp(other.sha256, row->sha256) != 0)
        rc = err_set(err, ERR_CONFLICT, "Base model '%s' already exists", row->id);
    if (rc == 0 && !found)
        rc = registry_check_no_preset(db, row->id, arena, err);
    if (rc == 0 && !found)
        rc = base_row_insert(db, row, err);
    rc = registry_end(db, rc, err);
    if (rc == 0 && found)
        *row = other;
    return rc;
}

int registry_lock_blobs(struct registry *registry, int *lock, struct err *err)
{
    char dir[FS_PATH_BYTES_MAX];
    int rc = fs_join(dir, registry->storage.base, "blobs", err);

    *lock = -1;
    return rc < 0 ? rc : fs_lock_dir_wait(dir, lock, err);
}

void registry_drop_unused_blob(struct registry *registry, const char *sha256)
{
    char path[FS_PATH_BYTES_MAX];
    struct db *db = NULL;
    struct err why = {0};
    int64_t users = 0, presets = 0;
    int rc = registry_begin_read(registry, &db, &why);

    if (rc == 0)
        rc = base_row_sharing(db, sha256, &users, &why);
    if (rc == 0)
        rc = preset_row_sharing(db, sha256, &presets, &why);
    users += presets;
    rc = registry_end(db, rc, &why);
    if (rc == 0 && users == 0)
        rc = storage_blob(&registry->storage, sha256, path, &why);
    if (rc == 0 && users == 0)
        rc = fs_remove_tree(path, &why);
    if (rc < 0)
        log_event(LOG_WARNING, "registry", "leftover", "blob=%s why=\"%s\"", sha256, why.message);
}

static int publish(struct registry *registry, struct blob_copy *copy, struct arena *arena,
                   struct base_row *row, struct err *err)
{
    int lock, rc = registry_lock_blobs(registry, &lock, err);

    if (rc < 0)
        return rc;
    rc = blob_copy_publish(copy, &registry->storage, err);
    if (rc == 0)
        rc = insert(registry, arena, row, err);
    if (rc < 0)
        registry_drop_unused_blob(registry, row->sha256);
    fs_unlock_dir(lock);
    return rc;
}

/* how: all but the path. */
static int take_in(struct registry *registry, const char *path, const char *id,
                   const struct base_facts *facts, const struct blob_source *how,
                   struct arena *arena, struct base_row *row, struct err *err)
{
    char from[FS_PATH_BYTES_MAX];
    struct blob_source source = *how;
    struct blob_copy *copy = NULL;
    int rc = name_check_base("id", id, err);

    memset(row, 0, sizeof *row);
    if (rc == 0)
        rc = check_facts(facts, arena, row, err);
    if (rc == 0)
        rc = resolve_source(path, from, err);
    if (rc < 0)
        return rc;
    source.path = from;
    copy = mem_calloc(1, sizeof *copy);
    if (!copy)
        return mem_err(err, sizeof *copy);
    rc = blob_copy_make(copy, &registry->storage, &source, err);
    if (rc == 0) {
        row->id = arena_strdup(arena, id);
        row->sha256 = arena_strdup(arena, copy->sha256);
        row->bytes = (int64_t)copy->bytes;
        row->is_folder = copy->is_folder;
        row->source = arena_strdup(arena, facts->source ? facts->source : from);
        row->created_at = registry_now(arena, err);
        rc = row->id && row->sha256 && row->source && row->created_at ? 0 : mem_err(err, 0);
    }
    if (rc == 0)
        rc = publish(registry, copy, arena, row, err);
    blob_copy_release(copy);
    mem_free(copy);
    return rc;
}

int registry_import_base(struct registry *registry, const char *path, const char *id,
                         const struct base_facts *facts, bool (*cancelled)(void *ctx), void *ctx,
                         struct arena *arena, struct base_row *row, struct err *err)
{
    const struct blob_source source = {.cancelled = cancelled, .ctx = ctx};

    return take_in(registry, path, id, facts, &source, arena, row, err);
}

int registry_take_base(struct registry *registry, const char *path, const char *id,
                       const struct base_facts *facts, bool (*cancelled)(void *ctx), void *ctx,
                       struct arena *arena, struct base_row *row, struct err *err)
{
    const struct blob_source source = {.take = true, .cancelled = cancelled, .ctx = ctx};

    return take_in(registry, path, id, facts, &source, arena, row, err);
}

static int find(struct db *db, const char *id, struct arena *arena, struct base_row *row,
                struct err *err)
{
    bool found = false;
    int rc = base_row_find(db, id, arena, row, &found, err);

    if (rc == 0 && !found)
        rc = err_set(err, ERR_NOT_FOUND, "Base model %s not found", id);
    return rc;
}

int registry_get_base(struct registry *registry, const char *id, struct arena *arena,
                      struct base_row *row, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = find(db, id, arena, row, err);
    return registry_end(db, rc, err);
}

/* The job that makes a base of this name, if there is one. */
static int check_no_job(struct db *db, const char *id, struct arena *arena, struct err *err)
{
    static const char *const states[] = {"running", "queued"};
    int rc = 0;

    for (size_t s = 0; s < 2 && rc == 0; s++) {
        struct job_filter filter = {.status = states[s], .limit = INT64_MAX};
        struct job_row *rows = NULL;
        size_t count = 0;

        rc = job_row_list(db, &filter, arena, &rows, &count, err);
        for (size_t i = 0; i < count && rc == 0; i++)
            if (!rows[i].cancel_requested && jobs_make_base(rows[i].config, id))
                rc = err_set(err, ERR_CONFLICT,
                             "Job %s is about to make a base model '%s': wait for it, cancel it, "
                             "or choose another name",
                             rows[i].id, id);
    }
    return rc;
}

static int check_new(struct db *db, const char *id, struct arena *arena, struct err *err)
{
    struct base_row row;
    bool found = false;
    int rc = base_row_find(db, id, arena, &row, &found, err);

    if (rc == 0 && found)
        rc = err_set(err, ERR_CONFLICT, "Base model '%s' already exists", id);
    if (rc == 0)
        rc = registry_check_no_preset(db, id, arena, err);
    return rc < 0 ? rc : check_no_job(db, id, arena, err);
}

int registry_check_new_base(struct registry *registry, const char *id, struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    int rc = name_check_base("as", id, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = registry_begin_read(registry, &db, err);
    if (rc == 0)
        rc = check_new(db, id, &arena, err);
    rc = registry_end(db, rc, err);
    arena_release(&arena);
    return rc;
}

int registry_list_bases(struct registry *registry, int64_t limit, int64_t offset,
                        struct arena *arena, struct base_row **rows, size_t *count, int64_t *total,
                        struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = base_row_list(db, limit, offset, arena, rows, count, err);
    if (rc == 0)
        rc = base_row_count(db, total, err);
    return registry_end(db, rc, err);
}

static int delete_row(struct registry *registry, const char *id, struct arena *arena,
                      struct base_row *row, struct err *err)
{
    struct db *db = NULL;
    const char *user = NULL;
    int rc = registry_begin_write(registry, &db, err);

    if (rc == 0)
        rc = find(db, id, arena, row, err);
    if (rc == 0)
        rc = model_row_using_base(db, id, arena, &user, err);
    if (rc == 0 && user)
        rc = err_set(err, ERR_CONFLICT, "Base model '%s' is used by model '%s'", id, user);
    if (rc == 0)
        rc = preset_row_using_base(db, id, arena, &user, err);
    if (rc == 0 && user)
        rc = err_set(err, ERR_CONFLICT, "Base model '%s' is used by '%s', which was created on it",
                     id, user);
    if (rc == 0)
        rc = base_row_delete(db, id, err);
    return registry_end(db, rc, err);
}

int registry_delete_base(struct registry *registry, const char *id, struct err *err)
{
    struct arena arena;
    struct base_row row = {0};
    int lock, rc = registry_lock_blobs(registry, &lock, err);

    if (rc < 0)
        return rc;
    arena_init(&arena, 0);
    rc = delete_row(registry, id, &arena, &row, err);
    if (rc == 0)
        registry_drop_unused_blob(registry, row.sha256);
    fs_unlock_dir(lock);
    arena_release(&arena);
    return rc;
}

int registry_base_path(struct registry *registry, const char *base_model, struct arena *arena,
                       struct base_row *row, char out[FS_PATH_BYTES_MAX], struct err *err)
{
    struct err why = {0};
    int rc = registry_get_base(registry, base_model, arena, row, &why);

    if (rc == 0)
        rc = storage_blob(&registry->storage, row->sha256, out, &why);
    if (rc == -ERR_NOT_FOUND || (rc == 0 && !fs_exists(out)))
        return err_set(
            err, ERR_CONFLICT,
            "The weights of '%s' are missing; run: mlx-hub import PATH --as %s, or mlx-hub "
            "pull %s",
            base_model, base_model, base_model);
    return rc < 0 ? err_set(err, why.code, "%s", why.message) : 0;
}

int import_bits(const struct settings *settings, const char *asked, const struct import_size *size)
{
    const char *wanted = asked != NULL ? asked : settings->default_quantization;
    const bool plain = strcmp(size->type, "F32") == 0 || strcmp(size->type, "F16") == 0 ||
                       strcmp(size->type, "BF16") == 0;
    const bool large = (double)size->memory > settings->memory_limit_gb * 1073741824.0 ||
                       size->bytes > (uint64_t)IMPORT_PLAIN_BYTES_MAX;
    const int bits = strcmp(wanted, "4bit") == 0 ? 4 : strcmp(wanted, "8bit") == 0 ? 8 : 0;
    return asked != NULL || (plain && large) ? bits : 0;
}
