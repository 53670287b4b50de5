/* One memory limit for models and training: a job that can never fit is refused when submitted, a
 * model that is idle goes for one that fits without it. (A worker refuses a limit as small as
 * these, so none of the jobs runs here.) */
#include "api/memory.h"
#include "api/server.h"
#include "base/clock.h"
#include "registry/bases.h"
#include "train/train.h"

#define BASE   "tests/fixtures/train/base"
#define CONFIG "{\"max_steps\":2,\"lora_rank\":4}"

enum { POLLS_MAX = 600, POLL_MS = 50, ROOM = 100000 /* for the rows */ };

static uint64_t needed_by(const char *text, int threads)
{
    struct train_config config;
    struct err err = {0};
    uint64_t bytes = 0;

    assert_ok(train_config_parse_text(&config, text, &err), &err);
    assert_ok(train_estimate(BASE, &config, threads, &bytes, &err), &err);
    return bytes;
}

static uint64_t needed(const char *text)
{
    return needed_by(text, 1); /* as the fixture's hub */
}

/* A hub with a base, a model and a dataset, whose limit is set by hand. */
static struct hub_fixture *open_hub_of(int threads, double limit_bytes, char model[64],
                                       char dataset[64])
{
    struct hub_fixture *hub = hub_make();

    hub->settings.threads = threads;
    hub->settings.memory_limit_gb = limit_bytes / 1073741824.0;
    hub_start(hub, true);
    call_quiet(hub, "POST", "/base-models/import", "{\"path\":\"" BASE "\",\"as\":\"org/tiny\"}",
               201);
    hub_write(hub, "datasets/a.jsonl", "{\"text\":\"a b c\"}\n{\"text\":\"d e f\"}\n");
    make(hub, "/models", "{\"name\":\"M\",\"base_model\":\"org/tiny\"}", model);
    make(hub, "/datasets", "{\"name\":\"D\",\"path\":\"a.jsonl\"}", dataset);
    return hub;
}

static struct hub_fixture *open_hub(double limit_bytes, char model[64], char dataset[64])
{
    return open_hub_of(1, limit_bytes, model, dataset);
}

static void body_of(const char *model, const char *dataset, const char *config, char body[512])
{
    snprintf(body, 512, "{\"model_id\":\"%s\",\"dataset_id\":\"%s\",\"config\":%s}", model, dataset,
             config);
}

static void what_never_fits_is_refused(void **state)
{
    char model[64], dataset[64], body[512];
    void *hub;

    (void)state;
    struct hub_fixture *fixture = open_hub((double)needed(CONFIG) + ROOM, model, dataset);
    hub = fixture;
    body_of(model, dataset, "{\"max_steps\":2,\"lora_rank\":64}", body);
    json_t *answer = call(fixture, "POST", "/training/jobs", body, 422);
    char *text = json_dumps(answer, 0);
    assert_non_null(strstr(text, "Training on 'org/tiny' needs "));
    assert_non_null(strstr(text, "lower max_seq_length or lora_rank"));
    mem_free(text);
    json_decref(answer);
    body_of(model, dataset, CONFIG, body);
    call_quiet(fixture, "POST", "/training/jobs", body, 201);
    hub_teardown(&hub);
}

/* Rows that this model's template refuses, and rows that are all cut off, are told before the job
 * is queued. */
static void what_cannot_be_learnt_is_refused(void **state)
{
    static const char called[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"z\"},{\"role\":\"assistant\","
        "\"content\":\"q\"}]}\n"
        "{\"messages\":[{\"role\":\"user\",\"content\":\"z\"},{\"role\":\"assistant\","
        "\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{}}}]}]}\n";
    char model[64], dataset[64], other[64], body[512], with[256];
    struct hub_fixture *fixture = open_hub((double)needed(CONFIG) + ROOM, model, dataset);
    void *hub = fixture;

    (void)state;
    hub_write(fixture, "datasets/called.jsonl", called);
    hub_write(fixture, "datasets/long.jsonl",
              "{\"prompt\":\"zzzzzzzzzzzzzzzz\",\"completion\":\"q\"}\n");
    make(fixture, "/datasets", "{\"name\":\"C\",\"path\":\"called.jsonl\"}", other);
    body_of(model, other, CONFIG, body);
    json_t *answer = call(fixture, "POST", "/training/jobs", body, 400);
    assert_non_null(
        strstr(member(answer, "detail"), "called.jsonl:2: messages[1]: template line "));
    json_decref(answer);
    make(fixture, "/datasets", "{\"name\":\"L\",\"path\":\"long.jsonl\"}", other);
    body_of(model, other, "{\"max_steps\":2,\"lora_rank\":4,\"max_seq_length\":8}", body);
    call_refused(fixture, "POST", "/training/jobs", body, 400,
                 "Dataset 'L': nothing to learn: none of its 1 rows has a target within "
                 "max_seq_length 8");
    snprintf(with, sizeof with,
             "{\"max_steps\":2,\"lora_rank\":4,\"max_seq_length\":8,\"val_dataset_id\":\"%s\"}",
             other);
    body_of(model, dataset, with, body);
    call_quiet(fixture, "POST", "/training/jobs", body, 400);
    answer = call(fixture, "GET", "/training/queue", NULL, 200);
    assert_int_equal(json_array_size(answer), 0);
    json_decref(answer);
    hub_teardown(&hub);
}

/* Until it waits for nothing but its turn. */
static void wait_for_turn(struct hub_fixture *hub, const char *path)
{
    for (int i = 0; i < POLLS_MAX; i++) {
        json_t *job = call(hub, "GET", path, NULL, 200);
        const bool free = json_is_null(json_object_get(job, "waiting_for"));

        json_decref(job);
        if (free)
            return;
        clock_sleep_ms(POLL_MS);
    }
    fail_msg("%s waits for ever", path);
}

static int64_t loaded(struct hub_fixture *hub)
{
    json_t *cache = call(hub, "GET", "/inference/cache", NULL, 200);
    const int64_t n = json_integer_value(json_object_get(cache, "cached_models"));

    json_decref(cache);
    return n;
}

/* The loaded model counts for some hundred kilobytes: more than what a job leaves. It is idle, so
 * the job does not wait for it: it goes. (test_ledger.c has models that are busy.) */
static void an_idle_model_goes_for_a_job(void **state)
{
    char model[64], dataset[64], body[512], id[64], path[128];
    void *hub;

    (void)state;
    struct hub_fixture *fixture = open_hub((double)needed(CONFIG) + ROOM, model, dataset);
    hub = fixture;
    snprintf(body, sizeof body,
             "{\"model_id\":\"%s\",\"prompt\":\"a\",\"max_tokens\":1,\"temperature\":0}", model);
    call_quiet(fixture, "POST", "/inference", body, 200);
    assert_int_equal(loaded(fixture), 1);
    body_of(model, dataset, CONFIG, body);
    json_t *job = call(fixture, "POST", "/training/jobs", body, 201);
    snprintf(id, sizeof id, "%s", member(job, "id"));
    assert_true(json_is_null(json_object_get(job, "waiting_for")));
    json_decref(job);
    snprintf(path, sizeof path, "/training/jobs/%s", id);
    for (int i = 0; i < POLLS_MAX && loaded(fixture) > 0; i++)
        clock_sleep_ms(POLL_MS);
    assert_int_equal(loaded(fixture), 0);
    wait_for_turn(fixture, path);
    hub_teardown(&hub);
}

/* One session gets its whole context even when that is no whole number of pages. */
static void a_context_ends_within_a_page(void **state)
{
    struct hub_fixture *fixture = hub_make();
    void *hub = fixture;

    (void)state;
    fixture->settings.context_length = 40;
    fixture->settings.max_sessions = 1;
    fixture->settings.prefix_cache_mb = 0;
    hub_start(fixture, false);
    call_quiet(fixture, "POST", "/base-models/import",
               "{\"path\":\"" BASE "\",\"as\":\"org/tiny\"}", 201);
    json_t *answer = call(fixture, "POST", "/v1/completions",
                          "{\"model\":\"org/tiny\",\"prompt\":\"a\",\"max_tokens\":100,"
                          "\"ignore_eos\":true}",
                          200);
    const json_t *usage = json_object_get(answer, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "total_tokens")), 40);
    json_decref(answer);
    hub_teardown(&hub);
}

/* Those that write weights hold what they read; an adapter as it is needs no weights. */
static void what_jobs_that_write_hold(void **state)
{
    static const struct {
        enum job_kind kind;
        const char *config;
        bool weights;
    } rows[] = {
        {JOB_QUANTIZE, "{\"base\":\"org/tiny\",\"as\":\"x\"}", true},
        {JOB_QUANTIZE, "{\"base\":\"org/gone\",\"as\":\"x\"}", false},
        {JOB_EXPORT, "{\"format\":\"gguf\",\"merge\":true}", true},
        {JOB_EXPORT, "{\"format\":\"peft\",\"merge\":false}", false},
    };
    char model[64], dataset[64];
    struct hub_fixture *fixture = open_hub((double)needed(CONFIG) + ROOM, model, dataset);
    const struct registry_options options = {.database_url = fixture->settings.database_url,
                                             .base_path = fixture->dir};
    const struct memory_asker asker = {NULL, 0};
    struct registry *registry = NULL;
    struct err err = {0};
    void *hub = fixture;

    (void)state;
    json_t *base = call(fixture, "GET", "/base-models/org/tiny", NULL, 200);
    const uint64_t bytes = (uint64_t)json_integer_value(json_object_get(base, "bytes"));
    json_decref(base);
    assert_true(bytes > 0);
    assert_ok(registry_open(&registry, &options, &err), &err);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct job_row row = {.kind = rows[i].kind,
                                    .config = rows[i].config,
                                    .model_id = rows[i].kind == JOB_EXPORT ? model : NULL};

        assert_true(memory_of_job(registry, &asker, &row) == (rows[i].weights ? bytes : 0));
    }
    registry_close(registry);
    hub_teardown(&hub);
}

/* What a job holds grows with the threads that it has, which are not always all cores. */
static void threads_that_a_job_has_are_counted(void **state)
{
    static const struct {
        int threads, status;
    } rows[] = {{1, 201}, {2, 422}, {64, 422}};
    const double limit = (double)needed_by(CONFIG, 1) + ROOM;
    char model[64], dataset[64], body[512];

    (void)state;
    assert_true((double)needed_by(CONFIG, 2) > limit);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        void *hub = open_hub_of(rows[i].threads, limit, model, dataset);
        body_of(model, dataset, CONFIG, body);
        call_quiet(hub, "POST", "/training/jobs", body, rows[i].status);
        hub_teardown(&hub);
    }
}

static void what_is_quantised_when_imported(void **state)
{
    static const struct {
        const char *set, *asked;
        struct import_size size;
        int bits;
    } rows[] = {
        {"4bit", NULL, {"BF16", 1 << 20, 1 << 20}, 0},
        {"4bit", NULL, {"BF16", 5LL << 30, 6LL << 30}, 4},
        {"8bit", NULL, {"F16", 2LL << 30, 40LL << 30}, 8},
        {"none", NULL, {"F32", 50LL << 30, 60LL << 30}, 0},
        {"4bit", NULL, {"Q8_0", 50LL << 30, 60LL << 30}, 0},
        {"4bit", "none", {"F32", 50LL << 30, 60LL << 30}, 0},
        {"none", "8bit", {"Q4_K", 1 << 20, 1 << 20}, 8},
    };
    struct settings settings = {.memory_limit_gb = 36};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(settings.default_quantization, sizeof settings.default_quantization, "%s",
                 rows[i].set);
        assert_int_equal(import_bits(&settings, rows[i].asked, &rows[i].size), rows[i].bits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_quantised_when_imported),
        cmocka_unit_test(what_never_fits_is_refused),
        cmocka_unit_test(what_cannot_be_learnt_is_refused),
        cmocka_unit_test(an_idle_model_goes_for_a_job),
        cmocka_unit_test(what_jobs_that_write_hold),
        cmocka_unit_test(threads_that_a_job_has_are_counted),
        cmocka_unit_test(a_context_ends_within_a_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
