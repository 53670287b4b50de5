#include "infer/grammar_rules.h"

#include <string.h>

#include "base/mem.h"

void rules_release(struct rules *r)
{
    mem_free(r->elements);
    mem_free(r->alternatives);
    mem_free(r->heads);
    mem_free(r->nullable);
    mem_free(r->ranks);
    memset(r, 0, sizeof *r);
}

int rules_check(const struct rules *r, struct err *err)
{
    return r->err.code == ERR_NONE ? 0 : err_set(err, r->err.code, "%s", r->err.message);
}

/* Room for one item more in an array that may hold `max`. */
static bool grow(struct rules *r, void **items, size_t *cap, size_t n, size_t size, size_t max)
{
    if (r->err.code != ERR_NONE) {
        return false;
    }
    if (n < *cap) {
        return true;
    }
    if (n >= max) {
        (void)err_set(&r->err, ERR_TOO_LARGE, "the schema makes a grammar of more than %zu parts",
                      max);
        return false;
    }
    const size_t more = *cap > 0 ? 2 * *cap : 256;
    void *grown = mem_realloc(*items, more, size);
    if (grown == NULL) {
        (void)mem_err(&r->err, more * size);
        return false;
    }
    *items = grown;
    *cap = more;
    return true;
}

static void put(struct rules *r, enum element_kind kind, uint32_t value)
{
    if (grow(r, (void **)&r->elements, &r->cap_elements, r->n_elements, sizeof *r->elements,
             ELEMENTS_MAX)) {
        r->elements[r->n_elements].kind = kind;
        r->elements[r->n_elements++].value = value;
    }
}

uint32_t rules_new(struct rules *r)
{
    if (!grow(r, (void **)&r->heads, &r->cap_rules, r->n_rules, sizeof *r->heads, RULES_MAX)) {
        return 0;
    }
    r->heads[r->n_rules] = 0;
    return (uint32_t)r->n_rules++;
}

void rules_begin(struct rules *r, uint32_t rule)
{
    if (!grow(r, (void **)&r->alternatives, &r->cap_alternatives, r->n_alternatives,
              sizeof *r->alternatives, ALTERNATIVES_MAX)) {
        return;
    }
    r->alternatives[r->n_alternatives].first = (uint32_t)r->n_elements;
    r->alternatives[r->n_alternatives++].next = r->heads[rule];
    r->heads[rule] = (uint32_t)r->n_alternatives;
}

void rules_bytes(struct rules *r, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put(r, ELEMENT_BYTE, (unsigned char)bytes[i]);
    }
}

void rules_text(struct rules *r, const char *text)
{
    rules_bytes(r, text, strlen(text));
}

void rules_class(struct rules *r, const char *ranges, size_t n)
{
    struct byte_class class = {{0}};
    size_t at = 0;
    for (size_t i = 0; i + 1 < n; i += 2) {
        for (unsigned b = (unsigned char)ranges[i]; b <= (unsigned char)ranges[i + 1]; b++) {
            class.bits[b / 64] |= UINT64_C(1) << (b % 64);
        }
    }
    while (at < r->n_classes && memcmp(&r->classes[at], &class, sizeof class) != 0) {
        at++;
    }
    if (at == CLASSES_MAX) {
        (void)err_set(&r->err, ERR_TOO_LARGE, "the schema asks for more than %d classes of bytes",
                      CLASSES_MAX);
        return;
    }
    if (at == r->n_classes) {
        r->classes[r->n_classes++] = class;
    }
    put(r, ELEMENT_CLASS, (uint32_t)at);
}

void rules_ref(struct rules *r, uint32_t rule)
{
    put(r, ELEMENT_RULE, rule);
}

void rules_end(struct rules *r)
{
    put(r, ELEMENT_END, 0);
}

/* high − low optional ones nest to the right: x? is (x (x …)?)?. */
uint32_t rules_repeat(struct rules *r, uint32_t of, int low, int high)
{
    uint32_t rest = rules_new(r);
    rules_begin(r, rest);
    rules_end(r);
    if (high < 0) {
        rules_begin(r, rest);
        rules_ref(r, of);
        rules_ref(r, rest);
        rules_end(r);
    }
    for (int i = low; i < high && r->err.code == ERR_NONE; i++) {
        const uint32_t more = rules_new(r);
        rules_begin(r, more);
        rules_end(r);
        rules_begin(r, more);
        rules_ref(r, of);
        rules_ref(r, rest);
        rules_end(r);
        rest = more;
    }
    if (low == 0) {
        return rest;
    }
    const uint32_t whole = rules_new(r);
    rules_begin(r, whole);
    for (int i = 0; i < low && r->err.code == ERR_NONE; i++) {
        rules_ref(r, of);
    }
    rules_ref(r, rest);
    rules_end(r);
    return whole;
}

/* --- what leads nowhere --- */

static bool ends(const struct rules *r, uint32_t alternative, const uint8_t *ending)
{
    const struct element *e = &r->elements[r->alternatives[alternative - 1].first];
    while (e->kind != ELEMENT_END && (e->kind != ELEMENT_RULE || ending[e->value])) {
        e++;
    }
    return e->kind == ELEMENT_END;
}

/* Which rules have a text at all, by rounds until no more are found. */
static void find_ending(const struct rules *r, uint8_t *ending)
{
    bool more = true;
    while (more) {
        more = false;
        for (size_t rule = 0; rule < r->n_rules; rule++) {
            for (uint32_t a = r->heads[rule]; a != 0 && !ending[rule];
                 a = r->alternatives[a - 1].next) {
                if (ends(r, a, ending)) {
                    ending[rule] = 1;
                    more = true;
                }
            }
        }
    }
}

int rules_prune(struct rules *r, uint32_t root, struct err *err)
{
    uint8_t *ending = mem_calloc(r->n_rules + 1, 1);
    if (ending == NULL) {
        return mem_err(err, r->n_rules);
    }
    find_ending(r, ending);
    for (size_t rule = 0; rule < r->n_rules; rule++) {
        uint32_t *link = &r->heads[rule];
        while (*link != 0) {
            if (ends(r, *link, ending)) {
                link = &r->alternatives[*link - 1].next;
            } else {
                *link = r->alternatives[*link - 1].next;
            }
        }
    }
    const int rc = ending[root] ? 0 : err_set(err, ERR_INVALID, "no text satisfies the schema");
    mem_free(ending);
    return rc;
}

/* --- left recursion --- */

/* Which rules match nothing at all, by rounds until no more are found. */
static void find_nullable(const struct rules *r, uint8_t *nullable)
{
    bool more = true;
    while (more) {
        more = false;
        for (size_t rule = 0; rule < r->n_rules; rule++) {
            for (uint32_t a = r->heads[rule]; a != 0 && !nullable[rule];
                 a = r->alternatives[a - 1].next) {
                const struct element *e = &r->elements[r->alternatives[a - 1].first];
                while (e->kind == ELEMENT_RULE && nullable[e->value]) {
                    e++;
                }
                if (e->kind == ELEMENT_END) {
                    nullable[rule] = 1;
                    more = true;
                }
            }
        }
    }
}

enum { NO_RANK = UINT32_MAX };

/* Takes rules away that begin with finished ones only, the last ranks first; what is left in the
 * end goes in a circle. */
static bool rank(const struct rules *r)
{
    uint32_t left = (uint32_t)r->n_rules;
    bool more = true;
    while (left > 0 && more) {
        more = false;
        for (size_t rule = 0; rule < r->n_rules; rule++) {
            bool done = r->ranks[rule] == NO_RANK;
            for (uint32_t a = r->heads[rule]; a != 0 && done; a = r->alternatives[a - 1].next) {
                const struct element *e = &r->elements[r->alternatives[a - 1].first];
                while (e->kind == ELEMENT_RULE && done) {
                    done = r->ranks[e->value] != NO_RANK;
                    if (!r->nullable[e->value]) {
                        break;
                    }
                    e++;
                }
            }
            if (done) {
                r->ranks[rule] = --left;
                more = true;
            }
        }
    }
    return left == 0;
}

int rules_order(struct rules *r, struct err *err)
{
    r->nullable = mem_calloc(r->n_rules + 1, 1);
    r->ranks = mem_calloc(r->n_rules + 1, sizeof *r->ranks);
    if (r->nullable == NULL || r->ranks == NULL) {
        return mem_err(err, r->n_rules);
    }
    for (size_t rule = 0; rule < r->n_rules; rule++) {
        r->ranks[rule] = NO_RANK;
    }
    find_nullable(r, r->nullable);
    return rank(r)
               ? 0
               : err_set(err, ERR_INVALID, "the schema refers to itself with nothing in between");
}
