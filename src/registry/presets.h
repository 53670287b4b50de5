/* Presets: names that were created over a base, with an adapter, texts and parameters of their own.
 * Threads, arenas and errors as registry.h says.
 *
 * A preset holds what it needs itself: the id of its base, which is not deleted under it, and its
 * adapter's bytes as a blob, kept once per content. So nothing that happens to the version or the
 * preset that it was made of changes it.
 *
 * Names are those of bases with a tag behind, if wanted: "mario", "org/mario:v2". A registered
 * model's name and tags are not taken, nor a base's id; only what is made of sent files has a base
 * and a preset under one name, and there the preset is what the name means.
 */
#ifndef REGISTRY_PRESETS_H
#define REGISTRY_PRESETS_H

#include "registry/registry.h"
#include "store/presets.h"

enum {
    PRESETS_MAX = 1000,
    PRESET_TEXT_BYTES_MAX = 1 << 20, /* system and template each */
    PRESET_JSON_BYTES_MAX = 1 << 20  /* license, parameters and messages each */
};

struct preset_draft {
    const char *name;
    const char *base_model;
    const char *source;         /* as it was named */
    const char *adapter_path;   /* a file whose bytes are kept, or NULL */
    const char *adapter_sha256; /* what they must be, or NULL */
    double adapter_scale;
    const char *system, *template;               /* NULL: none */
    const char *license, *parameters, *messages; /* JSON; NULL: none */
    const char *digest;
    bool with_base; /* its base was made with it: the name may be that base's id */
};

/* Makes it, or puts it in the place of the preset of that name. ERR_UNPROCESSABLE for the name;
 * ERR_TOO_LARGE; ERR_CONFLICT for a name that a model or a base has, and when the adapter is not
 * the one that it should be; ERR_NOT_FOUND for the base. */
int registry_put_preset(struct registry *registry, const struct preset_draft *draft,
                        struct arena *arena, struct preset_row *row, struct err *err) MUST_CHECK;
int registry_list_presets(struct registry *registry, struct arena *arena, struct preset_row **rows,
                          size_t *count, struct err *err) MUST_CHECK;
/* With its adapter, unless another has the same, and with the base of its own name if it has one;
 * ERR_CONFLICT while another name stands on that. ERR_NOT_FOUND. */
int registry_delete_preset(struct registry *registry, const char *name, struct err *err) MUST_CHECK;

#endif
