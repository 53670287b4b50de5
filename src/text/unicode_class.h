/* What a character is, pinned: one class word for every code point, the same on every machine.
 *
 * The table (unicode_table.c) holds what Hugging Face's tokenizers say of each code point, so that
 * no result depends on the Unicode version of a linked library. Constant data: any thread may read.
 */
#ifndef TEXT_UNICODE_CLASS_H
#define TEXT_UNICODE_CLASS_H

#include <stddef.h>
#include <stdint.h>

/* General categories, the low five bits of a class word, in the order of Unicode's own groups. */
enum unicode_category {
    UNICODE_LU,
    UNICODE_LL,
    UNICODE_LT,
    UNICODE_LM,
    UNICODE_LO,
    UNICODE_MN,
    UNICODE_MC,
    UNICODE_ME,
    UNICODE_ND,
    UNICODE_NL,
    UNICODE_NO,
    UNICODE_PC,
    UNICODE_PD,
    UNICODE_PS,
    UNICODE_PE,
    UNICODE_PI,
    UNICODE_PF,
    UNICODE_PO,
    UNICODE_SM,
    UNICODE_SC,
    UNICODE_SK,
    UNICODE_SO,
    UNICODE_ZS,
    UNICODE_ZL,
    UNICODE_ZP,
    UNICODE_CC,
    UNICODE_CF,
    UNICODE_CO,
    UNICODE_CS,
    UNICODE_CN,
    UNICODE_CATEGORY_COUNT
};

/* Further bits of a class word. */
enum {
    UNICODE_CATEGORY_MASK = 31,
    UNICODE_SPACE = 1 << 5,   /* \s */
    UNICODE_NUMERIC = 1 << 6, /* what the Digits splitter splits off (a newer table than \p{N}) */
    UNICODE_WORD = 1 << 7,    /* \w in a pattern */
    UNICODE_ADDED_WORD = 1 << 8, /* what an added token's single_word minds */
    UNICODE_RANGE_SHIFT = 21,
    UNICODE_CODE_POINTS = 0x110000
};

extern const uint32_t unicode_ranges[]; /* rising; the first starts at 0 */
extern const size_t unicode_n_ranges;
extern const uint32_t unicode_nfc_inert[][2];
extern const size_t unicode_n_nfc_inert;

/* The class word of a code point below UNICODE_CODE_POINTS; O(log ranges). */
uint32_t unicode_class(uint32_t code_point);

#endif
