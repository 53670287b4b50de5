/* The database, whichever it is: connections, statements, transactions.
 *
 * SQLite implements this now; another driver fills the table in db_driver.h. SQL is kept portable:
 * `?` placeholders, times as ISO 8601 text, no function that only one of them has. Values travel as
 * bound parameters only.
 *
 * Threads. A `struct db_pool` may be used by any thread. A `struct db` is one connection and
 * belongs to the thread that acquired it until it gives it back; statements belong to their
 * connection. Nothing here crosses a fork: a child opens its own pool (checked by process id).
 * Writers of one process take turns at a gate before they ask the database, so only writers of
 * different processes ever wait in its busy handler. Event threads never call here: queries block.
 *
 * Failure. Unique violations, and removing what is still referred to, are ERR_CONFLICT (db_violated
 * tells which); busy and unopenable ERR_UNAVAILABLE; a full disk ERR_NOSPACE; a damaged file
 * ERR_CORRUPT. A kill at any instant leaves a transaction done or undone, never between.
 *
 * Bounds: DB_CONNECTIONS_MAX connections, DB_STATEMENTS_MAX cached statements each, waits of
 * DB_WAIT_MS.
 */
#ifndef STORE_DB_H
#define STORE_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

enum { DB_CONNECTIONS_MAX = 8, DB_STATEMENTS_MAX = 96, DB_WAIT_MS = 10000 };

struct db_pool;
struct db;
struct db_stmt;

/* --- pool --- */
/* url: sqlite:///<path> (an absolute path gives four slashes, as everywhere; `sqlite:///` followed
 * by anything else starts at the working folder). Opens one connection at once, so a bad path fails
 * here. Runs no migration. ERR_INVALID for another scheme, ERR_UNSUPPORTED for postgresql://. */
int db_pool_open(struct db_pool **pool, const char *url, struct err *err) MUST_CHECK;
/* Every connection must have been given back. NULL is fine. */
void db_pool_close(struct db_pool *pool);
/* Calls fn(ctx, name of query, seconds) after each; fn must be thread safe and quick. Set it before
 * the pool is shared. */
void db_pool_observe(struct db_pool *pool, void (*fn)(void *ctx, const char *query, double seconds),
                     void *ctx);

/* A connection for this thread: waits at most DB_WAIT_MS for one, then ERR_UNAVAILABLE. */
int db_acquire(struct db_pool *pool, struct db **db, struct err *err) MUST_CHECK;
/* Rolls back what was left open. NULL is fine. */
void db_give_back(struct db *db);

/* --- transactions (no nesting) --- */
int db_begin_write(struct db *db, struct err *err) MUST_CHECK; /* takes the write lock now */
int db_begin_read(struct db *db, struct err *err) MUST_CHECK;  /* one snapshot for several reads */
int db_commit(struct db *db, struct err *err) MUST_CHECK;      /* failed: rolled back */
void db_rollback(struct db *db);                               /* harmless outside a transaction */
/* Commits when rc is 0, else rolls back; returns the first error. */
int db_end(struct db *db, int rc, struct err *err) MUST_CHECK;

/* --- statements --- */
/* The statement of this text from the connection's cache, ready to bind. `sql` must stay valid (a
 * literal); `name` is a short static name for logs and metrics. Use, then db_finish: one use at a
 * time per text. */
int db_query(struct db *db, const char *name, const char *sql, struct db_stmt **stmt,
             struct err *err) MUST_CHECK;
/* Bind the next placeholder. Failures are remembered and reported by db_step. */
void db_bind_text(struct db_stmt *stmt, const char *text); /* copied; NULL binds NULL */
void db_bind_int(struct db_stmt *stmt, int64_t value);
void db_bind_real(struct db_stmt *stmt, double value); /* NaN binds NULL */
/* *row false when there is no more. Starts reading at column 0. */
int db_step(struct db_stmt *stmt, bool *row, struct err *err) MUST_CHECK;
/* Read the next column of the row. A text is copied to the arena; running out of memory is
 * remembered and reported by the next db_step or by db_finish. */
const char *db_text(struct db_stmt *stmt, struct arena *arena); /* NULL for NULL */
int64_t db_int(struct db_stmt *stmt);                           /* 0 for NULL */
double db_real(struct db_stmt *stmt);                           /* NaN for NULL */
/* Ends the use; returns rc, or what was remembered when rc is 0. stmt NULL is fine. */
int db_finish(struct db_stmt *stmt, int rc, struct err *err) MUST_CHECK;
/* For statements without rows: step and finish. changed (may be NULL): rows touched. */
int db_run(struct db_stmt *stmt, int64_t *changed, struct err *err) MUST_CHECK;
/* Several statements without parameters, for migrations. */
int db_script(struct db *db, const char *sql, struct err *err) MUST_CHECK;

enum db_violation { DB_NO_VIOLATION, DB_UNIQUE_VIOLATION, DB_REFERENCE_VIOLATION };
/* What the last failed statement of this connection ran into. */
enum db_violation db_violated(const struct db *db);

#endif
