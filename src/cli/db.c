/* mlx-hub db: what shape the database is in, and moving it forward. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/database.h"
#include "cli/print.h"
#include "store/migrations.h"

enum { URL_BYTES = 1100 };

static void shown_url(const struct settings *settings, char out[URL_BYTES])
{
    settings_show(settings, (size_t)setting_find("database-url"), out, URL_BYTES);
}

/* Opening an SQLite file makes it, which asking about it must not. */
static bool database_is_there(const struct settings *settings)
{
    static const char scheme[] = "sqlite:///";
    const char *url = settings->database_url;
    return strncmp(url, scheme, sizeof scheme - 1) != 0 || fs_exists(url + sizeof scheme - 1);
}

struct status {
    struct arena arena;
    bool exists;
    struct migration_state *steps;
    size_t n_steps;
    size_t n_pending;
};

/* Nothing was run on a database that is not there. */
static int all_pending(struct status *s, struct err *err)
{
    const struct migration *known = migrations_all(&s->n_steps);
    s->steps = arena_alloc(&s->arena, s->n_steps + 1, sizeof *s->steps);
    if (s->steps == NULL) {
        return mem_err(err, s->n_steps * sizeof *s->steps);
    }
    for (size_t i = 0; i < s->n_steps; i++) {
        s->steps[i].number = known[i].number;
        s->steps[i].name = known[i].name;
    }
    return 0;
}

static int read_status(struct status *s, const struct settings *settings, struct err *err)
{
    struct db_pool *pool = NULL;
    struct db *db = NULL;
    s->exists = database_is_there(settings);
    int rc = 0;
    if (!s->exists) {
        rc = all_pending(s, err);
    } else {
        rc = db_pool_open(&pool, settings->database_url, err);
        rc = rc == 0 ? db_acquire(pool, &db, err) : rc;
        rc = rc == 0 ? migrations_status(db, &s->arena, &s->steps, &s->n_steps, err) : rc;
    }
    for (size_t i = 0; rc == 0 && i < s->n_steps; i++) {
        s->n_pending += s->steps[i].applied_at == NULL;
    }
    db_give_back(db);
    db_pool_close(pool);
    return rc;
}

int database_status(const struct settings *settings, bool *exists, size_t *pending, struct err *err)
{
    struct status s = {0};
    arena_init(&s.arena, 0);
    const int rc = read_status(&s, settings, err);
    *exists = s.exists;
    *pending = s.n_pending;
    arena_release(&s.arena);
    return rc;
}

static int print_status_json(const struct status *s, const char *url, struct err *err)
{
    struct buf buf;
    struct json_out out;
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_string(&out, "database_url", url);
    json_out_kv_bool(&out, "exists", s->exists);
    json_out_kv_int(&out, "pending", (int64_t)s->n_pending);
    json_out_key(&out, "migrations");
    json_out_array(&out);
    for (size_t i = 0; i < s->n_steps; i++) {
        json_out_object(&out);
        json_out_kv_int(&out, "number", s->steps[i].number);
        json_out_kv_string(&out, "name", s->steps[i].name);
        json_out_kv_string(&out, "applied_at", s->steps[i].applied_at);
        json_out_object_end(&out);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

static int print_status(const struct status *s, const char *url)
{
    static const char *const headings[] = {"STEP", "NAME", "APPLIED"};
    struct table t;
    printf("%s%s\n", url, s->exists ? "" : " (not there yet)");
    table_init(&t, headings, 3);
    for (size_t i = 0; i < s->n_steps; i++) {
        table_cellf(&t, "%d", s->steps[i].number);
        table_cell(&t, s->steps[i].name);
        table_cell(&t, s->steps[i].applied_at != NULL ? s->steps[i].applied_at : "pending");
    }
    table_print(&t);
    if (s->n_pending > 0) {
        printf("%zu pending: mlx-hub db migrate (mlx-hub serve does it too)\n", s->n_pending);
    } else {
        puts("up to date");
    }
    return EXIT_DONE;
}

static int run_status(const struct args *args, struct err *err)
{
    char url[URL_BYTES];
    struct status s = {0};
    int status = EXIT_FAILED;
    arena_init(&s.arena, 0);
    shown_url(&args->settings, url);
    if (read_status(&s, &args->settings, err) == 0) {
        status = args->json ? print_status_json(&s, url, err) : print_status(&s, url);
    }
    arena_release(&s.arena);
    return status;
}

static int run_migrate(const struct args *args, struct err *err)
{
    char url[URL_BYTES];
    struct db_pool *pool = NULL;
    struct db *db = NULL;
    struct buf buf;
    struct json_out out;
    int applied = 0;
    shown_url(&args->settings, url);
    int rc = settings_make_dirs(&args->settings, err);
    rc = rc == 0 ? db_pool_open(&pool, args->settings.database_url, err) : rc;
    rc = rc == 0 ? db_acquire(pool, &db, err) : rc;
    rc = rc == 0 ? migrations_run(db, &applied, err) : rc;
    db_give_back(db);
    db_pool_close(pool);
    if (rc != 0) {
        return EXIT_FAILED;
    }
    if (!args->json) {
        printf("%s: %d migration%s applied\n", url, applied, applied == 1 ? "" : "s");
        return EXIT_DONE;
    }
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_string(&out, "database_url", url);
    json_out_kv_int(&out, "applied", applied);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

static const struct action actions[] = {
    {"status", "", "every step of the database's shape, and whether it was run", "", 0, 0,
     run_status},
    {"migrate", "", "run the steps that are pending", "", 0, 0, run_migrate},
};

const struct command command_db = {
    .name = "db",
    .summary = "Show the shape of the database, or move it forward",
    .usage = "status|migrate",
    .examples = "  mlx-hub db status\n"
                "  mlx-hub db migrate --storage-base-path /srv/hub\n",
    .actions = actions,
    .n_actions = sizeof actions / sizeof actions[0],
};
