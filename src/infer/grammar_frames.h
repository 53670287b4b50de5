/* Where rules go on when they have ended. Private to the grammar's files.
 *
 * A node is a place in an alternative (an element) together with a frame, and a frame is the set of
 * nodes where the alternative's rule goes on, for all the ways in which it was begun at one place
 * of the text: a stack whose tails are shared, and whose heads are, too. In a set no two nodes have
 * the same element, since (e, F) and (e, G) together take the same texts as (e, F and G): so a
 * schema may leave open which of several ways was taken at each of many depths, and a set is no
 * larger than the grammar, where the ways themselves would double with every depth.
 */
#ifndef INFER_GRAMMAR_FRAMES_H
#define INFER_GRAMMAR_FRAMES_H

#include <stdbool.h>

#include "infer/grammar_sets.h"

/* A node is a number, so that it can stand in a set: by element, the end of the text first. */
#define NODE_END UINT64_C(0)
static inline uint64_t node_of(uint32_t element, uint32_t frame)
{
    return ((uint64_t)element + 1) << 32 | frame;
}
static inline uint32_t node_element(uint64_t node)
{
    return (uint32_t)(node >> 32) - 1;
}
static inline uint32_t node_frame(uint64_t node)
{
    return (uint32_t)node;
}

struct frames {
    struct key_sets sets;
    struct key_sets pairs; /* of frames that were put together: each a set of one number */
    uint32_t *unions;      /* what became of each pair */
    size_t cap_unions;
    uint64_t *work; /* sets under construction, one behind the other */
    size_t n_work, cap_work;
};

/* Puts nodes with the same element together; *n becomes how many are left, sorted. */
int frames_merge(struct frames *frames, uint64_t *nodes, size_t *n, struct err *err) MUST_CHECK;
/* The frame of these nodes, which are put together in place. */
int frames_intern(struct frames *frames, uint64_t *nodes, size_t n, uint32_t *frame,
                  struct err *err) MUST_CHECK;
/* Whether so many were made that it is time to forget. */
bool frames_are_many(const struct frames *frames);
/* Forgets all but what these nodes stand on; they become what they are called now, sorted. */
int frames_keep(struct frames *frames, uint64_t *nodes, size_t n, struct err *err) MUST_CHECK;
void frames_release(struct frames *frames); /* safe on a zeroed struct */

#endif
