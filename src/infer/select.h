/* The highest of many values, in a total order: value descending, index ascending. What comes out
 * never depends on how it was found.
 *
 * Values are looked at in blocks of 64, as the bits of a mask lie. The k-th highest of the blocks'
 * own highest is a bound below which none of the k highest values can be, so few are left to sort.
 * Scratch memory only: no state between calls. Not thread-safe.
 */
#ifndef INFER_SELECT_H
#define INFER_SELECT_H

#include <stdint.h>

#include "base/err.h"

struct select {
    int n, n_blocks;
    float *tops;          /* (n_blocks): each block's highest value */
    int32_t *ids, *spare; /* (n) */
};

int select_init(struct select *select, int n, struct err *err) MUST_CHECK;
void select_release(struct select *select); /* safe on a zeroed struct */

/* The index of the highest of x (n) among those whose bit of mask is set (all when NULL), the
 * lowest among equals; −1 when there is none that is finite or +∞. */
int32_t select_highest(const float *x, int n, const uint64_t *mask);

/* Leaves indices of the probabilities p (n of the select), none below 0, in select->ids, sorted:
 * of those that are above 0 and at least min_share of the highest, the k first and perhaps some
 * that follow these. Returns how many; fewer than k when no more are so high. 1 ≤ k. */
int select_first(struct select *select, const float *p, int k, float min_share);

#endif
