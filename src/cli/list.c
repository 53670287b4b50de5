/* mlx-hub list: every name that other commands, and clients of the API, take for a model. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/hub.h"
#include "cli/lookup.h"
#include "cli/print.h"

/* Adds "versions" to each model. */
static int add_versions(struct remote *r, json_t *models, struct err *err)
{
    size_t i;
    json_t *model;
    int rc = 0;
    json_array_foreach(models, i, model)
    {
        char path[256];
        json_t *versions = NULL;
        snprintf(path, sizeof path, "/models/%s/versions", row_text(model, "id"));
        rc = rc == 0 ? remote_list(r, path, &versions, err) : rc;
        if (rc == 0 && json_object_set(model, "versions", versions) != 0) {
            rc = err_set(err, ERR_NOMEM, "out of memory");
        }
        json_decref(versions);
    }
    return rc;
}

static void add_bases(struct table *t, const json_t *bases)
{
    size_t i;
    const json_t *base;
    json_array_foreach(bases, i, base)
    {
        char bytes[32];
        format_bytes(row_real(base, "bytes", 0.0), bytes);
        table_cell(t, row_text(base, "id"));
        table_cell(t, "base");
        table_cellf(t, "%s %s, %.1fM parameters, %s%s", row_text(base, "architecture"),
                    row_text(base, "quantization"), row_real(base, "parameters", 0.0) / 1e6, bytes,
                    json_is_false(json_object_get(base, "fits")) ? ", does not fit" : "");
    }
}

static void add_version(struct table *t, const json_t *model, const json_t *version)
{
    char aliases[256] = "";
    size_t n = 0;
    size_t i;
    const json_t *alias;
    json_array_foreach(json_object_get(version, "aliases"), i, alias)
    {
        if (n < sizeof aliases) {
            n +=
                (size_t)snprintf(aliases + n, sizeof aliases - n, " :%s", json_string_value(alias));
        }
    }
    table_cellf(t, "%s@%s", row_text(model, "name"), row_text(version, "version"));
    table_cell(t, "version");
    table_cellf(t, "%s%s", row_text(version, "status"), aliases);
}

static void add_models(struct table *t, const json_t *models)
{
    size_t i, j;
    const json_t *model;
    const json_t *version;
    json_array_foreach(models, i, model)
    {
        table_cell(t, row_text(model, "name"));
        table_cell(t, "model");
        table_cellf(t, "on %s", row_text(model, "base_model"));
        json_array_foreach(json_object_get(model, "versions"), j, version)
        {
            add_version(t, model, version);
        }
    }
}

/* Whether some row's `key` is the first n characters of name. */
static bool has_name(const json_t *rows, const char *key, const char *name, size_t n)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        const char *other = row_text(row, key);
        if (strlen(other) == n && strncmp(other, name, n) == 0) {
            return true;
        }
    }
    return false;
}

/* Of the names that Ollama's clients see, those that were created through its API: neither bases
 * nor models nor versions. The caller's. */
static int created_names(struct remote *r, const json_t *bases, const json_t *models,
                         json_t **created, struct err *err)
{
    json_t *tags = NULL;
    size_t i;
    json_t *tag;
    int rc = remote_call(r, "GET", "/api/tags", NULL, &tags, err);
    *created = json_array();
    json_array_foreach(json_object_get(tags, "models"), i, tag)
    {
        const char *name = row_text(tag, "name");
        if (!has_name(bases, "id", name, strcspn(name, ":")) &&
            !has_name(models, "name", name, strcspn(name, ":@")) && rc == 0 &&
            json_array_append(*created, tag) != 0) {
            rc = err_set(err, ERR_NOMEM, "out of memory");
        }
    }
    json_decref(tags);
    return rc;
}

static void add_created(struct table *t, const json_t *created)
{
    size_t i;
    const json_t *tag;
    json_array_foreach(created, i, tag)
    {
        table_cell(t, row_text(tag, "name"));
        table_cell(t, "created");
        table_cellf(t, "on %s", row_text(json_object_get(tag, "details"), "parent_model"));
    }
}

static int print_all(const struct args *args, const json_t *bases, const json_t *models,
                     const json_t *created, struct err *err)
{
    static const char *const headings[] = {"NAME", "KIND", "WHAT"};
    struct table t;
    if (args->json) {
        struct buf buf;
        struct json_out out;
        buf_init(&buf, PRINT_BYTES_MAX);
        json_out_init(&out, &buf);
        json_out_object(&out);
        json_out_kv_tree(&out, "base_models", bases);
        json_out_kv_tree(&out, "models", models);
        json_out_kv_tree(&out, "created", created);
        json_out_object_end(&out);
        return print_json(&buf, err);
    }
    if (json_array_size(bases) + json_array_size(models) == 0) {
        puts("nothing yet; take a model in with: mlx-hub pull ID, or mlx-hub import PATH --as ID");
        return EXIT_DONE;
    }
    table_init(&t, headings, 3);
    add_bases(&t, bases);
    add_models(&t, models);
    add_created(&t, created);
    table_print(&t);
    return EXIT_DONE;
}

static int run(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *bases = NULL;
    json_t *models = NULL;
    json_t *created = NULL;
    int rc = hub_open(&hub, args, false, err);
    rc = rc == 0 ? remote_list(&hub.remote, "/base-models", &bases, err) : rc;
    rc = rc == 0 ? remote_list(&hub.remote, "/models", &models, err) : rc;
    rc = rc == 0 ? add_versions(&hub.remote, models, err) : rc;
    rc = rc == 0 ? created_names(&hub.remote, bases, models, &created, err) : rc;
    const int status = rc == 0 ? print_all(args, bases, models, created, err) : EXIT_FAILED;
    hub_close(&hub);
    json_decref(bases);
    json_decref(models);
    json_decref(created);
    return status;
}

const struct command command_list = {
    .name = "list",
    .summary = "List every model by the names that other commands take",
    .usage = "",
    .examples = "  mlx-hub list\n"
                "  mlx-hub list --json\n",
    .run = run,
};
