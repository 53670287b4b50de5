/* What merge and export share: weights with an adapter folded in. */
#ifndef CLI_MERGE_H
#define CLI_MERGE_H

#include "base/json.h"
#include "cli/command.h"
#include "cli/find_model.h"
#include "train/merge.h"

/* NULL leaves *type as it is; blocks: GGUF's q8_0 and q4_0 may be said. ERR_INVALID naming the
 * option. */
int merge_type_of(const char *text, bool blocks, enum merge_type *type, struct err *err) MUST_CHECK;
/* The model's base, with its version's adapter when it has one, written as the rest of the spec
 * says, with a bar on stderr; Ctrl-C is ERR_CANCELLED. */
int merge_into(const struct args *args, const struct found_model *model, struct merge_spec *spec,
               struct merge_result *result, struct err *err) MUST_CHECK;
void merge_print(const struct merge_result *result);

#endif
