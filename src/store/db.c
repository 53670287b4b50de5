/* How it works: a pool keeps idle connections in a stack and makes a new one while fewer than
 * DB_CONNECTIONS_MAX exist; a connection keeps its prepared statements.
 *
 *   idle ──db_acquire──→ in use ──db_begin_read / db_begin_write──→ in a transaction
 *     ↑                   │  ↑                                        │
 *     └──db_give_back─────┘  └────────db_commit / db_rollback─────────┘
 *
 * Invariants:
 *  1. At most one connection of the pool is past the write gate (`writer`), from before BEGIN until
 *     after COMMIT or ROLLBACK.
 *  2. The pool's lock guards the stack, the counts and the gate, and is never held over a query.
 *  3. A connection whose transaction could not be ended is closed, not kept.
 */
#include "store/db.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/db_driver.h"

enum transaction { NONE, READ, WRITE };

struct db_stmt {
    struct db *db;
    void *handle;
    const char *name, *sql;
    bool busy;
    int bound, column;
    int64_t started_ns;
    uint64_t used_at;
    enum err_code failed; /* the first bind or read that failed */
};

struct db {
    struct db_pool *pool;
    void *conn;
    enum transaction transaction;
    enum db_violation violation;
    bool broken;
    uint64_t uses;
    int n_stmts;
    struct db_stmt *stmts[DB_STATEMENTS_MAX];
};

struct db_pool {
    const struct db_driver *driver;
    char *target;
    pid_t owner;
    pthread_mutex_t lock;
    pthread_cond_t freed;   /* a connection came back */
    pthread_cond_t written; /* the gate opened */
    struct db *idle[DB_CONNECTIONS_MAX];
    int n_idle, n_open;
    struct db *writer;
    void (*observe)(void *ctx, const char *query, double seconds);
    void *observe_ctx;
};

/* --- connections --- */

static void conn_free(struct db *db)
{
    const struct db_driver *driver = db->pool->driver;

    for (int i = 0; i < db->n_stmts; i++) {
        driver->finalize(db->stmts[i]->handle);
        mem_free(db->stmts[i]);
    }
    driver->close(db->conn);
    mem_free(db);
}

static int conn_new(struct db_pool *pool, struct db **out, struct err *err)
{
    struct db *db = mem_calloc(1, sizeof *db);
    int rc;

    if (!db)
        return mem_err(err, sizeof *db);
    db->pool = pool;
    rc = pool->driver->open(&db->conn, pool->target, err);
    if (rc < 0) {
        mem_free(db);
        return rc;
    }
    *out = db;
    return 0;
}

static int choose_driver(struct db_pool *pool, const char *url, struct err *err)
{
    static const char sqlite_scheme[] = "sqlite:///";

    if (strncmp(url, sqlite_scheme, sizeof sqlite_scheme - 1) == 0 &&
        url[sizeof sqlite_scheme - 1]) {
        pool->driver = &db_sqlite;
        pool->target = mem_strdup(url + sizeof sqlite_scheme - 1);
        return pool->target ? 0 : mem_err(err, strlen(url));
    }
    if (strncmp(url, "postgres", 8) == 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "DATABASE_URL: this build has no PostgreSQL driver; use sqlite:///…");
    return err_set(err, ERR_INVALID, "DATABASE_URL must start with sqlite:/// and a path");
}

int db_pool_open(struct db_pool **out, const char *url, struct err *err)
{
    struct db_pool *pool = mem_calloc(1, sizeof *pool);
    int rc;

    *out = NULL;
    if (!pool)
        return mem_err(err, sizeof *pool);
    pool->owner = getpid();
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->freed, NULL);
    pthread_cond_init(&pool->written, NULL);
    rc = choose_driver(pool, url, err);
    if (rc == 0)
        rc = conn_new(pool, &pool->idle[0], err);
    if (rc < 0) {
        db_pool_close(pool);
        return rc;
    }
    pool->n_idle = pool->n_open = 1;
    *out = pool;
    return 0;
}

void db_pool_close(struct db_pool *pool)
{
    if (!pool)
        return;
    assert(pool->n_idle == pool->n_open);
    for (int i = 0; i < pool->n_idle; i++)
        conn_free(pool->idle[i]);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->freed);
    pthread_cond_destroy(&pool->written);
    mem_free(pool->target);
    mem_free(pool);
}

void db_pool_observe(struct db_pool *pool, void (*fn)(void *ctx, const char *query, double seconds),
                     void *ctx)
{
    pool->observe = fn;
    pool->observe_ctx = ctx;
}

static void deadline_after(struct timespec *at, int ms)
{
    clock_gettime(CLOCK_REALTIME, at);
    at->tv_sec += ms / 1000;
    at->tv_nsec += (long)(ms % 1000) * 1000000;
    if (at->tv_nsec >= 1000000000) {
        at->tv_sec++;
        at->tv_nsec -= 1000000000;
    }
}

/* Under the lock: waits until a connection is idle or one more may be made. */
static int wait_for_slot(struct db_pool *pool, struct err *err)
{
    struct timespec deadline;

    deadline_after(&deadline, DB_WAIT_MS);
    while (pool->n_idle == 0 && pool->n_open == DB_CONNECTIONS_MAX)
        if (pthread_cond_timedwait(&pool->freed, &pool->lock, &deadline) == ETIMEDOUT)
            return err_set(err, ERR_UNAVAILABLE, "All %d database connections are busy",
                           DB_CONNECTIONS_MAX);
    return 0;
}

int db_acquire(struct db_pool *pool, struct db **out, struct err *err)
{
    struct db *db = NULL;
    int rc;

    *out = NULL;
    if (pool->owner != getpid())
        return err_set(err, ERR_INTERNAL, "A database connection cannot cross a fork");
    pthread_mutex_lock(&pool->lock);
    rc = wait_for_slot(pool, err);
    if (rc == 0 && pool->n_idle > 0)
        db = pool->idle[--pool->n_idle];
    else if (rc == 0)
        pool->n_open++;
    pthread_mutex_unlock(&pool->lock);
    if (rc < 0)
        return rc;
    if (!db) {
        rc = conn_new(pool, &db, err);
        if (rc < 0) {
            pthread_mutex_lock(&pool->lock);
            pool->n_open--;
            pthread_cond_signal(&pool->freed);
            pthread_mutex_unlock(&pool->lock);
            return rc;
        }
    }
    *out = db;
    return 0;
}

void db_give_back(struct db *db)
{
    if (!db)
        return;
    struct db_pool *pool = db->pool;

    db_rollback(db);
    bool broken = db->broken;
    if (broken)
        conn_free(db);
    pthread_mutex_lock(&pool->lock);
    if (broken)
        pool->n_open--;
    else
        pool->idle[pool->n_idle++] = db;
    pthread_cond_signal(&pool->freed);
    pthread_mutex_unlock(&pool->lock);
}

enum db_violation db_violated(const struct db *db)
{
    return db->violation;
}

/* --- transactions --- */

static int gate_enter(struct db *db, struct err *err)
{
    struct db_pool *pool = db->pool;
    struct timespec deadline;
    int rc = 0;

    deadline_after(&deadline, DB_WAIT_MS);
    pthread_mutex_lock(&pool->lock);
    while (pool->writer && rc == 0)
        if (pthread_cond_timedwait(&pool->written, &pool->lock, &deadline) == ETIMEDOUT)
            rc = err_set(err, ERR_UNAVAILABLE, "The database is busy with another change");
    if (rc == 0)
        pool->writer = db;
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

static void gate_leave(struct db *db)
{
    struct db_pool *pool = db->pool;

    pthread_mutex_lock(&pool->lock);
    pool->writer = NULL;
    pthread_cond_signal(&pool->written);
    pthread_mutex_unlock(&pool->lock);
}

int db_begin_write(struct db *db, struct err *err)
{
    assert(db->transaction == NONE);
    int rc = gate_enter(db, err);

    if (rc < 0)
        return rc;
    rc = db->pool->driver->script(db->conn, db->pool->driver->begin_write, err);
    if (rc < 0)
        gate_leave(db);
    else
        db->transaction = WRITE;
    return rc;
}

int db_begin_read(struct db *db, struct err *err)
{
    assert(db->transaction == NONE);
    int rc = db->pool->driver->script(db->conn, db->pool->driver->begin_read, err);

    if (rc == 0)
        db->transaction = READ;
    return rc;
}

static void transaction_ended(struct db *db)
{
    enum transaction was = db->transaction;

    db->transaction = NONE;
    if (was == WRITE)
        gate_leave(db);
}

int db_commit(struct db *db, struct err *err)
{
    assert(db->transaction != NONE);
    int rc = db->pool->driver->script(db->conn, "COMMIT", err);

    if (rc < 0)
        db_rollback(db);
    else
        transaction_ended(db);
    return rc;
}

void db_rollback(struct db *db)
{
    struct err why = {0};

    if (db->transaction == NONE)
        return;
    /* After some failures the database has rolled back by itself and says that there is nothing to
     * do; a connection in doubt is cheap to replace. */
    if (db->pool->driver->script(db->conn, "ROLLBACK", &why) < 0)
        db->broken = true;
    transaction_ended(db);
}

int db_end(struct db *db, int rc, struct err *err)
{
    if (rc == 0)
        return db_commit(db, err);
    db_rollback(db);
    return rc;
}

int db_script(struct db *db, const char *sql, struct err *err)
{
    return db->pool->driver->script(db->conn, sql, err);
}

/* --- statements --- */

/* A place in the cache: a new one, or the longest unused. */
static int cache_slot(struct db *db, int *slot, struct err *err)
{
    int oldest = -1;

    if (db->n_stmts < DB_STATEMENTS_MAX) {
        struct db_stmt *stmt = mem_calloc(1, sizeof *stmt);

        if (!stmt)
            return mem_err(err, sizeof *stmt);
        db->stmts[db->n_stmts] = stmt;
        *slot = db->n_stmts++;
        return 0;
    }
    for (int i = 0; i < db->n_stmts; i++)
        if (!db->stmts[i]->busy &&
            (oldest < 0 || db->stmts[i]->used_at < db->stmts[oldest]->used_at))
            oldest = i;
    assert(oldest >= 0);
    db->pool->driver->finalize(db->stmts[oldest]->handle);
    memset(db->stmts[oldest], 0, sizeof **db->stmts);
    *slot = oldest;
    return 0;
}

static int cache_find(struct db *db, const char *sql, struct db_stmt **out, struct err *err)
{
    int slot = -1;

    for (int i = 0; i < db->n_stmts && slot < 0; i++)
        if (db->stmts[i]->sql && !db->stmts[i]->busy &&
            (db->stmts[i]->sql == sql || strcmp(db->stmts[i]->sql, sql) == 0))
            slot = i;
    if (slot < 0) {
        int rc = cache_slot(db, &slot, err);

        if (rc == 0)
            rc = db->pool->driver->prepare(db->conn, sql, &db->stmts[slot]->handle, err);
        if (rc < 0)
            return rc; /* an unprepared slot has no text and is taken again when it is oldest */
        db->stmts[slot]->sql = sql;
    }
    *out = db->stmts[slot];
    return 0;
}

int db_query(struct db *db, const char *name, const char *sql, struct db_stmt **out,
             struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc = cache_find(db, sql, &stmt, err);

    *out = NULL;
    if (rc < 0)
        return rc;
    stmt->db = db;
    stmt->name = name;
    stmt->busy = true;
    stmt->bound = stmt->column = 0;
    stmt->used_at = ++db->uses;
    stmt->started_ns = clock_monotonic_ns();
    stmt->failed = ERR_NONE;
    *out = stmt;
    return 0;
}

static void remember(struct db_stmt *stmt, int rc)
{
    if (rc < 0 && stmt->failed == ERR_NONE)
        stmt->failed = (enum err_code) - rc;
}

void db_bind_text(struct db_stmt *stmt, const char *text)
{
    const struct db *db = stmt->db;

    remember(stmt, db->pool->driver->bind_text(db->conn, stmt->handle, stmt->bound++, text, NULL));
}

void db_bind_int(struct db_stmt *stmt, int64_t value)
{
    const struct db *db = stmt->db;

    remember(stmt, db->pool->driver->bind_int(db->conn, stmt->handle, stmt->bound++, value, NULL));
}

void db_bind_real(struct db_stmt *stmt, double value)
{
    const struct db *db = stmt->db;

    remember(stmt, db->pool->driver->bind_real(db->conn, stmt->handle, stmt->bound++, value, NULL));
}

static int remembered(const struct db_stmt *stmt, struct err *err)
{
    if (stmt->failed == ERR_NONE)
        return 0;
    return err_set(err, stmt->failed, "Database: query %s could not take or give a value",
                   stmt->name);
}

int db_step(struct db_stmt *stmt, bool *row, struct err *err)
{
    struct db *db = stmt->db;
    int rc = remembered(stmt, err);

    *row = false;
    stmt->column = 0;
    if (rc < 0)
        return rc;
    return db->pool->driver->step(db->conn, stmt->handle, row, &db->violation, err);
}

const char *db_text(struct db_stmt *stmt, struct arena *arena)
{
    const struct db_driver *driver = stmt->db->pool->driver;
    int column = stmt->column++;
    size_t length = 0;

    if (driver->is_null(stmt->handle, column))
        return NULL;
    const char *text = driver->column_text(stmt->handle, column, &length);
    const char *copy = text ? arena_strndup(arena, text, length) : NULL;
    if (!copy)
        remember(stmt, -ERR_NOMEM);
    return copy;
}

int64_t db_int(struct db_stmt *stmt)
{
    return stmt->db->pool->driver->column_int(stmt->handle, stmt->column++);
}

double db_real(struct db_stmt *stmt)
{
    const struct db_driver *driver = stmt->db->pool->driver;
    int column = stmt->column++;

    return driver->is_null(stmt->handle, column) ? (double)NAN
                                                 : driver->column_real(stmt->handle, column);
}

int db_finish(struct db_stmt *stmt, int rc, struct err *err)
{
    if (!stmt)
        return rc;
    const struct db_pool *pool = stmt->db->pool;
    double seconds = (double)(clock_monotonic_ns() - stmt->started_ns) * 1e-9;

    pool->driver->reset(stmt->handle);
    stmt->busy = false;
    if (pool->observe)
        pool->observe(pool->observe_ctx, stmt->name, seconds);
    if (log_enabled("store", LOG_DEBUG))
        log_event(LOG_DEBUG, "store", "query", "name=%s ms=%.3f", stmt->name, seconds * 1e3);
    return rc < 0 ? rc : remembered(stmt, err);
}

int db_run(struct db_stmt *stmt, int64_t *changed, struct err *err)
{
    bool row = false;
    int rc = db_step(stmt, &row, err);

    if (changed)
        *changed = rc == 0 ? stmt->db->pool->driver->changes(stmt->db->conn) : 0;
    return db_finish(stmt, rc, err);
}
