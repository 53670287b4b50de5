#include "infer/grammar_sets.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { ITEMS_FIRST = 256, SLOTS_FIRST = 1 << 10, FEW = 16 };

int grammar_grow(void **items, size_t *cap, size_t n, size_t size, size_t max, struct err *err)
{
    if (n <= *cap) {
        return 0;
    }
    size_t more = *cap > 0 ? *cap : ITEMS_FIRST;
    while (more < n) {
        more *= 2;
    }
    if (more > max) {
        return err_set(err, ERR_TOO_LARGE, "the schema leaves too many ways open at once");
    }
    void *grown = mem_realloc(*items, more, size);
    if (grown == NULL) {
        return mem_err(err, more * size);
    }
    *items = grown;
    *cap = more;
    return 0;
}

size_t grammar_mix(uint64_t x)
{
    x *= UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(x ^ (x >> 29));
}

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void insert_all(uint64_t *keys, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const uint64_t key = keys[i];
        size_t at = i;
        for (; at > 0 && keys[at - 1] > key; at--) {
            keys[at] = keys[at - 1];
        }
        keys[at] = key;
    }
}

size_t keys_sort(uint64_t *keys, size_t n)
{
    size_t left = 0;
    if (n > FEW) {
        qsort(keys, n, sizeof *keys, by_size);
    } else {
        insert_all(keys, n);
    }
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || keys[i] != keys[i - 1]) {
            keys[left++] = keys[i];
        }
    }
    return left;
}

static size_t hash_of(const uint64_t *keys, size_t n)
{
    size_t hash = n;
    for (size_t i = 0; i < n; i++) {
        hash = grammar_mix(hash ^ keys[i]);
    }
    return hash;
}

/* The slot that holds the set, or is free for it. */
static size_t find_slot(const struct key_sets *s, const uint64_t *keys, size_t n)
{
    size_t at = hash_of(keys, n) & (s->n_slots - 1);
    for (; s->table[at] != 0; at = (at + 1) & (s->n_slots - 1)) {
        const struct key_set *set = &s->sets[s->table[at] - 1];
        if (set->n == n && (n == 0 || memcmp(s->keys + set->first, keys, n * sizeof *keys) == 0)) {
            break;
        }
    }
    return at;
}

/* A table with room for one set more. */
static int make_room(struct key_sets *s, struct err *err)
{
    if (2 * (s->n_sets + 1) <= s->n_slots) {
        return 0;
    }
    const size_t more = s->n_slots > 0 ? 2 * s->n_slots : SLOTS_FIRST;
    uint32_t *grown = mem_calloc(more, sizeof *grown);
    if (grown == NULL) {
        return mem_err(err, more * sizeof *grown);
    }
    mem_free(s->table);
    s->table = grown;
    s->n_slots = more;
    for (size_t i = 0; i < s->n_sets; i++) {
        s->table[find_slot(s, s->keys + s->sets[i].first, s->sets[i].n)] = (uint32_t)i + 1;
    }
    return 0;
}

int key_sets_intern(struct key_sets *s, const uint64_t *keys, size_t n, size_t sets_max,
                    uint32_t *out, struct err *err)
{
    int rc = make_room(s, err);
    if (rc != 0) {
        return rc;
    }
    const size_t at = find_slot(s, keys, n);
    if (s->table[at] != 0) {
        *out = s->table[at] - 1;
        return 0;
    }
    rc = grammar_grow((void **)&s->sets, &s->cap_sets, s->n_sets + 1, sizeof *s->sets, sets_max,
                      err);
    if (rc == 0) {
        rc = grammar_grow((void **)&s->keys, &s->cap_keys, s->n_keys + n + 1, sizeof *s->keys,
                          SETS_KEYS_MAX, err);
    }
    if (rc != 0) {
        return rc;
    }
    const struct key_set set = {(uint32_t)s->n_keys, (uint32_t)n};
    if (n > 0) {
        memcpy(s->keys + s->n_keys, keys, n * sizeof *keys);
    }
    s->n_keys += n;
    s->sets[s->n_sets] = set;
    s->table[at] = (uint32_t)s->n_sets + 1;
    *out = (uint32_t)s->n_sets++;
    return 0;
}

void key_sets_clear(struct key_sets *s)
{
    if (s->n_slots > 0) {
        memset(s->table, 0, s->n_slots * sizeof *s->table);
    }
    s->n_sets = 0;
    s->n_keys = 0;
}

void key_sets_release(struct key_sets *s)
{
    mem_free(s->sets);
    mem_free(s->keys);
    mem_free(s->table);
    memset(s, 0, sizeof *s);
}
