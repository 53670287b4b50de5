/* Ids are asked for directly; names are looked for in the lists, since those are what names are
 * unique in. */
#include "cli/lookup.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"

enum { NAME_BYTES = 512 };

const char *row_text(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text != NULL ? text : "";
}

double row_real(const json_t *row, const char *key, double fallback)
{
    const json_t *value = json_object_get(row, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

int64_t row_int(const json_t *row, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(row, key));
}

static int by_id(struct remote *r, const char *list, const char *id, json_t **row, struct err *err)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", list, id);
    return remote_call(r, "GET", path, NULL, row, err);
}

/* The row of a list whose `key` is `text`. *row NULL when there is none. */
static int by_text(struct remote *r, const char *list, const char *key, const char *text,
                   json_t **row, struct err *err)
{
    json_t *rows = NULL;
    size_t i;
    const json_t *one;
    const int rc = remote_list(r, list, &rows, err);
    *row = NULL;
    json_array_foreach(rows, i, one)
    {
        if (*row == NULL && strcmp(row_text(one, key), text) == 0) {
            *row = json_deep_copy(one);
        }
    }
    json_decref(rows);
    return rc;
}

/* A name wins over an id that is written the same. */
static int by_name(struct remote *r, const char *what, const char *list, const char *name,
                   json_t **row, struct err *err)
{
    int rc = by_text(r, list, "name", name, row, err);
    if (rc == 0 && *row == NULL && uuid_valid(name)) {
        rc = by_id(r, list, name, row, err);
    }
    if (rc == 0 && *row == NULL) {
        rc = err_set(err, ERR_NOT_FOUND, "there is no %s '%s'; mlx-hub %s list shows them", what,
                     name, what);
    }
    return rc;
}

int lookup_model(struct remote *r, const char *name, json_t **row, struct err *err)
{
    return by_name(r, "model", "/models", name, row, err);
}

int lookup_dataset(struct remote *r, const char *name, json_t **row, struct err *err)
{
    struct err missing = {0};
    const int rc = by_name(r, "dataset", "/datasets", name, row, &missing);
    if (rc == -ERR_NOT_FOUND && fs_exists(name)) {
        return err_set(err, ERR_NOT_FOUND,
                       "'%s' is a file and no dataset yet; first: mlx-hub dataset add \"%s\"", name,
                       name);
    }
    return rc == 0 ? 0 : err_set(err, missing.code, "%s", missing.message);
}

int lookup_job(struct remote *r, const char *name, json_t **row, struct err *err)
{
    json_t *rows = NULL;
    size_t i;
    const json_t *one;
    const size_t n = strlen(name);
    int found = 0;
    *row = NULL;
    if (uuid_valid(name)) {
        return by_id(r, "/training/jobs", name, row, err);
    }
    int rc = remote_list(r, "/training/jobs", &rows, err);
    const json_t *match = strcmp(name, "last") == 0 ? json_array_get(rows, 0) : NULL;
    found = match != NULL;
    json_array_foreach(rows, i, one)
    {
        if (n >= LOOKUP_PREFIX_MIN && strncmp(row_text(one, "id"), name, n) == 0) {
            match = one;
            found++;
        }
    }
    if (rc == 0 && found == 1) {
        *row = json_deep_copy(match);
    } else if (rc == 0) {
        rc = err_set(err, found > 1 ? ERR_CONFLICT : ERR_NOT_FOUND,
                     "there %s '%s'; mlx-hub job list shows them",
                     found > 1 ? "are several jobs whose id begins with" : "is no job", name);
    }
    json_decref(rows);
    return rc;
}

bool is_version_name(const char *name)
{
    return strpbrk(name, "@:") != NULL;
}

static bool is_meant(const json_t *version, char kind, const char *text)
{
    size_t i;
    const json_t *alias;
    if (kind == '@') {
        return strcmp(row_text(version, "version"), text) == 0;
    }
    if (strcmp(text, "latest") == 0) {
        return strcmp(row_text(version, "status"), "ready") == 0;
    }
    json_array_foreach(json_object_get(version, "aliases"), i, alias)
    {
        if (strcmp(json_string_value(alias), text) == 0) {
            return true;
        }
    }
    return false;
}

/* Versions come newest first, so the first ready one is the latest. */
static int pick_version(struct remote *r, const json_t *model, char kind, const char *text,
                        json_t **version, struct err *err)
{
    char path[256];
    json_t *rows = NULL;
    size_t i;
    const json_t *one;
    snprintf(path, sizeof path, "/models/%s/versions", row_text(model, "id"));
    const int rc = remote_list(r, path, &rows, err);
    json_array_foreach(rows, i, one)
    {
        if (*version == NULL && is_meant(one, kind, text)) {
            *version = json_deep_copy(one);
        }
    }
    json_decref(rows);
    return rc;
}

int lookup_version(struct remote *r, const char *name, json_t **model, json_t **version,
                   struct err *err)
{
    char model_name[NAME_BYTES];
    json_t *row = NULL;
    const char *at = strpbrk(name, "@:");
    *version = NULL;
    if (at == NULL || (size_t)(at - name) >= sizeof model_name) {
        return err_set(err, ERR_INVALID, "'%s' names no version; write MODEL@1.0.0 or MODEL:alias",
                       name);
    }
    snprintf(model_name, sizeof model_name, "%.*s", (int)(at - name), name);
    int rc = lookup_model(r, model_name, &row, err);
    if (rc == 0) {
        rc = pick_version(r, row, *at, at + 1, version, err);
    }
    if (rc == 0 && *version == NULL) {
        rc = err_set(err, ERR_NOT_FOUND,
                     "there is no version '%s'; mlx-hub model versions %s shows them", name,
                     model_name);
    }
    if (rc == 0 && model != NULL) {
        *model = json_incref(row);
    }
    json_decref(row);
    return rc;
}

int lookup_latest(struct remote *r, const char *name, json_t **model, json_t **version,
                  struct err *err)
{
    char full[NAME_BYTES];
    json_t *row = NULL;
    const int n = snprintf(full, sizeof full, "%s%s", name, is_version_name(name) ? "" : ":latest");
    if (n < 0 || (size_t)n >= sizeof full) {
        return err_set(err, ERR_INVALID, "the version's name is too long");
    }
    const int rc = lookup_version(r, full, model, &row, err);
    if (version != NULL) {
        *version = json_incref(row);
    }
    json_decref(row);
    return rc;
}
