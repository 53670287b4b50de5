/* A LoRA adapter of the native engine: its factors, and their packed form for serving. */
#ifndef ENGINE_NATIVE_ADAPTER_H
#define ENGINE_NATIVE_ADAPTER_H

#include "engine/engine.h"
#include "kernels/kernels.h"

/* Projections that share an input share one product with their A factors. */
enum lora_input { LORA_ATTENTION, LORA_O, LORA_FFN, LORA_DOWN, LORA_INPUT_COUNT };

enum {
    LORA_RANK_MAX = 256,
    LORA_H_MAX = 3 * LORA_RANK_MAX /* widest A·x of one input: q, k and v */
};

/* data is NULL where the adapter has no factor. */
struct lora_layer {
    struct pack a[LORA_INPUT_COUNT];    /* the A of the input's targets one below the other, each
                                           padded to sixteen rows */
    struct pack b[ENGINE_TARGET_COUNT]; /* (out, rank) */
    size_t h_at[ENGINE_TARGET_COUNT];   /* where the target's A·x begins in a row of h */
};

struct lora_packs {
    struct lora_layer *layers; /* n_layers */
    uint8_t *data;             /* behind all of them */
};

struct engine_adapter {
    struct engine_model *model;
    struct engine_lora lora;
    struct engine_tensor *tensors; /* sorted by name */
    int n_tensors;
    float *data;                /* behind all tensors, one block */
    struct lora_packs *serving; /* made by engine_eval when NULL; dropped by every change */
};

/* The A or B factor of one projection, or NULL where the adapter has none. */
struct engine_tensor *adapter_tensor(const struct engine_adapter *adapter, int layer,
                                     enum engine_target target, bool b);

/* Rank, targets, layers and scale within what the model has; ERR_INVALID saying which is not. */
int adapter_check(const struct engine_model *model, const struct engine_lora *lora,
                  struct err *err) MUST_CHECK;

/* Packs the adapter's factors as they are now. */
int lora_packs_new(struct lora_packs **packs, const struct engine_adapter *adapter,
                   struct err *err) MUST_CHECK;
void lora_packs_free(struct lora_packs *packs); /* NULL is fine */

#endif
