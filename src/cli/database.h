/* What doctor and db both ask of the database. */
#ifndef CLI_DATABASE_H
#define CLI_DATABASE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/settings.h"

/* Whether it is there, and how many steps of its shape are pending. Makes nothing. */
int database_status(const struct settings *settings, bool *exists, size_t *pending,
                    struct err *err) MUST_CHECK;

#endif
