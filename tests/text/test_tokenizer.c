/* Making tokenizers, from arrays and from tokenizer.json; every kind of bad source; bounds; text
 * that comes back as it went; failing allocations.
 */
#include "base/json.h"
#include "base/utf8.h"
#include "test.h"
#include "text/tokenizer.h"

enum { IDS_MAX = 1 << 22, TEXT_MAX = 1 << 24 };

/* A byte-level vocabulary of all 256 bytes, three merged tokens and two added ones. */
enum { LETTER_BYTES = 2, BYTES = 256, ID_AB = 256, ID_ABC, ID_SP_A, ID_END, ID_TOOL, N_TOKENS };

struct fixture {
    char letters[BYTES][LETTER_BYTES];
    struct tokenizer_text tokens[N_TOKENS];
    int32_t types[N_TOKENS];
    struct tokenizer_text merges[3];
    struct tokenizer_spec spec;
};

static struct tokenizer_text text_of(const char *text)
{
    return (struct tokenizer_text){text, strlen(text)};
}

static void fixture_init(struct fixture *f)
{
    unsigned next = 256;

    for (unsigned byte = 0; byte < BYTES; byte++) {
        bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        uint32_t point = printable ? byte : next++;
        char encoded[4];
        size_t n = utf8_encode(point, encoded);
        memcpy(f->letters[byte], encoded, n);
        f->tokens[byte] = (struct tokenizer_text){f->letters[byte], n};
    }
    f->tokens[ID_AB] = text_of("ab");
    f->tokens[ID_ABC] = text_of("abc");
    f->tokens[ID_SP_A] = text_of("\xC4\xA0"
                                 "a");
    f->tokens[ID_END] = text_of("<|end|>");
    f->tokens[ID_TOOL] = text_of("<tool>");
    for (int id = 0; id < N_TOKENS; id++)
        f->types[id] = TOKENIZER_NORMAL;
    f->types[ID_END] = TOKENIZER_CONTROL;
    f->types[ID_TOOL] = TOKENIZER_USER_DEFINED;
    f->merges[0] = text_of("a b");
    f->merges[1] = text_of("ab c");
    f->merges[2] = text_of("\xC4\xA0 a");
    tokenizer_spec_init(&f->spec);
    f->spec.tokens = f->tokens;
    f->spec.types = f->types;
    f->spec.n_tokens = N_TOKENS;
    f->spec.merges = f->merges;
    f->spec.n_merges = 3;
    f->spec.pre_name = "gpt-2";
    f->spec.eos_id = ID_END;
    f->spec.add_eos = true;
}

static void expect(const struct tokenizer *tok, const char *text, size_t n, unsigned flags,
                   const int32_t *want, size_t n_want)
{
    struct err err = {0};
    struct token_ids ids;

    token_ids_init(&ids, IDS_MAX);
    assert_ok(tokenizer_encode(tok, text, n, flags, &ids, &err), &err);
    assert_int_equal(ids.n, n_want);
    if (n_want > 0)
        assert_memory_equal(ids.ids, want, n_want * sizeof *want);
    token_ids_release(&ids);
}

static void test_from_arrays(void **state)
{
    struct err err = {0};
    struct tokenizer *tok;
    struct fixture f;
    size_t n;

    (void)state;
    fixture_init(&f);
    assert_ok(tokenizer_new(&tok, &f.spec, &err), &err);
    expect(tok, "", 0, 0, NULL, 0);
    expect(tok, "", 0, TOKENIZER_ADD_SPECIAL, (int32_t[]){ID_END}, 1);
    expect(tok, "abcab a", 7, 0, (int32_t[]){ID_ABC, ID_AB, ID_SP_A}, 3);
    expect(tok, "b<|end|>", 8, TOKENIZER_PARSE_SPECIAL | TOKENIZER_ADD_SPECIAL,
           (int32_t[]){'b', ID_END, ID_END}, 3);
    expect(tok, "b<|end|>", 8, 0, (int32_t[]){'b', '<', '|', 'e', 'n', 'd', '|', '>'}, 8);
    expect(tok, "<tool>\0", 7, 0, (int32_t[]){ID_TOOL, 0}, 2);
    assert_int_equal(tokenizer_vocab_size(tok), N_TOKENS);
    assert_memory_equal(tokenizer_piece(tok, ID_SP_A, &n), " a", 2);
    assert_int_equal(n, 2);
    tokenizer_piece(tok, -1, &n);
    assert_int_equal(n, 0);
    tokenizer_piece(tok, N_TOKENS, &n);
    assert_int_equal(n, 0);
    assert_true(tokenizer_is_special(tok, ID_END));
    assert_false(tokenizer_is_special(tok, ID_TOOL));
    assert_false(tokenizer_is_special(tok, N_TOKENS));
    assert_int_equal(tokenizer_id_of(tok, " a", 2), ID_SP_A);
    assert_int_equal(tokenizer_id_of(tok, "<|end|>", 7), ID_END);
    assert_int_equal(tokenizer_id_of(tok, "zz", 2), -1);
    assert_int_equal(tokenizer_bos(tok), -1);
    assert_int_equal(tokenizer_eos(tok), ID_END);
    assert_int_equal(tokenizer_unk(tok), -1);
    assert_int_equal(tokenizer_pad(tok), -1);
    assert_true(tokenizer_bytes(tok) > N_TOKENS);
    tokenizer_free(tok);
    tokenizer_free(NULL);
}

static void test_names(void **state)
{
    static const char *const known[] = {"gpt-2",  "phi-2", "smollm", "starcoder", "llama-bpe",
                                        "llama3", "qwen2", "gpt-4o", "tekken"};
    struct err err = {0};
    struct tokenizer *tok;
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_true(tokenizer_pre_known(known[i]));
        f.spec.pre_name = known[i];
        assert_ok(tokenizer_new(&tok, &f.spec, &err), &err);
        expect(tok, "abc", 3, 0, (int32_t[]){ID_ABC}, 1);
        tokenizer_free(tok);
    }
    assert_false(tokenizer_pre_known("default"));
    assert_false(tokenizer_pre_known(""));
}

/* --- bad arrays --------------------------------------------------------------------------------
 */
static const struct tokenizer_text huge = {"x", TOKENIZER_TOKEN_BYTES_MAX + 1};

static void no_tokens(struct fixture *f)
{
    f->spec.n_tokens = 0;
}
static void too_many_tokens(struct fixture *f)
{
    f->spec.n_tokens = TOKENIZER_VOCAB_MAX + 1;
}
static void too_many_merges(struct fixture *f)
{
    f->spec.n_merges = TOKENIZER_MERGES_MAX + 1;
}
static void too_many_added(struct fixture *f)
{
    f->spec.n_added = TOKENIZER_ADDED_MAX + 1;
}
static void too_many_before(struct fixture *f)
{
    f->spec.n_prefix = TOKENIZER_AFFIX_MAX + 1;
}
static void long_token(struct fixture *f)
{
    f->tokens[0] = huge;
}
static void token_not_utf8(struct fixture *f)
{
    f->tokens[0] = text_of("\xFF");
}
static void added_not_utf8(struct fixture *f)
{
    f->tokens[ID_END] = text_of("\xC3");
}
static void added_empty(struct fixture *f)
{
    f->tokens[ID_END] = text_of("");
}
static void added_twice(struct fixture *f)
{
    f->tokens[ID_TOOL] = f->tokens[ID_END];
}
static void merge_without_space(struct fixture *f)
{
    f->merges[0] = text_of("ab");
}
static void merge_of_one(struct fixture *f)
{
    f->merges[0] = text_of("a ");
}
static void merge_of_three(struct fixture *f)
{
    f->merges[0] = text_of("a b c");
}
static void merge_unknown_half(struct fixture *f)
{
    f->merges[0] = text_of("a zz");
}
static void merge_unknown_whole(struct fixture *f)
{
    f->merges[0] = text_of("a z");
}
static void merge_not_spelled(struct fixture *f)
{
    f->merges[0] = text_of("a \xE4\xB8\x80");
}
static void merge_missing(struct fixture *f)
{
    f->merges[0].bytes = NULL;
}
static void merge_long(struct fixture *f)
{
    f->merges[0] = (struct tokenizer_text){"a b", 3 * TOKENIZER_TOKEN_BYTES_MAX};
}
static void merge_left_beyond(struct fixture *f)
{
    static const uint32_t left[3] = {2, 2, 2};
    f->spec.merge_left = left;
    f->merges[0] = text_of("ab");
}
static void unknown_name(struct fixture *f)
{
    f->spec.pre_name = "gpt-99";
}
static void unknown_kind(struct fixture *f)
{
    f->spec.kind = (enum tokenizer_kind)9;
}
static void bos_beyond(struct fixture *f)
{
    f->spec.bos_id = N_TOKENS;
}
static void eos_negative(struct fixture *f)
{
    f->spec.eos_id = -2;
}
static void pad_is_hole(struct fixture *f)
{
    f->tokens[5].bytes = NULL;
    f->spec.pad_id = 5;
}
static void before_beyond(struct fixture *f)
{
    static const int32_t ids[1] = {1 << 20};
    f->spec.prefix = ids;
    f->spec.n_prefix = 1;
}
static void steps_too_many(struct fixture *f)
{
    f->spec.pre_name = NULL;
    f->spec.n_steps = TOKENIZER_STEPS_MAX + 1;
}
static void use_step(struct fixture *f, enum tokenizer_step_kind kind, struct tokenizer_text text)
{
    static struct tokenizer_step step;
    step = (struct tokenizer_step){.kind = kind, .pattern = text};
    f->spec.pre_name = NULL;
    f->spec.steps = &step;
    f->spec.n_steps = 1;
}
static void step_empty(struct fixture *f)
{
    use_step(f, TOKENIZER_STEP_REGEX, text_of(""));
}
static void step_long(struct fixture *f)
{
    use_step(f, TOKENIZER_STEP_REGEX,
             (struct tokenizer_text){"x", TOKENIZER_PATTERN_BYTES_MAX + 1});
}
static void step_bad_pattern(struct fixture *f)
{
    use_step(f, TOKENIZER_STEP_REGEX, text_of("(a"));
}
static void step_bad_literal(struct fixture *f)
{
    use_step(f, TOKENIZER_STEP_LITERAL, text_of("\xFF"));
}
static void replacement_empty(struct fixture *f)
{
    f->spec.replace_from = text_of("");
}
static void replacement_not_utf8(struct fixture *f)
{
    f->spec.replace_from = text_of(" ");
    f->spec.replace_to = text_of("\xE2\x96");
}

static void prepend_empty(struct fixture *f)
{
    f->spec.prepend = text_of("");
}
static void prepend_not_utf8(struct fixture *f)
{
    f->spec.prepend = text_of("\x80");
}
static void scores_of_bytes(struct fixture *f)
{
    static const float scores[64];
    f->spec.scores = scores;
}

static const struct {
    void (*spoil)(struct fixture *);
    enum err_code code;
} bad_arrays[] = {
    {no_tokens, ERR_INVALID},
    {too_many_tokens, ERR_TOO_LARGE},
    {too_many_merges, ERR_TOO_LARGE},
    {too_many_added, ERR_TOO_LARGE},
    {too_many_before, ERR_TOO_LARGE},
    {long_token, ERR_TOO_LARGE},
    {token_not_utf8, ERR_INVALID},
    {added_not_utf8, ERR_INVALID},
    {added_empty, ERR_INVALID},
    {added_twice, ERR_INVALID},
    {merge_without_space, ERR_INVALID},
    {merge_of_one, ERR_INVALID},
    {merge_of_three, ERR_INVALID},
    {merge_unknown_half, ERR_INVALID},
    {merge_unknown_whole, ERR_INVALID},
    {merge_not_spelled, ERR_INVALID},
    {merge_missing, ERR_INVALID},
    {merge_long, ERR_INVALID},
    {merge_left_beyond, ERR_INVALID},
    {unknown_name, ERR_UNSUPPORTED},
    {unknown_kind, ERR_UNSUPPORTED},
    {bos_beyond, ERR_INVALID},
    {eos_negative, ERR_INVALID},
    {pad_is_hole, ERR_INVALID},
    {before_beyond, ERR_INVALID},
    {steps_too_many, ERR_TOO_LARGE},
    {step_empty, ERR_INVALID},
    {step_long, ERR_TOO_LARGE},
    {step_bad_pattern, ERR_UNSUPPORTED},
    {step_bad_literal, ERR_INVALID},
    {replacement_empty, ERR_INVALID},
    {replacement_not_utf8, ERR_INVALID},
    {prepend_empty, ERR_INVALID},
    {prepend_not_utf8, ERR_INVALID},
    {scores_of_bytes, ERR_INVALID},
};

static void test_bad_arrays(void **state)
{
    size_t used = mem_used();

    (void)state;
    for (size_t i = 0; i < sizeof bad_arrays / sizeof bad_arrays[0]; i++) {
        struct err err = {0};
        struct tokenizer *tok;
        struct fixture f;
        fixture_init(&f);
        bad_arrays[i].spoil(&f);
        int rc = tokenizer_new(&tok, &f.spec, &err);
        if (rc != -(int)bad_arrays[i].code)
            fail_msg("row %zu: %d %s", i, rc, err.message);
        assert_null(tok);
        assert_int_equal(mem_used(), used);
    }
}

/* --- tokenizer.json ----------------------------------------------------------------------------
 */
#define MODEL                                                                                      \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define LEVEL                                                                                      \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"                       \
    "\"decoder\":{\"type\":\"ByteLevel\"}"
#define CHARS "\"decoder\":{\"type\":\"Fuse\"}"

static const struct {
    const char *json;
    enum err_code code; /* ERR_NONE: it loads */
} json_rows[] = {
    {"{" MODEL "," LEVEL "}", ERR_NONE},
    {"{" MODEL "," CHARS "}", ERR_NONE},
    {"{" MODEL "," CHARS ",\"pre_tokenizer\":null,\"normalizer\":null,\"added_tokens\":null}",
     ERR_NONE},
    {"", ERR_UNPROCESSABLE},
    {"{", ERR_UNPROCESSABLE},
    {"[]", ERR_INVALID},
    {"{}", ERR_INVALID},
    {"{\"model\":[]," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"type\":\"Unigram\"}," LEVEL "}", ERR_UNSUPPORTED},
    {"{\"model\":{\"type\":7}," LEVEL "}", ERR_UNPROCESSABLE},
    {"{\"model\":{\"merges\":[]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":0}}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{},\"merges\":[]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":1e3},\"merges\":[]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":1048576},\"merges\":[]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[7]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",7]]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"\"]]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}," LEVEL "}", ERR_UNSUPPORTED},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.0}," LEVEL "}", ERR_NONE},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}," LEVEL "}",
     ERR_UNSUPPORTED},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"continuing_subword_prefix\":\"##\"}," LEVEL
     "}",
     ERR_UNSUPPORTED},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\"}," LEVEL "}", ERR_INVALID},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":true}," LEVEL "}",
     ERR_UNSUPPORTED},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"fuse_unk\":3}," LEVEL "}", ERR_UNPROCESSABLE},
    {"{" MODEL "}", ERR_UNSUPPORTED},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}," CHARS "}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"ByteLevel\"}}",
     ERR_NONE},
    {"{" MODEL
     ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},{"
     "\"type\":\"ByteLevel\"}]},\"decoder\":{\"type\":\"ByteLevel\"}}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"pre_tokenizer\":7," CHARS "}", ERR_INVALID},
    {"{" MODEL ",\"pre_tokenizer\":{}," CHARS "}", ERR_INVALID},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\"}," CHARS "}", ERR_INVALID},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}," CHARS "}",
     ERR_NONE},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\","
     "\"prepend_scheme\":\"last\"}," CHARS "}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"_\"},\"pre_tokenizer\":{"
     "\"type\":\"Metaspace\",\"replacement\":\"_\"}," CHARS "}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Prepend\"}," CHARS "}", ERR_INVALID},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"\"}," CHARS "}", ERR_INVALID},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
     "\"prepend\":\" \"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
     "\"_\"}]}," CHARS "}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{"
     "\"type\":\"Prepend\",\"prepend\":\"_\"}]}," CHARS "}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"decoder\":{\"type\":\"Strip\"}}", ERR_INVALID},
    {"{" MODEL ",\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}}",
     ERR_NONE},
    {"{" MODEL ",\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":0,\"stop\":1}}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"decoder\":{\"type\":\"Strip\",\"content\":\"_\",\"start\":1,\"stop\":0}}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\"}," CHARS "}", ERR_INVALID},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[7]}," CHARS "}",
     ERR_INVALID},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
     "\"ByteLevel\",\"add_prefix_space\":false},{\"type\":\"Digits\"}]}," CHARS "}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\"}," CHARS "}", ERR_INVALID},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"}," CHARS "}",
     ERR_UNPROCESSABLE},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},"
     "\"behavior\":\"Odd\"}," CHARS "}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\bx\"},"
     "\"behavior\":\"Isolated\"}," CHARS "}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"normalizer\":{\"type\":\"NFKC\"}," CHARS "}", ERR_UNSUPPORTED},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" \"},"
     "\"content\":\"_\"}," CHARS "}",
     ERR_INVALID},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"}}," CHARS "}",
     ERR_INVALID},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\","
     "\"pattern\":{\"String\":\" \"},\"content\":\"_\"},{\"type\":\"NFC\"}]}," CHARS "}",
     ERR_UNSUPPORTED},
    {"{" MODEL ",\"decoder\":{\"type\":\"Metaspace\"}}", ERR_UNSUPPORTED},
    {"{" MODEL "," CHARS ",\"post_processor\":{\"type\":\"BertProcessing\"}}", ERR_UNSUPPORTED},
    {"{" MODEL "," CHARS ",\"post_processor\":{\"type\":\"TemplateProcessing\"}}", ERR_INVALID},
    {"{" MODEL "," CHARS ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}}",
     ERR_UNSUPPORTED},
    {"{" MODEL "," CHARS ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
     "{\"Sequence\":{}},{\"Sequence\":{}}]}}",
     ERR_UNSUPPORTED},
    {"{" MODEL "," CHARS ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
     "{\"SpecialToken\":{\"id\":\"x\"}},{\"Sequence\":{}}]}}",
     ERR_INVALID},
    {"{" MODEL "," CHARS ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
     "{\"SpecialToken\":{\"id\":\"x\"}},{\"Sequence\":{}}],\"special_tokens\":{\"x\":{\"ids\":"
     "[77]}}}}",
     ERR_INVALID},
    {"{" MODEL "," CHARS ",\"added_tokens\":7}", ERR_INVALID},
    {"{" MODEL "," CHARS ",\"added_tokens\":[{\"id\":3}]}", ERR_INVALID},
    {"{" MODEL "," CHARS ",\"added_tokens\":[{\"id\":-3,\"content\":\"x\"}]}", ERR_INVALID},
    {"{" MODEL "," CHARS ",\"added_tokens\":[{\"id\":3,\"content\":\"\"}]}", ERR_INVALID},
    {"{" MODEL "," CHARS ",\"added_tokens\":[{\"id\":3,\"content\":\"x\"},{\"id\":3,\"content\":"
     "\"y\"}]}",
     ERR_INVALID},
    {"{" MODEL "," CHARS ",\"added_tokens\":[{\"id\":3,\"content\":\"x\"},{\"id\":4,\"content\":"
     "\"x\"}]}",
     ERR_INVALID},
    {"{" MODEL "," CHARS ",\"added_tokens\":[{\"id\":9,\"content\":\"x\"}]}", ERR_NONE},
};

static void test_json_rows(void **state)
{
    size_t used = mem_used();

    (void)state;
    for (size_t i = 0; i < sizeof json_rows / sizeof json_rows[0]; i++) {
        struct err err = {0};
        struct tokenizer *tok;
        int rc = tokenizer_from_json(&tok, json_rows[i].json, strlen(json_rows[i].json), &err);
        if (rc != -(int)json_rows[i].code)
            fail_msg("%s: %d %s", json_rows[i].json, rc, err.message);
        tokenizer_free(tok);
        assert_int_equal(mem_used(), used);
        rc = tokenizer_from_json(&tok, json_rows[i].json, strlen(json_rows[i].json), NULL);
        assert_int_equal(rc, -(int)json_rows[i].code);
        tokenizer_free(tok);
    }
}

/* --- text that comes back ----------------------------------------------------------------------
 */
static void roundtrip(const struct tokenizer *tok, const char *text, size_t n)
{
    struct err err = {0};
    struct token_ids ids;
    struct buf out;

    token_ids_init(&ids, TEXT_MAX);
    buf_init(&out, TEXT_MAX);
    assert_ok(tokenizer_encode(tok, text, n, TOKENIZER_PARSE_SPECIAL, &ids, &err), &err);
    assert_ok(tokenizer_decode(tok, ids.ids, ids.n, false, &out, &err), &err);
    assert_int_equal(out.len, n);
    if (n > 0)
        assert_memory_equal(out.data, text, n);
    token_ids_release(&ids);
    buf_release(&out);
}

static void test_every_character_comes_back(void **state)
{
    enum { BLOCK = 4096 };
    static char text[BLOCK * 4];
    struct err err = {0};
    struct tokenizer *tok;
    struct fixture f;

    (void)state;
    fixture_init(&f);
    f.spec.pre_name = "llama3"; /* no normalisation */
    assert_ok(tokenizer_new(&tok, &f.spec, &err), &err);
    for (uint32_t base = 0; base < 0x110000; base += BLOCK) {
        size_t n = 0;
        for (uint32_t c = base; c < base + BLOCK; c++) {
            char encoded[4];
            size_t length = utf8_encode(c, encoded);
            memcpy(text + n, encoded, length);
            n += length;
        }
        roundtrip(tok, text, n);
    }
    tokenizer_free(tok);
}

/* A million symbols in one piece: quadratic merging would not end here. */
static void test_long_pieces(void **state)
{
    enum { N = 1 << 20 };
    struct err err = {0};
    struct tokenizer *tok;
    struct fixture f;
    char *text = malloc(N);

    (void)state;
    assert_non_null(text);
    fixture_init(&f);
    assert_ok(tokenizer_new(&tok, &f.spec, &err), &err);
    memset(text, 'a', N);
    roundtrip(tok, text, N);
    for (size_t i = 0; i < N; i++)
        text[i] = "abc"[i % 3];
    roundtrip(tok, text, N);
    memset(text, ' ', N);
    roundtrip(tok, text, N);
    memset(text, '\n', N);
    roundtrip(tok, text, N);
    free(text);
    tokenizer_free(tok);
}

static void test_encode_refusals(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        const char *message;
    } rows[] = {
        {"\xFF", 1, "text is not UTF-8 at byte 0"},
        {"ab\xC3", 3, "text is not UTF-8 at byte 2"},
        {"\xED\xA0\x80", 3, "text is not UTF-8 at byte 0"},
        {"\xC3\xA9\xC0\x80", 4, "text is not UTF-8 at byte 2"},
        {"a\xF4\x90\x80\x80", 5, "text is not UTF-8 at byte 1"},
    };
    struct err err = {0};
    struct tokenizer *tok;
    struct token_ids ids;
    struct fixture f;

    (void)state;
    fixture_init(&f);
    assert_ok(tokenizer_new(&tok, &f.spec, &err), &err);
    token_ids_init(&ids, 4);
    assert_ok(token_ids_push(&ids, 7, &err), &err);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int rc = tokenizer_encode(tok, rows[i].text, rows[i].n, 0, &ids, &err);
        assert_int_equal(rc, -(int)ERR_INVALID);
        assert_string_equal(err.message, rows[i].message);
        assert_int_equal(ids.n, 1);
        err_clear(&err);
    }
    assert_ok(tokenizer_encode(tok, "xyz", 3, 0, &ids, &err), &err);
    assert_int_equal(ids.n, 4);
    ids.n = 2;
    assert_err(tokenizer_encode(tok, "x x x", 5, 0, &ids, &err), &err, ERR_TOO_LARGE);
    assert_int_equal(ids.n, 2);
    assert_err(tokenizer_encode(tok, "xy", 2, TOKENIZER_ADD_SPECIAL, &ids, &err), &err,
               ERR_TOO_LARGE);
    assert_int_equal(ids.n, 2);
    assert_err(tokenizer_encode(tok, "", (size_t)TOKENIZER_TEXT_BYTES_MAX + 1, 0, &ids, &err), &err,
               ERR_TOO_LARGE);
    token_ids_release(&ids);
    tokenizer_free(tok);
}

/* --- decoding ----------------------------------------------------------------------------------
 */
#define FFFD "\xEF\xBF\xBD"

static void test_decode(void **state)
{
    static const struct {
        const char *bytes;
        const char *text;
    } rows[] = {
        {"abc", "abc"},
        {"\xC3\xA9", "\xC3\xA9"},
        {"\xC3", FFFD},
        {"\xC3z", FFFD "z"},
        {"\xFF\xC0", FFFD FFFD},
        {"\xE4\xB8", FFFD},
        {"\xE4\xB8\xE4\xB8\x80", FFFD "\xE4\xB8\x80"},
        {"\xED\xA0\x80", FFFD FFFD FFFD},
        {"\xE0\x80", FFFD FFFD},
        {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
        {"\xF0\x9F\x98", FFFD},
        {"\xF0\x80", FFFD FFFD},
        {"\xF4\x90", FFFD FFFD},
        {"\xF5\x80", FFFD FFFD},
        {"\x80", FFFD},
    };
    struct err err = {0};
    struct tokenizer *tok;
    struct fixture f;

    (void)state;
    fixture_init(&f);
    assert_ok(tokenizer_new(&tok, &f.spec, &err), &err);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf out;
        int32_t ids[8];
        size_t n = strlen(rows[i].bytes);
        for (size_t b = 0; b < n; b++)
            ids[b] = (unsigned char)rows[i].bytes[b];
        buf_init(&out, 64);
        assert_ok(tokenizer_decode(tok, ids, n, false, &out, &err), &err);
        assert_string_equal(out.data, rows[i].text);
        buf_release(&out);
    }
    tokenizer_free(tok);
}

static void test_streaming(void **state)
{
    struct err err = {0};
    struct tokenizer *tok;
    struct detok detok;
    struct fixture f;
    struct buf out;

    (void)state;
    fixture_init(&f);
    assert_ok(tokenizer_new(&tok, &f.spec, &err), &err);
    buf_init(&out, 16);
    detok_init(&detok, tok, true);
    for (size_t i = 0; i < 3; i++) {
        assert_ok(detok_push(&detok, (unsigned char)"\xF0\x9F\x98"[i], &out, &err), &err);
        assert_int_equal(out.len, 0);
    }
    assert_ok(detok_push(&detok, ID_END, &out, &err), &err);
    assert_int_equal(out.len, 0);
    assert_ok(detok_push(&detok, 0x80, &out, &err), &err);
    assert_string_equal(out.data, "\xF0\x9F\x98\x80");
    assert_ok(detok_push(&detok, 0xE4, &out, &err), &err);
    assert_int_equal(out.len, 4);
    assert_ok(detok_flush(&detok, &out, &err), &err);
    assert_string_equal(out.data, "\xF0\x9F\x98\x80" FFFD);
    assert_err(detok_push(&detok, N_TOKENS, &out, &err), &err, ERR_INVALID);
    assert_err(detok_push(&detok, -1, &out, &err), &err, ERR_INVALID);
    for (int i = 0; i < 3; i++)
        assert_ok(detok_push(&detok, ID_ABC, &out, &err), &err);
    assert_err(detok_push(&detok, ID_ABC, &out, &err), &err, ERR_TOO_LARGE);
    assert_int_equal(out.len, 16);
    buf_clear(&out);
    detok_show(&detok, "no such token");
    assert_ok(detok_push(&detok, ID_END, &out, &err), &err);
    assert_int_equal(out.len, 0);
    detok_show(&detok, "<|end|>");
    assert_ok(detok_push(&detok, ID_END, &out, &err), &err);
    assert_string_equal(out.data, "<|end|>");
    buf_release(&out);
    tokenizer_free(tok);
}

/* --- failing allocations -----------------------------------------------------------------------
 */
static int encode_all(const struct tokenizer *tok, struct err *err)
{
    static const char text[] =
        "abc cafe\xCC\x81 <|end|> "
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
        "<tool>\n 12";
    struct token_ids ids;
    struct buf out;
    int rc;

    token_ids_init(&ids, IDS_MAX);
    buf_init(&out, TEXT_MAX);
    rc = tokenizer_encode(tok, text, sizeof text - 1, 3, &ids, err);
    if (rc == 0)
        rc = tokenizer_decode(tok, ids.ids, ids.n, true, &out, err);
    if (rc == 0)
        assert_true(ids.n > 10 && out.len > 50);
    token_ids_release(&ids);
    buf_release(&out);
    return rc;
}

static int make_and_use(const char *json, struct err *err)
{
    struct tokenizer *tok;
    struct fixture f;
    int rc;

    fixture_init(&f);
    f.spec.pre_name = "qwen2";
    rc = json == NULL ? tokenizer_new(&tok, &f.spec, err)
                      : tokenizer_from_json(&tok, json, strlen(json), err);
    if (rc == 0)
        rc = encode_all(tok, err);
    if (rc == 0)
        (void)tokenizer_id_of(tok, " a", 2);
    tokenizer_free(tok);
    return rc;
}

static void walk_faults(const char *json)
{
    size_t used = mem_used();
    uint64_t n = 0;
    int rc;

    do {
        struct err err = {0};
        fault_arm(FAULT_MALLOC, ++n, false);
        rc = make_and_use(json, &err);
        bool fired = fault_fired();
        fault_disarm();
        if (mem_used() != used)
            fail_msg("allocation %u failed and %zu bytes stayed", (unsigned)n, mem_used() - used);
        if (rc != 0 && rc != -(int)ERR_NOMEM)
            fail_msg("allocation %u failed as %s", (unsigned)n, err.message);
        if (rc == 0 && !fired)
            break;
        assert_true(n < 100000);
    } while (true);
    assert_true(n > 20);
}

static void test_faults_from_arrays(void **state)
{
    (void)state;
    walk_faults(NULL);
}

static void test_faults_from_json(void **state)
{
    static const char json[] =
        "{\"added_tokens\":[{\"id\":7,\"content\":\"<|end|>\",\"special\":true},{\"id\":8,"
        "\"content\":\"<tool>\",\"normalized\":true}],\"normalizer\":{\"type\":\"Sequence\","
        "\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
        "\"content\":\"_\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"Split\",\"pattern\":{\"String\":\"_\"},\"behavior\":\"MergedWithNext\"},"
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{N}\"},\"behavior\":\"Contiguous\"}]},"
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
        "\"e\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"e\":{\"ids\":[7]}}},"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
        "{\"String\":\"_\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]},"
        "\"model\":{\"unk_token\":\"?\",\"byte_fallback\":true,\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,"
        "\"_\":3,\"_a\":4,\"?\":5,\"<0x0A>\":6},\"merges\":[[\"a\",\"b\"],[\"_\",\"a\"]]}}";

    (void)state;
    walk_faults(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_arrays),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_bad_arrays),
        cmocka_unit_test(test_json_rows),
        cmocka_unit_test(test_every_character_comes_back),
        cmocka_unit_test(test_long_pieces),
        cmocka_unit_test(test_encode_refusals),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_faults_from_arrays),
        cmocka_unit_test(test_faults_from_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
