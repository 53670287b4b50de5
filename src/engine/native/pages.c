/* Pages are allocated one by one when first needed: a pool costs what was used of it, until its
 * limit is lowered. */
#include "engine/native/pages.h"

#include <string.h>

#include "base/mem.h"

void page_pool_init(struct page_pool *pool, size_t page_bytes, size_t pages_max)
{
    memset(pool, 0, sizeof *pool);
    pool->page_bytes = page_bytes;
    pool->pages_max = pages_max;
}

void page_pool_release(struct page_pool *pool)
{
    for (size_t i = 0; i < pool->n_free; i++) {
        mem_free(pool->free[i]);
    }
    mem_free(pool->free);
    memset(pool, 0, sizeof *pool);
}

/* The stack has room for every page that exists, so that giving one back cannot fail. */
static int make_room(struct page_pool *pool, struct err *err)
{
    const size_t n = pool->n_used + pool->n_free + 1;
    if (n <= pool->free_room) {
        return 0;
    }
    struct engine_page **more = mem_realloc(pool->free, 2 * n, sizeof(struct engine_page *));
    if (more == NULL) {
        return mem_err(err, 2 * n * sizeof(struct engine_page *));
    }
    pool->free = more;
    pool->free_room = 2 * n;
    return 0;
}

void page_pool_limit(struct page_pool *pool, size_t pages_max)
{
    const size_t before = pool->n_free;
    pool->pages_max = pages_max;
    while (pool->n_free > 0 && pool->n_used + pool->n_free > pages_max) {
        mem_free(pool->free[--pool->n_free]);
    }
    if (pool->n_free < before) {
        mem_trim();
    }
}

int page_take(struct page_pool *pool, struct engine_page **out, struct err *err)
{
    const size_t bytes = sizeof(struct engine_page) + pool->page_bytes;
    if (pool->n_used >= pool->pages_max) {
        return err_set(err, ERR_UNAVAILABLE,
                       "key-value memory is full: %zu of %zu pages of %d tokens are in use",
                       pool->n_used, pool->pages_max, ENGINE_KV_PAGE_TOKENS);
    }
    if (pool->n_free == 0) {
        const int rc = make_room(pool, err);
        struct engine_page *page = rc == 0 ? mem_alloc_simd(1, bytes) : NULL;
        if (page == NULL) {
            return rc != 0 ? rc : mem_err(err, bytes);
        }
        memset(page, 0, bytes);
        pool->free[pool->n_free++] = page;
    }
    *out = pool->free[--pool->n_free];
    (*out)->users = 1;
    pool->n_used++;
    return 0;
}

void page_drop(struct page_pool *pool, struct engine_page *page)
{
    if (--page->users == 0) {
        pool->n_used--;
        pool->free[pool->n_free++] = page;
    }
}
