/* A context-free grammar over bytes, as it is being written. Private to the grammar's files.
 *
 * A rule has alternatives, an alternative is a run of elements in one array. Alternatives are
 * written one at a time, so the rules that one refers to are made before it is begun. The first
 * failure (too large, no memory) sticks and is told by rules_check.
 */
#ifndef INFER_GRAMMAR_RULES_H
#define INFER_GRAMMAR_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { RULES_MAX = 1 << 15, ALTERNATIVES_MAX = 1 << 16, ELEMENTS_MAX = 1 << 18, CLASSES_MAX = 512 };

enum element_kind { ELEMENT_END, ELEMENT_BYTE, ELEMENT_CLASS, ELEMENT_RULE };

struct element {
    enum element_kind kind;
    uint32_t value; /* the byte, or index of the class or rule */
};

struct byte_class {
    uint64_t bits[4];
};

struct alternative {
    uint32_t first; /* element */
    uint32_t next;  /* alternative of the same rule + 1; 0: none */
};

struct rules {
    struct element *elements;
    struct alternative *alternatives;
    uint32_t *heads; /* by rule: alternative + 1; 0: none */
    size_t n_elements, cap_elements, n_alternatives, cap_alternatives, n_rules, cap_rules;
    struct byte_class classes[CLASSES_MAX];
    size_t n_classes;
    uint8_t *nullable; /* by rule, when they are in order: whether it matches nothing at all, */
    uint32_t *ranks;   /* and a number that is lower than those of rules that it may begin with */
    struct err err;
};

void rules_release(struct rules *rules); /* safe on a zeroed struct */
int rules_check(const struct rules *rules, struct err *err) MUST_CHECK;

uint32_t rules_new(struct rules *rules); /* a rule without alternatives: it matches nothing */
void rules_begin(struct rules *rules, uint32_t rule);
void rules_bytes(struct rules *rules, const char *bytes, size_t n);
void rules_text(struct rules *rules, const char *text);
/* One byte of ranges: pairs of first and last, n bytes in all. */
void rules_class(struct rules *rules, const char *ranges, size_t n);
void rules_ref(struct rules *rules, uint32_t rule);
void rules_end(struct rules *rules);

/* A rule with one alternative: `of` between low and high times (high -1: any number). */
uint32_t rules_repeat(struct rules *rules, uint32_t of, int low, int high);

/* Takes away alternatives that can never be finished, so that every beginning has an end.
 * ERR_INVALID when nothing of `root` is left. */
int rules_prune(struct rules *rules, uint32_t root, struct err *err) MUST_CHECK;
/* Puts rules in an order in which each stands before those that it may begin with. ERR_INVALID when
 * one can come back to itself without a byte in between. Pruning does not disturb it. */
int rules_order(struct rules *rules, struct err *err) MUST_CHECK;

#endif
