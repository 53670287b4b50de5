/* Which two characters stand side by side inside some token.
 *
 * Merging never joins two characters that no token has as neighbours, so a piece may be cut there
 * and its parts merged alone: the same tokens, in short rows instead of one as long as the text.
 * A set of hashed pairs; a pair that is not in it surely is in no token, one that is may be.
 * Immutable once filled.
 */
#ifndef TEXT_EDGES_H
#define TEXT_EDGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct edges {
    uint64_t *bits; /* NULL: nothing is known, so nothing may be cut */
    uint32_t shift; /* 64 − log2 of the number of bits */
};

/* For the pairs of about n_tokens tokens. */
int edges_init(struct edges *edges, size_t n_tokens, struct err *err) MUST_CHECK;
void edges_release(struct edges *edges); /* safe on a zeroed struct */
size_t edges_bytes(const struct edges *edges);
/* Adds the pairs of valid UTF-8. */
void edges_add(struct edges *edges, const char *text, size_t n);

static inline uint64_t edges_slot(const struct edges *edges, uint32_t left, uint32_t right)
{
    return ((uint64_t)left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15) >> edges->shift;
}

/* Whether the pair may be inside a token. */
static inline bool edges_joined(const struct edges *edges, uint32_t left, uint32_t right)
{
    uint64_t slot = edges_slot(edges, left, right);

    return (edges->bits[slot / 64] >> slot % 64 & 1) != 0;
}

#endif
