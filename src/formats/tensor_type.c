/* One table row per type; a function is a look-up. Sizes are those of the GGUF and safetensors
 * specifications and are checked against the Python packages by the golden fixture. */
#include "formats/tensor_type.h"

#include <string.h>

struct type_row {
    const char *name;
    uint32_t block_size;
    uint32_t block_bytes;
    bool usable;
};

enum { K_BLOCK = 256 };

static const struct type_row types[TENSOR_TYPE_COUNT] = {
    [TENSOR_F32] = {"F32", 1, 4, true},
    [TENSOR_F16] = {"F16", 1, 2, true},
    [TENSOR_BF16] = {"BF16", 1, 2, true},
    [TENSOR_Q4_0] = {"Q4_0", 32, 2 + 16, true},
    [TENSOR_Q4_1] = {"Q4_1", 32, 2 + 2 + 16, true},
    [TENSOR_Q5_0] = {"Q5_0", 32, 2 + 4 + 16, true},
    [TENSOR_Q5_1] = {"Q5_1", 32, 2 + 2 + 4 + 16, true},
    [TENSOR_Q8_0] = {"Q8_0", 32, 2 + 32, true},
    [TENSOR_Q2_K] = {"Q2_K", K_BLOCK, 16 + 64 + 2 + 2, false},
    [TENSOR_Q3_K] = {"Q3_K", K_BLOCK, 32 + 64 + 12 + 2, false},
    [TENSOR_Q4_K] = {"Q4_K", K_BLOCK, 2 + 2 + 12 + 128, true},
    [TENSOR_Q5_K] = {"Q5_K", K_BLOCK, 2 + 2 + 12 + 32 + 128, true},
    [TENSOR_Q6_K] = {"Q6_K", K_BLOCK, 128 + 64 + 16 + 2, true},
    [TENSOR_MLX4] = {"MLX4", 32, 16, true},
    [TENSOR_MLX8] = {"MLX8", 32, 32, true},
    [TENSOR_I8] = {"I8", 1, 1, false},
    [TENSOR_I16] = {"I16", 1, 2, false},
    [TENSOR_I32] = {"I32", 1, 4, false},
    [TENSOR_I64] = {"I64", 1, 8, false},
    [TENSOR_U8] = {"U8", 1, 1, false},
    [TENSOR_U16] = {"U16", 1, 2, false},
    [TENSOR_U32] = {"U32", 1, 4, false},
    [TENSOR_U64] = {"U64", 1, 8, false},
    [TENSOR_F64] = {"F64", 1, 8, false},
    [TENSOR_BOOL] = {"BOOL", 1, 1, false},
    [TENSOR_F8_E4M3] = {"F8_E4M3", 1, 1, false},
    [TENSOR_F8_E5M2] = {"F8_E5M2", 1, 1, false},
};

static const struct type_row *row_of(enum tensor_type type)
{
    return (unsigned)type < TENSOR_TYPE_COUNT ? &types[type] : NULL;
}

const char *tensor_type_name(enum tensor_type type)
{
    const struct type_row *row = row_of(type);
    return row ? row->name : "?";
}

enum tensor_type tensor_type_by_name(const char *name)
{
    for (unsigned i = 0; i < TENSOR_TYPE_COUNT; i++) {
        if (strcmp(types[i].name, name) == 0)
            return (enum tensor_type)i;
    }
    return TENSOR_TYPE_COUNT;
}

uint32_t tensor_type_block_size(enum tensor_type type)
{
    const struct type_row *row = row_of(type);
    return row ? row->block_size : 0;
}

uint32_t tensor_type_block_bytes(enum tensor_type type)
{
    const struct type_row *row = row_of(type);
    return row ? row->block_bytes : 0;
}

uint64_t tensor_type_row_bytes(enum tensor_type type, uint64_t n_cols)
{
    const struct type_row *row = row_of(type);
    if (!row || n_cols % row->block_size != 0)
        return 0;
    uint64_t blocks = n_cols / row->block_size;
    if (blocks > UINT64_MAX / row->block_bytes)
        return 0;
    return blocks * row->block_bytes;
}

bool tensor_type_usable(enum tensor_type type)
{
    const struct type_row *row = row_of(type);
    return row && row->usable;
}

bool tensor_type_quantised(enum tensor_type type)
{
    return tensor_type_block_size(type) > 1;
}

const char *tensor_type_usable_list(void)
{
    return "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, MLX4, MLX8";
}
