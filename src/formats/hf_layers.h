/* What config.json says of single layers: rope and its scaling, sliding windows, layers without
 * rope. Private to hf_config.c; failures as there. */
#ifndef FORMATS_HF_LAYERS_H
#define FORMATS_HF_LAYERS_H

#include <jansson.h>

#include "base/err.h"
#include "formats/model_config.h"

/* After head_dim is known. */
int hf_read_rope(const json_t *root, struct model_config *config, struct err *err) MUST_CHECK;
/* After n_layers is known: windows and layers without rope. */
int hf_read_layers(const json_t *root, struct model_config *config, struct err *err) MUST_CHECK;

#endif
