/* Sessions of finished requests, kept for prompts that begin alike.
 *
 * What a session holds depends on its tokens and adapter alone, so a request that takes one over,
 * cut to what both have in common, gets the bits that it would have computed. An entry serves one
 * request at a time: taking removes it, and putting it back when that ends keeps the longer text.
 * Belongs to the model's thread. Bounds: PREFIX_ENTRIES_MAX sessions, bytes_max of their pages.
 */
#ifndef INFER_PREFIX_CACHE_H
#define INFER_PREFIX_CACHE_H

#include "engine/engine.h"

enum {
    PREFIX_ENTRIES_MAX = 64,
    PREFIX_KEY_BYTES = 80,
    PREFIX_TOKENS_MIN = 16 /* less in common is computed rather than looked up */
};

struct prefix_entry {
    struct engine_session *session;
    int32_t *tokens;
    int n_tokens;
    char adapter_key[PREFIX_KEY_BYTES]; /* digest of the adapter; "" = the bare base */
    uint64_t last_used;
};

struct prefix_cache {
    uint64_t page_bytes, bytes_max;
    struct prefix_entry entries[PREFIX_ENTRIES_MAX];
    int n;
    uint64_t clock;
};

void prefix_cache_init(struct prefix_cache *cache, const struct engine_info *info,
                       uint64_t bytes_max);
void prefix_cache_release(struct prefix_cache *cache); /* safe on a zeroed struct */
uint64_t prefix_cache_bytes(const struct prefix_cache *cache);

/* The session that begins most like tokens[0, n): *session holds the returned number of them, at
 * most n - 1, so that there is one left to evaluate. 0: none, *session is untouched. */
int prefix_cache_take(struct prefix_cache *cache, const char *adapter_key, const int32_t *tokens,
                      int n, struct engine_session **session);
/* Takes the session, which holds tokens[0, its length); frees it when there is no room or use. */
void prefix_cache_put(struct prefix_cache *cache, const char *adapter_key, const int32_t *tokens,
                      struct engine_session *session);
/* Frees the entry that was used longest ago; false when there is none. */
bool prefix_cache_evict(struct prefix_cache *cache);

#endif
