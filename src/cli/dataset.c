/* mlx-hub dataset: files of conversations that models learn from. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/dataset_check.h"
#include "cli/hub.h"
#include "cli/lookup.h"
#include "cli/print.h"

enum {
    PATH_BYTES = 512,
    NAME_BYTES = 512,
    QUERY_BYTES = (REMOTE_PATH_BYTES - NAME_BYTES) / 2 - 32
};

static const struct option_info options[] = {
    {"name", "NAME", "what the hub calls it (the file's name)"},
    {"columns", "JSON", "the file's own keys: {\"prompt\": \"question\", \"completion\": …}"},
    {"model", "M", "check: a base or model, or a path to weights, whose tokens are counted"},
    {"row", "N", "check: show row N, the trained tokens marked"},
    {"max-seq-length", "N", "check: tokens of a row that training would keep (512)"},
    {"mask-prompt", "BOOL", "check: learn the answers only (true)"},
};

/* --- what is shown ------------------------------------------------------------------------------
 */

static void print_dataset(const json_t *row)
{
    printf("name      %s\nid        %s\npath      %s\nrows      %lld\nchecksum  %s\ncreated   %s\n",
           row_text(row, "name"), row_text(row, "id"), row_text(row, "path"),
           (long long)row_int(row, "rows"), row_text(row, "checksum"), row_text(row, "created_at"));
}

static void print_added(const json_t *row)
{
    print_dataset(row);
    printf("next: mlx-hub train MODEL --dataset \"%s\"\n", row_text(row, "name"));
}

static void print_datasets(const json_t *rows)
{
    static const char *const headings[] = {"NAME", "ROWS", "PATH", "CREATED"};
    struct table t;
    size_t i;
    const json_t *row;
    table_init(&t, headings, 4);
    json_array_foreach(rows, i, row)
    {
        table_cell(&t, row_text(row, "name"));
        table_cellf(&t, "%lld", (long long)row_int(row, "rows"));
        table_cell(&t, row_text(row, "path"));
        table_cell(&t, row_text(row, "created_at"));
    }
    table_print(&t);
}

static void print_verdict(const json_t *answer)
{
    if (json_is_true(json_object_get(answer, "valid"))) {
        printf("unchanged: %s\n", row_text(answer, "actual"));
    } else {
        const char *actual = row_text(answer, "actual");
        printf("CHANGED since it was registered\nexpected %s\nactual   %s\n",
               row_text(answer, "expected"), actual[0] != '\0' ? actual : "(the file is gone)");
    }
}

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

/* --- adding -------------------------------------------------------------------------------------
 */

/* "data/team facts.jsonl" → "team facts" */
static void default_name(const char *path, char out[NAME_BYTES])
{
    const char *slash = strrchr(path, '/');
    snprintf(out, NAME_BYTES, "%s", slash != NULL ? slash + 1 : path);
    char *dot = strrchr(out, '.');
    if (dot != NULL && dot != out) {
        *dot = '\0';
    }
}

static int register_in_place(struct remote *r, const char *path, const char *name,
                             const json_t *columns, json_t **row, struct err *err)
{
    json_t *body = json_pack("{s:s, s:s}", "name", name, "path", path);
    int rc = body != NULL ? 0 : err_set(err, ERR_INVALID, "name or path is not UTF-8");
    if (rc == 0 && columns != NULL && json_object_set(body, "columns", (json_t *)columns) != 0) {
        rc = err_set(err, ERR_NOMEM, "out of memory");
    }
    rc = rc == 0 ? remote_call(r, "POST", "/datasets", body, row, err) : rc;
    json_decref(body);
    return rc;
}

static int upload(struct remote *r, const char *file, const char *name, const char *columns,
                  json_t **row, struct err *err)
{
    char path[REMOTE_PATH_BYTES];
    char text[QUERY_BYTES];
    const char *slash = strrchr(file, '/');
    int rc = http_escape(name, text, sizeof text, err);
    size_t n = (size_t)snprintf(path, sizeof path, "/datasets/upload?name=%s", text);
    if (rc == 0 && http_escape(slash != NULL ? slash + 1 : file, text, NAME_BYTES, NULL) == 0) {
        n += (size_t)snprintf(path + n, sizeof path - n, "&file=%s", text);
    }
    if (rc == 0 && columns != NULL) {
        rc = http_escape(columns, text, sizeof text, err);
        snprintf(path + n, sizeof path - n, "&columns=%s", text);
    }
    return rc == 0 ? remote_upload(r, path, file, row, err) : rc;
}

/* A file in the datasets folder is registered where it lies; any other is sent there. */
static int add(struct remote *r, const struct args *args, const char *name, const char *columns,
               const json_t *tree, json_t **row, struct err *err)
{
    const char *given = args->positional[0];
    const char *folder = args->settings.storage_datasets_path;
    char path[FS_PATH_BYTES_MAX];
    char within[FS_PATH_BYTES_MAX];
    if (!fs_exists(given) || fs_is_dir(given)) {
        return err_set(err, ERR_NOT_FOUND, "there is no file '%s'", given);
    }
    const int rc = fs_absolute(path, given, err);
    if (rc != 0) {
        return rc;
    }
    return fs_resolve_within(within, folder, path, NULL) == 0
               ? register_in_place(r, within, name, tree, row, err)
               : upload(r, path, name, columns, row, err);
}

static int run_add(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    char name[NAME_BYTES];
    json_t *row = NULL;
    json_t *tree = NULL;
    const char *columns = args_get(args, "columns");
    default_name(args->positional[0], name);
    if (columns != NULL) {
        tree = json_parse(columns, strlen(columns), err);
        if (tree == NULL) {
            err_prefix(err, "--columns");
            return EXIT_USAGE;
        }
    }
    int rc = hub_open(&hub, args, false, err);
    if (rc == 0) {
        rc = add(&hub.remote, args, args_get(args, "name") != NULL ? args_get(args, "name") : name,
                 columns, tree, &row, err);
    }
    json_decref(tree);
    return finish(args, &hub, rc, row, print_added, err);
}

/* --- the rest -----------------------------------------------------------------------------------
 */

static int run_list(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *rows = NULL;
    int rc = hub_open(&hub, args, false, err);
    rc = rc == 0 ? remote_list(&hub.remote, "/datasets", &rows, err) : rc;
    return finish(args, &hub, rc, rows, print_datasets, err);
}

static int run_show(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *row = NULL;
    int rc = hub_open(&hub, args, false, err);
    rc = rc == 0 ? lookup_dataset(&hub.remote, args->positional[0], &row, err) : rc;
    return finish(args, &hub, rc, row, print_dataset, err);
}

static int run_verify(const struct args *args, struct err *err)
{
    char path[PATH_BYTES];
    struct hub hub = {0};
    json_t *row = NULL;
    json_t *answer = NULL;
    int rc = hub_open(&hub, args, false, err);
    rc = rc == 0 ? lookup_dataset(&hub.remote, args->positional[0], &row, err) : rc;
    if (rc == 0) {
        snprintf(path, sizeof path, "/datasets/%s/verify", row_text(row, "id"));
        rc = remote_call(&hub.remote, "POST", path, NULL, &answer, err);
    }
    const bool valid = rc == 0 && json_is_true(json_object_get(answer, "valid"));
    json_decref(row);
    const int status = finish(args, &hub, rc, answer, print_verdict, err);
    return status == EXIT_DONE && !valid ? EXIT_FAILED : status;
}

static void print_deleted(const json_t *answer)
{
    printf("deleted %s; its file stays: %s\n", row_text(answer, "deleted"),
           row_text(answer, "path"));
}

static int run_delete(const struct args *args, struct err *err)
{
    char path[PATH_BYTES];
    struct hub hub = {0};
    json_t *row = NULL;
    json_t *answer = NULL;
    int rc = hub_open(&hub, args, false, err);
    rc = rc == 0 ? lookup_dataset(&hub.remote, args->positional[0], &row, err) : rc;
    if (rc == 0) {
        snprintf(path, sizeof path, "/datasets/%s", row_text(row, "id"));
        rc = remote_call(&hub.remote, "DELETE", path, NULL, NULL, err);
        answer = json_pack("{s:s, s:s}", "deleted", row_text(row, "name"), "path",
                           row_text(row, "path"));
    }
    json_decref(row);
    return finish(args, &hub, rc, answer, print_deleted, err);
}

static const struct action actions[] = {
    {"add", "FILE [--name NAME] [--columns JSON]",
     "register a file; one outside the datasets folder is copied into it", "name columns", 1, 1,
     run_add},
    {"list", "", "all datasets", "", 0, 0, run_list},
    {"show", "DATASET", "everything about one", "", 1, 1, run_show},
    {"verify", "DATASET", "whether its file is what was registered", "", 1, 1, run_verify},
    {"delete", "DATASET", "forget it; the file stays", "", 1, 1, run_delete},
    {"check",
     "FILE [--model M [--row N] [--max-seq-length N] [--mask-prompt BOOL]] [--columns JSON]",
     "read every row of a file, without a hub; with a model, as training would see it",
     "columns model row max-seq-length mask-prompt", 1, 1, dataset_check_run},
};

const struct command command_dataset = {
    .name = "dataset",
    .summary = "Register datasets, look at them, check files",
    .usage = "add|list|show|verify|delete|check",
    .examples = "  mlx-hub dataset check facts.jsonl --model facts\n"
                "  mlx-hub dataset check facts.jsonl --model facts --row 3\n"
                "  mlx-hub dataset add facts.jsonl --name facts\n"
                "  mlx-hub dataset verify facts\n"
                "from CSV with Python, from Parquet with DuckDB (pip install duckdb), one line:\n"
                "  python3 -c \"import csv, json; [print(json.dumps(r)) for r in "
                "csv.DictReader(open('rows.csv', encoding='utf-8-sig', newline=''))]\" > "
                "rows.jsonl\n"
                "  python3 -c \"import duckdb; duckdb.sql(\\\"COPY (FROM 'rows.parquet') TO "
                "'rows.jsonl'\\\")\"\n"
                "keys of other names are mapped, all others are ignored:\n"
                "  mlx-hub dataset check rows.jsonl --columns "
                "'{\"prompt\": \"question\", \"completion\": \"answer\"}'\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .actions = actions,
    .n_actions = sizeof actions / sizeof actions[0],
};
