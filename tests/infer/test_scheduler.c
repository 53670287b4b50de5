/* Requests over one model: what each gets is the same alone, together with others, after being set
 * aside, and after a crash took its runner away. */
#include "infer/scheduler.h"
#include "test.h"

enum { TEXT_MAX = 8192, REQUESTS = 32 };

struct seen {
    char text[TEXT_MAX];
    size_t n;
    int32_t ids[256];
    float logprobs[256];
    struct token_score top[256][2];
    float prompt[256];
    int n_prompt;
    int n_ids;
    int finished; /* 1 stop, 2 length */
    int completion;
    struct err err;
    bool failed;
};

static void add(struct seen *s, const char *text, size_t bytes)
{
    assert_true(s->n + bytes < TEXT_MAX);
    if (bytes > 0) {
        memcpy(s->text + s->n, text, bytes);
    }
    s->n += bytes;
}

static void on_token(void *ctx, const struct scheduled_token *token)
{
    struct seen *s = ctx;
    assert_int_equal(token->index, s->n_ids);
    s->logprobs[s->n_ids] = token->logprob;
    memcpy(s->top[s->n_ids], token->top, sizeof s->top[0]);
    s->ids[s->n_ids++] = token->id;
    add(s, token->text, token->bytes);
}

static void on_prompt_token(void *ctx, const struct scheduled_token *token)
{
    struct seen *s = ctx;
    assert_int_equal(token->index, s->n_prompt);
    assert_true(token->scored == (token->index > 0));
    s->prompt[s->n_prompt++] = token->logprob;
}

static void on_finished(void *ctx, enum finish finish, const char *text, size_t bytes, int n_tokens)
{
    struct seen *s = ctx;
    add(s, text, bytes);
    s->finished = finish == FINISH_STOP ? 1 : 2;
    s->completion = n_tokens;
}

static void on_failed(void *ctx, const struct err *err)
{
    struct seen *s = ctx;
    s->failed = true;
    s->err = *err;
}

static const struct scheduled_events events = {.token = on_token,
                                               .prompt_token = on_prompt_token,
                                               .finished = on_finished,
                                               .failed = on_failed};

static struct engine_model *open_model(size_t kv_bytes, const char *isa, int threads)
{
    struct err err = {0};
    struct engine_model *model = NULL;
    const struct engine_options options = {
        .threads = threads, .isa = isa, .kv_bytes_max = kv_bytes};
    assert_ok(engine_model_open(&model, "tests/fixtures/train/base", &options, &err), &err);
    return model;
}

/* Request i: its own prompt, length, seed and temperature. */
static struct scheduled_spec make_spec(const struct engine_model *model, int i,
                                       struct token_ids *prompt)
{
    struct err err = {0};
    char text[256];
    token_ids_init(prompt, 1000);
    snprintf(text, sizeof text, "request number %d says %.*s", i, 5 * (i % 8),
             "one two three four five six seven eight nine ten");
    assert_ok(tokenizer_encode(engine_model_tokenizer(model), text, strlen(text), 0, prompt, &err),
              &err);
    struct scheduled_spec spec = {
        .prompt = prompt->ids, .n_prompt = (int)prompt->n, .seed = 100 + (uint64_t)i};
    infer_sampling_defaults(&spec.sampling);
    spec.sampling.max_tokens = 10 + 5 * (i % 8);
    spec.sampling.temperature = i % 2 == 0 ? 1.0f : 0.0f;
    spec.sampling.ignore_eos = true;
    spec.sampling.logprobs = i % 3 != 0;
    spec.sampling.top_logprobs = spec.sampling.logprobs ? 2 : 0;
    spec.score_prompt = i % 5 == 0;
    return spec;
}

static void run_until_empty(struct scheduler *s)
{
    for (int i = 0; scheduler_active(s) > 0; i++) {
        assert_true(i < 10000);
        scheduler_step(s);
    }
}

static void run_alone(struct engine_model *model, int i, struct seen *seen)
{
    struct err err = {0};
    struct scheduler *s = NULL;
    struct scheduled *r;
    struct token_ids prompt;
    memset(seen, 0, sizeof *seen);
    assert_ok(scheduler_new(&s, model, 1, &err), &err);
    const struct scheduled_spec spec = make_spec(model, i, &prompt);
    assert_ok(scheduler_add(s, &spec, &events, seen, &r, &err), &err);
    run_until_empty(s);
    assert_false(seen->failed);
    assert_int_equal(seen->completion, 10 + 5 * (i % 8));
    token_ids_release(&prompt);
    scheduler_free(s);
}

static struct seen want[REQUESTS], got[REQUESTS];

static void run_together(struct engine_model *model)
{
    struct err err = {0};
    struct scheduler *s = NULL;
    struct token_ids prompts[REQUESTS];
    memset(got, 0, sizeof got);
    assert_ok(scheduler_new(&s, model, REQUESTS, &err), &err);
    for (int i = 0; i < REQUESTS; i++) {
        struct scheduled *r;
        const struct scheduled_spec spec = make_spec(model, i, &prompts[i]);
        assert_ok(scheduler_add(s, &spec, &events, &got[i], &r, &err), &err);
        if (i % 3 == 0) {
            scheduler_step(s); /* some join while others are under way */
        }
    }
    run_until_empty(s);
    for (int i = 0; i < REQUESTS; i++) {
        assert_false(got[i].failed);
        assert_int_equal(got[i].n_ids, want[i].n_ids);
        assert_memory_equal(got[i].ids, want[i].ids, sizeof want[i].ids);
        assert_string_equal(got[i].text, want[i].text);
        assert_memory_equal(got[i].logprobs, want[i].logprobs, sizeof want[i].logprobs);
        assert_memory_equal(got[i].top, want[i].top, sizeof want[i].top);
        assert_int_equal(got[i].n_prompt, i % 5 == 0 ? (int)prompts[i].n : 0);
        assert_memory_equal(got[i].prompt, want[i].prompt, sizeof want[i].prompt);
        token_ids_release(&prompts[i]);
    }
    scheduler_free(s);
}

static void test_together_is_as_alone(void **state)
{
    (void)state;
    struct engine_model *model = open_model(1 << 20, "best", 2);
    for (int i = 0; i < REQUESTS; i++) {
        run_alone(model, i, &want[i]);
    }
    run_together(model);
    engine_model_free(model);
}

/* Pages for little more than one request: the young are set aside again and again. */
static void test_set_aside_and_computed_again_is_the_same(void **state)
{
    (void)state;
    struct engine_model *model = open_model(1 << 20, "best", 2);
    const size_t page = engine_model_info(model)->kv_page_bytes;
    for (int i = 0; i < REQUESTS; i++) {
        run_alone(model, i, &want[i]);
    }
    engine_model_free(model);
    for (size_t pages = 8; pages <= 16; pages += 4) {
        model = open_model(pages * page, "best", 1);
        run_together(model);
        engine_model_free(model);
    }
}

/* A fresh runner is given what was delivered and goes on: every split gives the whole answer. */
static void test_replay_goes_on_where_the_last_runner_stopped(void **state)
{
    (void)state;
    struct err err = {0};
    struct engine_model *model = open_model(0, "best", 1);
    for (int i = 0; i < 3; i++) {
        run_alone(model, i, &want[0]);
        for (int sent = 0; sent < want[0].n_ids; sent += 3) {
            struct scheduler *s = NULL;
            struct scheduled *r;
            struct token_ids prompt;
            struct seen rest = {0};
            assert_ok(scheduler_new(&s, model, 1, &err), &err);
            struct scheduled_spec spec = make_spec(model, i, &prompt);
            rest.n_ids = sent;
            spec.sent = want[0].ids;
            spec.n_sent = sent;
            assert_ok(scheduler_add(s, &spec, &events, &rest, &r, &err), &err);
            run_until_empty(s);
            assert_int_equal(rest.n_ids, want[0].n_ids);
            assert_memory_equal(rest.ids + sent, want[0].ids + sent,
                                (size_t)(rest.n_ids - sent) * sizeof rest.ids[0]);
            assert_int_equal(rest.completion, want[0].completion);
            assert_true(rest.n <= want[0].n);
            assert_string_equal(rest.text, want[0].text + (want[0].n - rest.n));
            token_ids_release(&prompt);
            scheduler_free(s);
        }
    }
    engine_model_free(model);
}

static void test_cancel_frees_pages_and_harms_nobody(void **state)
{
    (void)state;
    struct err err = {0};
    struct engine_model *model = open_model(0, "best", 1);
    struct scheduler *s = NULL;
    struct scheduled *gone, *stays;
    struct token_ids a, b;
    struct seen seen_gone = {0};
    struct seen seen_stays = {0};
    run_alone(model, 1, &want[1]);
    assert_ok(scheduler_new(&s, model, 2, &err), &err);
    const struct scheduled_spec first = make_spec(model, 0, &a);
    const struct scheduled_spec second = make_spec(model, 1, &b);
    assert_ok(scheduler_add(s, &first, &events, &seen_gone, &gone, &err), &err);
    assert_ok(scheduler_add(s, &second, &events, &seen_stays, &stays, &err), &err);
    scheduler_step(s);
    scheduler_step(s);
    scheduler_cancel(s, gone);
    run_until_empty(s);
    assert_int_equal(seen_gone.finished, 0);
    assert_string_equal(seen_stays.text, want[1].text);
    token_ids_release(&a);
    token_ids_release(&b);
    scheduler_free(s);
    engine_model_free(model);
}

static void test_bounds_are_told_with_both_numbers(void **state)
{
    (void)state;
    struct err err = {0};
    struct engine_model *model = open_model(0, "best", 1);
    struct scheduler *s = NULL;
    struct scheduled *r;
    struct token_ids prompt;
    struct seen seen = {0};
    static int32_t long_prompt[300];
    assert_ok(scheduler_new(&s, model, 1, &err), &err);
    struct scheduled_spec spec = make_spec(model, 0, &prompt);
    spec.prompt = long_prompt;
    spec.n_prompt = 256;
    assert_int_equal(scheduler_add(s, &spec, &events, &seen, &r, &err), -ERR_INVALID);
    assert_string_equal(err.message, "the prompt is 256 tokens; the context holds 256");
    err_clear(&err);
    spec.n_prompt = 0;
    assert_err(scheduler_add(s, &spec, &events, &seen, &r, &err), &err, ERR_INVALID);
    spec.n_prompt = 250; /* six tokens fit */
    spec.sampling.max_tokens = 100;
    assert_ok(scheduler_add(s, &spec, &events, &seen, &r, &err), &err);
    assert_err(scheduler_add(s, &spec, &events, &seen, &r, &err), &err, ERR_BUSY);
    run_until_empty(s);
    assert_int_equal(seen.completion, 6);
    assert_int_equal(seen.finished, 2);
    token_ids_release(&prompt);
    scheduler_free(s);
    engine_model_free(model);
}

static void test_a_stop_string_ends_the_answer_before_it(void **state)
{
    (void)state;
    struct err err = {0};
    struct engine_model *model = open_model(0, "best", 1);
    struct scheduler *s = NULL;
    struct scheduled *r;
    struct token_ids prompt;
    struct seen seen = {0};
    run_alone(model, 3, &want[3]);
    assert_true(want[3].n > 12);
    assert_ok(scheduler_new(&s, model, 1, &err), &err);
    struct scheduled_spec spec = make_spec(model, 3, &prompt);
    snprintf(spec.sampling.stops[0], 4, "%.3s", want[3].text + 8);
    spec.sampling.n_stops = 1;
    const char *found = strstr(want[3].text, spec.sampling.stops[0]);
    assert_non_null(found);
    assert_ok(scheduler_add(s, &spec, &events, &seen, &r, &err), &err);
    run_until_empty(s);
    assert_int_equal(seen.finished, 1);
    assert_int_equal(seen.n, found - want[3].text);
    assert_memory_equal(seen.text, want[3].text, seen.n);
    token_ids_release(&prompt);
    scheduler_free(s);
    engine_model_free(model);
}

static void test_tags_of_calls_are_text_where_there_are_tools(void **state)
{
    (void)state;
    static const struct tool_format format = {.tokens = {"<|im_start|>"}};
    struct engine_model *model = open_model(0, "best", 1);
    const int32_t tag = tokenizer_id_of(engine_model_tokenizer(model), "<|im_start|>", 12);
    for (int tools = 0; tools < 2; tools++) {
        struct err err = {0};
        struct scheduler *s = NULL;
        struct scheduled *r;
        struct token_ids prompt;
        struct seen seen = {0};
        assert_ok(scheduler_new(&s, model, 1, &err), &err);
        struct scheduled_spec spec = make_spec(model, 3, &prompt);
        spec.sampling.max_tokens = 2;
        spec.sampling.bias[0] = (struct infer_bias){tag, 1000.0f};
        spec.sampling.n_bias = 1;
        spec.tools = tools ? &format : NULL;
        assert_ok(scheduler_add(s, &spec, &events, &seen, &r, &err), &err);
        run_until_empty(s);
        assert_int_equal(seen.completion, 2);
        assert_string_equal(seen.text, tools ? "<|im_start|><|im_start|>" : "");
        token_ids_release(&prompt);
        scheduler_free(s);
    }
    engine_model_free(model);
}

/* What a prompt's tokens are told to be worth is what they are worth as an answer. */
static void test_a_prompt_is_scored_as_an_answer_is(void **state)
{
    (void)state;
    struct err err = {0};
    struct engine_model *model = open_model(0, "best", 1);
    struct scheduler *s = NULL;
    struct scheduled *r;
    struct token_ids prompt;
    struct seen seen = {0};
    int32_t whole[400];
    run_alone(model, 7, &want[0]); /* greedy, with scores */
    assert_ok(scheduler_new(&s, model, 1, &err), &err);
    struct scheduled_spec spec = make_spec(model, 7, &prompt);
    memcpy(whole, prompt.ids, prompt.n * sizeof *whole);
    memcpy(whole + prompt.n, want[0].ids, (size_t)want[0].n_ids * sizeof *whole);
    spec.prompt = whole;
    spec.n_prompt = (int)prompt.n + want[0].n_ids;
    spec.score_prompt = true;
    spec.sampling.max_tokens = 0;
    assert_ok(scheduler_add(s, &spec, &events, &seen, &r, &err), &err);
    run_until_empty(s);
    assert_int_equal(seen.n_prompt, spec.n_prompt);
    assert_int_equal(seen.completion, 0);
    assert_int_equal(seen.finished, 2);
    assert_memory_equal(seen.prompt + prompt.n, want[0].logprobs,
                        (size_t)want[0].n_ids * sizeof(float));
    token_ids_release(&prompt);
    scheduler_free(s);
    engine_model_free(model);
}

/* The same prompts again and again, over kept sessions, under two adapters' names, with few pages.
 */
static void test_kept_prefixes_change_no_answer(void **state)
{
    (void)state;
    static const char *const keys[] = {NULL, "an adapter"};
    struct err err = {0};
    struct engine_model *model = open_model(1 << 20, "best", 1);
    const size_t page = engine_model_info(model)->kv_page_bytes;
    for (int i = 0; i < REQUESTS; i++) {
        run_alone(model, i, &want[i]);
    }
    engine_model_free(model);
    for (size_t pages = 16; pages <= 256; pages *= 16) {
        struct scheduler *s = NULL;
        int cached = 0;
        model = open_model(pages * page, "best", 1);
        assert_ok(scheduler_new(&s, model, 4, &err), &err);
        scheduler_keep_prefixes(s, 12 * page);
        for (int n = 0; n < 3 * REQUESTS; n++) {
            const int i = n / 3 * 7 % REQUESTS;
            struct scheduled *r;
            struct token_ids prompt;
            struct scheduled_spec spec = make_spec(model, i, &prompt);
            memset(&got[i], 0, sizeof got[i]);
            spec.adapter_key = keys[n % 2];
            spec.cold = n % 3 == 2;
            assert_ok(scheduler_add(s, &spec, &events, &got[i], &r, &err), &err);
            scheduler_step(s);
            assert_int_equal(scheduler_active(s), 1);
            assert_true(scheduler_cached_tokens(r) < (int)prompt.n);
            cached += scheduler_cached_tokens(r);
            assert_true(!spec.cold || scheduler_cached_tokens(r) == 0);
            run_until_empty(s);
            assert_memory_equal(&got[i], &want[i], sizeof want[i]);
            assert_true(scheduler_prefix_bytes(s) <= 12 * page);
            token_ids_release(&prompt);
        }
        assert_true(cached > 0);
        scheduler_free(s);
        engine_model_free(model);
    }
}

struct vector {
    float values[256];
    int n;
};

static void on_embedded(void *ctx, const float *values, int n)
{
    struct vector *v = ctx;
    assert_true(n > 0 && n <= 256);
    memcpy(v->values, values, (size_t)n * sizeof *values);
    v->n = n;
}

static void embed_all(struct engine_model *model, int from, int n, struct vector *vectors)
{
    static const struct scheduled_events embed_events = {.failed = on_failed,
                                                         .embedded = on_embedded};
    struct err err = {0};
    struct scheduler *s = NULL;
    struct token_ids prompts[8];
    assert_ok(scheduler_new(&s, model, n, &err), &err);
    for (int i = 0; i < n; i++) {
        struct scheduled *r;
        struct scheduled_spec spec = make_spec(model, from + i, &prompts[i]);
        spec.score_prompt = false;
        spec.embed = true;
        assert_ok(scheduler_add(s, &spec, &embed_events, &vectors[i], &r, &err), &err);
    }
    run_until_empty(s);
    for (int i = 0; i < n; i++) {
        token_ids_release(&prompts[i]);
    }
    scheduler_free(s);
}

static void test_an_embedding_is_the_same_alone_and_together(void **state)
{
    (void)state;
    static struct vector together[8], alone[8];
    struct engine_model *model = open_model(0, "best", 2);
    embed_all(model, 0, 8, together);
    engine_model_free(model);
    model = open_model(0, "ref", 1);
    for (int i = 0; i < 8; i++) {
        double squares = 0.0;
        embed_all(model, i, 1, &alone[i]);
        assert_int_equal(alone[i].n, engine_model_info(model)->d_model);
        assert_memory_equal(&alone[i], &together[i], sizeof alone[i]);
        for (int k = 0; k < alone[i].n; k++) {
            squares += (double)alone[i].values[k] * (double)alone[i].values[k];
        }
        assert_true(squares > 0.9999 && squares < 1.0001);
    }
    engine_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_together_is_as_alone),
        cmocka_unit_test(test_set_aside_and_computed_again_is_the_same),
        cmocka_unit_test(test_replay_goes_on_where_the_last_runner_stopped),
        cmocka_unit_test(test_cancel_frees_pages_and_harms_nobody),
        cmocka_unit_test(test_bounds_are_told_with_both_numbers),
        cmocka_unit_test(test_a_stop_string_ends_the_answer_before_it),
        cmocka_unit_test(test_tags_of_calls_are_text_where_there_are_tools),
        cmocka_unit_test(test_a_prompt_is_scored_as_an_answer_is),
        cmocka_unit_test(test_kept_prefixes_change_no_answer),
        cmocka_unit_test(test_an_embedding_is_the_same_alone_and_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
