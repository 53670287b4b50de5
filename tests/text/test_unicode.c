/* Every code point: what patterns say it is, and what normalisation makes of it, against what the
 * tokenizers package says (scripts/golden/unicode_classes.py), whatever the linked libraries know.
 */
#include "base/utf8.h"
#include "test.h"
#include "text/normalize.h"
#include "text/pattern.h"
#include "text/unicode_class.h"

enum { BLOCK = 4096 };

static bool is_category(uint32_t word, unsigned first, unsigned last)
{
    unsigned category = word & UNICODE_CATEGORY_MASK;
    return category >= first && category <= last;
}

static bool is_letter(uint32_t word)
{
    return is_category(word, UNICODE_LU, UNICODE_LO);
}

static bool is_number(uint32_t word)
{
    return is_category(word, UNICODE_ND, UNICODE_NO);
}

static bool is_space(uint32_t word)
{
    return (word & UNICODE_SPACE) != 0;
}

static bool is_word(uint32_t word)
{
    return (word & UNICODE_WORD) != 0;
}

static bool is_neither(uint32_t word)
{
    return !is_letter(word) && !is_number(word) && !is_space(word);
}

static bool is_mark(uint32_t word)
{
    return is_category(word, UNICODE_MN, UNICODE_ME);
}

static bool is_title(uint32_t word)
{
    return is_category(word, UNICODE_LT, UNICODE_LT);
}

static const struct {
    const char *pattern;
    bool (*want)(uint32_t);
    unsigned count; /* that many code points, surrogates aside; as the package counts */
} class_rows[] = {
    {"\\p{L}", is_letter, 141028},
    {"\\p{N}", is_number, 1911},
    {"\\s", is_space, 25},
    {"\\w", is_word, 144671},
    {"\\p{M}", is_mark, 2501},
    {"\\p{Lt}", is_title, 31},
    {"[^\\s\\p{L}\\p{N}]", is_neither, 1112064 - 141028 - 1911 - 25},
};

static bool is_surrogate(uint32_t code_point)
{
    return code_point >= 0xD800 && code_point < 0xE000;
}

static void test_classes(void **state)
{
    (void)state;
    for (size_t row = 0; row < sizeof(class_rows) / sizeof(class_rows[0]); row++) {
        const char *text = class_rows[row].pattern;
        struct err err = {0};
        struct alphabet alphabet;
        struct pattern pattern = {0};
        struct pattern_scratch scratch = {0};
        unsigned count = 0;
        alphabet_init(&alphabet);
        assert_ok(alphabet_scan(&alphabet, text, strlen(text), &err), &err);
        assert_ok(alphabet_build(&alphabet, &err), &err);
        assert_ok(pattern_compile(&pattern, &alphabet, text, strlen(text), &err), &err);
        assert_ok(pattern_scratch_init(&scratch, &pattern, &err), &err);
        for (uint32_t c = 0; c < UNICODE_CODE_POINTS; c++) {
            uint8_t letter = alphabet_letter(&alphabet, c);
            size_t begin;
            size_t end;
            if (is_surrogate(c))
                continue;
            int found = pattern_find(&pattern, &scratch, &letter, 1, 0, &begin, &end, &err);
            if (found != class_rows[row].want(unicode_class(c)))
                fail_msg("%s: U+%04X is %d", text, (unsigned)c, found);
            count += (unsigned)found;
        }
        if (count != class_rows[row].count)
            fail_msg("%s takes %u code points, not %u", text, count, class_rows[row].count);
        pattern_scratch_release(&scratch);
        pattern_release(&pattern);
        alphabet_release(&alphabet);
    }
}

static void test_digits_know_a_newer_unicode(void **state)
{
    unsigned numeric = 0;

    (void)state;
    for (uint32_t c = 0; c < UNICODE_CODE_POINTS; c++)
        numeric += (unicode_class(c) & UNICODE_NUMERIC) != 0;
    assert_int_equal(numeric, 1924);
    assert_true((unicode_class(0x11DE0) & UNICODE_NUMERIC) != 0);
    assert_false(is_number(unicode_class(0x11DE0)));
    assert_false(is_space(unicode_class(0x180E)));
}

/* --- NFC ---------------------------------------------------------------------------------------
 */
static uint64_t hash_on(uint64_t hash, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001B3);
    return hash;
}

static uint64_t hash_normal(uint64_t hash, const char *before, uint32_t code_point,
                            const char *after, struct buf *out)
{
    struct err err = {0};
    char text[32];
    char encoded[4];
    size_t n = utf8_encode(code_point, encoded);
    int length = snprintf(text, sizeof text, "%s", before);

    memcpy(text + length, encoded, n);
    n += (size_t)length;
    memcpy(text + n, after, strlen(after));
    n += strlen(after);
    buf_clear(out);
    assert_ok(normalize_nfc(text, n, out, &err), &err);
    return hash_on(hash, out->data, out->len + 1); /* with its NUL */
}

static void test_nfc(void **state)
{
    struct err err = {0};
    struct buf golden;
    struct buf out;
    const char *line;

    (void)state;
    buf_init(&golden, 1 << 16);
    buf_init(&out, 1 << 10);
    assert_ok(fs_read_file("tests/fixtures/text/nfc_hashes.txt", 1 << 16, &golden, &err), &err);
    line = golden.data;
    for (uint32_t base = 0; base < UNICODE_CODE_POINTS; base += BLOCK) {
        uint64_t hash = UINT64_C(0xCBF29CE484222325);
        char want[32];
        if (is_surrogate(base) && is_surrogate(base + BLOCK - 1))
            continue;
        for (uint32_t c = base; c < base + BLOCK; c++) {
            if (is_surrogate(c))
                continue;
            hash = hash_normal(hash, "", c, "", &out);
            hash = hash_normal(hash, "a\xCD\x85", c, "", &out);
            hash = hash_normal(hash, "", c, "\xCC\xB4\xCC\x87", &out);
            hash = hash_normal(hash, "A", c, "\xCC\x81", &out);
        }
        snprintf(want, sizeof want, "%06x %016llx\n", (unsigned)base, (unsigned long long)hash);
        if (strncmp(line, want, strlen(want)) != 0)
            fail_msg("code points from %.6s on are normalised otherwise", want);
        line += strlen(want);
    }
    assert_int_equal(*line, '\0');
    buf_release(&golden);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_digits_know_a_newer_unicode),
        cmocka_unit_test(test_nfc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
