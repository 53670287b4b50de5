/* Registering and uploading datasets. */
#include "registry/hub.h"

static int create(struct hub *hub, const char *name, const char *path, struct dataset_record *row)
{
    struct dataset_draft draft = {.name = name, .path = path};

    return registry_create_dataset(hub->registry, &draft, &hub->arena, row, &hub->err);
}

static void test_create_and_get(void **state)
{
    struct hub *hub = *state;
    struct dataset_draft draft = {.name = "facts",
                                  .path = "sub/facts.jsonl",
                                  .schema_info = "{\"x\":1}",
                                  .columns = "{\"prompt\":\"q\"}"};
    struct dataset_record made, row;

    assert_ok(fs_mkdirs(hub_path(hub, "datasets/sub"), &hub->err), &hub->err);
    hub_write(hub, "datasets/sub/facts.jsonl", "{\"q\":\"a\",\"completion\":\"b\"}\n");
    assert_ok(registry_create_dataset(hub->registry, &draft, &hub->arena, &made, &hub->err),
              &hub->err);
    assert_ok(registry_get_dataset(hub->registry, made.id, &hub->arena, &row, &hub->err),
              &hub->err);
    assert_string_equal(row.name, "facts");
    assert_string_equal(row.path, hub_path(hub, "datasets/sub/facts.jsonl"));
    assert_string_equal(row.schema_info, "{\"x\":1}");
    assert_string_equal(row.columns, "{\"prompt\":\"q\"}");
    assert_string_equal(row.shape, "completion");
    assert_int_equal(row.rows, 1);
    assert_int_equal(row.bytes, strlen("{\"q\":\"a\",\"completion\":\"b\"}\n"));
    assert_int_equal(strlen(row.checksum), 64);
}

static void test_where_a_file_may_lie(void **state)
{
    struct hub *hub = *state;
    struct dataset_record row;
    char within[FS_PATH_BYTES_MAX + 64];
    const char *const outside[] = {"../secret.jsonl",       "/etc/passwd", "/etc/nothing-there",
                                   "../../nothing-there",   "link.jsonl",  "linked/secret.jsonl",
                                   "sub/../../secret.jsonl"};

    hub_write(hub, "secret.jsonl", HUB_ROW);
    assert_int_equal(symlink(hub_path(hub, "secret.jsonl"), hub_path(hub, "datasets/link.jsonl")),
                     0);
    assert_int_equal(symlink(hub->dir, hub_path(hub, "datasets/linked")), 0);
    assert_ok(fs_mkdirs(hub_path(hub, "datasets/sub"), &hub->err), &hub->err);
    snprintf(within, sizeof within, "Dataset path must be within %s/datasets", hub->dir);
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        if (create(hub, "d", outside[i], &row) != -ERR_INVALID ||
            strcmp(hub->err.message, within) != 0)
            fail_msg("row %zu: %s", i, hub->err.message);
        err_clear(&hub->err);
    }
    assert_int_equal(create(hub, "d", "nothing.jsonl", &row), -ERR_INVALID);
    assert_string_equal(hub->err.message, "Dataset file not found: nothing.jsonl");
    err_clear(&hub->err);
    assert_int_equal(create(hub, "d", "sub", &row), -ERR_INVALID);
    assert_string_equal(hub->err.message, "Not a file: sub");
    err_clear(&hub->err);
    assert_err(create(hub, "d", "", &row), &hub->err, ERR_UNPROCESSABLE);
    assert_err(create(hub, "d", NULL, &row), &hub->err, ERR_UNPROCESSABLE);
    assert_err(create(hub, "d/e", "x", &row), &hub->err, ERR_UNPROCESSABLE);
    /* a link that stays inside is fine, and the answer names the file itself */
    hub_write(hub, "datasets/real.jsonl", HUB_ROW);
    assert_int_equal(symlink("real.jsonl", hub_path(hub, "datasets/alias.jsonl")), 0);
    assert_ok(create(hub, "d", "alias.jsonl", &row), &hub->err);
    assert_string_equal(row.path, hub_path(hub, "datasets/real.jsonl"));
}

static void test_duplicates(void **state)
{
    struct hub *hub = *state;
    struct dataset_record row;

    hub_dataset(hub, "facts", HUB_ROW);
    hub_write(hub, "datasets/copy.jsonl", HUB_ROW);
    hub_write(hub, "datasets/other.jsonl", HUB_ROW HUB_ROW);
    assert_int_equal(create(hub, "facts", "other.jsonl", &row), -ERR_CONFLICT);
    assert_string_equal(hub->err.message, "Dataset with name 'facts' already exists");
    err_clear(&hub->err);
    assert_int_equal(create(hub, "copy", "copy.jsonl", &row), -ERR_CONFLICT);
    assert_string_equal(hub->err.message, "Dataset with same content already exists: 'facts'");
    err_clear(&hub->err);
}

static void test_bad_rows_are_named(void **state)
{
    struct hub *hub = *state;
    struct dataset_record row;

    hub_write(hub, "datasets/bad.jsonl", HUB_ROW "{\"text\":\"\"}\n");
    assert_int_equal(create(hub, "bad", "bad.jsonl", &row), -ERR_INVALID);
    assert_string_equal(hub->err.message, "bad.jsonl:2: text is empty: nothing to learn");
    err_clear(&hub->err);
}

static void test_verify_and_delete(void **state)
{
    struct hub *hub = *state;
    struct dataset_verdict verdict;
    struct dataset_record row;

    hub_fill(hub);
    assert_ok(registry_verify_dataset(hub->registry, hub->dataset, &verdict, &hub->err), &hub->err);
    assert_true(verdict.valid);
    hub_write(hub, "datasets/facts.jsonl", HUB_ROW);
    assert_ok(registry_verify_dataset(hub->registry, hub->dataset, &verdict, &hub->err), &hub->err);
    assert_false(verdict.valid);
    assert_int_equal(strlen(verdict.actual), 64);
    assert_ok(fs_remove_file(hub_path(hub, "datasets/facts.jsonl"), &hub->err), &hub->err);
    assert_ok(registry_verify_dataset(hub->registry, hub->dataset, &verdict, &hub->err), &hub->err);
    assert_false(verdict.valid);
    assert_string_equal(verdict.actual, "");
    hub_write(hub, "datasets/facts.jsonl", HUB_ROW HUB_ROW);
    struct job_row job = hub_job(hub);
    assert_err(registry_delete_dataset(hub->registry, hub->dataset, &hub->err), &hub->err,
               ERR_CONFLICT);
    assert_ok(registry_cancel_job(hub->registry, job.id, &hub->arena, &job, &hub->err), &hub->err);
    assert_ok(registry_delete_dataset(hub->registry, hub->dataset, &hub->err), &hub->err);
    assert_err(registry_get_dataset(hub->registry, hub->dataset, &hub->arena, &row, &hub->err),
               &hub->err, ERR_NOT_FOUND);
    job = hub_get_job(hub, job.id);
    assert_null(job.dataset_id);
    assert_int_equal(strlen(job.dataset_checksum), 64);
}

static int upload(struct hub *hub, const char *name, const char *text, uint64_t bytes_max,
                  struct dataset_record *row)
{
    struct dataset_draft draft = {.name = name};
    struct dataset_upload *upload = NULL;
    int rc = registry_upload_begin(hub->registry, &draft, bytes_max, &upload, &hub->err);

    for (const char *at = text; *at && rc == 0; at++)
        rc = registry_upload_write(upload, at, 1, &hub->err);
    if (rc < 0) {
        registry_upload_abandon(upload);
        return rc;
    }
    return registry_upload_finish(upload, &hub->arena, row, &hub->err);
}

static void test_upload(void **state)
{
    struct hub *hub = *state;
    struct dataset_record row;

    assert_ok(upload(hub, "up", HUB_ROW, 1000, &row), &hub->err);
    assert_string_equal(row.name, "up");
    assert_true(fs_exists(row.path));
    assert_non_null(strstr(row.path, "/datasets/up-"));
    assert_int_equal(hub_entries(hub, "datasets"), 1);
    assert_err(upload(hub, "up", HUB_ROW, 1000, &row), &hub->err, ERR_CONFLICT);
    assert_err(upload(hub, "again", HUB_ROW, 1000, &row), &hub->err, ERR_CONFLICT);
    assert_err(upload(hub, "large", HUB_ROW, 10, &row), &hub->err, ERR_TOO_LARGE);
    assert_int_equal(upload(hub, "bad", "{}\n", 10, &row), -ERR_INVALID);
    assert_true(strncmp(hub->err.message, "bad:1: ", 7) == 0);
    err_clear(&hub->err);
    assert_int_equal(hub_entries(hub, "datasets"), 1);
    assert_err(upload(hub, "", HUB_ROW, 10, &row), &hub->err, ERR_UNPROCESSABLE);
}

/* Each kind of failure at each of its calls: a row and its file, or neither. */
static void test_upload_fails_whole(void **state)
{
    struct hub *hub = *state;
    static const enum fault_kind kinds[] = {FAULT_MALLOC, FAULT_OPEN,  FAULT_READ,
                                            FAULT_WRITE,  FAULT_FSYNC, FAULT_RENAME};

    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (uint64_t n = 1;; n++) {
            struct dataset_record row, *rows = NULL;
            struct err err = {0};
            size_t count = 0;
            int64_t total = 0;

            fault_arm(kinds[k], n, false);
            int rc = upload(hub, "up", HUB_ROW, 1000, &row);
            bool fired = fault_fired();
            fault_disarm();
            err_clear(&hub->err);
            assert_ok(registry_list_datasets(hub->registry, 10, 0, &hub->arena, &rows, &count,
                                             &total, &err),
                      &err);
            assert_int_equal(total, rc == 0 ? 1 : 0);
            assert_int_equal(hub_entries(hub, "datasets"), rc == 0 ? 1 : 0);
            if (rc == 0) {
                assert_ok(registry_delete_dataset(hub->registry, row.id, &err), &err);
                assert_ok(fs_remove_file(row.path, &err), &err);
                if (!fired)
                    break;
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HUB_TEST(test_create_and_get),     HUB_TEST(test_where_a_file_may_lie),
        HUB_TEST(test_duplicates),         HUB_TEST(test_bad_rows_are_named),
        HUB_TEST(test_verify_and_delete),  HUB_TEST(test_upload),
        HUB_TEST(test_upload_fails_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
