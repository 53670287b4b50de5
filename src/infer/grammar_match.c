/* A node's parent is made before it, so parents have lower numbers: that is what lets
 * matcher_forget carry nodes over in one pass. */
#include "infer/grammar_match.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { NODES_MAX = 1 << 21, MEMBERS_MAX = 1 << 23, SLOTS_FIRST = 1 << 10 };

static int too_large(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the schema leaves too many ways open at once");
}

static int grow(void **items, size_t *cap, size_t n, size_t size, size_t max, struct err *err)
{
    if (n <= *cap) {
        return 0;
    }
    size_t more = *cap > 0 ? *cap : 256;
    while (more < n) {
        more *= 2;
    }
    if (more > max) {
        return too_large(err);
    }
    void *grown = mem_realloc(*items, more, size);
    if (grown == NULL) {
        return mem_err(err, more * size);
    }
    *items = grown;
    *cap = more;
    return 0;
}

static size_t mix(uint64_t x)
{
    x *= UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(x ^ (x >> 29));
}

static size_t node_hash(uint32_t element, uint32_t parent)
{
    return mix(((uint64_t)element << 32) | parent);
}

static size_t state_hash(const uint32_t *nodes, size_t n)
{
    size_t hash = n;
    for (size_t i = 0; i < n; i++) {
        hash = mix(hash ^ nodes[i]);
    }
    return hash;
}

/* A table with twice the slots. */
static int grow_table(uint32_t **table, size_t *slots, struct err *err)
{
    const size_t more = *slots > 0 ? 2 * *slots : SLOTS_FIRST;
    uint32_t *grown = mem_calloc(more, sizeof *grown);
    if (grown == NULL) {
        return mem_err(err, more * sizeof *grown);
    }
    mem_free(*table);
    *table = grown;
    *slots = more;
    return 0;
}

static void enter(uint32_t *table, size_t slots, size_t hash, uint32_t value)
{
    size_t at = hash & (slots - 1);
    while (table[at] != 0) {
        at = (at + 1) & (slots - 1);
    }
    table[at] = value;
}

static int intern_node(struct matcher *m, uint32_t element, uint32_t parent, uint32_t *out,
                       struct err *err)
{
    if (2 * (m->n_nodes + 1) > m->node_slots) {
        const int rc = grow_table(&m->node_table, &m->node_slots, err);
        if (rc != 0) {
            return rc;
        }
        for (size_t i = 1; i < m->n_nodes; i++) {
            enter(m->node_table, m->node_slots, node_hash(m->nodes[i].element, m->nodes[i].parent),
                  (uint32_t)i + 1);
        }
    }
    size_t at = node_hash(element, parent) & (m->node_slots - 1);
    for (; m->node_table[at] != 0; at = (at + 1) & (m->node_slots - 1)) {
        const struct match_node *node = &m->nodes[m->node_table[at] - 1];
        if (node->element == element && node->parent == parent) {
            *out = m->node_table[at] - 1;
            return 0;
        }
    }
    const int rc =
        grow((void **)&m->nodes, &m->cap_nodes, m->n_nodes + 1, sizeof *m->nodes, NODES_MAX, err);
    if (rc != 0) {
        return rc;
    }
    const struct match_node node = {element, parent, 0};
    m->nodes[m->n_nodes] = node;
    m->node_table[at] = (uint32_t)m->n_nodes + 1;
    *out = (uint32_t)m->n_nodes++;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The state of m->found. */
static int intern_state(struct matcher *m, uint32_t *out, struct err *err)
{
    qsort(m->found, m->n_found, sizeof *m->found, by_number);
    if (2 * (m->n_states + 1) > m->state_slots) {
        const int rc = grow_table(&m->state_table, &m->state_slots, err);
        if (rc != 0) {
            return rc;
        }
        for (size_t i = 0; i < m->n_states; i++) {
            enter(m->state_table, m->state_slots,
                  state_hash(m->members + m->states[i].first, m->states[i].n), (uint32_t)i + 1);
        }
    }
    size_t at = state_hash(m->found, m->n_found) & (m->state_slots - 1);
    for (; m->state_table[at] != 0; at = (at + 1) & (m->state_slots - 1)) {
        const struct match_state *state = &m->states[m->state_table[at] - 1];
        if (state->n == m->n_found &&
            memcmp(m->members + state->first, m->found, m->n_found * sizeof *m->found) == 0) {
            *out = m->state_table[at] - 1;
            return 0;
        }
    }
    int rc = grow((void **)&m->states, &m->cap_states, m->n_states + 1, sizeof *m->states,
                  GRAMMAR_STATES_MAX, err);
    if (rc == 0) {
        rc = grow((void **)&m->members, &m->cap_members, m->n_members + m->n_found + 1,
                  sizeof *m->members, MEMBERS_MAX, err);
    }
    if (rc != 0) {
        return rc;
    }
    const struct match_state state = {(uint32_t)m->n_members, (uint32_t)m->n_found, NULL, NULL};
    memcpy(m->members + m->n_members, m->found, m->n_found * sizeof *m->found);
    m->n_members += m->n_found;
    m->states[m->n_states] = state;
    m->state_table[at] = (uint32_t)m->n_states + 1;
    *out = (uint32_t)m->n_states++;
    return 0;
}

static int look_at(struct matcher *m, uint32_t node, struct err *err)
{
    if (m->nodes[node].seen == m->round) {
        return 0;
    }
    if (m->n_work == SET_NODES_MAX) {
        return too_large(err);
    }
    m->nodes[node].seen = m->round;
    m->work[m->n_work++] = node;
    return 0;
}

/* A rule stands there: look at the beginning of each alternative, to go on behind it. */
static int enter_rule(struct matcher *m, uint32_t node, struct err *err)
{
    const uint32_t element = m->nodes[node].element;
    uint32_t behind = m->nodes[node].parent;
    int rc = 0;
    if (m->rules.elements[element + 1].kind != ELEMENT_END) {
        rc = intern_node(m, element + 1, behind, &behind, err);
    }
    for (uint32_t a = m->rules.heads[m->rules.elements[element].value]; a != 0 && rc == 0;
         a = m->rules.alternatives[a - 1].next) {
        uint32_t begin;
        rc = intern_node(m, m->rules.alternatives[a - 1].first, behind, &begin, err);
        rc = rc == 0 ? look_at(m, begin, err) : rc;
    }
    return rc;
}

/* From the nodes in work to those that stand before a byte or at the end. */
static int close_over(struct matcher *m, uint32_t *state, struct err *err)
{
    int rc = 0;
    while (m->n_work > 0 && rc == 0) {
        const uint32_t node = m->work[--m->n_work];
        const enum element_kind kind =
            node == NODE_END ? ELEMENT_BYTE : m->rules.elements[m->nodes[node].element].kind;
        if (kind == ELEMENT_END) {
            rc = look_at(m, m->nodes[node].parent, err);
        } else if (kind == ELEMENT_RULE) {
            rc = enter_rule(m, node, err);
        } else if (m->n_found == SET_NODES_MAX) {
            rc = too_large(err);
        } else {
            m->found[m->n_found++] = node;
        }
    }
    return rc == 0 ? intern_state(m, state, err) : rc;
}

static void begin_round(struct matcher *m)
{
    m->round++;
    m->n_work = 0;
    m->n_found = 0;
}

/* The empty state is number STATE_DEAD, the end of the text node NODE_END. */
static int make_first(struct matcher *m, struct err *err)
{
    uint32_t dead;
    int rc = grow((void **)&m->nodes, &m->cap_nodes, 1, sizeof *m->nodes, NODES_MAX, err);
    if (rc != 0) {
        return rc;
    }
    memset(&m->nodes[NODE_END], 0, sizeof m->nodes[NODE_END]);
    m->n_nodes = 1;
    begin_round(m);
    return intern_state(m, &dead, err);
}

int matcher_init(struct matcher *m, struct rules *rules, uint32_t root, uint32_t *state,
                 struct err *err)
{
    memset(m, 0, sizeof *m);
    m->rules = *rules;
    memset(rules, 0, sizeof *rules);
    m->work = mem_calloc(SET_NODES_MAX, sizeof *m->work);
    m->found = mem_calloc(SET_NODES_MAX, sizeof *m->found);
    int rc = m->work != NULL && m->found != NULL ? make_first(m, err) : mem_err(err, SET_NODES_MAX);
    begin_round(m);
    for (uint32_t a = rc == 0 ? m->rules.heads[root] : 0; a != 0 && rc == 0;
         a = m->rules.alternatives[a - 1].next) {
        uint32_t begin;
        rc = intern_node(m, m->rules.alternatives[a - 1].first, NODE_END, &begin, err);
        rc = rc == 0 ? look_at(m, begin, err) : rc;
    }
    return rc == 0 ? close_over(m, state, err) : rc;
}

static void free_states(struct matcher *m)
{
    for (size_t i = 0; i < m->n_states; i++) {
        mem_free(m->states[i].steps);
        mem_free(m->states[i].mask);
    }
    m->n_states = 0;
    m->n_members = 0;
}

void matcher_release(struct matcher *m)
{
    free_states(m);
    rules_release(&m->rules);
    mem_free(m->nodes);
    mem_free(m->states);
    mem_free(m->members);
    mem_free(m->node_table);
    mem_free(m->state_table);
    mem_free(m->work);
    mem_free(m->found);
    memset(m, 0, sizeof *m);
}

static bool takes(const struct matcher *m, uint32_t node, uint8_t byte)
{
    const struct element *e = &m->rules.elements[m->nodes[node].element];
    if (node == NODE_END) {
        return false;
    }
    return e->kind == ELEMENT_BYTE
               ? e->value == byte
               : (m->rules.classes[e->value].bits[byte / 64] >> (byte % 64) & 1) != 0;
}

static int make_step(struct matcher *m, uint32_t state, uint8_t byte, uint32_t *next,
                     struct err *err)
{
    int rc = 0;
    begin_round(m);
    for (uint32_t i = 0; i < m->states[state].n && rc == 0; i++) {
        const uint32_t node = m->members[m->states[state].first + i];
        uint32_t after;
        if (takes(m, node, byte)) {
            rc = intern_node(m, m->nodes[node].element + 1, m->nodes[node].parent, &after, err);
            rc = rc == 0 ? look_at(m, after, err) : rc;
        }
    }
    return rc == 0 ? close_over(m, next, err) : rc;
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
static bool takes_alike(const struct matcher *m, uint32_t node, const struct byte_class *set)
{
    const struct element *e = &m->rules.elements[m->nodes[node].element];
    bool all = true;
    bool none = true;
    if (node == NODE_END) {
        return true;
    }
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
    for (uint32_t i = 0; i < m->states[state].n; i++) {
        if (!takes_alike(m, m->members[m->states[state].first + i], set)) {
            *next = STATE_DEAD;
            return 0;
        }
    }
    return matcher_step(m, state, one, next, err);
}

bool matcher_may_end(const struct matcher *m, uint32_t state)
{
    return m->states[state].n > 0 && m->members[m->states[state].first] == NODE_END;
}

bool matcher_must_end(const struct matcher *m, uint32_t state)
{
    return m->states[state].n == 1 && matcher_may_end(m, state);
}

/* Interns old nodes that `keep` marks into the emptied tables; keep becomes their new numbers. */
static int carry_over(struct matcher *m, const struct match_node *old, size_t n_old, uint32_t *keep,
                      struct err *err)
{
    int rc = make_first(m, err);
    for (size_t i = n_old; i-- > 1;) {
        if (keep[i] != 0) {
            keep[old[i].parent] = 1;
        }
    }
    keep[NODE_END] = NODE_END;
    for (size_t i = 1; i < n_old && rc == 0; i++) {
        if (keep[i] != 0) {
            rc = intern_node(m, old[i].element, keep[old[i].parent], &keep[i], err);
        }
    }
    return rc;
}

int matcher_forget(struct matcher *m, uint32_t *state, struct err *err)
{
    struct match_node *old = m->nodes;
    const size_t n_old = m->n_nodes;
    const uint32_t n = m->states[*state].n;
    uint32_t *keep = mem_calloc(n_old, sizeof *keep);
    uint32_t *members = mem_calloc((size_t)n + 1, sizeof *members);
    if (keep == NULL || members == NULL) {
        mem_free(keep);
        mem_free(members);
        return mem_err(err, n_old * sizeof *keep);
    }
    memcpy(members, m->members + m->states[*state].first, n * sizeof *members);
    for (uint32_t i = 0; i < n; i++) {
        keep[members[i]] = 1;
    }
    free_states(m);
    m->nodes = NULL;
    m->n_nodes = 0;
    m->cap_nodes = 0;
    memset(m->node_table, 0, m->node_slots * sizeof *m->node_table);
    memset(m->state_table, 0, m->state_slots * sizeof *m->state_table);
    int rc = carry_over(m, old, n_old, keep, err);
    if (rc == 0) {
        begin_round(m);
        for (uint32_t i = 0; i < n; i++) {
            m->found[m->n_found++] = keep[members[i]];
        }
        rc = intern_state(m, state, err);
    }
    mem_free(old);
    mem_free(keep);
    mem_free(members);
    return rc;
}
