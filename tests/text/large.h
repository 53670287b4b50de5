/* The large corpus: holding a tokenizer to what scripts/golden/tokenizer_corpus.py wrote of it.
 * A difference names the chunk; `mlx-hub tokenize` shows its ids.
 */
#ifndef TESTS_TEXT_LARGE_H
#define TESTS_TEXT_LARGE_H

#include <inttypes.h>

#include "base/hash.h"
#include "text/golden.h"

enum { LARGE_CHUNKS_MIN = 500, LARGE_DIGITS = 8 };

struct large_run {
    const struct tokenizer *tok;
    const char *name;
    size_t chunk;
    struct sha256 every;
    size_t failures;
};

static inline void large_digest(const void *bytes, size_t n, char out[SHA256_HEX_BYTES])
{
    struct err err = {0};

    assert_ok(sha256_hex(bytes, n, out, &err), &err);
    out[LARGE_DIGITS] = '\0';
}

/* Encodes, and appends "COUNT:DIGEST"; ids are little-endian int32 on every machine we run on. */
static inline void large_ids(struct large_run *run, const char *text, size_t n, unsigned flags,
                             struct token_ids *ids, struct buf *entry)
{
    struct err err = {0};
    char digest[SHA256_HEX_BYTES];

    token_ids_clear(ids);
    assert_ok(tokenizer_encode(run->tok, text, n, flags, ids, &err), &err);
    large_digest(ids->ids == NULL ? (const void *)"" : ids->ids, ids->n * sizeof(*ids->ids),
                 digest);
    buf_printf(entry, "%zu:%s", ids->n, digest);
}

/* What the script writes for a chunk, into entry. */
static inline void large_entry(struct large_run *run, bool parses, const char *text, size_t n,
                               struct buf *entry)
{
    struct err err = {0};
    struct token_ids ids;
    struct token_ids plain;
    struct buf out;
    char digest[SHA256_HEX_BYTES];

    token_ids_init(&ids, GOLDEN_IDS_MAX);
    token_ids_init(&plain, GOLDEN_IDS_MAX);
    buf_init(&out, GOLDEN_FILE_BYTES_MAX);
    large_ids(run, text, n, parses ? TOKENIZER_PARSE_SPECIAL : 0, &ids, entry);
    buf_puts(entry, "|");
    large_ids(run, text, n, 0, &plain, entry);
    if (ids.n == plain.n &&
        (ids.n == 0 || memcmp(ids.ids, plain.ids, ids.n * sizeof(*ids.ids)) == 0))
        entry->len = (size_t)(strchr(entry->data, '|') - entry->data);
    assert_ok(sha256_update(&run->every, ids.ids, ids.n * sizeof(*ids.ids), &err), &err);
    assert_ok(sha256_update(&run->every, plain.ids, plain.n * sizeof(*plain.ids), &err), &err);
    assert_ok(tokenizer_decode(run->tok, ids.ids, ids.n, false, &out, &err), &err);
    golden_stream(run->tok, &ids, &out);
    if (out.len != n || (n > 0 && memcmp(out.data, text, n) != 0)) {
        large_digest(out.data == NULL ? "" : out.data, out.len, digest);
        buf_printf(entry, ">%s", digest);
    }
    buf_putc(entry, '\0');
    token_ids_release(&ids);
    token_ids_release(&plain);
    buf_release(&out);
}

static inline void large_chunk(struct large_run *run, bool parses, const char *text, size_t n,
                               const char *want)
{
    struct buf entry;

    buf_init(&entry, 256);
    large_entry(run, parses, text, n, &entry);
    assert_int_equal(entry.failed, ERR_NONE);
    if (strcmp(entry.data, want) != 0 && run->failures++ < 20)
        print_error("%s, chunk %zu (%zu bytes): %s, not %s\n", run->name, run->chunk, n, entry.data,
                    want);
    buf_release(&entry);
}

/* The line of the golden file that is about `name`; the caller releases lines. */
static inline const json_t *large_line(struct golden_lines *lines, const char *name)
{
    golden_read(lines, "tests/fixtures/text/large.jsonl");
    for (size_t i = 0; i < lines->n; i++) {
        if (strcmp(json_string_value(json_object_get(lines->line[i], "name")), name) == 0)
            return lines->line[i];
    }
    fail_msg("large.jsonl says nothing about %s", name);
    return NULL;
}

/* Holds tok to the corpus; `parses`: control tokens in the text are parsed, as the script's first
 * ids have it. */
static inline void large_hold(const struct tokenizer *tok, const char *name, bool parses)
{
    static struct golden_lines lines;
    static const char path[] = ".cache/tokenizers/corpus.bin";
    const json_t *line = large_line(&lines, name);
    const json_t *chunks = json_object_get(line, "chunks");
    struct large_run run = {.tok = tok, .name = name};
    struct err err = {0};
    struct buf corpus;
    char every[SHA256_HEX_BYTES];
    size_t at = 0;

    if (!fs_exists(path))
        fail_msg("%s is missing: run scripts/fetch-tokenizers", path);
    buf_init(&corpus, GOLDEN_FILE_BYTES_MAX);
    assert_ok(fs_read_file(path, GOLDEN_FILE_BYTES_MAX, &corpus, &err), &err);
    assert_ok(sha256_init(&run.every, &err), &err);
    assert_true(json_array_size(chunks) >= LARGE_CHUNKS_MIN);
    for (; at < corpus.len; run.chunk++) {
        uint32_t n;
        memcpy(&n, corpus.data + at, sizeof n);
        const json_t *want = json_array_get(chunks, run.chunk);
        assert_non_null(want);
        large_chunk(&run, parses, corpus.data + at + sizeof n, n, json_string_value(want));
        at += sizeof n + n;
    }
    assert_int_equal(run.chunk, json_array_size(chunks));
    assert_ok(sha256_final_hex(&run.every, every, &err), &err);
    assert_int_equal(run.failures, 0);
    assert_string_equal(every, json_string_value(json_object_get(line, "all")));
    buf_release(&corpus);
    golden_release(&lines);
}

#endif
