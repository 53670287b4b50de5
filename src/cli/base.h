/* A base model that has just come in, for people: what it is and what to do next. */
#ifndef CLI_BASE_H
#define CLI_BASE_H

#include <jansson.h>

/* how: "imported", "pulled". */
void print_base(const json_t *base, const char *how);

#endif
