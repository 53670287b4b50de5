#include "train/order.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

struct draw {
    uint64_t value;
    uint32_t row;
};

static int by_draw(const void *left, const void *right)
{
    const struct draw *a = left, *b = right;
    if (a->value != b->value) {
        return a->value < b->value ? -1 : 1;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

static int list_init(struct row_list *list, const struct train_rows *rows, uint32_t n,
                     struct err *err)
{
    list->rows = rows;
    list->n = 0;
    list->index = mem_calloc((size_t)n + 1, sizeof *list->index);
    return list->index != NULL ? 0 : mem_err(err, n * sizeof *list->index);
}

void row_list_release(struct row_list *list)
{
    mem_free(list->index);
    memset(list, 0, sizeof *list);
}

int row_lists_split(const struct train_rows *rows, uint64_t seed, uint32_t n_validation,
                    struct row_list *train, struct row_list *validation, struct err *err)
{
    const uint32_t n = (uint32_t)rows->n_rows;
    struct draw *draws = mem_calloc((size_t)n + 1, sizeof *draws);
    int rc = draws != NULL ? 0 : mem_err(err, n * sizeof *draws);
    if (rc == 0) {
        rc = list_init(train, rows, n, err);
    }
    if (rc == 0) {
        rc = list_init(validation, rows, n_validation, err);
    }
    if (rc != 0) {
        goto out;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t words[4];
        rng_draw4(seed, RNG_SPLIT, i, 0, words);
        draws[i] = (struct draw){.value = (uint64_t)words[1] << 32 | words[0], .row = i};
    }
    qsort(draws, n, sizeof *draws, by_draw);
    /* The last draw that is held out decides for every row. */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t words[4];
        rng_draw4(seed, RNG_SPLIT, i, 0, words);
        const struct draw mine = {.value = (uint64_t)words[1] << 32 | words[0], .row = i};
        const bool held = n_validation > 0 && by_draw(&mine, &draws[n_validation - 1]) <= 0;
        struct row_list *list = held ? validation : train;
        list->index[list->n++] = i;
    }
out:
    mem_free(draws);
    return rc;
}

int train_order_init(struct train_order *order, const struct row_list *list, uint64_t seed,
                     int64_t rows_per_step, struct err *err)
{
    memset(order, 0, sizeof *order);
    order->list = *list;
    order->seed = seed;
    order->rows_per_step = rows_per_step < list->n ? (uint32_t)rows_per_step : list->n;
    order->steps_per_epoch = (list->n + order->rows_per_step - 1) / order->rows_per_step;
    order->epoch_now = -1;
    return list_init(&order->epoch, list->rows, list->n, err);
}

void train_order_release(struct train_order *order)
{
    row_list_release(&order->epoch);
    memset(order, 0, sizeof *order);
}

void train_order_step(struct train_order *order, int64_t step, uint32_t *first, uint32_t *n)
{
    const int64_t epoch = step / order->steps_per_epoch;
    if (epoch != order->epoch_now) {
        order->epoch.n = order->list.n;
        memcpy(order->epoch.index, order->list.index, order->list.n * sizeof *order->list.index);
        rng_shuffle(order->seed, (uint64_t)epoch, order->epoch.index, order->epoch.n);
        order->epoch_now = epoch;
    }
    *first = (uint32_t)(step % order->steps_per_epoch) * order->rows_per_step;
    *n = order->list.n - *first < order->rows_per_step ? order->list.n - *first
                                                       : order->rows_per_step;
}

uint32_t micro_step_rows(const struct row_list *list, uint32_t first, uint32_t n, int tokens_max,
                         bool packing)
{
    uint32_t taken = 1;
    uint64_t tokens = row_list_row(list, first)->n_tokens;
    while (packing && taken < n) {
        tokens += row_list_row(list, first + taken)->n_tokens;
        if (tokens > (uint64_t)tokens_max) {
            break;
        }
        taken++;
    }
    return taken;
}
