/* Token texts: two flat arrays and a hash table from bytes to id. Immutable once filled. */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* n strings back to back; string i is bytes[at[i]] … bytes[at[i + 1]]. */
struct strings {
    char *bytes;
    uint32_t *at;
    size_t n;
    size_t cap;
    size_t bytes_cap;
};

/* Room for n strings of `bytes` in all. */
int strings_init(struct strings *strings, size_t n, size_t bytes, struct err *err) MUST_CHECK;
/* More room, by so many strings and bytes. */
int strings_grow(struct strings *strings, size_t n, size_t bytes, struct err *err) MUST_CHECK;
void strings_release(struct strings *strings); /* safe on a zeroed struct */
void strings_put(struct strings *strings, const char *bytes, size_t n);
/* The same, with more room made for bytes where it is needed. */
int strings_append(struct strings *strings, const char *bytes, size_t n,
                   struct err *err) MUST_CHECK;
const char *strings_get(const struct strings *strings, size_t i, size_t *n);

struct vocab_table {
    uint64_t *slots; /* upper half of the text's hash, then id + 1; 0 is free */
    size_t mask;
};

int vocab_table_init(struct vocab_table *table, size_t n, struct err *err) MUST_CHECK;
void vocab_table_release(struct vocab_table *table);
/* Of two tokens with one text the first stays. */
void vocab_table_put(struct vocab_table *table, const struct strings *strings, int32_t id);
int32_t vocab_table_find(const struct vocab_table *table, const struct strings *strings,
                         const char *bytes, size_t n); /* −1: none */

/* GPT-2's printable alphabet: 256 letters for 256 bytes, so that vocabularies are readable text. */
struct byte_alphabet {
    int16_t byte_of[0x144]; /* code point → byte, or −1 */
};

void byte_alphabet_init(struct byte_alphabet *alphabet);
/* Spells text back to bytes, into out (room for n). −1 when a character is no letter of it. */
long byte_alphabet_decode(const struct byte_alphabet *alphabet, const char *text, size_t n,
                          char *out);

#endif
