/* Patterns: what matches where, and every construct that is refused. */
#include "test.h"
#include "text/pattern.h"

struct compiled {
    struct alphabet alphabet;
    struct pattern pattern;
    struct pattern_scratch scratch;
};

static int compile(struct compiled *c, const char *text, size_t n, struct err *err)
{
    int rc;

    memset(c, 0, sizeof *c);
    alphabet_init(&c->alphabet);
    rc = alphabet_scan(&c->alphabet, text, n, err);
    if (rc == 0)
        rc = alphabet_build(&c->alphabet, err);
    if (rc == 0)
        rc = pattern_compile(&c->pattern, &c->alphabet, text, n, err);
    if (rc == 0)
        rc = pattern_scratch_init(&c->scratch, &c->pattern, err);
    return rc;
}

static void release(struct compiled *c)
{
    pattern_scratch_release(&c->scratch);
    pattern_release(&c->pattern);
    alphabet_release(&c->alphabet);
}

/* First match in characters; -1 for none. */
static const struct {
    const char *pattern;
    const char *text;
    int begin;
    int end;
} match_rows[] = {
    {"a+", "baac", 1, 3},
    {"a+?", "baac", 1, 2},
    {"a++b|c", "aac", 2, 3},
    {"(a|b)*c", "xabac", 1, 5},
    {"(?>a+)b", "aab", 0, 3},
    {"a{2}", "abaa", 2, 4},
    {"a{2,}", "aaaa", 0, 4},
    {"a{,2}b", "aaab", 1, 4},
    {"a{1,2}", "aaa", 0, 2},
    {"a{", "xa{", 1, 3},
    {"a{x}", "a{x}", 0, 4},
    {"x(?=y)", "xzxy", 2, 3},
    {"x(?!y)", "xyxz", 2, 3},
    {"(?<=y)x", "xyx", 2, 3},
    {"(?<!y)x", "yxx", 2, 3},
    {"^b", "a\nb", 2, 3},
    {"a$", "ba\nx", 1, 2},
    {"\\Aa", "ba", -1, -1},
    {"a\\z", "a\na", 2, 3},
    {".", "\n\xC3\xA9", 1, 2},
    {"[a\\]]", "]", 0, 1},
    {"[a-]", "-", 0, 1},
    {"[^a-c]", "abcd", 3, 4},
    {"[\\p{L}--]", "-", 0, 1},
    {"\\t\\n\\r\\f\\v\\a\\e", "\t\n\r\f\v\a\033", 0, 7},
    {"\\x41\\x{42}\\u0043\\u00e9", "ABC\xC3\xA9", 0, 4},
    {"\\.\\*\\$\\ ", ".*$ ", 0, 4},
    {"(?i:k)", "\xE2\x84\xAA", 0, 1},
    {"(?i:[a-z]{3})", "\xC5\xBFKx", 0, 3},
    {"(?i)'S|x", "'s", 0, 2},
    {"(?i:a(?-i:b))b", "AbB", -1, -1},
    {"(?i:a(?-i:b))B", "AbB", 0, 3},
    {"\\d\\D\\W\\S", "1a b", 0, 4},
    {"\\P{L}\\p{^L}", "ab12", 2, 4},
    {"[\\P{L}]", "a1", 1, 2},
    {"\xE4\xB8\x80+", "x\xE4\xB8\x80\xE4\xB8\x80\xE4\xB8\x81", 1, 3},
    {"[\xE4\xB8\x80-\xE9\xBE\xA5]+", "\xE3\x81\x82\xE4\xBD\xA0\xE5\xA5\xBD", 1, 3},
    {"[^\xC3\xA9]", "\xC3\xA9\xC3\xA8", 1, 2},
    {"[x-\xC3\xA9]+", "w\xC2\xA0~\xC3\xA9\xC3\xAA", 1, 4},
    {"[^\\s\\S]", "abc", -1, -1},
};

static void test_matches(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(match_rows) / sizeof(match_rows[0]); i++) {
        const char *pattern = match_rows[i].pattern;
        const char *text = match_rows[i].text;
        struct err err = {0};
        struct compiled c;
        uint8_t letters[64];
        size_t begin = (size_t)-1;
        size_t end = (size_t)-1;
        int rc = compile(&c, pattern, strlen(pattern), &err);
        if (rc != 0)
            fail_msg("%s: %s", pattern, err.message);
        size_t n = alphabet_map(&c.alphabet, text, strlen(text), letters);
        assert_true(pattern_find(&c.pattern, &c.scratch, letters, n, 0, &begin, &end, &err) >= 0);
        if ((int)begin != match_rows[i].begin || (int)end != match_rows[i].end)
            fail_msg("%s in '%s': %d to %d", pattern, text, (int)begin, (int)end);
        release(&c);
    }
}

static const struct {
    const char *pattern;
    enum err_code code;
} refused_rows[] = {
    {"(?m)a", ERR_UNSUPPORTED},
    {"(?x:a)", ERR_UNSUPPORTED},
    {"(?<name>a)", ERR_UNSUPPORTED},
    {"(?#c)a", ERR_UNSUPPORTED},
    {"a(?i)b", ERR_UNSUPPORTED},
    {"a|(?i)b", ERR_UNSUPPORTED},
    {"(a)\\1", ERR_UNSUPPORTED},
    {"\\bword", ERR_UNSUPPORTED},
    {"\\Gx", ERR_UNSUPPORTED},
    {"\\h", ERR_UNSUPPORTED},
    {"\\R", ERR_UNSUPPORTED},
    {"\\Q", ERR_UNSUPPORTED},
    {"\\", ERR_UNSUPPORTED},
    {"\\xff", ERR_UNSUPPORTED},
    {"\\xzz", ERR_UNSUPPORTED},
    {"\\x{110000}", ERR_UNSUPPORTED},
    {"\\x{41", ERR_UNSUPPORTED},
    {"\\x{", ERR_UNSUPPORTED},
    {"\\u", ERR_UNSUPPORTED},
    {"\\p", ERR_UNSUPPORTED},
    {"\\pL", ERR_UNSUPPORTED},
    {"\\p{", ERR_UNSUPPORTED},
    {"\\p{}", ERR_UNSUPPORTED},
    {"\\p{^}", ERR_UNSUPPORTED},
    {"\\p{Han}", ERR_UNSUPPORTED},
    {"(?i:\\p{Lu})", ERR_UNSUPPORTED},
    {"(?i:\xC3\xA9)", ERR_UNSUPPORTED},
    {"[[:alpha:]]", ERR_UNSUPPORTED},
    {"[a[b]]", ERR_UNSUPPORTED},
    {"[a&&b]", ERR_UNSUPPORTED},
    {"[", ERR_UNSUPPORTED},
    {"[^", ERR_UNSUPPORTED},
    {"[a", ERR_UNSUPPORTED},
    {"[a-", ERR_UNSUPPORTED},
    {"[\\", ERR_UNSUPPORTED},
    {"[]", ERR_UNSUPPORTED},
    {"[^]]", ERR_UNSUPPORTED},
    {"[z-a]", ERR_UNSUPPORTED},
    {"[a-\\d]", ERR_UNSUPPORTED},
    {"a{1}+", ERR_UNSUPPORTED},
    {"a{1,3}?", ERR_UNSUPPORTED},
    {"a{3,1}", ERR_UNSUPPORTED},
    {"a{1001}", ERR_UNSUPPORTED},
    {"*a", ERR_UNSUPPORTED},
    {"a|+", ERR_UNSUPPORTED},
    {"(*)", ERR_UNSUPPORTED},
    {"(*ACCEPT)", ERR_UNSUPPORTED},
    {"a**", ERR_UNSUPPORTED},
    {"(a", ERR_UNSUPPORTED},
    {"a)", ERR_UNSUPPORTED},
    {"(?<=a*)b", ERR_UNSUPPORTED}, /* PCRE2 says so */
    {"a\xFF", ERR_INVALID},
    {"[\xC3]", ERR_INVALID},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refused_rows) / sizeof(refused_rows[0]); i++) {
        const char *pattern = refused_rows[i].pattern;
        struct err err = {0};
        struct compiled c;
        int rc = compile(&c, pattern, strlen(pattern), &err);
        release(&c);
        if (rc != -(int)refused_rows[i].code)
            fail_msg("%s: %d %s", pattern, rc, err.message);
    }
}

static void test_bounds(void **state)
{
    struct err err = {0};
    struct compiled c;
    char text[512] = "";
    size_t n = 0;

    (void)state;
    for (unsigned i = 0; i <= PATTERN_DEPTH_MAX; i++)
        text[n++] = '(';
    text[n++] = 'a';
    for (unsigned i = 0; i <= PATTERN_DEPTH_MAX; i++)
        text[n++] = ')';
    assert_err(compile(&c, text, n, &err), &err, ERR_UNSUPPORTED);
    release(&c);
    assert_ok(compile(&c, text + 1, n - 2, &err), &err);
    release(&c);
    n = 0;
    for (unsigned i = 0; i <= PATTERN_LITERALS_MAX; i++) {
        text[n++] = '\xC4';
        text[n++] = (char)(0x80 + i);
    }
    assert_err(compile(&c, text, n, &err), &err, ERR_UNSUPPORTED);
    release(&c);
    assert_ok(compile(&c, text, n - 2, &err), &err);
    release(&c);
}

/* A pattern that backtracks without end is stopped, not waited for. */
static void test_step_limit(void **state)
{
    static uint8_t letters[4096];
    const char *pattern = "(a+a+)+[bc]";
    struct err err = {0};
    struct compiled c;
    size_t begin;
    size_t end;

    (void)state;
    memset(letters, 'a', sizeof letters);
    assert_ok(compile(&c, pattern, strlen(pattern), &err), &err);
    assert_err(pattern_find(&c.pattern, &c.scratch, letters, sizeof letters, 0, &begin, &end, &err),
               &err, ERR_TOO_LARGE);
    release(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_step_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
