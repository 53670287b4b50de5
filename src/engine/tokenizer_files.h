/* From the files of a model to its tokenizer: the one place where text meets formats. */
#ifndef ENGINE_TOKENIZER_FILES_H
#define ENGINE_TOKENIZER_FILES_H

#include "base/err.h"
#include "formats/model_files.h"
#include "text/tokenizer.h"

/* The tokenizer that came with the model: GGUF metadata, or tokenizer.json. *tokenizer is NULL, and
 * that is no error, when the files bring none. The caller frees it. */
int tokenizer_from_files(const struct model_files *files, struct tokenizer **tokenizer,
                         struct err *err) MUST_CHECK;
/* The same from GGUF metadata alone: a file with a vocabulary and no weights will do. */
int tokenizer_from_gguf(const struct gguf *gguf, struct tokenizer **tokenizer,
                        struct err *err) MUST_CHECK;

#endif
