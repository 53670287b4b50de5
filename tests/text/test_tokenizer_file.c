/* Compiled tokenizers: what is mapped is what was written, and a file that is damaged anywhere, of
 * another source or cut off is refused. */
#include "text/golden.h"

#define KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_round_trip(void **state)
{
    static struct golden_lines lines;
    char dir[FS_PATH_BYTES_MAX];
    char path[FS_PATH_BYTES_MAX];
    struct err err = {0};
    struct buf text;
    size_t used;

    (void)state;
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "x.tokenizer", &err), &err);
    golden_read(&lines, "tests/fixtures/text/tiny.jsonl");
    buf_init(&text, GOLDEN_FILE_BYTES_MAX);
    used = mem_used();
    for (size_t i = 0; i < lines.n; i++) {
        const char *name = json_string_value(json_object_get(lines.line[i], "name"));
        const json_t *cases = json_object_get(lines.line[i], "cases");
        char *json = json_dumps(json_object_get(lines.line[i], "tokenizer"), 0);
        struct tokenizer *made;
        struct tokenizer *tok;
        size_t n;
        assert_ok(tokenizer_from_json(&made, json, strlen(json), &err), &err);
        assert_ok(tokenizer_write(made, path, KEY, &err), &err);
        assert_ok(tokenizer_map(&tok, path, KEY, &err), &err);
        for (size_t c = 0; c < json_array_size(cases); c++) {
            golden_text(json_object_get(json_array_get(cases, c), "t"), &text);
            golden_case(tok, name, c, &text, json_array_get(cases, c));
        }
        golden_around(tok, name, json_object_get(lines.line[i], "around"));
        assert_int_equal(tokenizer_vocab_size(tok), tokenizer_vocab_size(made));
        assert_int_equal(tokenizer_bos(tok), tokenizer_bos(made));
        assert_int_equal(tokenizer_eos(tok), tokenizer_eos(made));
        for (int32_t id = 0; (size_t)id < tokenizer_vocab_size(tok); id++) {
            const char *piece = tokenizer_piece(made, id, &n);
            char copy[256];
            size_t m;
            assert_true(n < sizeof copy);
            memcpy(copy, piece, n);
            piece = tokenizer_piece(tok, id, &m);
            assert_int_equal(n, m);
            assert_memory_equal(n == 0 ? "" : piece, copy, n);
            assert_int_equal(tokenizer_is_special(tok, id), tokenizer_is_special(made, id));
        }
        tokenizer_free(tok);
        tokenizer_free(made);
        mem_free(json);
    }
    buf_release(&text);
    golden_release(&lines);
    assert_true(mem_used() <= used);
    test_dir_remove(dir);
}

static void make_file(const char *path)
{
    static const char json[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]},"
        "\"added_tokens\":[{\"id\":3,\"content\":\"<e>\",\"special\":true}],"
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
        "\"decoder\":{\"type\":\"ByteLevel\"}}";
    struct err err = {0};
    struct tokenizer *tok;

    assert_ok(tokenizer_from_json(&tok, json, sizeof json - 1, &err), &err);
    assert_ok(tokenizer_write(tok, path, KEY, &err), &err);
    tokenizer_free(tok);
}

/* Every byte that counts, each in turn. */
static void test_damage(void **state)
{
    char dir[FS_PATH_BYTES_MAX];
    char path[FS_PATH_BYTES_MAX];
    struct err err = {0};
    struct tokenizer *tok;
    struct buf file;
    size_t used;
    size_t refused = 0;

    (void)state;
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "x.tokenizer", &err), &err);
    assert_err(tokenizer_map(&tok, path, KEY, &err), &err, ERR_NOT_FOUND);
    make_file(path);
    buf_init(&file, 1 << 20);
    assert_ok(fs_read_file(path, 1 << 20, &file, &err), &err);
    used = mem_used();
    for (size_t i = 0; i < file.len; i += i < 400 ? 1 : 37) {
        file.data[i] ^= 0x10;
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        assert_int_equal(fwrite(file.data, 1, file.len, out), file.len);
        assert_int_equal(fclose(out), 0);
        file.data[i] ^= 0x10;
        if (tokenizer_map(&tok, path, KEY, &err) != 0) {
            assert_int_equal(err.code, ERR_CORRUPT);
            refused++;
        }
        err_clear(&err);
        tokenizer_free(tok); /* padding between the parts may be anything */
        assert_int_equal(mem_used(), used);
    }
    assert_true(refused > 400);
    for (size_t n = 0; n < file.len; n += n < 64 ? 1 : 211) {
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        assert_int_equal(fwrite(file.data, 1, n, out), n);
        assert_int_equal(fclose(out), 0);
        assert_err(tokenizer_map(&tok, path, KEY, &err), &err, ERR_CORRUPT);
    }
    make_file(path);
    assert_err(tokenizer_map(&tok, path,
                             "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                             &err),
               &err, ERR_CORRUPT);
    buf_release(&file);
    test_dir_remove(dir);
}

/* Loading that cannot have its memory fails cleanly, whichever allocation it is. */
static void test_memory(void **state)
{
    char dir[FS_PATH_BYTES_MAX];
    char path[FS_PATH_BYTES_MAX];
    struct err err = {0};
    struct tokenizer *tok;
    size_t used;
    int failures = 0;

    (void)state;
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "x.tokenizer", &err), &err);
    make_file(path);
    used = mem_used();
    for (unsigned n = 1;; n++) {
        fault_arm(FAULT_MALLOC, n, false);
        int rc = tokenizer_map(&tok, path, KEY, &err);
        bool fired = fault_fired();
        fault_disarm();
        assert_true(rc == 0 ? tok != NULL : err.code == ERR_NOMEM || err.code == ERR_INTERNAL);
        err_clear(&err);
        tokenizer_free(tok);
        assert_int_equal(mem_used(), used);
        if (!fired)
            break;
        failures++;
    }
    assert_true(failures > 5);
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
