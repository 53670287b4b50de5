/* Datasets: JSON Lines files of conversations, prompt and completion pairs, or plain text.
 *
 * One JSON object a line, blank lines skipped. A row's shape is found in this order:
 *   {"prompt": "…", "completion": "…"}   the completion is learnt
 *   {"messages": [{"role", "content"}, …], "tools"?: […]}   assistant turns are learnt
 *   {"text": "…"}   all of it is learnt
 * Roles are system, user, assistant and tool; content is a string, or null beside tool_calls.
 * Other keys are ignored. Files name the keys as they like when `columns` says so.
 *
 * The reader streams: memory is bounded by one line, whatever the file. It belongs to one thread;
 * the file is a stranger's and is read, never mapped. A bad row is ERR_INVALID as "file:line: why",
 * which names the key as the file does, after which reading may go on with the next; any other code
 * ends it.
 */
#ifndef FORMATS_DATASET_H
#define FORMATS_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"

enum {
    DATASET_LINE_BYTES_MAX = 16 << 20,
    DATASET_MESSAGES_MAX = 4096,
    DATASET_BAD_ROWS_SHOWN = 5,
    DATASET_COLUMN_BYTES = 128
};

enum dataset_shape { DATASET_COMPLETION, DATASET_CHAT, DATASET_TEXT };
const char *dataset_shape_name(enum dataset_shape shape); /* "completion", "chat", "text" */

/* The file's own names for the five keys; "" means the usual one. */
struct dataset_columns {
    char messages[DATASET_COLUMN_BYTES];
    char tools[DATASET_COLUMN_BYTES];
    char prompt[DATASET_COLUMN_BYTES];
    char completion[DATASET_COLUMN_BYTES];
    char text[DATASET_COLUMN_BYTES];
};
/* {"prompt": "question", …}; NULL or JSON null gives the usual names. ERR_UNPROCESSABLE. */
int dataset_columns_parse(struct dataset_columns *columns, const json_t *json,
                          struct err *err) MUST_CHECK;

/* A span of a row's bytes, UTF-8; may hold a NUL. NUL-terminated too. */
struct dataset_text {
    const char *bytes;
    size_t length;
};

/* Everything is borrowed from the reader until its next call. */
struct dataset_row {
    int64_t line;  /* in the file, from 1 */
    int64_t index; /* among the good rows, from 0 */
    enum dataset_shape shape;
    const json_t *messages;                 /* DATASET_CHAT: a non-empty array, checked */
    const json_t *tools;                    /* an array, or NULL */
    struct dataset_text prompt, completion; /* DATASET_COMPLETION */
    struct dataset_text text;               /* DATASET_TEXT */
};

struct dataset_reader;

/* columns NULL = the usual names. ERR_NOT_FOUND, ERR_FORBIDDEN, ERR_IO, ERR_INVALID (a folder). */
int dataset_reader_new(struct dataset_reader **reader, const char *path,
                       const struct dataset_columns *columns, struct err *err) MUST_CHECK;
/* What messages call the file from now on; cut when long. */
void dataset_reader_rename(struct dataset_reader *reader, const char *name);
void dataset_reader_free(struct dataset_reader *reader); /* NULL is fine */
/* *more false at the end of the file, with `row` untouched. */
int dataset_reader_next(struct dataset_reader *reader, struct dataset_row *row, bool *more,
                        struct err *err) MUST_CHECK;
/* SHA-256 of the whole file, as it was read; only after *more was false, once. */
int dataset_reader_sha256(struct dataset_reader *reader, char out[SHA256_HEX_BYTES],
                          struct err *err) MUST_CHECK;
uint64_t dataset_reader_bytes(const struct dataset_reader *reader); /* read so far */

struct dataset_report {
    int64_t rows;
    int64_t by_shape[3]; /* rows of each enum dataset_shape */
    uint64_t bytes;
    char sha256[SHA256_HEX_BYTES];
};
/* `name` is what messages call the file; NULL = its own. Reads the whole file once. Bad rows:
 * ERR_INVALID with the first DATASET_BAD_ROWS_SHOWN of them
 * ("file:line: why; file:line: why; and 12 more"); a file without rows is ERR_INVALID too. */
int dataset_check(const char *path, const char *name, const struct dataset_columns *columns,
                  struct dataset_report *report, struct err *err) MUST_CHECK;

#endif
