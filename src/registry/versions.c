/* Invariants:
 *  1. A number, and so a version's text and folder, is never given twice within a model: the count
 *     is the model's and only goes up, whatever is deleted.
 *  2. training and failed are set by jobs alone; people move between ready and archived.
 */
#include "registry/versions.h"

#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "formats/train_config.h"
#include "registry/names.h"
#include "registry/registry_int.h"
#include "store/jobs.h"

enum { EVALUATIONS_BYTES_MAX = 4 << 20 };

void version_text(int64_t number, char out[VERSION_TEXT_BYTES])
{
    snprintf(out, VERSION_TEXT_BYTES, "1.%lld.0", (long long)(number - 1));
}

int registry_list_versions(struct registry *registry, const char *model_id, int64_t limit,
                           int64_t offset, struct arena *arena, struct version_row **rows,
                           size_t *count, int64_t *total, struct err *err)
{
    struct db *db = NULL;
    struct model_row model;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = model_row_get(db, model_id, arena, &model, err);
    if (rc == 0)
        rc = version_row_list(db, model_id, limit, offset, arena, rows, count, err);
    if (rc == 0)
        rc = version_row_count(db, model_id, total, err);
    return registry_end(db, rc, err);
}

int versions_find(struct db *db, const char *model_id, const char *version, struct arena *arena,
                  struct model_row *model, struct version_row *row, struct err *err)
{
    struct err why = {0};
    bool found = false;
    int rc = model_row_get(db, model_id, arena, model, err);

    if (rc == 0)
        rc = version_row_find(db, model_id, version, arena, row, &found, err);
    if (rc == 0 && !found && uuid_valid(version)) {
        rc = version_row_get(db, version, arena, row, &why);
        found = rc == 0 && strcmp(row->model_id, model_id) == 0;
        if (rc < 0 && rc != -ERR_NOT_FOUND)
            return err_set(err, why.code, "%s", why.message);
        rc = 0;
    }
    if (rc == 0 && !found)
        rc = err_set(err, ERR_NOT_FOUND, "Version %s of model %s not found", version, model_id);
    return rc;
}

int registry_get_version(struct registry *registry, const char *model_id, const char *version,
                         struct arena *arena, struct model_row *model, struct version_row *row,
                         struct err *err)
{
    struct db *db = NULL;
    struct model_row unused;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = versions_find(db, model_id, version, arena, model ? model : &unused, row, err);
    return registry_end(db, rc, err);
}

int registry_get_version_by_id(struct registry *registry, const char *id, struct arena *arena,
                               struct version_row *row, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = version_row_get(db, id, arena, row, err);
    return registry_end(db, rc, err);
}

int registry_find_version_checksum(struct registry *registry, const char *sha256,
                                   struct arena *arena, struct version_row *row, bool *found,
                                   struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    *found = false;
    if (rc == 0)
        rc = version_row_by_checksum(db, sha256, arena, row, found, err);
    return registry_end(db, rc, err);
}

/* --- patch --- */

static int check_patch(const struct version_patch *patch, enum version_status *status,
                       struct err *err)
{
    int rc = name_check_length("notes", patch->notes, VERSION_NOTES_CHARACTERS_MAX, err);

    if (rc == 0 && patch->status &&
        (!version_status_parse(patch->status, status) ||
         (*status != VERSION_READY && *status != VERSION_ARCHIVED)))
        rc = err_set(err, ERR_UNPROCESSABLE, "status must be ready or archived");
    if (rc == 0 && patch->n_aliases > VERSION_ALIASES_MAX)
        rc = err_set(err, ERR_UNPROCESSABLE, "At most %d aliases are allowed", VERSION_ALIASES_MAX);
    for (size_t i = 0; i < patch->n_aliases && rc == 0; i++) {
        rc = name_check("alias", patch->aliases[i], err);
        if (rc == 0 && strcmp(patch->aliases[i], "latest") == 0)
            rc = err_set(err, ERR_UNPROCESSABLE,
                         "alias 'latest' is reserved: it is the newest ready version");
    }
    return rc;
}

static int set_aliases(struct db *db, const struct version_patch *patch,
                       const struct version_row *row, struct err *err)
{
    int rc = version_alias_clear(db, row->id, err);

    for (size_t i = 0; i < patch->n_aliases && rc == 0; i++)
        rc = version_alias_set(db, row->model_id, patch->aliases[i], row->id, err);
    return rc;
}

static int apply_patch(struct db *db, const struct version_patch *patch, enum version_status status,
                       struct version_row *row, struct err *err)
{
    int rc;

    if (patch->status && row->status != VERSION_READY && row->status != VERSION_ARCHIVED)
        return err_set(err, ERR_CONFLICT, "Version %s is %s, so its status cannot be set",
                       row->version, version_status_name(row->status));
    if (patch->status)
        row->status = status;
    if (patch->notes)
        row->notes = patch->notes;
    if (patch->clear_notes)
        row->notes = NULL;
    rc = version_row_update(db, row, err);
    if (rc == 0 && patch->aliases)
        rc = set_aliases(db, patch, row, err);
    return rc;
}

int registry_patch_version(struct registry *registry, const char *model_id, const char *version,
                           const struct version_patch *patch, struct arena *arena,
                           struct version_row *row, struct err *err)
{
    struct db *db = NULL;
    struct model_row model;
    enum version_status status = VERSION_READY;
    int rc = check_patch(patch, &status, err);

    if (rc == 0)
        rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = versions_find(db, model_id, version, arena, &model, row, err);
    if (rc == 0)
        rc = apply_patch(db, patch, status, row, err);
    if (rc == 0) {
        const char *id = row->id;

        rc = version_row_get(db, id, arena, row, err);
    }
    return registry_end(db, rc, err);
}

/* --- delete --- */

/* Submitting a job turns init_from into an id, so ids are compared. */
static int check_unused(struct db *db, const struct version_row *row, const char *status,
                        struct arena *arena, struct err *err)
{
    struct job_filter filter = {.status = status, .limit = INT64_MAX};
    struct job_row *jobs = NULL;
    struct train_config config;
    size_t n = 0;
    int rc = job_row_list(db, &filter, arena, &jobs, &n, err);

    for (size_t i = 0; i < n && rc == 0; i++) {
        bool makes = jobs[i].model_version_id && strcmp(jobs[i].model_version_id, row->id) == 0;

        config.init_from[0] = '\0';
        if (jobs[i].kind == JOB_TRAIN)
            rc = train_config_parse_text(&config, jobs[i].config, err);
        if (rc == 0 && (makes || strcmp(config.init_from, row->id) == 0))
            rc = err_set(err, ERR_CONFLICT, "Version %s is needed by a %s job: cancel it first",
                         row->version, status);
    }
    return rc;
}

static void delete_folder(const struct storage *storage, const struct model_row *model,
                          const struct version_row *row)
{
    char path[FS_PATH_BYTES_MAX];
    struct err why = {0};
    int rc = storage_version(storage, model->folder, row->version, path, &why);

    if (rc == 0)
        rc = fs_remove_tree(path, &why);
    if (rc < 0)
        log_event(LOG_WARNING, "registry", "leftover", "version=%s why=\"%s\"", row->id,
                  why.message);
}

int registry_delete_version(struct registry *registry, const char *model_id, const char *version,
                            struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    struct model_row model = {0};
    struct version_row row = {0};
    int rc = registry_begin_write(registry, &db, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = versions_find(db, model_id, version, &arena, &model, &row, err);
    if (rc == 0)
        rc = check_unused(db, &row, "running", &arena, err);
    if (rc == 0)
        rc = check_unused(db, &row, "queued", &arena, err);
    if (rc == 0)
        rc = version_row_delete(db, row.id, err);
    rc = registry_end(db, rc, err);
    if (rc == 0)
        delete_folder(&registry->storage, &model, &row);
    arena_release(&arena);
    return rc;
}

/* --- small facts --- */

int registry_set_run(struct registry *registry, const char *version_id, const char *run_id,
                     struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    struct version_row row;
    int rc = name_check_length("mlflow_run_id", run_id, 100, err);

    arena_init(&arena, 0);
    if (rc == 0)
        rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = version_row_get(db, version_id, &arena, &row, err);
    if (rc == 0) {
        row.mlflow_run_id = run_id;
        rc = version_row_update(db, &row, err);
    }
    rc = registry_end(db, rc, err);
    arena_release(&arena);
    return rc;
}

/* "[a]" and "b" give "[a,b]"; both were checked to be JSON of their kind. */
static int append_json(const char *list, const char *item, struct arena *arena, const char **out,
                       struct err *err)
{
    size_t length = strlen(list);

    if (length + strlen(item) > EVALUATIONS_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "The version holds too many evaluations");
    *out = arena_printf(arena, "%.*s%s%s]", (int)length - 1, list, length > 2 ? "," : "", item);
    return *out ? 0 : mem_err(err, length);
}

int versions_evaluated(struct db *db, const char *version_id, const char *evaluation,
                       struct arena *arena, struct err *err)
{
    struct version_row row;
    int rc = version_row_get(db, version_id, arena, &row, err);

    if (rc == 0)
        rc = append_json(row.evaluations, evaluation, arena, &row.evaluations, err);
    return rc == 0 ? version_row_update(db, &row, err) : rc;
}

int registry_add_evaluation(struct registry *registry, const char *version_id,
                            const char *evaluation, struct err *err)
{
    struct db *db = NULL;
    struct arena arena;
    const char *item = NULL;
    int rc;

    arena_init(&arena, 0);
    rc = registry_json_object("evaluation", evaluation, "{}", &arena, &item, err);
    if (rc == 0)
        rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = versions_evaluated(db, version_id, item, &arena, err);
    rc = registry_end(db, rc, err);
    arena_release(&arena);
    return rc;
}
