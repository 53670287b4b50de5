/* The element types a weight file may hold, and how many bytes they take.
 *
 * One enum for both containers. A type is *known* when its size is in the table here, and
 * *usable* when the engine can compute with it today; a known type that is not usable gives
 * ERR_UNSUPPORTED when a model is opened, an unknown one is a malformed file. Quantised types pack
 * `block_size` consecutive elements of a row into `block_bytes` bytes; rows are whole blocks.
 * Pure functions over a constant table: any thread, no failure beyond what each comment says.
 */
#ifndef FORMATS_TENSOR_TYPE_H
#define FORMATS_TENSOR_TYPE_H

#include <stdbool.h>
#include <stdint.h>

enum tensor_type {
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_Q4_0, /* 32: fp16 d, 16 bytes of nibbles (low half of the block in the low nibbles) */
    TENSOR_Q4_1, /* 32: fp16 d, fp16 m, nibbles */
    TENSOR_Q5_0, /* 32: fp16 d, 4 bytes of fifth bits, nibbles */
    TENSOR_Q5_1, /* 32: fp16 d, fp16 m, 4 bytes of fifth bits, nibbles */
    TENSOR_Q8_0, /* 32: fp16 d, 32 signed bytes */
    TENSOR_Q2_K, /* 256, known only */
    TENSOR_Q3_K, /* 256, known only */
    TENSOR_Q4_K, /* 256: fp16 d, fp16 dmin, 12 bytes of 6-bit scales and mins, nibbles */
    TENSOR_Q5_K, /* 256: as Q4_K with 32 bytes of fifth bits before the nibbles */
    TENSOR_Q6_K, /* 256: 128 low nibbles, 64 high pairs, 16 signed scales, fp16 d */
    /* MLX's affine quantisation: unsigned values from the low bits of bytes up; scales and biases
     * lie in tensors of their own (struct tensor_view), so these sizes are of the values alone.
     * No file names these types: model_files finds them out. */
    TENSOR_MLX4, /* 32: 16 bytes, column 2j low and 2j + 1 high in byte j */
    TENSOR_MLX8, /* 32: 32 bytes */
    TENSOR_I8,
    TENSOR_I16,
    TENSOR_I32,
    TENSOR_I64,
    TENSOR_U8,
    TENSOR_U16,
    TENSOR_U32,
    TENSOR_U64,
    TENSOR_F64,
    TENSOR_BOOL,
    TENSOR_F8_E4M3,
    TENSOR_F8_E5M2,
    TENSOR_TYPE_COUNT
};

/* "F32", "Q4_1", …; "?" for a value outside the enum. Static. */
const char *tensor_type_name(enum tensor_type type);
/* The type of exactly this name, or TENSOR_TYPE_COUNT. */
enum tensor_type tensor_type_by_name(const char *name);

/* Elements in one block: 1 for plain types. */
uint32_t tensor_type_block_size(enum tensor_type type);
/* Bytes of one block: the size of an element for plain types. */
uint32_t tensor_type_block_bytes(enum tensor_type type);

/* Bytes of one row of n_cols elements; 0 when n_cols is no whole number of blocks, is 0, or the
 * product does not fit 64 bits. */
uint64_t tensor_type_row_bytes(enum tensor_type type, uint64_t n_cols);

/* True when the engine computes with weights of this type. */
bool tensor_type_usable(enum tensor_type type);
/* True for block types: GGUF's and MLX's. */
bool tensor_type_quantised(enum tensor_type type);
/* The usable types as text for messages: "F32, F16, …". Static. */
const char *tensor_type_usable_list(void);

#endif
