/* mlx-hub model: registered models and their versions. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/hub.h"
#include "cli/lookup.h"
#include "cli/print.h"

enum { PATH_BYTES = 512, TEXT_BYTES = 1024 };

static const struct option_info options[] = {
    {"base", "ID", "base model that versions are trained on"},
    {"task", "TYPE",
     "text-generation (default), classification, summarization, question-answering, chat"},
    {"description", "TEXT", "up to 2000 characters"},
    {"tags", "K=V,…", "the whole set of tags"},
    {"name", "NAME", "a new name"},
    {"status", "STATUS", "ready or archived"},
    {"notes", "TEXT", "notes on a version"},
    {"aliases", "A,B", "the whole set of a version's aliases; \"\" removes them"},
};

/* --- what is sent -------------------------------------------------------------------------------
 */

static int set_text(json_t *body, const char *key, const char *text, struct err *err)
{
    if (text == NULL) {
        return 0;
    }
    return json_object_set_new(body, key, json_string(text)) == 0
               ? 0
               : err_set(err, ERR_INVALID, "%s is not UTF-8", key);
}

/* "a=1,b=2" */
static int set_tags(json_t *body, const char *text, struct err *err)
{
    if (text == NULL) {
        return 0;
    }
    json_t *tags = json_object();
    int rc = json_object_set_new(body, "tags", tags) == 0 ? 0 : err_set(err, ERR_NOMEM, "tags");
    while (rc == 0 && *text != '\0') {
        char key[TEXT_BYTES];
        const size_t n = strcspn(text, ",");
        const char *equals = memchr(text, '=', n);
        if (equals == NULL || (size_t)(equals - text) >= sizeof key) {
            return err_set(err, ERR_INVALID, "--tags takes KEY=VALUE,KEY=VALUE");
        }
        snprintf(key, sizeof key, "%.*s", (int)(equals - text), text);
        if (json_object_set_new(tags, key,
                                json_stringn(equals + 1, n - (size_t)(equals + 1 - text))) != 0) {
            return err_set(err, ERR_INVALID, "--tags is not UTF-8");
        }
        text += n + (text[n] == ',');
    }
    return rc;
}

static int set_list(json_t *body, const char *key, const char *text, struct err *err)
{
    if (text == NULL) {
        return 0;
    }
    json_t *list = json_array();
    if (json_object_set_new(body, key, list) != 0) {
        return err_set(err, ERR_NOMEM, "%s", key);
    }
    while (*text != '\0') {
        const size_t n = strcspn(text, ",");
        if (json_array_append_new(list, json_stringn(text, n)) != 0) {
            return err_set(err, ERR_INVALID, "--%s is not UTF-8", key);
        }
        text += n + (text[n] == ',');
    }
    return 0;
}

static int model_body(const struct args *args, json_t *body, struct err *err)
{
    int rc = set_text(body, "base_model", args_get(args, "base"), err);
    rc = rc == 0 ? set_text(body, "task_type", args_get(args, "task"), err) : rc;
    rc = rc == 0 ? set_text(body, "description", args_get(args, "description"), err) : rc;
    return rc == 0 ? set_tags(body, args_get(args, "tags"), err) : rc;
}

/* --- what is shown ------------------------------------------------------------------------------
 */

static void print_model(const json_t *model)
{
    const json_t *tags = json_object_get(model, "tags");
    const char *key;
    const json_t *value;
    printf("name         %s\nid           %s\nbase model   %s\ntask         %s\n",
           row_text(model, "name"), row_text(model, "id"), row_text(model, "base_model"),
           row_text(model, "task_type"));
    if (row_text(model, "description")[0] != '\0') {
        printf("description  %s\n", row_text(model, "description"));
    }
    json_object_foreach((json_t *)tags, key, value)
    {
        printf("tag          %s=%s\n", key,
               json_is_string(value) ? json_string_value(value) : "(not a text)");
    }
    printf("versions     %lld\ncreated      %s\n", (long long)row_int(model, "version_count"),
           row_text(model, "created_at"));
}

static void print_version(const json_t *version)
{
    size_t i;
    const json_t *alias;
    const json_t *metrics = json_object_get(version, "metrics");
    printf("version      %s\nid           %s\nstatus       %s\n", row_text(version, "version"),
           row_text(version, "id"), row_text(version, "status"));
    json_array_foreach(json_object_get(version, "aliases"), i, alias)
    {
        printf("alias        %s\n", json_string_value(alias));
    }
    if (json_is_number(json_object_get(metrics, "final_loss"))) {
        printf("final loss   %.4f\n", row_real(metrics, "final_loss", 0.0));
    }
    if (row_text(version, "notes")[0] != '\0') {
        printf("notes        %s\n", row_text(version, "notes"));
    }
    printf("folder       %s\nchecksum     %s\ncreated      %s\n",
           row_text(version, "artifact_path"), row_text(version, "checksum"),
           row_text(version, "created_at"));
}

static void print_versions(const json_t *rows)
{
    static const char *const headings[] = {"VERSION", "STATUS", "LOSS", "ALIASES", "CREATED"};
    struct table t;
    size_t i, j;
    const json_t *row;
    const json_t *alias;
    table_init(&t, headings, 5);
    json_array_foreach(rows, i, row)
    {
        char aliases[256] = "";
        size_t n = 0;
        const json_t *loss = json_object_get(json_object_get(row, "metrics"), "final_loss");
        json_array_foreach(json_object_get(row, "aliases"), j, alias)
        {
            if (n < sizeof aliases) {
                n += (size_t)snprintf(aliases + n, sizeof aliases - n, "%s%s", j > 0 ? " " : "",
                                      json_string_value(alias));
            }
        }
        table_cell(&t, row_text(row, "version"));
        table_cell(&t, row_text(row, "status"));
        if (json_is_number(loss)) {
            table_cellf(&t, "%.4f", json_number_value(loss));
        } else {
            table_cell(&t, NULL);
        }
        table_cell(&t, aliases);
        table_cell(&t, row_text(row, "created_at"));
    }
    table_print(&t);
}

static void print_models(const json_t *rows)
{
    static const char *const headings[] = {"NAME", "BASE MODEL", "TASK", "VERSIONS", "CREATED"};
    struct table t;
    size_t i;
    const json_t *row;
    table_init(&t, headings, 5);
    json_array_foreach(rows, i, row)
    {
        table_cell(&t, row_text(row, "name"));
        table_cell(&t, row_text(row, "base_model"));
        table_cell(&t, row_text(row, "task_type"));
        table_cellf(&t, "%lld", (long long)row_int(row, "version_count"));
        table_cell(&t, row_text(row, "created_at"));
    }
    table_print(&t);
}

static void print_history(const json_t *answer)
{
    static const char *const headings[] = {"RUN", "STATUS", "STARTED", "ENDED"};
    struct table t;
    size_t i;
    const json_t *run;
    table_init(&t, headings, 4);
    json_array_foreach(json_object_get(answer, "runs"), i, run)
    {
        table_cell(&t, row_text(run, "run_id"));
        table_cell(&t, row_text(run, "status"));
        table_cell(&t, row_text(run, "start_time"));
        table_cell(&t, row_text(run, "end_time"));
    }
    table_print(&t);
}

static void print_lineage(const json_t *answer)
{
    const json_t *nodes = json_object_get(answer, "nodes");
    size_t i;
    const json_t *edge;
    json_array_foreach(json_object_get(answer, "edges"), i, edge)
    {
        const json_t *from = json_array_get(nodes, (size_t)row_int(edge, "from"));
        const json_t *to = json_array_get(nodes, (size_t)row_int(edge, "to"));
        printf("%s %s → %s %s%s%s\n", row_text(from, "kind"), row_text(from, "label"),
               row_text(to, "kind"), row_text(to, "label"),
               row_text(to, "status")[0] != '\0' ? ", " : "", row_text(to, "status"));
    }
}

/* --- actions ------------------------------------------------------------------------------------
 */

static int finish(const struct args *args, struct hub *hub, int rc, json_t *answer,
                  void (*print)(const json_t *), struct err *err)
{
    int status = rc == 0 ? EXIT_DONE : EXIT_FAILED;
    if (rc == 0 && args->json) {
        status = print_tree(answer, err);
    } else if (rc == 0) {
        print(answer);
    }
    hub_close(hub);
    json_decref(answer);
    return status;
}

static void print_created(const json_t *model)
{
    print_model(model);
    printf("next: mlx-hub train \"%s\" --dataset DATASET\n", row_text(model, "name"));
}

static int run_create(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *body = json_object();
    json_t *model = NULL;
    if (args_get(args, "base") == NULL) {
        (void)err_set(err, ERR_INVALID, "--base ID is needed; mlx-hub list shows base models");
        json_decref(body);
        return EXIT_USAGE;
    }
    int rc = set_text(body, "name", args->positional[0], err);
    rc = rc == 0 ? model_body(args, body, err) : rc;
    rc = rc == 0 ? hub_open(&hub, args, false, err) : rc;
    rc = rc == 0 ? remote_call(&hub.remote, "POST", "/models", body, &model, err) : rc;
    json_decref(body);
    return finish(args, &hub, rc, model, print_created, err);
}

static int run_list(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *rows = NULL;
    int rc = hub_open(&hub, args, false, err);
    rc = rc == 0 ? remote_list(&hub.remote, "/models", &rows, err) : rc;
    return finish(args, &hub, rc, rows, print_models, err);
}

static int run_show(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *row = NULL;
    const char *name = args->positional[0];
    const bool version = is_version_name(name);
    int rc = hub_open(&hub, args, false, err);
    if (rc == 0) {
        rc = version ? lookup_version(&hub.remote, name, NULL, &row, err)
                     : lookup_model(&hub.remote, name, &row, err);
    }
    return finish(args, &hub, rc, row, version ? print_version : print_model, err);
}

static void version_path(const json_t *model, const json_t *version, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "/models/%s/versions/%s", row_text(model, "id"),
             row_text(version, "version"));
}

static int patch_version(const struct args *args, struct hub *hub, json_t *body, json_t **row,
                         struct err *err)
{
    char path[PATH_BYTES];
    json_t *model = NULL;
    json_t *version = NULL;
    int rc = set_text(body, "status", args_get(args, "status"), err);
    rc = rc == 0 ? set_text(body, "notes", args_get(args, "notes"), err) : rc;
    rc = rc == 0 ? set_list(body, "aliases", args_get(args, "aliases"), err) : rc;
    rc = rc == 0 ? lookup_version(&hub->remote, args->positional[0], &model, &version, err) : rc;
    if (rc == 0) {
        version_path(model, version, path);
        rc = remote_call(&hub->remote, "PATCH", path, body, row, err);
    }
    json_decref(model);
    json_decref(version);
    return rc;
}

static int patch_model(const struct args *args, struct hub *hub, json_t *body, json_t **row,
                       struct err *err)
{
    char path[PATH_BYTES];
    json_t *model = NULL;
    int rc = set_text(body, "name", args_get(args, "name"), err);
    rc = rc == 0 ? model_body(args, body, err) : rc;
    rc = rc == 0 ? lookup_model(&hub->remote, args->positional[0], &model, err) : rc;
    if (rc == 0) {
        snprintf(path, sizeof path, "/models/%s", row_text(model, "id"));
        rc = remote_call(&hub->remote, "PATCH", path, body, row, err);
    }
    json_decref(model);
    return rc;
}

/* Options of the other kind would be dropped silently. */
static int check_kind(const struct args *args, bool version, struct err *err)
{
    static const char *const of_models[] = {"name", "base", "task", "description", "tags"};
    static const char *const of_versions[] = {"status", "notes", "aliases"};
    const char *const *wrong = version ? of_models : of_versions;
    const size_t n = version ? 5 : 3;
    for (size_t i = 0; i < n; i++) {
        if (args_get(args, wrong[i]) != NULL) {
            return err_set(err, ERR_INVALID, "--%s is for %s", wrong[i],
                           version ? "models, and this is a version"
                                   : "versions: write MODEL@1.0.0 or MODEL:alias");
        }
    }
    return 0;
}

static int run_update(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *body = json_object();
    json_t *row = NULL;
    const bool version = is_version_name(args->positional[0]);
    if (check_kind(args, version, err) != 0) {
        json_decref(body);
        return EXIT_USAGE;
    }
    int rc = hub_open(&hub, args, false, err);
    if (rc == 0) {
        rc = version ? patch_version(args, &hub, body, &row, err)
                     : patch_model(args, &hub, body, &row, err);
    }
    json_decref(body);
    return finish(args, &hub, rc, row, version ? print_version : print_model, err);
}

static void print_deleted(const json_t *answer)
{
    printf("deleted %s\n", row_text(answer, "deleted"));
}

static int run_delete(const struct args *args, struct err *err)
{
    char path[PATH_BYTES];
    struct hub hub = {0};
    json_t *model = NULL;
    json_t *version = NULL;
    const char *name = args->positional[0];
    int rc = hub_open(&hub, args, false, err);
    if (rc == 0 && is_version_name(name)) {
        rc = lookup_version(&hub.remote, name, &model, &version, err);
        version_path(model, version, path);
    } else if (rc == 0) {
        rc = lookup_model(&hub.remote, name, &model, err);
        snprintf(path, sizeof path, "/models/%s", row_text(model, "id"));
    }
    rc = rc == 0 ? remote_call(&hub.remote, "DELETE", path, NULL, NULL, err) : rc;
    json_decref(model);
    json_decref(version);
    return finish(args, &hub, rc, json_pack("{s:s}", "deleted", name), print_deleted, err);
}

/* GET /models/{id}/<part> */
static int show_part(const struct args *args, const char *part, bool is_list,
                     void (*print)(const json_t *), struct err *err)
{
    char path[PATH_BYTES];
    struct hub hub = {0};
    json_t *model = NULL;
    json_t *answer = NULL;
    int rc = hub_open(&hub, args, false, err);
    rc = rc == 0 ? lookup_model(&hub.remote, args->positional[0], &model, err) : rc;
    if (rc == 0) {
        snprintf(path, sizeof path, "/models/%s/%s", row_text(model, "id"), part);
        rc = is_list ? remote_list(&hub.remote, path, &answer, err)
                     : remote_call(&hub.remote, "GET", path, NULL, &answer, err);
    }
    json_decref(model);
    return finish(args, &hub, rc, answer, print, err);
}

static int run_versions(const struct args *args, struct err *err)
{
    return show_part(args, "versions", true, print_versions, err);
}

static int run_history(const struct args *args, struct err *err)
{
    return show_part(args, "history", false, print_history, err);
}

static int run_lineage(const struct args *args, struct err *err)
{
    return show_part(args, "lineage", false, print_lineage, err);
}

static const struct action actions[] = {
    {"create", "NAME --base ID [--task T] [--description TEXT] [--tags K=V,…]", "register a model",
     "base task description tags", 1, 1, run_create},
    {"list", "", "all registered models, newest first", "", 0, 0, run_list},
    {"show", "MODEL|MODEL@VERSION|MODEL:ALIAS", "everything about a model or a version", "", 1, 1,
     run_show},
    {"update", "MODEL [--name …] | MODEL@VERSION [--status …] [--notes …] [--aliases …]",
     "change a model or a version", "name base task description tags status notes aliases", 1, 1,
     run_update},
    {"delete", "MODEL|MODEL@VERSION", "remove a model with its versions, or one version", "", 1, 1,
     run_delete},
    {"versions", "MODEL", "its versions, newest first", "", 1, 1, run_versions},
    {"history", "MODEL", "its tracked runs, newest first", "", 1, 1, run_history},
    {"lineage", "MODEL", "what came from what: dataset, job, run, version", "", 1, 1, run_lineage},
};

const struct command command_model = {
    .name = "model",
    .summary = "Register models, look at them and their versions",
    .usage = "create|list|show|update|delete|versions|history|lineage",
    .examples = "  mlx-hub model create facts --base smollm2 --description \"knows our team\"\n"
                "  mlx-hub model versions facts\n"
                "  mlx-hub model update facts@1.1.0 --aliases production\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .actions = actions,
    .n_actions = sizeof actions / sizeof actions[0],
};
