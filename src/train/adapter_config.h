/* The adapter_config.json of other tools, beside an adapter.
 *
 * Both say which layers and projections carry factors; that is read from the config and from the
 * number of layers that the base has and that carry factors.
 */
#ifndef TRAIN_ADAPTER_CONFIG_H
#define TRAIN_ADAPTER_CONFIG_H

#include "base/err.h"
#include "formats/manifest.h"

#define ADAPTER_CONFIG_FILE "adapter_config.json"

enum { ADAPTER_CONFIG_BYTES_MAX = 1 << 16 };

/* Layers first … n-1 of the base carry factors. Where the base keeps q, k and v in one matrix, or
 * gate and up, so many of its parts have factors, joined into one pair of so many times the rank.
 */
struct adapter_layers {
    int first, n;
    int qkv_parts, gate_up_parts; /* 0: they are kept apart, or have none */
};

/* mlx-lm's: what mlx_lm.tuner.utils.load_adapters reads, and what it was trained with. */
int adapter_config_mlx(const char *dir, const struct manifest *manifest,
                       const struct adapter_layers *layers, struct err *err) MUST_CHECK;
/* PEFT 0.21's LoraConfig. */
int adapter_config_peft(const char *dir, const struct manifest *manifest,
                        const struct adapter_layers *layers, struct err *err) MUST_CHECK;

#endif
