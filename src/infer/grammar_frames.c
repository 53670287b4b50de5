/* A frame is made after those that its nodes stand on, so these have lower numbers: that is what
 * lets frames_keep carry frames over in one pass. */
#include "infer/grammar_frames.h"

#include <string.h>

#include "base/mem.h"

/* Frames that differ deeper than UNION_DEPTH_MAX below are left apart: ways that parted so long ago
 * and never met are few. */
enum { FRAMES_MAX = 1 << 20, UNIONS_MAX = 1 << 20, UNION_DEPTH_MAX = 64 };

static const uint32_t none = UINT32_MAX;

/* --- making them --- */

static int merge_work(struct frames *f, size_t first, int depth, struct err *err);

static int put_work(struct frames *f, uint64_t node, struct err *err)
{
    const int rc = grammar_grow((void **)&f->work, &f->cap_work, f->n_work + 1, sizeof *f->work,
                                SETS_KEYS_MAX, err);
    if (rc == 0) {
        f->work[f->n_work++] = node;
    }
    return rc;
}

static int put_set(struct frames *f, uint32_t frame, struct err *err)
{
    const struct key_set set = f->sets.sets[frame];
    int rc = 0;
    for (uint32_t i = 0; i < set.n && rc == 0; i++) {
        rc = put_work(f, f->sets.keys[set.first + i], err);
    }
    return rc;
}

/* *out is `none` where they are left apart. */
static int unite(struct frames *f, uint32_t a, uint32_t b, int depth, uint32_t *out,
                 struct err *err)
{
    const uint64_t pair = a < b ? (uint64_t)a << 32 | b : (uint64_t)b << 32 | a;
    const size_t first = f->n_work, n_pairs = f->pairs.n_sets;
    uint32_t at = 0, both = none;
    if (a == b || depth == 0) {
        *out = a == b ? a : none;
        return 0;
    }
    int rc = grammar_grow((void **)&f->unions, &f->cap_unions, n_pairs + 1, sizeof *f->unions,
                          UNIONS_MAX, err);
    rc = rc == 0 ? key_sets_intern(&f->pairs, &pair, 1, UNIONS_MAX, &at, err) : rc;
    if (rc != 0 || at < n_pairs) {
        *out = rc == 0 ? f->unions[at] : none;
        return rc;
    }
    f->unions[at] = none; /* should what follows fail */
    rc = put_set(f, a, err);
    rc = rc == 0 ? put_set(f, b, err) : rc;
    rc = rc == 0 ? merge_work(f, first, depth - 1, err) : rc;
    rc = rc == 0
             ? key_sets_intern(&f->sets, f->work + first, f->n_work - first, FRAMES_MAX, &both, err)
             : rc;
    f->n_work = first;
    f->unions[at] = both;
    *out = both;
    return rc;
}

/* The nodes of work from `first` on; nested calls put theirs behind. */
static int merge_work(struct frames *f, size_t first, int depth, struct err *err)
{
    size_t left = first;
    f->n_work = first + keys_sort(f->work + first, f->n_work - first);
    const size_t end = f->n_work;
    for (size_t i = first; i < end; i++) {
        const uint64_t node = f->work[i];
        const uint64_t before = left > first ? f->work[left - 1] : NODE_END;
        uint32_t both = none;
        if (node != NODE_END && before != NODE_END && node_element(before) == node_element(node)) {
            const int rc = unite(f, node_frame(before), node_frame(node), depth, &both, err);
            if (rc != 0) {
                return rc;
            }
        }
        if (both != none) {
            f->work[left - 1] = node_of(node_element(node), both);
        } else {
            f->work[left++] = node;
        }
    }
    f->n_work = first + keys_sort(f->work + first, left - first);
    return 0;
}

int frames_merge(struct frames *f, uint64_t *nodes, size_t *n, struct err *err)
{
    const size_t first = f->n_work;
    int rc = 0;
    for (size_t i = 0; i < *n && rc == 0; i++) {
        rc = put_work(f, nodes[i], err);
    }
    rc = rc == 0 ? merge_work(f, first, UNION_DEPTH_MAX, err) : rc;
    if (rc == 0) {
        *n = f->n_work - first;
        memcpy(nodes, f->work + first, *n * sizeof *nodes);
    }
    f->n_work = first;
    return rc;
}

int frames_intern(struct frames *f, uint64_t *nodes, size_t n, uint32_t *frame, struct err *err)
{
    const int rc = frames_merge(f, nodes, &n, err);
    return rc == 0 ? key_sets_intern(&f->sets, nodes, n, FRAMES_MAX, frame, err) : rc;
}

/* --- forgetting --- */

bool frames_are_many(const struct frames *f)
{
    return f->sets.n_sets > FRAMES_MAX / 2 || f->sets.n_keys > SETS_KEYS_MAX / 2 ||
           f->pairs.n_sets > UNIONS_MAX / 2;
}

/* names[i] of a frame that is needed becomes other than `none`. */
static void mark(const struct key_sets *sets, const uint64_t *nodes, size_t n, uint32_t *names)
{
    for (size_t i = 0; i < n; i++) {
        if (nodes[i] != NODE_END) {
            names[node_frame(nodes[i])] = 0;
        }
    }
    for (size_t i = sets->n_sets; i-- > 0;) {
        const struct key_set *set = &sets->sets[i];
        for (uint32_t k = 0; names[i] != none && k < set->n; k++) {
            const uint64_t node = sets->keys[set->first + k];
            if (node != NODE_END) {
                names[node_frame(node)] = 0;
            }
        }
    }
}

static void rename_all(uint64_t *nodes, size_t n, const uint32_t *names)
{
    for (size_t i = 0; i < n; i++) {
        if (nodes[i] != NODE_END) {
            nodes[i] = node_of(node_element(nodes[i]), names[node_frame(nodes[i])]);
        }
    }
    (void)keys_sort(nodes, n); /* different ones stay different */
}

/* From the old sets into the new, in the order in which they were made. */
static int carry_over(struct frames *f, struct key_sets *old, uint32_t *names, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < old->n_sets && rc == 0; i++) {
        const struct key_set *set = &old->sets[i];
        if (names[i] != none) {
            rename_all(old->keys + set->first, set->n, names);
            rc = key_sets_intern(&f->sets, old->keys + set->first, set->n, FRAMES_MAX, &names[i],
                                 err);
        }
    }
    return rc;
}

int frames_keep(struct frames *f, uint64_t *nodes, size_t n, struct err *err)
{
    struct key_sets old = f->sets;
    uint32_t *names = mem_alloc((old.n_sets + 1) * sizeof *names);
    if (names == NULL) {
        return mem_err(err, old.n_sets * sizeof *names);
    }
    memset(names, 0xff, (old.n_sets + 1) * sizeof *names); /* none */
    mark(&old, nodes, n, names);
    memset(&f->sets, 0, sizeof f->sets);
    key_sets_clear(&f->pairs);
    const int rc = carry_over(f, &old, names, err);
    if (rc == 0) {
        rename_all(nodes, n, names);
    }
    key_sets_release(&old);
    mem_free(names);
    return rc;
}

void frames_release(struct frames *f)
{
    key_sets_release(&f->sets);
    key_sets_release(&f->pairs);
    mem_free(f->unions);
    mem_free(f->work);
    memset(f, 0, sizeof *f);
}
