/* A hash table from names to small numbers, for tensors and metadata keys. Private to this room.
 *
 * Sized once for n_max entries; entries are never removed. Names are borrowed and must outlive the
 * table. One writer, then any number of readers.
 */
#ifndef FORMATS_NAME_INDEX_H
#define FORMATS_NAME_INDEX_H

#include <stdint.h>

#include "base/err.h"

enum { NAME_INDEX_NONE = -1 };

struct name_index {
    struct name_slot *slots; /* a power of two of them, at most half full */
    uint32_t mask;
};

int name_index_init(struct name_index *index, uint32_t n_max, struct err *err) MUST_CHECK;
void name_index_release(struct name_index *index); /* safe on a zeroed struct */
/* Adds name → id unless the name is there; returns the id that the name has then: another than
 * `id` means a duplicate. ids must be ≥ 0. At most n_max entries (asserted). */
int32_t name_index_add(struct name_index *index, const char *name, int32_t id);
/* The id of name, or NAME_INDEX_NONE. */
int32_t name_index_find(const struct name_index *index, const char *name);

#endif
