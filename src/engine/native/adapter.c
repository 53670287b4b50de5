/* LoRA factors: naming, sizes, first values.
 *
 * 1. All factors lie in one block, in the order of their names; tensors[] points into it.
 * 2. A factor is found by binary search for its name.
 * 3. serving holds a copy of the values: every change drops it.
 */
#include "engine/native/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/native/model.h"

enum { RANK_MAX = 256 };

static const char *const target_names[ENGINE_TARGET_COUNT] = {
    [ENGINE_Q_PROJ] = "q_proj",       [ENGINE_K_PROJ] = "k_proj",
    [ENGINE_V_PROJ] = "v_proj",       [ENGINE_O_PROJ] = "o_proj",
    [ENGINE_GATE_PROJ] = "gate_proj", [ENGINE_UP_PROJ] = "up_proj",
    [ENGINE_DOWN_PROJ] = "down_proj",
};

const char *engine_target_name(enum engine_target target)
{
    return (unsigned)target < ENGINE_TARGET_COUNT ? target_names[target] : "?";
}

static void factor_name(char *out, size_t size, int layer, enum engine_target target, bool b)
{
    const char *part = target < ENGINE_GATE_PROJ ? "self_attn" : "mlp";
    snprintf(out, size, "model.layers.%d.%s.%s.lora_%c", layer, part, target_names[target],
             b ? 'b' : 'a');
}

static int by_name(const void *left, const void *right)
{
    const struct engine_tensor *a = left, *b = right;
    return strcmp(a->name, b->name);
}

struct engine_tensor *adapter_tensor(const struct engine_adapter *adapter, int layer,
                                     enum engine_target target, bool b)
{
    struct engine_tensor key;
    factor_name(key.name, sizeof key.name, layer, target, b);
    return bsearch(&key, adapter->tensors, (size_t)adapter->n_tensors, sizeof key, by_name);
}

int adapter_check(const struct engine_model *model, const struct engine_lora *lora, struct err *err)
{
    const unsigned all = (1u << ENGINE_TARGET_COUNT) - 1;
    if (lora->rank < 1 || lora->rank > RANK_MAX) {
        return err_set(err, ERR_INVALID, "LoRA rank %d: it must be 1 to %d", lora->rank, RANK_MAX);
    }
    if (lora->targets == 0 || (lora->targets & ~all) != 0) {
        return err_set(err, ERR_INVALID, "LoRA targets 0x%x name no known projection",
                       lora->targets);
    }
    if (lora->first_layer < 0 || lora->first_layer >= model->info.n_layers) {
        return err_set(err, ERR_INVALID, "LoRA cannot start at layer %d of a model of %d layers",
                       lora->first_layer, model->info.n_layers);
    }
    if (!isfinite(lora->scale)) {
        return err_set(err, ERR_INVALID, "the LoRA scale is not a number");
    }
    return 0;
}

static int count_targets(unsigned targets)
{
    int n = 0;
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        n += (targets >> t) & 1;
    }
    return n;
}

/* Names and shapes, sorted; returns the number of values of all. */
static size_t list_tensors(struct engine_adapter *adapter)
{
    const struct engine_model *model = adapter->model;
    const struct engine_lora *lora = &adapter->lora;
    size_t values = 0;
    int n = 0;
    for (int layer = lora->first_layer; layer < model->info.n_layers; layer++) {
        for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
            if (((lora->targets >> t) & 1) == 0) {
                continue;
            }
            const struct weight *weight = &model->layers[layer].proj[t];
            for (int b = 0; b < 2; b++) {
                struct engine_tensor *tensor = &adapter->tensors[n++];
                factor_name(tensor->name, sizeof tensor->name, layer, (enum engine_target)t, b);
                tensor->rows = b ? (int)weight->n_rows : lora->rank;
                tensor->cols = b ? lora->rank : (int)weight->n_cols;
                values += (size_t)tensor->rows * (size_t)tensor->cols;
            }
        }
    }
    qsort(adapter->tensors, (size_t)n, sizeof *adapter->tensors, by_name);
    return values;
}

/* A from U(−1/√in, 1/√in), by draw (layer · ENGINE_TARGET_COUNT + target, element); B is zero. */
static void fill_first_values(struct engine_adapter *adapter, uint64_t seed)
{
    const struct engine_lora *lora = &adapter->lora;
    for (int layer = lora->first_layer; layer < adapter->model->info.n_layers; layer++) {
        for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
            if (((lora->targets >> t) & 1) == 0) {
                continue;
            }
            struct engine_tensor *a = adapter_tensor(adapter, layer, (enum engine_target)t, false);
            const uint64_t id = (uint64_t)layer * ENGINE_TARGET_COUNT + (uint64_t)t;
            const size_t n = (size_t)a->rows * (size_t)a->cols;
            const float bound = 1.0f / sqrtf((float)a->cols);
            for (size_t i = 0; i < n; i++) {
                const float u = rng_uniform(seed, RNG_INIT, id, i);
                a->data[i] = (2.0f * u - 1.0f) * bound;
            }
        }
    }
}

int engine_adapter_new(struct engine_adapter **out, struct engine_model *model,
                       const struct engine_lora *lora, uint64_t seed, struct err *err)
{
    *out = NULL;
    int rc = adapter_check(model, lora, err);
    if (rc != 0) {
        return rc;
    }
    struct engine_adapter *adapter = mem_calloc(1, sizeof *adapter);
    if (adapter == NULL) {
        return mem_err(err, sizeof *adapter);
    }
    adapter->model = model;
    adapter->lora = *lora;
    adapter->n_tensors =
        2 * count_targets(lora->targets) * (model->info.n_layers - lora->first_layer);
    adapter->tensors = mem_calloc((size_t)adapter->n_tensors, sizeof *adapter->tensors);
    if (adapter->tensors == NULL) {
        rc = mem_err(err, (size_t)adapter->n_tensors * sizeof *adapter->tensors);
        goto out;
    }
    const size_t values = list_tensors(adapter);
    adapter->data = mem_alloc_simd(values, sizeof(float));
    if (adapter->data == NULL) {
        rc = mem_err(err, values * sizeof(float));
        goto out;
    }
    memset(adapter->data, 0, values * sizeof(float));
    float *at = adapter->data;
    for (int i = 0; i < adapter->n_tensors; i++) {
        struct engine_tensor *tensor = &adapter->tensors[i];
        tensor->data = at;
        at += (size_t)tensor->rows * (size_t)tensor->cols;
    }
    fill_first_values(adapter, seed);
    *out = adapter;
    adapter = NULL;
out:
    engine_adapter_free(adapter);
    return rc;
}

void engine_adapter_free(struct engine_adapter *adapter)
{
    if (adapter == NULL) {
        return;
    }
    lora_packs_free(adapter->serving);
    mem_free(adapter->data);
    mem_free(adapter->tensors);
    mem_free(adapter);
}

const struct engine_lora *engine_adapter_lora(const struct engine_adapter *adapter)
{
    return &adapter->lora;
}

struct engine_tensor *engine_adapter_tensors(struct engine_adapter *adapter, int *n)
{
    *n = adapter->n_tensors;
    return adapter->tensors;
}

void engine_adapter_changed(struct engine_adapter *adapter)
{
    lora_packs_free(adapter->serving);
    adapter->serving = NULL;
}
