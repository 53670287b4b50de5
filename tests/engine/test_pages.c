/* Pages of keys and values: shared by forked sessions and keepers, never written while they are,
 * counted, and given back. What a session says never depends on whose pages it stands on. */
#include "engine/engine.h"
#include "test.h"

enum { VOCAB = 128, LENGTH = 60, PAGE = ENGINE_KV_PAGE_TOKENS };

static struct engine_model *open_model(size_t pages)
{
    struct err err = {0};
    struct engine_model *model = NULL;
    struct engine_options options = {.threads = 1, .isa = "best"};
    const char *path = "tests/fixtures/engine/serve/q4_1.gguf";
    assert_ok(engine_model_open(&model, path, &options, &err), &err);
    if (pages > 0) {
        options.kv_bytes_max = pages * engine_model_info(model)->kv_page_bytes;
        engine_model_free(model);
        assert_ok(engine_model_open(&model, path, &options, &err), &err);
        assert_int_equal(engine_pages_max(model), pages);
    }
    assert_int_equal(engine_pages_used(model), 0);
    return model;
}

/* Two timelines that part at token `fork`. */
static void make_tokens(int32_t *tokens, int fork, int variant)
{
    for (int i = 0; i < LENGTH; i++) {
        tokens[i] = (i * 37 + 11 + (i >= fork ? variant * 5 : 0)) % VOCAB;
    }
}

static int eval(struct engine_model *model, struct engine_session *session, const int32_t *tokens,
                int n, float *logits, struct err *err)
{
    struct engine_piece piece = {
        .session = session, .tokens = tokens, .n_tokens = n, .logits = logits, .all_logits = true};
    return engine_eval(model, &piece, 1, err);
}

static struct engine_session *new_session(struct engine_model *model)
{
    struct err err = {0};
    struct engine_session *session = NULL;
    assert_ok(engine_session_new(&session, model, &err), &err);
    return session;
}

static void alone(struct engine_model *model, const int32_t *tokens, float *logits)
{
    struct err err = {0};
    struct engine_session *session = new_session(model);
    assert_ok(eval(model, session, tokens, LENGTH, logits, &err), &err);
    engine_session_free(session);
}

/* Parent and fork go on by turns, each with its own tokens, from any place within a page. */
static void test_a_fork_and_its_parent_leave_each_other_alone(void **state)
{
    (void)state;
    static float want[2][LENGTH * VOCAB], got[2][LENGTH * VOCAB];
    struct err err = {0};
    struct engine_model *model = open_model(0);
    for (int fork = 1; fork < 3 * PAGE; fork += 5) {
        int32_t tokens[2][LENGTH];
        struct engine_session *sessions[2] = {new_session(model), NULL};
        make_tokens(tokens[0], fork, 0);
        make_tokens(tokens[1], fork, 1);
        alone(model, tokens[0], want[0]);
        alone(model, tokens[1], want[1]);
        assert_ok(eval(model, sessions[0], tokens[0], fork + 7, got[0], &err), &err);
        const size_t used = engine_pages_used(model);
        assert_ok(engine_session_fork(&sessions[1], sessions[0], fork, &err), &err);
        assert_int_equal(engine_pages_used(model), used);
        assert_int_equal(engine_session_length(sessions[1]), fork);
        engine_session_truncate(sessions[0], fork);
        for (int at = fork; at < LENGTH; at++) {
            for (int s = 0; s < 2; s++) {
                assert_ok(eval(model, sessions[s], &tokens[s][at], 1, got[s] + at * VOCAB, &err),
                          &err);
            }
        }
        for (int s = 0; s < 2; s++) {
            assert_memory_equal(got[s] + fork * VOCAB, want[s] + fork * VOCAB,
                                (size_t)(LENGTH - fork) * VOCAB * sizeof(float));
            assert_int_equal(engine_session_length(sessions[s]), LENGTH);
        }
        const int shared = fork / PAGE;
        const int each = (LENGTH + PAGE - 1) / PAGE;
        assert_int_equal(engine_pages_used(model), 2 * each - shared);
        engine_session_free(sessions[0]);
        assert_int_equal(engine_pages_used(model), each);
        engine_session_free(sessions[1]);
        assert_int_equal(engine_pages_used(model), 0);
    }
    engine_model_free(model);
}

/* Kept pages outlive their session and stand in others, the last one in part; so do pages that
 * were filled with the bytes of others. */
static void test_kept_pages_stand_in_other_sessions(void **state)
{
    (void)state;
    static float want[LENGTH * VOCAB], got[LENGTH * VOCAB];
    struct err err = {0};
    struct engine_model *model = open_model(0);
    const size_t bytes = engine_model_info(model)->kv_page_bytes;
    struct engine_page *kept[3], *copies[3];
    int32_t tokens[LENGTH];
    make_tokens(tokens, 0, 0);
    alone(model, tokens, want);
    struct engine_session *first = new_session(model);
    assert_ok(eval(model, first, tokens, 2 * PAGE + 9, got, &err), &err);
    for (int i = 0; i < 3; i++) {
        kept[i] = engine_session_page(first, i);
        assert_int_equal(engine_page_users(kept[i]), 2);
        assert_ok(engine_page_new(&copies[i], model, &err), &err);
        memcpy(engine_page_bytes(copies[i]), engine_page_bytes(kept[i]), bytes);
    }
    engine_session_free(first);
    assert_int_equal(engine_pages_used(model), 6);
    for (int tail = 1; tail <= 9; tail += 4) {
        for (int round = 0; round < 4; round++) {
            struct engine_page **pages = round % 2 == 0 ? kept : copies;
            struct engine_session *s = new_session(model);
            for (int i = 0; i < 3; i++) {
                engine_session_append(s, pages[i], i < 2 ? PAGE : tail);
            }
            const int at = engine_session_length(s);
            assert_int_equal(at, 2 * PAGE + tail);
            assert_int_equal(engine_session_pages_needed(s, 0), 0);
            assert_int_equal(engine_session_pages_needed(s, 1), 1); /* the copy of the last */
            assert_ok(eval(model, s, tokens + at, LENGTH - at, got + at * VOCAB, &err), &err);
            assert_memory_equal(got + at * VOCAB, want + at * VOCAB,
                                (size_t)(LENGTH - at) * VOCAB * sizeof(float));
            assert_int_equal(engine_page_users(pages[2]), 1);
            engine_session_free(s);
        }
    }
    for (int i = 0; i < 3; i++) {
        engine_page_release(model, kept[i]);
        engine_page_release(model, copies[i]);
    }
    assert_int_equal(engine_pages_used(model), 0);
    engine_model_free(model);
}

static void test_pages_that_run_out_change_nothing(void **state)
{
    (void)state;
    static float want[LENGTH * VOCAB], got[LENGTH * VOCAB];
    struct err err = {0};
    struct engine_model *model = open_model(4);
    int32_t tokens[LENGTH];
    make_tokens(tokens, 0, 0);
    alone(model, tokens, want);
    struct engine_session *a = new_session(model);
    struct engine_session *b = new_session(model);
    assert_ok(eval(model, a, tokens, 20, got, &err), &err);
    assert_ok(eval(model, b, tokens, 1, got, &err), &err);
    assert_int_equal(engine_pages_used(model), 3);
    struct engine_piece pieces[2] = {{.session = a, .tokens = tokens + 20, .n_tokens = 20},
                                     {.session = b, .tokens = tokens + 1, .n_tokens = 20}};
    assert_int_equal(engine_session_pages_needed(a, 20), 1);
    assert_int_equal(engine_session_pages_needed(b, 20), 1);
    assert_int_equal(engine_eval(model, pieces, 2, &err), -ERR_UNAVAILABLE);
    assert_string_equal(err.message,
                        "key-value memory is full: 4 of 4 pages of 16 tokens are in use");
    err_clear(&err);
    assert_int_equal(engine_pages_used(model), 3);
    assert_int_equal(engine_session_length(a), 20);
    engine_session_free(b);
    assert_ok(eval(model, a, tokens + 20, LENGTH - 20, got + 20 * VOCAB, &err), &err);
    assert_memory_equal(got + 20 * VOCAB, want + 20 * VOCAB,
                        (size_t)(LENGTH - 20) * VOCAB * sizeof(float));
    engine_session_free(a);
    assert_int_equal(engine_pages_used(model), 0);
    engine_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fork_and_its_parent_leave_each_other_alone),
        cmocka_unit_test(test_kept_pages_stand_in_other_sessions),
        cmocka_unit_test(test_pages_that_run_out_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
