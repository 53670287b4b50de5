/* A session is a table of pages. Whole pages may have other users: sessions that were forked, and
 * whoever keeps pages for prompts that begin alike. The session writes behind its last token only,
 * and copies the page that it would write into when somebody else uses it too. */
#include "engine/native/model.h"

#include <string.h>

#include "base/mem.h"

int engine_session_new(struct engine_session **out, struct engine_model *model, struct err *err)
{
    if (model->packs == NULL) {
        return err_set(err, ERR_INTERNAL, "the model was opened for training only");
    }
    const size_t pages = pages_for(model->info.context_length);
    struct engine_session *s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return mem_err(err, sizeof *s);
    }
    s->model = model;
    s->pages = mem_calloc(pages, sizeof *s->pages);
    if (s->pages == NULL) {
        mem_free(s);
        return mem_err(err, pages * sizeof *s->pages);
    }
    *out = s;
    return 0;
}

static void drop_pages(struct engine_session *s, size_t keep)
{
    while (s->n_pages > keep) {
        page_drop(&s->model->kv, page_of(s->pages[--s->n_pages]));
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

/* Whether the page that the next token goes into holds others already, and has other users. */
static bool tail_is_shared(const struct engine_session *s)
{
    return s->length % ENGINE_KV_PAGE_TOKENS != 0 &&
           page_of(s->pages[s->length / ENGINE_KV_PAGE_TOKENS])->users > 1;
}

size_t engine_session_pages_needed(const struct engine_session *s, int n_tokens)
{
    const size_t want = pages_for(s->length + n_tokens);
    return (want > s->n_pages ? want - s->n_pages : 0) + (n_tokens > 0 && tail_is_shared(s));
}

static int own_tail(struct engine_session *s, struct err *err)
{
    struct engine_page *own;
    uint16_t **tail = &s->pages[s->length / ENGINE_KV_PAGE_TOKENS];
    const int rc = page_take(&s->model->kv, &own, err);
    if (rc == 0) {
        memcpy(own->halves, *tail, s->model->kv.page_bytes);
        page_drop(&s->model->kv, page_of(*tail));
        *tail = own->halves;
    }
    return rc;
}

int session_reserve(struct engine_session *s, int n, struct err *err)
{
    int rc = n > s->length && tail_is_shared(s) ? own_tail(s, err) : 0;
    while (rc == 0 && s->n_pages < pages_for(n)) {
        struct engine_page *page;
        rc = page_take(&s->model->kv, &page, err);
        if (rc == 0) {
            s->pages[s->n_pages++] = page->halves;
        }
    }
    if (rc != 0) {
        session_trim(s);
    }
    return rc;
}

void session_trim(struct engine_session *s)
{
    drop_pages(s, pages_for(s->length));
}

int engine_session_fork(struct engine_session **out, const struct engine_session *from, int n,
                        struct err *err)
{
    struct engine_session *s = NULL;
    const int rc = engine_session_new(&s, from->model, err);
    if (rc != 0) {
        return rc;
    }
    s->length = n < from->length ? n : from->length;
    s->n_pages = pages_for(s->length);
    for (size_t i = 0; i < s->n_pages; i++) {
        s->pages[i] = from->pages[i];
        page_of(s->pages[i])->users++;
    }
    *out = s;
    return 0;
}

struct engine_page *engine_session_page(const struct engine_session *s, int i)
{
    struct engine_page *page = page_of(s->pages[i]);
    page->users++;
    return page;
}

void engine_session_append(struct engine_session *s, struct engine_page *page, int n_tokens)
{
    page->users++;
    s->pages[s->n_pages++] = page->halves;
    s->length += n_tokens;
}

void engine_session_stand_on(struct engine_session *s, int i, struct engine_page *page)
{
    page->users++;
    page_drop(&s->model->kv, page_of(s->pages[i]));
    s->pages[i] = page->halves;
}

/* --- pages that no session holds --- */

size_t engine_pages_max(const struct engine_model *model)
{
    return model->kv.pages_max;
}

size_t engine_pages_used(const struct engine_model *model)
{
    return model->kv.n_used;
}

void engine_pages_limit(struct engine_model *model, size_t kv_bytes_max)
{
    page_pool_limit(&model->kv, kv_bytes_max / model->kv.page_bytes);
}

int engine_page_new(struct engine_page **page, struct engine_model *model, struct err *err)
{
    return page_take(&model->kv, page, err);
}

void engine_page_release(struct engine_model *model, struct engine_page *page)
{
    page_drop(&model->kv, page);
}

int engine_page_users(const struct engine_page *page)
{
    return page->users;
}

void *engine_page_bytes(struct engine_page *page)
{
    return page->halves;
}
