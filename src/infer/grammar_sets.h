/* Sets of numbers, each kept once and known by a number of its own. Private to the grammar's files.
 */
#ifndef INFER_GRAMMAR_SETS_H
#define INFER_GRAMMAR_SETS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { SETS_KEYS_MAX = 1 << 22 };

struct key_set {
    uint32_t first, n; /* in keys */
};

struct key_sets {
    struct key_set *sets;
    uint64_t *keys;  /* of all sets, each sorted */
    uint32_t *table; /* hash table of set + 1 */
    size_t n_sets, cap_sets, n_keys, cap_keys, n_slots;
};

/* The number of the set of these keys, which are sorted and not within sets->keys; *n_sets grows
 * when it is new. ERR_TOO_LARGE. */
int key_sets_intern(struct key_sets *sets, const uint64_t *keys, size_t n, size_t sets_max,
                    uint32_t *set, struct err *err) MUST_CHECK;
void key_sets_clear(struct key_sets *sets); /* storage is kept */
void key_sets_release(struct key_sets *sets);
/* Sorts them and drops those that are there twice; returns how many are left. */
size_t keys_sort(uint64_t *keys, size_t n);

/* Makes room for n items. ERR_TOO_LARGE over max. */
int grammar_grow(void **items, size_t *cap, size_t n, size_t size, size_t max,
                 struct err *err) MUST_CHECK;
size_t grammar_mix(uint64_t x); /* for hashes */

#endif
