/* How merging works.
 *
 * Short rows, which is nearly all of them, are scanned for their best pair again and again: for a
 * dozen symbols that beats any structure. Long ones (Gemma's text is a single row) use a linked
 * list and a heap:
 *
 * 1. Every symbol knows the rank of the pair it begins. A heap entry (rank, position) is current
 *    exactly when the symbol at position still has that rank; others are dropped when popped.
 *    A pair that changed and came back to the same rank is the same pair again.
 * 2. A merge keeps the left symbol's slot and empties the right one's (rank BPE_NONE), so positions
 *    never move and order among equal ranks is the order in the text.
 * 3. A merge pops one entry and pushes at most two, and at most n − 1 merges happen, so 2n entries
 *    always suffice: nothing is allocated while merging.
 */
#include "text/bpe.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

#define BPE_EMPTY UINT64_MAX
#define BPE_NONE  UINT32_MAX

enum { BPE_SHORT = 32 };

/* --- the table ---------------------------------------------------------------------------------
 */
static size_t slot_of(uint64_t pair)
{
    uint64_t h = pair * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(h ^ h >> 32);
}

int bpe_merges_init(struct bpe_merges *merges, size_t n, struct err *err)
{
    size_t slots = 16;

    while (slots < n + n / 2)
        slots *= 2;
    merges->slots = mem_alloc(slots * sizeof(*merges->slots));
    if (merges->slots == NULL)
        return mem_err(err, slots * sizeof(*merges->slots));
    merges->mask = slots - 1;
    memset(merges->slots, 0xFF, slots * sizeof(*merges->slots));
    return 0;
}

void bpe_merges_release(struct bpe_merges *merges)
{
    mem_free(merges->slots);
    merges->slots = NULL;
}

void bpe_merges_put(struct bpe_merges *merges, int32_t left, int32_t right, uint32_t rank,
                    int32_t merged)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = slot_of(pair) & merges->mask;

    while (merges->slots[i].pair != BPE_EMPTY && merges->slots[i].pair != pair)
        i = (i + 1) & merges->mask;
    merges->slots[i] = (struct bpe_merge){.pair = pair, .rank = rank, .merged = merged};
}

static const struct bpe_merge *find(const struct bpe_merges *merges, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = slot_of(pair) & merges->mask;

    while (merges->slots[i].pair != pair) {
        if (merges->slots[i].pair == BPE_EMPTY)
            return NULL;
        i = (i + 1) & merges->mask;
    }
    return &merges->slots[i];
}

/* --- the row -----------------------------------------------------------------------------------
 */
void bpe_row_release(struct bpe_row *row)
{
    mem_free(row->symbols);
    mem_free(row->heap);
    memset(row, 0, sizeof(*row));
}

void bpe_row_clear(struct bpe_row *row)
{
    row->n = 0;
    row->n_heap = 0;
}

int bpe_row_reserve(struct bpe_row *row, size_t n, struct err *err)
{
    size_t cap = row->cap == 0 ? 64 : row->cap;

    if (n <= row->cap)
        return 0;
    while (cap < n)
        cap += cap / 2;
    void *symbols = mem_realloc(row->symbols, cap, sizeof(*row->symbols));
    if (symbols == NULL)
        return mem_err(err, cap * sizeof(*row->symbols));
    row->symbols = symbols;
    row->cap = cap;
    return 0;
}

void bpe_row_push(struct bpe_row *row, int32_t id)
{
    assert(row->n < row->cap);
    row->symbols[row->n++].id = id;
}

static void set_pair(struct bpe_row *row, const struct bpe_merges *merges, size_t at, size_t next)
{
    struct bpe_symbol *symbol = &row->symbols[at];
    const struct bpe_merge *merge =
        next == BPE_NONE ? NULL : find(merges, symbol->id, row->symbols[next].id);

    symbol->rank = merge != NULL ? merge->rank : BPE_NONE;
    symbol->merged = merge != NULL ? merge->merged : -1;
}

static void merge_short(struct bpe_row *row, const struct bpe_merges *merges)
{
    struct bpe_symbol *symbols = row->symbols;

    for (size_t i = 0; i < row->n; i++)
        set_pair(row, merges, i, i + 1 < row->n ? i + 1 : BPE_NONE);
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < row->n; i++) {
            if (symbols[i].rank < symbols[best].rank)
                best = i;
        }
        if (row->n < 2 || symbols[best].rank == BPE_NONE)
            return;
        symbols[best].id = symbols[best].merged;
        row->n--;
        memmove(&symbols[best + 1], &symbols[best + 2], (row->n - best - 1) * sizeof(*symbols));
        set_pair(row, merges, best, best + 1 < row->n ? best + 1 : BPE_NONE);
        if (best > 0)
            set_pair(row, merges, best - 1, best);
    }
}

static void heap_down(uint64_t *heap, size_t n, size_t at)
{
    uint64_t entry = heap[at];

    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= n)
            break;
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= entry)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = entry;
}

static void heap_push(struct bpe_row *row, size_t at)
{
    uint64_t entry = (uint64_t)row->symbols[at].rank << 32 | at;
    size_t i = row->n_heap++;

    assert(row->n_heap <= row->heap_cap);
    while (i > 0 && row->heap[(i - 1) / 2] > entry) {
        row->heap[i] = row->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    row->heap[i] = entry;
}

static uint64_t heap_pop(struct bpe_row *row)
{
    uint64_t top = row->heap[0];

    row->heap[0] = row->heap[--row->n_heap];
    if (row->n_heap > 0)
        heap_down(row->heap, row->n_heap, 0);
    return top;
}

static int heap_fill(struct bpe_row *row, const struct bpe_merges *merges, struct err *err)
{
    size_t n = row->n;

    if (row->heap_cap < n * 2) {
        mem_free(row->heap);
        row->heap_cap = 0;
        row->heap = mem_alloc(n * 2 * sizeof(*row->heap));
        if (row->heap == NULL)
            return mem_err(err, n * 2 * sizeof(*row->heap));
        row->heap_cap = n * 2;
    }
    row->n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        struct bpe_symbol *symbol = &row->symbols[i];
        symbol->prev = i > 0 ? (uint32_t)i - 1 : BPE_NONE;
        symbol->next = i + 1 < n ? (uint32_t)i + 1 : BPE_NONE;
        set_pair(row, merges, i, symbol->next);
        if (symbol->rank != BPE_NONE)
            row->heap[row->n_heap++] = (uint64_t)symbol->rank << 32 | i;
    }
    for (size_t i = row->n_heap / 2; i-- > 0;)
        heap_down(row->heap, row->n_heap, i);
    return 0;
}

static void merge_at(struct bpe_row *row, const struct bpe_merges *merges, size_t at)
{
    struct bpe_symbol *symbol = &row->symbols[at];
    struct bpe_symbol *right = &row->symbols[symbol->next];

    symbol->id = symbol->merged;
    symbol->next = right->next;
    right->rank = BPE_NONE;
    if (symbol->next != BPE_NONE)
        row->symbols[symbol->next].prev = (uint32_t)at;
    set_pair(row, merges, at, symbol->next);
    if (symbol->rank != BPE_NONE)
        heap_push(row, at);
    if (symbol->prev == BPE_NONE)
        return;
    set_pair(row, merges, symbol->prev, at);
    if (row->symbols[symbol->prev].rank != BPE_NONE)
        heap_push(row, symbol->prev);
}

static int merge_long(struct bpe_row *row, const struct bpe_merges *merges, struct err *err)
{
    int rc = heap_fill(row, merges, err);
    size_t n = 0;

    if (rc != 0)
        return rc;
    while (row->n_heap > 0) {
        uint64_t entry = heap_pop(row);
        size_t at = (size_t)(entry & UINT32_MAX);
        if (row->symbols[at].rank == (uint32_t)(entry >> 32))
            merge_at(row, merges, at);
    }
    for (size_t i = 0; i != BPE_NONE; i = row->symbols[i].next) {
        row->symbols[n].id = row->symbols[i].id;
        n++;
        if (row->symbols[i].next == BPE_NONE)
            break;
    }
    row->n = n;
    return 0;
}

int bpe_row_merge(struct bpe_row *row, const struct bpe_merges *merges, struct err *err)
{
    assert(row->n < BPE_NONE);
    if (row->n > BPE_SHORT)
        return merge_long(row, merges, err);
    merge_short(row, merges);
    return 0;
}
