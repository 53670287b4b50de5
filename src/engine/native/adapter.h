/* A LoRA adapter of the native engine: its factors, and their packed form for serving. */
#ifndef ENGINE_NATIVE_ADAPTER_H
#define ENGINE_NATIVE_ADAPTER_H

#include "engine/engine.h"
#include "kernels/kernels.h"

/* One projection's factors packed for matmul_f; data NULL where the adapter has none. */
struct lora_pack {
    struct pack a; /* (rank, in) */
    struct pack b; /* (out, rank) */
};

/* All projections of all layers: packs[layer * ENGINE_TARGET_COUNT + target]. */
struct lora_packs {
    struct lora_pack *packs;
    uint8_t *data; /* behind all of them */
};

struct engine_adapter {
    struct engine_model *model;
    struct engine_lora lora;
    struct engine_tensor *tensors; /* sorted by name */
    int n_tensors;
    float *data;                /* behind all tensors, one block */
    struct lora_packs *serving; /* made by engine_eval when NULL; dropped by every change */
};

/* The factor of one projection, or NULL where the adapter has none. */
struct engine_tensor *adapter_tensor(const struct engine_adapter *adapter, int layer,
                                     enum engine_target target, bool b);

/* Packs the adapter's factors as they are now. */
int lora_packs_new(struct lora_packs **packs, const struct engine_adapter *adapter,
                   struct err *err) MUST_CHECK;
void lora_packs_free(struct lora_packs *packs); /* NULL is fine */

#endif
