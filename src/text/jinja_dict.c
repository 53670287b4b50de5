/* Insertion-ordered dicts: pairs in an array, and from a handful on a table of slots over it with
 * linear probing. Nothing is ever deleted: a template can build dicts and namespaces, not shrink
 * them. */
#include <string.h>

#include "text/jinja_value.h"

enum { DICT_CAP_MIN = 4 };

int jv_dict(struct jinja *j, size_t cap, struct jvalue *out)
{
    struct jdict *d = jinja_alloc(j, 1, sizeof *d);
    if (d == NULL) {
        return j->failed;
    }
    if (cap > 0) {
        d->pairs = jinja_alloc(j, cap, sizeof *d->pairs);
        if (d->pairs == NULL) {
            return j->failed;
        }
    }
    d->cap = (uint32_t)cap;
    d->message = -1;
    *out = (struct jvalue){.type = J_DICT, .as.dict = d};
    return 0;
}

static void add_slot(struct jdict *d, uint32_t pair)
{
    uint32_t mask = d->n_slots - 1;
    uint32_t at = (uint32_t)d->pairs[pair].hash & mask;
    while (d->slots[at] != 0) {
        at = (at + 1) & mask;
    }
    d->slots[at] = pair + 1;
}

/* Makes the table fit `n` pairs at no more than half full. */
static int build_slots(struct jinja *j, struct jdict *d)
{
    uint32_t n_slots = 2 * JDICT_SMALL;
    while (n_slots < 4 * d->cap) {
        n_slots *= 2;
    }
    uint32_t *slots = jinja_alloc(j, n_slots, sizeof *slots);
    if (slots == NULL) {
        return j->failed;
    }
    d->slots = slots;
    d->n_slots = n_slots;
    for (uint32_t i = 0; i < d->n; i++) {
        add_slot(d, i);
    }
    return 0;
}

static int grow(struct jinja *j, struct jdict *d)
{
    uint32_t cap = d->cap < DICT_CAP_MIN ? DICT_CAP_MIN : 2 * d->cap;
    struct jpair *pairs = jinja_alloc(j, cap, sizeof *pairs);
    if (pairs == NULL) {
        return j->failed;
    }
    if (d->n > 0) {
        memcpy(pairs, d->pairs, d->n * sizeof *pairs);
    }
    d->pairs = pairs;
    d->cap = cap;
    d->slots = NULL;
    d->n_slots = 0;
    return 0;
}

/* Index of the pair with this key, or -1 in *at. */
static int locate(struct jinja *j, const struct jdict *d, struct jvalue key, uint64_t hash,
                  int64_t *at)
{
    *at = -1;
    uint32_t mask = d->n_slots - 1;
    uint32_t slot = (uint32_t)hash & mask;
    for (uint32_t i = 0; d->slots != NULL || i < d->n; i++) {
        uint32_t pair = i;
        if (d->slots != NULL) {
            if (d->slots[slot] == 0) {
                break;
            }
            pair = d->slots[slot] - 1;
            slot = (slot + 1) & mask;
        }
        if (d->pairs[pair].hash != hash) {
            continue;
        }
        bool equal;
        int rc = jv_equal(j, d->pairs[pair].key, key, &equal);
        if (rc != 0) {
            return rc;
        }
        if (equal) {
            *at = pair;
            break;
        }
    }
    return 0;
}

int jdict_set(struct jinja *j, struct jdict *d, struct jvalue key, struct jvalue value)
{
    uint64_t hash;
    int64_t at = -1;
    int rc = jv_hash(j, key, &hash);
    if (rc == 0) {
        rc = locate(j, d, key, hash, &at);
    }
    if (rc == 0 && at >= 0) {
        d->pairs[at].value = value;
        return 0;
    }
    if (rc == 0 && d->n == d->cap) {
        rc = grow(j, d);
    }
    if (rc != 0) {
        return rc;
    }
    d->pairs[d->n++] = (struct jpair){.key = key, .value = value, .hash = hash};
    if (d->slots != NULL) {
        add_slot(d, d->n - 1);
    } else if (d->n > JDICT_SMALL) {
        rc = build_slots(j, d);
    }
    return rc;
}

int jdict_get(struct jinja *j, const struct jdict *d, struct jvalue key, struct jvalue *out)
{
    uint64_t hash;
    int64_t at = -1;
    int rc = jv_hash(j, key, &hash);
    if (rc == 0) {
        rc = locate(j, d, key, hash, &at);
    }
    *out = rc == 0 && at >= 0 ? d->pairs[at].value : jv_missing();
    return rc;
}

struct jvalue jdict_find(const struct jdict *d, const char *text, size_t length)
{
    uint64_t hash = jv_hash_text(text, length);
    uint32_t mask = d->n_slots - 1;
    uint32_t slot = (uint32_t)hash & mask;
    for (uint32_t i = 0; d->slots != NULL || i < d->n; i++) {
        uint32_t at = i;
        if (d->slots != NULL) {
            if (d->slots[slot] == 0) {
                break;
            }
            at = d->slots[slot] - 1;
            slot = (slot + 1) & mask;
        }
        const struct jpair *pair = &d->pairs[at];
        if (pair->hash == hash && pair->key.type == J_STRING && pair->key.len == length &&
            memcmp(pair->key.as.text, text, length) == 0) {
            return pair->value;
        }
    }
    return jv_missing();
}
