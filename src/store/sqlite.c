/* SQLite behind db.h.
 *
 * Invariants:
 *  1. SQLite allocates through base, so its memory is counted and its failures can be tested.
 *  2. Every connection runs in WAL with synchronous=FULL and foreign keys on: a commit that
 *     returned survives a power cut, and no row refers to nothing.
 *  3. A connection is used by one thread at a time (the pool sees to it), so SQLite's own mutex per
 *     connection is left out.
 */
#include <math.h>
#include <pthread.h>
#include <sqlite3.h>
#include <string.h>

#include "base/clock.h"
#include "store/db_driver.h"

enum { SIZE_HEADER_BYTES = 16, WAL_TRIES_MAX = 100, WAL_PAUSE_MS = 20 };

/* --- memory: SQLite asks for a block's size, so each carries it in front --- */

static void *block_alloc(int n)
{
    char *block = mem_alloc((size_t)n + SIZE_HEADER_BYTES);

    if (!block)
        return NULL;
    memcpy(block, &n, sizeof n);
    return block + SIZE_HEADER_BYTES;
}

static void block_free(void *ptr)
{
    if (ptr)
        mem_free((char *)ptr - SIZE_HEADER_BYTES);
}

static int block_size(void *ptr)
{
    int n = 0;

    if (ptr)
        memcpy(&n, (char *)ptr - SIZE_HEADER_BYTES, sizeof n);
    return n;
}

static void *block_realloc(void *ptr, int n)
{
    char *block = mem_realloc((char *)ptr - SIZE_HEADER_BYTES, (size_t)n + SIZE_HEADER_BYTES, 1);

    if (!block)
        return NULL;
    memcpy(block, &n, sizeof n);
    return block + SIZE_HEADER_BYTES;
}

static int block_roundup(int n)
{
    return (n + 7) & ~7;
}

static int blocks_init(void *unused)
{
    (void)unused;
    return SQLITE_OK;
}

static void blocks_shutdown(void *unused)
{
    (void)unused;
}

static void configure(void)
{
    static const sqlite3_mem_methods methods = {block_alloc,     block_free,    block_realloc,
                                                block_size,      block_roundup, blocks_init,
                                                blocks_shutdown, NULL};

    /* Refused when somebody else in the process started SQLite already: then its own stays. */
    (void)sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
}

/* --- errors --- */

static enum err_code code_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return ERR_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN:
        return ERR_UNAVAILABLE;
    case SQLITE_FULL:
        return ERR_NOSPACE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ERR_CORRUPT;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_IOERR:
        return rc == SQLITE_IOERR_NOMEM ? ERR_NOMEM : ERR_IO;
    case SQLITE_CONSTRAINT:
        return rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY ||
                       rc == SQLITE_CONSTRAINT_FOREIGNKEY
                   ? ERR_CONFLICT
                   : ERR_INTERNAL;
    default:
        return ERR_INTERNAL;
    }
}

static int fail(sqlite3 *conn, int rc, struct err *err)
{
    int extended = conn ? sqlite3_extended_errcode(conn) : rc;

    if ((extended & 0xff) != (rc & 0xff))
        extended = rc;
    return err_set(err, code_of(extended), "Database: %s",
                   conn && extended != SQLITE_NOMEM ? sqlite3_errmsg(conn) : sqlite3_errstr(rc));
}

/* --- connections --- */

static int set_wal(sqlite3 *conn, struct err *err)
{
    /* Turning WAL on needs the file for itself and does not wait in the busy handler. */
    for (int i = 0;; i++) {
        int rc = sqlite3_exec(conn, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);

        if (rc == SQLITE_OK)
            return 0;
        if ((rc & 0xff) != SQLITE_BUSY || i == WAL_TRIES_MAX)
            return fail(conn, rc, err);
        clock_sleep_ms(WAL_PAUSE_MS);
    }
}

static int script(void *conn, const char *sql, struct err *err)
{
    int rc = sqlite3_exec(conn, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : fail(conn, rc, err);
}

static int open_conn(void **out, const char *target, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    sqlite3 *conn = NULL;
    int rc;

    *out = NULL;
    pthread_once(&once, configure);
    rc = sqlite3_open_v2(target, &conn,
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        rc = fail(conn, rc, err);
        err_prefix(err, "%s", target);
        sqlite3_close(conn);
        return rc;
    }
    sqlite3_extended_result_codes(conn, 1);
    sqlite3_busy_timeout(conn, DB_WAIT_MS);
    sqlite3_db_config(conn, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    rc = set_wal(conn, err);
    if (rc == 0)
        rc = script(conn,
                    "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF;"
                    "PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON",
                    err);
    if (rc < 0) {
        err_prefix(err, "%s", target);
        sqlite3_close(conn);
        return rc;
    }
    *out = conn;
    return 0;
}

static void close_conn(void *conn)
{
    sqlite3_close(conn);
}

/* --- statements --- */

static int prepare(void *conn, const char *sql, void **out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v3(conn, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL);

    *out = stmt;
    return rc == SQLITE_OK ? 0 : fail(conn, rc, err);
}

static void finalize(void *stmt)
{
    sqlite3_finalize(stmt);
}

static int bind_text(void *conn, void *stmt, int index, const char *text, struct err *err)
{
    int rc = text ? sqlite3_bind_text(stmt, index + 1, text, -1, SQLITE_TRANSIENT)
                  : sqlite3_bind_null(stmt, index + 1);

    return rc == SQLITE_OK ? 0 : fail(conn, rc, err);
}

static int bind_int(void *conn, void *stmt, int index, int64_t value, struct err *err)
{
    int rc = sqlite3_bind_int64(stmt, index + 1, value);

    return rc == SQLITE_OK ? 0 : fail(conn, rc, err);
}

static int bind_real(void *conn, void *stmt, int index, double value, struct err *err)
{
    int rc = isnan(value) ? sqlite3_bind_null(stmt, index + 1)
                          : sqlite3_bind_double(stmt, index + 1, value);

    return rc == SQLITE_OK ? 0 : fail(conn, rc, err);
}

static int step(void *conn, void *stmt, bool *row, enum db_violation *violation, struct err *err)
{
    int rc = sqlite3_step(stmt);

    *row = rc == SQLITE_ROW;
    *violation = DB_NO_VIOLATION;
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return 0;
    if (rc == SQLITE_CONSTRAINT_FOREIGNKEY)
        *violation = DB_REFERENCE_VIOLATION;
    if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY)
        *violation = DB_UNIQUE_VIOLATION;
    return fail(conn, rc, err);
}

static int64_t changes(void *conn)
{
    return sqlite3_changes(conn);
}

static void reset(void *stmt)
{
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
}

static bool is_null(void *stmt, int column)
{
    return sqlite3_column_type(stmt, column) == SQLITE_NULL;
}

static const char *column_text(void *stmt, int column, size_t *length)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);

    *length = text ? (size_t)sqlite3_column_bytes(stmt, column) : 0;
    return text;
}

static int64_t column_int(void *stmt, int column)
{
    return sqlite3_column_int64(stmt, column);
}

static double column_real(void *stmt, int column)
{
    return sqlite3_column_double(stmt, column);
}

const struct db_driver db_sqlite = {
    .begin_write = "BEGIN IMMEDIATE",
    .begin_read = "BEGIN",
    .open = open_conn,
    .close = close_conn,
    .script = script,
    .prepare = prepare,
    .finalize = finalize,
    .bind_text = bind_text,
    .bind_int = bind_int,
    .bind_real = bind_real,
    .step = step,
    .changes = changes,
    .reset = reset,
    .is_null = is_null,
    .column_text = column_text,
    .column_int = column_int,
    .column_real = column_real,
};
