/* The page pool: the memory of all sessions' keys and values, counted in pages of
 * ENGINE_KV_PAGE_TOKENS positions.
 *
 * Invariants
 *   1. A page has as many users as sessions and keepers hold it; at none it is free again.
 *   2. A page with more than one user is never written: what it holds, many read.
 *   3. No page is taken beyond pages_max in use; free ones are kept for reuse. A page's first use
 * finds it zeroed, later ones find old halves, all finite, which no query sees. Belongs to the
 * model's thread.
 */
#ifndef ENGINE_NATIVE_PAGES_H
#define ENGINE_NATIVE_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"

/* A page holds, for each layer and kv head in turn, K (head_dim, 16) and V (16, head_dim) as fp16.
 * Kernels see page->halves alone. */
struct engine_page {
    int users;
    _Alignas(64) uint16_t halves[];
};

struct page_pool {
    size_t page_bytes;         /* of halves */
    size_t pages_max;          /* in use at once */
    size_t n_used;             /* by anyone */
    struct engine_page **free; /* stack */
    size_t n_free, free_room;
};

static inline size_t pages_for(int n_tokens)
{
    return ((size_t)n_tokens + ENGINE_KV_PAGE_TOKENS - 1) / ENGINE_KV_PAGE_TOKENS;
}

static inline struct engine_page *page_of(uint16_t *halves)
{
    return (struct engine_page *)((char *)halves - offsetof(struct engine_page, halves));
}

void page_pool_init(struct page_pool *pool, size_t page_bytes, size_t pages_max);
void page_pool_release(struct page_pool *pool); /* every page is free */
/* Another pages_max: free pages beyond it go back to the system. Those in use stay; who lowers it
 * below them has to see to it that they come back. */
void page_pool_limit(struct page_pool *pool, size_t pages_max);

/* A page with one user: its taker. ERR_UNAVAILABLE with both numbers when all are in use. */
int page_take(struct page_pool *pool, struct engine_page **page, struct err *err) MUST_CHECK;
void page_drop(struct page_pool *pool, struct engine_page *page);

#endif
