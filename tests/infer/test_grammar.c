/* Schemas become grammars: which texts they take, which they refuse, and that whatever a model says
 * under one satisfies it. */
#include "base/json.h"
#include "infer/grammar.h"
#include "infer/scheduler.h"
#include "test.h"

static struct engine_model *model;
static struct grammar_vocab *vocab;

static int setup(void **state)
{
    struct err err = {0};
    const struct engine_options options = {.threads = 1, .isa = "best"};
    (void)state;
    assert_ok(engine_model_open(&model, "tests/fixtures/train/base", &options, &err), &err);
    assert_ok(grammar_vocab_new(&vocab, model, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    grammar_vocab_free(vocab);
    engine_model_free(model);
    return 0;
}

static struct grammar *make(const char *schema, struct err *err)
{
    struct grammar *g = NULL;
    char source[8192];
    snprintf(source, sizeof source, "{\"schema\":%s}", schema);
    json_t *tree = json_parse(source, strlen(source), err);
    assert_non_null(tree);
    const int rc = grammar_new(&g, vocab, tree, NULL, err);
    json_decref(tree);
    assert_true((rc == 0) == (g != NULL));
    return g;
}

/* Whether the grammar takes the text token by token, and may end there. */
static bool takes(struct grammar *g, const char *text)
{
    struct err err = {0};
    struct token_ids ids;
    const uint64_t *mask;
    bool good = true;
    const struct engine_info *info = engine_model_info(model);
    token_ids_init(&ids, 4096);
    assert_ok(tokenizer_encode(engine_model_tokenizer(model), text, strlen(text), 0, &ids, &err),
              &err);
    for (size_t i = 0; i < ids.n && good; i++) {
        assert_ok(grammar_mask(g, &mask, &err), &err);
        good = (mask[ids.ids[i] / 64] >> (ids.ids[i] % 64) & 1) != 0;
        assert_int_equal(grammar_accept(g, ids.ids[i], &err), good ? 0 : -ERR_INVALID);
        err_clear(&err);
    }
    token_ids_release(&ids);
    if (good) {
        assert_ok(grammar_mask(g, &mask, &err), &err);
        good = (mask[info->eos[0] / 64] >> (info->eos[0] % 64) & 1) != 0;
    }
    return good;
}

static void texts_are_taken_or_not(void **state)
{
    static const struct {
        const char *schema, *text;
        bool good;
    } rows[] = {
        {"true", "{}", true},
        {"true", "{\"a\": [1, -2.5e3, true, null, \"x\\n\\u00e9\"], \"b\":{}}", true},
        {"true", "{\n  \"a\": 1\n}", true},
        {"true", "[]", false},
        {"true", "{\"a\": 01}", false},
        {"true", "{\"a\" 1}", false},
        {"true", "{\"a\": \"\\x\"}", false},
        {"true", "{\"a\": \"\xc3\xa9\xe4\xb8\xad\"}", true},
        {"true", "{\"a\": 1,}", false},
        {"true", "{\"a\": 1", false},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
         "\"string\"}},\"required\":[\"a\"]}",
         "{\"a\": 5, \"b\": \"x\"}", true},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
         "\"string\"}},\"required\":[\"a\"]}",
         "{\"a\":5}", true},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
         "\"string\"}},\"required\":[\"a\"]}",
         "{\"b\": \"x\"}", false},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
         "\"string\"}},\"required\":[\"b\"]}",
         "{\"b\": \"x\"}", true},
        {"{\"properties\":{\"a\":{},\"b\":{}}}", "{}", true},
        {"{\"properties\":{\"a\":{}},\"required\":[\"a\",\"z\"]}", "{\"a\":1,\"z\":[]}", true},
        {"{\"properties\":{\"name\":{\"const\":1},\"names\":{\"const\":2}}}", "{\"names\":2}",
         true},
        {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"boolean\"}}",
         "{\"x\":true,\"y\":false}", true},
        {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"boolean\"}}", "{\"x\":1}",
         false},
        {"{\"enum\":[\"red\",\"green\",3,null]}", "\"green\"", true},
        {"{\"enum\":[\"red\",\"green\",3,null]}", "3", true},
        {"{\"enum\":[\"red\",\"green\",3,null]}", "\"blue\"", false},
        {"{\"type\":\"array\",\"items\":{\"type\":\"number\"},\"minItems\":2,\"maxItems\":3}",
         "[1,2]", true},
        {"{\"type\":\"array\",\"items\":{\"type\":\"number\"},\"minItems\":2,\"maxItems\":3}",
         "[1]", false},
        {"{\"type\":\"array\",\"items\":{\"type\":\"number\"},\"minItems\":2,\"maxItems\":3}",
         "[1,2,3,4]", false},
        {"{\"type\":\"array\",\"maxItems\":0}", "[]", true},
        {"{\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "[\"a\",null]", true},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"ab\"", true},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"a\"", false},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"abcd\"", false},
        {"{\"type\":\"integer\",\"minimum\":0}", "7", true},
        {"{\"type\":\"integer\",\"minimum\":0}", "-7", false},
        {"{\"type\":\"integer\"}", "1.5", false},
        {"{\"type\":[\"string\",\"null\"]}", "null", true},
        {"{\"anyOf\":[{\"type\":\"string\"},{\"$ref\":\"#/$defs/n\"}],\"$defs\":{\"n\":{\"type\":"
         "\"integer\"}}}",
         "12", true},
        {"{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"properties\":{\"kids\":{\"type\":\"array\","
         "\"items\":{\"$ref\":\"#/$defs/t\"}}},\"required\":[\"kids\"]}}}",
         "{\"kids\":[{\"kids\":[]},{\"kids\":[{\"kids\":[]}]}]}", true},
        {"{\"type\":\"string\",\"format\":\"date\"}", "\"2024-02-28\"", true},
        {"{\"type\":\"string\",\"format\":\"date\"}", "\"2024-13-01\"", false},
        {"{\"type\":\"string\",\"format\":\"date-time\"}", "\"2024-02-28T23:59:00Z\"", true},
        {"{\"type\":\"string\",\"format\":\"uuid\"}", "\"01234567-89ab-cdef-0123-456789abcdef\"",
         true},
        {"{\"pattern\": \"^[a-c]{2}-\\\\d+$\"}", "\"ab-12\"", true},
        {"{\"pattern\": \"^[a-c]{2}-\\\\d+$\"}", "\"ab-\"", false},
        {"{\"pattern\": \"^[a-c]{2}-\\\\d+$\"}", "\"abd-1\"", false},
        {"{\"pattern\": \"^[a-c]{2}-\\\\d+$\"}", "\"ad-1\"", false},
        {"{\"pattern\": \"b+\"}", "\"abba\"", true},
        {"{\"pattern\": \"b+\"}", "\"aa\"", false},
        {"{\"pattern\": \"^a$|^b\"}", "\"a\"", true},
        {"{\"pattern\": \"^a$|^b\"}", "\"bc\"", true},
        {"{\"pattern\": \"^a$|^b\"}", "\"ac\"", false},
        {"{\"pattern\": \"^[^a-z\\\"\\\\\\\\]$\"}", "\"A\"", true},
        {"{\"pattern\": \"^[^a-z\\\"\\\\\\\\]$\"}", "\"\\\"\"", false},
        {"{\"pattern\": \"^[^a-z\\\"\\\\\\\\]$\"}", "\"é\"", true},
        {"{\"pattern\": \"^[^a-z\\\"\\\\\\\\]$\"}", "\"a\"", false},
        {"{\"pattern\": \"^\\\"\\\\t\\\\x41\\\\u0042\\\\/$\"}", "\"\\\"\\tAB/\"", true},
        {"{\"pattern\": \"^(?:x|yz){1,2}?$\"}", "\"xyz\"", true},
        {"{\"pattern\": \"^(?:x|yz){1,2}?$\"}", "\"xxx\"", false},
        {"{\"pattern\": \"^[A-Z][a-z]*$\", \"minLength\": 2, \"maxLength\": 3}", "\"Ab\"", true},
        {"{\"pattern\": \"^[A-Z][a-z]*$\", \"minLength\": 2, \"maxLength\": 3}", "\"A\"", false},
        {"{\"pattern\": \"^[A-Z][a-z]*$\", \"minLength\": 2, \"maxLength\": 3}", "\"Abcd\"", false},
        {"{\"type\": \"integer\", \"minimum\": -12, \"maximum\": 205}", "-12", true},
        {"{\"type\": \"integer\", \"minimum\": -12, \"maximum\": 205}", "-13", false},
        {"{\"type\": \"integer\", \"minimum\": -12, \"maximum\": 205}", "205", true},
        {"{\"type\": \"integer\", \"minimum\": -12, \"maximum\": 205}", "206", false},
        {"{\"type\": \"integer\", \"minimum\": -12, \"maximum\": 205}", "99", true},
        {"{\"type\": \"integer\", \"minimum\": -12, \"maximum\": 205}", "0", true},
        {"{\"type\": \"integer\", \"minimum\": -12, \"maximum\": 205}", "-0", false},
        {"{\"type\": \"integer\", \"minimum\": -12, \"maximum\": 205}", "1000", false},
        {"{\"type\": \"integer\", \"exclusiveMinimum\": 3, \"maximum\": 5.5}", "3", false},
        {"{\"type\": \"integer\", \"exclusiveMinimum\": 3, \"maximum\": 5.5}", "4", true},
        {"{\"type\": \"integer\", \"exclusiveMinimum\": 3, \"maximum\": 5.5}", "5", true},
        {"{\"type\": \"integer\", \"exclusiveMinimum\": 3, \"maximum\": 5.5}", "6", false},
        {"{\"type\": \"integer\", \"multipleOf\": 7}", "21", true},
        {"{\"type\": \"integer\", \"multipleOf\": 7}", "-14", true},
        {"{\"type\": \"integer\", \"multipleOf\": 7}", "22", false},
        {"{\"type\": \"integer\", \"multipleOf\": 7}", "0", true},
        {"{\"type\": \"number\", \"minimum\": 0.25, \"exclusiveMaximum\": 1}", "0.25", true},
        {"{\"type\": \"number\", \"minimum\": 0.25, \"exclusiveMaximum\": 1}", "0.2", false},
        {"{\"type\": \"number\", \"minimum\": 0.25, \"exclusiveMaximum\": 1}", "0.24", false},
        {"{\"type\": \"number\", \"minimum\": 0.25, \"exclusiveMaximum\": 1}", "0.999", true},
        {"{\"type\": \"number\", \"minimum\": 0.25, \"exclusiveMaximum\": 1}", "1", false},
        {"{\"type\": \"number\", \"minimum\": 0.25, \"exclusiveMaximum\": 1}", "1.0", false},
        {"{\"type\": \"number\", \"minimum\": 0.25, \"exclusiveMaximum\": 1}", "0.3", true},
        {"{\"type\": \"number\", \"exclusiveMaximum\": 0}", "-0.1", true},
        {"{\"type\": \"number\", \"exclusiveMaximum\": 0}", "0", false},
        {"{\"type\": \"number\", \"exclusiveMaximum\": 0}", "-0.0", false},
        {"{\"type\": \"number\", \"exclusiveMaximum\": 0}", "-3", true},
        {"{\"type\": \"number\", \"exclusiveMaximum\": 0}", "0.5", false},
        {"{\"type\": \"number\", \"multipleOf\": 0.01}", "1.25", true},
        {"{\"type\": \"number\", \"multipleOf\": 0.01}", "1.255", false},
        {"{\"type\": \"integer\", \"format\": \"int32\"}", "2147483647", true},
        {"{\"type\": \"integer\", \"format\": \"int32\"}", "2147483648", false},
        {"{\"type\": \"string\", \"format\": \"email\"}", "\"a.b@c-d.org\"", true},
        {"{\"type\": \"string\", \"format\": \"email\"}", "\"a@b\"", false},
        {"{\"type\": \"string\", \"format\": \"ipv4\"}", "\"10.0.255.1\"", true},
        {"{\"type\": \"string\", \"format\": \"ipv4\"}", "\"10.0.256.1\"", false},
        {"{\"type\": \"string\", \"format\": \"date\"}", "\"2023-02-30\"", false},
        {"{\"type\": \"string\", \"format\": \"date\"}", "\"2023-12-31\"", true},
        {"{\"type\": \"string\", \"format\": \"time\"}", "\"23:59:59.5+02:00\"", true},
        {"{\"type\": \"string\", \"format\": \"time\"}", "\"24:00:00Z\"", false},
        {"{\"prefixItems\": [{\"const\": 1}], \"items\": {\"const\": 2}, \"minItems\": 2, "
         "\"maxItems\": 3}",
         "[1]", false},
        {"{\"prefixItems\": [{\"const\": 1}], \"items\": {\"const\": 2}, \"minItems\": 2, "
         "\"maxItems\": 3}",
         "[1,2]", true},
        {"{\"prefixItems\": [{\"const\": 1}], \"items\": {\"const\": 2}, \"minItems\": 2, "
         "\"maxItems\": 3}",
         "[1,2,2]", true},
        {"{\"prefixItems\": [{\"const\": 1}], \"items\": {\"const\": 2}, \"minItems\": 2, "
         "\"maxItems\": 3}",
         "[1,2,2,2]", false},
        {"{\"allOf\": [{\"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"]}, "
         "{\"properties\": {\"a\": {\"minimum\": 3}, \"b\": {}}, \"required\": [\"b\"]}]}",
         "{\"a\":3,\"b\":1}", true},
        {"{\"allOf\": [{\"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"]}, "
         "{\"properties\": {\"a\": {\"minimum\": 3}, \"b\": {}}, \"required\": [\"b\"]}]}",
         "{\"a\":2,\"b\":1}", false},
        {"{\"allOf\": [{\"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"]}, "
         "{\"properties\": {\"a\": {\"minimum\": 3}, \"b\": {}}, \"required\": [\"b\"]}]}",
         "{\"a\":3}", false},
        {"{\"$ref\": \"#/$defs/p\", \"required\": [\"y\"], \"$defs\": {\"p\": {\"properties\": "
         "{\"x\": {\"const\": 1}, \"y\": {\"const\": 2}}}}}",
         "{\"y\":2}", true},
        {"{\"$ref\": \"#/$defs/p\", \"required\": [\"y\"], \"$defs\": {\"p\": {\"properties\": "
         "{\"x\": {\"const\": 1}, \"y\": {\"const\": 2}}}}}",
         "{\"x\":1}", false},
        {"{\"properties\": {\"k\": {}}, \"required\": [\"k\"], \"anyOf\": [{\"properties\": "
         "{\"k\": {\"const\": 1}}}, {\"properties\": {\"k\": {\"const\": 2}, \"u\": {}}, "
         "\"required\": [\"u\"]}]}",
         "{\"k\":1}", true},
        {"{\"properties\": {\"k\": {}}, \"required\": [\"k\"], \"anyOf\": [{\"properties\": "
         "{\"k\": {\"const\": 1}}}, {\"properties\": {\"k\": {\"const\": 2}, \"u\": {}}, "
         "\"required\": [\"u\"]}]}",
         "{\"k\":2}", false},
        {"{\"properties\": {\"k\": {}}, \"required\": [\"k\"], \"anyOf\": [{\"properties\": "
         "{\"k\": {\"const\": 1}}}, {\"properties\": {\"k\": {\"const\": 2}, \"u\": {}}, "
         "\"required\": [\"u\"]}]}",
         "{\"k\":2,\"u\":0}", true},
        {"{\"oneOf\": [{\"properties\": {\"t\": {\"const\": \"x\"}}, \"required\": [\"t\"]}, "
         "{\"properties\": {\"t\": {\"const\": \"y\"}, \"v\": {}}, \"required\": [\"t\"]}]}",
         "{\"t\":\"y\",\"v\":1}", true},
        {"{\"oneOf\": [{\"properties\": {\"t\": {\"const\": \"x\"}}, \"required\": [\"t\"]}, "
         "{\"properties\": {\"t\": {\"const\": \"y\"}, \"v\": {}}, \"required\": [\"t\"]}]}",
         "{\"t\":\"z\"}", false},
        {"{\"oneOf\": [{\"properties\": {\"a\": {}}, \"required\": [\"a\"]}, {\"properties\": "
         "{\"b\": {}}, \"required\": [\"b\"]}]}",
         "{\"b\":1}", true},
        {"{\"oneOf\": [{\"properties\": {\"a\": {}}, \"required\": [\"a\"]}, {\"properties\": "
         "{\"b\": {}}, \"required\": [\"b\"]}]}",
         "{\"a\":1,\"b\":1}", false},
        {"{\"properties\": {\"ab\": {\"const\": 1}}, \"additionalProperties\": {\"type\": "
         "\"boolean\"}}",
         "{\"ab\":1,\"abc\":true,\"a\":false}", true},
        {"{\"properties\": {\"ab\": {\"const\": 1}}, \"additionalProperties\": {\"type\": "
         "\"boolean\"}}",
         "{\"ab\":true}", false},
        {"{\"properties\": {\"ab\": {\"const\": 1}}, \"additionalProperties\": {\"type\": "
         "\"boolean\"}}",
         "{\"x\":1}", false},
        {"{\"patternProperties\": {\"^x-[a-z]+$\": {\"const\": 1}}, \"additionalProperties\": "
         "false}",
         "{\"x-a\":1}", true},
        {"{\"patternProperties\": {\"^x-[a-z]+$\": {\"const\": 1}}, \"additionalProperties\": "
         "false}",
         "{\"y\":1}", false},
        {"{\"patternProperties\": {\"^x-[a-z]+$\": {\"const\": 1}}, \"additionalProperties\": "
         "false}",
         "{}", true},
        {"{\"propertyNames\": {\"enum\": [\"a\", \"b\"]}, \"minProperties\": 1}", "{\"a\":1}",
         true},
        {"{\"propertyNames\": {\"enum\": [\"a\", \"b\"]}, \"minProperties\": 1}", "{\"c\":1}",
         false},
        {"{\"propertyNames\": {\"enum\": [\"a\", \"b\"]}, \"minProperties\": 1}", "{}", false},
        {"{\"properties\": {\"a\": false, \"b\": {}}}", "{\"b\":1}", true},
        {"{\"properties\": {\"a\": false, \"b\": {}}}", "{\"a\":1}", false},
        {"{\"type\": [\"integer\", \"null\"], \"minimum\": 3, \"maximum\": 9}", "null", true},
        {"{\"type\": [\"integer\", \"null\"], \"minimum\": 3, \"maximum\": 9}", "2", false},
        {"{\"type\": [\"integer\", \"null\"], \"minimum\": 3, \"maximum\": 9}", "9", true},
        {"{\"enum\": [\"a\", 1], \"type\": \"string\"}", "\"a\"", true},
        {"{\"enum\": [\"a\", 1], \"type\": \"string\"}", "1", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        struct grammar *g = make(rows[i].schema, &err);
        if (g == NULL || takes(g, rows[i].text) != rows[i].good) {
            fail_msg("row %zu: %s %s: %s", i, rows[i].schema, rows[i].text, err.message);
        }
        grammar_free(g);
    }
}

static void schemas_that_cannot_be_kept_are_refused(void **state)
{
    static const struct {
        const char *schema, *part;
    } rows[] = {
        {"5", "must be an object"},
        {"{\"type\":\"thing\"}", "'type' \"thing\""},
        {"{\"pattern\":\"(?=a)b\"}", "look-around"},
        {"{\"pattern\":\"(a)\\\\1\"}", "back-references"},
        {"{\"pattern\":\"\\\\bfoo\"}", "\\b"},
        {"{\"pattern\":\"\\\\p{L}\"}", "\\p"},
        {"{\"pattern\":\"(?i)a\"}", "flags"},
        {"{\"pattern\":\"(^a)\"}", "ends only"},
        {"{\"pattern\":\"(a*)*\"}", "may be empty"},
        {"{\"pattern\":\"a{3000}\"}", "too large"},
        {"{\"pattern\":\"(a\"}", "not closed"},
        {"{\"pattern\":\"[a\"}", "not closed"},
        {"{\"pattern\":\"a)\"}", "not opened"},
        {"{\"pattern\":\"*a\"}", "before a quantifier"},
        {"{\"pattern\":\"a**\"}", "behind a quantifier"},
        {"{\"pattern\":\"[b-a]\"}", "backwards"},
        {"{\"pattern\":\"^(ab)*$\",\"minLength\":3}", "cannot be kept"},
        {"{\"pattern\":\"^abc$\",\"maxLength\":2}", "leave nothing"},
        {"{\"pattern\":\"a\",\"format\":\"date\"}", "beside format"},
        {"{\"type\":\"string\",\"format\":\"iban\"}", "\"iban\""},
        {"{\"type\":\"integer\",\"format\":\"date\"}", "\"date\""},
        {"{\"minimum\":6,\"maximum\":5}", "leave nothing"},
        {"{\"minimum\":5,\"exclusiveMaximum\":5}", "leave nothing"},
        {"{\"type\":\"integer\",\"minimum\":0.2,\"maximum\":0.8}", "no text satisfies"},
        {"{\"minimum\":1e20}", "10^15"},
        {"{\"minimum\":0.00000000000001}", "decimal places"},
        {"{\"minimum\":\"x\"}", "'minimum'"},
        {"{\"multipleOf\":0.3}", "'multipleOf'"},
        {"{\"multipleOf\":0}", "'multipleOf'"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "may both fit"},
        {"{\"allOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}", "no 'type' is left"},
        {"{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", "two different 'pattern'"},
        {"{\"allOf\":[]}", "'allOf'"},
        {"{\"allOf\":[{\"$ref\":\"#\"},{\"type\":\"object\"}]}", "deep"},
        {"{\"properties\":{\"a\":false},\"required\":[\"a\"]}", "no text satisfies"},
        {"{\"enum\":[1],\"type\":\"string\"}", "no value of its 'type'"},
        {"{\"enum\":[\"a\"],\"minLength\":1}", "enum beside"},
        {"{\"type\":\"string\",\"minLength\":-1}", "must not be negative"},
        {"{\"if\":{}}", "'if'"},
        {"{\"properties\":{\"a\":{}},\"minProperties\":1}", "'minProperties"},
        {"{\"properties\":{\"a\":{}},\"maxProperties\":0}", "'maxProperties"},
        {"{\"properties\":{\"a\":{}},\"patternProperties\":{\"b\":{}}}", "'patternProperties"},
        {"{\"properties\":{\"a\":{}},\"propertyNames\":{\"maxLength\":1}}", "'propertyNames"},
        {"{\"not\":{}}", "'not'"},
        {"{\"enum\":[]}", "'enum'"},
        {"{\"anyOf\":[]}", "'anyOf'"},
        {"{\"$ref\":\"#/nowhere\"}", "leads nowhere"},
        {"{\"$ref\":\"http://x/y\"}", "leads nowhere"},
        {"{\"$ref\":\"#\"}", "refers to itself"},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#\"}]}", "refers to itself"},
        {"{\"type\":\"array\",\"minItems\":3,\"maxItems\":2}", "leave nothing"},
        {"{\"type\":\"string\",\"minLength\":100000}", "at most 2000"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "'uniqueItems'"},
        {"{\"properties\":{\"a\":{}},\"required\":[\"z\"],\"additionalProperties\":false}",
         "'required"},
        {"{\"patternProperties\":{\"a\":{},\"b\":{}}}", "patternProperties"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        struct grammar *g = make(rows[i].schema, &err);
        if (g != NULL || (err.code != ERR_INVALID && err.code != ERR_TOO_LARGE) ||
            strstr(err.message, rows[i].part) == NULL) {
            fail_msg("row %zu: %s", i, err.message);
        }
    }
}

static void one_call_or_more_where_they_may_be_parallel(void **state)
{
#define HERMES(name) "<tool_call>\n{\"name\": \"" name "\", \"arguments\": {}}\n</tool_call>"
#define LLAMA3(name) "{\"name\": \"" name "\", \"parameters\": {}}"
#define LISTED(name) "{\"name\": \"" name "\", \"arguments\": {}}"
    static const struct {
        bool parallel;
        const char *format, *text;
        bool good;
    } rows[] = {
        {false, "hermes", HERMES("f"), true},
        {false, "hermes", HERMES("f") "\n" HERMES("g"), false},
        {true, "hermes", HERMES("f"), true},
        {true, "hermes", HERMES("f") "\n" HERMES("g") "\n" HERMES("f"), true},
        {true, "hermes", HERMES("f") HERMES("g"), false},
        {true, "hermes", HERMES("f") "\n", false},
        {true, "hermes", HERMES("h"), false},
        {true, "hermes", "", false},
        {false, "llama3", LLAMA3("g"), true},
        {true, "llama3", LLAMA3("g"), true},
        {true, "llama3", LLAMA3("g") "\n" LLAMA3("f"), false},
        {false, "mistral", "[TOOL_CALLS][" LISTED("f") "]", true},
        {false, "mistral", "[TOOL_CALLS][" LISTED("f") ", " LISTED("g") "]", false},
        {true, "mistral", "[TOOL_CALLS][" LISTED("f") ", " LISTED("g") "]", true},
        {true, "mistral", "[TOOL_CALLS][]", false},
        {true, "granite", "<|tool_call|>[" LISTED("f") ", " LISTED("g") "]", true},
        {false, "mistral_args", "[TOOL_CALLS]f[ARGS]{}", true},
        {false, "mistral_args", "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g[ARGS]{}", false},
        {true, "mistral_args", "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g[ARGS]{}", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        struct grammar *g = NULL;
        char source[256];
        snprintf(source, sizeof source,
                 "{\"calls\":[{\"name\":\"f\",\"parameters\":{\"properties\":{}}},"
                 "{\"name\":\"g\"}],\"parallel\":%s}",
                 rows[i].parallel ? "true" : "false");
        json_t *tree = json_parse(source, strlen(source), &err);
        assert_non_null(tree);
        assert_ok(grammar_new(&g, vocab, tree, tool_format_named(rows[i].format), &err), &err);
        if (takes(g, rows[i].text) != rows[i].good) {
            fail_msg("row %zu: %s", i, rows[i].text);
        }
        grammar_free(g);
        json_decref(tree);
    }
}

static void a_tag_is_the_token_that_models_write(void **state)
{
    (void)state;
    struct err err = {0};
    struct tool_format format = *tool_format_named("granite");
    const uint64_t *mask;
    struct grammar *g = NULL;
    const struct tokenizer *tok = engine_model_tokenizer(model);
    const int32_t tag = tokenizer_id_of(tok, "<|im_start|>", 12);
    const int32_t other = tokenizer_id_of(tok, "<|im_end|>", 10);
    const int32_t bracket = tokenizer_id_of(tok, "[", 1);
    json_t *source = json_pack("{s:[{s:s}]}", "calls", "name", "f");
    format.begin = "<|im_start|>[";
    format.tokens[0] = "<|im_start|>";
    assert_ok(grammar_new(&g, vocab, source, &format, &err), &err);
    assert_ok(grammar_mask(g, &mask, &err), &err);
    assert_true(mask[tag / 64] >> (tag % 64) & 1);
    assert_false(mask[other / 64] >> (other % 64) & 1);
    assert_false(mask[bracket / 64] >> (bracket % 64) & 1);
    assert_ok(grammar_accept(g, tag, &err), &err);
    assert_ok(grammar_mask(g, &mask, &err), &err);
    assert_true(mask[bracket / 64] >> (bracket % 64) & 1);
    assert_false(mask[tag / 64] >> (tag % 64) & 1);
    grammar_free(g);
    json_decref(source);
}

/* Each bracket is of one of three lists, and which one is told only by what stands innermost, or
 * behind it: ways double with every depth. */
static void ways_that_double_are_told_together(void **state)
{
    enum { DEPTH = 1500 };
    static const char schema[] =
        "{\"$ref\":\"#/$defs/"
        "a\",\"$defs\":{\"a\":{\"anyOf\":[{\"type\":\"array\",\"items\":{\"$ref\":"
        "\"#/$defs/a\"}},{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/"
        "b\"}},{\"type\":\"array\","
        "\"prefixItems\":[{\"$ref\":\"#/$defs/a\"},{\"const\":1}],\"items\":false,\"minItems\":2},"
        "{\"type\":\"string\"}]},\"b\":{\"anyOf\":[{\"type\":\"array\",\"items\":{\"$ref\":\"#/"
        "$defs/a\"}},"
        "{\"type\":\"boolean\"}]}}}";
    static const struct {
        const char *inside;
        int missing; /* brackets at the end */
        bool good;
    } rows[] = {{"\"x\"", 0, true},  {"[true]", 0, true}, {"[\"x\",1]", 0, true},
                {"1", 0, false},     {"true,", 0, false}, {"[\"x\",2]", 0, false},
                {"\"x\"", 1, false}, {"\"x\"", -1, false}};
    static char text[2 * DEPTH + 64];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const size_t inside = strlen(rows[i].inside);
        const size_t behind = (size_t)(DEPTH - rows[i].missing);
        struct err err = {0};
        struct grammar *g = make(schema, &err);
        assert_non_null(g);
        memset(text, '[', DEPTH);
        memcpy(text + DEPTH, rows[i].inside, inside);
        memset(text + DEPTH + inside, ']', behind);
        text[DEPTH + inside + behind] = '\0';
        if (takes(g, text) != rows[i].good) {
            fail_msg("row %zu", i);
        }
        grammar_free(g);
    }
}

static void a_large_schema_is_taken_a_deep_one_is_no_json(void **state)
{
    struct err err = {0};
    char deep[4096];
    size_t n = 0;
    (void)state;
    for (int i = 0; i < 29; i++) {
        n += (size_t)snprintf(deep + n, sizeof deep - n, "{\"anyOf\":[{\"items\":");
    }
    n += (size_t)snprintf(deep + n, sizeof deep - n, "{}");
    for (int i = 0; i < 29; i++) {
        n += (size_t)snprintf(deep + n, sizeof deep - n, "}]}");
    }
    struct err bad = {0};
    json_t *tree = json_parse(deep, n, &bad); /* JSON's own bound comes first */
    assert_null(tree);
    struct grammar *g = make(
        "{\"type\":\"array\",\"maxItems\":2000,\"items\":{\"type\":\"array\",\"maxItems\":2000,"
        "\"minItems\":2000,\"items\":{\"type\":\"string\",\"maxLength\":2000}}}",
        &err);
    assert_non_null(g);
    grammar_free(g);
}

/* Long texts make the automaton forget what it has seen and go on. */
static void a_long_text_does_not_grow_without_end(void **state)
{
    struct err err = {0};
    struct token_ids ids;
    const uint64_t *mask;
    struct grammar *g =
        make("{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":2000}}", &err);
    (void)state;
    assert_non_null(g);
    token_ids_init(&ids, 1 << 16);
    assert_ok(tokenizer_encode(engine_model_tokenizer(model), "[\"", 2, 0, &ids, &err), &err);
    for (int i = 0; i < 12; i++) {
        char text[1600];
        memset(text, 'a' + i, 1500);
        memcpy(text + 1500, "\",\"", 4);
        assert_ok(tokenizer_encode(engine_model_tokenizer(model), text, 1503, 0, &ids, &err), &err);
    }
    for (size_t i = 0; i < ids.n; i++) {
        assert_ok(grammar_mask(g, &mask, &err), &err);
        assert_ok(grammar_accept(g, ids.ids[i], &err), &err);
    }
    token_ids_release(&ids);
    grammar_free(g);
}

/* --- a model under a schema --- */

struct said {
    char text[8192];
    size_t n;
    int finish;
};

static void on_token(void *ctx, const struct scheduled_token *token)
{
    struct said *s = ctx;
    assert_true(s->n + token->bytes < sizeof s->text);
    memcpy(s->text + s->n, token->bytes > 0 ? token->text : "", token->bytes);
    s->n += token->bytes;
}

static void on_finished(void *ctx, enum finish finish, const char *text, size_t bytes, int n_tokens)
{
    struct said *s = ctx;
    const struct scheduled_token rest = {.text = text, .bytes = bytes};
    (void)n_tokens;
    on_token(s, &rest);
    s->finish = finish == FINISH_STOP ? 1 : 2;
}

static void on_failed(void *ctx, const struct err *err)
{
    (void)ctx;
    fail_msg("%s", err->message);
}

static void say(const char *schema, uint64_t seed, float temperature, struct said *said)
{
    static const struct scheduled_events events = {
        .token = on_token, .finished = on_finished, .failed = on_failed};
    struct err err = {0};
    struct scheduler *s = NULL;
    struct scheduled *r;
    struct token_ids prompt;
    struct grammar *g = make(schema, &err);
    assert_non_null(g);
    memset(said, 0, sizeof *said);
    token_ids_init(&prompt, 100);
    assert_ok(scheduler_new(&s, model, 1, &err), &err);
    assert_ok(tokenizer_encode(engine_model_tokenizer(model), "Say it:", 7, 0, &prompt, &err),
              &err);
    struct scheduled_spec spec = {
        .prompt = prompt.ids, .n_prompt = (int)prompt.n, .seed = seed, .grammar = g};
    infer_sampling_defaults(&spec.sampling);
    spec.sampling.max_tokens = 200;
    spec.sampling.temperature = temperature;
    spec.sampling.top_k = 0;
    spec.sampling.top_p = 1.0f;
    assert_ok(scheduler_add(s, &spec, &events, said, &r, &err), &err);
    while (scheduler_active(s) > 0) {
        scheduler_step(s);
    }
    token_ids_release(&prompt);
    scheduler_free(s);
    grammar_free(g);
}

static void whatever_a_model_says_satisfies_the_schema(void **state)
{
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":8},"
        "\"age\":{\"type\":\"integer\",\"minimum\":0},\"tags\":{\"type\":\"array\",\"items\":{"
        "\"enum\":[\"a\",\"b\"]},\"maxItems\":3},\"when\":{\"type\":\"string\",\"format\":\"date\"}"
        "},\"required\":[\"name\",\"age\",\"tags\",\"when\"]}";
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct err err = {0};
        struct said said;
        say(schema, seed, seed == 0 ? 0.0f : 2.0f, &said);
        assert_int_equal(said.finish, 1);
        json_t *tree = json_parse(said.text, said.n, &err);
        if (tree == NULL) {
            fail_msg("%s: %s", said.text, err.message);
        }
        assert_true(json_is_string(json_object_get(tree, "name")));
        assert_true(json_is_integer(json_object_get(tree, "age")));
        assert_true(json_array_size(json_object_get(tree, "tags")) <= 3);
        assert_int_equal(json_string_length(json_object_get(tree, "when")), 10);
        json_decref(tree);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_taken_or_not),
        cmocka_unit_test(schemas_that_cannot_be_kept_are_refused),
        cmocka_unit_test(one_call_or_more_where_they_may_be_parallel),
        cmocka_unit_test(a_tag_is_the_token_that_models_write),
        cmocka_unit_test(ways_that_double_are_told_together),
        cmocka_unit_test(a_large_schema_is_taken_a_deep_one_is_no_json),
        cmocka_unit_test(a_long_text_does_not_grow_without_end),
        cmocka_unit_test(whatever_a_model_says_satisfies_the_schema),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
