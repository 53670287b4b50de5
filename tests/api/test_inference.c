/* Base models, inference and training over HTTP, with a tiny real model and real children. */
#include "api/server.h"

#define NOBODY "11111111-2222-4333-8444-555555555555"
#define BASE   "tests/fixtures/train/base"

enum { JOB_POLLS_MAX = 1200 };

static int setup(void **state)
{
    struct hub_fixture *hub = hub_make();

    assert_non_null(getenv("MLX_HUB_BINARY"));
    hub_start(hub, true);
    call_quiet(hub, "POST", "/base-models/import", "{\"path\":\"" BASE "\",\"as\":\"org/tiny\"}",
               201);
    *state = hub;
    return 0;
}

static void a_base_is_imported_listed_and_deleted(void **state)
{
    struct hub_fixture *hub = *state;
    json_t *base = call(hub, "GET", "/base-models/org/tiny", NULL, 200);
    char id[64];

    assert_members(base, "id format architecture parameters quantization context_length bytes "
                         "sha256 source memory_bytes fits created_at");
    assert_string_equal(member(base, "architecture"), "llama");
    assert_true(json_is_true(json_object_get(base, "fits")));
    json_decref(base);
    call_quiet(hub, "POST", "/base-models/import", "{\"path\":\"" BASE "\",\"as\":\"org/tiny\"}",
               200);
    call_quiet(hub, "POST", "/base-models/import", "{\"path\":\"" BASE "\",\"as\":\"twin\"}", 201);
    base = call(hub, "GET", "/base-models", NULL, 200);
    assert_int_equal(json_array_size(base), 2);
    json_decref(base);
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 1);
    make(hub, "/models", "{\"name\":\"M\",\"base_model\":\"org/tiny\"}", id);
    call_refused(hub, "DELETE", "/base-models/org/tiny", NULL, 409,
                 "Base model 'org/tiny' is used by model 'M'");
    call_quiet(hub, "DELETE", "/base-models/twin", NULL, 204);
    call_refused(hub, "GET", "/base-models/twin", NULL, 404, "Base model twin not found");
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 1);
}

static void bad_imports_leave_nothing(void **state)
{
    static const struct {
        const char *body;
        int status;
        const char *part;
    } rows[] = {
        {"{\"path\":\"/nowhere/x.gguf\",\"as\":\"x\"}", 400,
         "\"Base model file not found: /nowhere/x.gguf\""},
        {"{\"path\":\"" BASE "\",\"as\":\"a/b/c\"}", 422, "as"},
        {"{\"path\":\"" BASE "\"}", 422, "Field required"},
        {"{\"path\":\"tests/api/server.h\",\"as\":\"x\"}", 400, "detail"},
        {"{\"path\":\"tests/fixtures/formats/dequant.gguf\",\"as\":\"x\"}", 400, "detail"},
        {"{\"path\":\"tests/api\",\"as\":\"x\"}", 400, "detail"},
        {"{\"path\":\"tests/fixtures/engine/serve/q4_0.gguf\",\"as\":\"org/tiny\"}", 409,
         "Base model 'org/tiny' already exists"},
    };
    struct hub_fixture *hub = *state;
    struct answer answer;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const int status = call_raw(hub, "POST", "/base-models/import",
                                    "Content-Type: application/json\r\n", rows[i].body, &answer);
        if (status != rows[i].status || strstr(answer.body, rows[i].part) == NULL)
            fail_msg("%s: %d %s", rows[i].body, status, answer.body);
        answer_free(&answer);
    }
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 1);
}

/* The concatenated tokens of an SSE answer; *events counts them. */
static void stream_text(const char *body, char *out, size_t out_bytes, int *events)
{
    struct err err = {0};
    size_t n = 0;

    *events = 0;
    out[0] = '\0';
    for (const char *at = strstr(body, "event: token\ndata: "); at != NULL;
         at = strstr(at + 1, "event: token\ndata: ")) {
        const char *data = at + strlen("event: token\ndata: ");
        json_t *event = json_parse(data, strcspn(data, "\n"), &err);
        assert_non_null(event);
        assert_true((json_object_get(event, "ttft") != NULL) == (*events == 0));
        n += (size_t)snprintf(out + n, out_bytes - n, "%s", member(event, "token"));
        assert_true(n < out_bytes);
        json_decref(event);
        (*events)++;
    }
}

static void a_model_answers_plainly_and_in_a_stream(void **state)
{
    struct hub_fixture *hub = *state;
    char id[64];
    char body[512];
    char text[8192];
    char streamed[8192];
    int events;
    struct answer answer;

    make(hub, "/models", "{\"name\":\"M\",\"base_model\":\"org/tiny\"}", id);
    snprintf(body, sizeof body,
             "{\"model_id\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"Who?\"}],"
             "\"max_tokens\":24,\"seed\":11,\"temperature\":1.0}",
             id);
    json_t *plain = call(hub, "POST", "/inference", body, 200);
    assert_members(plain, "text model_id version_id tokens_generated time_to_first_token "
                          "total_time tokens_per_second seed engine numerics_version");
    assert_string_equal(member(plain, "model_id"), id);
    assert_true(json_is_null(json_object_get(plain, "version_id")));
    assert_int_equal(json_integer_value(json_object_get(plain, "seed")), 11);
    snprintf(text, sizeof text, "%s", member(plain, "text"));
    const int64_t tokens = json_integer_value(json_object_get(plain, "tokens_generated"));
    json_decref(plain);

    assert_int_equal(call_raw(hub, "POST", "/inference/stream",
                              "Content-Type: application/json\r\n", body, &answer),
                     200);
    assert_non_null(strstr(answer.head, "text/event-stream"));
    stream_text(answer.body, streamed, sizeof streamed, &events);
    assert_string_equal(streamed, text);
    assert_true(events >= tokens);
    assert_false(answer.cut);
    const char *done = strstr(answer.body, "event: done\ndata: ");
    assert_non_null(done);
    done += strlen("event: done\ndata: ");
    struct err err = {0};
    json_t *end = json_parse(done, strcspn(done, "\n"), &err);
    assert_members(end, "total_tokens total_time tokens_per_second model_id version_id seed engine "
                        "numerics_version");
    assert_int_equal(json_integer_value(json_object_get(end, "total_tokens")), tokens);
    json_decref(end);
    answer_free(&answer);

    snprintf(body, sizeof body, "{\"model\":\"org/tiny\",\"prompt\":\"Once\",\"max_tokens\":4}");
    plain = call(hub, "POST", "/inference", body, 200);
    assert_string_equal(member(plain, "model_id"), "org/tiny");
    json_decref(plain);
}

static void bad_prompts_fail_before_the_stream(void **state)
{
    static const struct {
        const char *body;
        int status;
        const char *detail;
    } rows[] = {
        {"{\"prompt\":\"x\"}", 422, "body.model_id: Field required"},
        {"{\"model\":\"M\"}", 422, "body.prompt: Give either prompt or messages"},
        {"{\"model\":\"M\",\"prompt\":\"x\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
         422, "body.messages: Give either prompt or messages"},
        {"{\"model\":\"M\",\"messages\":[]}", 422,
         "body.messages: List should have at least 1 item"},
        {"{\"model\":\"M\",\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", 422,
         "body.messages[0].role: Input should be 'system', 'user', 'assistant' or 'tool'"},
        {"{\"model\":\"M\",\"prompt\":\"x\",\"temperature\":-1}", 422,
         "body.temperature: Input should be greater than or equal to 0"},
        {"{\"model\":\"M\",\"prompt\":\"x\",\"top_p\":0}", 422,
         "body.top_p: Input should be greater than 0"},
        {"{\"model\":\"M\",\"prompt\":\"x\",\"max_tokens\":0}", 422,
         "body.max_tokens: Input should be greater than or equal to 1"},
        {"{\"model\":\"M\",\"prompt\":\"x\",\"stop_sequences\":[\"\"]}", 422,
         "body.stop_sequences[0]: String should have at least 1 character"},
        {"{\"model\":\"M\",\"prompt\":\"x\",\"mood\":\"good\"}", 422,
         "body.mood: Extra inputs are not permitted"},
        {"{\"model_id\":\"M\",\"prompt\":\"x\"}", 422,
         "body.model_id: Input should be a valid UUID"},
        {"{\"model_id\":\"" NOBODY "\",\"prompt\":\"x\"}", 404, "Model " NOBODY " not found"},
        {"{\"model\":\"nobody\",\"prompt\":\"x\"}", 404, "Model 'nobody' not found"},
        {"{\"model\":\"Away\",\"prompt\":\"x\"}", 409,
         "The weights of 'org/away' are missing; run: mlx-hub import PATH --as org/away, or "
         "mlx-hub "
         "pull org/away"},
    };
    static const char *const paths[] = {"/inference", "/inference/stream"};
    struct hub_fixture *hub = *state;
    char *body = malloc(8192);
    struct answer answer;

    assert_non_null(body);
    call_quiet(hub, "POST", "/models", "{\"name\":\"M\",\"base_model\":\"org/tiny\"}", 201);
    call_quiet(hub, "POST", "/models", "{\"name\":\"Away\",\"base_model\":\"org/away\"}", 201);
    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            call_refused(hub, "POST", paths[p], rows[i].body, rows[i].status, rows[i].detail);
        size_t n = (size_t)snprintf(body, 8192, "{\"model\":\"M\",\"prompt\":\"");
        for (int i = 0; i < 1000; i++)
            n += (size_t)snprintf(body + n, 8192 - n, "x%d ", i % 10);
        snprintf(body + n, 8192 - n, "\"}");
        assert_int_equal(
            call_raw(hub, "POST", paths[p], "Content-Type: application/json\r\n", body, &answer),
            400);
        assert_non_null(strstr(answer.body, "256")); /* the context; the other is the prompt's */
        answer_free(&answer);
    }
    free(body);
}

/* Asks again until nothing is being answered. */
static void wait_until_idle(struct hub_fixture *hub)
{
    for (;;) {
        json_t *cache = call(hub, "GET", "/inference/cache", NULL, 200);
        const json_t *models = json_object_get(cache, "models");
        int64_t active = 0;
        for (size_t i = 0; i < json_array_size(models); i++)
            active +=
                json_integer_value(json_object_get(json_array_get(models, i), "active_requests"));
        json_decref(cache);
        if (active == 0)
            return;
    }
}

static void a_client_that_leaves_stops_its_work(void **state)
{
    struct hub_fixture *hub = *state;
    const char *body = "{\"model\":\"org/tiny\",\"prompt\":\"a\",\"max_tokens\":200}";
    char request[512];

    for (int i = 0; i < 8; i++) {
        struct client client;
        snprintf(request, sizeof request,
                 "POST /inference%s HTTP/1.1\r\n" HOST
                 "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                 i % 2 == 0 ? "/stream" : "", strlen(body), body);
        client_open(&client, hub->port);
        client_send(&client, request);
        if (i % 4 == 0)
            assert_true(client_more(&client));
        client_close(&client);
    }
    wait_until_idle(hub);
    json_decref(call(hub, "POST", "/inference",
                     "{\"model\":\"org/tiny\",\"prompt\":\"a\",\"max_tokens\":2}", 200));
}

/* Asks again until its process has ended. */
static void wait_until_unloaded(struct hub_fixture *hub)
{
    int64_t loaded = 1;

    while (loaded > 0) {
        json_t *cache = call(hub, "GET", "/inference/cache", NULL, 200);
        loaded = json_integer_value(json_object_get(cache, "cached_models"));
        json_decref(cache);
    }
}

static void loaded_models_are_listed_and_unloaded(void **state)
{
    struct hub_fixture *hub = *state;
    char key[128];
    char path[256];

    call_refused(hub, "DELETE", "/inference/cache/org/tiny", NULL, 404,
                 "no loaded model has the key 'org/tiny'");
    call_quiet(hub, "POST", "/inference",
               "{\"model\":\"org/tiny\",\"prompt\":\"a\",\"max_tokens\":2}", 200);
    json_t *cache = call(hub, "GET", "/inference/cache", NULL, 200);
    assert_members(cache, "cached_models max_models total_memory_gb max_memory_gb models");
    assert_int_equal(json_integer_value(json_object_get(cache, "cached_models")), 1);
    const json_t *model = json_array_get(json_object_get(cache, "models"), 0);
    assert_string_equal(member(model, "base_model"), "org/tiny");
    snprintf(key, sizeof key, "%s", member(model, "key"));
    json_decref(cache);
    snprintf(path, sizeof path, "/inference/cache/%s", key);
    call_quiet(hub, "DELETE", path, NULL, 204);
    wait_until_unloaded(hub);
    call_quiet(hub, "POST", "/inference",
               "{\"model\":\"org/tiny\",\"prompt\":\"a\",\"max_tokens\":2}", 200);
    call_quiet(hub, "DELETE", "/inference/cache/org/tiny", NULL, 204);
    call_quiet(hub, "DELETE", "/inference/cache", NULL, 204);
}

static void text_is_tokenized_and_back(void **state)
{
    struct hub_fixture *hub = *state;
    char body[4096];
    json_t *answer = call(hub, "POST", "/tokenize",
                          "{\"model\":\"org/tiny\",\"content\":\"What does she keep?\"}", 200);
    char *tokens = json_dumps(json_object_get(answer, "tokens"), JSON_COMPACT);

    assert_true(json_array_size(json_object_get(answer, "tokens")) > 2);
    json_decref(answer);
    snprintf(body, sizeof body, "{\"model\":\"org/tiny\",\"tokens\":%s,\"else\":1}", tokens);
    mem_free(tokens);
    answer = call(hub, "POST", "/detokenize", body, 200);
    assert_string_equal(member(answer, "content"), "What does she keep?");
    json_decref(answer);
    answer = call(hub, "POST", "/tokenize",
                  "{\"model\":\"org/tiny\",\"content\":\"a\",\"with_pieces\":true}", 200);
    assert_members(json_array_get(json_object_get(answer, "tokens"), 0), "id piece");
    json_decref(answer);
    answer =
        call(hub, "POST", "/apply-template",
             "{\"model\":\"org/tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}", 200);
    assert_non_null(strstr(member(answer, "prompt"), "Hi"));
    json_decref(answer);
    call_quiet(hub, "POST", "/tokenize", "{\"model\":\"no\",\"content\":\"a\"}", 404);
}

/* Clients of llama.cpp's server, which has one model, name none. */
static void without_a_name_the_only_model_is_meant(void **state)
{
    static const char plain[] = "{\"content\":\"What?\"}";
    struct hub_fixture *hub = *state;
    json_t *only = call(hub, "POST", "/tokenize", plain, 200); /* none is loaded, one is there */
    json_t *loaded = call(hub, "POST", "/tokenize", plain, 200);
    json_t *named =
        call(hub, "POST", "/tokenize", "{\"model\":\"org/tiny\",\"content\":\"What?\"}", 200);

    assert_true(json_equal(only, named) && json_equal(loaded, named));
    json_decref(only);
    json_decref(loaded);
    json_decref(named);
    call_quiet(hub, "POST", "/detokenize", "{\"tokens\":[5]}", 200);
    call_quiet(hub, "POST", "/apply-template",
               "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}", 200);
    call_quiet(hub, "POST", "/base-models/import", "{\"path\":\"" BASE "\",\"as\":\"org/two\"}",
               201);
    call_quiet(hub, "POST", "/tokenize", plain, 200);
    call_quiet(hub, "DELETE", "/inference/cache", NULL, 204);
    wait_until_unloaded(hub);
    json_t *answer = call(hub, "POST", "/tokenize", plain, 400);
    const json_t *error = json_object_get(answer, "error");
    assert_string_equal(member(error, "type"), "invalid_request_error");
    assert_string_equal(member(error, "message"),
                        "'model' is required: none is loaded, and there are 2");
    json_decref(answer);
}

static void job_of(struct hub_fixture *hub, const char *id, const char *until, char version[64])
{
    char path[128];
    char status[32] = "";

    snprintf(path, sizeof path, "/training/jobs/%s", id);
    for (int i = 0; i < JOB_POLLS_MAX && strcmp(status, until) != 0; i++) {
        json_t *job = call(hub, "GET", path, NULL, 200);
        snprintf(status, sizeof status, "%s", member(job, "status"));
        snprintf(version, 64, "%s", member(job, "model_version_id"));
        if (strcmp(status, "failed") == 0 && strcmp(until, "failed") != 0)
            fail_msg("job failed: %s", member(job, "error_message"));
        json_decref(job);
        usleep(50000);
    }
    assert_string_equal(status, until);
}

static void a_job_is_trained_published_and_answers(void **state)
{
    struct hub_fixture *hub = *state;
    char model[64];
    char dataset[64];
    char job[64];
    char version[64];
    char body[1024];
    struct buf rows;
    struct err err = {0};
    char file[FS_PATH_BYTES_MAX + 64];

    buf_init(&rows, 1 << 20);
    assert_ok(fs_read_file("tests/fixtures/train/dataset.jsonl", 1 << 20, &rows, &err), &err);
    snprintf(file, sizeof file, "%s/datasets/d.jsonl", hub->dir);
    assert_ok(fs_write_file(file, rows.data, rows.len, &err), &err);
    buf_release(&rows);
    make(hub, "/models", "{\"name\":\"M\",\"base_model\":\"org/tiny\"}", model);
    make(hub, "/datasets", "{\"name\":\"D\",\"path\":\"d.jsonl\"}", dataset);
    snprintf(body, sizeof body,
             "{\"model_id\":\"%s\",\"dataset_id\":\"%s\",\"config\":{\"lora_rank\":4,"
             "\"lora_alpha\":8,\"learning_rate\":0.01,\"max_steps\":6,\"batch_size\":2,"
             "\"max_seq_length\":96,\"val_fraction\":0}}",
             model, dataset);
    make(hub, "/training/jobs", body, job);
    job_of(hub, job, "completed", version);

    snprintf(body, sizeof body, "/models/%s/versions", model);
    json_t *list = call(hub, "GET", body, NULL, 200);
    const json_t *row = json_array_get(list, 0);
    assert_members(row, "id model_id version number status metrics evaluations notes artifact_path "
                        "checksum mlflow_run_id aliases created_at");
    assert_string_equal(member(row, "id"), version);
    assert_string_equal(member(row, "status"), "ready");
    json_decref(list);

    snprintf(body, sizeof body,
             "{\"model_id\":\"%s\",\"prompt\":\"What does Tomas keep?\",\"max_tokens\":8,"
             "\"temperature\":0}",
             model);
    json_t *answer = call(hub, "POST", "/inference", body, 200);
    assert_string_equal(member(answer, "version_id"), version);
    json_decref(answer);
    snprintf(body, sizeof body, "/models/%s/versions/1.0.0", model);
    answer = call(hub, "PATCH", body, "{\"aliases\":[\"production\"],\"notes\":\"good\"}", 200);
    assert_string_equal(member(answer, "notes"), "good");
    json_decref(answer);
    call_refused(hub, "PATCH", body, "{\"aliases\":[\"latest\"]}", 422,
                 "body: alias 'latest' is reserved: it is the newest ready version");
    call_refused(hub, "PATCH", body, "{\"status\":\"training\"}", 422,
                 "body.status: Input should be 'ready' or 'archived'");
    call_quiet(hub, "POST", "/inference",
               "{\"model\":\"M:production\",\"prompt\":\"x\",\"max_tokens\":2}", 200);
    snprintf(body, sizeof body, "/training/jobs/%s/metrics?name=loss", job);
    answer = call(hub, "GET", body, NULL, 200);
    assert_int_equal(json_array_size(json_object_get(json_object_get(answer, "series"), "loss")),
                     6);
    json_decref(answer);
    struct answer page;
    assert_int_equal(call_raw(hub, "GET", "/metrics", "", NULL, &page), 200);
    assert_non_null(strstr(page.body, "training_jobs_total{status=\"completed\"} 1"));
    assert_non_null(strstr(page.body, "\ntraining_steps_total 6\n"));
    assert_non_null(strstr(page.body, "inference_requests_total{model=\"M\",outcome=\"ok\"}"));
    answer_free(&page);
    snprintf(body, sizeof body, "/models/%s", model);
    call_quiet(hub, "DELETE", body, NULL, 204);
    assert_int_equal(hub_entries(hub, "models"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_base_is_imported_listed_and_deleted, setup, hub_teardown),
        cmocka_unit_test_setup_teardown(bad_imports_leave_nothing, setup, hub_teardown),
        cmocka_unit_test_setup_teardown(a_model_answers_plainly_and_in_a_stream, setup,
                                        hub_teardown),
        cmocka_unit_test_setup_teardown(bad_prompts_fail_before_the_stream, setup, hub_teardown),
        cmocka_unit_test_setup_teardown(a_client_that_leaves_stops_its_work, setup, hub_teardown),
        cmocka_unit_test_setup_teardown(loaded_models_are_listed_and_unloaded, setup, hub_teardown),
        cmocka_unit_test_setup_teardown(text_is_tokenized_and_back, setup, hub_teardown),
        cmocka_unit_test_setup_teardown(without_a_name_the_only_model_is_meant, setup,
                                        hub_teardown),
        cmocka_unit_test_setup_teardown(a_job_is_trained_published_and_answers, setup,
                                        hub_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
