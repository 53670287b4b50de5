/* Numbers within bounds, digit by digit. Private to the grammar's files. */
#ifndef INFER_GRAMMAR_NUMBER_H
#define INFER_GRAMMAR_NUMBER_H

#include "infer/grammar_json.h"

/* What type number (whole: integer) of this schema leaves: minimum, maximum, exclusiveMinimum and
 * exclusiveMaximum (numbers, or draft 4's booleans), multipleOf, the formats int32, int64, uint32,
 * uint64, float and double. Bounds below 10^15 with at most 12 decimal places; multiples of 1 to
 * 250, or of 0.1, 0.01 and so on. ERR_INVALID naming what cannot be kept. */
int number_rule(struct compiler *c, const json_t *schema, bool whole, uint32_t *rule) MUST_CHECK;

#endif
