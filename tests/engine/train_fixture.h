/* What the trainer's tests share: golden runs of PyTorch and PEFT (scripts/golden/train.py), opened
 * as a model, an adapter and rows. */
#ifndef TESTS_ENGINE_TRAIN_FIXTURE_H
#define TESTS_ENGINE_TRAIN_FIXTURE_H

#include <math.h>

#include "engine/engine.h"
#include "formats/safetensors.h"
#include "test.h"

enum { FIXTURE_ROWS = 4, FIXTURE_TENSORS_MAX = 64, FIXTURE_TOKENS_MAX = 192 };

struct fixture {
    struct engine_model *model;
    struct safetensors *golden;
    struct engine_adapter *adapter;
    struct engine_trainer *trainer;
    struct engine_lora lora;
    struct engine_row rows[FIXTURE_ROWS];
    uint8_t targets[FIXTURE_ROWS][FIXTURE_TOKENS_MAX];
    int32_t tokens[FIXTURE_ROWS][FIXTURE_TOKENS_MAX]; /* of rows that begin alike */
};

static inline const struct tensor_view *golden_tensor(const struct fixture *f, const char *name)
{
    const struct tensor_view *view = safetensors_tensor(f->golden, name);
    if (view == NULL) {
        fail_msg("no golden tensor '%s'", name);
    }
    return view;
}

static inline float golden_float(const struct tensor_view *view, size_t i)
{
    float value;
    memcpy(&value, view->data + i * sizeof value, sizeof value);
    return value;
}

static inline void fixture_rows(struct fixture *f)
{
    const struct tensor_view *tokens = golden_tensor(f, "rows.tokens");
    const struct tensor_view *targets = golden_tensor(f, "rows.targets");
    assert_int_equal(tokens->dims[0], FIXTURE_ROWS);
    const size_t length = tokens->dims[1];
    for (size_t r = 0; r < FIXTURE_ROWS; r++) {
        const int32_t *token = (const int32_t *)(const void *)tokens->data + r * length;
        size_t n = 0;
        for (; n < length && token[n] >= 0; n++) {
            int32_t target;
            memcpy(&target, targets->data + (r * length + n) * sizeof target, sizeof target);
            f->targets[r][n] = (uint8_t)target;
        }
        f->rows[r] = (struct engine_row){.tokens = token,
                                         .targets = f->targets[r],
                                         .n_tokens = (int)n,
                                         .row_in_step = (uint32_t)r};
    }
}

/* Puts the same tokens before rows, as a system prompt does: 33, more than two tiles of attention,
 * before the first and the last, 18 before the second. The first row is asked for one of them
 * early, the last for one late. */
static inline void fixture_begin_alike(struct fixture *f)
{
    static const int shared[FIXTURE_ROWS] = {33, 18, 0, 33};
    for (int r = 0; r < FIXTURE_ROWS; r++) {
        const int n = shared[r], own = f->rows[r].n_tokens;
        assert_true(n + own <= FIXTURE_TOKENS_MAX);
        memmove(f->targets[r] + n, f->targets[r], (size_t)own);
        memset(f->targets[r], 0, (size_t)n);
        memcpy(f->tokens[r] + n, f->rows[r].tokens, (size_t)own * sizeof(int32_t));
        for (int i = 0; i < n; i++) {
            f->tokens[r][i] = (7 * i + 3) % 50;
        }
        f->rows[r].tokens = f->tokens[r];
        f->rows[r].n_tokens = n + own;
    }
    f->targets[0][10] = f->targets[3][25] = 1;
}

static inline int count_targets(const struct engine_row *rows, int n_rows)
{
    int n = 0;
    for (int r = 0; r < n_rows; r++) {
        for (int i = 0; i < rows[r].n_tokens; i++) {
            n += rows[r].targets[i];
        }
    }
    return n;
}

/* Sets every factor from "<prefix><name>". */
static inline void fixture_factors(struct fixture *f, const char *prefix)
{
    int n = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(f->adapter, &n);
    for (int i = 0; i < n; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", prefix, tensors[i].name);
        const struct tensor_view *view = golden_tensor(f, name);
        assert_int_equal(view->dims[0], tensors[i].rows);
        assert_int_equal(view->dims[1], tensors[i].cols);
        memcpy(tensors[i].data, view->data, view->bytes);
    }
    engine_adapter_changed(f->adapter);
}

/* Of a folder with a model and golden.safetensors. */
static inline void fixture_open_at(struct fixture *f, const char *folder,
                                   const struct engine_lora *lora, int context_length,
                                   const char *isa, int threads, float dropout)
{
    struct err err = {0};
    char path[256];
    memset(f, 0, sizeof *f);
    f->lora = *lora;
    snprintf(path, sizeof path, "%s/golden.safetensors", folder);
    assert_ok(safetensors_open(path, &f->golden, &err), &err);
    const struct engine_options options = {
        .threads = threads, .isa = isa, .context_length = context_length};
    assert_ok(engine_model_open(&f->model, folder, &options, &err), &err);
    assert_ok(engine_adapter_new(&f->adapter, f->model, &f->lora, 1, &err), &err);
    fixture_factors(f, "init.");
    const struct engine_train_plan plan = {
        .tokens_max = FIXTURE_TOKENS_MAX, .dropout = dropout, .seed = 5};
    assert_ok(engine_trainer_new(&f->trainer, f->model, f->adapter, &plan, &err), &err);
    fixture_rows(f);
}

static inline void fixture_open(struct fixture *f, const char *name, const char *isa, int threads,
                                float dropout)
{
    char folder[128];
    const bool gqa = strcmp(name, "gqa") == 0;
    const struct engine_lora lora =
        gqa ? (struct engine_lora){.rank = 4, .scale = 2.0f, .targets = 0x7f}
            : (struct engine_lora){.rank = 16, .scale = 0.5f, .targets = 0x0f, .first_layer = 1};
    snprintf(folder, sizeof folder, "tests/fixtures/engine/train_%s", name);
    fixture_open_at(f, folder, &lora, 0, isa, threads, dropout);
}

static inline void fixture_close(struct fixture *f)
{
    engine_trainer_free(f->trainer);
    engine_adapter_free(f->adapter);
    engine_model_free(f->model);
    safetensors_free(f->golden);
}

static inline double largest(const struct tensor_view *view)
{
    double top = 0;
    for (size_t i = 0; i < view->bytes / 4; i++) {
        top = fmax(top, fabs((double)golden_float(view, i)));
    }
    return top;
}

static inline void check_close(const char *name, const float *got, const struct tensor_view *want,
                               double bound)
{
    const double scale = largest(want);
    assert_true(scale > 0);
    for (size_t i = 0; i < want->bytes / 4; i++) {
        const double w = (double)golden_float(want, i);
        if (!(fabs((double)got[i] - w) <= bound * scale)) {
            fail_msg("%s[%zu]: %.9g, PEFT has %.9g (largest %.3g)", name, i, (double)got[i], w,
                     scale);
        }
    }
}

/* Every −log p of the first row without an adapter; f's adapter is lost. */
static inline void check_logits(struct fixture *f)
{
    struct err err = {0};
    int n = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(f->adapter, &n);
    for (int i = 0; i < n; i++) {
        memset(tensors[i].data, 0, (size_t)tensors[i].rows * (size_t)tensors[i].cols * 4);
    }
    const struct tensor_view *logits = golden_tensor(f, "logits");
    const size_t vocab = logits->dims[1];
    for (int at = 1; at < f->rows[0].n_tokens; at++) {
        uint8_t targets[FIXTURE_TOKENS_MAX] = {0};
        targets[at] = 1;
        struct engine_row row = f->rows[0];
        row.targets = targets;
        struct engine_loss loss = {0};
        assert_ok(engine_eval_loss(f->trainer, &row, 1, &loss, &err), &err);
        const size_t from = (size_t)(at - 1) * vocab;
        double sum = 0;
        for (size_t v = 0; v < vocab; v++) {
            sum += exp((double)golden_float(logits, from + v));
        }
        const double want = log(sum) - (double)golden_float(logits, from + (size_t)row.tokens[at]);
        assert_float_equal(engine_loss_sum(&loss), want, 1e-4);
    }
}

/* Loss and gradients of one step over the first two rows; bounds are relative to the loss, and to
 * a tensor's largest value. */
static inline void check_gradients(struct fixture *f, double loss_bound, double bound)
{
    struct err err = {0};
    const int n_targets = count_targets(f->rows, 2);
    struct engine_loss loss = {0};
    engine_trainer_zero(f->trainer);
    assert_ok(engine_train_step(f->trainer, f->rows, 2, 0, 1.0f / (float)n_targets, &loss, &err),
              &err);
    assert_int_equal(loss.n_targets, n_targets);
    const double want = (double)golden_float(golden_tensor(f, "loss"), 0);
    assert_float_equal(engine_loss_sum(&loss) / (float)n_targets, want, want * loss_bound);
    int n = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(f->adapter, &n);
    float *const *gradients = engine_trainer_gradients(f->trainer);
    for (int i = 0; i < n; i++) {
        char key[128];
        snprintf(key, sizeof key, "grad.%s", tensors[i].name);
        check_close(key, gradients[i], golden_tensor(f, key), bound);
    }
}

#endif
