/* The automaton that a grammar becomes while it is used. Private to the grammar's files.
 *
 * A state is the set of nodes (grammar_frames.h) that stand before a byte, and perhaps the end.
 * Frames, states and steps between states are made when first met and kept, so that a step is a
 * look-up.
 */
#ifndef INFER_GRAMMAR_MATCH_H
#define INFER_GRAMMAR_MATCH_H

#include "infer/grammar.h"
#include "infer/grammar_frames.h"
#include "infer/grammar_rules.h"

enum { STATE_DEAD = 0, STEP_UNKNOWN = -1, SET_NODES_MAX = 1 << 12 };

struct match_state {
    int32_t *steps; /* 256; NULL until needed */
    uint64_t *mask; /* grammar.c's; NULL until needed */
};

/* What was looked at in a round. */
struct match_seen {
    uint64_t node;
    uint32_t round;
};

/* Where a rule that was begun in this round goes on: one of a list. */
struct match_return {
    uint64_t node;
    uint32_t next; /* return + 1; 0: none */
};

struct matcher {
    struct rules rules;
    struct frames frames;
    struct key_sets sets; /* nodes of states */
    struct match_state *states;
    size_t n_states, cap_states; /* as many as sets */
    /* the state under construction: */
    uint64_t *work, *found; /* SET_NODES_MAX nodes to be looked at, and those found */
    size_t n_work, n_found;
    struct match_seen *seen; /* hash table */
    size_t n_seen;
    uint32_t round;
    uint32_t *begun; /* rules, a heap by rank */
    size_t n_begun;
    uint32_t *heads; /* by rule: return + 1; 0: none */
    struct match_return *returns;
    size_t n_returns, cap_returns;
    uint64_t *frame; /* nodes of the one that is made */
    size_t cap_frame;
};

/* Takes the rules, which are in order. *state is where texts of `root` begin. */
int matcher_init(struct matcher *m, struct rules *rules, uint32_t root, uint32_t *state,
                 struct err *err) MUST_CHECK;
void matcher_release(struct matcher *m); /* safe on a zeroed struct */
/* The state after one byte more; STATE_DEAD when none is. */
int matcher_step(struct matcher *m, uint32_t state, uint8_t byte, uint32_t *next,
                 struct err *err) MUST_CHECK;
/* The state after any one of the bytes in `set`, `one` being one of them, where it is the same for
 * all of them; STATE_DEAD else. */
int matcher_step_any(struct matcher *m, uint32_t state, const struct byte_class *set, uint8_t one,
                     uint32_t *next, struct err *err) MUST_CHECK;
bool matcher_may_end(const struct matcher *m, uint32_t state);
bool matcher_must_end(const struct matcher *m, uint32_t state);
/* Whether it is time to forget. */
bool matcher_is_full(const struct matcher *m);
/* Forgets all states but this one, whose new number it gives; masks are freed. */
int matcher_forget(struct matcher *m, uint32_t *state, struct err *err) MUST_CHECK;

#endif
