/* What the files of a merge share. Private to train.
 *
 *   merge.c              the whole, from opening to publishing
 *   merge_plan.c         what will be written: a list of tensors, each of parts of the base's
 *   merge_rows.c         the base's values, row by row, as Hugging Face has them, factors folded in
 *   merge_encode.c       rows of values to bytes of a type, and blocks from one format to another
 *   merge_quantize.c     MLX's affine quantisation
 *   merge_stream.c       one planned tensor to an open file
 *   merge_safetensors.c, merge_gguf.c            the files of weights
 *   merge_files.c, merge_config.c, merge_tokenizer.c   what stands beside safetensors
 *   merge_metadata.c, merge_vocabulary.c         the same as GGUF's metadata
 *   merge_check.c        the comparison
 */
#ifndef TRAIN_MERGE_INT_H
#define TRAIN_MERGE_INT_H

#include "base/fs.h"
#include "base/mem.h"
#include "formats/gguf_write.h"
#include "formats/manifest.h"
#include "formats/model_files.h"
#include "formats/safetensors.h"
#include "train/merge.h"

enum { MERGE_PARTS_MAX = 3, MERGE_PIECE_BYTES = 1 << 20, MERGE_NAME_BYTES = 160 };

struct merge {
    const struct merge_spec *spec;
    const struct train_hooks *hooks;
    struct merge_result *result;
    struct model_files *base;
    enum merge_type type;        /* the spec's, with MERGE_KEEP settled where the format has one */
    struct manifest manifest;    /* of the version; zeroed without one */
    struct safetensors *factors; /* NULL without one */
    char factors_path[FS_PATH_BYTES_MAX];
    struct arena arena;
    struct merge_out *outs;
    size_t n_outs;
    uint64_t bytes_total, bytes_done;
};

/* --- merge_plan.c --- */
/* How the bytes of a planned tensor come about. */
enum merge_way {
    MERGE_VALUES,      /* rows of values, encoded as `type` */
    MERGE_VERBATIM,    /* the part's own bytes */
    MERGE_GIVEN,       /* `given`, computed from the config */
    MERGE_AFFINE,      /* rows of values, quantised */
    MERGE_REPACK,      /* GGUF's blocks of 32 as groups of 32: the same values */
    MERGE_AFFINE_COPY, /* an affine matrix as it is */
    MERGE_Q4_1         /* an affine matrix as GGUF's blocks: the same values */
};

struct merge_out {
    const char *name;                                 /* in the new file */
    const struct tensor_view *parts[MERGE_PARTS_MAX]; /* their rows one after another */
    unsigned n_parts;
    unsigned n_dims;
    uint64_t dims[2];
    enum merge_way way;
    enum tensor_type type; /* of VALUES and what GGUF's records say */
    /* affine ways only */
    uint32_t group;
    int bits;
    enum tensor_type scale_type;
    const float *given;
    bool plus_one; /* GGUF keeps this norm whole where Hugging Face keeps it less one */
    bool permuted; /* rows go out in GGUF's order for its rope */
    uint64_t bytes;
};

/* Fills outs from the base and the spec. ERR_UNSUPPORTED for a tensor that cannot be written. */
int merge_plan(struct merge *merge, struct err *err) MUST_CHECK;
/* The group of a matrix of so many columns: the spec's, or 64, or 32; 0 when a row is no whole
 * number of groups. */
uint32_t merge_group(uint64_t cols, uint32_t wanted);
/* Whether the names and permutations of GGUF are those of this family's row, or of llama's. */
const struct architecture *merge_gguf_family(const struct model_config *config);

/* --- merge_rows.c --- */
struct merge_rows {
    const struct merge *merge;
    const struct tensor_view *view;
    bool turned;                     /* the base's rows stand in GGUF's order */
    bool plus_one;                   /* the base keeps this norm whole */
    const struct tensor_view *a, *b; /* factors (in, rank), (rank, out); NULL: none */
    float *a_rows;                   /* a transposed: (rank, in) */
    float *delta;
    size_t rank;
};
int merge_rows_open(struct merge_rows *rows, const struct merge *merge,
                    const struct tensor_view *view, struct err *err) MUST_CHECK;
void merge_rows_close(struct merge_rows *rows);
/* Row r of Hugging Face's tensor into out; a vector is one row. ERR_CORRUPT for NaN or infinity. */
int merge_rows_get(const struct merge_rows *rows, uint64_t r, float *out,
                   struct err *err) MUST_CHECK;
/* Which row of the file is Hugging Face's row r. */
uint64_t merge_rows_source(const struct merge_rows *rows, uint64_t r);
bool merge_has_factor(const struct merge *merge, const struct tensor_view *view);

/* --- merge_encode.c --- */
/* n values as F32, F16, BF16, Q8_0 or Q4_0 (whole blocks of 32), each value the nearest, Q8_0 and
 * Q4_0 as the gguf package quantises. */
void merge_encode(enum tensor_type type, const float *values, size_t n, uint8_t *out);
/* Whether every value of these blocks can be said in groups of 32 with fp16 scales of so many bits.
 */
bool merge_repacks(const struct tensor_view *view, int bits);
/* One row of such blocks: values from the low bits up, fp16 scales and biases. */
void merge_repack_row(const struct tensor_view *view, uint64_t row, int bits, uint8_t *values,
                      uint8_t *scales, uint8_t *biases);
/* Whether an affine matrix is 4 bits wide and its scales and biases are fp16 numbers; and a row of
 * it as Q4_1. */
bool merge_is_q4_1(const struct tensor_view *view);
void merge_q4_1_row(const struct tensor_view *view, uint64_t row, uint8_t *out);
/* Nearest even. */
uint16_t merge_to_bf16(float value);

/* --- merge_quantize.c: MLX's affine form, as mx.quantize defines it --- */
/* One row: cols × bits / 8 bytes of values from the low bits up, and a scale and a bias of
 * scale_type for each group. Values are chosen on the exact grid, as mx.quantize does, or, with
 * on_rounded, on the one that its rounded scale and bias give (what frozen bases are trained on).
 */
void merge_quantize_row(const float *row, size_t cols, uint32_t group, int bits,
                        enum tensor_type scale_type, bool on_rounded, uint8_t *values,
                        uint8_t *scales, uint8_t *biases);

/* --- merge_stream.c --- */
/* The bytes of one planned tensor: of an affine one its words, then its scales, then its biases. */
int merge_stream(struct merge *merge, const struct merge_out *out, struct fs_writer *file,
                 struct err *err) MUST_CHECK;

/* --- merge_safetensors.c, merge_gguf.c --- */
int merge_write_safetensors(struct merge *merge, const char *dir, struct err *err) MUST_CHECK;
int merge_write_gguf(struct merge *merge, const char *path, struct err *err) MUST_CHECK;

/* --- merge_files.c, merge_config.c, merge_tokenizer.c --- */
/* config.json, generation_config.json, the tokenizer and the chat template beside the weights. */
int merge_write_companions(const struct merge *merge, const char *dir, struct err *err) MUST_CHECK;
/* What config.json says of a base that brings none; NULL with err set: ERR_UNSUPPORTED for what it
 * has no words for. The caller's tree. */
json_t *merge_config_json(const struct merge *merge, struct err *err);
/* tokenizer.json and tokenizer_config.json from GGUF metadata; template may be NULL. */
int merge_write_tokenizer(const struct gguf *gguf, const struct model_config *config,
                          const char *template, const char *dir, struct err *err) MUST_CHECK;

/* --- merge_metadata.c, merge_vocabulary.c --- */
/* Everything but the tensors. */
int merge_put_metadata(const struct merge *merge, struct gguf_writer *writer,
                       struct err *err) MUST_CHECK;
/* tokenizer.ggml.* from the base's tokenizer.json; nothing when it has none. */
int merge_put_vocabulary(const struct merge *merge, struct gguf_writer *writer,
                         struct err *err) MUST_CHECK;
/* GGUF's rope_freqs, rope_factors_long and _short of a config (rope_dim / 2 numbers each), NULL
 * where it has none: merge->arena's. */
int merge_rope_factors(struct merge *merge, const float *factors[3], struct err *err) MUST_CHECK;

/* --- merge_check.c --- */
/* Compares what path gives with base and adapter, into the result. */
int merge_check(const struct merge *merge, const char *path, struct err *err) MUST_CHECK;

#endif
