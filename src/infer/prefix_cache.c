/* A few entries with a few thousand tokens each: the best one is found by comparing them all. */
#include "infer/prefix_cache.h"

#include <string.h>

#include "base/mem.h"

void prefix_cache_init(struct prefix_cache *c, const struct engine_info *info, uint64_t bytes_max)
{
    memset(c, 0, sizeof *c);
    c->page_bytes = info->kv_page_bytes;
    c->bytes_max = bytes_max;
}

static void entry_release(struct prefix_entry *e)
{
    engine_session_free(e->session);
    mem_free(e->tokens);
    memset(e, 0, sizeof *e);
}

static void entry_remove(struct prefix_cache *c, int at)
{
    c->entries[at] = c->entries[c->n - 1];
    memset(&c->entries[--c->n], 0, sizeof c->entries[0]);
}

void prefix_cache_release(struct prefix_cache *c)
{
    while (prefix_cache_evict(c)) {
    }
}

static uint64_t pages_bytes(const struct prefix_cache *c, int n_tokens)
{
    const int pages = (n_tokens + ENGINE_KV_PAGE_TOKENS - 1) / ENGINE_KV_PAGE_TOKENS;
    return (uint64_t)pages * c->page_bytes;
}

uint64_t prefix_cache_bytes(const struct prefix_cache *c)
{
    uint64_t bytes = 0;
    for (int i = 0; i < c->n; i++) {
        bytes += pages_bytes(c, c->entries[i].n_tokens);
    }
    return bytes;
}

bool prefix_cache_evict(struct prefix_cache *c)
{
    int oldest = 0;
    if (c->n == 0) {
        return false;
    }
    for (int i = 1; i < c->n; i++) {
        oldest = c->entries[i].last_used < c->entries[oldest].last_used ? i : oldest;
    }
    entry_release(&c->entries[oldest]);
    entry_remove(c, oldest);
    return true;
}

static int common(const struct prefix_entry *e, const int32_t *tokens, int n)
{
    int i = 0;
    while (i < n && i < e->n_tokens && e->tokens[i] == tokens[i]) {
        i++;
    }
    return i;
}

int prefix_cache_take(struct prefix_cache *c, const char *adapter_key, const int32_t *tokens, int n,
                      struct engine_session **session)
{
    int best = -1;
    int longest = PREFIX_TOKENS_MIN - 1;
    for (int i = 0; i < c->n; i++) {
        const int length = strcmp(c->entries[i].adapter_key, adapter_key) == 0
                               ? common(&c->entries[i], tokens, n - 1)
                               : 0;
        if (length > longest) {
            longest = length;
            best = i;
        }
    }
    if (best < 0) {
        return 0;
    }
    *session = c->entries[best].session;
    engine_session_truncate(*session, longest);
    mem_free(c->entries[best].tokens);
    entry_remove(c, best);
    return longest;
}

void prefix_cache_put(struct prefix_cache *c, const char *adapter_key, const int32_t *tokens,
                      struct engine_session *session)
{
    const int n = engine_session_length(session);
    const uint64_t bytes = pages_bytes(c, n);
    int32_t *copy = NULL;
    if (n >= PREFIX_TOKENS_MIN && bytes <= c->bytes_max && strlen(adapter_key) < PREFIX_KEY_BYTES) {
        copy = mem_calloc((size_t)n, sizeof *copy);
    }
    if (copy == NULL) {
        engine_session_free(session);
        return;
    }
    while (c->n == PREFIX_ENTRIES_MAX ||
           (c->n > 0 && prefix_cache_bytes(c) + bytes > c->bytes_max)) {
        (void)prefix_cache_evict(c);
    }
    struct prefix_entry *e = &c->entries[c->n++];
    memcpy(copy, tokens, (size_t)n * sizeof *copy);
    memcpy(e->adapter_key, adapter_key, strlen(adapter_key) + 1);
    e->session = session;
    e->tokens = copy;
    e->n_tokens = n;
    e->last_used = ++c->clock;
}
