/* How it works: rows change in one transaction; folders follow the commit. A crash in between
 * leaves a folder without a row, which is harmless: a new model never takes a folder that exists,
 * and gc removes what no row owns.
 *
 * Invariant: two models never share a folder, also on a file system that ignores case.
 */
#include "registry/models.h"

#include <string.h>

#include "base/log.h"
#include "registry/names.h"
#include "registry/registry_int.h"
#include "store/jobs.h"

enum { FOLDER_TRIES_MAX = 100 };

static int name_taken(const char *name, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "Model with name '%s' already exists", name);
}

static int check_task(const char *text, enum task_type *out, struct err *err)
{
    if (task_type_parse(text, out))
        return 0;
    return err_set(err, ERR_UNPROCESSABLE, "task_type must be one of %s", task_type_choices());
}

static int check_base(const char *base, struct err *err)
{
    int rc = name_check_length("base_model", base, MODEL_BASE_CHARACTERS_MAX, err);

    if (rc == 0 && (!base || !*base))
        rc = err_set(err, ERR_UNPROCESSABLE, "base_model must not be empty");
    return rc;
}

static int free_folder(struct registry *registry, struct db *db, const char *folder, bool *is_free,
                       struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    bool taken = false;
    int rc = model_row_folder_taken(db, folder, &taken, err);

    if (rc == 0)
        rc = storage_model(&registry->storage, folder, path, err);
    if (rc == 0)
        *is_free = !taken && !fs_exists(path);
    return rc;
}

/* The plain folder, else the salted one, else salted by a counter: the last two only where another
 * model or a leftover folder is in the way. */
static int choose_folder(struct registry *registry, struct db *db, const char *name,
                         struct arena *arena, const char **out, struct err *err)
{
    char folder[NAME_FOLDER_BYTES];
    bool is_free = false;
    int rc = 0;

    for (int i = 0; i < FOLDER_TRIES_MAX && rc == 0; i++) {
        const char *text = i < 2 ? name : arena_printf(arena, "%s %d", name, i);

        if (!text)
            return mem_err(err, strlen(name));
        rc = name_folder(text, i > 0, folder, err);
        if (rc == 0)
            rc = free_folder(registry, db, folder, &is_free, err);
        if (rc == 0 && is_free) {
            *out = arena_strdup(arena, folder);
            return *out ? 0 : mem_err(err, sizeof folder);
        }
    }
    return rc < 0 ? rc : err_set(err, ERR_CONFLICT, "No folder is free for model '%s'", name);
}

static int insert(struct registry *registry, struct db *db, struct arena *arena,
                  struct model_row *row, struct err *err)
{
    struct model_row other;
    bool found = false;
    int rc = model_row_find(db, row->name, arena, &other, &found, err);

    if (rc == 0 && found)
        rc = name_taken(row->name, err);
    if (rc == 0)
        rc = registry_check_no_preset(db, row->name, arena, err);
    if (rc == 0)
        rc = choose_folder(registry, db, row->name, arena, &row->folder, err);
    return rc < 0 ? rc : model_row_insert(db, row, err);
}

int registry_create_model(struct registry *registry, const struct model_draft *draft,
                          struct arena *arena, struct model_row *row, struct err *err)
{
    struct db *db = NULL;
    int rc = name_check("name", draft->name, err);

    memset(row, 0, sizeof *row);
    if (rc == 0 && draft->task_type)
        rc = check_task(draft->task_type, &row->task_type, err);
    if (rc == 0)
        rc = name_check_length("description", draft->description, MODEL_DESCRIPTION_CHARACTERS_MAX,
                               err);
    if (rc == 0)
        rc = check_base(draft->base_model, err);
    if (rc == 0)
        rc = registry_json_object("tags", draft->tags, "{}", arena, &row->tags, err);
    if (rc < 0)
        return rc;
    row->name = arena_strdup(arena, draft->name);
    row->base_model = arena_strdup(arena, draft->base_model);
    row->description = draft->description ? arena_strdup(arena, draft->description) : NULL;
    if (!row->name || !row->base_model || (draft->description && !row->description))
        return mem_err(err, 0);
    row->id = registry_uuid(arena, err);
    row->created_at = row->updated_at = registry_now(arena, err);
    if (!row->id || !row->created_at)
        return err_set(err, ERR_NOMEM, "Out of memory");
    row->next_number = 1;
    rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = insert(registry, db, arena, row, err);
    return registry_end(db, rc, err);
}

int registry_get_model(struct registry *registry, const char *id, struct arena *arena,
                       struct model_row *row, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = model_row_get(db, id, arena, row, err);
    return registry_end(db, rc, err);
}

int registry_list_models(struct registry *registry, const struct model_filter *filter,
                         struct arena *arena, struct model_row **rows, size_t *count,
                         int64_t *total, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = model_row_list(db, filter, arena, rows, count, err);
    if (rc == 0)
        rc = model_row_count(db, filter, total, err);
    return registry_end(db, rc, err);
}

static int check_patch(const struct model_patch *patch, struct arena *arena, const char **tags,
                       struct err *err)
{
    enum task_type task;
    int rc = patch->name ? name_check("name", patch->name, err) : 0;

    if (rc == 0 && patch->task_type)
        rc = check_task(patch->task_type, &task, err);
    if (rc == 0)
        rc = name_check_length("description", patch->description, MODEL_DESCRIPTION_CHARACTERS_MAX,
                               err);
    if (rc == 0 && patch->base_model)
        rc = check_base(patch->base_model, err);
    if (rc == 0)
        rc = registry_json_object("tags", patch->tags, NULL, arena, tags, err);
    return rc;
}

static int check_patch_conflicts(struct db *db, const struct model_patch *patch,
                                 const struct model_row *row, struct arena *arena, struct err *err)
{
    struct model_row other;
    bool found = false;
    int rc = 0;

    if (patch->name && strcmp(patch->name, row->name) != 0)
        rc = model_row_find(db, patch->name, arena, &other, &found, err);
    if (rc == 0 && found)
        rc = name_taken(patch->name, err);
    if (rc == 0 && patch->name)
        rc = registry_check_no_preset(db, patch->name, arena, err);
    if (rc == 0 && patch->base_model && strcmp(patch->base_model, row->base_model) != 0 &&
        row->version_count > 0)
        rc = err_set(err, ERR_CONFLICT, "Model '%s' has versions, so its base_model cannot change",
                     row->name);
    return rc;
}

static int apply_patch(struct db *db, const struct model_patch *patch, const char *tags,
                       struct arena *arena, struct model_row *row, struct err *err)
{
    int rc = check_patch_conflicts(db, patch, row, arena, err);

    if (rc < 0)
        return rc;
    if (patch->name)
        row->name = arena_strdup(arena, patch->name);
    if (patch->task_type)
        (void)task_type_parse(patch->task_type, &row->task_type);
    if (patch->description)
        row->description = arena_strdup(arena, patch->description);
    if (patch->clear_description)
        row->description = NULL;
    if (patch->base_model)
        row->base_model = arena_strdup(arena, patch->base_model);
    if (tags)
        row->tags = tags;
    row->updated_at = registry_now(arena, err);
    if (!row->name || !row->base_model || !row->updated_at ||
        (patch->description && !patch->clear_description && !row->description))
        return mem_err(err, 0);
    return model_row_update(db, row, err);
}

int registry_patch_model(struct registry *registry, const char *id, const struct model_patch *patch,
                         struct arena *arena, struct model_row *row, struct err *err)
{
    struct db *db = NULL;
    const char *tags = NULL;
    int rc = check_patch(patch, arena, &tags, err);

    if (rc == 0)
        rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = model_row_get(db, id, arena, row, err);
    if (rc == 0)
        rc = apply_patch(db, patch, tags, arena, row, err);
    return registry_end(db, rc, err);
}

int registry_set_experiment(struct registry *registry, const char *id, const char *experiment_id,
                            struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    struct model_row row;
    int rc = name_check_length("mlflow_experiment_id", experiment_id, 100, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = model_row_get(db, id, &arena, &row, err);
    if (rc == 0) {
        row.mlflow_experiment_id = experiment_id;
        rc = model_row_update(db, &row, err);
    }
    rc = registry_end(db, rc, err);
    arena_release(&arena);
    return rc;
}

/* --- delete --- */

struct doomed {
    struct model_row row;
    struct job_row *jobs;
    size_t n_jobs;
};

static int delete_rows(struct db *db, const char *id, struct arena *arena, struct doomed *doomed,
                       struct err *err)
{
    struct job_filter filter = {.model_id = id, .limit = INT64_MAX};
    int64_t active = 0;
    int rc = model_row_get(db, id, arena, &doomed->row, err);

    if (rc == 0)
        rc = job_row_active_of_model(db, id, &active, err);
    if (rc == 0 && active > 0)
        rc = err_set(err, ERR_CONFLICT, "Model '%s' has a queued or running job: cancel it first",
                     doomed->row.name);
    if (rc == 0)
        rc = job_row_list(db, &filter, arena, &doomed->jobs, &doomed->n_jobs, err);
    return rc < 0 ? rc : model_row_delete(db, id, err);
}

/* A job's checkpoints, its log, and what it exported. */
static int delete_job_files(const struct storage *storage, const char *job_id, struct err *err)
{
    static const char *const folders[] = {"jobs", "exports"};
    char path[FS_PATH_BYTES_MAX];
    int rc = storage_checkpoints(storage, job_id, path, err);

    if (rc == 0)
        rc = fs_remove_tree(path, err);
    for (size_t i = 0; i < 2 && rc == 0; i++) {
        rc = storage_artifacts(storage, folders[i], job_id, path, err);
        if (rc == 0)
            rc = fs_remove_tree(path, err);
    }
    return rc;
}

/* The rows are gone for good, so what cannot be removed now is left to gc and only logged. */
static void delete_files(const struct storage *storage, const struct doomed *doomed)
{
    char path[FS_PATH_BYTES_MAX];
    struct err why = {0};
    int rc = storage_model(storage, doomed->row.folder, path, &why);

    if (rc == 0)
        rc = fs_remove_tree(path, &why);
    for (size_t i = 0; i < doomed->n_jobs; i++) {
        struct err ignored = {0};

        if (delete_job_files(storage, doomed->jobs[i].id, &ignored) < 0)
            rc = err_set(&why, ignored.code, "%s", ignored.message);
    }
    if (rc < 0)
        log_event(LOG_WARNING, "registry", "leftover", "model=%s why=\"%s\"", doomed->row.id,
                  why.message);
}

int registry_delete_model(struct registry *registry, const char *id, struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    struct doomed doomed = {0};
    int rc = registry_begin_write(registry, &db, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = delete_rows(db, id, &arena, &doomed, err);
    rc = registry_end(db, rc, err);
    if (rc == 0)
        delete_files(&registry->storage, &doomed);
    arena_release(&arena);
    return rc;
}
