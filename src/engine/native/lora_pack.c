/* Adapters packed for serving: fp32 panels for matmul_f, in one block of memory.
 *
 * Two passes over the same walk: the first counts bytes, the second places panels. */
#include <string.h>

#include "base/mem.h"
#include "engine/native/adapter.h"
#include "engine/native/model.h"

static const enum lora_input input_of[ENGINE_TARGET_COUNT] = {
    [ENGINE_Q_PROJ] = LORA_ATTENTION, [ENGINE_K_PROJ] = LORA_ATTENTION,
    [ENGINE_V_PROJ] = LORA_ATTENTION, [ENGINE_O_PROJ] = LORA_O,
    [ENGINE_GATE_PROJ] = LORA_FFN,    [ENGINE_UP_PROJ] = LORA_FFN,
    [ENGINE_DOWN_PROJ] = LORA_DOWN,
};

/* Packs rows of `tensor` behind `out` (or only counts, when NULL); returns the bytes. */
static size_t place(const struct engine_tensor *tensor, uint8_t *out)
{
    const size_t cols = (size_t)tensor->cols;
    const size_t panels = pack_panels((size_t)tensor->rows);
    for (size_t p = 0; out != NULL && p < panels; p++) {
        const uint8_t *rows[KERNEL_LANES];
        for (size_t i = 0; i < KERNEL_LANES; i++) {
            const size_t row = p * KERNEL_LANES + i;
            rows[i] = row < (size_t)tensor->rows
                          ? (const uint8_t *)(const void *)(tensor->data + row * cols)
                          : NULL;
        }
        pack_panel(PACK_F32, cols, rows, out + p * pack_panel_bytes(PACK_F32, cols));
    }
    return panels * pack_panel_bytes(PACK_F32, cols);
}

static struct pack float_pack(size_t rows, size_t cols, const uint8_t *data)
{
    const struct pack pack = {.kind = PACK_F32,
                              .n_rows = rows,
                              .n_cols = cols,
                              .panel_bytes = pack_panel_bytes(PACK_F32, cols),
                              .data = data};
    return pack;
}

/* Places one layer's factors from data + at on (only counts when data is NULL); returns the end. */
static size_t place_layer(const struct engine_adapter *adapter, int layer, uint8_t *data, size_t at,
                          struct lora_layer *out)
{
    for (int input = 0; input < LORA_INPUT_COUNT; input++) {
        const size_t start = at;
        size_t rows = 0;
        size_t cols = 0;
        for (int target = 0; target < ENGINE_TARGET_COUNT; target++) {
            const struct engine_tensor *a =
                adapter_tensor(adapter, layer, (enum engine_target)target, false);
            if (a == NULL || input_of[target] != (enum lora_input)input) {
                continue;
            }
            out->h_at[target] = rows;
            at += place(a, data != NULL ? data + at : NULL);
            rows += pack_panels((size_t)a->rows) * KERNEL_LANES;
            cols = (size_t)a->cols;
        }
        if (rows > 0 && data != NULL) {
            out->a[input] = float_pack(rows, cols, data + start);
        }
    }
    for (int target = 0; target < ENGINE_TARGET_COUNT; target++) {
        const struct engine_tensor *b =
            adapter_tensor(adapter, layer, (enum engine_target)target, true);
        if (b != NULL) {
            if (data != NULL) {
                out->b[target] = float_pack((size_t)b->rows, (size_t)b->cols, data + at);
            }
            at += place(b, data != NULL ? data + at : NULL);
        }
    }
    return at;
}

static size_t place_all(const struct engine_adapter *adapter, struct lora_packs *packs)
{
    size_t at = 0;
    for (int layer = 0; layer < adapter->model->info.n_layers; layer++) {
        at = place_layer(adapter, layer, packs->data, at, &packs->layers[layer]);
    }
    return at;
}

int lora_packs_new(struct lora_packs **out, const struct engine_adapter *adapter, struct err *err)
{
    struct lora_packs *packs = mem_calloc(1, sizeof *packs);
    if (packs == NULL) {
        return mem_err(err, sizeof *packs);
    }
    const size_t n_layers = (size_t)adapter->model->info.n_layers;
    packs->layers = mem_calloc(n_layers, sizeof *packs->layers);
    if (packs->layers == NULL) {
        lora_packs_free(packs);
        return mem_err(err, n_layers * sizeof(struct lora_layer));
    }
    const size_t bytes = place_all(adapter, packs);
    packs->data = mem_alloc_simd(1, bytes);
    if (packs->data == NULL) {
        lora_packs_free(packs);
        return mem_err(err, bytes);
    }
    (void)place_all(adapter, packs);
    *out = packs;
    return 0;
}

void lora_packs_free(struct lora_packs *packs)
{
    if (packs != NULL) {
        mem_free(packs->layers);
        mem_free(packs->data);
        mem_free(packs);
    }
}
