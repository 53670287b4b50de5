/* Pages of keys and values kept for prompts that begin alike: a radix tree over blocks of tokens.
 *
 *   root (of one adapter) ─▶ block of 16 tokens + its page ─▶ block ─▶ … ─▶ perhaps part of a block
 *
 * What a page holds depends on the base, the adapter and the tokens up to its end alone, so any
 * number of sessions that begin with a path's tokens stand on its pages at once, and get the bits
 * that they would have computed. The base is the runner's; a root's key is a digest of what the
 * adapter does, "" for the bare base.
 *
 * Invariants
 *   1. Only whole blocks have children; no child's tokens begin with all of a sibling's.
 *   2. In the order of use every block stands before its children, so whatever was used longest
 *      ago is a leaf.
 *   3. A block that a session stands on is not evicted: nothing would be gained.
 *   4. Who stands on a block stands on its parents: what a session computed that is kept already it
 *      gives back for what is kept. So every page is in use, or can be evicted after its children.
 * Belongs to the model's thread. Bounds: bytes_max of pages, PREFIX_ROOTS_MAX adapters.
 */
#ifndef INFER_PREFIX_CACHE_H
#define INFER_PREFIX_CACHE_H

#include "engine/engine.h"

enum { PREFIX_BLOCK = ENGINE_KV_PAGE_TOKENS, PREFIX_KEY_BYTES = 96, PREFIX_ROOTS_MAX = 256 };

struct prefix_node {
    struct prefix_node *parent;
    struct prefix_node **children; /* by tokens, rising */
    int n_children, children_room;
    struct prefix_node *newer, *older; /* by use; of roots NULL */
    struct engine_page *page;          /* of roots NULL */
    uint64_t last_used;
    uint32_t saved_as; /* its place in the file that was written last */
    int n_tokens;
    int32_t tokens[PREFIX_BLOCK];
};

struct prefix_root {
    char key[PREFIX_KEY_BYTES];
    struct prefix_node node;
};

struct prefix_cache {
    struct engine_model *model;
    uint64_t page_bytes, bytes_max;
    struct prefix_root *roots[PREFIX_ROOTS_MAX];
    int n_roots;
    struct prefix_node *newest, *oldest;
    const struct prefix_node *standing; /* where a walk is: not to be evicted */
    uint64_t n_nodes;
    uint64_t n_changes; /* blocks that came or grew so far */
    uint64_t clock;
};

void prefix_cache_init(struct prefix_cache *cache, struct engine_model *model, uint64_t bytes_max);
void prefix_cache_release(struct prefix_cache *cache); /* safe on a zeroed struct */
uint64_t prefix_cache_bytes(const struct prefix_cache *cache);

/* Appends to the session, which holds less than n of tokens[0, n) up to a page's boundary, what is
 * kept behind it, leaving at least one token to evaluate. Returns how many tokens that were. */
int prefix_cache_extend(struct prefix_cache *cache, const char *key, const int32_t *tokens, int n,
                        struct engine_session *session);
/* Keeps the pages of a session, which holds tokens[0, its length): whole ones, and with `tail` the
 * last one too. The session may go on; without a tail it goes on writing pages of its own. What
 * there is no room for is not kept. */
void prefix_cache_keep(struct prefix_cache *cache, const char *key, const int32_t *tokens,
                       struct engine_session *session, bool tail);
/* Puts one block with a page behind a parent (NULL: the key's root), as reading a file does; takes
 * the caller's use of the page. NULL when there is no room, or the parent is no whole block. */
struct prefix_node *prefix_cache_put(struct prefix_cache *cache, const char *key,
                                     struct prefix_node *parent, const int32_t *tokens,
                                     int n_tokens, struct engine_page *page);
/* The whole path from a block to its root was used just now. */
void prefix_cache_touch(struct prefix_cache *cache, struct prefix_node *node);
/* Gives back the page that was used longest ago of those that no session stands on; false when
 * there is none. */
bool prefix_cache_evict(struct prefix_cache *cache);
/* How many pages prefix_cache_evict could give back; looks at every block. */
size_t prefix_cache_spare(const struct prefix_cache *cache);

#endif
