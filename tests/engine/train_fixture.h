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

static inline void fixture_open(struct fixture *f, const char *name, const char *isa, int threads,
                                float dropout)
{
    struct err err = {0};
    char path[256];
    const bool gqa = strcmp(name, "gqa") == 0;
    memset(f, 0, sizeof *f);
    f->lora =
        gqa ? (struct engine_lora){.rank = 4, .scale = 2.0f, .targets = 0x7f}
            : (struct engine_lora){.rank = 16, .scale = 0.5f, .targets = 0x0f, .first_layer = 1};
    snprintf(path, sizeof path, "tests/fixtures/engine/train_%s/golden.safetensors", name);
    assert_ok(safetensors_open(path, &f->golden, &err), &err);
    snprintf(path, sizeof path, "tests/fixtures/engine/train_%s", name);
    const struct engine_options options = {.threads = threads, .isa = isa};
    assert_ok(engine_model_open(&f->model, path, &options, &err), &err);
    assert_ok(engine_adapter_new(&f->adapter, f->model, &f->lora, 1, &err), &err);
    fixture_factors(f, "init.");
    const struct engine_train_plan plan = {
        .tokens_max = FIXTURE_TOKENS_MAX, .dropout = dropout, .seed = 5};
    assert_ok(engine_trainer_new(&f->trainer, f->model, f->adapter, &plan, &err), &err);
    fixture_rows(f);
}

static inline void fixture_close(struct fixture *f)
{
    engine_trainer_free(f->trainer);
    engine_adapter_free(f->adapter);
    engine_model_free(f->model);
    safetensors_free(f->golden);
}

#endif
