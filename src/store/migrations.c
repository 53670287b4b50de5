/* How it works: schema_migrations holds what was run. Everything is decided inside the write
 * transaction of the step, so a second program that waited for the lock sees the first one's work.
 *
 * Invariants:
 *  1. The rows of schema_migrations are a prefix of the known steps, text for text, or the program
 *     refuses to touch the database.
 *  2. A step and its row are committed together.
 */
#include "store/migrations.h"

#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "store/migrations_sql.h"

static const struct migration all[] = {
    {1, "spine", migration_0001_sql},
    {2, "pulls", migration_0002_sql},
    {3, "presets", migration_0003_sql},
};

const struct migration *migrations_all(size_t *count)
{
    *count = sizeof all / sizeof all[0];
    return all;
}

struct applied {
    int count;
    const char *at[MIGRATIONS_MAX];
};

static int make_table(struct db *db, struct err *err)
{
    return db_script(db,
                     "CREATE TABLE IF NOT EXISTS schema_migrations ("
                     "number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, "
                     "applied_at TEXT NOT NULL)",
                     err);
}

static int compare(const struct migration *steps, size_t n, int index, int64_t number,
                   const char *name, const char *checksum, struct err *err)
{
    char mine[SHA256_HEX_BYTES];

    if (number > (int64_t)n || index >= MIGRATIONS_MAX)
        return err_set(err, ERR_CONFLICT,
                       "The database is at migration %lld '%s', which is newer than this program "
                       "(it knows %zu): use the mlx-hub that made it, or a newer one",
                       (long long)number, name ? name : "", n);
    if (number != index + 1)
        return err_set(err, ERR_CORRUPT, "Migration %d is missing from the database", index + 1);
    int rc = sha256_hex(steps[index].sql, strlen(steps[index].sql), mine, err);
    if (rc < 0)
        return rc;
    if (!checksum || strcmp(mine, checksum) != 0)
        return err_set(err, ERR_CORRUPT,
                       "Migration %lld '%s' was run with checksum %s, this program has %s",
                       (long long)number, name ? name : "", checksum ? checksum : "none", mine);
    return 0;
}

static int read_applied(struct db *db, const struct migration *steps, size_t n, struct arena *arena,
                        struct applied *applied, struct err *err)
{
    struct db_stmt *stmt = NULL;
    bool row = true;
    int rc = db_query(db, "migration.list",
                      "SELECT number, name, checksum, applied_at FROM schema_migrations "
                      "ORDER BY number",
                      &stmt, err);

    applied->count = 0;
    while (rc == 0) {
        rc = db_step(stmt, &row, err);
        if (rc < 0 || !row)
            break;
        int64_t number = db_int(stmt);
        const char *name = db_text(stmt, arena);
        const char *checksum = db_text(stmt, arena);
        const char *at = db_text(stmt, arena);
        rc = name && checksum && at ? compare(steps, n, applied->count, number, name, checksum, err)
                                    : err_set(err, ERR_NOMEM, "Out of memory");
        if (rc == 0)
            applied->at[applied->count++] = at;
    }
    return db_finish(stmt, rc, err);
}

static int note(struct db *db, const struct migration *step, struct err *err)
{
    char checksum[SHA256_HEX_BYTES], now[CLOCK_ISO_BYTES];
    struct db_stmt *stmt = NULL;
    int rc = sha256_hex(step->sql, strlen(step->sql), checksum, err);

    if (rc == 0)
        rc = db_query(db, "migration.note",
                      "INSERT INTO schema_migrations (number, name, checksum, applied_at) "
                      "VALUES (?, ?, ?, ?)",
                      &stmt, err);
    if (rc < 0)
        return rc;
    clock_format_iso(clock_wall_us(), now);
    db_bind_int(stmt, step->number);
    db_bind_text(stmt, step->name);
    db_bind_text(stmt, checksum);
    db_bind_text(stmt, now);
    return db_run(stmt, NULL, err);
}

/* One transaction: looks where the database stands and takes at most one step. */
static int advance(struct db *db, const struct migration *steps, size_t n, bool *moved,
                   struct err *err)
{
    struct applied applied;
    struct arena arena;
    int rc = db_begin_write(db, err);

    *moved = false;
    if (rc < 0)
        return rc;
    arena_init(&arena, 0);
    rc = make_table(db, err);
    if (rc == 0)
        rc = read_applied(db, steps, n, &arena, &applied, err);
    if (rc == 0 && (size_t)applied.count < n) {
        const struct migration *step = &steps[applied.count];

        rc = db_script(db, step->sql, err);
        if (rc == 0)
            rc = note(db, step, err);
        if (rc < 0)
            err_prefix(err, "Migration %d '%s'", step->number, step->name);
        else
            *moved = true;
    }
    arena_release(&arena);
    return db_end(db, rc, err);
}

int migrations_run_list(struct db *db, const struct migration *steps, size_t n, int *applied,
                        struct err *err)
{
    bool moved = true;
    int count = 0, rc = 0;

    while (rc == 0 && moved) {
        rc = advance(db, steps, n, &moved, err);
        if (rc == 0 && moved)
            count++;
    }
    if (count > 0)
        log_event(LOG_INFO, "store", "migrated", "steps=%d", count);
    if (applied)
        *applied = count;
    return rc;
}

int migrations_run(struct db *db, int *applied, struct err *err)
{
    size_t n;
    const struct migration *steps = migrations_all(&n);

    return migrations_run_list(db, steps, n, applied, err);
}

/* Asked by trying: the catalogue's name differs by database. A text that cannot be prepared is
 * ERR_INTERNAL, which here means that the table is not there. */
static int table_exists(struct db *db, bool *exists, struct err *err)
{
    struct db_stmt *stmt = NULL;
    struct err why = {0};
    int rc = db_query(db, "migration.probe", "SELECT number FROM schema_migrations", &stmt, &why);

    *exists = rc == 0;
    rc = db_finish(stmt, rc, &why);
    if (rc < 0 && rc != -ERR_INTERNAL)
        return err_set(err, why.code, "%s", why.message);
    return 0;
}

int migrations_status(struct db *db, struct arena *arena, struct migration_state **states,
                      size_t *count, struct err *err)
{
    size_t n;
    const struct migration *steps = migrations_all(&n);
    struct applied applied = {0};
    bool exists = false;
    int rc;
    struct migration_state *list = arena_alloc(arena, n, sizeof *list);

    *count = 0;
    *states = NULL;
    if (!list)
        return mem_err(err, n * sizeof *list);
    rc = table_exists(db, &exists, err);
    if (rc == 0 && exists)
        rc = read_applied(db, steps, n, arena, &applied, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < n; i++)
        list[i] = (struct migration_state){steps[i].number, steps[i].name,
                                           (int)i < applied.count ? applied.at[i] : NULL};
    *states = list;
    *count = n;
    return 0;
}
