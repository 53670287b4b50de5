/* Another tool's adapter as the hub keeps one: the other way of train_export.
 *
 *   PEFT     adapter_model.safetensors, scale alpha / r or alpha / √r
 *   mlx-lm   adapters.safetensors, scale as it says
 *
 * adapter_config.json tells which of the two it is, and the scale. What is written has the bytes
 * that the hub's trainer would have written for the same factors, so an adapter that was exported
 * comes back as it was. Both files are strangers': the hub has this done by a child with limits.
 */
#ifndef TRAIN_ADAPTER_IMPORT_H
#define TRAIN_ADAPTER_IMPORT_H

#include "base/err.h"

struct adapter_import {
    const char *base_path; /* weights that it must fit */
    const char *factors_path, *config_path;
    const char *dest; /* the hub's file */
};

/* *scale: what serves it. ERR_INVALID lists names and shapes that do not fit the base, or names
 * what of the config is not supported; ERR_CORRUPT for files that are none. */
int train_adapter_import(const struct adapter_import *import, double *scale,
                         struct err *err) MUST_CHECK;
/* Asks a child. program NULL: this one. */
int train_adapter_import_child(const char *program, const struct adapter_import *import,
                               double *scale, struct err *err) MUST_CHECK;

#endif
