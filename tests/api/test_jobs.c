/* /training over HTTP, with the test in the worker's place. */
#include <math.h>

#include "api/server.h"
#include "registry/bases.h"
#include "registry/claims.h"

#define NOBODY "11111111-2222-4333-8444-555555555555"

struct shop {
    struct hub_fixture *hub;
    struct registry *registry; /* as a worker opens it */
    struct arena arena;
    char model[64], dataset[64];
};

static int setup(void **state)
{
    static const struct base_facts facts = {"gguf", "llama", 1000, "F32", 256, NULL, NULL};
    struct shop *shop = calloc(1, sizeof *shop);
    struct err err = {0};
    struct base_row row;
    char path[FS_PATH_BYTES_MAX + 64];

    assert_non_null(shop);
    shop->hub = hub_make();
    hub_start(shop->hub, false);
    arena_init(&shop->arena, 0);
    const struct registry_options options = {.database_url = shop->hub->settings.database_url,
                                             .base_path = shop->hub->dir};
    assert_ok(registry_open(&shop->registry, &options, &err), &err);
    hub_write(shop->hub, "weights.gguf", "weights");
    snprintf(path, sizeof path, "%s/weights.gguf", shop->hub->dir);
    assert_ok(registry_import_base(shop->registry, path, "org/base", &facts, NULL, NULL,
                                   &shop->arena, &row, &err),
              &err);
    hub_write(shop->hub, "datasets/a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n");
    make(shop->hub, "/models", "{\"name\":\"M\",\"base_model\":\"org/base\"}", shop->model);
    make(shop->hub, "/datasets", "{\"name\":\"D\",\"path\":\"a.jsonl\"}", shop->dataset);
    *state = shop;
    return 0;
}

static int teardown(void **state)
{
    struct shop *shop = *state;
    void *hub = shop->hub;

    registry_close(shop->registry);
    arena_release(&shop->arena);
    hub_teardown(&hub);
    free(shop);
    return 0;
}

static void job_body(const struct shop *shop, const char *config, char body[512])
{
    snprintf(body, 512, "{\"model_id\":\"%s\",\"dataset_id\":\"%s\"%s%s}", shop->model,
             shop->dataset, config[0] != '\0' ? ",\"config\":" : "", config);
}

static void submit(struct shop *shop, char id[64])
{
    char body[512];

    job_body(shop, "{\"epochs\":1}", body);
    make(shop->hub, "/training/jobs", body, id);
}

static void claim(struct shop *shop, struct job_row *row)
{
    const struct job_worker worker = {.is_child = false, .boot_id = "test", .pid = getpid()};
    struct err err = {0};
    bool claimed = false;

    assert_ok(registry_claim_job(shop->registry, &worker, &shop->arena, row, &claimed, &err), &err);
    assert_true(claimed);
}

static void a_job_is_queued_seen_cancelled_and_resumed(void **state)
{
    struct shop *shop = *state;
    char body[512];
    char path[128];
    char id[64];

    job_body(shop, "", body);
    json_t *job = call(shop->hub, "POST", "/training/jobs", body, 201);
    assert_members(job, "id kind model_id dataset_id model_version_id status config error_message "
                        "waiting_for resumed_from created_at started_at completed_at heartbeat_at "
                        "progress result");
    assert_members(json_object_get(job, "progress"),
                   "step steps epoch loss val_loss learning_rate tokens_per_second memory_bytes "
                   "eta_seconds bytes_per_second");
    assert_string_equal(member(job, "status"), "queued");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(job, "config"), "seed")),
                     42);
    snprintf(id, sizeof id, "%s", member(job, "id"));
    json_decref(job);

    job = call(shop->hub, "GET", "/training/queue", NULL, 200);
    assert_int_equal(json_array_size(job), 1);
    json_decref(job);
    struct answer answer;
    assert_int_equal(call_raw(shop->hub, "GET", "/training/active", "", NULL, &answer), 200);
    assert_string_equal(answer.body, "null");
    answer_free(&answer);
    snprintf(path, sizeof path, "/training/jobs?status=queued&model_id=%s", shop->model);
    job = call(shop->hub, "GET", path, NULL, 200);
    assert_int_equal(json_array_size(job), 1);
    json_decref(job);
    snprintf(path, sizeof path, "/datasets/%s", shop->dataset);
    call_refused(shop->hub, "DELETE", path, NULL, 409,
                 "Dataset 'D' is needed by a queued or running job");
    snprintf(path, sizeof path, "/models/%s", shop->model);
    call_refused(shop->hub, "DELETE", path, NULL, 409,
                 "Model 'M' has a queued or running job: cancel it first");

    snprintf(path, sizeof path, "/training/jobs/%s/resume", id);
    char detail[256];
    snprintf(detail, sizeof detail,
             "Training job %s is queued: only a failed or cancelled one can be resumed", id);
    call_refused(shop->hub, "POST", path, NULL, 409, detail);
    snprintf(path, sizeof path, "/training/jobs/%s/cancel", id);
    job = call(shop->hub, "POST", path, NULL, 200);
    assert_string_equal(member(job, "status"), "cancelled");
    json_decref(job);
    snprintf(detail, sizeof detail, "Training job %s is already cancelled", id);
    call_refused(shop->hub, "POST", path, NULL, 409, detail);
    snprintf(path, sizeof path, "/training/jobs/%s/resume", id);
    job = call(shop->hub, "POST", path, NULL, 201);
    assert_string_equal(member(job, "resumed_from"), id);
    json_decref(job);
}

static void bad_requests_are_told_what_is_wrong(void **state)
{
    static const struct {
        const char *config; /* or NULL: `body` is all */
        const char *body;
        int status;
        const char *detail;
    } rows[] = {
        {NULL, "{}", 422, "body.model_id: Field required"},
        {NULL, "{\"model_id\":\"x\",\"dataset_id\":\"" NOBODY "\"}", 422,
         "body.model_id: Input should be a valid UUID"},
        {NULL, "{\"model_id\":\"" NOBODY "\",\"dataset_id\":\"" NOBODY "\"}", 404,
         "Model " NOBODY " not found"},
        {"7", NULL, 422, "body.config: Input should be a valid object"},
    };
    struct shop *shop = *state;
    char body[512];
    char other[64];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].config != NULL)
            job_body(shop, rows[i].config, body);
        call_refused(shop->hub, "POST", "/training/jobs",
                     rows[i].config != NULL ? body : rows[i].body, rows[i].status, rows[i].detail);
    }
    static const char *const configs[][2] = {{"{\"lora_rnk\":4}", "lora_rnk"},
                                             {"{\"epochs\":\"many\"}", "epochs"},
                                             {"{\"learning_rate\":-1}", "learning_rate"},
                                             {"{\"lr_schedule\":\"steep\"}", "lr_schedule"}};
    for (size_t i = 0; i < 4; i++) {
        struct answer answer;
        job_body(shop, configs[i][0], body);
        assert_int_equal(call_raw(shop->hub, "POST", "/training/jobs",
                                  "Content-Type: application/json\r\n", body, &answer),
                         422);
        assert_non_null(strstr(answer.body, configs[i][1]));
        assert_non_null(strstr(answer.body, "\"loc\":[\"body\",\"config\"]"));
        answer_free(&answer);
    }
    snprintf(body, sizeof body, "{\"model_id\":\"%s\",\"dataset_id\":\"" NOBODY "\"}", shop->model);
    call_refused(shop->hub, "POST", "/training/jobs", body, 404, "Dataset " NOBODY " not found");
    make(shop->hub, "/models", "{\"name\":\"W\",\"base_model\":\"org/away\"}", other);
    snprintf(body, sizeof body, "{\"model_id\":\"%s\",\"dataset_id\":\"%s\"}", other,
             shop->dataset);
    call_refused(
        shop->hub, "POST", "/training/jobs", body, 409,
        "The weights of 'org/away' are missing; run: mlx-hub import PATH --as org/away, or mlx-hub "
        "pull org/away");
    call_refused(shop->hub, "GET", "/training/jobs/" NOBODY, NULL, 404,
                 "Training job " NOBODY " not found");
    call_refused(shop->hub, "GET", "/training/jobs/" NOBODY "/events", NULL, 404,
                 "Training job " NOBODY " not found");
    call_refused(shop->hub, "GET", "/training/jobs/" NOBODY "/logs", NULL, 404,
                 "Training job " NOBODY " not found");
    call_refused(shop->hub, "GET", "/training/jobs?status=asleep", NULL, 422,
                 "query.status: Input should be 'queued', 'running', 'completed', 'failed' or "
                 "'cancelled'");
    json_t *list = call(shop->hub, "GET", "/training/jobs", NULL, 200);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
}

static void a_job_that_can_never_fit_is_refused(void **state)
{
    struct shop *shop = *state;
    struct err err = {0};
    struct db *db;
    struct db_stmt *stmt;
    char body[512];

    assert_ok(db_acquire(registry_pool(shop->registry), &db, &err), &err);
    assert_ok(db_query(db, "test", "UPDATE base_models SET bytes = 1073741824", &stmt, &err), &err);
    assert_ok(db_run(stmt, NULL, &err), &err);
    db_give_back(db);
    job_body(shop, "", body);
    call_refused(shop->hub, "POST", "/training/jobs", body, 422,
                 "body: Training on 'org/base' needs more than its 1.00 GB of weights and the "
                 "memory limit is 0.50 GB");
}

/* The queued export ends: its result is the job's, and a node of the model's lineage. */
static void check_export(struct shop *shop)
{
    struct err err = {0};
    struct job_row row;
    char url[256];
    bool found = false;
    size_t i;
    const json_t *node;

    claim(shop, &row);
    assert_int_equal(row.kind, JOB_EXPORT);
    assert_ok(registry_job_complete(shop->registry, row.id, row.fence,
                                    "{\"format\":\"gguf\",\"sha256\":\"12\",\"path\":\"/x\"}",
                                    &err),
              &err);
    snprintf(url, sizeof url, "/training/jobs/%s", row.id);
    json_t *job = call(shop->hub, "GET", url, NULL, 200);
    assert_string_equal(member(json_object_get(job, "result"), "path"), "/x");
    json_decref(job);
    snprintf(url, sizeof url, "/models/%s/lineage", shop->model);
    json_t *lineage = call(shop->hub, "GET", url, NULL, 200);
    json_array_foreach(json_object_get(lineage, "nodes"), i, node)
    {
        found = found || strcmp(member(node, "kind"), "export") == 0;
    }
    assert_true(found);
    json_decref(lineage);
}

static void bases_are_quantised_by_a_job(void **state)
{
    static const struct {
        const char *base, *body;
        int status;
        const char *says;
    } rows[] = {
        {"org/base", "{}", 422, "body.as: Field required"},
        {"org/base", "{\"as\":\"x\",\"bits\":5}", 422,
         "body: bits must be 4 or 8 and group_size 32, 64 or 128"},
        {"org/base", "{\"as\":\"x\",\"group_size\":33}", 422,
         "body: bits must be 4 or 8 and group_size 32, 64 or 128"},
        {"org/none", "{\"as\":\"x\"}", 404, "Base model org/none not found"},
        {"org/base", "{\"as\":\"org/base\"}", 409, "Base model 'org/base' already exists"},
    };
    struct shop *shop = *state;
    char url[256], says[256];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(url, sizeof url, "/base-models/%s/quantize", rows[i].base);
        call_refused(shop->hub, "POST", url, rows[i].body, rows[i].status, rows[i].says);
    }
    json_t *job = call(shop->hub, "POST", "/base-models/org/base/quantize",
                       "{\"as\":\"org/small\",\"bits\":8}", 202);
    assert_string_equal(member(job, "kind"), "quantize");
    assert_true(json_is_null(json_object_get(job, "result")));
    snprintf(says, sizeof says,
             "Job %s is about to make a base model 'org/small': wait for it, cancel it, or choose "
             "another name",
             member(job, "id"));
    call_refused(shop->hub, "POST", "/base-models/org/base/quantize", "{\"as\":\"org/small\"}", 409,
                 says);
    json_decref(job);
}

/* An evaluation counts rows: they are no optimizer steps. (Counters are the process's: before any
 * job here that trains.) */
static void check_no_training(struct shop *shop, const struct job_row *row)
{
    const struct job_progress progress = {40, 46, 0.9, 2.5, NAN, 0, 100, 1 << 20, 60, NAN};
    struct err err = {0};
    struct answer page;

    assert_ok(
        registry_job_report(shop->registry, row->id, row->fence, &progress, NULL, 0, NULL, &err),
        &err);
    assert_int_equal(call_raw(shop->hub, "GET", "/metrics", "", NULL, &page), 200);
    assert_non_null(strstr(page.body, "\ntraining_jobs_in_progress 0\n"));
    assert_null(strstr(page.body, "\ntraining_steps_total 40\n"));
    answer_free(&page);
}

/* What a running job tells is in its row, and in the metrics. */
static void a_running_job_is_measured(void **state)
{
    static const char *const lines[] = {
        "\ntraining_jobs_in_progress 1\n",  "\ntraining_loss 2.5\n",
        "\ntraining_steps_total 40\n",      "\ntraining_tokens_per_second 100\n",
        "\ntraining_learning_rate 0.001\n", "\ntraining_memory_bytes 1048576\n",
        "\ntraining_eta_seconds 60\n"};
    const struct job_progress progress = {40, 46, 0.9, 2.5, NAN, 1e-3, 100, 1 << 20, 60, NAN};
    struct shop *shop = *state;
    struct err err = {0};
    struct answer page;
    struct job_row row;
    char id[64];

    submit(shop, id);
    claim(shop, &row);
    assert_ok(
        registry_job_report(shop->registry, row.id, row.fence, &progress, NULL, 0, NULL, &err),
        &err);
    assert_int_equal(call_raw(shop->hub, "GET", "/metrics", "", NULL, &page), 200);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (strstr(page.body, lines[i]) == NULL)
            fail_msg("no %s", lines[i]);
    }
    answer_free(&page);
}

static void jobs_about_a_version(void **state)
{
    struct shop *shop = *state;
    struct err err = {0};
    struct job_row row;
    struct version_row version;
    char id[64], path[FS_PATH_BYTES_MAX], url[256], body[128], limited[256];
    const struct version_result result = {"{}", "0123"};

    submit(shop, id);
    claim(shop, &row);
    assert_ok(
        registry_job_version(shop->registry, row.id, row.fence, &shop->arena, &version, path, &err),
        &err);
    snprintf(url, sizeof url, "/models/%s/versions/1.0.0/reproduce", shop->model);
    call_refused(shop->hub, "POST", url, NULL, 409, "Version 1.0.0 is training");
    assert_ok(fs_mkdirs(path, &err), &err);
    assert_ok(registry_job_publish(shop->registry, row.id, row.fence, &result, &err), &err);

    json_t *job = call(shop->hub, "POST", url, NULL, 202);
    assert_string_equal(member(job, "kind"), "reproduce");
    assert_string_equal(member(job, "model_version_id"), version.id);
    json_decref(job);
    snprintf(url, sizeof url, "/models/%s/versions/1.0.0/evaluate", shop->model);
    snprintf(body, sizeof body, "{\"dataset_id\":\"%s\"}", shop->dataset);
    job = call(shop->hub, "POST", url, body, 202);
    assert_string_equal(member(job, "kind"), "evaluate");
    assert_string_equal(member(job, "dataset_id"), shop->dataset);
    json_decref(job);
    snprintf(limited, sizeof limited,
             "{\"dataset_id\":\"%s\",\"max_seq_length\":16,\"mask_prompt\":true}", shop->dataset);
    job = call(shop->hub, "POST", url, limited, 202);
    const json_t *config = json_object_get(job, "config");
    assert_int_equal(json_integer_value(json_object_get(config, "max_seq_length")), 16);
    assert_true(json_is_true(json_object_get(config, "mask_prompt")));
    snprintf(limited, sizeof limited, "/training/jobs/%s/cancel", member(job, "id"));
    call_quiet(shop->hub, "POST", limited, NULL, 200);
    json_decref(job);
    snprintf(limited, sizeof limited, "{\"dataset_id\":\"%s\",\"max_seq_length\":7}",
             shop->dataset);
    call_quiet(shop->hub, "POST", url, limited, 422);
    call_refused(shop->hub, "POST", url, "{}", 422, "body.dataset_id: Field required");
    call_refused(shop->hub, "POST", url, "{\"dataset_id\":\"" NOBODY "\"}", 404,
                 "Dataset " NOBODY " not found");
    hub_write(shop->hub, "datasets/a.jsonl", "{\"text\":\"other\"}\n");
    call_quiet(shop->hub, "POST", url, body, 409);
    hub_write(shop->hub, "datasets/a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n");
    snprintf(url, sizeof url, "/models/%s/versions/7.0.0/evaluate", shop->model);
    call_quiet(shop->hub, "POST", url, body, 404);
    snprintf(url, sizeof url, "/models/%s/versions/1.0.0/export", shop->model);
    call_refused(shop->hub, "POST", url, "{}", 422, "body.format: Field required");
    call_refused(shop->hub, "POST", url, "{\"format\":\"gguf\",\"merge\":false}", 400,
                 "An export as gguf is a whole model: merge cannot be false");
    call_refused(shop->hub, "POST", url, "{\"format\":\"peft\",\"merge\":true}", 400,
                 "An export as peft is an adapter: merge cannot be true");
    job = call(shop->hub, "POST", url, "{\"format\":\"gguf\"}", 202);
    assert_string_equal(member(job, "kind"), "export");
    assert_true(json_is_true(json_object_get(json_object_get(job, "config"), "merge")));
    json_decref(job);
    /* A version that a job is about stays. */
    snprintf(url, sizeof url, "/models/%s/versions/1.0.0", shop->model);
    call_quiet(shop->hub, "DELETE", url, NULL, 409);

    claim(shop, &row);
    assert_int_equal(row.kind, JOB_REPRODUCE);
    assert_ok(registry_job_complete(shop->registry, row.id, row.fence, "{\"pass\":true}", &err),
              &err);
    claim(shop, &row);
    assert_int_equal(row.kind, JOB_EVALUATE);
    check_no_training(shop, &row);
    assert_ok(registry_job_complete(shop->registry, row.id, row.fence, "{\"loss\":2.5}", &err),
              &err);
    check_export(shop);
    json_t *now = call(shop->hub, "GET", url, NULL, 200);
    const json_t *list = json_object_get(now, "evaluations");
    assert_int_equal(json_array_size(list), 3);
    assert_true(json_is_true(json_object_get(json_array_get(list, 0), "pass")));
    assert_true(json_real_value(json_object_get(json_array_get(list, 1), "loss")) == 2.5);
    json_decref(now);
    snprintf(url, sizeof url, "/models/%s/lineage", shop->model);
    now = call(shop->hub, "GET", url, NULL, 200);
    assert_int_equal(json_array_size(json_object_get(now, "nodes")), 9);
    json_decref(now);
}

/* Reads on until the stream has said `text`. */
static void wait_for_text(struct client *client, const char *text)
{
    while (strstr(client->data, text) == NULL)
        assert_true(client_more(client));
}

static void events_tell_a_job_from_queue_to_end(void **state)
{
    static const struct metric_row points[] = {{"loss", 1, 2.5, "2026-01-01T00:00:00Z"},
                                               {"val_loss", 1, 3.5, "2026-01-01T00:00:00Z"}};
    struct shop *shop = *state;
    const struct job_progress progress = {.step = 1, .steps = 4, .loss = 2.5};
    struct err err = {0};
    struct job_row row;
    struct client client;
    char id[64];
    char text[512];

    submit(shop, id);
    snprintf(text, sizeof text, "GET /training/jobs/%s/events HTTP/1.1\r\n" HOST "\r\n", id);
    client_open(&client, shop->hub->port);
    client_send(&client, text);
    wait_for_text(&client, "text/event-stream");
    wait_for_text(&client, "event: status\ndata: {\"status\":\"queued\"");
    wait_for_text(&client, "event: step\ndata: {\"step\":0,");
    claim(shop, &row);
    wait_for_text(&client, "event: status\ndata: {\"status\":\"running\"");
    char dir[FS_PATH_BYTES_MAX + 128];
    snprintf(dir, sizeof dir, "%s/artifacts/jobs/%s", shop->hub->dir, id);
    assert_ok(fs_mkdirs(dir, &err), &err);
    snprintf(text, sizeof text, "artifacts/jobs/%s/train.log", id);
    hub_write(shop->hub, text, "first line\nhalf");
    wait_for_text(&client, "event: log\ndata: {\"line\":\"first line\"}");
    assert_ok(registry_job_report(shop->registry, id, row.fence, &progress, points, 2, NULL, &err),
              &err);
    wait_for_text(&client, "event: loss\ndata: {\"step\":1,\"loss\":2.5}");
    wait_for_text(&client, "event: eval\ndata: {\"step\":1,\"val_loss\":3.5}");
    wait_for_text(&client, "event: step\ndata: {\"step\":1,\"steps\":4,");
    assert_ok(registry_job_fail(shop->registry, id, row.fence, "no luck", &err), &err);
    wait_for_text(&client, "\"error_message\":\"no luck\"");
    wait_for_text(&client, "\r\n0\r\n"); /* the end of the stream */
    client_close(&client);

    snprintf(text, sizeof text, "/training/jobs/%s/metrics", id);
    json_t *series = call(shop->hub, "GET", text, NULL, 200);
    const json_t *loss = json_object_get(json_object_get(series, "series"), "loss");
    assert_int_equal(json_array_size(loss), 1);
    json_decref(series);
    struct answer answer;
    snprintf(text, sizeof text, "/training/jobs/%s/logs", id);
    assert_int_equal(call_raw(shop->hub, "GET", text, "", NULL, &answer), 200);
    assert_string_equal(answer.body, "first line\nhalf");
    answer_free(&answer);
    submit(shop, id); /* one without a log yet */
    snprintf(text, sizeof text, "/training/jobs/%s/logs", id);
    assert_int_equal(call_raw(shop->hub, "GET", text, "", NULL, &answer), 200);
    assert_int_equal(answer.body_bytes, 0);
    answer_free(&answer);
}

static void streams_do_not_hold_up_the_end(void **state)
{
    struct shop *shop = *state;
    struct client clients[20]; /* more than there are worker threads */
    char id[64];
    char text[512];

    submit(shop, id);
    snprintf(text, sizeof text, "GET /training/jobs/%s/events HTTP/1.1\r\n" HOST "\r\n", id);
    for (size_t i = 0; i < 20; i++) {
        client_open(&clients[i], shop->hub->port);
        client_send(&clients[i], text);
    }
    for (size_t i = 0; i < 20; i++)
        wait_for_text(&clients[i], "event: status");
    call_quiet(shop->hub, "GET", "/models", NULL, 200);
    serve_stop(shop->hub->serve, 60000);
    shop->hub->serve = NULL;
    for (size_t i = 0; i < 20; i++) {
        wait_for_text(&clients[i], "\r\n0\r\n");
        client_close(&clients[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_job_is_queued_seen_cancelled_and_resumed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(bad_requests_are_told_what_is_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(a_job_that_can_never_fit_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(jobs_about_a_version, setup, teardown),
        cmocka_unit_test_setup_teardown(a_running_job_is_measured, setup, teardown),
        cmocka_unit_test_setup_teardown(bases_are_quantised_by_a_job, setup, teardown),
        cmocka_unit_test_setup_teardown(events_tell_a_job_from_queue_to_end, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_do_not_hold_up_the_end, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
