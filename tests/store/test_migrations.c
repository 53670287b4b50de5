/* Moving the database forward, and refusing what this program does not understand. */
#include <pthread.h>

#include "base/log.h"
#include "store/migrations.h"
#include "test.h"

struct fixture {
    char dir[FS_PATH_BYTES_MAX];
    char url[FS_PATH_BYTES_MAX + 32];
    struct db_pool *pool;
    struct db *db;
    struct arena arena;
};

static int setup(void **state)
{
    static struct fixture f;
    struct err err = {0};

    memset(&f, 0, sizeof f);
    assert_ok(log_init("ERROR", false, &err), &err);
    test_dir_make(f.dir);
    snprintf(f.url, sizeof f.url, "sqlite:///%s/hub.db", f.dir);
    assert_ok(db_pool_open(&f.pool, f.url, &err), &err);
    assert_ok(db_acquire(f.pool, &f.db, &err), &err);
    arena_init(&f.arena, 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fault_disarm();
    db_give_back(f->db);
    db_pool_close(f->pool);
    arena_release(&f->arena);
    test_dir_remove(f->dir);
    return 0;
}

static void test_status_before_and_after(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    struct migration_state *states = NULL;
    size_t count = 0, known = 0;
    int applied = -1;

    (void)migrations_all(&known);
    assert_ok(migrations_status(f->db, &f->arena, &states, &count, &err), &err);
    assert_int_equal(count, known);
    assert_null(states[0].applied_at);
    assert_ok(migrations_run(f->db, &applied, &err), &err);
    assert_int_equal(applied, known);
    assert_ok(migrations_run(f->db, &applied, &err), &err);
    assert_int_equal(applied, 0);
    assert_ok(migrations_status(f->db, &f->arena, &states, &count, &err), &err);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(states[i].number, i + 1);
        assert_non_null(states[i].applied_at);
    }
}

static const struct migration two[] = {{1, "first", "CREATE TABLE a (x BIGINT);"},
                                       {2, "second", "CREATE TABLE b (x BIGINT);"}};

static void test_a_newer_database_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};

    assert_ok(migrations_run_list(f->db, two, 2, NULL, &err), &err);
    assert_int_equal(migrations_run_list(f->db, two, 1, NULL, &err), -ERR_CONFLICT);
    assert_non_null(strstr(err.message, "migration 2 'second', which is newer than this program"));
}

static void test_a_changed_step_is_refused(void **state)
{
    struct fixture *f = *state;
    static const struct migration changed[] = {{1, "first", "CREATE TABLE a (y BIGINT);"}};
    struct err err = {0};

    assert_ok(migrations_run_list(f->db, two, 1, NULL, &err), &err);
    assert_int_equal(migrations_run_list(f->db, changed, 1, NULL, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "Migration 1 'first' was run with checksum"));
}

static void test_a_hole_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};

    assert_ok(migrations_run_list(f->db, two, 2, NULL, &err), &err);
    assert_ok(db_script(f->db, "DELETE FROM schema_migrations WHERE number = 1", &err), &err);
    assert_err(migrations_run_list(f->db, two, 2, NULL, &err), &err, ERR_CORRUPT);
}

static bool has_table(struct db *db, const char *probe)
{
    struct db_stmt *stmt = NULL;
    struct err err = {0};
    bool is_there = db_query(db, "probe", probe, &stmt, &err) == 0;

    (void)!db_finish(stmt, 0, &err);
    return is_there;
}

static void test_a_failing_step_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    static const struct migration bad[] = {
        {1, "first", "CREATE TABLE a (x BIGINT);"},
        {2, "broken", "CREATE TABLE c (x BIGINT); CREATE TABLE c (x BIGINT);"}};
    struct err err = {0};
    int applied = -1;

    assert_int_equal(migrations_run_list(f->db, bad, 2, &applied, &err), -ERR_INTERNAL);
    assert_true(strncmp(err.message, "Migration 2 'broken': ", 22) == 0);
    assert_int_equal(applied, 1);
    assert_true(has_table(f->db, "SELECT * FROM a"));
    assert_false(has_table(f->db, "SELECT * FROM c"));
    err_clear(&err);
    assert_ok(migrations_run_list(f->db, two, 2, &applied, &err), &err);
    assert_int_equal(applied, 1);
}

static void *migrate(void *ctx)
{
    const struct fixture *f = ctx;
    struct db_pool *pool = NULL;
    struct db *db = NULL;
    struct err err = {0};
    int rc = db_pool_open(&pool, f->url, &err);

    if (rc == 0)
        rc = db_acquire(pool, &db, &err);
    if (rc == 0)
        rc = migrations_run(db, NULL, &err);
    db_give_back(db);
    db_pool_close(pool);
    if (rc < 0)
        fprintf(stderr, "%s\n", err.message);
    return rc < 0 ? ctx : NULL;
}

static void test_programs_migrate_at_once(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, migrate, f), 0);
    for (int i = 0; i < 4; i++) {
        void *failed = NULL;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_status_before_and_after),       TEST(test_a_newer_database_is_refused),
        TEST(test_a_changed_step_is_refused),     TEST(test_a_hole_is_refused),
        TEST(test_a_failing_step_leaves_nothing), TEST(test_programs_migrate_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
