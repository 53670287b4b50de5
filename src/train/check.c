/* One pass: each row is made into tokens as training would make it, with room for all of them, and
 * then looked at with the limit in mind. What is kept per row is its length, its line, and a hash
 * of its tokens; at the end lengths and hashes are sorted. */
#include "train/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/tokenizer_files.h"
#include "train/rows.h"
#include "train/run.h"

enum { ROWS_FIRST = 256, KEY_BYTES = 32 };

struct row_key {
    char hash[KEY_BYTES]; /* the first hex digits of a SHA-256 */
    int64_t line;
};

struct check {
    const struct check_request *request;
    struct model_files *files;
    struct tokenizer *tokenizer;
    struct row_maker maker;
    struct dataset_reader *reader;
    int tokens_max;

    uint32_t *lengths;
    struct row_key *keys;
    size_t n, cap;
    int64_t by_shape[3];
    int64_t seen; /* rows of the file, bad ones too */
    int64_t truncated, dropped, empty, last_turn_only, bad_rows, duplicates;
    uint64_t tokens, targets;

    struct buf bad, samples; /* the inside of a JSON array each */
    struct json_out bad_out, samples_out;
    bool shown;           /* the row that was asked for */
    struct err asked_why; /* why that one is bad */
};

/* --- opening ---------------------------------------------------------------------------------- */

static int open_maker(struct check *c, struct err *err)
{
    const struct check_request *r = c->request;
    struct row_model with = {.n_eos = 0};
    int rc = model_files_open(r->base_path, &c->files, err);
    if (rc == 0) {
        rc = tokenizer_from_files(c->files, &c->tokenizer, err);
    }
    if (rc != 0) {
        return rc;
    }
    const struct model_config *config = model_files_config(c->files);
    with.tokenizer = c->tokenizer;
    with.template = r->template != NULL ? r->template : model_files_chat_template(c->files);
    with.vocab_size = (int)config->vocab;
    for (unsigned i = 0; i < config->n_eos && i < ENGINE_EOS_MAX; i++) {
        with.eos[with.n_eos++] = (int)config->eos_ids[i];
    }
    const struct engine_info info = {.context_trained = (int)config->context_length};
    const struct train_config limits = {.max_seq_length = r->max_seq_length};
    c->tokens_max = run_tokens_max(&limits, &info);
    return row_maker_init_with(&c->maker, &with, r->date, TRAIN_ROW_IDS_MAX, r->mask_prompt, err);
}

static int open_reader(struct check *c, struct err *err)
{
    const struct check_request *r = c->request;
    struct dataset_columns columns;
    json_t *json = NULL;
    int rc = 0;
    if (r->columns != NULL && r->columns[0] != '\0') {
        json = json_parse(r->columns, strlen(r->columns), err);
        rc = json != NULL ? 0 : err_set(err, ERR_UNPROCESSABLE, "columns");
    }
    rc = rc == 0 ? dataset_columns_parse(&columns, json, err) : rc;
    json_decref(json);
    rc = rc == 0 ? dataset_reader_new(&c->reader, r->dataset_path, &columns, err) : rc;
    if (rc == 0 && r->name != NULL) {
        dataset_reader_rename(c->reader, r->name);
    }
    return rc;
}

static void check_release(struct check *c)
{
    row_maker_release(&c->maker);
    dataset_reader_free(c->reader);
    tokenizer_free(c->tokenizer);
    model_files_free(c->files);
    mem_free(c->lengths);
    mem_free(c->keys);
    buf_release(&c->bad);
    buf_release(&c->samples);
}

/* --- one row ---------------------------------------------------------------------------------- */

static int grow(struct check *c, struct err *err)
{
    if (c->n < c->cap) {
        return 0;
    }
    const size_t cap = c->cap > 0 ? 2 * c->cap : ROWS_FIRST;
    if (cap > TRAIN_ROWS_MAX) {
        return err_set(err, ERR_TOO_LARGE, "the dataset has more than %d rows", TRAIN_ROWS_MAX);
    }
    uint32_t *lengths = mem_realloc(c->lengths, cap, sizeof *lengths);
    c->lengths = lengths != NULL ? lengths : c->lengths;
    struct row_key *keys = mem_realloc(c->keys, cap, sizeof *keys);
    c->keys = keys != NULL ? keys : c->keys;
    if (lengths == NULL || keys == NULL) {
        return mem_err(err, cap * sizeof *keys);
    }
    c->cap = cap;
    return 0;
}

static int hash_row(const struct train_sample *sample, char out[KEY_BYTES], struct err *err)
{
    struct sha256 hash;
    char digest[SHA256_HEX_BYTES];
    const size_t n = (size_t)sample->n_tokens;
    int rc = sha256_init(&hash, err);
    if (rc == 0) {
        rc = sha256_update(&hash, sample->tokens, n * sizeof *sample->tokens, err);
    }
    if (rc == 0) {
        rc = sha256_update(&hash, sample->targets, n, err);
    }
    if (rc == 0) {
        rc = sha256_final_hex(&hash, digest, err);
        memcpy(out, digest, KEY_BYTES);
    } else {
        sha256_release(&hash);
    }
    return rc;
}

/* What the limit leaves of a row. */
struct cut {
    int targets;
    bool truncated, only_ends;
};

static struct cut cut_row(const struct check *c, const struct train_sample *sample)
{
    struct cut cut = {.only_ends = true, .truncated = sample->truncated};
    for (int i = 0; i < sample->n_tokens; i++) {
        if (sample->targets[i] == 0) {
            continue;
        }
        cut.only_ends = cut.only_ends && row_maker_is_end(&c->maker, sample->tokens[i]);
        cut.truncated = cut.truncated || i >= c->tokens_max;
        cut.targets += i < c->tokens_max;
    }
    return cut;
}

static int show_tokens(struct check *c, const struct train_sample *sample, struct err *err)
{
    struct json_out *out = &c->samples_out;
    struct detok detok;
    struct buf text;
    int rc = 0;
    detok_init(&detok, c->tokenizer, false);
    buf_init(&text, TOKENIZER_TEXT_BYTES_MAX);
    json_out_key(out, "tokens");
    json_out_array(out);
    for (int i = 0; i < sample->n_tokens && i < CHECK_SAMPLE_TOKENS_MAX && rc == 0; i++) {
        const bool last = i + 1 == sample->n_tokens;
        buf_clear(&text);
        rc = detok_push(&detok, sample->tokens[i], &text, err);
        rc = rc == 0 && last ? detok_flush(&detok, &text, err) : rc;
        json_out_object(out);
        json_out_kv_int(out, "id", sample->tokens[i]);
        json_out_key(out, "text");
        json_out_string_n(out, text.data != NULL ? text.data : "", text.len);
        json_out_kv_bool(out, "trained", sample->targets[i] != 0 && i < c->tokens_max);
        json_out_object_end(out);
    }
    json_out_array_end(out);
    buf_release(&text);
    return rc;
}

static int show(struct check *c, const struct dataset_row *row, const struct train_sample *sample,
                const struct cut *cut, struct err *err)
{
    struct json_out *out = &c->samples_out;
    const int64_t wanted = c->request->row;
    if (wanted > 0 ? c->seen != wanted : c->n >= CHECK_SAMPLES) {
        return 0;
    }
    c->shown = true;
    json_out_object(out);
    json_out_kv_int(out, "row", c->seen);
    json_out_kv_int(out, "line", row->line);
    json_out_kv_string(out, "shape", dataset_shape_name(row->shape));
    json_out_kv_int(out, "n_tokens", sample->n_tokens);
    json_out_kv_int(out, "n_targets", cut->targets);
    json_out_kv_bool(out, "truncated", cut->truncated);
    const int rc = show_tokens(c, sample, err);
    json_out_object_end(out);
    return rc;
}

static int add_row(struct check *c, const struct dataset_row *row,
                   const struct train_sample *sample, struct err *err)
{
    const struct cut cut = cut_row(c, sample);
    int rc = grow(c, err);
    if (rc == 0) {
        rc = show(c, row, sample, &cut, err);
    }
    if (rc == 0) {
        rc = hash_row(sample, c->keys[c->n].hash, err);
    }
    if (rc != 0) {
        return rc;
    }
    c->keys[c->n].line = row->line;
    c->lengths[c->n++] = (uint32_t)sample->n_tokens;
    c->by_shape[row->shape]++;
    c->tokens += (uint64_t)sample->n_tokens;
    c->targets += (uint64_t)cut.targets;
    c->truncated += cut.truncated;
    c->dropped += cut.targets == 0;
    c->empty += cut.only_ends;
    c->last_turn_only += sample->last_turn_only;
    return 0;
}

/* The row as training would make it, with all its tokens. Training looks for turns that a template
 * rewrites no further than the row goes, so a row of the last turn only is asked about again. */
static int make_row(struct check *c, const struct dataset_row *row, struct train_sample *sample,
                    struct err *err)
{
    int rc = row_maker_make(&c->maker, row, sample, err);
    if (rc != 0 || !sample->last_turn_only) {
        return rc;
    }
    c->maker.tokens_max = c->tokens_max;
    rc = row_maker_make(&c->maker, row, sample, err);
    c->maker.tokens_max = TRAIN_ROW_IDS_MAX;
    return rc == 0 && sample->last_turn_only ? row_maker_make(&c->maker, row, sample, err) : rc;
}

static void note_bad(struct check *c, const struct err *why)
{
    if (c->seen == c->request->row) {
        c->asked_why = *why;
    }
    if (c->bad_rows++ < CHECK_BAD_SHOWN) {
        json_out_string(&c->bad_out, why->message);
    }
}

static int read_rows(struct check *c, struct err *err)
{
    const char *path = c->request->dataset_path, *slash = strrchr(path, '/');
    const char *name = c->request->name != NULL ? c->request->name
                       : slash != NULL          ? slash + 1
                                                : path;
    for (;;) {
        struct dataset_row row;
        struct train_sample sample;
        struct err why = {0};
        bool more = false;
        int rc = dataset_reader_next(c->reader, &row, &more, &why);
        if (rc == 0 && !more) {
            return c->seen > 0 ? 0 : err_set(err, ERR_INVALID, "%s has no rows", name);
        }
        c->seen++;
        if (rc == 0) {
            rc = make_row(c, &row, &sample, &why);
            if (rc != 0) {
                err_prefix(&why, "%s:%lld", name, (long long)row.line);
            }
        }
        if (rc == 0) {
            rc = add_row(c, &row, &sample, &why);
        } else if (rc == -ERR_INVALID) {
            note_bad(c, &why);
            rc = 0;
        }
        if (rc != 0) {
            return err_set(err, why.code, "%s", why.message);
        }
    }
}

/* --- the answer ------------------------------------------------------------------------------- */

static int by_length(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static int by_key(const void *left, const void *right)
{
    const struct row_key *a = left, *b = right;
    const int order = memcmp(a->hash, b->hash, KEY_BYTES);
    return order != 0 ? order : a->line < b->line ? -1 : a->line > b->line;
}

static void write_lengths(struct check *c, struct json_out *out)
{
    const size_t n = c->n;
    if (n > 0) { /* of no row there is no list */
        qsort(c->lengths, n, sizeof *c->lengths, by_length);
    }
    json_out_key(out, "tokens");
    json_out_object(out);
    json_out_kv_int(out, "total", (int64_t)c->tokens);
    json_out_kv_int(out, "min", n > 0 ? c->lengths[0] : 0);
    json_out_kv_int(out, "max", n > 0 ? c->lengths[n - 1] : 0);
    json_out_kv_real(out, "mean", n > 0 ? (double)c->tokens / (double)n : 0.0);
    json_out_kv_int(out, "median", n > 0 ? c->lengths[(n - 1) / 2] : 0);
    json_out_kv_int(out, "p95", n > 0 ? c->lengths[(n - 1) * 95 / 100] : 0);
    json_out_object_end(out);
}

/* Lengths are sorted. */
static void write_histogram(const struct check *c, struct json_out *out)
{
    const uint32_t longest = c->n > 0 ? c->lengths[c->n - 1] : 0;
    const uint32_t width = longest / CHECK_BUCKETS_MAX + 1;
    size_t at = 0;
    json_out_key(out, "histogram");
    json_out_array(out);
    for (uint32_t from = 0; from <= longest && c->n > 0; from += width) {
        const size_t first = at;
        while (at < c->n && c->lengths[at] < from + width) {
            at++;
        }
        json_out_object(out);
        json_out_kv_int(out, "from", from);
        json_out_kv_int(out, "to", from + width - 1);
        json_out_kv_int(out, "rows", (int64_t)(at - first));
        json_out_object_end(out);
    }
    json_out_array_end(out);
}

static void write_duplicates(struct check *c, struct json_out *out)
{
    size_t first = 0;
    if (c->n > 0) {
        qsort(c->keys, c->n, sizeof *c->keys, by_key);
    }
    json_out_key(out, "duplicate_of");
    json_out_array(out);
    for (size_t i = 1; i < c->n; i++) {
        if (memcmp(c->keys[i].hash, c->keys[first].hash, KEY_BYTES) != 0) {
            first = i;
        } else if (c->duplicates++ < CHECK_DUPLICATES_SHOWN) {
            json_out_object(out);
            json_out_kv_int(out, "line", c->keys[i].line);
            json_out_kv_int(out, "first_line", c->keys[first].line);
            json_out_object_end(out);
        }
    }
    json_out_array_end(out);
    json_out_kv_int(out, "duplicates", c->duplicates);
}

static int write_answer(struct check *c, struct json_out *out, struct err *err)
{
    char sha256[SHA256_HEX_BYTES];
    int rc = dataset_reader_sha256(c->reader, sha256, err);
    json_out_array_end(&c->bad_out);
    json_out_array_end(&c->samples_out);
    rc = rc == 0 ? buf_check(&c->bad, "bad rows", err) : rc;
    rc = rc == 0 ? buf_check(&c->samples, "sample rows", err) : rc;
    if (rc != 0) {
        return rc;
    }
    json_out_object(out);
    json_out_kv_int(out, "rows", (int64_t)c->n);
    for (int i = 0; i < 3; i++) {
        json_out_kv_int(out, dataset_shape_name((enum dataset_shape)i), c->by_shape[i]);
    }
    json_out_kv_int(out, "bytes", (int64_t)dataset_reader_bytes(c->reader));
    json_out_kv_string(out, "sha256", sha256);
    json_out_kv_bool(out, "base_model_template", model_files_chat_template(c->files) != NULL);
    json_out_kv_int(out, "max_seq_length", c->tokens_max);
    json_out_kv_bool(out, "mask_prompt", c->request->mask_prompt);
    write_lengths(c, out);
    json_out_kv_int(out, "targets", (int64_t)c->targets);
    write_histogram(c, out);
    json_out_kv_int(out, "truncated", c->truncated);
    json_out_kv_int(out, "dropped", c->dropped);
    json_out_kv_int(out, "empty", c->empty);
    json_out_kv_int(out, "last_turn_only", c->last_turn_only);
    write_duplicates(c, out);
    json_out_kv_int(out, "bad_rows", c->bad_rows);
    json_out_kv_raw(out, "bad", c->bad.data);
    json_out_kv_raw(out, "samples", c->samples.data);
    json_out_object_end(out);
    return 0;
}

int train_check(const struct check_request *request, struct json_out *out, struct err *err)
{
    struct check c = {.request = request};
    buf_init(&c.bad, CHECK_ANSWER_BYTES_MAX);
    buf_init(&c.samples, CHECK_ANSWER_BYTES_MAX);
    json_out_init(&c.bad_out, &c.bad);
    json_out_init(&c.samples_out, &c.samples);
    json_out_array(&c.bad_out);
    json_out_array(&c.samples_out);
    int rc = open_maker(&c, err);
    rc = rc == 0 ? open_reader(&c, err) : rc;
    rc = rc == 0 ? read_rows(&c, err) : rc;
    if (rc == 0 && request->row > 0 && !c.shown) {
        rc = request->row <= c.seen
                 ? err_set(err, ERR_INVALID, "row %lld is bad: %s", (long long)request->row,
                           c.asked_why.message)
                 : err_set(err, ERR_NOT_FOUND, "there is no row %lld: the file has %lld",
                           (long long)request->row, (long long)c.seen);
    }
    rc = rc == 0 ? write_answer(&c, out, err) : rc;
    check_release(&c);
    return rc;
}
