/* The checksum of a base model: of its file, or of a folder of files.
 *
 * A folder's is the SHA-256 of one line "<sha256>  <bytes>  <name>\n" for each of its weights and
 * text files (*.safetensors, *.gguf, *.json, *.model, *.txt, *.jinja; no hidden ones, no folders),
 * sorted by name. Reads every byte.
 */
#ifndef FORMATS_MODEL_DIGEST_H
#define FORMATS_MODEL_DIGEST_H

#include <stdbool.h>

#include "base/err.h"
#include "base/hash.h"

enum { MODEL_DIGEST_BYTES_MAX = 1 << 20 };

/* Whether a folder's file of this name counts, as said above. */
bool model_digest_counts(const char *name);
int model_digest(const char *path, char out[SHA256_HEX_BYTES], struct err *err) MUST_CHECK;

#endif
