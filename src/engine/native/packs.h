/* All packed weights of a model: found in the cache folder and mapped, or packed into memory and
 * written there for the next start.
 *
 * A pack file is named after its blob, "<64 hex digits>.pack", and is only looked for where the
 * model's path ends in such a digest: that is what says the weights are the same. It is a header of
 * one page and then every panel layer by layer, the output last. The header holds a digest of
 * the layout (version, and kind and size of each matrix) and one of itself; a file that does not
 * fit in any way is made anew. The bodies are not summed up at each start, which would read every
 * byte: files appear by rename after fsync, and the folder is ours.
 *
 * Writing is done by a thread of its own, which packs_free waits for. It never fails a model: not
 * enough space, or a folder that cannot be written, is logged and means that the next start packs
 * again.
 */
#ifndef ENGINE_NATIVE_PACKS_H
#define ENGINE_NATIVE_PACKS_H

#include <stdint.h>

#include "base/err.h"

enum {
    PACKS_VERSION = 1,        /* of the panels' layout (kernels.h) and of the file */
    PACKS_HEADER_BYTES = 4096 /* panels stay 64-byte aligned in the map */
};
/* Free space that a pack file must leave behind. */
#define PACKS_SPACE_LEFT (UINT64_C(1) << 30)

struct engine_model;
struct packs;

/* Fills pack.data of every weight of `model` that products run over, and info.weight_bytes. path is
 * what the model was opened from; cache_dir may be NULL. The model's weights must be found and its
 * pool made. */
int packs_make(struct packs **packs, struct engine_model *model, const char *path,
               const char *cache_dir, struct err *err) MUST_CHECK;
void packs_free(struct packs *packs); /* NULL is fine */

#endif
