/* Hugging Face's config.json and generation_config.json into struct model_config.
 *
 * Keys that this reader knows must have the right type (ERR_CORRUPT naming the key); a feature that
 * it knows of and does not have (another activation, another rope scaling, quantised weights) is
 * ERR_UNSUPPORTED; keys that change nothing here are ignored. Defaults are those of transformers'
 * LlamaConfig.
 */
#ifndef FORMATS_HF_CONFIG_H
#define FORMATS_HF_CONFIG_H

#include <jansson.h>

#include "base/err.h"
#include "formats/model_config.h"

/* root: config.json's object; generation: generation_config.json's, or NULL. The result has passed
 * model_config_check. */
int hf_config_read(const json_t *root, const json_t *generation, struct model_config *config,
                   struct err *err) MUST_CHECK;

#endif
