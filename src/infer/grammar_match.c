/* A round makes one state, in two steps.
 *
 * First what was there before: behind the byte a rule may have ended, and the nodes of its frame go
 * on; those of them that stand before rules begin these. Then the rules that were begun, a caller
 * before what it begins with (rules_order): so each has all its returns when its frame is made, and
 * is looked at once, however many ways lead to it. A rule that may match nothing is also passed
 * over where it stands; its empty alternative is not followed any further. */
#include "infer/grammar_match.h"

#include <string.h>

#include "base/mem.h"

enum { RETURNS_MAX = 1 << 20, SEEN_SLOTS = 2 * SET_NODES_MAX };

static int too_large(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the schema leaves too many ways open at once");
}

static const struct element *element_of(const struct matcher *m, uint64_t node)
{
    return &m->rules.elements[node_element(node)];
}

/* --- a round --- */

static void begin_round(struct matcher *m)
{
    for (size_t i = 0; i < m->n_begun; i++) { /* of a round that failed */
        m->heads[m->begun[i]] = 0;
    }
    m->round++;
    m->n_work = 0;
    m->n_found = 0;
    m->n_seen = 0;
    m->n_begun = 0;
    m->n_returns = 0;
}

static int find(struct matcher *m, uint64_t node, struct err *err)
{
    if (m->n_found == SET_NODES_MAX) {
        return too_large(err);
    }
    m->found[m->n_found++] = node;
    return 0;
}

/* Puts a node to work, once a round. */
static int look_at(struct matcher *m, uint64_t node, struct err *err)
{
    size_t at = grammar_mix(node) & (SEEN_SLOTS - 1);
    for (; m->seen[at].round == m->round; at = (at + 1) & (SEEN_SLOTS - 1)) {
        if (m->seen[at].node == node) {
            return 0;
        }
    }
    if (m->n_seen == SET_NODES_MAX) {
        return too_large(err);
    }
    m->n_seen++;
    m->seen[at] = (struct match_seen){node, m->round};
    m->work[m->n_work++] = node;
    return 0;
}

static bool is_before(const struct matcher *m, size_t a, size_t b)
{
    return m->rules.ranks[m->begun[a]] < m->rules.ranks[m->begun[b]];
}

static void swap_begun(struct matcher *m, size_t a, size_t b)
{
    const uint32_t rule = m->begun[a];
    m->begun[a] = m->begun[b];
    m->begun[b] = rule;
}

static void push_begun(struct matcher *m, uint32_t rule)
{
    size_t at = m->n_begun++;
    m->begun[at] = rule;
    for (; at > 0 && is_before(m, at, (at - 1) / 2); at = (at - 1) / 2) {
        swap_begun(m, at, (at - 1) / 2);
    }
}

static uint32_t pop_begun(struct matcher *m)
{
    const uint32_t rule = m->begun[0];
    m->begun[0] = m->begun[--m->n_begun];
    for (size_t at = 0, child = 1; child < m->n_begun; child = 2 * at + 1) {
        child += child + 1 < m->n_begun && is_before(m, child + 1, child);
        if (is_before(m, at, child)) {
            break;
        }
        swap_begun(m, at, child);
        at = child;
    }
    return rule;
}

static int add_return(struct matcher *m, uint32_t rule, uint64_t node, struct err *err)
{
    const int rc = grammar_grow((void **)&m->returns, &m->cap_returns, m->n_returns + 1,
                                sizeof *m->returns, RETURNS_MAX, err);
    if (rc != 0) {
        return rc;
    }
    if (m->heads[rule] == 0) {
        push_begun(m, rule);
    }
    m->returns[m->n_returns] = (struct match_return){node, m->heads[rule]};
    m->heads[rule] = (uint32_t)++m->n_returns;
    return 0;
}

/* The rule that stands there begins, to go on behind it: where nothing is left, as its caller. */
static int begin_rule(struct matcher *m, uint32_t element, uint32_t frame, struct err *err)
{
    const uint32_t rule = m->rules.elements[element].value;
    if (m->rules.elements[element + 1].kind != ELEMENT_END) {
        return add_return(m, rule, node_of(element + 1, frame), err);
    }
    const struct key_set set = m->frames.sets.sets[frame];
    int rc = 0;
    for (uint32_t i = 0; i < set.n && rc == 0; i++) {
        rc = add_return(m, rule, m->frames.sets.keys[set.first + i], err);
    }
    return rc;
}

static int go_back(struct matcher *m, uint32_t frame, struct err *err)
{
    const struct key_set set = m->frames.sets.sets[frame];
    int rc = 0;
    for (uint32_t i = 0; i < set.n && rc == 0; i++) {
        rc = look_at(m, m->frames.sets.keys[set.first + i], err);
    }
    return rc;
}

/* What was there before. */
static int follow_work(struct matcher *m, struct err *err)
{
    int rc = 0;
    while (m->n_work > 0 && rc == 0) {
        const uint64_t node = m->work[--m->n_work];
        const struct element *e = node == NODE_END ? NULL : element_of(m, node);
        if (e != NULL && e->kind == ELEMENT_END) {
            rc = go_back(m, node_frame(node), err);
        } else if (e != NULL && e->kind == ELEMENT_RULE) {
            rc = begin_rule(m, node_element(node), node_frame(node), err);
            if (rc == 0 && m->rules.nullable[e->value]) {
                rc = look_at(m, node_of(node_element(node) + 1, node_frame(node)), err);
            }
        } else {
            rc = find(m, node, err);
        }
    }
    return rc;
}

static int make_frame(struct matcher *m, uint32_t rule, uint32_t *frame, struct err *err)
{
    size_t n = 0;
    int rc = 0;
    for (uint32_t at = m->heads[rule]; at != 0 && rc == 0; at = m->returns[at - 1].next) {
        rc = grammar_grow((void **)&m->frame, &m->cap_frame, n + 1, sizeof *m->frame, RETURNS_MAX,
                          err);
        if (rc == 0) {
            m->frame[n++] = m->returns[at - 1].node;
        }
    }
    m->heads[rule] = 0;
    return rc == 0 ? frames_intern(&m->frames, m->frame, n, frame, err) : rc;
}

/* The beginning of an alternative. */
static int begin_alternative(struct matcher *m, uint32_t first, uint32_t frame, struct err *err)
{
    int rc = 0;
    for (uint32_t at = first; rc == 0; at++) {
        const struct element *e = &m->rules.elements[at];
        if (e->kind == ELEMENT_END) {
            break;
        }
        if (e->kind != ELEMENT_RULE) {
            return find(m, node_of(at, frame), err);
        }
        rc = begin_rule(m, at, frame, err);
        if (!m->rules.nullable[e->value]) {
            break;
        }
    }
    return rc;
}

static int follow_begun(struct matcher *m, struct err *err)
{
    int rc = 0;
    while (m->n_begun > 0 && rc == 0) {
        const uint32_t rule = pop_begun(m);
        uint32_t frame = 0;
        rc = make_frame(m, rule, &frame, err);
        for (uint32_t a = m->rules.heads[rule]; a != 0 && rc == 0;
             a = m->rules.alternatives[a - 1].next) {
            rc = begin_alternative(m, m->rules.alternatives[a - 1].first, frame, err);
        }
    }
    return rc;
}

/* The state of m->found, which is merged. */
static int intern_state(struct matcher *m, uint32_t *state, struct err *err)
{
    int rc = grammar_grow((void **)&m->states, &m->cap_states, m->n_states + 1, sizeof *m->states,
                          GRAMMAR_STATES_MAX, err);
    rc = rc == 0 ? key_sets_intern(&m->sets, m->found, m->n_found, GRAMMAR_STATES_MAX, state, err)
                 : rc;
    if (rc == 0 && *state == m->n_states) {
        m->states[m->n_states++] = (struct match_state){NULL, NULL};
    }
    return rc;
}

/* From the nodes in work to the state of those that stand before a byte or at the end. */
static int end_round(struct matcher *m, uint32_t *state, struct err *err)
{
    int rc = follow_work(m, err);
    rc = rc == 0 ? follow_begun(m, err) : rc;
    rc = rc == 0 ? frames_merge(&m->frames, m->found, &m->n_found, err) : rc;
    return rc == 0 ? intern_state(m, state, err) : rc;
}

/* --- the automaton --- */

static int make_tables(struct matcher *m, struct err *err)
{
    m->work = mem_calloc(SET_NODES_MAX, sizeof *m->work);
    m->found = mem_calloc(SET_NODES_MAX, sizeof *m->found);
    m->seen = mem_calloc(SEEN_SLOTS, sizeof *m->seen);
    m->begun = mem_calloc(m->rules.n_rules + 1, sizeof *m->begun);
    m->heads = mem_calloc(m->rules.n_rules + 1, sizeof *m->heads);
    return m->work != NULL && m->found != NULL && m->seen != NULL && m->begun != NULL &&
                   m->heads != NULL
               ? 0
               : mem_err(err, SET_NODES_MAX);
}

int matcher_init(struct matcher *m, struct rules *rules, uint32_t root, uint32_t *state,
                 struct err *err)
{
    uint32_t dead;
    memset(m, 0, sizeof *m);
    m->rules = *rules;
    memset(rules, 0, sizeof *rules);
    int rc = make_tables(m, err);
    if (rc == 0) {
        begin_round(m);
        rc = intern_state(m, &dead, err); /* the empty one is STATE_DEAD */
    }
    if (rc == 0) {
        begin_round(m);
        rc = add_return(m, root, NODE_END, err);
    }
    if (rc == 0 && m->rules.nullable[root]) {
        rc = look_at(m, NODE_END, err);
    }
    return rc == 0 ? end_round(m, state, err) : rc;
}

static void free_states(struct matcher *m)
{
    for (size_t i = 0; i < m->n_states; i++) {
        mem_free(m->states[i].steps);
        mem_free(m->states[i].mask);
    }
    m->n_states = 0;
}

void matcher_release(struct matcher *m)
{
    free_states(m);
    rules_release(&m->rules);
    frames_release(&m->frames);
    key_sets_release(&m->sets);
    mem_free(m->states);
    mem_free(m->work);
    mem_free(m->found);
    mem_free(m->seen);
    mem_free(m->begun);
    mem_free(m->heads);
    mem_free(m->returns);
    mem_free(m->frame);
    memset(m, 0, sizeof *m);
}

static bool takes(const struct matcher *m, uint64_t node, uint8_t byte)
{
    if (node == NODE_END) {
        return false;
    }
    const struct element *e = element_of(m, node);
    return e->kind == ELEMENT_BYTE
               ? e->value == byte
               : (m->rules.classes[e->value].bits[byte / 64] >> (byte % 64) & 1) != 0;
}

static int make_step(struct matcher *m, uint32_t state, uint8_t byte, uint32_t *next,
                     struct err *err)
{
    const struct key_set set = m->sets.sets[state];
    int rc = 0;
    begin_round(m);
    for (uint32_t i = 0; i < set.n && rc == 0; i++) {
        const uint64_t node = m->sets.keys[set.first + i];
        if (takes(m, node, byte)) {
            rc = look_at(m, node_of(node_element(node) + 1, node_frame(node)), err);
        }
    }
    return rc == 0 ? end_round(m, next, err) : rc;
}

int matcher_step(struct matcher *m, uint32_t state, uint8_t byte, uint32_t *next, struct err *err)
{
    if (m->states[state].steps == NULL) {
        m->states[state].steps = mem_alloc(256 * sizeof(int32_t));
        if (m->states[state].steps == NULL) {
            return mem_err(err, 256 * sizeof(int32_t));
        }
        memset(m->states[state].steps, 0xff, 256 * sizeof(int32_t)); /* STEP_UNKNOWN */
    }
    if (m->states[state].steps[byte] != STEP_UNKNOWN) {
        *next = (uint32_t)m->states[state].steps[byte];
        return 0;
    }
    const int rc = make_step(m, state, byte, next, err);
    if (rc == 0) {
        m->states[state].steps[byte] = (int32_t)*next;
    }
    return rc;
}

/* Whether the node takes all bytes of the set or none. */
static bool takes_alike(const struct matcher *m, uint64_t node, const struct byte_class *set)
{
    bool all = true;
    bool none = true;
    if (node == NODE_END) {
        return true;
    }
    const struct element *e = element_of(m, node);
    if (e->kind == ELEMENT_BYTE) {
        return (set->bits[e->value / 64] >> (e->value % 64) & 1) == 0;
    }
    for (size_t i = 0; i < sizeof set->bits / sizeof set->bits[0]; i++) {
        const uint64_t both = m->rules.classes[e->value].bits[i] & set->bits[i];
        all = all && both == set->bits[i];
        none = none && both == 0;
    }
    return all || none;
}

int matcher_step_any(struct matcher *m, uint32_t state, const struct byte_class *set, uint8_t one,
                     uint32_t *next, struct err *err)
{
    const struct key_set nodes = m->sets.sets[state];
    for (uint32_t i = 0; i < nodes.n; i++) {
        if (!takes_alike(m, m->sets.keys[nodes.first + i], set)) {
            *next = STATE_DEAD;
            return 0;
        }
    }
    return matcher_step(m, state, one, next, err);
}

bool matcher_may_end(const struct matcher *m, uint32_t state)
{
    return m->sets.sets[state].n > 0 && m->sets.keys[m->sets.sets[state].first] == NODE_END;
}

bool matcher_must_end(const struct matcher *m, uint32_t state)
{
    return m->sets.sets[state].n == 1 && matcher_may_end(m, state);
}

bool matcher_is_full(const struct matcher *m)
{
    return m->n_states > GRAMMAR_STATES_MAX / 2 || frames_are_many(&m->frames);
}

int matcher_forget(struct matcher *m, uint32_t *state, struct err *err)
{
    const struct key_set set = m->sets.sets[*state];
    uint32_t dead;
    begin_round(m);
    free_states(m);
    if (set.n > 0) {
        memcpy(m->found, m->sets.keys + set.first, set.n * sizeof *m->found);
    }
    key_sets_clear(&m->sets);
    int rc = frames_keep(&m->frames, m->found, set.n, err);
    rc = rc == 0 ? intern_state(m, &dead, err) : rc;
    m->n_found = set.n;
    return rc == 0 ? intern_state(m, state, err) : rc;
}
