/* Byte-pair merging: a row of symbols, the best-ranked neighbouring pair merged until none is left.
 *
 * `struct bpe_merges` is the table (left id, right id) → (rank, merged id), immutable once filled.
 * `struct bpe_row` is the row being merged, with the heap that makes it O(n log n); it belongs to
 * one thread and keeps its storage between texts. Ties go to the leftmost pair, as in Hugging
 * Face's tokenizers.
 */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct bpe_merge {
    uint64_t pair; /* left id << 32 | right id; BPE_EMPTY in a free slot */
    uint32_t rank;
    int32_t merged;
};

struct bpe_merges {
    struct bpe_merge *slots;
    size_t mask; /* slots − 1, a power of two less one */
};

/* Room for n merges. */
int bpe_merges_init(struct bpe_merges *merges, size_t n, struct err *err) MUST_CHECK;
void bpe_merges_release(struct bpe_merges *merges);
/* A pair that is there already takes the new rank, as in a Python dict. */
void bpe_merges_put(struct bpe_merges *merges, int32_t left, int32_t right, uint32_t rank,
                    int32_t merged);

struct bpe_symbol {
    int32_t id;
    uint32_t prev; /* BPE_NONE at the ends */
    uint32_t next;
    uint32_t rank;  /* of the pair with next; BPE_NONE when there is none or the symbol is gone */
    int32_t merged; /* what that pair becomes */
};

struct bpe_row {
    struct bpe_symbol *symbols;
    size_t n;
    size_t cap;
    uint64_t *heap; /* rank << 32 | position of the left symbol */
    size_t n_heap;
    size_t heap_cap;
};

void bpe_row_release(struct bpe_row *row); /* safe on a zeroed struct */
void bpe_row_clear(struct bpe_row *row);
/* Makes room for n symbols in all. */
int bpe_row_reserve(struct bpe_row *row, size_t n, struct err *err) MUST_CHECK;
/* Appends a symbol; room was reserved. */
void bpe_row_push(struct bpe_row *row, int32_t id);
/* Merges to the end; afterwards symbols[0..n) are what is left, in order. */
int bpe_row_merge(struct bpe_row *row, const struct bpe_merges *merges, struct err *err) MUST_CHECK;

#endif
