/* The tables: what goes in comes out, constraints hold, cascades go as far as they should, and a
 * kill in the middle of a transaction leaves no half of it. */
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "base/log.h"
#include "store/base_models.h"
#include "store/datasets.h"
#include "store/job_metrics.h"
#include "store/jobs.h"
#include "store/meta.h"
#include "store/migrations.h"
#include "store/models.h"
#include "store/versions.h"
#include "test.h"

extern char **environ;

#define NOW "2026-01-31T12:00:00.000000Z"

struct fixture {
    char dir[FS_PATH_BYTES_MAX];
    char url[FS_PATH_BYTES_MAX + 32];
    struct db_pool *pool;
    struct db *db;
    struct arena arena;
    struct err err;
};

static const struct model_row model = {.id = "m1",
                                       .name = "shop",
                                       .folder = "shop",
                                       .base_model = "org/tiny",
                                       .tags = "{}",
                                       .next_number = 1,
                                       .created_at = NOW,
                                       .updated_at = NOW};
static const struct version_row version = {.id = "v1",
                                           .model_id = "m1",
                                           .version = "1.0.0",
                                           .number = 1,
                                           .metrics = "{}",
                                           .evaluations = "[]",
                                           .created_at = NOW};
static const struct dataset_record dataset = {"d1", "facts", "/d", "cc", "{}",
                                              NULL, "chat",  3,    4,    NOW};
static const struct base_row base = {"org/tiny", "gguf", "llama", 135,  "Q4_1", 2048,
                                     7,          "aa",   false,   "/w", "{}",   NOW};
static const struct job_row job = {.id = "j1",
                                   .kind = JOB_TRAIN,
                                   .model_id = "m1",
                                   .dataset_id = "d1",
                                   .dataset_checksum = "cc",
                                   .config = "{}",
                                   .created_at = NOW};

static int setup(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof f);
    assert_ok(log_init("ERROR", false, &f.err), &f.err);
    test_dir_make(f.dir);
    snprintf(f.url, sizeof f.url, "sqlite:///%s/hub.db", f.dir);
    assert_ok(db_pool_open(&f.pool, f.url, &f.err), &f.err);
    assert_ok(db_acquire(f.pool, &f.db, &f.err), &f.err);
    assert_ok(migrations_run(f.db, NULL, &f.err), &f.err);
    arena_init(&f.arena, 0);
    assert_ok(model_row_insert(f.db, &model, &f.err), &f.err);
    assert_ok(version_row_insert(f.db, &version, &f.err), &f.err);
    assert_ok(dataset_record_insert(f.db, &dataset, &f.err), &f.err);
    assert_ok(base_row_insert(f.db, &base, &f.err), &f.err);
    assert_ok(job_row_insert(f.db, &job, &f.err), &f.err);
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

static void test_rows_come_back(void **state)
{
    struct fixture *f = *state;
    struct base_row b;
    struct dataset_record d;
    struct job_row j;
    bool found = false;

    assert_ok(base_row_find(f->db, "org/tiny", &f->arena, &b, &found, &f->err), &f->err);
    assert_true(found && b.parameters == 135 && b.context_length == 2048 && !b.is_folder);
    assert_ok(dataset_record_get(f->db, "d1", &f->arena, &d, &f->err), &f->err);
    assert_true(d.rows == 3 && d.bytes == 4 && !d.columns);
    assert_ok(job_row_get(f->db, "j1", &f->arena, &j, &f->err), &f->err);
    assert_int_equal(j.seq, 1);
    assert_int_equal(j.fence, 0);
    assert_null(j.owner);
    assert_true(isnan(j.progress.loss) && isnan(j.progress.eta_seconds));
}

static void test_unique(void **state)
{
    struct fixture *f = *state;
    struct model_row m = model;
    struct version_row v = version;
    struct dataset_record d = dataset;

    m.id = "m2";
    m.folder = "other";
    assert_err(model_row_insert(f->db, &m, &f->err), &f->err, ERR_CONFLICT); /* name */
    m.name = "Shop";
    m.folder = "SHOP";
    assert_err(model_row_insert(f->db, &m, &f->err), &f->err, ERR_CONFLICT); /* folder */
    v.id = "v2";
    v.number = 2;
    assert_err(version_row_insert(f->db, &v, &f->err), &f->err, ERR_CONFLICT); /* version */
    v.version = "1.1.0";
    v.number = 1;
    assert_err(version_row_insert(f->db, &v, &f->err), &f->err, ERR_CONFLICT); /* number */
    d.id = "d2";
    d.checksum = "dd";
    assert_err(dataset_record_insert(f->db, &d, &f->err), &f->err, ERR_CONFLICT); /* name */
    d.name = "other";
    d.checksum = "cc";
    assert_err(dataset_record_insert(f->db, &d, &f->err), &f->err, ERR_CONFLICT); /* checksum */
    assert_err(base_row_insert(f->db, &base, &f->err), &f->err, ERR_CONFLICT);
    assert_int_equal(db_violated(f->db), DB_UNIQUE_VIOLATION);
}

static void test_references(void **state)
{
    struct fixture *f = *state;
    struct version_row v = version;
    struct job_row j = job;
    struct metric_row point = {"loss", 1, 0.5, NOW};

    v.id = "v2";
    v.model_id = "nobody";
    assert_err(version_row_insert(f->db, &v, &f->err), &f->err, ERR_CONFLICT);
    assert_int_equal(db_violated(f->db), DB_REFERENCE_VIOLATION);
    j.id = "j2";
    j.dataset_id = "nothing";
    assert_err(job_row_insert(f->db, &j, &f->err), &f->err, ERR_CONFLICT);
    assert_err(metric_row_put(f->db, "nojob", &point, &f->err), &f->err, ERR_CONFLICT);
    assert_err(version_alias_set(f->db, "m1", "best", "noversion", &f->err), &f->err, ERR_CONFLICT);
}

static void test_cascades(void **state)
{
    struct fixture *f = *state;
    struct metric_row point = {"loss", 1, 0.5, NOW}, *points = NULL;
    struct job_claim claim = {1, "child", "boot", "host", 1, NOW};
    struct job_row j;
    struct version_row v;
    size_t count = 0;
    int64_t changed = 0;

    assert_ok(metric_row_put(f->db, "j1", &point, &f->err), &f->err);
    assert_ok(version_alias_set(f->db, "m1", "best", "v1", &f->err), &f->err);
    assert_ok(job_row_claim(f->db, "j1", &claim, &changed, &f->err), &f->err);
    assert_ok(job_row_set_version(f->db, "j1", 1, "v1", &changed, &f->err), &f->err);
    /* dataset and version go: the job stays and remembers the checksum */
    assert_ok(dataset_record_delete(f->db, "d1", &f->err), &f->err);
    assert_ok(version_row_delete(f->db, "v1", &f->err), &f->err);
    assert_ok(job_row_get(f->db, "j1", &f->arena, &j, &f->err), &f->err);
    assert_null(j.dataset_id);
    assert_null(j.model_version_id);
    assert_string_equal(j.dataset_checksum, "cc");
    /* the model goes: its jobs and their series with it */
    assert_ok(version_row_insert(f->db, &version, &f->err), &f->err);
    assert_ok(model_row_delete(f->db, "m1", &f->err), &f->err);
    assert_err(job_row_get(f->db, "j1", &f->arena, &j, &f->err), &f->err, ERR_NOT_FOUND);
    assert_err(version_row_get(f->db, "v1", &f->arena, &v, &f->err), &f->err, ERR_NOT_FOUND);
    assert_ok(metric_row_list(f->db, "j1", NULL, -1, 10, &f->arena, &points, &count, &f->err),
              &f->err);
    assert_int_equal(count, 0);
}

static void test_meta(void **state)
{
    struct fixture *f = *state;
    const char *value = "";
    int64_t n = 0;

    assert_ok(meta_get(f->db, "boot", &f->arena, &value, &f->err), &f->err);
    assert_null(value);
    assert_ok(meta_put(f->db, "boot", "a", &f->err), &f->err);
    assert_ok(meta_put(f->db, "boot", "b", &f->err), &f->err);
    assert_ok(meta_get(f->db, "boot", &f->arena, &value, &f->err), &f->err);
    assert_string_equal(value, "b");
    for (int i = 1; i <= 3; i++) {
        assert_ok(meta_count(f->db, "fence", &n, &f->err), &f->err);
        assert_int_equal(n, i);
    }
}

static void test_an_unknown_word_is_corrupt(void **state)
{
    struct fixture *f = *state;
    struct job_row j;

    assert_ok(db_script(f->db, "UPDATE training_jobs SET status = 'dreaming'", &f->err), &f->err);
    assert_err(job_row_get(f->db, "j1", &f->arena, &j, &f->err), &f->err, ERR_CORRUPT);
}

static void test_long_lists_grow(void **state)
{
    struct fixture *f = *state;
    struct metric_row *points = NULL;
    size_t count = 0;

    assert_ok(db_begin_write(f->db, &f->err), &f->err);
    for (int i = 0; i < 500; i++) {
        struct metric_row point = {"loss", i, i * 0.5, NOW};

        assert_ok(metric_row_put(f->db, "j1", &point, &f->err), &f->err);
    }
    assert_ok(db_commit(f->db, &f->err), &f->err);
    assert_ok(metric_row_list(f->db, "j1", "loss", -1, 1000, &f->arena, &points, &count, &f->err),
              &f->err);
    assert_int_equal(count, 500);
    for (int i = 0; i < 500; i++)
        assert_true(points[i].step == i && points[i].value == i * 0.5);
}

static void test_reading_without_memory(void **state)
{
    struct fixture *f = *state;

    for (uint64_t n = 1;; n++) {
        struct arena arena;
        struct job_row j;
        struct err err = {0};

        arena_init(&arena, 0);
        fault_arm(FAULT_MALLOC, n, false);
        int rc = job_row_get(f->db, "j1", &arena, &j, &err);
        bool fired = fault_fired();
        fault_disarm();
        if (rc == 0)
            assert_string_equal(j.id, "j1");
        arena_release(&arena);
        if (rc < 0)
            assert_int_equal(err.code, ERR_NOMEM);
        if (!fired)
            break;
    }
}

/* --- a kill in the middle --- */

/* What the child does: pairs of rows in one transaction each, until it kills itself inside one. */
static int child(const char *url, int pairs)
{
    struct db_pool *pool = NULL;
    struct db *db = NULL;
    struct err err = {0};
    int rc = db_pool_open(&pool, url, &err);

    if (rc == 0)
        rc = db_acquire(pool, &db, &err);
    for (int i = 0; i <= pairs && rc == 0; i++) {
        struct metric_row a = {"a", i, i, NOW}, b = {"b", i, i, NOW};

        rc = db_begin_write(db, &err);
        if (rc == 0)
            rc = metric_row_put(db, "j1", &a, &err);
        if (i == pairs)
            kill(getpid(), SIGKILL);
        if (rc == 0)
            rc = metric_row_put(db, "j1", &b, &err);
        rc = db_end(db, rc, &err);
    }
    return 1;
}

static const char *self;

static void test_kill_in_a_transaction(void **state)
{
    struct fixture *f = *state;

    for (int pairs = 0; pairs < 4; pairs++) {
        char count_text[16];
        char *const argv[] = {(char *)self, (char *)"child", f->url, count_text, NULL};
        struct metric_row *points = NULL;
        size_t count = 0;
        pid_t pid = 0;
        int status = 0;

        snprintf(count_text, sizeof count_text, "%d", pairs);
        assert_int_equal(posix_spawn(&pid, self, NULL, NULL, argv, environ), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_ok(metric_row_list(f->db, "j1", NULL, -1, 100, &f->arena, &points, &count, &f->err),
                  &f->err);
        assert_int_equal(count, 2 * pairs);
        assert_ok(db_script(f->db, "DELETE FROM job_metrics", &f->err), &f->err);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rows_come_back),
        TEST(test_unique),
        TEST(test_references),
        TEST(test_cascades),
        TEST(test_meta),
        TEST(test_an_unknown_word_is_corrupt),
        TEST(test_long_lists_grow),
        TEST(test_reading_without_memory),
        TEST(test_kill_in_a_transaction),
    };

    if (argc == 4 && strcmp(argv[1], "child") == 0)
        return child(argv[2], (int)strtol(argv[3], NULL, 10));
    self = argv[0];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
