/* From dataset rows to tokens and targets.
 *
 * A row maker belongs to one thread and one model. What a row becomes:
 *   chat        the template's text, tokenized in pieces cut where an assistant's turn begins and
 *               ends, so that the tokens in front of an answer are those that a prompt would have.
 *               Targets are every assistant turn with its end token. Where a turn begins is found
 *               by rendering the messages before it with a generation prompt, for one without any
 *               by what such a prompt adds; where it ends, by rendering the messages up to it.
 *               Where a template writes earlier turns differently later on, so that those texts are
 *               no beginnings of the whole, only the last turn is a target.
 *   completion  the prompt as it would be sent, then the completion and the end token as targets
 *   text        the text and the end token, all targets
 * Without mask_prompt every token is a target. The first token never is. A row ends with its last
 * target: what stands behind it has no influence on the loss.
 *
 * Errors are ERR_INVALID "file:line: why" for a row, what the reader and the tokenizer say besides.
 * Bounds: TRAIN_ROWS_MAX rows, TRAIN_DATA_TOKENS_MAX tokens.
 */
#ifndef TRAIN_ROWS_H
#define TRAIN_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "engine/engine.h"
#include "formats/dataset.h"
#include "text/template.h"

enum {
    TRAIN_ROWS_MAX = 1 << 24,
    TRAIN_DATA_TOKENS_MAX = 1 << 30,
    TRAIN_ROW_IDS_MAX = 1 << 24, /* of one row before it is cut */
    TRAIN_DATE_BYTES = 11
};

struct row_maker {
    const struct tokenizer *tokenizer;
    struct template *template;
    char *bos, *eos; /* for the template; NULL when the model has none */
    int end_ids[ENGINE_EOS_MAX];
    int n_end_ids;
    int32_t end_id; /* put after a text; -1 when the model has none */
    int vocab_size;
    char date[TRAIN_DATE_BYTES];
    int tokens_max;
    bool mask_prompt;

    struct buf full, part; /* rendered texts */
    struct buf header;     /* of an answer, once header_known */
    bool header_known;
    struct token_ids ids;
    uint8_t *targets; /* beside ids */
    size_t targets_cap;
};

/* A row as tokens; borrowed from the maker until its next call. */
struct train_sample {
    const int32_t *tokens;
    const uint8_t *targets;
    int n_tokens;
    int n_targets;       /* 0: nothing is left to learn */
    bool truncated;      /* tokens_max cut a target off */
    bool last_turn_only; /* the template writes earlier turns differently */
};

/* What a row maker needs of a model; borrowed for as long as the maker lives, but for eos. */
struct row_model {
    const struct tokenizer *tokenizer; /* NULL: ERR_INVALID */
    const char *template;              /* NULL: the plain one */
    int eos[ENGINE_EOS_MAX];
    int n_eos;
    int vocab_size;
};
/* date as in struct template_input, or NULL. */
int row_maker_init_with(struct row_maker *maker, const struct row_model *with, const char *date,
                        int tokens_max, bool mask_prompt, struct err *err) MUST_CHECK;
/* Of an open model. template_source NULL: the model's own. */
int row_maker_init(struct row_maker *maker, const struct engine_model *model,
                   const char *template_source, const char *date, int tokens_max, bool mask_prompt,
                   struct err *err) MUST_CHECK;
void row_maker_release(struct row_maker *maker); /* safe on a zeroed struct */
/* Whether this token ends an answer. */
bool row_maker_is_end(const struct row_maker *maker, int32_t id);
int row_maker_make(struct row_maker *maker, const struct dataset_row *row,
                   struct train_sample *sample, struct err *err) MUST_CHECK;

/* --- all rows of a file ------------------------------------------------------------------------
 */
struct train_row {
    uint32_t at; /* first token in tokens and targets */
    uint32_t n_tokens, n_targets;
    uint32_t number; /* of the file's rows, from 1 */
};

struct train_rows {
    int32_t *tokens;
    uint8_t *targets;
    size_t n_tokens, tokens_cap;
    struct train_row *rows; /* those with a target, in the file's order */
    size_t n_rows, rows_cap;
    uint64_t n_targets;
    int64_t read, dropped, truncated, last_turn_only; /* rows of the file */
    char sha256[SHA256_HEX_BYTES];
};

/* Reads the whole file. columns: its own names for the keys as JSON, or NULL. poll (or NULL) is
 * asked now and then; a non-zero answer ends the reading and is returned. ERR_CORRUPT when the file
 * no longer has `sha256` (NULL: any), ERR_INVALID when no row has a target. */
int train_rows_read(struct train_rows *rows, struct row_maker *maker, const char *path,
                    const char *columns, const char *sha256,
                    int (*poll)(void *ctx, struct err *err), void *ctx, struct err *err) MUST_CHECK;
void train_rows_release(struct train_rows *rows); /* safe on a zeroed struct */
size_t train_rows_bytes(const struct train_rows *rows);

#endif
