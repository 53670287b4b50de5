/* Versions of a model. Threads, arenas and errors as registry.h says. Versions are made and made
 * ready by jobs (claims.h); here people read, label and remove them. */
#ifndef REGISTRY_VERSIONS_H
#define REGISTRY_VERSIONS_H

#include "registry/registry.h"
#include "store/models.h"
#include "store/versions.h"

enum { VERSION_NOTES_CHARACTERS_MAX = 5000, VERSION_TEXT_BYTES = 51 };

/* "1.0.0" for number 1, "1.1.0" for 2, … */
void version_text(int64_t number, char out[VERSION_TEXT_BYTES]);

/* Newest first, with the total. ERR_NOT_FOUND for the model. */
int registry_list_versions(struct registry *registry, const char *model_id, int64_t limit,
                           int64_t offset, struct arena *arena, struct version_row **rows,
                           size_t *count, int64_t *total, struct err *err) MUST_CHECK;
/* version: its text ("1.2.0") or its id. ERR_NOT_FOUND "Version … of model … not found". model may
 * be NULL. */
int registry_get_version(struct registry *registry, const char *model_id, const char *version,
                         struct arena *arena, struct model_row *model, struct version_row *row,
                         struct err *err) MUST_CHECK;
/* Of whichever model. ERR_NOT_FOUND "Version <id> not found". */
int registry_get_version_by_id(struct registry *registry, const char *id, struct arena *arena,
                               struct version_row *row, struct err *err) MUST_CHECK;
/* One whose adapter has this SHA-256, of whichever model and ready or archived: the newest. */
int registry_find_version_checksum(struct registry *registry, const char *sha256,
                                   struct arena *arena, struct version_row *row, bool *found,
                                   struct err *err) MUST_CHECK;

struct version_patch {
    const char *status; /* ready or archived, or NULL to leave it */
    const char *notes;  /* NULL leaves them */
    bool clear_notes;
    const char *const *aliases; /* the whole new list; NULL leaves it */
    size_t n_aliases;
};
/* An alias moves here from any other version of the model. "latest" is not an alias: it is
 * computed. ERR_CONFLICT when the version is not ready or archived and a status is asked for. */
int registry_patch_version(struct registry *registry, const char *model_id, const char *version,
                           const struct version_patch *patch, struct arena *arena,
                           struct version_row *row, struct err *err) MUST_CHECK;
/* Row, aliases and folder. ERR_CONFLICT while a job makes it or starts from it. */
int registry_delete_version(struct registry *registry, const char *model_id, const char *version,
                            struct err *err) MUST_CHECK;

int registry_set_run(struct registry *registry, const char *version_id, const char *run_id,
                     struct err *err) MUST_CHECK;
/* Appends one JSON object to the version's evaluations. */
int registry_add_evaluation(struct registry *registry, const char *version_id,
                            const char *evaluation, struct err *err) MUST_CHECK;

#endif
