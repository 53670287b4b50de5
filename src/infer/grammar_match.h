/* The automaton that a grammar becomes while it is used. Private to the grammar's files.
 *
 * A node is a place in an alternative together with the node where its rule goes on: a stack with
 * shared tails. A state is the set of nodes that stand before a byte, and perhaps the end. Nodes,
 * states and steps between states are made when first met and kept, so that a step is a look-up.
 */
#ifndef INFER_GRAMMAR_MATCH_H
#define INFER_GRAMMAR_MATCH_H

#include "infer/grammar.h"
#include "infer/grammar_rules.h"

enum { STATE_DEAD = 0, STEP_UNKNOWN = -1, NODE_END = 0, SET_NODES_MAX = 1 << 12 };

struct match_node {
    uint32_t element, parent;
    uint32_t seen; /* round in which it was looked at last */
};

struct match_state {
    uint32_t first, n; /* in members, sorted */
    int32_t *steps;    /* 256; NULL until needed */
    uint64_t *mask;    /* grammar.c's; NULL until needed */
};

struct matcher {
    struct rules rules;
    struct match_node *nodes; /* nodes[NODE_END] is the end of the text */
    struct match_state *states;
    uint32_t *members;                  /* nodes of all states */
    uint32_t *node_table, *state_table; /* hash tables of index + 1 */
    size_t n_nodes, cap_nodes, n_states, cap_states, n_members, cap_members;
    size_t node_slots, state_slots;
    uint32_t *work;  /* SET_NODES_MAX nodes to be looked at, */
    uint32_t *found; /* and those found for the state under construction */
    size_t n_work, n_found;
    uint32_t round;
};

/* Takes the rules. *state is where texts of `root` begin. */
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
/* Forgets all states but this one, whose new number it gives; masks are freed. */
int matcher_forget(struct matcher *m, uint32_t *state, struct err *err) MUST_CHECK;

#endif
