#include "api/names.h"

#include <string.h>

#include "formats/manifest.h"
#include "registry/bases.h"
#include "registry/models.h"
#include "registry/presets.h"
#include "registry/versions.h"

struct names {
    struct hub *hub;
    struct arena *arena;
    struct model_name *list;
    size_t n, cap;
};

static int add(struct names *names, const struct model_name *name, struct err *err)
{
    const char *tagged = name->tagged;
    if (tagged == NULL && name->id != NULL) {
        tagged = strpbrk(name->id, ":@") != NULL
                     ? name->id
                     : arena_printf(names->arena, "%s:latest", name->id);
    }
    if (tagged == NULL) {
        return mem_err(err, 0);
    }
    if (names->n == names->cap) {
        const size_t cap = names->cap > 0 ? 2 * names->cap : 64;
        struct model_name *list = arena_alloc(names->arena, cap, sizeof *list);
        if (names->n >= NAMES_MAX) {
            return err_set(err, ERR_TOO_LARGE, "There are more than %d names of models", NAMES_MAX);
        }
        if (list == NULL) {
            return mem_err(err, cap * sizeof *list);
        }
        if (names->n > 0) {
            memcpy(list, names->list, names->n * sizeof *list);
        }
        names->list = list;
        names->cap = cap;
    }
    names->list[names->n] = *name;
    names->list[names->n++].tagged = tagged;
    return 0;
}

/* base.id NULL when it was never imported. */
static void put_base(struct names *names, const char *id, struct model_name *name)
{
    struct err missing = {0};
    if (registry_get_base(names->hub->registry, id, names->arena, &name->base, &missing) != 0) {
        memset(&name->base, 0, sizeof name->base);
    }
    name->digest = name->base.sha256;
    name->bytes = name->base.bytes;
}

/* What the version brings beside the weights. A folder that is gone is told by whoever asks it to
 * answer. */
static void put_version(struct names *names, const struct version_row *version,
                        struct model_name *name)
{
    char path[FS_PATH_BYTES_MAX];
    struct manifest manifest = {0};
    struct err gone = {0};
    uint64_t bytes = 0;
    if (version->artifact_path == NULL ||
        fs_join(path, version->artifact_path, MANIFEST_ADAPTER, &gone) != 0 ||
        fs_size(path, &bytes, &gone) != 0) {
        bytes = 0;
    }
    name->template = NULL;
    if (bytes > 0 && manifest_read(&manifest, version->artifact_path, &gone) == 0 &&
        manifest.chat_template != NULL) {
        name->template = arena_strdup(names->arena, manifest.chat_template);
    }
    manifest_release(&manifest);
    name->digest = version->checksum;
    name->bytes = name->base.bytes + (int64_t)bytes;
}

/* name:latest, where `is` is what the name alone stands for and the newest version is another. */
static int add_newest(struct names *names, const struct resolved_model *is, struct model_name *name,
                      struct err *err)
{
    struct model_name latest = *name;
    struct resolved_model newest;
    struct err none = {0};
    latest.id = arena_printf(names->arena, "%s:latest", name->id);
    if (latest.id == NULL) {
        return mem_err(err, 0);
    }
    if (registry_resolve_model(names->hub->registry, latest.id, names->arena, &newest, &none) !=
            0 ||
        (newest.has_version == is->has_version &&
         (!is->has_version || strcmp(newest.version.id, is->version.id) == 0))) {
        return 0;
    }
    name->tagged = name->id;
    if (newest.has_version) {
        put_version(names, &newest.version, &latest);
        latest.created_at = newest.version.created_at;
    }
    return add(names, &latest, err);
}

static int add_version(struct names *names, const struct model_row *model,
                       const struct version_row *version, const struct model_name *like,
                       struct err *err)
{
    struct model_name name = *like;
    name.tagged = NULL;
    name.id = arena_printf(names->arena, "%s@%s", model->name, version->version);
    put_version(names, version, &name);
    name.created_at = version->created_at;
    int rc = add(names, &name, err);
    for (size_t i = 0; rc == 0 && i < version->n_aliases; i++) {
        name.id = arena_printf(names->arena, "%s:%s", model->name, version->aliases[i]);
        rc = add(names, &name, err);
    }
    return rc;
}

static int add_model(struct names *names, const struct model_row *model, struct err *err)
{
    struct model_name name = {.id = model->name,
                              .base_model = model->base_model,
                              .source = model->base_model,
                              .created_at = model->created_at};
    struct resolved_model resolved;
    struct err quiet = {0};
    struct version_row *versions = NULL;
    size_t count = 0;
    int64_t total = 0;
    int rc = 0;
    put_base(names, model->base_model, &name);
    if (registry_resolve_model(names->hub->registry, model->name, names->arena, &resolved,
                               &quiet) == 0 &&
        resolved.has_version) {
        rc = add_newest(names, &resolved, &name, err);
        put_version(names, &resolved.version, &name);
        name.created_at = resolved.version.created_at;
    }
    rc = rc == 0 ? add(names, &name, err) : rc;
    if (rc == 0 && model->version_count > 0) {
        rc = registry_list_versions(names->hub->registry, model->id, REGISTRY_PAGE_MAX, 0,
                                    names->arena, &versions, &count, &total, err);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (versions[i].status == VERSION_READY) {
            rc = add_version(names, model, &versions[i], &name, err);
        }
    }
    return rc;
}

static int add_models(struct names *names, struct err *err)
{
    struct model_filter filter = {.sort = MODELS_BY_NAME, .limit = REGISTRY_PAGE_MAX};
    int64_t total = 1;
    int rc = 0;
    while (rc == 0 && filter.offset < total) {
        struct model_row *rows;
        size_t count = 0;
        rc = registry_list_models(names->hub->registry, &filter, names->arena, &rows, &count,
                                  &total, err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            rc = add_model(names, &rows[i], err);
        }
        filter.offset += REGISTRY_PAGE_MAX;
    }
    return rc;
}

/* With base filled in. */
static void put_preset(struct model_name *name, const struct preset_row *preset)
{
    name->source = preset->source;
    name->template = preset->template;
    name->parameters = preset->parameters;
    name->digest = preset->digest;
    name->bytes = name->base.bytes + preset->adapter_bytes;
    name->created_at = preset->created_at;
}

static int add_presets(struct names *names, struct err *err)
{
    struct preset_row *rows = NULL;
    size_t count = 0;
    int rc = registry_list_presets(names->hub->registry, names->arena, &rows, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct model_name name = {.id = rows[i].name, .base_model = rows[i].base_model};
        put_base(names, name.base_model, &name);
        put_preset(&name, &rows[i]);
        rc = add(names, &name, err);
    }
    return rc;
}

static bool is_hidden(const struct names *names, const char *base)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->list[i].id, base) == 0) {
            return true;
        }
    }
    return false;
}

static int add_bases(struct names *names, struct err *err)
{
    int64_t total = 1;
    int rc = 0;
    for (int64_t offset = 0; rc == 0 && offset < total; offset += REGISTRY_PAGE_MAX) {
        struct base_row *rows;
        size_t count = 0;
        rc = registry_list_bases(names->hub->registry, REGISTRY_PAGE_MAX, offset, names->arena,
                                 &rows, &count, &total, err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            const struct model_name name = {.id = rows[i].id,
                                            .base_model = rows[i].id,
                                            .source = rows[i].id,
                                            .base = rows[i],
                                            .digest = rows[i].sha256,
                                            .bytes = rows[i].bytes,
                                            .created_at = rows[i].created_at};
            rc = is_hidden(names, rows[i].id) ? 0 : add(names, &name, err);
        }
    }
    return rc;
}

int names_list(struct hub *hub, struct arena *arena, struct model_name **out, size_t *count,
               struct err *err)
{
    struct names names = {.hub = hub, .arena = arena};
    int rc = add_models(&names, err);
    if (rc == 0) {
        rc = add_presets(&names, err);
    }
    if (rc == 0) {
        rc = add_bases(&names, err);
    }
    *out = names.list;
    *count = names.n;
    return rc;
}

int names_find(struct hub *hub, const char *id, struct arena *arena, struct model_name *out,
               struct err *err)
{
    struct names names = {.hub = hub, .arena = arena};
    struct resolved_model model;
    const int rc = registry_resolve_model(hub->registry, id, arena, &model, err);
    if (rc != 0) {
        return rc;
    }
    memset(out, 0, sizeof *out);
    out->id = id;
    out->tagged = id;
    out->base_model = model.base_id;
    out->source = model.base_id;
    put_base(&names, model.base_id, out);
    out->created_at = out->base.created_at;
    if (model.has_version) {
        put_version(&names, &model.version, out);
        out->created_at = model.version.created_at;
    } else if (model.is_registered) {
        out->created_at = model.model.created_at;
    } else if (model.has_preset) {
        put_preset(out, &model.preset);
    }
    return 0;
}
