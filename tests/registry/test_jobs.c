/* Submitting jobs, looking at them, cancelling and resuming. */
#include "registry/hub.h"

static int create(struct hub *hub, const char *model, const char *dataset, const char *config,
                  int64_t queue_max, struct job_row *row)
{
    json_t *tree = config ? json_parse(config, strlen(config), &hub->err) : NULL;
    struct job_draft draft = {model, dataset, tree, queue_max, NULL};
    char warning[JOB_WARNING_BYTES];
    int rc = registry_create_job(hub->registry, &draft, &hub->arena, row, warning, &hub->err);

    json_decref(tree);
    return rc;
}

static void test_a_new_job(void **state)
{
    struct hub *hub = *state;
    struct job_row row;

    hub_fill(hub);
    assert_ok(
        create(hub, hub->model, hub->dataset, "{\"epochs\":2,\"learning_rate\":0.001}", 0, &row),
        &hub->err);
    row = hub_get_job(hub, row.id);
    assert_int_equal(row.kind, JOB_TRAIN);
    assert_int_equal(row.status, JOB_QUEUED);
    assert_string_equal(row.model_id, hub->model);
    assert_string_equal(row.dataset_id, hub->dataset);
    assert_null(row.model_version_id);
    assert_null(row.started_at);
    assert_non_null(row.created_at);
    assert_non_null(strstr(row.config, "\"epochs\":2,"));
    assert_non_null(strstr(row.config, "\"warmup_steps\":0,")); /* two steps: a tenth is none */
    assert_non_null(strstr(row.config, "\"seed\":42"));
}

static void test_what_is_refused(void **state)
{
    struct hub *hub = *state;
    static const char nobody[] = "12345678-1234-1234-1234-123456789012";
    struct job_row row;

    hub_fill(hub);
    const char *bare = hub_model(hub, "bare", "org/none");
    const struct {
        const char *model, *dataset, *config;
        int rc;
        const char *why;
    } rows[] = {
        {hub->model, hub->dataset, "{\"lora_rnak\":4}", -ERR_UNPROCESSABLE, "'lora_rnak'"},
        {nobody, hub->dataset, "{\"seed\":\"x\"}", -ERR_UNPROCESSABLE, "seed"},
        {nobody, nobody, NULL, -ERR_NOT_FOUND, "Model 12345678"},
        {hub->model, nobody, NULL, -ERR_NOT_FOUND, "Dataset 12345678"},
        {hub->model, hub->dataset, "{\"val_dataset_id\":\"12345678-1234-1234-1234-123456789012\"}",
         -ERR_NOT_FOUND, "Dataset 12345678"},
        {hub->model, hub->dataset, "{\"init_from\":\"shop@1.0.0\"}", -ERR_NOT_FOUND,
         "Version shop@1.0.0 not found"},
        {hub->model, hub->dataset, "{\"init_from\":\"12345678-1234-1234-1234-123456789012\"}",
         -ERR_NOT_FOUND, "Version 12345678"},
        {bare, hub->dataset, NULL, -ERR_CONFLICT, "mlx-hub import PATH --as org/none"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (create(hub, rows[i].model, rows[i].dataset, rows[i].config, 0, &row) != rows[i].rc ||
            !strstr(hub->err.message, rows[i].why))
            fail_msg("row %zu: %s", i, hub->err.message);
        err_clear(&hub->err);
    }
    assert_ok(create(hub, hub->model, hub->dataset, NULL, 1, &row), &hub->err);
    assert_int_equal(create(hub, hub->model, hub->dataset, NULL, 1, &row), -ERR_BUSY);
    assert_non_null(strstr(hub->err.message, "1 jobs wait, at most 1"));
    err_clear(&hub->err);
    /* the weights' row is there, the file is not */
    assert_ok(fs_remove_tree(hub_path(hub, "blobs/sha256"), &hub->err), &hub->err);
    assert_err(create(hub, hub->model, hub->dataset, NULL, 0, &row), &hub->err, ERR_CONFLICT);
}

static void test_starting_from_a_version(void **state)
{
    struct hub *hub = *state;
    struct version_row version;
    struct job_row job, row;
    char path[FS_PATH_BYTES_MAX];

    hub_fill(hub);
    hub_version(hub);
    assert_ok(create(hub, hub->model, hub->dataset, "{\"init_from\":\"shop@1.0.0\"}", 0, &row),
              &hub->err);
    /* not from one that is still trained, nor from one of another base */
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_job_version(hub->registry, job.id, job.fence, &hub->arena, &version, path,
                                   &hub->err),
              &hub->err);
    assert_err(create(hub, hub->model, hub->dataset, "{\"init_from\":\"shop@1.1.0\"}", 0, &row),
               &hub->err, ERR_CONFLICT);
    hub_base(hub, "org/other", "other weights");
    assert_err(create(hub, hub_model(hub, "m2", "org/other"), hub->dataset,
                      "{\"init_from\":\"shop@1.0.0\"}", 0, &row),
               &hub->err, ERR_CONFLICT);
}

static void test_a_weak_run_is_warned_about(void **state)
{
    struct hub *hub = *state;
    json_t *config = json_pack("{s:f}", "learning_rate", 1e-6);
    struct job_draft draft;
    struct job_row row;
    char warning[JOB_WARNING_BYTES];

    hub_fill(hub);
    draft = (struct job_draft){hub->model, hub->dataset, config, 0, NULL};
    assert_ok(registry_create_job(hub->registry, &draft, &hub->arena, &row, warning, &hub->err),
              &hub->err);
    assert_non_null(strstr(warning, "3 steps at a learning rate of 1e-06"));
    json_decref(config);
    config = json_pack("{s:f}", "learning_rate", 1e-2);
    draft.config = config;
    assert_ok(registry_create_job(hub->registry, &draft, &hub->arena, &row, warning, &hub->err),
              &hub->err);
    assert_string_equal(warning, "");
    json_decref(config);
}

static void test_the_config_takes_the_bases_limits(void **state)
{
    struct hub *hub = *state;
    json_t *config =
        json_pack("{s:i,s:i,s:f}", "max_seq_length", 4096, "num_layers", 9, "learning_rate", 1e-2);
    struct job_draft draft;
    struct job_row row;
    char warning[JOB_WARNING_BYTES];

    hub_fill(hub);
    draft = (struct job_draft){hub->model, hub->dataset, config, 0, NULL};
    assert_ok(registry_create_job(hub->registry, &draft, &hub->arena, &row, warning, &hub->err),
              &hub->err);
    assert_string_equal(warning, "max_seq_length 4096 is more than the model's context: 2048 is "
                                 "used; num_layers 9 is more than the model has: 4 is used");
    assert_non_null(strstr(row.config, "\"max_seq_length\":2048"));
    assert_non_null(strstr(row.config, "\"num_layers\":4"));
    json_decref(config);
}

/* What is wrong with a dataset's file is said at submission, and when a job is resumed. */
static void test_a_dataset_that_is_not_what_it_was(void **state)
{
    struct hub *hub = *state;
    struct job_draft draft;
    struct job_row row, again;
    char warning[JOB_WARNING_BYTES];

    hub_fill(hub);
    draft = (struct job_draft){hub->model, hub->dataset, NULL, 0, NULL};
    const struct job_row job = hub_job(hub);
    assert_ok(registry_cancel_job(hub->registry, job.id, &hub->arena, &row, &hub->err), &hub->err);
    hub_write(hub, "datasets/facts.jsonl", HUB_ROW);
    assert_int_equal(
        registry_create_job(hub->registry, &draft, &hub->arena, &row, warning, &hub->err),
        -ERR_CONFLICT);
    assert_non_null(
        strstr(hub->err.message, "Dataset 'facts' has changed since it was registered"));
    assert_non_null(strstr(hub->err.message, "register it again under a new name"));
    err_clear(&hub->err);
    assert_err(registry_resume_job(hub->registry, job.id, 0, &hub->arena, &again, &hub->err),
               &hub->err, ERR_CONFLICT);
    assert_int_equal(unlink(hub_path(hub, "datasets/facts.jsonl")), 0);
    assert_int_equal(
        registry_create_job(hub->registry, &draft, &hub->arena, &row, warning, &hub->err),
        -ERR_INVALID);
    assert_non_null(strstr(hub->err.message, "Dataset file not found: "));
    err_clear(&hub->err);
    hub_write(hub, "datasets/facts.jsonl", HUB_ROW HUB_ROW);
    (void)hub_job(hub);
}

static void test_queue_and_lists(void **state)
{
    struct hub *hub = *state;
    struct job_row *rows = NULL, row, first, second;
    struct job_filter filter = {.status = "queued", .limit = 1};
    size_t count = 0;
    int64_t total = 0;
    bool found = true;

    hub_fill(hub);
    first = hub_job(hub);
    second = hub_job(hub);
    assert_ok(registry_job_queue(hub->registry, &hub->arena, &rows, &count, &hub->err), &hub->err);
    assert_int_equal(count, 2);
    assert_string_equal(rows[0].id, first.id);
    assert_ok(
        registry_list_jobs(hub->registry, &filter, &hub->arena, &rows, &count, &total, &hub->err),
        &hub->err);
    assert_int_equal(total, 2);
    assert_int_equal(count, 1);
    assert_string_equal(rows[0].id, second.id); /* newest first */
    assert_ok(registry_active_job(hub->registry, &hub->arena, &row, &found, &hub->err), &hub->err);
    assert_false(found);
    assert_ok(registry_job_waiting(hub->registry, first.id, "memory", &hub->err), &hub->err);
    assert_string_equal(hub_get_job(hub, first.id).waiting_for, "memory");
    assert_false(hub_claim(hub, &row)); /* what is behind it waits, too */
    assert_ok(registry_job_waiting(hub->registry, first.id, NULL, &hub->err), &hub->err);
    assert_true(hub_claim(hub, &row));
    assert_string_equal(row.id, first.id);
    assert_null(row.waiting_for);
    assert_ok(registry_active_job(hub->registry, &hub->arena, &row, &found, &hub->err), &hub->err);
    assert_true(found);
    assert_string_equal(row.id, first.id);
    filter = (struct job_filter){.model_id = "nobody", .limit = 10};
    assert_ok(
        registry_list_jobs(hub->registry, &filter, &hub->arena, &rows, &count, &total, &hub->err),
        &hub->err);
    assert_int_equal(total, 0);
}

static void test_cancel(void **state)
{
    struct hub *hub = *state;
    struct job_row queued, running, row;
    bool cancel = false;

    hub_fill(hub);
    running = hub_job(hub);
    queued = hub_job(hub);
    assert_true(hub_claim(hub, &running));
    assert_ok(registry_cancel_job(hub->registry, queued.id, &hub->arena, &row, &hub->err),
              &hub->err);
    assert_int_equal(row.status, JOB_CANCELLED);
    assert_non_null(row.completed_at);
    assert_int_equal(registry_cancel_job(hub->registry, queued.id, &hub->arena, &row, &hub->err),
                     -ERR_CONFLICT);
    assert_non_null(strstr(hub->err.message, "is already cancelled"));
    err_clear(&hub->err);
    assert_ok(registry_cancel_job(hub->registry, running.id, &hub->arena, &row, &hub->err),
              &hub->err);
    assert_int_equal(row.status, JOB_RUNNING);
    assert_ok(registry_job_report(hub->registry, running.id, running.fence, NULL, NULL, 0, &cancel,
                                  &hub->err),
              &hub->err);
    assert_true(cancel);
    assert_ok(registry_job_stopped(hub->registry, running.id, running.fence, &hub->err), &hub->err);
    assert_int_equal(hub_get_job(hub, running.id).status, JOB_CANCELLED);
    assert_int_equal(registry_cancel_job(hub->registry, "12345678-1234-1234-1234-123456789012",
                                         &hub->arena, &row, &hub->err),
                     -ERR_NOT_FOUND);
    assert_string_equal(hub->err.message,
                        "Training job 12345678-1234-1234-1234-123456789012 not found");
    err_clear(&hub->err);
}

static void test_resume(void **state)
{
    struct hub *hub = *state;
    struct job_row job, row;

    hub_fill(hub);
    job = hub_job(hub);
    assert_err(registry_resume_job(hub->registry, job.id, 0, &hub->arena, &row, &hub->err),
               &hub->err, ERR_CONFLICT);
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_job_fail(hub->registry, job.id, job.fence, "boom", &hub->err), &hub->err);
    assert_ok(registry_resume_job(hub->registry, job.id, 0, &hub->arena, &row, &hub->err),
              &hub->err);
    assert_string_equal(row.resumed_from, job.id);
    assert_string_equal(row.config, job.config);
    assert_int_equal(row.status, JOB_QUEUED);
    assert_true(row.seq > job.seq);
    assert_ok(registry_cancel_job(hub->registry, row.id, &hub->arena, &row, &hub->err), &hub->err);
    assert_ok(registry_delete_dataset(hub->registry, hub->dataset, &hub->err), &hub->err);
    assert_err(registry_resume_job(hub->registry, job.id, 0, &hub->arena, &row, &hub->err),
               &hub->err, ERR_CONFLICT);
}

static void test_other_kinds(void **state)
{
    struct hub *hub = *state;
    struct job_row job, row;

    hub_fill(hub);
    assert_ok(registry_create_task(hub->registry,
                                   &(struct task_draft){.kind = JOB_EXPORT,
                                                        .model_id = hub->model,
                                                        .config = "{\"format\":\"peft\"}"},
                                   &hub->arena, &row, &hub->err),
              &hub->err);
    assert_err(registry_create_task(
                   hub->registry,
                   &(struct task_draft){.kind = JOB_EXPORT, .model_id = hub->model, .config = "[]"},
                   &hub->arena, &job, &hub->err),
               &hub->err, ERR_UNPROCESSABLE);
    assert_true(hub_claim(hub, &job));
    assert_int_equal(job.kind, JOB_EXPORT);
    assert_string_equal(job.config, "{\"format\":\"peft\"}");
    assert_ok(
        registry_job_complete(hub->registry, job.id, job.fence, "{\"path\":\"x\"}", &hub->err),
        &hub->err);
    job = hub_get_job(hub, job.id);
    assert_int_equal(job.status, JOB_COMPLETED);
    assert_string_equal(job.result, "{\"path\":\"x\"}");
}

static void test_allocations_fail(void **state)
{
    struct hub *hub = *state;

    hub_fill(hub);
    for (uint64_t n = 1;; n++) {
        struct job_draft draft = {hub->model, hub->dataset, NULL, 0, NULL};
        char warning[JOB_WARNING_BYTES];
        struct arena arena;
        struct job_row row, *rows = NULL;
        struct err err = {0};
        size_t count = 0;

        arena_init(&arena, 0);
        fault_arm(FAULT_MALLOC, n, false);
        int rc = registry_create_job(hub->registry, &draft, &arena, &row, warning, &err);
        bool fired = fault_fired();
        fault_disarm();
        arena_release(&arena);
        assert_ok(registry_job_queue(hub->registry, &hub->arena, &rows, &count, &hub->err),
                  &hub->err);
        assert_int_equal(count, rc == 0 ? 1 : 0);
        if (rc == 0 && !fired)
            break;
        if (rc == 0)
            assert_ok(registry_cancel_job(hub->registry, rows[0].id, &hub->arena, &row, &hub->err),
                      &hub->err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HUB_TEST(test_a_new_job),
        HUB_TEST(test_what_is_refused),
        HUB_TEST(test_starting_from_a_version),
        HUB_TEST(test_a_weak_run_is_warned_about),
        HUB_TEST(test_the_config_takes_the_bases_limits),
        HUB_TEST(test_a_dataset_that_is_not_what_it_was),
        HUB_TEST(test_queue_and_lists),
        HUB_TEST(test_cancel),
        HUB_TEST(test_resume),
        HUB_TEST(test_other_kinds),
        HUB_TEST(test_allocations_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
