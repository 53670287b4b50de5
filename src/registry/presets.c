/* How it works: as an import (bases.c): the adapter is copied without the lock, put into place and
 * its row committed under it. A row that is replaced gives its adapter back under the same lock. */
#include "registry/presets.h"

#include <string.h>

#include "base/hash.h"
#include "registry/blobs.h"
#include "registry/names.h"
#include "registry/registry_int.h"
#include "store/base_models.h"
#include "store/models.h"

static int check_sizes(const struct preset_draft *draft, struct err *err)
{
    const struct {
        const char *field, *text;
        size_t bytes_max;
    } rows[] = {{"system", draft->system, PRESET_TEXT_BYTES_MAX},
                {"template", draft->template, PRESET_TEXT_BYTES_MAX},
                {"license", draft->license, PRESET_JSON_BYTES_MAX},
                {"parameters", draft->parameters, PRESET_JSON_BYTES_MAX},
                {"messages", draft->messages, PRESET_JSON_BYTES_MAX}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].text && strlen(rows[i].text) > rows[i].bytes_max)
            return err_set(err, ERR_TOO_LARGE, "'%s' has %zu bytes; at most %zu are kept",
                           rows[i].field, strlen(rows[i].text), rows[i].bytes_max);
    return 0;
}

/* "mario:v2" where mario is registered would name two things. */
static int check_model_name(struct db *db, const char *name, struct arena *arena, struct err *err)
{
    const char *tag = strrchr(name, ':');
    const char *head = tag ? arena_strndup(arena, name, (size_t)(tag - name)) : name;
    struct model_row model;
    bool found = false;
    int rc = head ? model_row_find(db, head, arena, &model, &found, err) : mem_err(err, 0);

    if (rc == 0 && found)
        rc = err_set(err, ERR_CONFLICT,
                     "Model with name '%s' already exists: it was registered, and its tags are its "
                     "versions",
                     head);
    return rc;
}

static int check_name(struct db *db, const struct preset_draft *draft, bool exists,
                      struct arena *arena, struct err *err)
{
    struct base_row base;
    bool found = false;
    int rc = check_model_name(db, draft->name, arena, err);

    if (rc == 0)
        rc = base_row_find(db, draft->name, arena, &base, &found, err);
    if (rc == 0 && found &&
        (strcmp(draft->name, draft->base_model) != 0 || !(draft->with_base || exists)))
        rc = err_set(err, ERR_CONFLICT, "Base model '%s' already exists", draft->name);
    return rc;
}

/* *old: the adapter of the row that was replaced, or NULL. */
static int write_row(struct registry *registry, const struct preset_draft *draft,
                     struct arena *arena, const struct preset_row *row, const char **old,
                     struct err *err)
{
    struct db *db = NULL;
    struct preset_row other = {0};
    struct base_row base;
    bool exists = false, found = false;
    int64_t count = 0;
    int rc = registry_begin_write(registry, &db, err);

    if (rc == 0)
        rc = preset_row_find(db, row->name, arena, &other, &exists, err);
    if (rc == 0)
        rc = check_name(db, draft, exists, arena, err);
    if (rc == 0)
        rc = base_row_find(db, row->base_model, arena, &base, &found, err);
    if (rc == 0 && !found)
        rc = err_set(err, ERR_NOT_FOUND, "Base model %s not found", row->base_model);
    if (rc == 0)
        rc = preset_row_count(db, &count, err);
    if (rc == 0 && !exists && count >= PRESETS_MAX)
        rc = err_set(err, ERR_TOO_LARGE, "There are %d created models already: delete one",
                     PRESETS_MAX);
    if (rc == 0)
        rc = preset_row_put(db, row, err);
    *old = exists ? other.adapter_sha256 : NULL;
    return registry_end(db, rc, err);
}

static int publish(struct registry *registry, const struct preset_draft *draft,
                   struct blob_copy *adapter, struct arena *arena, const struct preset_row *row,
                   struct err *err)
{
    const char *old = NULL;
    int lock, rc = registry_lock_blobs(registry, &lock, err);

    if (rc < 0)
        return rc;
    rc = row->adapter_sha256 ? blob_copy_publish(adapter, &registry->storage, err) : 0;
    if (rc == 0)
        rc = write_row(registry, draft, arena, row, &old, err);
    if (rc < 0 && row->adapter_sha256)
        registry_drop_unused_blob(registry, row->adapter_sha256);
    if (rc == 0 && old)
        registry_drop_unused_blob(registry, old);
    fs_unlock_dir(lock);
    return rc;
}

static int copy_adapter(struct registry *registry, const struct preset_draft *draft,
                        struct blob_copy *copy, struct arena *arena, struct preset_row *row,
                        struct err *err)
{
    const struct blob_source source = {.path = draft->adapter_path};
    int rc = blob_copy_make(copy, &registry->storage, &source, err);

    if (rc == 0 && draft->adapter_sha256 && strcmp(copy->sha256, draft->adapter_sha256) != 0)
        rc = err_set(err, ERR_CONFLICT,
                     "%s is not the adapter that was published (its SHA-256 "
                     "differs)",
                     draft->adapter_path);
    if (rc == 0) {
        row->adapter_sha256 = arena_strdup(arena, copy->sha256);
        row->adapter_scale = draft->adapter_scale;
        row->adapter_bytes = (int64_t)copy->bytes;
        rc = row->adapter_sha256 ? 0 : mem_err(err, sizeof copy->sha256);
    }
    return rc;
}

int registry_put_preset(struct registry *registry, const struct preset_draft *draft,
                        struct arena *arena, struct preset_row *row, struct err *err)
{
    struct blob_copy *copy = NULL;
    int rc = name_check_tagged("model", draft->name, err);

    memset(row, 0, sizeof *row);
    if (rc == 0)
        rc = check_sizes(draft, err);
    if (rc < 0)
        return rc;
    *row = (struct preset_row){.name = draft->name,
                               .base_model = draft->base_model,
                               .source = draft->source,
                               .system = draft->system,
                               .template = draft->template,
                               .license = draft->license ? draft->license : "[]",
                               .parameters = draft->parameters ? draft->parameters : "{}",
                               .messages = draft->messages ? draft->messages : "[]",
                               .digest = draft->digest};
    row->created_at = registry_now(arena, err);
    copy = mem_calloc(1, sizeof *copy);
    if (!row->created_at || !copy) {
        mem_free(copy);
        return mem_err(err, sizeof *copy);
    }
    if (draft->adapter_path)
        rc = copy_adapter(registry, draft, copy, arena, row, err);
    if (rc == 0)
        rc = publish(registry, draft, copy, arena, row, err);
    blob_copy_release(copy);
    mem_free(copy);
    return rc;
}

int registry_check_no_preset(struct db *db, const char *name, struct arena *arena, struct err *err)
{
    struct preset_row row;
    bool found = false;
    int rc = preset_row_find(db, name, arena, &row, &found, err);

    if (rc == 0 && found)
        rc = err_set(err, ERR_CONFLICT,
                     "Model with name '%s' already exists: it was created by "
                     "/api/create or /api/copy",
                     name);
    return rc;
}

int registry_list_presets(struct registry *registry, struct arena *arena, struct preset_row **rows,
                          size_t *count, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = preset_row_list(db, arena, rows, count, err);
    return registry_end(db, rc, err);
}

/* The base that was made with it; *sha256 NULL: there is none. */
static int delete_own_base(struct db *db, const char *name, struct arena *arena,
                           const char **sha256, struct err *err)
{
    struct base_row base;
    bool found = false;
    const char *model = NULL, *preset = NULL;
    int rc = base_row_find(db, name, arena, &base, &found, err);

    *sha256 = NULL;
    if (rc < 0 || !found)
        return rc;
    rc = model_row_using_base(db, name, arena, &model, err);
    if (rc == 0)
        rc = preset_row_using_base(db, name, arena, &preset, err);
    if (rc == 0 && (model || preset))
        rc = err_set(err, ERR_CONFLICT, "The weights of '%s' are used by '%s'", name,
                     model ? model : preset);
    if (rc == 0)
        rc = base_row_delete(db, name, err);
    *sha256 = base.sha256;
    return rc;
}

static int delete_rows(struct registry *registry, const char *name, struct arena *arena,
                       struct preset_row *row, const char **base, struct err *err)
{
    struct db *db = NULL;
    bool found = false;
    int rc = registry_begin_write(registry, &db, err);

    if (rc == 0)
        rc = preset_row_find(db, name, arena, row, &found, err);
    if (rc == 0 && !found)
        rc = err_set(err, ERR_NOT_FOUND, "Model '%s' not found", name);
    if (rc == 0)
        rc = preset_row_delete(db, name, err);
    if (rc == 0)
        rc = delete_own_base(db, name, arena, base, err);
    return registry_end(db, rc, err);
}

int registry_delete_preset(struct registry *registry, const char *name, struct err *err)
{
    struct arena arena;
    struct preset_row row = {0};
    const char *base = NULL;
    int lock, rc = registry_lock_blobs(registry, &lock, err);

    if (rc < 0)
        return rc;
    arena_init(&arena, 0);
    rc = delete_rows(registry, name, &arena, &row, &base, err);
    if (rc == 0 && row.adapter_sha256)
        registry_drop_unused_blob(registry, row.adapter_sha256);
    if (rc == 0 && base)
        registry_drop_unused_blob(registry, base);
    fs_unlock_dir(lock);
    arena_release(&arena);
    return rc;
}
