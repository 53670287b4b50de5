/* Patterns of pre-tokenizers: Oniguruma's syntax, PCRE2's speed, and no library's Unicode tables.
 *
 * An alphabet maps every code point to one letter (a byte): ASCII to itself, every other code point
 * to the letter of its kind (general category, white space, word, and which of the patterns'
 * own literal characters it is). A pattern is translated to a byte pattern over such letters, so
 * matching sees neither UTF-8 nor the linked library's idea of \p{L}, and classes are bit tables.
 *
 * An alphabet is shared by all patterns of a tokenizer: init, scan each pattern, build, then
 * compile each. Both are immutable after that and may be shared by threads; a pattern_scratch
 * belongs to one. A feature of the syntax that is not served is ERR_UNSUPPORTED quoting it.
 */
#ifndef TEXT_PATTERN_H
#define TEXT_PATTERN_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/unicode_class.h"

enum {
    PATTERN_LITERALS_MAX = 32, /* ranges of non-ASCII literals in all patterns of an alphabet */
    PATTERN_DEPTH_MAX = 32,    /* nested groups */
    PATTERN_STEPS_BASE = 100 * 1000, /* PCRE2's count of steps that one match may take: this and */
    PATTERN_STEPS_EACH = 64,         /* that much for each character of the text */
    PATTERN_HEAP_KIB_MAX = 64 * 1024,
    ALPHABET_PAGE = 256,
    ALPHABET_PAGES = UNICODE_CODE_POINTS / ALPHABET_PAGE
};

struct alphabet {
    uint16_t page[ALPHABET_PAGES]; /* code point / 256 → pages[] */
    uint8_t (*pages)[ALPHABET_PAGE];
    size_t n_pages;
    unsigned n_letters;                         /* 128 and as many more as there are kinds */
    uint16_t class_of[256];                     /* class word of a letter's code points */
    uint32_t literal_of[256];                   /* bit i: they lie in literals[i] */
    uint32_t literals[PATTERN_LITERALS_MAX][2]; /* first and last, ≥ 128 */
    unsigned n_literals;
};

void alphabet_init(struct alphabet *alphabet);
void alphabet_release(struct alphabet *alphabet); /* safe on a zeroed struct */
/* Notes the non-ASCII literals of a pattern, which need letters of their own. */
int alphabet_scan(struct alphabet *alphabet, const char *text, size_t n,
                  struct err *err) MUST_CHECK;
int alphabet_build(struct alphabet *alphabet, struct err *err) MUST_CHECK;
uint8_t alphabet_letter(const struct alphabet *alphabet, uint32_t code_point);
/* Valid UTF-8 to letters, one per character; `letters` has room for n. Returns how many. */
size_t alphabet_map(const struct alphabet *alphabet, const char *text, size_t n, uint8_t *letters);

struct pattern {
    void *memory; /* pcre2_general_context */
    void *code;   /* pcre2_code */
};

int pattern_compile(struct pattern *pattern, const struct alphabet *alphabet, const char *text,
                    size_t n, struct err *err) MUST_CHECK;
void pattern_release(struct pattern *pattern); /* safe on a zeroed struct */

/* What matching needs beside the pattern: per thread, for one pattern. */
struct pattern_scratch {
    void *data;    /* pcre2_match_data */
    void *context; /* pcre2_match_context */
};

int pattern_scratch_init(struct pattern_scratch *scratch, const struct pattern *pattern,
                         struct err *err) MUST_CHECK;
void pattern_scratch_release(struct pattern_scratch *scratch);

/* Finds the first match at or after `from` in letters[0..n): 1 and its range, 0 for none, or a
 * negative code: ERR_TOO_LARGE when the pattern needs too many steps on this text. */
int pattern_find(const struct pattern *pattern, struct pattern_scratch *scratch,
                 const uint8_t *letters, size_t n, size_t from, size_t *begin, size_t *end,
                 struct err *err) MUST_CHECK;

#endif
