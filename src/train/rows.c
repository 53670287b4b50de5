/* All rows of a file, their tokens one behind the other in one pool that doubles. */
#include "train/rows.h"

#include <string.h>

#include "base/mem.h"
#include "train/train.h"

enum { ROWS_PER_POLL = 64, TOKENS_FIRST = 1 << 14, ROWS_FIRST = 1 << 8 };

void train_rows_release(struct train_rows *rows)
{
    mem_free(rows->tokens);
    mem_free(rows->targets);
    mem_free(rows->rows);
    memset(rows, 0, sizeof *rows);
}

size_t train_rows_bytes(const struct train_rows *rows)
{
    return rows->tokens_cap * (sizeof *rows->tokens + sizeof *rows->targets) +
           rows->rows_cap * sizeof *rows->rows;
}

/* A token is four bytes of text; what a template adds to a row is some TOKENS_OF_TURNS. */
uint64_t train_rows_estimate(int64_t rows, int64_t file_bytes, int64_t max_seq_length)
{
    enum { BYTES_OF_TOKEN = 4, TOKENS_OF_TURNS = 16 };
    if (rows <= 0 || file_bytes <= 0 || max_seq_length <= 0) {
        return 0;
    }
    const uint64_t n = (uint64_t)rows;
    const uint64_t all = (uint64_t)file_bytes / BYTES_OF_TOKEN + n * TOKENS_OF_TURNS;
    const uint64_t cut = n * (uint64_t)max_seq_length;
    const uint64_t tokens = all < cut ? all : cut;
    return tokens * (sizeof(int32_t) + sizeof(uint8_t)) + n * sizeof(struct train_row);
}

static int reserve(struct train_rows *rows, size_t n, struct err *err)
{
    size_t cap = rows->tokens_cap > 0 ? rows->tokens_cap : TOKENS_FIRST;
    while (cap < rows->n_tokens + n) {
        cap *= 2;
    }
    if (cap > TRAIN_DATA_TOKENS_MAX || rows->n_rows == TRAIN_ROWS_MAX) {
        return err_set(err, ERR_TOO_LARGE, "the dataset has more than %d tokens or %d rows",
                       TRAIN_DATA_TOKENS_MAX, TRAIN_ROWS_MAX);
    }
    if (cap != rows->tokens_cap) {
        int32_t *tokens = mem_realloc(rows->tokens, cap, sizeof *tokens);
        rows->tokens = tokens != NULL ? tokens : rows->tokens;
        uint8_t *targets = mem_realloc(rows->targets, cap, sizeof *targets);
        rows->targets = targets != NULL ? targets : rows->targets;
        if (tokens == NULL || targets == NULL) {
            return mem_err(err, cap * sizeof *tokens);
        }
        rows->tokens_cap = cap;
    }
    if (rows->n_rows == rows->rows_cap) {
        const size_t more = rows->rows_cap > 0 ? 2 * rows->rows_cap : ROWS_FIRST;
        struct train_row *grown = mem_realloc(rows->rows, more, sizeof *grown);
        if (grown == NULL) {
            return mem_err(err, more * sizeof *grown);
        }
        rows->rows = grown;
        rows->rows_cap = more;
    }
    return 0;
}

static int add(struct train_rows *rows, const struct train_sample *sample, struct err *err)
{
    rows->read++;
    rows->truncated += sample->truncated;
    rows->last_turn_only += sample->last_turn_only;
    if (sample->n_targets == 0) {
        rows->dropped++;
        return 0;
    }
    const size_t n = (size_t)sample->n_tokens;
    int rc = reserve(rows, n, err);
    if (rc != 0) {
        return rc;
    }
    memcpy(rows->tokens + rows->n_tokens, sample->tokens, n * sizeof *rows->tokens);
    memcpy(rows->targets + rows->n_tokens, sample->targets, n);
    rows->rows[rows->n_rows++] = (struct train_row){.at = (uint32_t)rows->n_tokens,
                                                    .n_tokens = (uint32_t)n,
                                                    .n_targets = (uint32_t)sample->n_targets,
                                                    .number = (uint32_t)rows->read};
    rows->n_tokens += n;
    rows->n_targets += (uint64_t)sample->n_targets;
    return 0;
}

static int read_rows(struct train_rows *rows, struct row_maker *maker,
                     struct dataset_reader *reader, const char *name,
                     int (*poll)(void *ctx, struct err *err), void *ctx, struct err *err)
{
    for (;;) {
        struct dataset_row row;
        struct train_sample sample;
        bool more = false;
        int rc = 0;
        if (poll != NULL && rows->read % ROWS_PER_POLL == 0) {
            rc = poll(ctx, err);
        }
        if (rc == 0) {
            rc = dataset_reader_next(reader, &row, &more, err);
        }
        if (rc != 0 || !more) {
            return rc;
        }
        rc = row_maker_make(maker, &row, &sample, err);
        if (rc != 0) {
            err_prefix(err, "%s:%lld", name, (long long)row.line);
            return rc;
        }
        rc = add(rows, &sample, err);
        if (rc != 0) {
            return rc;
        }
    }
}

/* A file that was read whole has `actual`; one with a bad row is hashed here, since that it changed
 * explains the row. */
static int check_unchanged(int rc, const char *path, const char *sha256,
                           char actual[SHA256_HEX_BYTES], struct err *err)
{
    if (sha256 == NULL || (rc != 0 && rc != -ERR_INVALID) ||
        (rc != 0 && sha256_file_hex(path, actual, NULL) != 0) || strcmp(sha256, actual) == 0) {
        return rc;
    }
    if (err != NULL) {
        err_clear(err);
    }
    return err_set(err, ERR_CORRUPT,
                   "%s changed since it was registered: its checksum was %s and is %s; register "
                   "it again under a new name to train on what it holds now",
                   path, sha256, actual);
}

/* columns: JSON text, or NULL for the usual names. */
static int open_reader(struct dataset_reader **reader, const char *path, const char *columns,
                       struct err *err)
{
    struct dataset_columns named;
    if (columns == NULL || *columns == '\0') {
        return dataset_reader_new(reader, path, NULL, err);
    }
    json_t *json = json_parse(columns, strlen(columns), err);
    if (json == NULL) {
        return err_set(err, ERR_UNPROCESSABLE, "columns");
    }
    int rc = dataset_columns_parse(&named, json, err);
    json_decref(json);
    return rc == 0 ? dataset_reader_new(reader, path, &named, err) : rc;
}

int train_rows_read(struct train_rows *rows, struct row_maker *maker, const char *path,
                    const char *columns, const char *sha256,
                    int (*poll)(void *ctx, struct err *err), void *ctx, struct err *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    struct dataset_reader *reader = NULL;
    memset(rows, 0, sizeof *rows);
    int rc = open_reader(&reader, path, columns, err);
    if (rc == 0) {
        rc = read_rows(rows, maker, reader, name, poll, ctx, err);
    }
    if (rc == 0) {
        rc = dataset_reader_sha256(reader, rows->sha256, err);
    }
    dataset_reader_free(reader);
    rc = check_unchanged(rc, path, sha256, rows->sha256, err);
    if (rc == 0 && rows->n_rows == 0) {
        rc = err_set(err, ERR_INVALID,
                     "%s: nothing to learn: none of its %lld rows has a target within "
                     "max_seq_length %d",
                     name, (long long)rows->read, maker->tokens_max);
    }
    if (rc != 0) {
        train_rows_release(rows);
    }
    return rc;
}
