/* Sessions and the pages that hold their keys and values.
 *
 * A page is made when first needed and kept for reuse; its first use finds it zeroed, later ones
 * find old halves, all finite, which no query sees. Pages in use plus free never exceed pages_max.
 */
#include "base/mem.h"
#include "engine/native/model.h"

#include <string.h>

static int page_take(struct engine_model *m, uint16_t **page, struct err *err)
{
    struct page_pool *kv = &m->kv;
    if (kv->n_free > 0) {
        *page = kv->free[--kv->n_free];
        return 0;
    }
    if (kv->n_pages == kv->pages_max) {
        return err_set(err, ERR_UNAVAILABLE,
                       "key-value memory is full: %zu of %zu pages of %d tokens are in use",
                       kv->n_pages, kv->pages_max, ENGINE_KV_PAGE_TOKENS);
    }
    *page = mem_alloc_simd(1, kv->page_bytes);
    if (*page == NULL) {
        return mem_err(err, kv->page_bytes);
    }
    memset(*page, 0, kv->page_bytes);
    kv->n_pages++;
    return 0;
}

void page_pool_release(struct page_pool *kv)
{
    for (size_t i = 0; i < kv->n_free; i++) {
        mem_free(kv->free[i]);
    }
    mem_free(kv->free);
    memset(kv, 0, sizeof *kv);
}

static size_t pages_for(int n)
{
    return ((size_t)n + ENGINE_KV_PAGE_TOKENS - 1) / ENGINE_KV_PAGE_TOKENS;
}

int engine_session_new(struct engine_session **out, struct engine_model *model, struct err *err)
{
    struct engine_session *s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return mem_err(err, sizeof *s);
    }
    s->model = model;
    s->pages = mem_calloc(pages_for(model->info.context_length), sizeof *s->pages);
    if (s->pages == NULL) {
        mem_free(s);
        return mem_err(err, pages_for(model->info.context_length) * sizeof *s->pages);
    }
    *out = s;
    return 0;
}

static void drop_pages(struct engine_session *s, size_t keep)
{
    while (s->n_pages > keep) {
        struct page_pool *kv = &s->model->kv;
        kv->free[kv->n_free++] = s->pages[--s->n_pages];
    }
}

void engine_session_free(struct engine_session *session)
{
    if (session != NULL) {
        drop_pages(session, 0);
        mem_free(session->pages);
        mem_free(session);
    }
}

int engine_session_length(const struct engine_session *session)
{
    return session->length;
}

void engine_session_truncate(struct engine_session *session, int n)
{
    if (n < session->length) {
        session->length = n < 0 ? 0 : n;
        drop_pages(session, pages_for(session->length));
    }
}

int session_reserve(struct engine_session *s, int n, struct err *err)
{
    const size_t before = s->n_pages;
    while (s->n_pages < pages_for(n)) {
        const int rc = page_take(s->model, &s->pages[s->n_pages], err);
        if (rc != 0) {
            drop_pages(s, before);
            return rc;
        }
        s->n_pages++;
    }
    return 0;
}
