/* Looking at a model's files where they cannot hurt: in a child with limits. */
#ifndef INFER_INSPECT_H
#define INFER_INSPECT_H

#include "base/buf.h"
#include "base/err.h"

enum { INSPECT_CONTENTS_BYTES_MAX = 16 << 20 };

/* What an import needs to know, as one JSON object appended to out: {"format":"gguf"|"safetensors",
 * "architecture","parameters","quantization","bytes","context_length","vocab_size","n_layers",
 * "memory_bytes" (weights packed, workspace and one full session),"kv_bytes_per_token",
 * "has_template","capabilities":["tools","thinking"] as its templates have them,"eos":[…]}. Opens
 * files and compiles tokenizer and template, so a base that passes can be served. Errors are the
 * parsers'; ERR_CORRUPT when the child was ended by a signal or limit. program: the executable to
 * run, NULL for this one. */
int inspect_model(const char *program, const char *path, struct buf *out,
                  struct err *err) MUST_CHECK;

/* What there is to show of a model's files, as one JSON object appended to out: {"template": text
 * or null, "info": {"block_count", "embedding_length", …}, "tensors": [{"name", "type", "shape"},
 * …]}. Errors as above. */
int inspect_contents(const char *program, const char *path, struct buf *out,
                     struct err *err) MUST_CHECK;
/* Whether a chat template compiles; its compiler's error if not. */
int inspect_template(const char *program, const char *source, struct err *err) MUST_CHECK;

/* The whole life of the process `mlx-hub inspect`: reads one question from its control socket,
 * answers once. Returns the exit status. */
int inspect_main(int control_fd);

#endif
