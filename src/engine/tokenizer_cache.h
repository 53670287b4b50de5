/* A model's tokenizer by way of the cache folder, where it is kept compiled.
 *
 * As with packed weights (native/packs.h) a file is named after the model, "<64 hex
 * digits>.tokenizer", and only where the model's path ends in such a digest: that is what says the
 * source is the same. A file that does not fit or is damaged is made anew; a folder that cannot be
 * written, or has too little space, is logged and means that the next start compiles again.
 */
#ifndef ENGINE_TOKENIZER_CACHE_H
#define ENGINE_TOKENIZER_CACHE_H

#include <stdint.h>

#include "base/err.h"
#include "formats/model_files.h"
#include "text/tokenizer.h"

/* Free space that a compiled tokenizer must leave behind. */
#define TOKENIZER_CACHE_SPACE_LEFT (UINT64_C(256) << 20)

/* tokenizer_from_files, or the same from cache_dir (NULL: nowhere). path is what files were opened
 * from. */
int tokenizer_from_cache(const struct model_files *files, const char *path, const char *cache_dir,
                         struct tokenizer **tokenizer, struct err *err) MUST_CHECK;

#endif
