/* Connections, statements, transactions, the write gate, errors. */
#include <math.h>
#include <pthread.h>

#include "store/db.h"
#include "test.h"

struct fixture {
    char dir[FS_PATH_BYTES_MAX];
    char url[FS_PATH_BYTES_MAX + 32];
    struct db_pool *pool;
    struct db *db;
};

static int setup(void **state)
{
    static struct fixture f;
    struct err err = {0};

    memset(&f, 0, sizeof f);
    test_dir_make(f.dir);
    snprintf(f.url, sizeof f.url, "sqlite:///%s/hub.db", f.dir);
    assert_ok(db_pool_open(&f.pool, f.url, &err), &err);
    assert_ok(db_acquire(f.pool, &f.db, &err), &err);
    assert_int_equal(db_script(f.db,
                               "CREATE TABLE parent (id TEXT PRIMARY KEY, n BIGINT, x REAL);"
                               "CREATE TABLE child (id TEXT PRIMARY KEY, parent TEXT NOT NULL "
                               "REFERENCES parent (id))",
                               &err),
                     0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fault_disarm();
    db_give_back(f->db);
    db_pool_close(f->pool);
    test_dir_remove(f->dir);
    return 0;
}

static int put_parent(struct db *db, const char *id, int64_t n, double x, struct err *err)
{
    struct db_stmt *stmt = NULL;
    int rc =
        db_query(db, "parent.put", "INSERT INTO parent (id, n, x) VALUES (?, ?, ?)", &stmt, err);

    if (rc < 0)
        return rc;
    db_bind_text(stmt, id);
    db_bind_int(stmt, n);
    db_bind_real(stmt, x);
    return db_run(stmt, NULL, err);
}

static int64_t count(struct db *db, const char *sql)
{
    struct db_stmt *stmt = NULL;
    struct err err = {0};
    bool row = false;

    assert_ok(db_query(db, "count", sql, &stmt, &err), &err);
    assert_ok(db_step(stmt, &row, &err), &err);
    assert_true(row);
    int64_t n = db_int(stmt);
    assert_ok(db_finish(stmt, 0, &err), &err);
    return n;
}

static void test_values_come_back(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    struct db_stmt *stmt = NULL;
    struct arena arena;
    bool row = false;

    arena_init(&arena, 0);
    assert_int_equal(put_parent(f->db, "a'b\"; DROP TABLE parent", INT64_MIN, 0.1, &err), 0);
    assert_ok(put_parent(f->db, "none", 0, NAN, &err), &err);
    assert_ok(db_query(f->db, "q", "SELECT id, n, x, NULL FROM parent ORDER BY id", &stmt, &err),
              &err);
    assert_ok(db_step(stmt, &row, &err), &err);
    assert_string_equal(db_text(stmt, &arena), "a'b\"; DROP TABLE parent");
    assert_true(db_int(stmt) == INT64_MIN);
    assert_true(db_real(stmt) == 0.1);
    assert_null(db_text(stmt, &arena));
    assert_ok(db_step(stmt, &row, &err), &err);
    assert_string_equal(db_text(stmt, &arena), "none");
    assert_int_equal(db_int(stmt), 0);
    assert_true(isnan(db_real(stmt)));
    assert_ok(db_step(stmt, &row, &err), &err);
    assert_false(row);
    assert_ok(db_finish(stmt, 0, &err), &err);
    arena_release(&arena);
}

static void test_violations_are_conflicts(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};

    assert_ok(put_parent(f->db, "p", 1, 1, &err), &err);
    assert_err(put_parent(f->db, "p", 2, 2, &err), &err, ERR_CONFLICT);
    assert_int_equal(db_violated(f->db), DB_UNIQUE_VIOLATION);
    err_clear(&err);
    struct db_stmt *stmt = NULL;
    assert_ok(db_query(f->db, "c", "INSERT INTO child (id, parent) VALUES (?, ?)", &stmt, &err),
              &err);
    db_bind_text(stmt, "c");
    db_bind_text(stmt, "nobody");
    assert_err(db_run(stmt, NULL, &err), &err, ERR_CONFLICT);
    assert_int_equal(db_violated(f->db), DB_REFERENCE_VIOLATION);
    err_clear(&err);
    assert_ok(db_query(f->db, "c", "INSERT INTO child (id, parent) VALUES (?, ?)", &stmt, &err),
              &err);
    db_bind_text(stmt, "c");
    db_bind_text(stmt, NULL);
    assert_err(db_run(stmt, NULL, &err), &err, ERR_INTERNAL);
}

static void test_rollback_leaves_no_trace(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};

    assert_ok(db_begin_write(f->db, &err), &err);
    assert_ok(put_parent(f->db, "gone", 1, 1, &err), &err);
    assert_int_equal(db_end(f->db, -ERR_INVALID, &err), -ERR_INVALID);
    assert_int_equal(count(f->db, "SELECT COUNT(*) FROM parent"), 0);
    db_rollback(f->db);
    assert_ok(db_begin_write(f->db, &err), &err);
    assert_ok(put_parent(f->db, "kept", 1, 1, &err), &err);
    assert_ok(db_end(f->db, 0, &err), &err);
    assert_int_equal(count(f->db, "SELECT COUNT(*) FROM parent"), 1);
}

static void test_giving_back_rolls_back(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    struct db *other = NULL;

    assert_ok(db_acquire(f->pool, &other, &err), &err);
    assert_ok(db_begin_write(other, &err), &err);
    assert_ok(put_parent(other, "gone", 1, 1, &err), &err);
    db_give_back(other);
    assert_int_equal(count(f->db, "SELECT COUNT(*) FROM parent"), 0);
    assert_ok(db_begin_write(f->db, &err), &err);
    assert_ok(db_commit(f->db, &err), &err);
}

static void test_bad_urls(void **state)
{
    static const struct {
        const char *url;
        int rc;
    } rows[] = {
        {"", -ERR_INVALID},
        {"sqlite:///", -ERR_INVALID},
        {"mysql://x/y", -ERR_INVALID},
        {"postgresql://x/y", -ERR_UNSUPPORTED},
        {"postgres://x/y", -ERR_UNSUPPORTED},
        {"postgresql+asyncpg://x/y", -ERR_UNSUPPORTED},
        {"sqlite:////nonexistent/folder/hub.db", -ERR_UNAVAILABLE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        struct db_pool *pool = NULL;

        assert_int_equal(db_pool_open(&pool, rows[i].url, &err), rows[i].rc);
        assert_null(pool);
        assert_true(err.message[0] != '\0');
    }
}

static void test_a_file_that_is_no_database(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    struct db_pool *pool = NULL;
    static const char junk[] =
        "this is not a database, although it is long enough to be looked at as one: "
        "................................................................";
    char path[FS_PATH_BYTES_MAX], url[FS_PATH_BYTES_MAX + 32];

    assert_ok(fs_join(path, f->dir, "junk.db", &err), &err);
    assert_ok(fs_write_file(path, junk, sizeof junk, &err), &err);
    snprintf(url, sizeof url, "sqlite:///%s", path);
    assert_err(db_pool_open(&pool, url, &err), &err, ERR_CORRUPT);
}

/* More texts than the cache holds: the oldest make room, results stay right. */
static void test_statement_cache_turns_over(void **state)
{
    struct fixture *f = *state;
    static char texts[DB_STATEMENTS_MAX * 2][64];

    for (int round = 0; round < 2; round++)
        for (int i = 0; i < DB_STATEMENTS_MAX * 2; i++) {
            snprintf(texts[i], sizeof texts[i], "SELECT %d", i);
            assert_int_equal(count(f->db, texts[i]), i);
        }
}

static void test_bad_sql_is_reported_and_harmless(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < DB_STATEMENTS_MAX * 2; i++) {
        struct err err = {0};
        struct db_stmt *stmt = NULL;

        assert_err(db_query(f->db, "bad", "SELEKT 1", &stmt, &err), &err, ERR_INTERNAL);
        assert_null(stmt);
    }
    assert_int_equal(count(f->db, "SELECT 7"), 7);
}

enum { WRITERS = 6, ROUNDS = 40 };

static void *add_ones(void *ctx)
{
    struct fixture *f = ctx;

    for (int i = 0; i < ROUNDS; i++) {
        struct err err = {0};
        struct db *db = NULL;
        struct db_stmt *stmt = NULL;
        int rc = db_acquire(f->pool, &db, &err);

        if (rc == 0)
            rc = db_begin_write(db, &err);
        int64_t n = rc == 0 ? count(db, "SELECT n FROM parent WHERE id = 'sum'") : 0;
        if (rc == 0)
            rc = db_query(db, "add", "UPDATE parent SET n = ? WHERE id = 'sum'", &stmt, &err);
        if (rc == 0) {
            db_bind_int(stmt, n + 1);
            rc = db_run(stmt, NULL, &err);
            rc = db_end(db, rc, &err);
        }
        db_give_back(db);
        if (rc < 0)
            return f;
    }
    return NULL;
}

static void test_writers_take_turns(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    pthread_t threads[WRITERS];

    assert_ok(put_parent(f->db, "sum", 0, 0, &err), &err);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_ones, f), 0);
    for (int i = 0; i < WRITERS; i++) {
        void *failed = NULL;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(count(f->db, "SELECT n FROM parent WHERE id = 'sum'"), WRITERS * ROUNDS);
}

/* A second process is a second pool: what it commits is seen, and a reader keeps its snapshot. */
static void test_a_reader_keeps_its_snapshot(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    struct db_pool *pool = NULL;
    struct db *other = NULL;

    assert_ok(db_pool_open(&pool, f->url, &err), &err);
    assert_ok(db_acquire(pool, &other, &err), &err);
    assert_ok(db_begin_read(f->db, &err), &err);
    assert_int_equal(count(f->db, "SELECT COUNT(*) FROM parent"), 0);
    assert_ok(put_parent(other, "new", 1, 1, &err), &err);
    assert_int_equal(count(f->db, "SELECT COUNT(*) FROM parent"), 0);
    assert_ok(db_commit(f->db, &err), &err);
    assert_int_equal(count(f->db, "SELECT COUNT(*) FROM parent"), 1);
    db_give_back(other);
    db_pool_close(pool);
}

static int whole_use(const char *url, struct err *err)
{
    struct db_pool *pool = NULL;
    struct db *db = NULL;
    int rc = db_pool_open(&pool, url, err);

    if (rc == 0)
        rc = db_acquire(pool, &db, err);
    if (rc == 0)
        rc = db_begin_write(db, err);
    if (rc == 0) {
        rc = put_parent(db, "one", 1, 1, err);
        if (rc == 0)
            rc = put_parent(db, "two", 2, 2, err);
        rc = db_end(db, rc, err);
    }
    db_give_back(db);
    db_pool_close(pool);
    return rc;
}

/* Every allocation fails once: an error, never a crash, and both rows or none. */
static void test_allocations_fail(void **state)
{
    struct fixture *f = *state;

    for (uint64_t n = 1;; n++) {
        struct err err = {0};

        fault_arm(FAULT_MALLOC, n, false);
        int rc = whole_use(f->url, &err);
        bool fired = fault_fired();
        fault_disarm();
        int64_t rows = count(f->db, "SELECT COUNT(*) FROM parent");
        assert_true(rows == (rc == 0 ? 2 : 0));
        if (rc < 0)
            assert_true(err.code == ERR_NOMEM || err.code == ERR_UNAVAILABLE);
        if (rc == 0 && !fired)
            break;
        err_clear(&err);
        assert_ok(db_script(f->db, "DELETE FROM parent", &err), &err);
    }
}

static void seen(void *ctx, const char *query, double seconds)
{
    assert_string_equal(query, "count");
    assert_true(seconds >= 0);
    ++*(int *)ctx;
}

static void test_queries_are_observed(void **state)
{
    struct fixture *f = *state;
    int calls = 0;

    db_pool_observe(f->pool, seen, &calls);
    (void)count(f->db, "SELECT 1");
    db_pool_observe(f->pool, NULL, NULL);
    assert_int_equal(calls, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_values_come_back),
        TEST(test_violations_are_conflicts),
        TEST(test_rollback_leaves_no_trace),
        TEST(test_giving_back_rolls_back),
        TEST(test_bad_urls),
        TEST(test_a_file_that_is_no_database),
        TEST(test_statement_cache_turns_over),
        TEST(test_bad_sql_is_reported_and_harmless),
        TEST(test_writers_take_turns),
        TEST(test_a_reader_keeps_its_snapshot),
        TEST(test_allocations_fail),
        TEST(test_queries_are_observed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
