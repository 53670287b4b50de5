/* Children are sorted, so one binary search finds the block that is wanted or, beside the place
 * where it would stand, the ones that have most in common with it. A walk marks its path as used
 * from its end to the root: that keeps parents before children in the order of use. */
#include "infer/prefix_cache.h"

#include <string.h>

#include "base/mem.h"

void prefix_cache_init(struct prefix_cache *c, struct engine_model *model, uint64_t bytes_max)
{
    memset(c, 0, sizeof *c);
    c->model = model;
    c->page_bytes = engine_model_info(model)->kv_page_bytes;
    c->bytes_max = bytes_max;
}

uint64_t prefix_cache_bytes(const struct prefix_cache *c)
{
    return c->n_nodes * c->page_bytes;
}

/* --- the order of use --- */

static void unlink_node(struct prefix_cache *c, struct prefix_node *n)
{
    *(n->newer != NULL ? &n->newer->older : &c->newest) = n->older;
    *(n->older != NULL ? &n->older->newer : &c->oldest) = n->newer;
    n->newer = NULL;
    n->older = NULL;
}

static void link_newest(struct prefix_cache *c, struct prefix_node *n)
{
    n->older = c->newest;
    *(c->newest != NULL ? &c->newest->newer : &c->oldest) = n;
    c->newest = n;
}

void prefix_cache_touch(struct prefix_cache *c, struct prefix_node *n)
{
    c->clock++;
    for (; n->page != NULL; n = n->parent) {
        unlink_node(c, n);
        link_newest(c, n);
        n->last_used = c->clock;
    }
}

/* --- children --- */

static int common(const struct prefix_node *n, const int32_t *tokens, int n_tokens)
{
    int i = 0;
    while (i < n->n_tokens && i < n_tokens && n->tokens[i] == tokens[i]) {
        i++;
    }
    return i;
}

/* Where tokens stand, or would, among the children: the first that is not below them. */
static int place_of(const struct prefix_node *parent, const int32_t *tokens, int n_tokens)
{
    int low = 0;
    int high = parent->n_children;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const struct prefix_node *n = parent->children[middle];
        const int same = common(n, tokens, n_tokens);
        const bool below =
            same < n_tokens && (same == n->n_tokens || n->tokens[same] < tokens[same]);
        low = below ? middle + 1 : low;
        high = below ? high : middle;
    }
    return low;
}

/* The child that has most in common with tokens: *same of them, perhaps none. */
static struct prefix_node *nearest(const struct prefix_node *parent, const int32_t *tokens,
                                   int n_tokens, int *same)
{
    const int at = place_of(parent, tokens, n_tokens);
    struct prefix_node *best = NULL;
    *same = 0;
    for (int i = at > 0 ? at - 1 : 0; i <= at && i < parent->n_children; i++) {
        const int n = common(parent->children[i], tokens, n_tokens);
        if (n > *same) {
            *same = n;
            best = parent->children[i];
        }
    }
    return best;
}

static bool insert_child(struct prefix_node *parent, struct prefix_node *n)
{
    if (parent->n_children == parent->children_room) {
        const int room = parent->children_room > 0 ? 2 * parent->children_room : 1;
        struct prefix_node **more =
            mem_realloc(parent->children, (size_t)room, sizeof(struct prefix_node *));
        if (more == NULL) {
            return false;
        }
        parent->children = more;
        parent->children_room = room;
    }
    const int at = place_of(parent, n->tokens, n->n_tokens);
    memmove(&parent->children[at + 1], &parent->children[at],
            (size_t)(parent->n_children - at) * sizeof(struct prefix_node *));
    parent->children[at] = n;
    parent->n_children++;
    n->parent = parent;
    return true;
}

/* Takes a leaf out of the tree and frees it. */
static void remove_leaf(struct prefix_cache *c, struct prefix_node *n)
{
    struct prefix_node *parent = n->parent;
    int at = place_of(parent, n->tokens, n->n_tokens);
    memmove(&parent->children[at], &parent->children[at + 1],
            (size_t)(parent->n_children - at - 1) * sizeof(struct prefix_node *));
    parent->n_children--;
    unlink_node(c, n);
    engine_page_release(c->model, n->page);
    mem_free(n->children);
    mem_free(n);
    c->n_nodes--;
}

/* --- roots --- */

static void root_remove(struct prefix_cache *c, int at)
{
    mem_free(c->roots[at]->node.children);
    mem_free(c->roots[at]);
    c->roots[at] = c->roots[--c->n_roots];
    c->roots[c->n_roots] = NULL;
}

void prefix_cache_release(struct prefix_cache *c)
{
    while (c->oldest != NULL) {
        remove_leaf(c, c->oldest);
    }
    while (c->n_roots > 0) {
        root_remove(c, c->n_roots - 1);
    }
}

static struct prefix_node *find_root(struct prefix_cache *c, const char *key)
{
    for (int i = 0; i < c->n_roots; i++) {
        if (strcmp(c->roots[i]->key, key) == 0) {
            return &c->roots[i]->node;
        }
    }
    return NULL;
}

static struct prefix_node *make_root(struct prefix_cache *c, const char *key)
{
    struct prefix_node *found = find_root(c, key);
    const size_t bytes = strlen(key) + 1;
    if (found != NULL || bytes > PREFIX_KEY_BYTES) {
        return found;
    }
    for (int i = 0; c->n_roots == PREFIX_ROOTS_MAX && i < c->n_roots; i++) {
        if (c->roots[i]->node.n_children == 0) {
            root_remove(c, i);
        }
    }
    struct prefix_root *root = c->n_roots < PREFIX_ROOTS_MAX ? mem_calloc(1, sizeof *root) : NULL;
    if (root == NULL) {
        return NULL;
    }
    memcpy(root->key, key, bytes);
    root->node.n_tokens = PREFIX_BLOCK;
    c->roots[c->n_roots++] = root;
    return &root->node;
}

/* --- eviction --- */

bool prefix_cache_evict(struct prefix_cache *c)
{
    const uint64_t start = c->clock;
    while (c->oldest != NULL && c->oldest->last_used <= start) {
        struct prefix_node *n = c->oldest;
        if (engine_page_users(n->page) == 1 && n != c->standing) {
            remove_leaf(c, n);
            return true;
        }
        prefix_cache_touch(c, n); /* in use, and so are its parents */
    }
    return false;
}

size_t prefix_cache_spare(const struct prefix_cache *c)
{
    size_t n = 0;
    for (const struct prefix_node *node = c->oldest; node != NULL; node = node->newer) {
        n += engine_page_users(node->page) == 1;
    }
    return n;
}

/* --- keeping --- */

/* Room for one page more, made behind the back of a walk that stands at `standing`. */
static bool make_room(struct prefix_cache *c, const struct prefix_node *standing)
{
    bool room = c->page_bytes <= c->bytes_max;
    c->standing = standing;
    while (room && prefix_cache_bytes(c) > c->bytes_max - c->page_bytes) {
        room = prefix_cache_evict(c);
    }
    c->standing = NULL;
    return room;
}

static struct prefix_node *add_node(struct prefix_cache *c, struct prefix_node *parent,
                                    const int32_t *tokens, int n_tokens, struct engine_page *page)
{
    struct prefix_node *n = make_room(c, parent) ? mem_calloc(1, sizeof *n) : NULL;
    if (n == NULL) {
        return NULL;
    }
    memcpy(n->tokens, tokens, (size_t)n_tokens * sizeof *tokens);
    n->n_tokens = n_tokens;
    n->page = page;
    if (!insert_child(parent, n)) {
        mem_free(n);
        return NULL;
    }
    link_newest(c, n);
    c->n_nodes++;
    c->n_changes++;
    prefix_cache_touch(c, n);
    return n;
}

struct prefix_node *prefix_cache_put(struct prefix_cache *c, const char *key,
                                     struct prefix_node *parent, const int32_t *tokens,
                                     int n_tokens, struct engine_page *page)
{
    int same = 0;
    parent = parent != NULL ? parent : make_root(c, key);
    struct prefix_node *n = NULL;
    if (parent != NULL && parent->n_tokens == PREFIX_BLOCK) {
        n = nearest(parent, tokens, n_tokens, &same);
        if (n != NULL && same == n_tokens) { /* as much is kept, or more */
            engine_page_release(c->model, page);
            return n;
        }
        if (n != NULL && same == n->n_tokens) { /* a part of it: longer now, in the same place */
            engine_page_release(c->model, n->page);
            n->page = page;
            memcpy(n->tokens, tokens, (size_t)n_tokens * sizeof *tokens);
            n->n_tokens = n_tokens;
            c->n_changes++;
            prefix_cache_touch(c, n);
            return n;
        }
        n = add_node(c, parent, tokens, n_tokens, page);
    }
    if (n == NULL) {
        engine_page_release(c->model, page);
    }
    return n;
}

void prefix_cache_keep(struct prefix_cache *c, const char *key, const int32_t *tokens,
                       struct engine_session *session, bool tail)
{
    const int length = engine_session_length(session);
    const int whole = length / PREFIX_BLOCK * PREFIX_BLOCK;
    const int end = tail ? length : whole;
    struct prefix_node *n = c->page_bytes <= c->bytes_max && end > 0 ? make_root(c, key) : NULL;
    struct prefix_node *last = NULL;
    for (int at = 0; n != NULL && at < end; at += PREFIX_BLOCK) {
        const int left = end - at < PREFIX_BLOCK ? end - at : PREFIX_BLOCK;
        int same;
        struct prefix_node *child = nearest(n, tokens + at, left, &same);
        if (child == NULL || same < left) {
            child = prefix_cache_put(c, key, n, tokens + at, left,
                                     engine_session_page(session, at / PREFIX_BLOCK));
        }
        if (child != NULL && left == PREFIX_BLOCK) {
            engine_session_stand_on(session, at / PREFIX_BLOCK, child->page);
        }
        last = child != NULL ? child : last;
        n = child;
    }
    if (last != NULL) {
        prefix_cache_touch(c, last);
    }
}

/* --- finding --- */

int prefix_cache_extend(struct prefix_cache *c, const char *key, const int32_t *tokens, int n,
                        struct engine_session *session)
{
    const int from = engine_session_length(session);
    struct prefix_node *node = from % PREFIX_BLOCK == 0 ? find_root(c, key) : NULL;
    struct prefix_node *last = NULL;
    for (int at = 0; node != NULL && at < n - 1; at += PREFIX_BLOCK) {
        const int left = n - 1 - at < PREFIX_BLOCK ? n - 1 - at : PREFIX_BLOCK;
        int same;
        struct prefix_node *child = nearest(node, tokens + at, left, &same);
        if (child != NULL && at >= from) {
            engine_session_append(session, child->page, same);
        } else if (child != NULL && same == PREFIX_BLOCK) {
            engine_session_stand_on(session, at / PREFIX_BLOCK, child->page);
        }
        last = child != NULL ? child : last;
        node = same == PREFIX_BLOCK ? child : NULL;
    }
    if (last != NULL) {
        prefix_cache_touch(c, last);
    }
    return engine_session_length(session) - from;
}
