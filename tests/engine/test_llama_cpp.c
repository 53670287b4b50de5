/* SmolLM2-135M-Instruct as people serve it, on a fixed text: its tokens are llama.cpp's, and its
 * log-probabilities are as near to fp32 on the de-quantised weights as llama.cpp's are. Both round
 * activations to eight bits, each in its own way, so neither is the other's measure: fp32 is. The
 * model is the real one, which scripts/fetch-model brings; scripts/golden/log_probabilities.py made
 * the numbers. */
#include <math.h>

#include "base/fs.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "formats/safetensors.h"
#include "test.h"

enum { TOKENS_MAX = 512, TEXT_BYTES_MAX = 1 << 16 };

static const char model_path[] = ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf";
static const char golden_path[] = "tests/fixtures/engine/llama_cpp/smollm2.safetensors";
static const char text_path[] = "examples/demo/ordinary.txt";

struct golden {
    int n;
    int32_t tokens[TOKENS_MAX];
    float llama_cpp[TOKENS_MAX], fp32[TOKENS_MAX], ours[TOKENS_MAX];
};

static void read_tensor(const struct safetensors *file, const char *name, void *to, size_t n)
{
    const struct tensor_view *view = safetensors_tensor(file, name);
    assert_non_null(view);
    assert_int_equal(view->bytes, n * sizeof(float));
    memcpy(to, view->data, view->bytes);
}

static void read_golden(struct golden *g)
{
    struct err err = {0};
    struct safetensors *file = NULL;
    assert_ok(safetensors_open(golden_path, &file, &err), &err);
    const struct tensor_view *tokens = safetensors_tensor(file, "tokens");
    assert_non_null(tokens);
    assert_in_range(tokens->bytes / sizeof *g->tokens, 256, TOKENS_MAX);
    g->n = (int)(tokens->bytes / sizeof *g->tokens);
    read_tensor(file, "tokens", g->tokens, (size_t)g->n);
    read_tensor(file, "llama_cpp", g->llama_cpp, (size_t)g->n - 1);
    read_tensor(file, "fp32", g->fp32, (size_t)g->n - 1);
    safetensors_free(file);
}

static void tokens_are_those(const struct engine_model *model, const struct golden *g)
{
    struct err err = {0};
    struct buf text;
    struct token_ids ids;
    buf_init(&text, TEXT_BYTES_MAX);
    token_ids_init(&ids, TEXT_BYTES_MAX);
    assert_ok(fs_read_file(text_path, TEXT_BYTES_MAX, &text, &err), &err);
    assert_ok(tokenizer_encode(engine_model_tokenizer(model), text.data, text.len, 0, &ids, &err),
              &err);
    assert_int_equal(ids.n, g->n);
    assert_memory_equal(ids.ids, g->tokens, ids.n * sizeof *ids.ids);
    token_ids_release(&ids);
    buf_release(&text);
}

static void predict(struct engine_model *model, struct golden *g)
{
    struct err err = {0};
    struct engine_session *session = NULL;
    const size_t vocab = (size_t)engine_model_info(model)->vocab_size;
    float *logits = mem_calloc((size_t)g->n * vocab, sizeof *logits);
    assert_non_null(logits);
    struct engine_piece piece = {
        .tokens = g->tokens, .n_tokens = g->n, .logits = logits, .all_logits = true};
    assert_ok(engine_session_new(&session, model, &err), &err);
    piece.session = session;
    assert_ok(engine_eval(model, &piece, 1, &err), &err);
    for (int i = 0; i + 1 < g->n; i++) {
        g->ours[i] = engine_log_probability(model, logits + (size_t)i * vocab, g->tokens[i + 1]);
    }
    engine_session_free(session);
    mem_free(logits);
}

static double distance(const float *a, const float *b, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    return sqrt(sum / n);
}

static double perplexity(const float *logs, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        sum -= (double)logs[i];
    }
    return exp(sum / n);
}

static void test_smollm2(void **state)
{
    (void)state;
    struct err err = {0};
    struct engine_model *model = NULL;
    const struct engine_options options = {.threads = 2, .isa = "best", .context_length = 1024};
    static struct golden g;
    if (!fs_exists(model_path)) {
        fail_msg("%s is missing: run scripts/fetch-model", model_path);
    }
    read_golden(&g);
    assert_ok(engine_model_open(&model, model_path, &options, &err), &err);
    tokens_are_those(model, &g);
    predict(model, &g);
    engine_model_free(model);

    const int n = g.n - 1;
    const double ours = distance(g.ours, g.fp32, n);
    const double theirs = distance(g.llama_cpp, g.fp32, n);
    print_message("%d tokens; to fp32: ours %.5f, llama.cpp %.5f; to each other %.5f; perplexity "
                  "ours %.4f, llama.cpp %.4f, fp32 %.4f\n",
                  n, ours, theirs, distance(g.ours, g.llama_cpp, n), perplexity(g.ours, n),
                  perplexity(g.llama_cpp, n), perplexity(g.fp32, n));
    assert_true(ours <= 1.05 * theirs);
    assert_true(distance(g.ours, g.llama_cpp, n) <= ours + theirs);
    assert_true(fabs(perplexity(g.ours, n) / perplexity(g.fp32, n) - 1.0) < 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_smollm2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
