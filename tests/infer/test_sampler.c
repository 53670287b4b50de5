/* Choosing tokens: the rule "Sampling", and that selection never depends on how it was done. */
#include <math.h>

#include "base/rng.h"
#include "infer/sampler.h"
#include "infer/stops.h"
#include "test.h"

enum { VOCAB = 128 };

static struct engine_model *model;
static struct sampler sampler;

static int open_all(void **state)
{
    (void)state;
    struct err err = {0};
    const struct engine_options options = {.threads = 1, .isa = "best"};
    assert_ok(engine_model_open(&model, "tests/fixtures/engine/serve/q8_0.gguf", &options, &err),
              &err);
    assert_ok(sampler_init(&sampler, model, &err), &err);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    sampler_release(&sampler);
    engine_model_free(model);
    return 0;
}

static void make_logits(float *logits)
{
    for (int i = 0; i < VOCAB; i++) {
        logits[i] = 4.0f * rng_uniform(9, RNG_INIT, 0, (uint64_t)i);
    }
}

static int32_t pick(const struct infer_sampling *s, uint64_t seed, const int32_t *history, int n)
{
    struct err err = {0};
    float logits[VOCAB];
    int32_t token = -1;
    make_logits(logits);
    assert_ok(sampler_pick(&sampler, s, seed, 0, history, n, logits, NULL, &token, &err), &err);
    assert_in_range(token, 0, VOCAB - 1);
    return token;
}

static int32_t best_of(const float *x)
{
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++) {
        best = x[i] > x[best] ? i : best;
    }
    return best;
}

static struct infer_sampling plain(void)
{
    struct infer_sampling s;
    infer_sampling_defaults(&s);
    s.temperature = 1.0f;
    s.top_p = 1.0f;
    s.top_k = 0;
    s.repetition_penalty = 1.0f;
    return s;
}

static void test_greedy_takes_the_highest_and_the_lowest_id_of_equals(void **state)
{
    (void)state;
    struct err err = {0};
    struct infer_sampling s = plain();
    float logits[VOCAB] = {0};
    int32_t token;
    s.temperature = 0.0f;
    logits[7] = logits[90] = 1.0f;
    assert_ok(sampler_pick(&sampler, &s, 1, 0, NULL, 0, logits, NULL, &token, &err), &err);
    assert_int_equal(token, 7);
}

static void test_a_seed_repeats_and_positions_differ(void **state)
{
    (void)state;
    const struct infer_sampling s = plain();
    const int32_t history[64] = {0};
    int differ = 0;
    for (int n = 0; n < 64; n++) {
        const int32_t token = pick(&s, 42, history, n);
        assert_int_equal(token, pick(&s, 42, history, n));
        differ += token != pick(&s, 43, history, n);
    }
    assert_true(differ > 32);
}

/* Frequencies over many positions follow the softmax. */
static void test_draws_follow_the_probabilities(void **state)
{
    (void)state;
    enum { DRAWS = 20000 };
    struct err err = {0};
    struct infer_sampling s = plain();
    float p[VOCAB];
    static int32_t history[DRAWS];
    int counts[VOCAB] = {0};
    s.temperature = 0.5f;
    s.repeat_last_n = 0;
    make_logits(p);
    for (int i = 0; i < VOCAB; i++) {
        p[i] /= 0.5f;
    }
    assert_ok(engine_softmax(model, p, &err), &err);
    for (int n = 0; n < DRAWS; n++) {
        counts[pick(&s, 5, history, n)]++;
    }
    for (int i = 0; i < VOCAB; i++) {
        const double want = (double)p[i] * DRAWS;
        assert_true(fabs(counts[i] - want) < 6.0 * sqrt(want + 1.0));
    }
}

static void test_top_k_top_p_and_min_p_keep_the_likeliest(void **state)
{
    (void)state;
    float logits[VOCAB];
    const int32_t history[2000] = {0};
    make_logits(logits);
    struct infer_sampling s = plain();
    s.top_k = 1;
    assert_int_equal(pick(&s, 1, history, 3), best_of(logits));
    s = plain();
    s.top_p = 1e-6f;
    assert_int_equal(pick(&s, 1, history, 3), best_of(logits));
    s = plain();
    s.min_p = 0.999f;
    assert_int_equal(pick(&s, 1, history, 3), best_of(logits));

    /* top_k = 5 never leaves the five highest, and reaches all of them */
    bool seen[VOCAB] = {false};
    s = plain();
    s.top_k = 5;
    s.temperature = 3.0f;
    for (int n = 0; n < 400; n++) {
        seen[pick(&s, 3, history, n)] = true;
    }
    int kept = 0;
    for (int i = 0; i < VOCAB; i++) {
        int above = 0;
        for (int j = 0; j < VOCAB; j++) {
            above += logits[j] > logits[i];
        }
        assert_true(!seen[i] || above < 5);
        kept += seen[i];
    }
    assert_int_equal(kept, 5);

    /* top_p alone (selected in growing prefixes) and behind a top_k that keeps all agree */
    struct infer_sampling wide = plain();
    wide.top_p = s.top_p = 0.8f;
    s = wide;
    s.top_k = VOCAB;
    for (int n = 0; n < 400; n++) {
        assert_int_equal(pick(&s, 11, history, n), pick(&wide, 11, history, n));
    }
}

static void test_penalties_look_at_the_last_tokens_only(void **state)
{
    (void)state;
    float logits[VOCAB];
    make_logits(logits);
    const int32_t best = best_of(logits);
    int32_t history[100];
    for (int i = 0; i < 100; i++) {
        history[i] = best;
    }
    struct infer_sampling s = plain();
    s.temperature = 0.0f;
    s.repetition_penalty = 50.0f;
    assert_int_not_equal(pick(&s, 1, history, 100), best);
    s.repeat_last_n = 0;
    assert_int_equal(pick(&s, 1, history, 100), best);
    s.repeat_last_n = 4;
    for (int i = 96; i < 100; i++) {
        history[i] = (best + 1) % VOCAB;
    }
    assert_int_equal(pick(&s, 1, history, 100), best);
    s.repetition_penalty = 1.0f;
    s.repeat_last_n = 64;
    s.frequency_penalty = 0.2f; /* 60 times */
    assert_int_not_equal(pick(&s, 1, history, 100), best);
    s.frequency_penalty = 0.0f;
    s.presence_penalty = 50.0f;
    assert_int_not_equal(pick(&s, 1, history, 100), best);
}

static void test_a_broken_logit_is_an_error(void **state)
{
    (void)state;
    struct err err = {0};
    const struct infer_sampling s = plain();
    float logits[VOCAB];
    int32_t token;
    make_logits(logits);
    logits[4] = NAN;
    assert_err(sampler_pick(&sampler, &s, 1, 0, NULL, 0, logits, NULL, &token, &err), &err,
               ERR_INVALID);
}

static void test_settings_out_of_bounds_are_named(void **state)
{
    (void)state;
    struct err err = {0};
    static const struct {
        const char *name;
        size_t offset;
        bool real;
        double value;
    } rows[] = {
        {"max_tokens", offsetof(struct infer_sampling, max_tokens), false, -1},
        {"temperature", offsetof(struct infer_sampling, temperature), true, -0.1},
        {"temperature", offsetof(struct infer_sampling, temperature), true, (double)NAN},
        {"top_p", offsetof(struct infer_sampling, top_p), true, 0.0},
        {"top_p", offsetof(struct infer_sampling, top_p), true, 1.5},
        {"top_k", offsetof(struct infer_sampling, top_k), false, -1},
        {"min_p", offsetof(struct infer_sampling, min_p), true, 1.0},
        {"repetition_penalty", offsetof(struct infer_sampling, repetition_penalty), true, 0.0},
        {"repeat_last_n", offsetof(struct infer_sampling, repeat_last_n), false, -1},
        {"stop", offsetof(struct infer_sampling, n_stops), false, INFER_STOPS_MAX + 1},
        {"stop sequence 0", offsetof(struct infer_sampling, n_stops), false, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct infer_sampling s = plain();
        char *at = (char *)&s + rows[i].offset;
        const float real = (float)rows[i].value;
        const int whole = rows[i].real ? 0 : (int)rows[i].value;
        memcpy(at, rows[i].real ? (const void *)&real : (const void *)&whole, 4);
        assert_int_equal(infer_sampling_check(&s, &err), -ERR_UNPROCESSABLE);
        assert_non_null(strstr(err.message, rows[i].name));
        err_clear(&err);
    }
}

/* --- stop strings --- */

static void feed(const char *const *stop, int n_stops, const char *text, size_t step,
                 const char *want, bool want_stop)
{
    struct infer_sampling s = plain();
    struct stops stops;
    struct buf out;
    bool stopped = false;
    for (int i = 0; i < n_stops; i++) {
        snprintf(s.stops[s.n_stops++], INFER_STOP_BYTES_MAX, "%s", stop[i]);
    }
    stops_init(&stops, &s);
    buf_init(&out, 1000);
    for (size_t at = 0; at < strlen(text) && !stopped; at += step) {
        const size_t left = strlen(text) - at;
        stopped = stops_push(&stops, text + at, left < step ? left : step, &out);
    }
    if (!stopped) {
        stops_flush(&stops, &out);
    }
    assert_string_equal(out.data != NULL ? out.data : "", want);
    assert_int_equal(stopped, want_stop);
    buf_release(&out);
    stops_release(&stops);
}

static void test_stop_strings_cut_wherever_the_text_is_cut(void **state)
{
    (void)state;
    static const char *const end[] = {"</end>"};
    static const char *const two[] = {"aab", "xyz"};
    for (size_t step = 1; step < 20; step++) {
        feed(end, 1, "hello </end> world", step, "hello ", true);
        feed(end, 1, "a </en b </e", step, "a </en b </e", false);
        feed(end, 1, "</end>", step, "", true);
        feed(two, 2, "aaab xyz", step, "a", true);
        feed(two, 2, "aaxyxyz!", step, "aaxy", true);
        feed(NULL, 0, "as it is", step, "as it is", false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_highest_and_the_lowest_id_of_equals),
        cmocka_unit_test(test_a_seed_repeats_and_positions_differ),
        cmocka_unit_test(test_draws_follow_the_probabilities),
        cmocka_unit_test(test_top_k_top_p_and_min_p_keep_the_likeliest),
        cmocka_unit_test(test_penalties_look_at_the_last_tokens_only),
        cmocka_unit_test(test_a_broken_logit_is_an_error),
        cmocka_unit_test(test_settings_out_of_bounds_are_named),
        cmocka_unit_test(test_stop_strings_cut_wherever_the_text_is_cut),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
