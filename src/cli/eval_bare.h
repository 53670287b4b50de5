/* eval --dataset of what is no version: a base's id, a path to weights, or a name that Ollama's API
 * created or copied, with its adapter; measured in this process by the arithmetic that evaluate
 * jobs use. */
#ifndef CLI_EVAL_BARE_H
#define CLI_EVAL_BARE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/settings.h"
#include "cli/hub.h"

/* Whether `name` is weights without a version, as find_model reads names. A version, and what this
 * machine's storage does not know, is not: the hub may. */
bool eval_is_bare(const struct settings *settings, const char *name);

/* Where rows are cut, and whether only answers count. */
struct eval_limits {
    int64_t max_seq_length;
    bool mask_prompt;
};

/* As a version was trained, by its manifest. *known false: it is bare, or this process cannot read
 * the manifest. */
int eval_limits_read(const struct settings *settings, const char *name, struct eval_limits *limits,
                     bool *known, struct err *err) MUST_CHECK;

/* limits NULL: the defaults of training. dataset: a row of the hub's, whose file this process can
 * read. *result is the caller's and looks like the evaluation that a version gets. It takes of the
 * memory limit what a running hub leaves of it, else ERR_UNAVAILABLE. */
int eval_bare(struct hub *hub, const struct settings *settings, const char *name,
              const struct eval_limits *limits, const json_t *dataset, bool quiet, json_t **result,
              struct err *err) MUST_CHECK;

#endif
