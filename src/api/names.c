#include "api/names.h"

#include <string.h>

#include "registry/bases.h"
#include "registry/models.h"
#include "registry/versions.h"

struct names {
    struct hub *hub;
    struct arena *arena;
    struct model_name *list;
    size_t n, cap;
};

static int add(struct names *names, const struct model_name *name, struct err *err)
{
    if (name->id == NULL) {
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
    names->list[names->n++] = *name;
    return 0;
}

/* id NULL when it was never imported. */
static void find_base(struct names *names, const char *id, struct base_row *row)
{
    struct err missing = {0};
    if (registry_get_base(names->hub->registry, id, names->arena, row, &missing) != 0) {
        memset(row, 0, sizeof *row);
    }
}

static int add_version(struct names *names, const struct model_row *model,
                       const struct version_row *version, const struct model_name *like,
                       struct err *err)
{
    struct model_name name = *like;
    name.id = arena_printf(names->arena, "%s@%s", model->name, version->version);
    name.adapter_sha256 = version->checksum;
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
    struct model_name name = {
        .id = model->name, .base_model = model->base_model, .created_at = model->created_at};
    struct resolved_model resolved;
    struct err quiet = {0};
    struct version_row *versions = NULL;
    size_t count = 0;
    int64_t total = 0;
    find_base(names, model->base_model, &name.base);
    if (registry_resolve_model(names->hub->registry, model->name, names->arena, &resolved,
                               &quiet) == 0 &&
        resolved.has_version) {
        name.adapter_sha256 = resolved.version.checksum;
    }
    int rc = add(names, &name, err);
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
                                            .base = rows[i],
                                            .created_at = rows[i].created_at};
            rc = add(names, &name, err);
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
    out->base_model = model.base_id;
    find_base(&names, model.base_id, &out->base);
    out->adapter_sha256 = model.has_version ? model.version.checksum : NULL;
    out->created_at = model.has_version     ? model.version.created_at
                      : model.is_registered ? model.model.created_at
                                            : out->base.created_at;
    return 0;
}
