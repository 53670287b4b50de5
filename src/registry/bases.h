/* Base models: weights that adapters are trained on. Threads, arenas and errors as registry.h says.
 *
 * A file lies at blobs/sha256/<hex of it>; a folder at blobs/sha256/<hex of its manifest>/, the
 * manifest being one line "<sha256>  <bytes>  <name>\n" per file, sorted by name. Each content is
 * stored once, whatever ids it has. Of a folder only the files that a model can be made of are
 * taken: *.safetensors, *.gguf, *.json, *.model, *.txt, *.jinja at its top, links followed.
 *
 * Importing trusts nothing in the file: what it holds is told by the caller, who parses it in a
 * child. Either the blob and its row are there in the end or neither; what a crash leaves is
 * removed by storage_sweep.
 */
#ifndef REGISTRY_BASES_H
#define REGISTRY_BASES_H

#include "base/json.h"
#include "base/settings.h"
#include "registry/registry.h"
#include "store/base_models.h"

enum { BASE_FILES_MAX = 1024 };

struct base_facts {
    const char *format;       /* gguf, safetensors, mlx */
    const char *architecture; /* llama … */
    int64_t parameters;
    const char *quantisation;
    int64_t context_length; /* 0 = unknown */
    const char *details;    /* JSON text, NULL = {} */
    const char *source;     /* what it was made from; NULL: the path */
};

/* From what an inspection answers (infer/inspect.h); strings are the tree's. ERR_UNPROCESSABLE for
 * a member of another type. details and source are left alone. */
int base_facts_read(const json_t *tree, struct base_facts *facts, struct err *err) MUST_CHECK;

/* An id that exists with the same content is given back as it is. ERR_UNPROCESSABLE for the id;
 * ERR_INVALID "Base model file not found: …", or a folder without weights; ERR_CONFLICT "Base model
 * '…' already exists" with other content; ERR_NOSPACE. cancelled (may be NULL) is asked now and
 * then while copying: true ends it with ERR_CANCELLED. */
int registry_import_base(struct registry *registry, const char *path, const char *id,
                         const struct base_facts *facts, bool (*cancelled)(void *ctx), void *ctx,
                         struct arena *arena, struct base_row *row, struct err *err) MUST_CHECK;

/* The same for a file or folder of the hub's own making, flushed, which becomes the blob itself
 * where it lies on the same disk: no second copy, and it is gone from path unless its content was
 * there already. A folder must hold nothing but files that are taken. */
int registry_take_base(struct registry *registry, const char *path, const char *id,
                       const struct base_facts *facts, bool (*cancelled)(void *ctx), void *ctx,
                       struct arena *arena, struct base_row *row, struct err *err) MUST_CHECK;

/* ERR_NOT_FOUND "Base model … not found". */
int registry_get_base(struct registry *registry, const char *id, struct arena *arena,
                      struct base_row *row, struct err *err) MUST_CHECK;
/* Whether a base of this name can still be made, for whoever is about to work long for one; taking
 * it in looks again. ERR_UNPROCESSABLE for the name; ERR_CONFLICT when a base or a preset has it,
 * or a job that is queued or running makes one. */
int registry_check_new_base(struct registry *registry, const char *id, struct err *err) MUST_CHECK;
int registry_list_bases(struct registry *registry, int64_t limit, int64_t offset,
                        struct arena *arena, struct base_row **rows, size_t *count, int64_t *total,
                        struct err *err) MUST_CHECK;
/* The blob goes with the last id that has it. ERR_CONFLICT when a model is made on it. */
int registry_delete_base(struct registry *registry, const char *id, struct err *err) MUST_CHECK;

/* Where the weights lie. For a model's base_model: ERR_CONFLICT naming the command to run when they
 * were never imported, or are gone from the disk. */
int registry_base_path(struct registry *registry, const char *base_model, struct arena *arena,
                       struct base_row *row, char out[FS_PATH_BYTES_MAX],
                       struct err *err) MUST_CHECK;

/* --- weights on their way in --- */
/* Plain weights of more bytes than this are slow on a CPU, which reads all of them for each token:
 * 4 GB give five to ten tokens a second, and a quarter of it in 4 bits four times as many. */
#define IMPORT_PLAIN_BYTES_MAX (4LL << 30)

struct import_size {
    const char *type; /* of most weights: "BF16" */
    uint64_t bytes;   /* of all weights */
    uint64_t memory;  /* what a session with it needs */
};
/* In how many bits weights are kept: asked is 4bit, 8bit, none, or NULL. Then it is
 * MLX_DEFAULT_QUANTIZATION, for F32, F16 and BF16 alone, where they do not fit into the memory
 * limit or are more than IMPORT_PLAIN_BYTES_MAX. 0: as they are. */
int import_bits(const struct settings *settings, const char *asked, const struct import_size *size);

#endif
