/* The map from code points to letters.
 *
 * 1. Letters 0–127 are ASCII itself; a letter ≥ 128 stands for all code points that no pattern of
 *    the tokenizer can tell apart: same category, space and word bits, same literal ranges.
 * 2. The map has two stages of 256; pages that hold one letter only are shared, so all of Unicode
 *    takes some 80 kB.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/pattern.h"

enum { PATTERN_CLASS_MASK = UNICODE_CATEGORY_MASK | UNICODE_SPACE | UNICODE_WORD };

void alphabet_init(struct alphabet *alphabet)
{
    memset(alphabet, 0, sizeof(*alphabet));
}

void alphabet_release(struct alphabet *alphabet)
{
    mem_free(alphabet->pages);
    alphabet->pages = NULL;
}

static uint32_t literals_at(const struct alphabet *alphabet, uint32_t code_point)
{
    uint32_t bits = 0;

    for (unsigned i = 0; i < alphabet->n_literals; i++) {
        if (code_point >= alphabet->literals[i][0] && code_point <= alphabet->literals[i][1])
            bits |= UINT32_C(1) << i;
    }
    return bits;
}

/* The letter of a kind, made when it is new; 0 when all 128 are taken. */
static uint8_t letter_for(struct alphabet *alphabet, uint16_t class_word, uint32_t literals)
{
    unsigned i;

    for (i = 128; i < alphabet->n_letters; i++) {
        if (alphabet->class_of[i] == class_word && alphabet->literal_of[i] == literals)
            return (uint8_t)i;
    }
    if (i > 255)
        return 0;
    alphabet->class_of[i] = class_word;
    alphabet->literal_of[i] = literals;
    alphabet->n_letters++;
    return (uint8_t)i;
}

/* Walks the pinned ranges in step with rising code points. */
struct range_cursor {
    size_t range;
    uint32_t end; /* first code point after the current range */
    uint16_t class_word;
};

static void cursor_seek(struct range_cursor *cursor, uint32_t code_point)
{
    const uint32_t mask = (1u << UNICODE_RANGE_SHIFT) - 1;

    while (code_point >= cursor->end) {
        cursor->range++;
        cursor->class_word = (uint16_t)(unicode_ranges[cursor->range] >> UNICODE_RANGE_SHIFT);
        cursor->end = cursor->range + 1 < unicode_n_ranges
                          ? unicode_ranges[cursor->range + 1] & mask
                          : UNICODE_CODE_POINTS;
    }
}

static int too_many_kinds(struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED,
                   "pre-tokenizer patterns tell too many kinds of characters apart");
}

/* Whether all of a page is of one kind: most of Unicode. */
static bool page_is_even(const struct alphabet *alphabet, struct range_cursor *cursor,
                         uint32_t base)
{
    cursor_seek(cursor, base);
    for (unsigned i = 0; i < alphabet->n_literals; i++) {
        if (alphabet->literals[i][0] < base + ALPHABET_PAGE && alphabet->literals[i][1] >= base)
            return false;
    }
    return base >= 128 && cursor->end >= base + ALPHABET_PAGE;
}

static int page_fill(struct alphabet *alphabet, struct range_cursor *cursor, uint32_t base,
                     uint8_t page[ALPHABET_PAGE], struct err *err)
{
    uint32_t last_class = UINT32_MAX;
    uint32_t last_literals = 0;
    uint8_t letter = 0;

    if (page_is_even(alphabet, cursor, base)) {
        letter = letter_for(alphabet, cursor->class_word & PATTERN_CLASS_MASK, 0);
        memset(page, letter, ALPHABET_PAGE);
        return letter == 0 ? too_many_kinds(err) : 0;
    }
    for (uint32_t i = 0; i < ALPHABET_PAGE; i++) {
        uint32_t code_point = base + i;
        cursor_seek(cursor, code_point);
        uint16_t word = cursor->class_word & PATTERN_CLASS_MASK;
        if (code_point < 128) {
            alphabet->class_of[code_point] = word;
            page[i] = (uint8_t)code_point;
            continue;
        }
        uint32_t literals = alphabet->n_literals > 0 ? literals_at(alphabet, code_point) : 0;
        if (word != last_class || literals != last_literals) {
            letter = letter_for(alphabet, word, literals);
            if (letter == 0)
                return too_many_kinds(err);
            last_class = word;
            last_literals = literals;
        }
        page[i] = letter;
    }
    return 0;
}

int alphabet_build(struct alphabet *alphabet, struct err *err)
{
    struct range_cursor cursor = {.range = SIZE_MAX, .end = 0};
    uint16_t uniform[256] = {0}; /* letter → 1 + its page */
    size_t cap = 0;

    assert(alphabet->pages == NULL && alphabet->n_pages == 0);
    alphabet->n_letters = 128;
    for (size_t p = 0; p < ALPHABET_PAGES; p++) {
        if (alphabet->n_pages == cap) {
            cap = cap == 0 ? 512 : cap * 2;
            void *pages = mem_realloc(alphabet->pages, cap, ALPHABET_PAGE);
            if (pages == NULL)
                return mem_err(err, cap * ALPHABET_PAGE);
            alphabet->pages = pages;
        }
        uint8_t *page = alphabet->pages[alphabet->n_pages];
        int rc = page_fill(alphabet, &cursor, (uint32_t)p * ALPHABET_PAGE, page, err);
        if (rc != 0)
            return rc;
        bool is_uniform = memcmp(page, page + 1, ALPHABET_PAGE - 1) == 0;
        if (is_uniform && uniform[page[0]] != 0) {
            alphabet->page[p] = (uint16_t)(uniform[page[0]] - 1);
            continue;
        }
        alphabet->page[p] = (uint16_t)alphabet->n_pages++;
        if (is_uniform)
            uniform[page[0]] = (uint16_t)(alphabet->page[p] + 1);
    }
    return 0;
}

uint8_t alphabet_letter(const struct alphabet *alphabet, uint32_t code_point)
{
    return alphabet->pages[alphabet->page[code_point / ALPHABET_PAGE]][code_point % ALPHABET_PAGE];
}

size_t alphabet_map(const struct alphabet *alphabet, const char *text, size_t n, uint8_t *letters)
{
    size_t n_letters = 0;

    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)text[i];
        if (c < 128) {
            letters[n_letters++] = c;
            i++;
            continue;
        }
        uint32_t code_point = 0;
        size_t step = utf8_decode(text + i, n - i, &code_point);
        assert(step > 0);
        letters[n_letters++] = alphabet_letter(alphabet, code_point);
        i += step;
    }
    return n_letters;
}
