/* Which rows a step takes, and how a step is cut into micro-steps.
 *
 * Rows are shuffled once an epoch by Philox from (seed, epoch) alone, so the rows of any step are
 * known without having taken the steps before it. A step takes rows_per_step rows in shuffled
 * order; the last one of an epoch takes what is left. A micro-step takes rows in that order as long
 * as they fit: nothing is ever reordered.
 */
#ifndef TRAIN_ORDER_H
#define TRAIN_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "train/rows.h"

/* Some rows of a file, by number. */
struct row_list {
    const struct train_rows *rows;
    uint32_t *index;
    uint32_t n;
};
static inline const struct train_row *row_list_row(const struct row_list *list, uint32_t i)
{
    return &list->rows->rows[list->index[i]];
}

/* Splits off n_validation rows: those with the smallest RNG_SPLIT draws. Both lists keep the file's
 * order. */
int row_lists_split(const struct train_rows *rows, uint64_t seed, uint32_t n_validation,
                    struct row_list *train, struct row_list *validation,
                    struct err *err) MUST_CHECK;
void row_list_release(struct row_list *list); /* safe on a zeroed struct */

struct train_order {
    struct row_list list;  /* the rows in file order; borrowed */
    struct row_list epoch; /* the same, shuffled for epoch_now; its index is owned */
    uint64_t seed;
    uint32_t rows_per_step, steps_per_epoch;
    int64_t epoch_now; /* -1: not shuffled yet */
};
int train_order_init(struct train_order *order, const struct row_list *list, uint64_t seed,
                     int64_t rows_per_step, struct err *err) MUST_CHECK;
void train_order_release(struct train_order *order); /* safe on a zeroed struct */
/* Rows of step 0, 1, 2, …: *first and *n are places in order->epoch. */
void train_order_step(struct train_order *order, int64_t step, uint32_t *first, uint32_t *n);

/* Rows of list[first, first + n) that the next micro-step takes: at least one. */
uint32_t micro_step_rows(const struct row_list *list, uint32_t first, uint32_t n, int tokens_max,
                         bool packing);

#endif
