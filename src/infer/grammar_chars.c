/* A range of characters is cut until all of each piece have UTF-8 of one shape: one class of bytes
 * behind the other. */
#include "infer/grammar_chars.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { SURROGATE_FIRST = 0xD800, SURROGATE_LAST = 0xDFFF, CONTINUATION_BITS = 6 };

void char_set_add(struct char_set *set, uint32_t first, uint32_t last)
{
    if (set->n == CHAR_RANGES_MAX) {
        set->full = true;
        return;
    }
    set->ranges[set->n].first = first;
    set->ranges[set->n++].last = last;
}

void char_set_add_set(struct char_set *set, const struct char_set *more)
{
    for (size_t i = 0; i < more->n; i++) {
        char_set_add(set, more->ranges[i].first, more->ranges[i].last);
    }
}

static int by_first(const void *a, const void *b)
{
    const struct char_range *x = a;
    const struct char_range *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Sorted, without overlaps. */
static void tidy(struct char_set *set)
{
    size_t n = 0;
    qsort(set->ranges, set->n, sizeof *set->ranges, by_first);
    for (size_t i = 0; i < set->n; i++) {
        const struct char_range range = set->ranges[i];
        if (n > 0 && range.first <= set->ranges[n - 1].last + 1) {
            if (range.last > set->ranges[n - 1].last) {
                set->ranges[n - 1].last = range.last;
            }
        } else {
            set->ranges[n++] = range;
        }
    }
    set->n = n;
}

void char_set_negate(struct char_set *set)
{
    struct char_set others = {.full = set->full};
    uint32_t next = 0;
    tidy(set);
    for (size_t i = 0; i < set->n; i++) {
        if (set->ranges[i].first > next) {
            char_set_add(&others, next, set->ranges[i].first - 1);
        }
        next = set->ranges[i].last + 1;
    }
    if (next <= CHAR_LAST) {
        char_set_add(&others, next, CHAR_LAST);
    }
    *set = others;
}

/* --- rules --- */

static void escaped(struct compiler *c, uint32_t rule, uint32_t character)
{
    static const char special[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    static const char hex[] = "0123456789abcdef";
    const char *at = character != 0 ? strchr(special, (int)character) : NULL;
    rules_begin(c->r, rule);
    rules_text(c->r, "\\");
    if (at != NULL) {
        rules_bytes(c->r, &letters[at - special], 1);
    } else {
        rules_text(c->r, "u00");
        rules_bytes(c->r, &hex[character >> 4], 1);
        rules_bytes(c->r, &hex[character & 15], 1);
    }
    rules_end(c->r);
}

/* What needs no escape goes into one class. */
static void put_ascii(struct compiler *c, uint32_t rule, const struct char_set *set)
{
    char plain[256];
    size_t n = 0;
    for (uint32_t at = 0; at < 128; at++) {
        bool in = false;
        for (size_t i = 0; i < set->n && !in; i++) {
            in = set->ranges[i].first <= at && at <= set->ranges[i].last;
        }
        if (in && (at < ' ' || at == '"' || at == '\\')) {
            escaped(c, rule, at);
        } else if (in && n > 0 && (uint32_t)plain[n - 1] + 1 == at) {
            plain[n - 1] = (char)at;
        } else if (in) {
            plain[n++] = (char)at;
            plain[n++] = (char)at;
        }
    }
    if (n > 0) {
        rules_begin(c->r, rule);
        rules_class(c->r, plain, n);
        rules_end(c->r);
    }
}

static void put_range(struct compiler *c, uint32_t rule, uint32_t first, uint32_t last)
{
    static const uint32_t ends[] = {0x7FF, SURROGATE_FIRST - 1, SURROGATE_LAST, 0xFFFF};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        if (first <= ends[i] && last > ends[i]) {
            put_range(c, rule, first, ends[i]);
            put_range(c, rule, ends[i] + 1, last);
            return;
        }
    }
    if (first >= SURROGATE_FIRST && last <= SURROGATE_LAST) {
        return;
    }
    const int more = last <= 0x7FF ? 1 : last <= 0xFFFF ? 2 : 3;
    for (int i = 1; i <= more; i++) {
        const uint32_t low_bits = (UINT32_C(1) << (CONTINUATION_BITS * i)) - 1;
        if ((first & ~low_bits) == (last & ~low_bits)) {
            continue;
        }
        if ((first & low_bits) != 0) {
            put_range(c, rule, first, first | low_bits);
            put_range(c, rule, (first | low_bits) + 1, last);
            return;
        }
        if ((last & low_bits) != low_bits) {
            put_range(c, rule, first, (last & ~low_bits) - 1);
            put_range(c, rule, last & ~low_bits, last);
            return;
        }
    }
    char low[4];
    char high[4];
    const size_t n = utf8_encode(first, low);
    (void)utf8_encode(last, high);
    rules_begin(c->r, rule);
    for (size_t i = 0; i < n; i++) {
        const char pair[2] = {low[i], high[i]};
        rules_class(c->r, pair, sizeof pair);
    }
    rules_end(c->r);
}

uint32_t char_set_rule(struct compiler *c, const struct char_set *given)
{
    struct char_set set = *given;
    const uint32_t rule = rules_new(c->r);
    tidy(&set);
    put_ascii(c, rule, &set);
    for (size_t i = 0; i < set.n; i++) {
        if (set.ranges[i].last >= 128) {
            put_range(c, rule, set.ranges[i].first >= 128 ? set.ranges[i].first : 128,
                      set.ranges[i].last);
        }
    }
    return rule;
}
