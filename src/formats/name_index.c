/* Open addressing, linear probing, the 64-bit hash kept beside the name so that a probe compares
 * strings only when the hashes agree. */
#include "formats/name_index.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

struct name_slot {
    const char *name; /* NULL = free */
    uint64_t hash;
    int32_t id;
};

enum { SLOTS_MIN = 8 };

int name_index_init(struct name_index *index, uint32_t n_max, struct err *err)
{
    uint32_t n_slots = SLOTS_MIN;
    while (n_slots / 2 < n_max)
        n_slots *= 2;
    index->slots = mem_calloc(n_slots, sizeof *index->slots);
    if (!index->slots)
        return mem_err(err, n_slots * sizeof *index->slots);
    index->mask = n_slots - 1;
    return 0;
}

void name_index_release(struct name_index *index)
{
    mem_free(index->slots);
    *index = (struct name_index){0};
}

/* The slot that holds name, or the free one where it belongs. */
static struct name_slot *slot_of(const struct name_index *index, const char *name, uint64_t hash)
{
    uint32_t at = (uint32_t)hash & index->mask;
    for (;;) {
        struct name_slot *slot = &index->slots[at];
        if (!slot->name || (slot->hash == hash && strcmp(slot->name, name) == 0))
            return slot;
        at = (at + 1) & index->mask;
    }
}

int32_t name_index_add(struct name_index *index, const char *name, int32_t id)
{
    assert(id >= 0 && (uint32_t)id <= index->mask / 2);
    uint64_t hash = hash_bytes(name, strlen(name), 0);
    struct name_slot *slot = slot_of(index, name, hash);
    if (!slot->name)
        *slot = (struct name_slot){name, hash, id};
    return slot->id;
}

int32_t name_index_find(const struct name_index *index, const char *name)
{
    if (!index->slots)
        return NAME_INDEX_NONE;
    const struct name_slot *slot = slot_of(index, name, hash_bytes(name, strlen(name), 0));
    return slot->name ? slot->id : NAME_INDEX_NONE;
}
