/* tokenizer.model: the file that SentencePiece writes, a protocol buffer with a vocabulary, its
 * scores, and how it normalises.
 *
 * What is read points into the caller's bytes, which must outlive it; only the list of pieces is
 * allocated. The bytes are hostile input: every length is checked against what is left, and counts
 * against the maxima below. Errors: ERR_CORRUPT for what is no such file, ERR_TOO_LARGE,
 * ERR_UNSUPPORTED for a file that is sound and asks for what is not served: another model than BPE,
 * or a character map.
 */
#ifndef FORMATS_SENTENCEPIECE_H
#define FORMATS_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    SENTENCEPIECE_PIECES_MAX = 1 << 20,
    SENTENCEPIECE_FILE_BYTES_MAX = 128 << 20,
};

enum sentencepiece_type {
    SENTENCEPIECE_NORMAL = 1,
    SENTENCEPIECE_UNKNOWN = 2,
    SENTENCEPIECE_CONTROL = 3,
    SENTENCEPIECE_USER_DEFINED = 4,
    SENTENCEPIECE_UNUSED = 5,
    SENTENCEPIECE_BYTE = 6,
};

struct sentencepiece_piece {
    const char *text; /* n bytes, never 0 of them; not checked for UTF-8 */
    size_t n;
    float score;
    int32_t type; /* enum sentencepiece_type */
};

struct sentencepiece {
    struct sentencepiece_piece *pieces; /* by id */
    size_t n_pieces;
    bool byte_fallback;
    bool add_dummy_prefix;         /* U+2581 goes before a text */
    bool remove_extra_whitespaces; /* runs of spaces become one, those at the ends none */
    int32_t unk_id;
    int32_t bos_id; /* −1: none; so for the others */
    int32_t eos_id;
    int32_t pad_id;
};

int sentencepiece_parse(struct sentencepiece *model, const void *data, size_t size,
                        struct err *err) MUST_CHECK;
void sentencepiece_release(struct sentencepiece *model); /* safe on a zeroed struct */

#endif
