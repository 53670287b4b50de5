/* What merge and export share: weights with an adapter folded in. */
#ifndef CLI_MERGE_H
#define CLI_MERGE_H

#include "base/json.h"
#include "cli/command.h"
#include "cli/find_model.h"
#include "train/merge.h"

/* NULL is bf16. ERR_INVALID naming the option. */
int merge_type_of(const char *text, enum merge_type *type, struct err *err) MUST_CHECK;
/* The model's base, with its version's adapter when it has one, written to the folder dest; the
 * command has an option dtype. */
int merge_into(const struct args *args, const struct found_model *model, const char *dest,
               struct merge_result *result, struct err *err) MUST_CHECK;
void merge_print(const struct merge_result *result);
/* The members of an object that the caller has opened. */
void merge_write(const struct merge_result *result, struct json_out *out);

#endif
