/* From the files of a model to its tokenizer: the one place where text meets formats. */
#ifndef ENGINE_TOKENIZER_FILES_H
#define ENGINE_TOKENIZER_FILES_H

#include "base/err.h"
#include "formats/model_files.h"
#include "text/tokenizer.h"

/* The tokenizer that came with the model: GGUF metadata, tokenizer.json, or tokenizer.model.
 * *tokenizer is NULL, and that is no error, when the files bring none. The caller frees it. */
int tokenizer_from_files(const struct model_files *files, struct tokenizer **tokenizer,
                         struct err *err) MUST_CHECK;
/* The same from GGUF metadata alone: a file with a vocabulary and no weights will do. */
int tokenizer_from_gguf(const struct gguf *gguf, struct tokenizer **tokenizer,
                        struct err *err) MUST_CHECK;
/* From the tokenizer.model at path, which is SentencePiece's own, with what the two files beside it
 * say (NULL: not there): tokenizer_config.json its special tokens and whether they go around a
 * text, added_tokens.json tokens beyond the vocabulary. Encodes as SentencePiece does; control
 * tokens are cut out first. U+2581 goes before the text, or, where "legacy" is true, before every
 * stretch between special tokens. */
int tokenizer_from_sentencepiece(const char *path, const json_t *config, const json_t *added,
                                 struct tokenizer **tokenizer, struct err *err) MUST_CHECK;

#endif
