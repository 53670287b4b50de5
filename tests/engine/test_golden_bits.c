/* Same bits between machines: what other tests compare within one machine is held here to digests
 * that all machines share, whatever instruction set, compiler or operating system ran. They change
 * when ENGINE_NUMERICS_VERSION does, and never otherwise. */
#include "base/hash.h"
#include "engine/train_fixture.h"

enum { VOCAB = 128, LENGTH = 60 };

_Static_assert(ENGINE_NUMERICS_VERSION == 1, "new numerics: write down the new digests");

static void logits_digest(const char *kind, char hex[SHA256_HEX_BYTES])
{
    struct err err = {0};
    struct engine_model *model = NULL;
    struct engine_session *session = NULL;
    struct safetensors *golden = NULL;
    char path[128];
    static float logits[LENGTH * VOCAB];
    const struct engine_options options = {.threads = 2, .isa = "best"};
    snprintf(path, sizeof path, "tests/fixtures/engine/serve/%s.gguf", kind);
    assert_ok(engine_model_open(&model, path, &options, &err), &err);
    snprintf(path, sizeof path, "tests/fixtures/engine/serve/%s.safetensors", kind);
    assert_ok(safetensors_open(path, &golden, &err), &err);
    const struct tensor_view *tokens = safetensors_tensor(golden, "tokens");
    assert_non_null(tokens);
    assert_int_equal(tokens->bytes, LENGTH * sizeof(int32_t));
    assert_int_equal(engine_model_info(model)->vocab_size, VOCAB);
    assert_ok(engine_session_new(&session, model, &err), &err);
    struct engine_piece piece = {.session = session,
                                 .tokens = (const int32_t *)(const void *)tokens->data,
                                 .n_tokens = LENGTH,
                                 .logits = logits,
                                 .all_logits = true};
    assert_ok(engine_eval(model, &piece, 1, &err), &err);
    assert_ok(sha256_hex(logits, sizeof logits, hex, &err), &err);
    engine_session_free(session);
    engine_model_free(model);
    safetensors_free(golden);
}

static void test_logits(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *digest;
    } rows[] = {
        {"q4_0", "3cc0db40ab3ac57e4558fab0b2627fdf747a94540ccb7ddf80b68988a2d17306"},
        {"q4_1", "b6868cf599cc8cfc391bcf40faf3faa7ac7219243a97599669833e08b0e69187"},
        {"q8_0", "32280913d2b84c89523f69448525475b66b5fa04d04491a312cd9682d30ab4ff"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char hex[SHA256_HEX_BYTES];
        logits_digest(rows[i].kind, hex);
        print_message("%s logits: %s\n", rows[i].kind, hex);
        assert_string_equal(hex, rows[i].digest);
    }
}

/* The gradients of one optimizer step, tensors in the order of their names, then the loss. */
static void gradients_digest(const char *name, float dropout, char hex[SHA256_HEX_BYTES])
{
    struct fixture f;
    struct err err = {0};
    struct sha256 hash;
    struct engine_loss loss = {0};
    int n = 0;
    fixture_open(&f, name, "best", 2, dropout);
    const float inverse = 1.0f / (float)count_targets(f.rows, FIXTURE_ROWS);
    engine_trainer_zero(f.trainer);
    assert_ok(engine_train_step(f.trainer, f.rows, FIXTURE_ROWS, 3, inverse, &loss, &err), &err);
    struct engine_tensor *tensors = engine_adapter_tensors(f.adapter, &n);
    float *const *gradients = engine_trainer_gradients(f.trainer);
    assert_ok(sha256_init(&hash, &err), &err);
    for (int i = 0; i < n; i++) {
        const size_t values = (size_t)tensors[i].rows * (size_t)tensors[i].cols;
        assert_ok(sha256_update(&hash, gradients[i], values * sizeof(float), &err), &err);
    }
    assert_ok(sha256_update(&hash, loss.lanes, sizeof loss.lanes, &err), &err);
    assert_ok(sha256_final_hex(&hash, hex, &err), &err);
    fixture_close(&f);
}

static void test_gradients(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        float dropout;
        const char *digest;
    } rows[] = {
        {"gqa", 0.0f, "30483380552845b64735d213117b18ee3a3508b3c5ed54f9bfa7434ba3f75caa"},
        {"mha", 0.0f, "1db01935caea47020094c11fb89b52af78478f02673d9d843faada8b8169d1ea"},
        {"gqa", 0.25f, "802626b309825d384ddab6e52b42a1d2508f86ce9ffe8ba818c7d2c772a845ba"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char hex[SHA256_HEX_BYTES];
        gradients_digest(rows[i].name, rows[i].dropout, hex);
        print_message("%s, dropout %g, gradients: %s\n", rows[i].name, (double)rows[i].dropout,
                      hex);
        assert_string_equal(hex, rows[i].digest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits),
                                       cmocka_unit_test(test_gradients)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
