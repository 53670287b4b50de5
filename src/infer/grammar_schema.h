/* From a JSON schema to rules. Private to the grammar's files. */
#ifndef INFER_GRAMMAR_SCHEMA_H
#define INFER_GRAMMAR_SCHEMA_H

#include <jansson.h>

#include "infer/grammar_rules.h"
#include "infer/tool_format.h"

/* Writes the rules of grammar_new's source; *root is where a text begins. */
int grammar_compile(struct rules *rules, const json_t *source, const struct tool_format *format,
                    uint32_t *root, struct err *err) MUST_CHECK;

#endif
