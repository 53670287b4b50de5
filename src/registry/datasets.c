/* How it works: the file is read outside any transaction, since it may be large; names and contents
 * are compared inside the one that inserts, so two equal requests cannot both win. A name that is
 * taken already is refused before the file is read, to fail fast. */
#include "registry/datasets.h"

#include <string.h>

#include "registry/datasets_int.h"
#include "registry/names.h"
#include "registry/registry_int.h"
#include "store/jobs.h"

static int outside(const struct registry *registry, struct err *err)
{
    return err_set(err, ERR_INVALID, "Dataset path must be within %s", registry->storage.datasets);
}

/* For a path that leads to nothing: whether its text alone points out of the folder. */
static bool looks_outside(const char *dir, const char *path)
{
    size_t length = strlen(dir);

    if (path[0] == '/' && (strncmp(path, dir, length) != 0 || path[length] != '/'))
        return true;
    for (const char *at = path; *at;) {
        size_t n = strcspn(at, "/");

        if (n == 2 && memcmp(at, "..", 2) == 0)
            return true;
        at += n + (at[n] == '/');
    }
    return false;
}

int registry_dataset_path(const struct registry *registry, const char *path,
                          char out[FS_PATH_BYTES_MAX], struct err *err)
{
    const char *dir = registry->storage.datasets;
    struct err why = {0};
    int rc = name_check_length("path", path, DATASET_PATH_CHARACTERS_MAX, err);

    if (rc == 0 && (!path || !*path))
        rc = err_set(err, ERR_UNPROCESSABLE, "path must not be empty");
    if (rc < 0)
        return rc;
    rc = fs_resolve_within(out, dir, path, &why);
    if (rc == -ERR_FORBIDDEN || (rc == -ERR_NOT_FOUND && looks_outside(dir, path)))
        return outside(registry, err);
    if (rc == -ERR_NOT_FOUND)
        return err_set(err, ERR_INVALID, "Dataset file not found: %s", path);
    if (rc < 0)
        return err_set(err, why.code, "%s", why.message);
    if (fs_is_dir(out))
        return err_set(err, ERR_INVALID, "Not a file: %s", path);
    return 0;
}

static int parse_columns(const char *text, struct dataset_columns *columns, struct err *err)
{
    json_t *tree = text ? json_parse(text, strlen(text), err) : NULL;
    int rc;

    if (text && !tree)
        return err_set(err, ERR_UNPROCESSABLE, "columns");
    rc = dataset_columns_parse(columns, tree, err);
    json_decref(tree);
    return rc;
}

int dataset_draft_check(const struct dataset_draft *draft, struct arena *arena,
                        struct dataset_record *row, struct dataset_columns *columns,
                        struct err *err)
{
    int rc = name_check("name", draft->name, err);

    memset(row, 0, sizeof *row);
    if (rc == 0)
        rc = registry_json_object("schema_info", draft->schema_info, "{}", arena, &row->schema_info,
                                  err);
    if (rc == 0)
        rc = registry_json_object("columns", draft->columns, NULL, arena, &row->columns, err);
    if (rc == 0)
        rc = parse_columns(row->columns, columns, err);
    if (rc < 0)
        return rc;
    row->name = arena_strdup(arena, draft->name);
    return row->name ? 0 : mem_err(err, strlen(draft->name));
}

static int check_name(struct db *db, const char *name, struct arena *arena, struct err *err)
{
    struct dataset_record other;
    bool found = false;
    int rc = dataset_record_find(db, name, arena, &other, &found, err);

    if (rc == 0 && found)
        rc = err_set(err, ERR_CONFLICT, "Dataset with name '%s' already exists", name);
    return rc;
}

int dataset_name_free(struct registry *registry, const char *name, struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    int rc = registry_begin_read(registry, &db, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = check_name(db, name, &arena, err);
    arena_release(&arena);
    return registry_end(db, rc, err);
}

static int insert(struct db *db, struct arena *arena, const struct dataset_record *row,
                  struct err *err)
{
    struct dataset_record other;
    bool found = false;
    int rc = check_name(db, row->name, arena, err);

    if (rc == 0)
        rc = dataset_record_by_checksum(db, row->checksum, arena, &other, &found, err);
    if (rc == 0 && found)
        rc = err_set(err, ERR_CONFLICT, "Dataset with same content already exists: '%s'",
                     other.name);
    return rc < 0 ? rc : dataset_record_insert(db, row, err);
}

static const char *main_shape(const struct dataset_report *report)
{
    int best = 0;

    for (int i = 1; i < 3; i++)
        if (report->by_shape[i] > report->by_shape[best])
            best = i;
    return dataset_shape_name((enum dataset_shape)best);
}

int dataset_insert(struct registry *registry, const char *path, const struct dataset_report *report,
                   struct arena *arena, struct dataset_record *row, struct err *err)
{
    struct db *db = NULL;
    int rc;

    row->path = arena_strdup(arena, path);
    row->checksum = arena_strdup(arena, report->sha256);
    row->shape = main_shape(report);
    row->rows = report->rows;
    row->bytes = (int64_t)report->bytes;
    row->id = registry_uuid(arena, err);
    row->created_at = registry_now(arena, err);
    if (!row->path || !row->checksum || !row->id || !row->created_at)
        return mem_err(err, 0);
    rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = insert(db, arena, row, err);
    return registry_end(db, rc, err);
}

int dataset_draft_read(const struct dataset_draft *draft, const char *path, const char *name,
                       const struct dataset_columns *columns, struct dataset_report *report,
                       struct err *err)
{
    return draft->check ? draft->check(draft->check_ctx, path, name, draft->columns, report, err)
                        : dataset_check(path, name, columns, report, err);
}

int registry_create_dataset(struct registry *registry, const struct dataset_draft *draft,
                            struct arena *arena, struct dataset_record *row, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    struct dataset_columns columns;
    struct dataset_report report = {0};
    int rc = dataset_draft_check(draft, arena, row, &columns, err);

    if (rc == 0)
        rc = registry_dataset_path(registry, draft->path, path, err);
    if (rc == 0)
        rc = dataset_name_free(registry, draft->name, err);
    if (rc == 0)
        rc = dataset_draft_read(draft, path, NULL, &columns, &report, err);
    return rc < 0 ? rc : dataset_insert(registry, path, &report, arena, row, err);
}

int registry_get_dataset(struct registry *registry, const char *id, struct arena *arena,
                         struct dataset_record *row, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = dataset_record_get(db, id, arena, row, err);
    return registry_end(db, rc, err);
}

int registry_find_dataset_checksum(struct registry *registry, const char *checksum,
                                   struct arena *arena, struct dataset_record *row, bool *found,
                                   struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = dataset_record_by_checksum(db, checksum, arena, row, found, err);
    return registry_end(db, rc, err);
}

int registry_list_datasets(struct registry *registry, int64_t limit, int64_t offset,
                           struct arena *arena, struct dataset_record **rows, size_t *count,
                           int64_t *total, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = dataset_record_list(db, limit, offset, arena, rows, count, err);
    if (rc == 0)
        rc = dataset_record_count(db, total, err);
    return registry_end(db, rc, err);
}

int registry_delete_dataset(struct registry *registry, const char *id, struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    struct dataset_record row;
    int64_t active = 0;
    int rc = registry_begin_write(registry, &db, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = dataset_record_get(db, id, &arena, &row, err);
    if (rc == 0)
        rc = job_row_active_of_dataset(db, id, &active, err);
    if (rc == 0 && active > 0)
        rc = err_set(err, ERR_CONFLICT, "Dataset '%s' is needed by a queued or running job",
                     row.name);
    if (rc == 0)
        rc = dataset_record_delete(db, id, err);
    arena_release(&arena);
    return registry_end(db, rc, err);
}

int registry_verify_dataset(struct registry *registry, const char *id,
                            struct dataset_verdict *verdict, struct err *err)
{
    struct arena arena;
    struct dataset_record row = {0};
    struct err why = {0};
    int rc;

    memset(verdict, 0, sizeof *verdict);
    arena_init(&arena, 0);
    rc = registry_get_dataset(registry, id, &arena, &row, err);
    if (rc == 0) {
        snprintf(verdict->expected, sizeof verdict->expected, "%s", row.checksum);
        rc = sha256_file_hex(row.path, verdict->actual, &why);
        if (rc == -ERR_NOT_FOUND) {
            verdict->actual[0] = '\0';
            rc = 0;
        } else if (rc < 0) {
            rc = err_set(err, why.code, "%s", why.message);
        }
        verdict->valid = rc == 0 && strcmp(verdict->expected, verdict->actual) == 0;
    }
    arena_release(&arena);
    return rc;
}
