/* What a MODEL argument of generate, chat, tokenize, template and export means: a path to weights
 * (no storage, no server), else a name that the registry knows, read from the storage that the
 * settings name, also beside a running server.
 */
#ifndef CLI_FIND_MODEL_H
#define CLI_FIND_MODEL_H

#include <stdbool.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/settings.h"
#include "infer/infer.h"
#include "registry/resolve.h"

struct found_model {
    struct infer_spec spec;  /* base, adapter and template filled in; strings live in arena */
    bool is_path;            /* spec.base_path is what the user gave, made absolute */
    const char *version_dir; /* of the version that was named or chosen, or NULL: the bare base */
    struct resolved_model resolved; /* of a name; zeroed for a path. Its texts live in arena */
    struct arena arena;
};

/* Whether the argument is taken for a path: it is a file, a folder with a model's files, or written
 * like a path ("./x", "/x", "x.gguf"). */
bool is_model_path(const char *name);

/* ERR_NOT_FOUND for a missing file, an unknown name, or a storage without a hub, each saying what
 * to do; ERR_CONFLICT when weights were never imported. */
int find_model(struct found_model *model, const struct settings *settings, const char *name,
               struct err *err) MUST_CHECK;
void found_model_release(struct found_model *model); /* safe on a zeroed struct */

/* Whether the hub of these settings can take in a base of this name (registry_check_new_base). */
int check_new_base(const struct settings *settings, const char *id, struct err *err) MUST_CHECK;

#endif
