/* Golden token ids: reading the fixtures that scripts/golden/tokenizer_ids.py writes, and holding
 * a tokenizer to them.
 */
#ifndef TESTS_TEXT_GOLDEN_H
#define TESTS_TEXT_GOLDEN_H

#include "base/buf.h"
#include "base/json.h"
#include "test.h"
#include "text/tokenizer.h"

enum { GOLDEN_FILE_BYTES_MAX = 128 << 20, GOLDEN_IDS_MAX = 1 << 24, GOLDEN_LINES_MAX = 4096 };

struct golden_lines {
    json_t *line[GOLDEN_LINES_MAX];
    size_t n;
};

static inline void golden_read(struct golden_lines *lines, const char *path)
{
    struct err err = {0};
    struct buf text;

    lines->n = 0;
    buf_init(&text, GOLDEN_FILE_BYTES_MAX);
    assert_ok(fs_read_file(path, GOLDEN_FILE_BYTES_MAX, &text, &err), &err);
    for (size_t at = 0; at < text.len;) {
        const char *end = memchr(text.data + at, '\n', text.len - at);
        assert_non_null(end);
        assert_true(lines->n < GOLDEN_LINES_MAX);
        json_t *line = json_loadb(text.data + at, (size_t)(end - text.data) - at,
                                  JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(line);
        lines->line[lines->n++] = line;
        at = (size_t)(end - text.data) + 1;
    }
    buf_release(&text);
}

static inline void golden_release(struct golden_lines *lines)
{
    for (size_t i = 0; i < lines->n; i++)
        json_decref(lines->line[i]);
    lines->n = 0;
}

/* A text of the corpus: a string, or [string, repeats]. */
static inline void golden_text(const json_t *line, struct buf *out)
{
    const json_t *text = json_is_array(line) ? json_array_get(line, 0) : line;
    json_int_t n = json_is_array(line) ? json_integer_value(json_array_get(line, 1)) : 1;

    buf_clear(out);
    for (json_int_t i = 0; i < n; i++)
        buf_append(out, json_string_value(text), json_string_length(text));
    assert_int_equal(out->failed, ERR_NONE);
}

static inline uint64_t golden_hash(const int32_t *ids, size_t n)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);

    for (size_t i = 0; i < n; i++) {
        for (int shift = 0; shift < 32; shift += 8)
            hash = (hash ^ ((uint32_t)ids[i] >> shift & 0xFF)) * UINT64_C(0x100000001B3);
    }
    return hash;
}

/* The ids are those of `want`: a list, or {"n": count, "h": hash}. */
static inline void golden_same(const char *name, size_t line, const char *what, const json_t *want,
                               const struct token_ids *got)
{
    if (json_is_object(want)) {
        char hash[17];
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)golden_hash(got->ids, got->n));
        if (json_integer_value(json_object_get(want, "n")) != (json_int_t)got->n ||
            strcmp(json_string_value(json_object_get(want, "h")), hash) != 0)
            fail_msg("%s, line %zu, %s: %zu ids with hash %s", name, line, what, got->n, hash);
        return;
    }
    size_t n = json_array_size(want);
    for (size_t i = 0; i < n && i < got->n; i++) {
        json_int_t id = json_integer_value(json_array_get(want, i));
        if (id != got->ids[i])
            fail_msg("%s, line %zu, %s: id %zu is %d, not %d", name, line, what, i,
                     (int)got->ids[i], (int)id);
    }
    if (n != got->n)
        fail_msg("%s, line %zu, %s: %zu ids, not %zu", name, line, what, got->n, n);
}

/* The ids put together one by one give what decoding all of them gives, in whole characters. */
static inline void golden_stream(const struct tokenizer *tok, const struct token_ids *ids,
                                 const struct buf *whole)
{
    struct err err = {0};
    struct detok detok;
    struct buf out;

    buf_init(&out, GOLDEN_FILE_BYTES_MAX);
    detok_init(&detok, tok, false);
    for (size_t i = 0; i < ids->n; i++)
        assert_ok(detok_push(&detok, ids->ids[i], &out, &err), &err);
    assert_ok(detok_flush(&detok, &out, &err), &err);
    assert_int_equal(out.len, whole->len);
    assert_memory_equal(out.data == NULL ? "" : out.data, whole->data == NULL ? "" : whole->data,
                        whole->len);
    buf_release(&out);
}

/* Holds tok to one case: ids with special tokens parsed, and as plain text; decoding. `exact`
 * decoding gives back the text wherever the case says nothing else. */
static inline void golden_case(const struct tokenizer *tok, const char *name, size_t line,
                               const struct buf *text, const json_t *want)
{
    struct err err = {0};
    struct token_ids ids;
    struct buf out;
    const json_t *plain = json_object_get(want, "p");
    const json_t *decoded = json_object_get(want, "d");

    token_ids_init(&ids, GOLDEN_IDS_MAX);
    buf_init(&out, GOLDEN_FILE_BYTES_MAX);
    assert_ok(tokenizer_encode(tok, text->data, text->len, 0, &ids, &err), &err);
    golden_same(name, line, "plain", plain == NULL ? json_object_get(want, "i") : plain, &ids);
    token_ids_clear(&ids);
    assert_ok(tokenizer_encode(tok, text->data, text->len, TOKENIZER_PARSE_SPECIAL, &ids, &err),
              &err);
    golden_same(name, line, "parsed", json_object_get(want, "i"), &ids);
    assert_ok(tokenizer_decode(tok, ids.ids, ids.n, false, &out, &err), &err);
    if (!json_is_null(decoded)) {
        const char *bytes = decoded == NULL ? text->data : json_string_value(decoded);
        size_t n = decoded == NULL ? text->len : json_string_length(decoded);
        if (n != out.len || (n > 0 && memcmp(bytes, out.data, n) != 0))
            fail_msg("%s, line %zu: decoded to %zu bytes '%s', not %zu", name, line, out.len,
                     out.data == NULL ? "" : out.data, n);
    }
    golden_stream(tok, &ids, &out);
    token_ids_release(&ids);
    buf_release(&out);
}

/* What goes around a text with TOKENIZER_ADD_SPECIAL: [before, after]. */
static inline void golden_around(const struct tokenizer *tok, const char *name, const json_t *want)
{
    struct err err = {0};
    struct token_ids ids;
    json_t *both = json_array();

    token_ids_init(&ids, GOLDEN_IDS_MAX);
    assert_ok(tokenizer_encode(tok, "", 0, TOKENIZER_ADD_SPECIAL, &ids, &err), &err);
    assert_int_equal(json_array_extend(both, json_array_get(want, 0)), 0);
    assert_int_equal(json_array_extend(both, json_array_get(want, 1)), 0);
    golden_same(name, 0, "around", both, &ids);
    json_decref(both);
    token_ids_release(&ids);
}

/* Holds tok to the corpus and a model's file of cases, whose last line is what goes around. */
static inline void golden_model(const struct tokenizer *tok, const char *name)
{
    static struct golden_lines corpus;
    static struct golden_lines cases;
    struct buf text;
    char path[256];

    snprintf(path, sizeof path, "tests/fixtures/text/%s.jsonl", name);
    golden_read(&corpus, "tests/fixtures/text/corpus.jsonl");
    golden_read(&cases, path);
    assert_true(corpus.n > 300);
    assert_int_equal(cases.n, corpus.n + 1);
    buf_init(&text, GOLDEN_FILE_BYTES_MAX);
    for (size_t i = 0; i < corpus.n; i++) {
        golden_text(corpus.line[i], &text);
        golden_case(tok, name, i + 1, &text, cases.line[i]);
    }
    golden_around(tok, name, cases.line[corpus.n]);
    buf_release(&text);
    golden_release(&corpus);
    golden_release(&cases);
}

#endif
