/* Answers that follow a JSON schema: which tokens may come next.
 *
 * A schema becomes a grammar over bytes whose every text satisfies the schema (not every text that
 * satisfies it can be written: members come in the order of `properties`, white space is little).
 * The grammar becomes, step by step and remembered, an automaton over bytes; a mask over the
 * vocabulary is what that automaton lets through, remembered by its state.
 *
 * Served: type, properties, required, additionalProperties, patternProperties and propertyNames of
 * objects without properties, minProperties, maxProperties, items, prefixItems, minItems, maxItems,
 * enum, const, anyOf, oneOf whose branches can be told apart, allOf and $ref (into the schema)
 * beside other words, minLength, maxLength, pattern (grammar_regex.h), format (grammar_string.c),
 * minimum, maximum, their exclusive ones and multipleOf (grammar_number.h). Anything else that
 * would restrict is ERR_INVALID naming it: a schema is enforced or refused.
 *
 * A vocabulary is immutable and shared; a grammar belongs to one request and one thread.
 */
#ifndef INFER_GRAMMAR_H
#define INFER_GRAMMAR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"
#include "infer/tool_format.h"

enum {
    GRAMMAR_DEPTH_MAX = 64,           /* of a schema */
    GRAMMAR_REPEATS_MAX = 2000,       /* minLength, maxItems and their like */
    GRAMMAR_STATES_MAX = 1 << 14,     /* of the automaton, remembered at once */
    GRAMMAR_MASK_BYTES_MAX = 64 << 20 /* of masks remembered */
};

struct grammar_vocab;
struct grammar;

int grammar_vocab_new(struct grammar_vocab **out, const struct engine_model *model,
                      struct err *err) MUST_CHECK;
void grammar_vocab_free(struct grammar_vocab *vocab);

/* source: {"schema": …} (true: any object) for JSON, {"calls": [{"name", "parameters"?} …],
 * "parallel"?} for one call of one of these tools, or more where parallel is true and the format
 * knows of more; written as it says (NULL: hermes).
 * ERR_INVALID, ERR_TOO_LARGE. The vocabulary must outlive the grammar. */
int grammar_new(struct grammar **out, const struct grammar_vocab *vocab, const json_t *source,
                const struct tool_format *format, struct err *err) MUST_CHECK;
void grammar_free(struct grammar *grammar); /* NULL is fine */

/* One bit per token of the model: whether it may come next; end tokens where the text may end.
 * Valid until the next call. ERR_INVALID when no token may. */
int grammar_mask(struct grammar *grammar, const uint64_t **mask, struct err *err) MUST_CHECK;
/* The token that was chosen. ERR_INVALID when it may not come. */
int grammar_accept(struct grammar *grammar, int32_t token, struct err *err) MUST_CHECK;
/* Nothing but the end may follow. */
bool grammar_done(const struct grammar *grammar);

#endif
