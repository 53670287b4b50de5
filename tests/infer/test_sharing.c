/* Requests that begin alike share pages while they are at work: with kept pages or without, few
 * pages or many, adapters mixed, each says what it says alone. Pages come back from whoever leaves.
 */
#include "infer/prefix_cache.h"
#include "infer/scheduler.h"
#include "test.h"

enum { REQUESTS = 32, ADAPTERS = 3, SYSTEM = 100, ANSWER = 24, TOKENS_MAX = 256 };

struct seen {
    int32_t ids[TOKENS_MAX];
    int n_ids;
    int cached;
    int order; /* of first tokens among all */
    bool finished, failed;
    struct scheduled *request;
    struct err err;
};

static int first_tokens;

static void on_token(void *ctx, const struct scheduled_token *token)
{
    struct seen *s = ctx;
    if (s->n_ids == 0) {
        s->order = first_tokens++;
    }
    s->ids[s->n_ids++] = token->id;
}

static void on_finished(void *ctx, enum finish finish, const char *text, size_t bytes, int n_tokens)
{
    struct seen *s = ctx;
    (void)finish;
    (void)text;
    (void)bytes;
    assert_int_equal(n_tokens, s->n_ids);
    s->cached = scheduler_cached_tokens(s->request);
    s->finished = true;
}

static void on_failed(void *ctx, const struct err *err)
{
    struct seen *s = ctx;
    s->failed = true;
    s->err = *err;
}

static const struct scheduled_events events = {
    .token = on_token, .finished = on_finished, .failed = on_failed};
static const char *const keys[ADAPTERS] = {NULL, "first", "second"};

static struct engine_model *model;
static struct engine_adapter *adapters[ADAPTERS];
static struct seen want[REQUESTS], got[REQUESTS];

static void close_model(void)
{
    for (int i = 0; i < ADAPTERS; i++) {
        engine_adapter_free(adapters[i]);
        adapters[i] = NULL;
    }
    engine_model_free(model);
    model = NULL;
}

static void open_model(size_t pages)
{
    struct err err = {0};
    struct engine_options options = {.threads = 2, .isa = "best"};
    const char *path = "tests/fixtures/train/base";
    const struct engine_lora lora = {.rank = 4, .scale = 2.0f, .targets = 0x0f};
    assert_ok(engine_model_open(&model, path, &options, &err), &err);
    options.kv_bytes_max = pages * engine_model_info(model)->kv_page_bytes;
    engine_model_free(model);
    assert_ok(engine_model_open(&model, path, &options, &err), &err);
    for (int a = 1; a < ADAPTERS; a++) {
        int n;
        assert_ok(engine_adapter_new(&adapters[a], model, &lora, (uint64_t)a, &err), &err);
        struct engine_tensor *tensors = engine_adapter_tensors(adapters[a], &n);
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < tensors[i].rows * tensors[i].cols; j++) {
                tensors[i].data[j] += 0.02f * (float)((i * 31 + j * 7 + a) % 11 - 5);
            }
        }
        engine_adapter_changed(adapters[a]);
    }
}

/* One system prompt, then something of its own. */
static struct scheduled_spec make_spec(int i, int32_t *prompt)
{
    struct scheduled_spec spec = {.prompt = prompt,
                                  .n_prompt = SYSTEM + i % 9,
                                  .adapter = adapters[i % ADAPTERS],
                                  .adapter_key = keys[i % ADAPTERS],
                                  .seed = (uint64_t)i};
    const int vocab = engine_model_info(model)->vocab_size;
    for (int t = 0; t < spec.n_prompt; t++) {
        prompt[t] = t < SYSTEM ? (t * 13 + 5) % vocab : (t * 7 + i) % vocab;
    }
    infer_sampling_defaults(&spec.sampling);
    spec.sampling.max_tokens = ANSWER;
    spec.sampling.temperature = i % 2 == 0 ? 1.0f : 0.0f;
    spec.sampling.ignore_eos = true;
    return spec;
}

static void add(struct scheduler *s, int i, struct seen *seen)
{
    struct err err = {0};
    int32_t prompt[TOKENS_MAX];
    const struct scheduled_spec spec = make_spec(i, prompt);
    memset(seen, 0, sizeof *seen);
    assert_ok(scheduler_add(s, &spec, &events, seen, &seen->request, &err), &err);
}

static struct scheduler *new_scheduler(int sessions, size_t kept_pages)
{
    struct err err = {0};
    struct scheduler *s = NULL;
    assert_ok(scheduler_new(&s, model, sessions, &err), &err);
    scheduler_keep_prefixes(s, kept_pages * engine_model_info(model)->kv_page_bytes);
    return s;
}

static void run(struct scheduler *s)
{
    for (int i = 0; scheduler_active(s) > 0; i++) {
        assert_true(i < 20000);
        scheduler_step(s);
    }
}

static void run_each_alone(void)
{
    for (int i = 0; i < REQUESTS; i++) {
        struct scheduler *s = new_scheduler(1, 0);
        add(s, i, &want[i]);
        run(s);
        assert_true(want[i].finished);
        assert_int_equal(want[i].cached, 0);
        assert_int_equal(want[i].n_ids, ANSWER);
        scheduler_free(s);
    }
    assert_int_equal(engine_pages_used(model), 0);
    assert_memory_not_equal(want[0].ids, want[6].ids, sizeof want[0].ids);
}

static void check_all(void)
{
    for (int i = 0; i < REQUESTS; i++) {
        assert_true(got[i].finished);
        assert_int_equal(got[i].n_ids, ANSWER);
        assert_memory_equal(got[i].ids, want[i].ids, sizeof want[i].ids);
    }
}

static void test_all_at_once_compute_their_beginning_once(void **state)
{
    (void)state;
    open_model(1000);
    run_each_alone();
    struct scheduler *s = new_scheduler(REQUESTS, 500);
    for (int i = 0; i < REQUESTS; i++) {
        add(s, i, &got[i]);
    }
    scheduler_step(s);
    scheduler_step(s);
    /* seven pages for each adapter, of which six are shared by eleven, and two more for each */
    assert_true(engine_pages_used(model) < ADAPTERS * 7 + 2 * REQUESTS + 3);
    run(s);
    check_all();
    for (int i = 0; i < REQUESTS; i++) {
        assert_true(got[i].cached >= (i < ADAPTERS ? 0 : SYSTEM / PREFIX_BLOCK * PREFIX_BLOCK));
    }
    for (int round = 0; round < 2; round++) { /* warm: all but the last token of each prompt */
        for (int i = 0; i < REQUESTS; i++) {
            add(s, i, &got[i]);
        }
        run(s);
        check_all();
        for (int i = 0; i < REQUESTS; i++) {
            assert_int_equal(got[i].cached, SYSTEM + i % 9 - 1);
        }
    }
    assert_int_equal(scheduler_prefix_bytes(s),
                     engine_pages_used(model) * engine_model_info(model)->kv_page_bytes);
    scheduler_free(s);
    assert_int_equal(engine_pages_used(model), 0);
    close_model();
}

/* From pages for one request to pages for a few; what is kept makes room, then the youngest. */
static void test_few_pages_change_no_answer(void **state)
{
    (void)state;
    static const size_t pools[] = {9, 10, 13, 24, 60};
    open_model(1000);
    run_each_alone();
    close_model();
    for (size_t p = 0; p < sizeof pools / sizeof pools[0]; p++) {
        for (int kept = 0; kept < 3; kept++) {
            open_model(pools[p]);
            struct scheduler *s = new_scheduler(REQUESTS, (size_t)kept * 10);
            for (int i = 0; i < REQUESTS; i++) {
                add(s, i, &got[i]);
                if (i % 4 == 0) {
                    scheduler_step(s);
                }
            }
            run(s);
            check_all();
            scheduler_free(s);
            assert_int_equal(engine_pages_used(model), 0);
            close_model();
        }
    }
}

static void test_who_leaves_gives_the_pages_back(void **state)
{
    (void)state;
    for (int kept = 0; kept < 2; kept++) {
        open_model(400);
        struct scheduler *s = new_scheduler(REQUESTS, kept ? 400 : 0);
        for (int steps = 0; steps < 8; steps++) {
            for (int i = 0; i < REQUESTS; i++) {
                add(s, i, &got[i]);
            }
            for (int n = 0; n < steps; n++) {
                scheduler_step(s);
            }
            for (int i = 0; i < REQUESTS; i++) {
                scheduler_cancel(s, got[i * 7 % REQUESTS].request);
                assert_false(got[i * 7 % REQUESTS].finished);
            }
            assert_int_equal(scheduler_active(s), 0);
            assert_int_equal(engine_pages_used(model) * engine_model_info(model)->kv_page_bytes,
                             scheduler_prefix_bytes(s));
        }
        assert_true(kept || engine_pages_used(model) == 0);
        scheduler_keep_prefixes(s, 0);
        assert_int_equal(engine_pages_used(model), 0);
        scheduler_free(s);
        close_model();
    }
}

/* The ceiling of keys and values may move at any step: what is too much comes back at once, memory
 * with it, and every answer stays the same. */
static void test_another_limit_changes_no_answer(void **state)
{
    (void)state;
    static const size_t limits[] = {700, 40, 9, 500, 12};
    open_model(1000);
    run_each_alone();
    const uint64_t page = engine_model_info(model)->kv_page_bytes;
    struct scheduler *s = new_scheduler(REQUESTS, 60);
    for (int i = 0; i < REQUESTS; i++) {
        add(s, i, &got[i]);
    }
    for (int i = 0; scheduler_active(s) > 0; i++) {
        assert_true(i < 20000);
        const size_t limit = limits[i / 5 % 5];
        const size_t before = engine_pages_used(model);
        const size_t bytes = mem_used();
        assert_int_equal(scheduler_limit_kv(s, limit * page), limit * page);
        const size_t used = engine_pages_used(model);
        assert_true(used <= limit && used <= before);
        assert_true(bytes - mem_used() >= (before - used) * page);
        scheduler_step(s);
        assert_true(engine_pages_used(model) <= limit);
    }
    check_all();
    assert_true(scheduler_set_aside_count(s) > 0);
    scheduler_free(s);
    assert_int_equal(engine_pages_used(model), 0);
    close_model();
}

/* Never below what the longest inside takes alone. */
static void test_a_limit_leaves_the_longest_alone(void **state)
{
    (void)state;
    open_model(100);
    run_each_alone();
    const uint64_t page = engine_model_info(model)->kv_page_bytes;
    struct scheduler *s = new_scheduler(REQUESTS, 0);
    for (int i = 0; i < REQUESTS; i++) {
        add(s, i, &got[i]);
    }
    scheduler_step(s);
    assert_int_equal(scheduler_limit_kv(s, 1), page * 9); /* 108 tokens and 24 */
    run(s);
    check_all();
    scheduler_free(s);
    close_model();
}

/* With pages for all of them nobody is set aside. */
static void test_enough_pages_set_nobody_aside(void **state)
{
    (void)state;
    open_model(REQUESTS * 9);
    run_each_alone();
    for (int kept = 0; kept < 2; kept++) {
        struct scheduler *s = new_scheduler(REQUESTS, kept ? REQUESTS * 9 : 0);
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < REQUESTS; i++) {
                add(s, i, &got[i]);
            }
            run(s);
            check_all();
        }
        assert_int_equal(scheduler_set_aside_count(s), 0);
        scheduler_free(s);
    }
    close_model();
}

static void test_a_prompt_that_never_fits_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    struct scheduled *r;
    int32_t prompt[TOKENS_MAX];
    open_model(7);
    struct scheduler *s = new_scheduler(2, 7);
    struct scheduled_spec spec = make_spec(8, prompt);
    spec.n_prompt = 112;
    assert_int_equal(scheduler_add(s, &spec, &events, &got[0], &r, &err), -ERR_INVALID);
    assert_string_equal(err.message,
                        "the prompt is 112 tokens; the memory for keys and values holds 112");
    err_clear(&err);
    spec.n_prompt = 108;
    memset(&got[0], 0, sizeof got[0]);
    assert_ok(scheduler_add(s, &spec, &events, &got[0], &got[0].request, &err), &err);
    run(s);
    assert_int_equal(got[0].n_ids, 4); /* what fits behind it */
    scheduler_free(s);
    close_model();
}

/* A short prompt answers while a long one before it is still read; nobody waits for ever. */
static void test_a_short_prompt_is_not_held_up(void **state)
{
    (void)state;
    struct err err = {0};
    int32_t prompts[4][TOKENS_MAX];
    open_model(1000);
    struct scheduler *s = new_scheduler(4, 0);
    first_tokens = 0;
    for (int i = 0; i < 4; i++) {
        struct scheduled_spec spec = make_spec(3 * i, prompts[i]);
        for (int t = 0; t < TOKENS_MAX; t++) {
            prompts[i][t] = (t + i) % 100;
        }
        spec.n_prompt = i < 3 ? 230 : 40;
        spec.sampling.max_tokens = 4;
        memset(&got[i], 0, sizeof got[i]);
        assert_ok(scheduler_add(s, &spec, &events, &got[i], &got[i].request, &err), &err);
    }
    run(s);
    assert_true(got[3].order <= 1); /* perhaps in the step that the oldest ends in */
    for (int i = 0; i < 4; i++) {
        assert_true(got[i].finished);
    }
    scheduler_free(s);
    close_model();
}

/* Nor in steps that are short because somebody decodes: how fast prompts go is not known yet. */
static void test_a_short_step_has_room_for_two(void **state)
{
    (void)state;
    static const int n_prompts[] = {1, 200, 8};
    struct err err = {0};
    int32_t prompts[3][TOKENS_MAX];
    open_model(1000);
    struct scheduler *s = new_scheduler(3, 0);
    for (int i = 0; i < 3; i++) {
        struct scheduled_spec spec = make_spec(3 * i, prompts[i]);
        for (int t = 0; t < TOKENS_MAX; t++) {
            prompts[i][t] = (t + i) % 100;
        }
        spec.n_prompt = n_prompts[i];
        memset(&got[i], 0, sizeof got[i]);
        assert_ok(scheduler_add(s, &spec, &events, &got[i], &got[i].request, &err), &err);
        if (i == 0) {
            scheduler_step(s);
        }
    }
    scheduler_step(s);
    assert_int_equal(got[0].n_ids, 2);
    assert_int_equal(got[1].n_ids, 0);
    assert_int_equal(got[2].n_ids, 1);
    run(s);
    scheduler_free(s);
    close_model();
}

/* Whoever decodes gets a token in every step while a long prompt is read, which goes on in each. */
static void test_a_long_prompt_stops_nobody(void **state)
{
    (void)state;
    struct err err = {0};
    int32_t prompt[TOKENS_MAX];
    open_model(1000);
    run_each_alone();
    struct scheduler *s = new_scheduler(8, 0);
    for (int i = 0; i < 7; i++) {
        add(s, i, &got[i]);
    }
    for (int i = 0; i < 1000 && got[6].n_ids == 0; i++) {
        scheduler_step(s);
    }
    struct scheduled_spec spec = make_spec(7, prompt);
    for (int t = SYSTEM; t < 250; t++) {
        prompt[t] = t % 100;
    }
    spec.n_prompt = 250;
    memset(&got[7], 0, sizeof got[7]);
    assert_ok(scheduler_add(s, &spec, &events, &got[7], &got[7].request, &err), &err);
    int steps = 0;
    for (; got[7].n_ids == 0; steps++) {
        int before[7];
        assert_true(steps < 250 / 16 + 1);
        for (int i = 0; i < 7; i++) {
            before[i] = got[i].n_ids;
        }
        scheduler_step(s);
        for (int i = 0; i < 7; i++) {
            assert_int_equal(got[i].n_ids, before[i] < ANSWER ? before[i] + 1 : ANSWER);
        }
    }
    run(s);
    for (int i = 0; i < 7; i++) {
        assert_memory_equal(got[i].ids, want[i].ids, sizeof want[i].ids);
    }
    scheduler_free(s);
    close_model();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_at_once_compute_their_beginning_once),
        cmocka_unit_test(test_few_pages_change_no_answer),
        cmocka_unit_test(test_who_leaves_gives_the_pages_back),
        cmocka_unit_test(test_another_limit_changes_no_answer),
        cmocka_unit_test(test_a_limit_leaves_the_longest_alone),
        cmocka_unit_test(test_enough_pages_set_nobody_aside),
        cmocka_unit_test(test_a_prompt_that_never_fits_is_refused),
        cmocka_unit_test(test_a_short_prompt_is_not_held_up),
        cmocka_unit_test(test_a_short_step_has_room_for_two),
        cmocka_unit_test(test_a_long_prompt_stops_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
