/* The text side of a model without its weights: tokenizer and chat template, from whatever file
 * holds them. Owned by one thread; what is handed out lives until text_files_release.
 *
 *   GGUF file          both, also when it has a vocabulary and no tensors
 *   tokenizer.json     the tokenizer
 *   x.model            SentencePiece's tokenizer, with the config files beside it
 *   tokenizer_config.json and its like   "chat_template", bos_token and eos_token
 *   folder             those (tokenizer.json before tokenizer.model) and chat_template.jinja, or
 * its one GGUF file x.safetensors      what lies beside it any other file     the source of a
 * template
 */
#ifndef CLI_TEXT_FILES_H
#define CLI_TEXT_FILES_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/tokenizer.h"

struct text_files {
    struct tokenizer *tokenizer; /* NULL: none there; so for the others */
    char *template_source;
    size_t template_bytes;
    char *tool_template; /* the one named tool_use, for when there are tools */
    char *bos, *eos;     /* their texts */
};

/* ERR_NOT_FOUND, and what the parsers say. */
int text_files_open(struct text_files *files, const char *path, struct err *err) MUST_CHECK;
void text_files_release(struct text_files *files); /* safe on a zeroed struct */

/* A whole file, "-" for standard input, into out: bytes as they are. */
int read_whole(const char *path, struct buf *out, struct err *err) MUST_CHECK;

#endif
