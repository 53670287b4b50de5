/* Names may hold neither @ nor : nor more than base ids' one slash, so splitting at the last of
 * them is unambiguous; base ids are asked whole first, since a tool may have put a colon there. */
#include "registry/resolve.h"

#include <stdio.h>
#include <string.h>

#include "registry/registry_int.h"
#include "registry/repo.h"

#define HOST     "hf.co/"
#define HOST_LEN (sizeof HOST - 1)

struct lookup {
    struct db *db;
    struct arena *arena;
    struct resolved_model *out;
    struct err *err;
};

static int take_version(struct lookup *at)
{
    const struct version_row *version = &at->out->version;

    if (version->status != VERSION_READY && version->status != VERSION_ARCHIVED)
        return err_set(at->err, ERR_CONFLICT, "Version %s of model '%s' is not ready: it is %s",
                       version->version, at->out->model.name, version_status_name(version->status));
    at->out->has_version = true;
    return 0;
}

static int newest_or_base(struct lookup *at)
{
    bool found = false;
    int rc = version_row_newest_ready(at->db, at->out->model.id, at->arena, &at->out->version,
                                      &found, at->err);

    return rc == 0 && found ? take_version(at) : rc;
}

static int default_version(struct lookup *at)
{
    bool found = false;
    int rc = version_row_by_alias(at->db, at->out->model.id, "production", at->arena,
                                  &at->out->version, &found, at->err);

    if (rc < 0)
        return rc;
    return found ? take_version(at) : newest_or_base(at);
}

static int by_alias(struct lookup *at, const char *alias)
{
    bool found = false;
    int rc;

    if (strcmp(alias, "latest") == 0)
        return newest_or_base(at);
    rc = version_row_by_alias(at->db, at->out->model.id, alias, at->arena, &at->out->version,
                              &found, at->err);
    if (rc == 0 && !found)
        rc = err_set(at->err, ERR_NOT_FOUND, "Model '%s' has no alias '%s'", at->out->model.name,
                     alias);
    return rc < 0 ? rc : take_version(at);
}

static int by_text(struct lookup *at, const char *text)
{
    bool found = false;
    int rc = version_row_find(at->db, at->out->model.id, text, at->arena, &at->out->version, &found,
                              at->err);

    if (rc == 0 && !found)
        rc = err_set(at->err, ERR_NOT_FOUND, "Model '%s' has no version %s", at->out->model.name,
                     text);
    return rc < 0 ? rc : take_version(at);
}

static int find_model(struct lookup *at, const char *name)
{
    int rc =
        model_row_find(at->db, name, at->arena, &at->out->model, &at->out->is_registered, at->err);

    if (rc == 0 && at->out->is_registered)
        at->out->base_id = at->out->model.base_model;
    return rc;
}

static int find_base(struct lookup *at, const char *id)
{
    return base_row_find(at->db, id, at->arena, &at->out->base, &at->out->has_weights, at->err);
}

static int find_preset(struct lookup *at, const char *name)
{
    int rc =
        preset_row_find(at->db, name, at->arena, &at->out->preset, &at->out->has_preset, at->err);

    if (rc == 0 && at->out->has_preset)
        at->out->base_id = at->out->preset.base_model;
    return rc;
}

static int find_preset_or_base(struct lookup *at, const char *name)
{
    int rc = find_preset(at, name);

    return rc == 0 && !at->out->has_preset ? find_base(at, name) : rc;
}

static bool is_found(const struct resolved_model *out)
{
    return out->is_registered || out->has_preset || out->has_weights;
}

/* Whether a base's tag is what Ollama's clients write for the file that it was made of: ":Q4_K_M".
 * Behind the file's name the source may say what was done to it. */
static bool is_file_tag(const struct base_row *base, const char *tag)
{
    const char *file = base->source ? strrchr(base->source, '/') : NULL;
    const char *end = file ? strcasestr(file, ".gguf") : NULL;
    char name[REPO_FILE_BYTES];

    if (!end || (size_t)(end - file) + sizeof ".gguf" > sizeof name)
        return false;
    snprintf(name, sizeof name, "%.*s.gguf", (int)(end - file) - 1, file + 1);
    return repo_gguf_is_in(name, tag);
}

/* name@version, name:alias, preset:latest, base:latest, base:quantization. Leaves everything unset
 * when it is none of them. */
static int parsed(struct lookup *at, const char *name)
{
    const char *cut = strrchr(name, '@');
    bool is_version = cut != NULL;
    int rc;

    if (!cut)
        cut = strrchr(name, ':');
    if (!cut)
        return 0;
    char *head = arena_strndup(at->arena, name, (size_t)(cut - name));
    if (!head)
        return mem_err(at->err, strlen(name));
    rc = find_model(at, head);
    if (rc == 0 && at->out->is_registered)
        return is_version ? by_text(at, cut + 1) : by_alias(at, cut + 1);
    if (rc == 0 && !is_version && strcmp(cut + 1, "latest") == 0)
        rc = find_preset(at, head);
    if (rc == 0 && !is_version && !at->out->has_preset)
        rc = find_base(at, head);
    if (rc == 0 && at->out->has_weights)
        at->out->has_weights =
            strcmp(cut + 1, "latest") == 0 || is_file_tag(&at->out->base, cut + 1);
    return rc;
}

static int resolve(struct lookup *at, const char *name)
{
    struct resolved_model *out = at->out;
    int rc = find_model(at, name);

    if (rc == 0 && out->is_registered)
        rc = default_version(at);
    else if (rc == 0)
        rc = find_preset_or_base(at, name);
    if (rc == 0 && !is_found(out))
        rc = parsed(at, name);
    if (rc == 0 && !is_found(out) && strncmp(name, HOST, HOST_LEN) == 0)
        return resolve(at, name + HOST_LEN); /* as it was pulled by Ollama's clients */
    if (rc == 0 && !is_found(out))
        rc = err_set(at->err, ERR_NOT_FOUND, "Model '%s' not found", name);
    if (rc == 0 && (out->is_registered || out->has_preset))
        rc = find_base(at, out->base_id);
    else if (rc == 0)
        out->base_id = out->base.id;
    return rc;
}

int registry_resolve_model(struct registry *registry, const char *name, struct arena *arena,
                           struct resolved_model *out, struct err *err)
{
    struct lookup at = {NULL, arena, out, err};
    int rc = registry_begin_read(registry, &at.db, err);

    memset(out, 0, sizeof *out);
    if (rc == 0)
        rc = resolve(&at, name);
    return registry_end(at.db, rc, err);
}

static int resolve_ids(struct lookup *at, const char *model_id, const char *version_id)
{
    struct resolved_model *out = at->out;
    int rc = model_row_get(at->db, model_id, at->arena, &out->model, at->err);

    if (rc < 0)
        return rc;
    out->is_registered = true;
    out->base_id = out->model.base_model;
    if (!version_id) {
        rc = default_version(at);
    } else {
        rc = version_row_get(at->db, version_id, at->arena, &out->version, at->err);
        if (rc == 0 && strcmp(out->version.model_id, model_id) != 0)
            rc = err_set(at->err, ERR_NOT_FOUND, "Version %s not found", version_id);
        if (rc == 0)
            rc = take_version(at);
    }
    return rc < 0 ? rc : find_base(at, out->base_id);
}

int registry_resolve_ids(struct registry *registry, const char *model_id, const char *version_id,
                         struct arena *arena, struct resolved_model *out, struct err *err)
{
    struct lookup at = {NULL, arena, out, err};
    int rc = registry_begin_read(registry, &at.db, err);

    memset(out, 0, sizeof *out);
    if (rc == 0)
        rc = resolve_ids(&at, model_id, version_id);
    return registry_end(at.db, rc, err);
}
