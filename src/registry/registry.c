/* Opening, closing, and the small steps that every call repeats. */
#include <string.h>

#include "base/json.h"
#include "registry/registry_int.h"
#include "store/migrations.h"

static int check_migrated(struct db *db, struct err *err)
{
    struct arena arena;
    struct migration_state *states = NULL;
    size_t count = 0, pending = 0;
    int rc;

    arena_init(&arena, 0);
    rc = migrations_status(db, &arena, &states, &count, err);
    for (size_t i = 0; i < count && rc == 0; i++)
        pending += states[i].applied_at == NULL;
    if (rc == 0 && pending > 0)
        rc = err_set(err, ERR_CONFLICT,
                     "The database lacks %zu migration(s): run mlx-hub db migrate", pending);
    arena_release(&arena);
    return rc;
}

static int prepare_database(struct registry *registry, bool migrate, struct err *err)
{
    struct db *db = NULL;
    int rc = db_acquire(registry->pool, &db, err);

    if (rc == 0)
        rc = migrate ? migrations_run(db, NULL, err) : check_migrated(db, err);
    db_give_back(db);
    return rc;
}

int registry_open(struct registry **out, const struct registry_options *options, struct err *err)
{
    struct registry *registry = mem_calloc(1, sizeof *registry);
    int rc;

    *out = NULL;
    if (!registry)
        return mem_err(err, sizeof *registry);
    rc = uuid_make(registry->boot_id, err);
    if (rc == 0)
        rc = storage_init(&registry->storage, options->base_path, options->models_path,
                          options->datasets_path, err);
    if (rc == 0)
        rc = db_pool_open(&registry->pool, options->database_url, err);
    if (rc == 0)
        rc = prepare_database(registry, options->migrate, err);
    if (rc < 0) {
        registry_close(registry);
        return rc;
    }
    *out = registry;
    return 0;
}

void registry_close(struct registry *registry)
{
    if (!registry)
        return;
    db_pool_close(registry->pool);
    mem_free(registry);
}

const struct storage *registry_storage(const struct registry *registry)
{
    return &registry->storage;
}

struct db_pool *registry_pool(struct registry *registry)
{
    return registry->pool;
}

const char *registry_boot_id(const struct registry *registry)
{
    return registry->boot_id;
}

int registry_ping(struct registry *registry, struct err *err)
{
    struct db *db = NULL;
    struct db_stmt *stmt = NULL;
    bool row = false;
    int rc = db_acquire(registry->pool, &db, err);

    if (rc == 0)
        rc = db_query(db, "ping", "SELECT COUNT(*) FROM meta", &stmt, err);
    if (rc == 0) {
        rc = db_step(stmt, &row, err);
        rc = db_finish(stmt, rc, err);
    }
    db_give_back(db);
    return rc;
}

int registry_begin_read(struct registry *registry, struct db **db, struct err *err)
{
    int rc = db_acquire(registry->pool, db, err);

    if (rc == 0)
        rc = db_begin_read(*db, err);
    if (rc < 0) {
        db_give_back(*db);
        *db = NULL;
    }
    return rc;
}

int registry_begin_write(struct registry *registry, struct db **db, struct err *err)
{
    int rc = db_acquire(registry->pool, db, err);

    if (rc == 0)
        rc = db_begin_write(*db, err);
    if (rc < 0) {
        db_give_back(*db);
        *db = NULL;
    }
    return rc;
}

int registry_end(struct db *db, int rc, struct err *err)
{
    if (!db)
        return rc;
    rc = db_end(db, rc, err);
    db_give_back(db);
    return rc;
}

const char *registry_now(struct arena *arena, struct err *err)
{
    char now[CLOCK_ISO_BYTES];
    const char *copy;

    clock_format_iso(clock_wall_us(), now);
    copy = arena_strdup(arena, now);
    if (!copy)
        (void)mem_err(err, sizeof now);
    return copy;
}

const char *registry_uuid(struct arena *arena, struct err *err)
{
    char uuid[UUID_BYTES];
    const char *copy = NULL;

    if (uuid_make(uuid, err) < 0)
        return NULL;
    copy = arena_strdup(arena, uuid);
    if (!copy)
        (void)mem_err(err, sizeof uuid);
    return copy;
}

int registry_json_object(const char *field, const char *text, const char *fallback,
                         struct arena *arena, const char **out, struct err *err)
{
    struct buf buf;
    struct json_out json;
    json_t *tree = NULL;
    int rc = 0;

    *out = fallback;
    if (!text)
        return 0;
    buf_init(&buf, REGISTRY_JSON_BYTES_MAX);
    tree = json_parse(text, strlen(text), err);
    if (!tree) {
        err_prefix(err, "%s", field);
        rc = err_set(err, ERR_UNPROCESSABLE, "%s", field);
        goto out;
    }
    if (!json_is_object(tree)) {
        rc = err_set(err, ERR_UNPROCESSABLE, "%s must be an object", field);
        goto out;
    }
    json_out_init(&json, &buf);
    json_out_tree(&json, tree);
    rc = buf_check(&buf, field, err);
    if (rc == 0) {
        *out = arena_strndup(arena, buf.data, buf.len);
        rc = *out ? 0 : mem_err(err, buf.len);
    }
out:
    json_decref(tree);
    buf_release(&buf);
    return rc;
}
