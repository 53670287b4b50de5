/* engine_eval against transformers' logits, and "same bits": threads, instruction sets, chunks,
 * batch mates, cancelled neighbours and adapters leave no trace in a logit. */
#include <math.h>

#include "engine/adapter_files.h"
#include "engine/engine.h"
#include "formats/safetensors.h"
#include "kernels/kernels.h"
#include "test.h"

enum { VOCAB = 128, LENGTH = 60, CHUNKS_MAX = 64 };

static const char *const kinds[] = {"q4_0", "q4_1", "q8_0"};

static struct engine_model *open_model(const char *kind, const char *isa, int threads)
{
    struct err err = {0};
    struct engine_model *model = NULL;
    char path[128];
    const struct engine_options options = {.threads = threads, .isa = isa};
    snprintf(path, sizeof path, "tests/fixtures/engine/serve/%s.gguf", kind);
    assert_ok(engine_model_open(&model, path, &options, &err), &err);
    assert_int_equal(engine_model_info(model)->vocab_size, VOCAB);
    return model;
}

static void golden(const char *kind, int32_t *tokens, float *logits)
{
    struct err err = {0};
    struct safetensors *file = NULL;
    char path[128];
    snprintf(path, sizeof path, "tests/fixtures/engine/serve/%s.safetensors", kind);
    assert_ok(safetensors_open(path, &file, &err), &err);
    const struct tensor_view *t = safetensors_tensor(file, "tokens");
    const struct tensor_view *l = safetensors_tensor(file, "logits");
    assert_non_null(t);
    assert_non_null(l);
    assert_int_equal(t->bytes, LENGTH * sizeof *tokens);
    assert_int_equal(l->bytes, LENGTH * VOCAB * sizeof *logits);
    memcpy(tokens, t->data, t->bytes);
    memcpy(logits, l->data, l->bytes);
    safetensors_free(file);
}

/* All logits of tokens, the prompt cut into chunks of these sizes (0 ends the list: the rest). */
static void eval_chunks(struct engine_model *model, const struct engine_adapter *adapter,
                        const int32_t *tokens, const int *chunks, float *logits)
{
    struct err err = {0};
    struct engine_session *session = NULL;
    assert_ok(engine_session_new(&session, model, &err), &err);
    for (int at = 0, i = 0; at < LENGTH; i++) {
        const int left = LENGTH - at;
        const int n = chunks[i] == 0 || chunks[i] > left ? left : chunks[i];
        struct engine_piece piece = {.session = session,
                                     .adapter = adapter,
                                     .tokens = tokens + at,
                                     .n_tokens = n,
                                     .logits = logits + at * VOCAB,
                                     .all_logits = true};
        assert_ok(engine_eval(model, &piece, 1, &err), &err);
        at += n;
        assert_int_equal(engine_session_length(session), at);
        i -= chunks[i] == 0;
    }
    engine_session_free(session);
}

static const int whole[] = {0};

/* Mean over positions of KL(P_transformers ‖ Q_ours), in nats. */
static double divergence(const float *want, const float *got)
{
    double sum = 0.0;
    for (int t = 0; t < LENGTH; t++) {
        double zp = 0.0;
        double zq = 0.0;
        double kl = 0.0;
        for (int i = 0; i < VOCAB; i++) {
            zp += exp((double)want[t * VOCAB + i]);
            zq += exp((double)got[t * VOCAB + i]);
        }
        for (int i = 0; i < VOCAB; i++) {
            const double p = exp((double)want[t * VOCAB + i]) / zp;
            kl +=
                p * ((double)want[t * VOCAB + i] - log(zp) - (double)got[t * VOCAB + i] + log(zq));
        }
        sum += kl;
    }
    return sum / LENGTH;
}

/* Activations of eight bits are the only difference to fp32 on de-quantised weights; on this model
 * they cost about 1e-3 nats, a wrong rope or a lost row costs more than 0.1. */
static void test_logits_are_those_of_transformers(void **state)
{
    (void)state;
    int32_t tokens[LENGTH];
    static float want[LENGTH * VOCAB], got[LENGTH * VOCAB];
    for (size_t k = 0; k < 3; k++) {
        struct engine_model *model = open_model(kinds[k], "best", 2);
        golden(kinds[k], tokens, want);
        eval_chunks(model, NULL, tokens, whole, got);
        const double kl = divergence(want, got);
        print_message("%s: KL %.2e nats\n", kinds[k], kl);
        assert_true(kl < 5e-3);
        engine_model_free(model);
    }
}

/* Float weights meet fp32 activations: only fp16 keys and values (relative error 2^-11) stand
 * between us and PyTorch, on logits up to 3. */
static void test_float_logits_are_those_of_transformers(void **state)
{
    (void)state;
    struct err err = {0};
    struct engine_model *model = NULL;
    struct safetensors *file = NULL;
    struct engine_session *session = NULL;
    const struct engine_options options = {.threads = 2, .isa = "best"};
    assert_ok(engine_model_open(&model, "tests/fixtures/engine/train_gqa", &options, &err), &err);
    assert_ok(safetensors_open("tests/fixtures/engine/train_gqa/golden.safetensors", &file, &err),
              &err);
    const struct tensor_view *rows = safetensors_tensor(file, "rows.tokens");
    const struct tensor_view *want = safetensors_tensor(file, "logits");
    const int n = (int)want->dims[0];
    const int vocab = (int)want->dims[1];
    float *got = mem_calloc((size_t)(n * vocab), sizeof *got);
    assert_non_null(got);
    assert_ok(engine_session_new(&session, model, &err), &err);
    struct engine_piece piece = {.session = session,
                                 .tokens = (const int32_t *)(const void *)rows->data,
                                 .n_tokens = n,
                                 .logits = got,
                                 .all_logits = true};
    assert_ok(engine_eval(model, &piece, 1, &err), &err);
    for (int i = 0; i < n * vocab; i++) {
        float w;
        memcpy(&w, want->data + (size_t)i * sizeof w, sizeof w);
        assert_true(fabsf(w - got[i]) < 4e-3f);
    }
    mem_free(got);
    engine_session_free(session);
    engine_model_free(model);
    safetensors_free(file);
}

static void test_threads_and_instruction_sets_leave_no_trace(void **state)
{
    (void)state;
    int32_t tokens[LENGTH];
    static float want[LENGTH * VOCAB], got[LENGTH * VOCAB];
    for (size_t k = 0; k < 3; k++) {
        struct engine_model *model = open_model(kinds[k], "ref", 1);
        golden(kinds[k], tokens, want);
        eval_chunks(model, NULL, tokens, whole, want);
        engine_model_free(model);
        for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
            for (int threads = 1; threads <= 4; threads++) {
                model = open_model(kinds[k], *isa, threads);
                eval_chunks(model, NULL, tokens, whole, got);
                assert_memory_equal(want, got, sizeof want);
                engine_model_free(model);
            }
            print_message("%s: %s equals ref on 1 to 4 threads\n", kinds[k], *isa);
        }
    }
}

static void test_chunks_leave_no_trace(void **state)
{
    (void)state;
    static const int cuts[][4] = {{1}, {7, 1, 2}, {16}, {59}, {5, 40}, {17, 30, 3}};
    int32_t tokens[LENGTH];
    static float want[LENGTH * VOCAB], got[LENGTH * VOCAB];
    struct engine_model *model = open_model("q4_1", "best", 2);
    golden("q4_1", tokens, want);
    eval_chunks(model, NULL, tokens, whole, want);
    for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
        int chunks[CHUNKS_MAX + 1] = {0};
        for (int i = 0; i < CHUNKS_MAX; i++) {
            chunks[i] = cuts[c][i % 4] > 0 ? cuts[c][i % 4] : cuts[c][0];
        }
        eval_chunks(model, NULL, tokens, chunks, got);
        assert_memory_equal(want, got, sizeof want);
    }
    engine_model_free(model);
}

/* An adapter with something in both factors. */
static struct engine_adapter *make_adapter(struct engine_model *model, unsigned targets, int rank)
{
    struct err err = {0};
    struct engine_adapter *adapter = NULL;
    const struct engine_lora lora = {
        .rank = rank, .scale = 2.0f, .targets = targets, .first_layer = 1};
    assert_ok(engine_adapter_new(&adapter, model, &lora, 3, &err), &err);
    int n;
    struct engine_tensor *tensors = engine_adapter_tensors(adapter, &n);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < tensors[i].rows * tensors[i].cols; j++) {
            tensors[i].data[j] += 0.01f * (float)((i * 31 + j * 7) % 11 - 5);
        }
    }
    engine_adapter_changed(adapter);
    return adapter;
}

/* Three sessions, three adapters (one none), evaluated together token by token from different
 * positions, equal the same sessions alone. */
static void test_batch_mates_leave_no_trace(void **state)
{
    (void)state;
    enum { SESSIONS = 3 };
    int32_t tokens[LENGTH];
    static float want[SESSIONS][LENGTH * VOCAB], got[SESSIONS][LENGTH * VOCAB];
    struct err err = {0};
    struct engine_model *model = open_model("q8_0", "best", 2);
    struct engine_adapter *adapters[SESSIONS] = {NULL, make_adapter(model, 0x7f, 8),
                                                 make_adapter(model, 0x0f, 20)};
    struct engine_session *sessions[SESSIONS];
    golden("q8_0", tokens, want[0]);
    for (int s = 0; s < SESSIONS; s++) {
        eval_chunks(model, adapters[s], tokens, whole, want[s]);
        assert_ok(engine_session_new(&sessions[s], model, &err), &err);
    }
    assert_memory_not_equal(want[0], want[1], sizeof want[0]);
    assert_memory_not_equal(want[1], want[2], sizeof want[1]);
    for (int at[SESSIONS] = {0}, step = 0; at[0] < LENGTH || at[1] < LENGTH || at[2] < LENGTH;
         step++) {
        struct engine_piece pieces[SESSIONS];
        int n = 0;
        for (int s = 0; s < SESSIONS; s++) {
            int take = step < 3 ? 3 * s + 2 : 1;
            take = take < LENGTH - at[s] ? take : LENGTH - at[s];
            if (take == 0) {
                continue;
            }
            const struct engine_piece piece = {.session = sessions[s],
                                               .adapter = adapters[s],
                                               .tokens = tokens + at[s],
                                               .n_tokens = take,
                                               .logits = got[s] + at[s] * VOCAB,
                                               .all_logits = true};
            pieces[n++] = piece;
            at[s] += take;
        }
        assert_ok(engine_eval(model, pieces, n, &err), &err);
    }
    assert_memory_equal(want, got, sizeof want);
    for (int s = 0; s < SESSIONS; s++) {
        engine_session_free(sessions[s]);
        engine_adapter_free(adapters[s]);
    }
    engine_model_free(model);
}

static void test_a_truncated_session_goes_on_with_the_same_bits(void **state)
{
    (void)state;
    int32_t tokens[LENGTH];
    static float want[LENGTH * VOCAB], got[VOCAB];
    struct err err = {0};
    struct engine_session *session = NULL;
    struct engine_model *model = open_model("q4_0", "best", 2);
    golden("q4_0", tokens, want);
    eval_chunks(model, NULL, tokens, whole, want);
    assert_ok(engine_session_new(&session, model, &err), &err);
    struct engine_piece piece = {.session = session, .tokens = tokens, .n_tokens = LENGTH};
    assert_ok(engine_eval(model, &piece, 1, &err), &err);
    engine_session_truncate(session, 21);
    piece.tokens = tokens + 21;
    piece.n_tokens = 9;
    piece.logits = got;
    assert_ok(engine_eval(model, &piece, 1, &err), &err);
    assert_memory_equal(want + 29 * VOCAB, got, sizeof got);
    engine_session_free(session);
    engine_model_free(model);
}

static void test_bad_requests_change_nothing(void **state)
{
    (void)state;
    struct err err = {0};
    struct engine_session *session = NULL;
    struct engine_model *model = NULL;
    const struct engine_options options = {
        .threads = 1, .isa = "best", .kv_bytes_max = 3 * 6144, .context_length = 200};
    assert_ok(engine_model_open(&model, "tests/fixtures/engine/serve/q8_0.gguf", &options, &err),
              &err);
    assert_int_equal(engine_model_info(model)->kv_page_bytes, 6144);
    assert_ok(engine_session_new(&session, model, &err), &err);
    int32_t tokens[201] = {0};
    struct engine_piece piece = {.session = session, .tokens = tokens, .n_tokens = 201};
    assert_err(engine_eval(model, &piece, 1, &err), &err, ERR_INVALID);
    piece.n_tokens = 0;
    assert_err(engine_eval(model, &piece, 1, &err), &err, ERR_INVALID);
    piece.n_tokens = 2;
    tokens[1] = VOCAB;
    assert_err(engine_eval(model, &piece, 1, &err), &err, ERR_INVALID);
    tokens[1] = -1;
    assert_err(engine_eval(model, &piece, 1, &err), &err, ERR_INVALID);
    tokens[1] = 1;
    piece.n_tokens = 49; /* four pages of three */
    assert_err(engine_eval(model, &piece, 1, &err), &err, ERR_UNAVAILABLE);
    assert_int_equal(engine_session_length(session), 0);
    piece.n_tokens = 48;
    assert_ok(engine_eval(model, &piece, 1, &err), &err);
    piece.n_tokens = 1;
    assert_err(engine_eval(model, &piece, 1, &err), &err, ERR_UNAVAILABLE);
    assert_int_equal(engine_session_length(session), 48);
    assert_err(engine_eval(model, &piece, 0, &err), &err, ERR_INVALID);
    engine_session_free(session);
    engine_model_free(model);
}

static void test_adapters_come_back_from_their_files(void **state)
{
    (void)state;
    struct err err = {0};
    char dir[FS_PATH_BYTES_MAX];
    char path[FS_PATH_BYTES_MAX];
    struct engine_model *model = open_model("q8_0", "best", 1);
    struct engine_adapter *adapter = make_adapter(model, 0x2f, 4);
    struct engine_adapter *back = NULL;
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "adapter.safetensors", &err), &err);
    assert_ok(engine_adapter_save(adapter, path, &err), &err);
    assert_ok(engine_adapter_load(&back, model, path, 2.0f, &err), &err);
    int n;
    int n_back;
    const struct engine_tensor *a = engine_adapter_tensors(adapter, &n);
    const struct engine_tensor *b = engine_adapter_tensors(back, &n_back);
    assert_int_equal(n, n_back);
    assert_int_equal(engine_adapter_lora(back)->first_layer, 1);
    assert_int_equal(engine_adapter_lora(back)->targets, 0x2f);
    for (int i = 0; i < n; i++) {
        assert_string_equal(a[i].name, b[i].name);
        assert_memory_equal(a[i].data, b[i].data,
                            (size_t)a[i].rows * (size_t)a[i].cols * sizeof(float));
    }
    engine_adapter_free(back);
    engine_adapter_free(adapter);
    engine_model_free(model);

    /* another base: every tensor is wrong, and the message lists the first of them */
    const struct engine_options options = {.threads = 1, .isa = "best"};
    assert_ok(engine_model_open(&model, "tests/fixtures/engine/train_gqa", &options, &err), &err);
    back = NULL;
    assert_int_equal(engine_adapter_load(&back, model, path, 2.0f, &err), -ERR_INVALID);
    assert_non_null(strstr(err.message, "lora_a"));
    assert_null(back);
    engine_model_free(model);
    test_dir_remove(dir);
}

static void test_an_unknown_instruction_set_is_refused_by_name(void **state)
{
    (void)state;
    struct err err = {0};
    struct engine_model *model = NULL;
    const struct engine_options options = {.isa = "mmx"};
    assert_int_equal(
        engine_model_open(&model, "tests/fixtures/engine/serve/q8_0.gguf", &options, &err),
        -ERR_INVALID);
    assert_non_null(strstr(err.message, "mmx"));
}

/* Opening, evaluating and closing with the n-th allocation failing, for every n. */
static void test_failed_allocations_are_errors(void **state)
{
    (void)state;
    const size_t before = mem_used();
    for (uint64_t nth = 1;; nth++) {
        struct err err = {0};
        struct engine_model *model = NULL;
        struct engine_session *session = NULL;
        const struct engine_options options = {.threads = 2, .isa = "best"};
        const int32_t tokens[] = {1, 2, 3};
        float logits[VOCAB];
        fault_arm(FAULT_MALLOC, nth, false);
        int rc = engine_model_open(&model, "tests/fixtures/engine/serve/q4_1.gguf", &options, &err);
        rc = rc == 0 ? engine_session_new(&session, model, &err) : rc;
        struct engine_piece piece = {
            .session = session, .tokens = tokens, .n_tokens = 3, .logits = logits};
        rc = rc == 0 ? engine_eval(model, &piece, 1, &err) : rc;
        const bool fired = fault_fired();
        fault_disarm();
        engine_session_free(session);
        engine_model_free(model);
        assert_int_equal(mem_used(), before);
        if (!fired) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_those_of_transformers),
        cmocka_unit_test(test_float_logits_are_those_of_transformers),
        cmocka_unit_test(test_threads_and_instruction_sets_leave_no_trace),
        cmocka_unit_test(test_chunks_leave_no_trace),
        cmocka_unit_test(test_batch_mates_leave_no_trace),
        cmocka_unit_test(test_a_truncated_session_goes_on_with_the_same_bits),
        cmocka_unit_test(test_bad_requests_change_nothing),
        cmocka_unit_test(test_adapters_come_back_from_their_files),
        cmocka_unit_test(test_an_unknown_instruction_set_is_refused_by_name),
        cmocka_unit_test(test_failed_allocations_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
