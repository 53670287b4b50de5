/* Small tokenizer.model files against SentencePiece itself, and what the config files beside such a
 * file change. Real ones are in test_tokenizer_sentencepiece_large.c. */
#include "engine/engine.h"
#include "engine/tokenizer_files.h"
#include "formats/gguf.h"
#include "text/golden.h"

#define FOLDER "tests/fixtures/text/sentencepiece/"

static struct tokenizer *load(const char *path, const char *config, const char *added)
{
    struct err err = {0};
    struct tokenizer *tok;
    json_t *config_json = config == NULL ? NULL : json_loads(config, 0, NULL);
    json_t *added_json = added == NULL ? NULL : json_loads(added, 0, NULL);

    assert_true((config == NULL) == (config_json == NULL));
    assert_true((added == NULL) == (added_json == NULL));
    assert_ok(tokenizer_from_sentencepiece(path, config_json, added_json, &tok, &err), &err);
    json_decref(config_json);
    json_decref(added_json);
    return tok;
}

/* Ids of text are want's, a JSON array. */
static void same_ids(const struct tokenizer *tok, const char *text, size_t n, unsigned flags,
                     const json_t *want)
{
    struct err err = {0};
    struct token_ids ids;

    token_ids_init(&ids, GOLDEN_IDS_MAX);
    assert_ok(tokenizer_encode(tok, text, n, flags, &ids, &err), &err);
    golden_same(text, 0, "ids", want, &ids);
    token_ids_release(&ids);
}

static void want_ids(const struct tokenizer *tok, const char *text, unsigned flags,
                     const char *want)
{
    json_t *ids = json_loads(want, 0, NULL);

    assert_non_null(ids);
    same_ids(tok, text, strlen(text), flags, ids);
    json_decref(ids);
}

static void want_text(const struct tokenizer *tok, const json_t *ids, const json_t *want)
{
    struct err err = {0};
    struct detok detok;
    struct buf out;
    bool unknown = false;

    buf_init(&out, 4096);
    detok_init(&detok, tok, true);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        int32_t id = (int32_t)json_integer_value(json_array_get(ids, i));
        unknown = unknown || id == tokenizer_unk(tok);
        assert_ok(detok_push(&detok, id, &out, &err), &err);
    }
    assert_ok(detok_flush(&detok, &out, &err), &err);
    if (!unknown) { /* SentencePiece has a sign for those, and we leave them out */
        assert_int_equal(out.len, json_string_length(want));
        assert_memory_equal(out.len == 0 ? "" : out.data, json_string_value(want), out.len);
    }
    buf_release(&out);
}

/* Small models with every setting that is served. */
static void test_small(void **state)
{
    static struct golden_lines lines;

    (void)state;
    golden_read(&lines, FOLDER "cases.jsonl");
    assert_int_equal(lines.n, 5);
    for (size_t i = 0; i < lines.n; i++) {
        const json_t *line = lines.line[i];
        const json_t *cases = json_object_get(line, "cases");
        char path[256];
        if (json_array_size(cases) == 0)
            continue;
        snprintf(path, sizeof path, FOLDER "%s.model",
                 json_string_value(json_object_get(line, "name")));
        struct tokenizer *tok = load(path, NULL, NULL);
        assert_int_equal(tokenizer_bos(tok), json_integer_value(json_object_get(line, "bos")));
        assert_int_equal(tokenizer_eos(tok), json_integer_value(json_object_get(line, "eos")));
        assert_int_equal(tokenizer_unk(tok), json_integer_value(json_object_get(line, "unk")));
        assert_int_equal(tokenizer_pad(tok), json_integer_value(json_object_get(line, "pad")));
        assert_int_equal(tokenizer_vocab_size(tok),
                         json_integer_value(json_object_get(line, "size")));
        for (size_t c = 0; c < json_array_size(cases); c++) {
            const json_t *one = json_array_get(cases, c);
            const json_t *text = json_array_get(one, 0);
            same_ids(tok, json_string_value(text), json_string_length(text), 0,
                     json_array_get(one, 1));
            want_text(tok, json_array_get(one, 1), json_array_get(one, 2));
        }
        tokenizer_free(tok);
    }
    golden_release(&lines);
}

static struct tokenizer *load_gguf(const char *path)
{
    struct err err = {0};
    struct gguf *gguf = NULL;
    struct tokenizer *tok = NULL;

    assert_ok(gguf_open(path, &gguf, &err), &err);
    assert_ok(tokenizer_from_gguf(gguf, &tok, &err), &err);
    gguf_free(gguf);
    return tok;
}

/* Phi 3's control tokens take the white space behind them along, but for the first one. */
static void test_phi3(void **state)
{
    struct tokenizer *tok = load_gguf(FOLDER "phi3.gguf");

    (void)state;
    want_ids(tok, "a</s> \n a", TOKENIZER_PARSE_SPECIAL, "[263, 2, 263]");
    want_ids(tok, "<s> a", TOKENIZER_PARSE_SPECIAL, "[1, 5, 364]");
    tokenizer_free(tok);
}

/* The same vocabulary out of a GGUF file, where llama.cpp puts a space before every stretch. */
static void test_gguf(void **state)
{
    static struct golden_lines lines;
    struct tokenizer *tok = load_gguf(FOLDER "llama.gguf");

    (void)state;
    golden_read(&lines, FOLDER "cases.jsonl");
    const json_t *cases = json_object_get(lines.line[0], "cases");
    assert_string_equal(json_string_value(json_object_get(lines.line[0], "name")), "llama");
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *one = json_array_get(cases, c);
        const json_t *text = json_array_get(one, 0);
        same_ids(tok, json_string_value(text), json_string_length(text), 0, json_array_get(one, 1));
        want_text(tok, json_array_get(one, 1), json_array_get(one, 2));
    }
    want_ids(tok, "a", TOKENIZER_ADD_SPECIAL, "[1, 263]");
    want_ids(tok, "a</s>a", TOKENIZER_PARSE_SPECIAL, "[263, 2, 263]");
    tokenizer_free(tok);
    golden_release(&lines);
}

/* A model folder with tokenizer.model alone, under its digest: it opens, and leaves its tokenizer
 * compiled for the next start, which takes it from there; a damaged one is made again. */
static void test_model(void **state)
{
    static const char digest[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const char *const files[][2] = {
        {"tests/fixtures/engine/families/llama/config.json", "config.json"},
        {"tests/fixtures/engine/families/llama/model.safetensors", "model.safetensors"},
        {FOLDER "tiny.model", "tokenizer.model"}};
    char dir[FS_PATH_BYTES_MAX], model_dir[FS_PATH_BYTES_MAX], cache[FS_PATH_BYTES_MAX];
    char path[FS_PATH_BYTES_MAX], name[96];
    struct err err = {0};
    struct buf first, again;

    (void)state;
    test_dir_make(dir);
    assert_ok(fs_join(model_dir, dir, digest, &err), &err);
    assert_ok(fs_join(cache, dir, "cache", &err), &err);
    assert_ok(fs_mkdirs(model_dir, &err), &err);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        assert_ok(fs_join(path, model_dir, files[i][1], &err), &err);
        assert_ok(fs_copy_file(files[i][0], path, &err), &err);
    }
    snprintf(name, sizeof name, "%s.tokenizer", digest);
    assert_ok(fs_join(path, cache, name, &err), &err);
    buf_init(&first, 1 << 20);
    buf_init(&again, 1 << 20);
    for (int start = 0; start < 3; start++) {
        const struct engine_options options = {.threads = 1, .isa = "best", .cache_dir = cache};
        struct engine_model *model = NULL;
        assert_ok(engine_model_open(&model, model_dir, &options, &err), &err);
        const struct tokenizer *tok = engine_model_tokenizer(model);
        assert_non_null(tok);
        assert_int_equal(tokenizer_vocab_size(tok), 64);
        assert_int_equal(tokenizer_bos(tok), 1);
        struct token_ids ids;
        struct buf text;
        token_ids_init(&ids, 64);
        buf_init(&text, 64);
        assert_ok(tokenizer_encode(tok, "the fox", 7, 0, &ids, &err), &err);
        assert_true(ids.n > 0 && ids.n < 7);
        assert_ok(tokenizer_decode(tok, ids.ids, ids.n, true, &text, &err), &err);
        assert_string_equal(text.data, "the fox");
        token_ids_release(&ids);
        buf_release(&text);
        engine_model_free(model);
        buf_clear(&again);
        assert_ok(fs_read_file(path, 1 << 20, &again, &err), &err);
        if (start == 0)
            buf_append(&first, again.data, again.len);
        assert_int_equal(again.len, first.len);
        assert_memory_equal(again.data, first.data, first.len);
        if (start == 1) { /* found damaged by the third start, and written again */
            again.data[again.len / 2] ^= 1;
            again.data[100] ^= 1;
            assert_ok(fs_write_file(path, again.data, again.len, &err), &err);
        }
    }
    buf_release(&first);
    buf_release(&again);
    test_dir_remove(dir);
}

/* The files beside: tokens beyond the vocabulary, what goes around, where the mark goes. */
static void test_config(void **state)
{
    static const char path[] = FOLDER "llama.model";
    struct tokenizer *tok;

    (void)state;
    tok = load(path, NULL, NULL);
    want_ids(tok, "a", TOKENIZER_ADD_SPECIAL, "[1, 263]");
    want_ids(tok, "a</s>a", TOKENIZER_PARSE_SPECIAL, "[263, 2, 364]"); /* as the text goes on */
    want_ids(tok, "[x]a", TOKENIZER_PARSE_SPECIAL, "[3, 364]");
    tokenizer_free(tok);
    tok = load(path,
               "{\"legacy\":true,\"add_bos_token\":false,\"add_eos_token\":true,"
               "\"eos_token\":{\"content\":\"<|end|>\"},\"pad_token\":null,"
               "\"added_tokens_decoder\":{\"500\":{\"content\":\"<|end|>\",\"special\":true,"
               "\"rstrip\":true},\"2\":{\"content\":\"</s>\",\"special\":true}}}",
               "{\"<|more|>\":501,\"<|end|>\":500}");
    want_ids(tok, "a", TOKENIZER_ADD_SPECIAL, "[263, 500]");
    want_ids(tok, "a<|end|>  a<|more|>", TOKENIZER_PARSE_SPECIAL, "[263, 500, 263, 501]");
    want_ids(tok, "<|more|>", 0, "[501]");
    assert_int_equal(tokenizer_eos(tok), 500);
    assert_int_equal(tokenizer_vocab_size(tok), 502);
    tokenizer_free(tok);
}

static void test_refused(void **state)
{
    static const struct {
        const char *path;
        const char *config;
        const char *added;
        enum err_code code;
    } rows[] = {
        {FOLDER "unigram.model", NULL, NULL, ERR_UNSUPPORTED},
        {FOLDER "none.model", NULL, NULL, ERR_NOT_FOUND},
        {FOLDER "cases.jsonl", NULL, NULL, ERR_CORRUPT},
        {FOLDER "llama.model", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}", NULL,
         ERR_CORRUPT},
        {FOLDER "llama.model", "{\"added_tokens_decoder\":{\"9999999999\":{\"content\":\"y\"}}}",
         NULL, ERR_CORRUPT},
        {FOLDER "llama.model", "{\"added_tokens_decoder\":{\"7\":{}}}", NULL, ERR_CORRUPT},
        {FOLDER "llama.model", "{\"added_tokens_decoder\":{\"7\":{\"content\":\"\"}}}", NULL,
         ERR_CORRUPT},
        {FOLDER "llama.model", NULL, "{\"y\":-1}", ERR_CORRUPT},
        {FOLDER "llama.model", NULL, "{\"y\":\"7\"}", ERR_CORRUPT},
        {FOLDER "llama.model", NULL, "{\"\":700}", ERR_CORRUPT},
        {FOLDER "llama.model", NULL, "{\"y\":99999999}", ERR_CORRUPT},
        {FOLDER "llama.model", NULL, "{\"<s>\":700}", ERR_INVALID},
        {FOLDER "llama.model", "{\"legacy\":7}", NULL, ERR_UNPROCESSABLE},
    };
    size_t used = mem_used();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        struct tokenizer *tok;
        json_t *config = rows[i].config == NULL ? NULL : json_loads(rows[i].config, 0, NULL);
        json_t *added = rows[i].added == NULL ? NULL : json_loads(rows[i].added, 0, NULL);
        int rc = tokenizer_from_sentencepiece(rows[i].path, config, added, &tok, &err);
        if (rc != -(int)rows[i].code)
            fail_msg("row %zu: %d %s", i, rc, err.message);
        assert_null(tok);
        json_decref(config);
        json_decref(added);
    }
    assert_int_equal(mem_used(), used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small), cmocka_unit_test(test_gguf),   cmocka_unit_test(test_phi3),
        cmocka_unit_test(test_model), cmocka_unit_test(test_config), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
