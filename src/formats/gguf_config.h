/* GGUF metadata into struct model_config. Failures as in hf_config.h: a required key that is
 * missing or of the wrong type is ERR_CORRUPT naming it.
 */
#ifndef FORMATS_GGUF_CONFIG_H
#define FORMATS_GGUF_CONFIG_H

#include "base/err.h"
#include "formats/gguf.h"
#include "formats/model_config.h"

/* The result has passed model_config_check. */
int gguf_config_read(const struct gguf *gguf, struct model_config *config,
                     struct err *err) MUST_CHECK;

#endif
