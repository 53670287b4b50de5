/* The tree of kept pages: what it finds is the longest that was kept, by however many at once, and
 * what it gives up is what was used longest ago and nobody stands on. */
#include "base/fault.h"
#include "infer/prefix_cache.h"
#include "test.h"

enum { VOCAB = 128, PAGE = ENGINE_KV_PAGE_TOKENS, LENGTH_MAX = 64, ENTRIES = 40 };

static struct engine_model *open_model(void)
{
    struct err err = {0};
    struct engine_model *model = NULL;
    const struct engine_options options = {
        .threads = 1, .isa = "best", .kv_bytes_max = (size_t)64 << 20};
    assert_ok(engine_model_open(&model, "tests/fixtures/engine/serve/q4_1.gguf", &options, &err),
              &err);
    return model;
}

static struct engine_session *new_session(struct engine_model *model)
{
    struct err err = {0};
    struct engine_session *session = NULL;
    assert_ok(engine_session_new(&session, model, &err), &err);
    return session;
}

static void eval(struct engine_model *model, struct engine_session *session, const int32_t *tokens,
                 int n, float *logits)
{
    struct err err = {0};
    struct engine_piece piece = {
        .session = session, .tokens = tokens, .n_tokens = n, .logits = logits};
    assert_ok(engine_eval(model, &piece, 1, &err), &err);
}

/* Keeps tokens[0, n) as a request that ended would. */
static void keep(struct prefix_cache *c, const char *key, const int32_t *tokens, int n)
{
    struct engine_session *s = new_session(c->model);
    if (n > 1) {
        (void)prefix_cache_extend(c, key, tokens, n, s);
    }
    const int have = engine_session_length(s);
    eval(c->model, s, tokens + have, n - have, NULL);
    prefix_cache_keep(c, key, tokens, s, true);
    engine_session_free(s);
}

static int find(struct prefix_cache *c, const char *key, const int32_t *tokens, int n)
{
    struct engine_session *s = new_session(c->model);
    const int found = prefix_cache_extend(c, key, tokens, n, s);
    assert_int_equal(engine_session_length(s), found);
    engine_session_free(s);
    return found;
}

/* Few different tokens, so that many timelines begin alike. */
static int make_tokens(uint32_t *state, int32_t *tokens)
{
    for (int i = 0; i < LENGTH_MAX; i++) {
        *state = *state * 1664525u + 1013904223u;
        tokens[i] = i < 12 ? 7 : (int32_t)(*state >> 30);
        tokens[i] = (*state >> 24) % 8 != 0 ? 7 : tokens[i];
    }
    return 1 + (int)((*state >> 8) % LENGTH_MAX);
}

static int in_common(const int32_t *a, int n_a, const int32_t *b, int n_b)
{
    int i = 0;
    while (i < n_a && i < n_b && a[i] == b[i]) {
        i++;
    }
    return i;
}

static void test_it_finds_the_longest_that_was_kept(void **state)
{
    (void)state;
    static const char *const keys[] = {"", "an adapter"};
    static int32_t tokens[ENTRIES][LENGTH_MAX];
    int lengths[ENTRIES];
    struct engine_model *model = open_model();
    struct prefix_cache c;
    uint32_t random = 5;
    prefix_cache_init(&c, model, (uint64_t)32 << 20);
    for (int i = 0; i < ENTRIES; i++) {
        lengths[i] = make_tokens(&random, tokens[i]);
        for (int key = 0; key < 2; key++) {
            int longest = 0;
            for (int j = key; j < i; j += 2) {
                const int n = in_common(tokens[j], lengths[j], tokens[i], lengths[i] - 1);
                longest = n > longest ? n : longest;
            }
            assert_int_equal(find(&c, keys[key], tokens[i], lengths[i]), longest);
        }
        keep(&c, keys[i % 2], tokens[i], lengths[i]);
        assert_int_equal(prefix_cache_bytes(&c),
                         engine_pages_used(model) * engine_model_info(model)->kv_page_bytes);
        assert_int_equal(prefix_cache_spare(&c), engine_pages_used(model));
    }
    while (prefix_cache_evict(&c)) {
    }
    assert_int_equal(engine_pages_used(model), 0);
    assert_int_equal(find(&c, "", tokens[0], LENGTH_MAX), 0);
    prefix_cache_release(&c);
    engine_model_free(model);
}

/* 32 sessions stand on the same pages at once, go on in their own ways, and say what they would
 * have said alone. */
static void test_many_stand_on_one_path(void **state)
{
    (void)state;
    enum { MANY = 32 };
    static float want[VOCAB], got[VOCAB];
    struct engine_model *model = open_model();
    struct prefix_cache c;
    int32_t tokens[LENGTH_MAX];
    struct engine_session *sessions[MANY];
    prefix_cache_init(&c, model, (uint64_t)32 << 20);
    for (int i = 0; i < LENGTH_MAX; i++) {
        tokens[i] = i * 29 % VOCAB;
    }
    keep(&c, "", tokens, 40);
    const size_t used = engine_pages_used(model);
    for (int i = 0; i < MANY; i++) {
        sessions[i] = new_session(model);
        assert_int_equal(prefix_cache_extend(&c, "", tokens, 60, sessions[i]), 40);
    }
    assert_int_equal(engine_pages_used(model), used);
    assert_int_equal(prefix_cache_spare(&c), 0);
    assert_false(prefix_cache_evict(&c));
    for (int i = 0; i < MANY; i++) {
        struct engine_session *alone = new_session(model);
        tokens[40] = i;
        eval(model, sessions[i], tokens + 40, 20, got);
        eval(model, alone, tokens, 60, want);
        assert_memory_equal(got, want, sizeof want);
        engine_session_free(alone);
    }
    assert_int_equal(engine_pages_used(model), used + 2 * MANY);
    for (int i = 0; i < MANY; i++) {
        engine_session_free(sessions[i]);
    }
    assert_int_equal(engine_pages_used(model), used);
    prefix_cache_release(&c);
    assert_int_equal(engine_pages_used(model), 0);
    engine_model_free(model);
}

static void test_the_least_recently_used_goes_first(void **state)
{
    (void)state;
    struct engine_model *model = open_model();
    const uint64_t page = engine_model_info(model)->kv_page_bytes;
    struct prefix_cache c;
    int32_t tokens[3][LENGTH_MAX];
    prefix_cache_init(&c, model, 6 * page);
    for (int t = 0; t < 3; t++) {
        for (int i = 0; i < LENGTH_MAX; i++) {
            tokens[t][i] = i < PAGE ? i : i + 20 * t + 1;
        }
    }
    keep(&c, "", tokens[0], 3 * PAGE);
    keep(&c, "", tokens[1], 3 * PAGE);
    assert_int_equal(prefix_cache_bytes(&c), 5 * page);              /* the first block is one */
    assert_int_equal(find(&c, "", tokens[0], LENGTH_MAX), 3 * PAGE); /* used again */
    keep(&c, "", tokens[2], 3 * PAGE);
    assert_int_equal(prefix_cache_bytes(&c), 6 * page);
    assert_int_equal(find(&c, "", tokens[2], LENGTH_MAX), 3 * PAGE);
    assert_int_equal(find(&c, "", tokens[0], LENGTH_MAX), 3 * PAGE);
    assert_int_equal(find(&c, "", tokens[1], LENGTH_MAX), 2 * PAGE); /* its end is gone */
    keep(&c, "other", tokens[1], 4 * PAGE);
    assert_int_equal(prefix_cache_bytes(&c), 6 * page);
    assert_int_equal(find(&c, "other", tokens[1], LENGTH_MAX), LENGTH_MAX - 1);
    struct engine_session *s = new_session(model);
    assert_int_equal(prefix_cache_extend(&c, "other", tokens[1], LENGTH_MAX, s), LENGTH_MAX - 1);
    while (prefix_cache_evict(&c)) {
    }
    assert_int_equal(prefix_cache_bytes(&c), 4 * page); /* somebody stands there */
    keep(&c, "", tokens[0], 3 * PAGE);
    assert_int_equal(prefix_cache_bytes(&c), 6 * page);
    engine_session_free(s);
    prefix_cache_release(&c);
    assert_int_equal(engine_pages_used(model), 0);
    engine_model_free(model);
}

/* Whatever comes, the bound holds and every page is somebody's. */
static void test_it_stays_in_its_bound(void **state)
{
    (void)state;
    struct engine_model *model = open_model();
    const uint64_t page = engine_model_info(model)->kv_page_bytes;
    uint32_t random = 77;
    for (uint64_t pages = 0; pages < 9; pages += 2) {
        struct prefix_cache c;
        prefix_cache_init(&c, model, pages * page);
        for (int i = 0; i < 60; i++) {
            int32_t tokens[LENGTH_MAX];
            char key[16];
            snprintf(key, sizeof key, "%d", i % 3);
            keep(&c, key, tokens, make_tokens(&random, tokens));
            assert_true(prefix_cache_bytes(&c) <= pages * page);
            assert_int_equal(prefix_cache_bytes(&c), engine_pages_used(model) * page);
        }
        prefix_cache_release(&c);
        assert_int_equal(engine_pages_used(model), 0);
    }
    engine_model_free(model);
}

static void test_adapters_beyond_the_bound_are_not_kept(void **state)
{
    (void)state;
    struct engine_model *model = open_model();
    struct prefix_cache c;
    int32_t tokens[LENGTH_MAX] = {0};
    char key[16];
    prefix_cache_init(&c, model, (uint64_t)32 << 20);
    for (int i = 0; i <= PREFIX_ROOTS_MAX; i++) {
        snprintf(key, sizeof key, "%d", i);
        keep(&c, key, tokens, PAGE);
        assert_int_equal(find(&c, key, tokens, LENGTH_MAX), i < PREFIX_ROOTS_MAX ? PAGE : 0);
    }
    assert_true(prefix_cache_evict(&c)); /* the first root is bare: its place is free */
    keep(&c, key, tokens, PAGE);
    assert_int_equal(find(&c, key, tokens, LENGTH_MAX), PAGE);
    prefix_cache_release(&c);
    engine_model_free(model);
}

/* Memory that is not there means less is kept, never a page that nobody gives back. */
static void test_failed_allocations_keep_less(void **state)
{
    (void)state;
    struct engine_model *model = open_model();
    struct engine_session *s = new_session(model);
    int32_t tokens[LENGTH_MAX];
    for (int i = 0; i < LENGTH_MAX; i++) {
        tokens[i] = i;
    }
    eval(model, s, tokens, 60, NULL);
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        const size_t before = mem_used();
        struct prefix_cache c;
        prefix_cache_init(&c, model, (uint64_t)32 << 20);
        fault_arm(FAULT_MALLOC, nth, false);
        prefix_cache_keep(&c, "", tokens, s, true);
        fired = fault_fired();
        fault_disarm();
        const int kept = find(&c, "", tokens, LENGTH_MAX);
        assert_true(fired ? kept < 60 : kept == 60);
        prefix_cache_keep(&c, "", tokens, s, true);
        assert_int_equal(find(&c, "", tokens, LENGTH_MAX), 60);
        assert_int_equal(engine_pages_used(model), 4);
        prefix_cache_release(&c);
        assert_int_equal(mem_used(), before);
    }
    engine_session_free(s);
    assert_int_equal(engine_pages_used(model), 0);
    engine_model_free(model);
}

/* Sessions that computed the same blocks side by side hold them once from when they are kept, and
 * go on from there with the bits that they had. */
static void test_what_two_computed_is_held_once(void **state)
{
    (void)state;
    enum { BLOCKS = 3, LENGTH = BLOCKS * PAGE };
    static float alone[VOCAB], shared[VOCAB];
    struct engine_model *model = open_model();
    struct prefix_cache c;
    struct engine_session *s[3];
    int32_t tokens[LENGTH + 1];
    for (int i = 0; i <= LENGTH; i++) {
        tokens[i] = i * 7 % VOCAB;
    }
    prefix_cache_init(&c, model, (uint64_t)32 << 20);
    for (int i = 0; i < 3; i++) {
        s[i] = new_session(model);
        eval(model, s[i], tokens, i < 2 ? LENGTH : PAGE, NULL);
    }
    assert_int_equal(engine_pages_used(model), 2 * BLOCKS + 1);
    prefix_cache_keep(&c, "", tokens, s[0], false);
    prefix_cache_keep(&c, "", tokens, s[1], false);
    assert_int_equal(engine_pages_used(model), BLOCKS + 1);
    assert_int_equal(prefix_cache_extend(&c, "", tokens, LENGTH + 1, s[2]), LENGTH - PAGE);
    assert_int_equal(engine_pages_used(model), BLOCKS);
    engine_session_free(s[0]);
    engine_session_free(s[1]);
    assert_false(prefix_cache_evict(&c));
    eval(model, s[2], tokens + LENGTH, 1, shared);
    engine_session_truncate(s[2], 0);
    while (prefix_cache_evict(&c)) {
    }
    assert_int_equal(engine_pages_used(model), 0);
    eval(model, s[2], tokens, LENGTH + 1, alone);
    assert_memory_equal(shared, alone, sizeof shared);
    engine_session_free(s[2]);
    prefix_cache_release(&c);
    engine_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_two_computed_is_held_once),
        cmocka_unit_test(test_it_finds_the_longest_that_was_kept),
        cmocka_unit_test(test_many_stand_on_one_path),
        cmocka_unit_test(test_the_least_recently_used_goes_first),
        cmocka_unit_test(test_it_stays_in_its_bound),
        cmocka_unit_test(test_failed_allocations_keep_less),
        cmocka_unit_test(test_adapters_beyond_the_bound_are_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
